//! What borg's errors mean for whoever ran pc-borg: an exit code, a sentence, and the one thing to do. Pure.
//!
//! borg names its errors in `--log-json` (docs/internals/frontends, "Message IDs").

use anyhow::anyhow;
use pc_cli::{refused, try_again};

/// A line of borg's log: level, message id, message.
pub type Said = (String, Option<String>, String);

/// Why borg did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    kind: Kind,
    /// borg's own last words.
    said: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Missing,
    Passphrase,
    Locked,
    Unreachable,
    Full,
    Damaged,
    Moved,
    NoFuse,
    NotInstalled,
    Other,
}

/// The first word that fits decides; what comes first is more special.
const IDS: &[(&str, Kind)] = &[
    ("Repository.DoesNotExist", Kind::Missing),
    ("Repository.InvalidRepository", Kind::Missing),
    ("Repository.ParentPathDoesNotExist", Kind::Missing),
    ("PassphraseWrong", Kind::Passphrase),
    ("PasswordRetriesExceeded", Kind::Passphrase),
    ("PasscommandFailure", Kind::Passphrase),
    ("LockTimeout", Kind::Locked),
    ("LockFailed", Kind::Locked),
    ("LockError", Kind::Locked),
    ("LockErrorT", Kind::Locked),
    ("ConnectionClosed", Kind::Unreachable),
    ("ConnectionClosedWithHint", Kind::Unreachable),
    ("Repository.InsufficientFreeSpaceError", Kind::Full),
    ("Repository.StorageQuotaExceeded", Kind::Full),
    ("IntegrityError", Kind::Damaged),
    ("Repository.CheckNeeded", Kind::Damaged),
    ("Repository.ObjectNotFound", Kind::Damaged),
    ("FileIntegrityError", Kind::Damaged),
    ("DecompressionError", Kind::Damaged),
    ("Cache.RepositoryAccessAborted", Kind::Moved),
    ("Cache.RepositoryReplay", Kind::Moved),
    ("Cache.RepositoryIDNotUnique", Kind::Moved),
];

/// What is not named, found in the text: a full disk is an `OSError`, a damaged segment a line of `borg check`.
const TEXTS: &[(&str, Kind)] = &[
    ("No space left on device", Kind::Full),
    ("Disk quota exceeded", Kind::Full),
    ("errors found", Kind::Damaged),
    ("Data integrity error", Kind::Damaged),
    ("checksum mismatch", Kind::Damaged),
    ("IntegrityError", Kind::Damaged),
    ("failed to execute borg", Kind::NotInstalled),
    ("no FUSE support", Kind::NoFuse),
    ("FUSE support", Kind::NoFuse),
    ("Connection refused", Kind::Unreachable),
    ("Connection timed out", Kind::Unreachable),
    ("No route to host", Kind::Unreachable),
    ("Could not resolve hostname", Kind::Unreachable),
];

impl Fault {
    /// Judges what borg said (level, message id, message) when it `ended` so.
    pub fn of(said: &[Said], ended: &str) -> Fault {
        let by_id = said.iter().find_map(|(_, id, _)| {
            let id = id.as_deref()?;
            IDS.iter().find(|(name, _)| *name == id).map(|(_, kind)| *kind)
        });
        let by_text = || {
            TEXTS
                .iter()
                .find(|(text, _)| said.iter().any(|(.., line)| line.contains(text)))
                .map(|(_, kind)| *kind)
        };
        // A full disk is told by the text of an error that has an id of its own, or none.
        let kind = match (by_id, by_text()) {
            (_, Some(Kind::Full)) => Kind::Full,
            (Some(kind), _) | (None, Some(kind)) => kind,
            (None, None) => Kind::Other,
        };
        let serious = said.iter().filter(|(level, ..)| matches!(level.as_str(), "ERROR" | "CRITICAL"));
        let mut words: Vec<&str> = serious.filter_map(|(.., line)| sentence(line, by_id.is_some())).collect();
        words.dedup();
        // What began it, and what came of it.
        let last = match words.as_slice() {
            [] => String::new(),
            [one] => (*one).to_string(),
            [first, .., last] => format!("{first}; {last}"),
        };
        Fault { kind, said: if last.is_empty() { format!("borg: {ended}") } else { format!("borg: {last}") } }
    }

    /// There is no repository where one is looked for.
    pub fn is_missing(&self) -> bool {
        self.kind == Kind::Missing
    }

