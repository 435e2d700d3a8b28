//! The terminal while somebody watches: raw, on its other screen, and as it was before, whatever ends the program.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use nix::unistd::{dup, dup2_stderr};
use pc_cli::refused;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// The other screen, no cursor, no line that goes on in the next (xterm, "Control Sequences").
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J";
/// The same, back.
const LEAVE: &str = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l";
/// Of a terminal that does not know its size.
const USUAL: (usize, usize) = (80, 24);

/// A terminal that shows lines.
pub struct Terminal {
    before: Termios,
    errors: Option<OwnedFd>,
    shown: Vec<String>,
}

/// What was typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// q, or Ctrl-C.
    Quit,
    /// Look again now.
    Again,
    /// So many lines on, or back.
    Lines(isize),
    /// So many screens on, or back.
    Screens(isize),
}

impl Terminal {
    /// Takes the terminal over.
    pub fn open() -> Result<Terminal> {
        let dumb = std::env::var_os("TERM").is_none_or(|name| name.is_empty() || name == "dumb");
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() || dumb {
            return Err(refused("--watch needs a terminal\n  pc-verify, or in a script: pc-verify --json"));
        }
        let before = tcgetattr(io::stdin()).context("asking for the terminal's mode")?;
        let saved = before.clone();
        let usual = std::panic::take_hook();
        // A program that dies of its own fault leaves a terminal behind in which one can read of what.
        std::panic::set_hook(Box::new(move |info| {
            restore(&saved);
            usual(info);
        }));
        // What is logged would be written over the screen; `2> FILE` keeps it.
        let errors = io::stderr().is_terminal().then(silence).transpose()?;
        let mut raw = before.clone();
        raw.make_raw();
        let terminal = Terminal { before, errors, shown: Vec::new() };
        tcsetattr(io::stdin(), OptionalActions::Now, &raw).context("setting the terminal's mode")?;
        write(ENTER)?;
        Ok(terminal)
    }

    /// Columns and rows.
    pub fn size() -> (usize, usize) {
        match tcgetwinsize(io::stdout()) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
            _ => USUAL,
        }
    }

    /// It has another size: nothing on it can be trusted.
    pub fn resized(&mut self) -> Result<()> {
        self.shown.clear();
        write("\x1b[0m\x1b[2J")
    }

    /// Shows these lines, one for each row; only what has changed is written.
    pub fn show(&mut self, lines: Vec<String>) -> Result<()> {
        let mut changes = String::new();
        for (row, line) in lines.iter().enumerate() {
            if self.shown.get(row) != Some(line) {
                // Writing to a string does not fail.
                let _ = write!(changes, "\x1b[{};1H\x1b[0m\x1b[2K{line}\x1b[0m", row + 1);
            }
        }
        self.shown = lines;
        write(&changes)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        restore(&self.before);
        if let Some(errors) = &self.errors {
            // There is nobody to tell it to.
            let _ = dup2_stderr(errors);
        }
    }
}

/// Errors change nothing: the terminal has gone.
fn restore(before: &Termios) {
    let _ = write(LEAVE);
    let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
}

fn write(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("writing to the terminal")
}

/// Where errors went until now.
fn silence() -> Result<OwnedFd> {
    let before = dup(io::stderr()).context("keeping standard error")?;
    let nowhere = std::fs::OpenOptions::new().write(true).open("/dev/null").context("opening /dev/null")?;
    dup2_stderr(nowhere).context("redirecting standard error")?;
    Ok(before)
}

/// What these bytes mean; what means nothing is ignored.
pub fn keys(bytes: &[u8]) -> Vec<Key> {
    let known: &[(&[u8], Key)] = &[
        (b"\x1b[A", Key::Lines(-1)),
        (b"\x1bOA", Key::Lines(-1)),
        (b"\x1b[B", Key::Lines(1)),
        (b"\x1bOB", Key::Lines(1)),
        (b"\x1b[5~", Key::Screens(-1)),
        (b"\x1b[6~", Key::Screens(1)),
        (b"k", Key::Lines(-1)),
        (b"j", Key::Lines(1)),
        (b"b", Key::Screens(-1)),
        (b" ", Key::Screens(1)),
        (b"r", Key::Again),
        (b"q", Key::Quit),
        (b"Q", Key::Quit),
        (b"\x03", Key::Quit),
    ];
    let (mut keys, mut rest) = (Vec::new(), bytes);
    while !rest.is_empty() {
        let found = known.iter().find(|(code, _)| rest.starts_with(code));
        keys.extend(found.map(|(_, key)| *key));
        rest = &rest[found.map_or_else(|| unknown(rest), |(code, _)| code.len())..];
    }
    keys
}

/// How long an unknown key is: a byte, or a control sequence up to its last (ECMA-48, 5.4).
fn unknown(bytes: &[u8]) -> usize {
    if !bytes.starts_with(b"\x1b[") {
        return 1;
    }
    bytes.iter().skip(2).position(|byte| (0x40..=0x7e).contains(byte)).map_or(bytes.len(), |at| at + 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_what_is_none() {
        use Key::{Again, Lines, Quit, Screens};
        assert_eq!(keys(b"\x1b[A\x1b[Bkj"), [Lines(-1), Lines(1), Lines(-1), Lines(1)]);
        assert_eq!(keys(b"\x1b[5~\x1b[6~ b"), [Screens(-1), Screens(1), Screens(1), Screens(-1)]);
        assert_eq!(keys(b"r\x03q"), [Again, Quit, Quit]);
        // F5, Shift-Tab, a paste and half a sequence are no keys of ours; none of their letters is one.
        assert_eq!(keys(b"\x1b[15~r\x1b[Z\x1b[200~x\xc3\xa4\x1b[1;5"), [Again]);
        assert_eq!(keys(b"\x1b"), []);
    }
}
