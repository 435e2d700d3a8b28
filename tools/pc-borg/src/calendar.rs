//! When the next archive is due. Pure, but for what `systemd-analyze` is asked about a calendar event.

use time::Duration;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

/// The schedule of a disk that is plugged in by hand.
pub const ON_PLUG: &str = "on-plug";

/// The words of systemd.time(7), and how long the longest gap between two of their events is.
const WORDS: &[(&str, Duration)] = &[
    ("minutely", Duration::minutes(1)),
    ("hourly", Duration::hours(1)),
    ("daily", Duration::days(1)),
    ("weekly", Duration::weeks(1)),
    ("monthly", Duration::days(31)),
    ("quarterly", Duration::days(92)),
    ("semiannually", Duration::days(184)),
    ("yearly", Duration::days(366)),
    ("annually", Duration::days(366)),
    // Nobody plugs a disk in by the clock: once a month is what docs/tools/pc-borg.md recommends.
    (ON_PLUG, Duration::days(31)),
];

/// The longest gap between two events, when the schedule is a word that needs no systemd to be understood.
pub fn gap_of_word(schedule: &str) -> Option<Duration> {
    WORDS.iter().find(|(word, _)| *word == schedule).map(|(_, gap)| *gap)
}

/// The events that `systemd-analyze calendar --iterations=N` printed under `TZ=UTC`:
/// `Next elapse: Mon 2026-11-23 03:00:00 UTC`, `Iteration #2: Tue 2026-11-24 03:00:00 UTC`.
pub fn events(printed: &str) -> Vec<OffsetDateTime> {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    let event = |line: &str| {
        let (label, when) = line.trim().split_once(": ")?;
        if label != "Next elapse" && !label.starts_with("Iteration") && !label.starts_with("Iter.") {
            return None;
        }
        // The day of the week, and the zone, are not looked at.
        let mut words = when.split_whitespace().skip(1);
        let text = format!("{} {}", words.next()?, words.next()?);
        PrimitiveDateTime::parse(&text, format).ok().map(PrimitiveDateTime::assume_utc)
    };
    printed.lines().filter_map(event).collect()
}

/// The longest gap between these events; `None` when there are not two.
pub fn longest_gap(events: &[OffsetDateTime]) -> Option<Duration> {
    events.windows(2).map(|pair| pair[1] - pair[0]).max()
}

/// An archive that is older than this counts as overdue: a gap, and time for the run itself and a retry.
pub fn patience(gap: Duration) -> Duration {
    let quarter: Duration = gap / 4;
    gap + quarter.clamp(Duration::hours(1), Duration::days(2))
}

/// A disk that was plugged in is written to once, not again and again while it stays plugged in.
const PLUGGED: Duration = Duration::hours(12);
/// An attempt that failed is not repeated before.
const PAUSE: Duration = Duration::hours(1);

/// Clocks of nodes may differ by this much.
const SKEW: Duration = Duration::minutes(5);

/// Whether a time is of the future: whoever wrote it had a wrong clock, or has it now.
pub fn is_ahead(time: OffsetDateTime, now: OffsetDateTime) -> bool {
    time - now > SKEW
}

/// Whether a run that is started by the clock has anything to do for a VM: an event of the schedule has passed since
/// the last archive (`next`, the first event after it). So a run that is repeated, because another VM failed or a node
/// was off, leaves alone what was done, and what was missed is made up for.
pub fn is_due(
    last: Option<OffsetDateTime>,
    next: Option<OffsetDateTime>,
    failed: Option<OffsetDateTime>,
    now: OffsetDateTime,
) -> bool {
    if failed.is_some_and(|failed| (now - failed).abs() < PAUSE) {
        return false;
    }
    let Some(last) = last else { return true };
    // Of an archive of the future, made under a wrong clock, nothing follows.
    is_ahead(last, now) || next.unwrap_or(last + PLUGGED) <= now
}

/// Whether somebody has to look: no archive at all, or one that is too old. A clock that went back is no reason to
/// believe that all is well.
pub fn is_overdue(last: Option<OffsetDateTime>, gap: Duration, now: OffsetDateTime) -> bool {
    last.is_none_or(|last| is_ahead(last, now) || now - last > patience(gap))
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    /// As printed by systemd 252 (Debian 12) and 257 (Debian 13).
    const OF_252: &str = "  Original form: Mon..Fri 03:00\nNormalized form: Mon..Fri *-*-* 03:00:00\n    \
        Next elapse: Thu 2026-11-19 03:00:00 UTC\n       From now: 1 day 8h left\n       \
        Iter. #2: Fri 2026-11-20 03:00:00 UTC\n       From now: 2 days left\n       \
        Iter. #3: Mon 2026-11-23 03:00:00 UTC\n       From now: 3 days left\n";

    #[test]
    fn the_longest_gap_counts() {
        assert_eq!(events(OF_252)[0], datetime!(2026-11-19 3:00 UTC));
        assert_eq!(longest_gap(&events(OF_252)), Some(Duration::days(3)));
        assert_eq!(longest_gap(&events(&OF_252.replace("Iter. #", "Iteration #"))), Some(Duration::days(3)));
        assert_eq!(longest_gap(&events("Next elapse: never")), None);
        assert_eq!(gap_of_word("weekly"), Some(Duration::weeks(1)));
        assert_eq!(gap_of_word("Sun 03:00"), None);
    }

    #[test]
    fn overdue_is_a_gap_and_some_patience() {
        let now = datetime!(2026-01-10 12:00 UTC);
        let day = Duration::days(1);
        for (last, overdue) in [
            (None, true),
            (Some(datetime!(2026-01-10 00:00 UTC)), false),
            (Some(datetime!(2026-01-09 06:00 UTC)), false),
            (Some(datetime!(2026-01-09 05:59:59 UTC)), true),
            (Some(datetime!(2026-01-10 12:04 UTC)), false),
            (Some(datetime!(2026-01-10 12:06 UTC)), true),
            (Some(datetime!(2026-01-12 12:00 UTC)), true),
        ] {
            assert_eq!(is_overdue(last, day, now), overdue, "{last:?}");
        }
        assert_eq!(patience(Duration::minutes(1)), Duration::minutes(61));
        assert_eq!(patience(Duration::days(366)), Duration::days(368));
    }
    #[test]
    fn due_is_an_event_since_the_last_archive() {
        let now = datetime!(2026-01-10 12:00 UTC);
        let last = Some(datetime!(2026-01-10 00:10 UTC));
        let tomorrow = Some(datetime!(2026-01-11 0:00 UTC));
        let noon = Some(now);
        assert!(is_due(None, None, None, now));
        assert!(!is_due(last, tomorrow, None, now));
        assert!(is_due(last, noon, None, now));
        assert!(is_due(Some(datetime!(2027-01-01 0:00 UTC)), tomorrow, None, now), "a clock went wrong");
        let failed = Some(datetime!(2026-01-10 11:30 UTC));
        assert!(
            !is_due(None, None, failed, now)
                && is_due(None, None, Some(datetime!(2026-01-10 11:00 UTC)), now)
        );
        // A disk that stays plugged in.
        assert!(
            !is_due(last, None, None, now) && is_due(Some(datetime!(2026-01-10 0:00 UTC)), None, None, now)
        );
    }
}
