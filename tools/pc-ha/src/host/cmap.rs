//! corosync's members, by corosync-cmapctl(8).

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use anyhow::{Context, Result};
use pc_cli::{log, refused, try_again};
use pc_run::run;
use xshell::{Shell, cmd};

use crate::members::cmap::{KEYS, Presence, TELLS, read};
use crate::running::{self, Running};

/// It answers out of its memory.
const QUICK: Duration = Duration::from_secs(10);

/// Every member that corosync has seen since it started.
pub fn list() -> Result<Vec<(u16, Presence)>> {
    let sh = Shell::new().context("asking for the working directory")?;
    let call = run(cmd!(sh, "corosync-cmapctl {KEYS}")).deadline(QUICK);
    let text = call.read().map_err(|error| try_again(format!("asking corosync for its members: {error}")))?;
    Ok(text.lines().filter_map(read).collect())
}

/// What corosync runs with here; none while it does not say.
pub fn running() -> Option<Running> {
    let sh = Shell::new().ok()?;
    let [numbers, nodes] = running::KEYS;
    let answer = run(cmd!(sh, "corosync-cmapctl {numbers} {nodes}")).deadline(QUICK).read();
    match answer {
        Ok(text) => running::read(&text),
        Err(error) => {
            log::debug(format_args!("what corosync runs with: {error}"));
            None
        }
    }
}

/// What a tracker has heard.
#[derive(Debug, Clone, Copy)]
pub enum Heard {
    /// A member has joined, or left.
    Change((u16, Presence)),
    /// corosync has ended, or the program that listens to it.
    End,
}

enum Word {
    Tells,
    Heard(Heard),
}

/// Hears every change until it is dropped.
#[derive(Debug)]
pub struct Tracker {
    child: Child,
    /// It ends when it has read to the end of this: also when we are killed.
    _stdin: Option<ChildStdin>,
    words: Receiver<Word>,
}

impl Tracker {
    /// Every change from now on is heard. Into a pipe the program would write by the 4 KiB, months of changes: stdbuf(1)
    /// has it write by the line.
    pub fn start() -> Result<Tracker> {
        let mut command = Command::new("stdbuf");
        command.args(["-oL", "corosync-cmapctl", "-T", KEYS]).env("LC_ALL", "C.UTF-8");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| refused(format!("running stdbuf: {error}")))?;
        let (sender, words) = channel();
        let stdout = child.stdout.take().context("listening to corosync-cmapctl")?;
        std::thread::spawn(move || listen(BufReader::new(stdout), &sender));
        let tracker = Tracker { _stdin: child.stdin.take(), child, words };
        // corosync may be ending, or starting.
        match tracker.words.recv_timeout(QUICK) {
            Ok(Word::Tells) => Ok(tracker),
            _ => Err(try_again("following corosync's members: no answer\n  systemctl status corosync")),
        }
    }

    /// Waits for a word, as long as this or for ever; `None` when there was none.
    pub fn heard(&self, patience: Option<Duration>) -> Option<Heard> {
        let word = match patience {
            None => self.words.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(patience) => self.words.recv_timeout(patience),
        };
        match word {
            Ok(Word::Heard(heard)) => Some(heard),
            Err(RecvTimeoutError::Disconnected) => Some(Heard::End),
            Ok(Word::Tells) | Err(RecvTimeoutError::Timeout) => None,
        }
    }
}

fn listen(lines: impl BufRead, sender: &Sender<Word>) {
    // Whoever is told nothing any more has gone, and we follow.
    for line in lines.lines().map_while(Result::ok) {
        log::debug(format_args!("corosync: {line}"));
        let word =
            if line == TELLS { Some(Word::Tells) } else { read(&line).map(Heard::Change).map(Word::Heard) };
        if word.is_some_and(|word| sender.send(word).is_err()) {
            return;
        }
    }
    let _ = sender.send(Word::Heard(Heard::End));
}

impl Drop for Tracker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
