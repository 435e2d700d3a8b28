//! A drill's copy, booted until it shows a sign of life, and ended.
//!
//! libvirt ends the copy when the virsh that began it goes (`--autodestroy`). That virsh is bound to us, and has a deadline of
//! its own: the copy outlives neither a drill that was killed nor one that stands still.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use cluster::Heartbeat;
use pc_cli::try_again;

use crate::child::{self, attend};
use crate::hypervisor;
use crate::scratch::Scratch;

/// How often somebody looks for a sign of life.
const LOOK: Duration = Duration::from_secs(1);
/// How much longer than its drill a copy may live.
const LONGER: Duration = Duration::from_secs(120);

/// Why nobody waits any longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum End {
    #[error("it is up")]
    Up,
    #[error("it showed no sign of life in time")]
    Late,
    #[error("it switched itself off before it was up")]
    Off,
    #[error("libvirt of this node was restarted meanwhile, which ends a copy")]
    CutOff,
}

/// What libvirt has said of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    /// It was not there yet.
    Awaited,
    There,
    /// It was there, and is not.
    Missed,
}

/// How it is told to be up, in the file's words.
pub fn words(sign: Heartbeat) -> String {
    match sign {
        Heartbeat::Agent => "agent".into(),
        Heartbeat::Console(text) => format!("console:{text}"),
        Heartbeat::Never => "none".into(),
    }
}

/// Boots the copy whose definition is `domain.xml`; how long it took until it was up.
pub fn boot(
    scratch: &Scratch,
    sign: Heartbeat,
    wait: Duration,
    may_go_on: &dyn Fn() -> Result<()>,
) -> Result<Duration> {
    let begun = Instant::now();
    let (looked, there) = (Cell::new(begun), Cell::new(Presence::Awaited));
    let cut_off = Cell::new(false);
    let console = RefCell::new(Console::of(scratch.console(), sign));
    let look = || -> Result<()> {
        may_go_on()?;
        if looked.get().elapsed() < LOOK {
            return Ok(());
        }
        looked.set(Instant::now());
        // It may have said that it is up, and gone since.
        if console.borrow_mut().heard()? {
            return Err(End::Up.into());
        }
        let is_there = hypervisor::state(&scratch.domain)?.is_some();
        if is_there && sign == Heartbeat::Agent && hypervisor::agent_answers(&scratch.domain)? {
            return Err(End::Up.into());
        }
        if !is_there && cut_off.get() {
            return Err(End::CutOff.into());
        }
        there.set(match (there.get(), is_there) {
            (_, true) => Presence::There,
            (Presence::Awaited, false) => Presence::Awaited,
            // A libvirt that was restarted ends it as well: whoever keeps it says so within the next look.
            (Presence::There, false) => Presence::Missed,
            (Presence::Missed, false) => return Err(End::Off.into()),
        });
        if begun.elapsed() >= wait { Err(End::Late.into()) } else { Ok(()) }
    };
    let command = hypervisor::begin_copy(&scratch.domain, &scratch.at("domain.xml"), wait + LONGER);
    let mut hear = |line: &str| cut_off.set(cut_off.get() || hypervisor::is_cut_off(line));
    let ended = attend(command, None, &mut |_| Ok(()), &mut hear, &look);
    let took = begun.elapsed();
    let end = match ended {
        Ok(_) if cut_off.get() => End::CutOff,
        Ok(ended) => {
            let said: Vec<&str> =
                ended.stderr.iter().map(|line| line.trim_start_matches("error: ")).collect();
            bail!("libvirt does not keep it running ({}): {}", child::how(ended.status), said.join("; "));
        }
        Err(error) => error.downcast::<End>()?,
    };
    match end {
        End::Up => return Ok(took),
        End::CutOff => return Err(try_again(End::CutOff)),
        End::Late | End::Off => {}
    }
    let last = console.borrow().last_line();
    let last =
        last.map_or_else(|| "its console is silent".into(), |line| format!("its console ends: {line}"));
    let remedy = match sign {
        Heartbeat::Agent => {
            "install qemu-guest-agent in the guest, or name a text of its console in the file: heartbeat = \"console:login:\""
        }
        _ => "give it longer: --wait 1800",
    };
    Err(anyhow!("{end} ({}, {} s); {last}\n  {remedy}", words(sign), wait.as_secs()))
}

/// What the serial console says, read as it grows.
#[derive(Debug)]
struct Console {
    path: PathBuf,
    /// What it is listened for.
    text: Option<Vec<u8>>,
    at: u64,
    /// The last of what was read.
    tail: Vec<u8>,
}

impl Console {
    fn of(path: PathBuf, sign: Heartbeat) -> Console {
        let text = if let Heartbeat::Console(text) = sign { Some(text.as_bytes().to_vec()) } else { None };
        Console { path, text, at: 0, tail: Vec::new() }
    }

    /// Reads on; whether the text was there.
    fn heard(&mut self) -> Result<bool> {
        /// Enough for a text that came in two parts, and for the last line.
        const KEPT: usize = 4096;
        let reading = || format!("reading {}", self.path.display());
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error).with_context(reading),
        };
        // virtlogd begins a new file when one is full.
        if file.metadata().with_context(reading)?.len() < self.at {
            self.at = 0;
        }
        file.seek(SeekFrom::Start(self.at)).with_context(reading)?;
        let read = file.take(16 << 20).read_to_end(&mut self.tail).with_context(reading)?;
        self.at += read as u64;
        let heard = self.text.as_ref().is_some_and(|text| holds(&self.tail, text));
        let surplus = self.tail.len().saturating_sub(KEPT);
        self.tail.drain(..surplus);
        Ok(heard)
    }

    /// For a person who has to find out why it is not up.
    fn last_line(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.tail);
        let plain = |line: &str| line.chars().filter(|c| !c.is_control()).take(160).collect::<String>();
        text.lines().rev().map(|line| plain(line.trim())).find(|line| !line.is_empty())
    }
}

fn holds(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len().max(1)).any(|window| window == text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_text_that_comes_in_two_parts_is_heard_and_a_new_file_is_read_from_its_beginning() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("console.log");
        let mut console = Console::of(path.clone(), Heartbeat::Console("mail login:"));
        assert!(!console.heard().unwrap(), "there is no console yet");
        let append = |text: &str| {
            let mut file = std::fs::OpenOptions::new().append(true).create(true).open(&path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        append("SeaBIOS\r\n\x1b[2Jmail lo");
        assert!(!console.heard().unwrap());
        append("gin: ");
        assert!(console.heard().unwrap());
        assert!(console.heard().unwrap(), "still in what was kept");
        assert_eq!(console.last_line().as_deref(), Some("[2Jmail login:"));
        append(&"x".repeat(10_000));
        assert!(console.heard().unwrap(), "together with what was kept");
        assert!(!console.heard().unwrap(), "long ago");
        std::fs::write(&path, "again, mail login:").unwrap();
        assert!(console.heard().unwrap());
        assert!(!Console::of(path, Heartbeat::Agent).heard().unwrap(), "nobody listens for a text");
    }
}
