//! What systemd makes of a schedule.

use std::process::Command;

use anyhow::{Context, Result};
use pc_cli::refused;
use time::{Duration, OffsetDateTime};

use crate::calendar;

/// The longest gap between two events of a schedule.
pub fn gap(schedule: &str) -> Result<Duration> {
    if let Some(gap) = calendar::gap_of_word(schedule) {
        return Ok(gap);
    }
    calendar::longest_gap(&ask(schedule, &["--iterations=10"])?).ok_or_else(|| never(schedule))
}

/// The first event after `last`; `None` for a disk that is plugged in whenever somebody does.
pub fn next(schedule: &str, last: OffsetDateTime) -> Result<Option<OffsetDateTime>> {
    if schedule == calendar::ON_PLUG {
        return Ok(None);
    }
    let events = ask(schedule, &[&format!("--base-time=@{}", last.unix_timestamp())])?;
    events.first().copied().map(Some).ok_or_else(|| never(schedule))
}

/// In UTC, on every node: whichever of them runs a VM, its schedule is the same. A zone may stand in the schedule itself
/// (`03:00 Europe/Berlin`, systemd.time(7)).
fn ask(schedule: &str, flags: &[&str]) -> Result<Vec<OffsetDateTime>> {
    let mut command = Command::new("systemd-analyze");
    command.arg("calendar").args(flags).arg(schedule).env("TZ", "UTC");
    let printed =
        pc_run::run(command).read().with_context(|| format!("asking systemd about {schedule:?}"))?;
    Ok(calendar::events(&printed))
}

fn never(schedule: &str) -> anyhow::Error {
    refused(format!("schedule {schedule:?} does not repeat\n  write for example \"daily\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    /// The real program, whichever version it is, prints what is read here.
    #[test]
    fn systemd_prints_what_is_read() {
        assert_eq!(gap("Mon..Fri 03:00").unwrap(), Duration::days(3));
        let last = datetime!(2026-01-01 0:00:01 UTC);
        assert_eq!(next("daily", last).unwrap(), Some(datetime!(2026-01-02 0:00 UTC)));
        assert_eq!(next("Sun 03:00", last).unwrap(), Some(datetime!(2026-01-04 3:00 UTC)));
        assert_eq!(next("on-plug", last).unwrap(), None);
        let once = gap("2020-01-01").unwrap_err();
        assert!(once.is::<pc_cli::Refused>() && once.to_string().contains("does not repeat"), "{once}");
    }
}