    /// The error that a tool ends with.
    pub fn told(&self, policy: &str, repository: &str) -> anyhow::Error {
        let said = &self.said;
        let told = |what: &str, remedy: &str| {
            let remedy = if remedy.is_empty() { String::new() } else { format!("\n  {remedy}") };
            format!("backup.{policy}: {repository}: {what}: {said}{remedy}")
        };
        match self.kind {
            Kind::Missing => refused(told("no repository there", &format!("pc-borg init {policy}"))),
            Kind::Passphrase => refused(told(
                "the passphrase does not open it",
                &format!("pc-borg init {policy} --passphrase-file FILE"),
            )),
            Kind::Locked => try_again(told("another borg works with it", "pc-borg status")),
            Kind::Unreachable => try_again(told("the server cannot be reached", "")),
            Kind::Full => anyhow!(told(
                "no space left, its archives are intact",
                &format!("make space there, or keep fewer archives and: pc-borg prune {policy}"),
            )),
            Kind::Damaged => anyhow!(told("is damaged", &format!("pc-borg check {policy} --data"))),
            Kind::Moved => refused(told(
                "borg knows this repository from another place, or in a later state",
                "see docs/runbooks/backups.md",
            )),
            Kind::NotInstalled => anyhow!("borg is not installed\n  apt-get install borgbackup"),
            Kind::NoFuse => anyhow!(told("borg cannot mount", "apt-get install python3-pyfuse3")),
            Kind::Other => anyhow!("backup.{policy}: {repository}: {said}"),
        }
    }
}

/// What a person reads of a message: its first line, or of Python's own report (which comes after an error that has a
/// name, too) the line that says what happened.
fn sentence(text: &str, named: bool) -> Option<&str> {
    let text = text.trim();
    if !text.starts_with("Traceback") {
        return text.lines().next();
    }
    let happened = text.lines().take_while(|line| !line.is_empty()).last();
    if named { None } else { happened }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pc_cli::Exit;

    fn told(lines: &[(&str, &str)]) -> (Exit, String) {
        let id = |id: &str| if id.is_empty() { None } else { Some(id.to_string()) };
        let said: Vec<Said> =
            lines.iter().map(|(i, text)| ("ERROR".into(), id(i), text.to_string())).collect();
        let error = Fault::of(&said, "exit status 2").told("daily", "/mnt/b/daily");
        (Exit::of(&error), error.to_string())
    }

    /// Messages as borg 1.2.4 wrote them.
    #[test]
    fn each_fault_has_its_code_and_its_remedy() {
        let cases = [
            (
                vec![("Repository.DoesNotExist", "Repository /x does not exist.")],
                Exit::Refused,
                "\n  pc-borg init daily",
            ),
            (
                vec![(
                    "PassphraseWrong",
                    "passphrase supplied in BORG_PASSPHRASE, by BORG_PASSCOMMAND or via BORG_PASSPHRASE_FD is incorrect.",
                )],
                Exit::Refused,
                "\n  pc-borg init daily --passphrase-file FILE",
            ),
            (
                vec![("LockTimeout", "Failed to create/acquire the lock /x/lock.exclusive (timeout).")],
                Exit::TryAgain,
                "\n  pc-borg status",
            ),
            (
                vec![
                    ("", "ssh: connect to host backup.example port 22: Connection refused"),
                    (
                        "ConnectionClosedWithHint",
                        "Connection closed by remote host. Is borg working on the server?",
                    ),
                ],
                Exit::TryAgain,
                "Is borg working on the server?",
            ),
            (
                vec![("", "Local Exception"), ("", "OSError: [Errno 28] No space left on device")],
                Exit::Failed,
                "\n  make space there, or keep fewer archives and: pc-borg prune daily",
            ),
            (
                vec![
                    ("", "Data integrity error: Segment entry checksum mismatch [segment 1, offset 8]"),
                    ("", "Finished full repository check, errors found."),
                ],
                Exit::Failed,
                "\n  pc-borg check daily --data",
            ),
            (vec![], Exit::Failed, "borg: exit status 2"),
        ];
        for (lines, exit, end) in cases {
            let (code, text) = told(&lines);
            assert_eq!(code, exit, "{text}");
            assert!(text.starts_with("backup.daily: /mnt/b/daily: ") && text.ends_with(end), "{text}");
        }
    }

    #[test]
    fn only_a_missing_repository_is_made() {
        let of = |id: &str| {
            Fault::of(&[("ERROR".into(), Some(id.into()), "x".into())], "exit status 2").is_missing()
        };
        assert!(of("Repository.DoesNotExist"));
        assert!(!of("PassphraseWrong") && !of("ConnectionClosed"));
    }
    /// borg 1.2.4, extracting from a damaged repository, and writing to a full disk.
    #[test]
    fn pythons_own_report_is_not_shown() {
        let report = "Traceback (most recent call last):\n  File \"x.py\", line 1, in main\n    run()\n\
                      OSError: [Errno 28] No space left on device: '/x'\n\nPlatform: Linux vm\n";
        let named = told(&[
            ("IntegrityError", "Data integrity error: Segment entry checksum mismatch"),
            ("", report),
        ]);
        assert!(!named.1.contains("Traceback"), "{}", named.1);
        let (code, text) = told(&[("", "Local Exception"), ("", report)]);
        assert_eq!(code, Exit::Failed);
        let says = "no space left, its archives are intact: borg: Local Exception; OSError: [Errno 28] No space left on device: '/x'\n";
        assert!(text.contains(says), "{text}");
    }
}
