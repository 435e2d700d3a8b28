//! Archives: their names, what borg tells about them, and which of them is meant. Pure.
//!
//! An archive is called `VM.TIME`. A VM's name is a DNS label and has no dot, so that `VM.*` is exactly its archives:
//! neither `mail-2` nor what somebody else keeps in the same repository.

use anyhow::{Context, Result};
use pc_cli::refused;
use serde::Deserialize;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime, Time, UtcOffset};

use crate::calendar;

/// One archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// As borg calls it.
    pub name: String,
    /// The VM; `None` when the name is not one of ours.
    pub vm: Option<String>,
    /// When its data was taken; of an archive of others, when borg began it.
    pub taken_at: OffsetDateTime,
}

/// The name of an archive of `vm`, to the millisecond: a run that was killed after borg's commit has taken a name already,
/// and the next one may come within a second.
pub fn name(vm: &str, taken_at: OffsetDateTime) -> Result<String> {
    let second = rfc3339(taken_at)?;
    Ok(format!("{vm}.{}.{:03}Z", second.trim_end_matches('Z'), taken_at.millisecond()))
}

/// What an archive is called until it is certain what was read: one token, one holder of the repository's lock. borg takes a
/// name with this end for that of an unfinished archive: it is in no list, counts for nothing in `prune`, and is deleted there
/// when a newer one is whole.
pub fn unfinished(name: &str, token: u64) -> String {
    format!("{name}.checkpoint.{token}")
}

/// The VM of an archive of ours that was never finished, whether we or borg itself left it.
pub fn unfinished_of(name: &str) -> Option<&str> {
    let (whole, _) = name.split_once(".checkpoint")?;
    parse_name(whole).map(|(vm, _)| vm)
}

/// Seconds are enough for people.
pub fn rfc3339(time: OffsetDateTime) -> Result<String> {
    let time = time.to_offset(UtcOffset::UTC).replace_nanosecond(0).context("rounding a time")?;
    time.format(&Rfc3339).context("writing a time")
}

/// What `--glob-archives` takes for exactly the archives of one VM, unfinished ones (`.checkpoint`) among them: others'
/// may begin with the same word, as `mail.home.arpa-2025-01-01` does.
pub fn glob(vm: &str) -> String {
    format!("{vm}.????-??-??T??:??:??*")
}

/// Reads one of our names.
pub fn parse_name(name: &str) -> Option<(&str, OffsetDateTime)> {
    let (vm, time) = name.split_once('.')?;
    Some((vm, OffsetDateTime::parse(time, &Rfc3339).ok()?))
}

#[derive(Deserialize)]
struct Listed {
    archives: Vec<ListedArchive>,
}

#[derive(Deserialize)]
struct ListedArchive {
    name: String,
    start: String,
}

/// Reads `borg list --json`, oldest first. Times of borg are local ones without an offset (docs/internals/frontends);
/// borg runs under `TZ=UTC` here.
pub fn parse_list(json: &[u8]) -> Result<Vec<Archive>> {
    let listed: Listed = serde_json::from_slice(json).context("reading what borg list said")?;
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond]");
    let read = |archive: ListedArchive| {
        let ours = parse_name(&archive.name).map(|(vm, time)| (Some(vm.to_string()), time));
        let (vm, taken_at) = if let Some(ours) = ours {
            ours
        } else {
            let start = PrimitiveDateTime::parse(&archive.start, format)
                .with_context(|| format!("borg list: the time of {}", archive.name))?;
            (None, start.assume_utc())
        };
        Ok(Archive { name: archive.name, vm, taken_at })
    };
    let mut archives = listed.archives.into_iter().map(read).collect::<Result<Vec<_>>>()?;
    archives.sort_by(|a, b| (a.taken_at, &a.name).cmp(&(b.taken_at, &b.name)));
    Ok(archives)
}

/// A repository as it is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holdings {
    /// Given to it when it was made, like its key.
    pub id: String,
    /// Archives of ours that were never finished: the VM, and the name.
    pub unfinished: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct Held {
    archives: Vec<ListedArchive>,
    repository: Repository,
}

#[derive(Deserialize)]
struct Repository {
    id: String,
}

