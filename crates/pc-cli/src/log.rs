//! Log lines on stderr, with the journal's priority prefixes when stderr is the journal (sd-daemon(3)).

use std::fmt::Display;
use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::plain::printable;

static VERBOSE: AtomicU8 = AtomicU8::new(0);
static JOURNAL: OnceLock<bool> = OnceLock::new();

/// Sets how often `-v` was given.
pub fn set_verbosity(verbose: u8) {
    VERBOSE.store(verbose, Ordering::Relaxed);
}

fn line(priority: u8, word: &str, message: &dyn Display) {
    let journal = *JOURNAL.get_or_init(|| {
        let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
        let place = nix::sys::stat::fstat(std::io::stderr()).ok();
        place.is_some_and(|place| is_stream(&stream, place.st_dev, place.st_ino))
    });
    let text = message.to_string();
    let text = printable(&text);
    let mut stderr = std::io::stderr().lock();
    for (index, part) in text.lines().enumerate() {
        // A closed stderr must not end a tool half-way through its work: the result is ignored on purpose.
        let _ = if journal {
            writeln!(stderr, "<{priority}>{part}")
        } else if index == 0 {
            writeln!(stderr, "{word}{part}")
        } else {
            writeln!(stderr, "{part}")
        };
    }
}

/// The variable is inherited by everything a unit starts: it speaks of our stderr only when device and inode are
/// those of our stderr (systemd.exec(5)).
fn is_stream(variable: &str, device: u64, inode: u64) -> bool {
    variable == format!("{device}:{inode}")
}

/// Priority 3: what made the tool end, or a part of the work fail.
pub fn error(message: impl Display) {
    line(3, "error: ", &message);
}

/// Priority 4: something a person should look at.
pub fn warning(message: impl Display) {
    line(4, "warning: ", &message);
}

/// Priority 6: one line per change made.
pub fn info(message: impl Display) {
    line(6, "", &message);
}

/// Priority 7: shown with `-v`.
pub fn debug(message: impl Display) {
    if VERBOSE.load(Ordering::Relaxed) >= 1 {
        line(7, "", &message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_journal_gets_prefixes() {
        assert!(is_stream("8:12345", 8, 12345));
        assert!(!is_stream("8:12345", 8, 999) && !is_stream("", 0, 0) && !is_stream("1", 8, 1));
    }
}