/// Reads `borg list --consider-checkpoints --json`.
pub fn parse_holdings(json: &[u8]) -> Result<Holdings> {
    let held: Held = serde_json::from_slice(json).context("reading what borg list said")?;
    let of_ours = |archive: ListedArchive| {
        let vm = unfinished_of(&archive.name)?.to_string();
        Some((vm, archive.name))
    };
    let unfinished = held.archives.into_iter().filter_map(of_ours).collect();
    Ok(Holdings { id: held.repository.id, unfinished })
}

/// A time as a person gives it: RFC 3339, or `2026-11-21` (the end of that day, UTC), or `2026-11-21 18:00` (UTC).
pub fn parse_at(text: &str) -> Result<OffsetDateTime, String> {
    if let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(time);
    }
    if let Ok(day) = time::Date::parse(text, format_description!("[year]-[month]-[day]")) {
        return Ok(day.with_time(Time::MIDNIGHT).assume_utc() + time::Duration::seconds(86_399));
    }
    let minute = format_description!("[year]-[month]-[day] [hour]:[minute]");
    PrimitiveDateTime::parse(text, minute)
        .map(|time| time.assume_utc() + time::Duration::seconds(59))
        .map_err(|_| "write 2026-11-21, \"2026-11-21 18:00\" or 2026-11-21T18:00:00Z (UTC)".into())
}

/// The archive of `vm` that is meant: the newest that is not dated in the future, or the newest that is not later than
/// `at`. A clock that was wrong for a night must not hide every archive that is made after it.
///
/// # Errors
/// When there is none.
pub fn choose<'a>(
    archives: &'a [Archive],
    vm: &str,
    at: Option<OffsetDateTime>,
    now: OffsetDateTime,
) -> Result<&'a Archive> {
    let mut own = archives.iter().filter(|archive| archive.vm.as_deref() == Some(vm)).peekable();
    let first = own.peek().map(|archive| archive.taken_at);
    // Whoever asks read a time in seconds.
    let second = |time: OffsetDateTime| time.replace_nanosecond(0).unwrap_or(time);
    let is_meant = |archive: &&Archive| match at {
        Some(at) => second(archive.taken_at) <= at,
        None => !calendar::is_ahead(archive.taken_at, now),
    };
    let chosen = own.rfind(is_meant);
    match (chosen, first, at) {
        (Some(archive), ..) => Ok(archive),
        (None, Some(first), Some(at)) => Err(refused(format!(
            "vm {vm}: no archive of {} or before: the oldest is of {}\n  pc-borg list {vm}",
            rfc3339(at)?,
            rfc3339(first)?
        ))),
        (None, Some(first), None) => {
            let first = rfc3339(first)?;
            Err(refused(format!(
                "vm {vm}: every archive of it is dated in the future, by a clock that was wrong\n  --at {first}"
            )))
        }
        (None, None, _) => Err(refused(format!("vm {vm}: there is no archive of it\n  pc-borg list"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    /// borg 1.2.4 on a repository with an archive of somebody's own script in it.
    const LISTED: &str = r#"{"archives": [
        {"archive": "x", "barchive": "x", "id": "ba", "name": "mail.2026-11-21T18:20:00Z",
         "start": "2026-11-21T18:20:18.000000", "time": "2026-11-21T18:20:18.000000"},
        {"archive": "x", "barchive": "x", "id": "bb", "name": "gv0-2026-01-01",
         "start": "2026-01-01T03:00:00.000000", "time": "2026-01-01T03:00:00.000000"},
        {"archive": "x", "barchive": "x", "id": "bc", "name": "mail-2.2026-11-20T00:00:00Z",
         "start": "2026-11-20T00:00:02.000000", "time": "2026-11-20T00:00:02.000000"},
        {"archive": "x", "barchive": "x", "id": "bd", "name": "mail.2026-11-19T18:20:00.512Z",
         "start": "2026-11-19T18:20:18.000000", "time": "2026-11-19T18:20:18.000000"}],
        "encryption": {"mode": "repokey-blake2"}, "repository": {"id": "4a", "location": "/x"}}"#;

    #[test]
    fn names_are_read_back_and_others_are_left_alone() {
        let time = datetime!(2026-11-21 18:20:00.5 UTC);
        assert_eq!(name("mail", time).unwrap(), "mail.2026-11-21T18:20:00.500Z");
        assert_eq!(parse_name("mail.2026-11-21T18:20:00.500Z"), Some(("mail", time)));
        let archives = parse_list(LISTED.as_bytes()).unwrap();
        let shown: Vec<(Option<&str>, &str)> =
            archives.iter().map(|archive| (archive.vm.as_deref(), archive.name.as_str())).collect();
        assert_eq!(
            shown,
            [
                (None, "gv0-2026-01-01"),
                (Some("mail"), "mail.2026-11-19T18:20:00.512Z"),
                (Some("mail-2"), "mail-2.2026-11-20T00:00:00Z"),
                (Some("mail"), "mail.2026-11-21T18:20:00Z"),
            ]
        );
        assert_eq!(archives[0].taken_at, datetime!(2026-01-01 03:00 UTC));
        assert_eq!(parse_name("mail.2026-11-21T18:20:00Z.checkpoint"), None);
    }

    #[test]
    fn what_was_not_finished_is_told_from_archives_and_from_others() {
        let name = unfinished("mail.2026-11-21T18:20:00.512Z", 7);
        assert_eq!(name, "mail.2026-11-21T18:20:00.512Z.checkpoint.7");
        assert_eq!((parse_name(&name), unfinished_of(&name)), (None, Some("mail")));
        assert_eq!(unfinished_of(&format!("{name}.checkpoint")), Some("mail"), "borg's own, of ours");
        assert_eq!(unfinished_of("mail.2026-11-21T18:20:00.512Z"), None);
        assert_eq!(unfinished_of("mail-2026.checkpoint"), None, "somebody else's");
        let listed = LISTED.replace("mail.2026-11-19T18:20:00.512Z", &name);
        let held = parse_holdings(listed.as_bytes()).unwrap();
        assert_eq!((held.id.as_str(), held.unfinished), ("4a", vec![("mail".to_string(), name)]));
    }

    #[test]
    fn the_newest_that_is_not_too_late_is_meant() {
        let archives = parse_list(LISTED.as_bytes()).unwrap();
        let now = datetime!(2026-11-22 0:00 UTC);
        let meant = |vm: &str, at: Option<&str>| {
            let at = at.map(|at| parse_at(at).unwrap());
            choose(&archives, vm, at, now)
                .map(|archive| archive.name.clone())
                .map_err(|error| error.to_string())
        };
        assert_eq!(meant("mail", None).unwrap(), "mail.2026-11-21T18:20:00Z");
        assert_eq!(meant("mail", Some("2026-11-21")).unwrap(), "mail.2026-11-21T18:20:00Z");
        assert_eq!(meant("mail", Some("2026-11-21 18:19")).unwrap(), "mail.2026-11-19T18:20:00.512Z");
        assert_eq!(meant("mail", Some("2026-11-19T18:20:00Z")).unwrap(), "mail.2026-11-19T18:20:00.512Z");
        assert_eq!(
            meant("mail", Some("2026-11-18")).unwrap_err(),
            "vm mail: no archive of 2026-11-18T23:59:59Z or before: the oldest is of 2026-11-19T18:20:00Z\n  \
             pc-borg list mail"
        );
        assert_eq!(meant("web", None).unwrap_err(), "vm web: there is no archive of it\n  pc-borg list");
        assert!(parse_at("yesterday").is_err());
    }

    #[test]
    fn an_archive_of_the_future_is_meant_only_by_its_time() {
        let archives = parse_list(LISTED.as_bytes()).unwrap();
        let of = |at: Option<&str>, now| {
            choose(&archives, "mail", at.map(|at| parse_at(at).unwrap()), now)
                .map(|archive| archive.name.as_str())
        };
        let before = datetime!(2026-11-20 0:00 UTC);
        assert_eq!(of(None, before).unwrap(), "mail.2026-11-19T18:20:00.512Z");
        assert_eq!(of(Some("2026-11-21"), before).unwrap(), "mail.2026-11-21T18:20:00Z");
        let error = of(None, datetime!(2025-01-01 0:00 UTC)).unwrap_err().to_string();
        assert!(error.ends_with("\n  --at 2026-11-19T18:20:00Z"), "{error}");
    }
}
