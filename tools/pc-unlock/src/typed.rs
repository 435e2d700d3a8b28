//! A passphrase that a person types, or pipes in.

use std::io::{BufRead, IsTerminal, Read, Write};
use std::os::fd::AsFd;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::cryptsetup;
use crate::device::Device;
use crate::text;

/// cryptsetup reads no more from a terminal either.
const LONGEST: u64 = 512;

/// A passphrase that `device` has now: from the terminal, without showing it, else all of standard input. A newline at its end,
/// which `echo` and most editors add, is taken off unless the device says that it belongs there.
pub fn passphrase(device: &Device, ends: Option<Ends>) -> Result<Zeroizing<Vec<u8>>> {
    if let Some(ends) = ends {
        return prompt(&device.name, ends);
    }
    let mut bytes = text::stdin("an existing passphrase")?;
    if bytes.last() == Some(&b'\n') && !cryptsetup::fits(&device.path, None, &bytes)? {
        bytes.pop();
    }
    Ok(bytes)
}

fn prompt(name: &str, ends: Ends) -> Result<Zeroizing<Vec<u8>>> {
    let mut line = Zeroizing::new(Vec::new());
    let typed = {
        let _silent = Silent::begin().context("preparing the terminal")?;
        eprint!("a passphrase of {name}: ");
        std::io::stderr().flush().context("asking for a passphrase")?;
        let typed = ends.come_first().context("waiting for a passphrase").map(|interrupted| !interrupted)?;
        if typed {
            let stdin = std::io::stdin().lock();
            stdin.take(LONGEST + 1).read_until(b'\n', &mut line).context("reading the passphrase")?;
        }
        typed
    };
    eprintln!();
    // Whoever has been told to end does so here, and the terminal is as it was.
    drop(ends);
    if !typed {
        bail!("interrupted");
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() as u64 > LONGEST {
        bail!("the passphrase is longer than {LONGEST} bytes\n  give it on standard input, from a file");
    }
    Ok(line)
}

/// What ends a program, held back until this is dropped: a terminal must not stay silent.
pub struct Ends {
    signals: SigSet,
    arrived: SignalFd,
}

impl Ends {
    /// For who will be asked on a terminal. Before any thread is started: one that held nothing back, and had not ended yet, would
    /// take the signal for all of them.
    pub fn before_a_prompt() -> Result<Option<Ends>> {
        let held = std::io::stdin().is_terminal().then(Ends::hold).transpose();
        held.context("holding back signals")
    }

    fn hold() -> nix::Result<Ends> {
        let signals = SigSet::from_iter([
            Signal::SIGINT,
            Signal::SIGQUIT,
            Signal::SIGTERM,
            Signal::SIGHUP,
            Signal::SIGTSTP,
        ]);
        signals.thread_block()?;
        let arrived = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC)?;
        Ok(Ends { signals, arrived })
    }

    /// Whether one of them comes before a line is typed. It stays pending.
    fn come_first(&self) -> nix::Result<bool> {
        let stdin = std::io::stdin();
        let wanted = |file| PollFd::new(file, PollFlags::POLLIN);
        let mut files = [wanted(self.arrived.as_fd()), wanted(stdin.as_fd())];
        while let Err(error) = poll(&mut files, PollTimeout::NONE) {
            if error != Errno::EINTR {
                return Err(error);
            }
        }
        Ok(files[0].any().unwrap_or(true))
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.signals.thread_unblock();
    }
}

/// A terminal that does not show what is typed, until this is dropped.
struct Silent(Termios);

impl Silent {
    fn begin() -> nix::Result<Silent> {
        let before = tcgetattr(std::io::stdin())?;
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(std::io::stdin(), SetArg::TCSAFLUSH, &silent)?;
        Ok(Silent(before))
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        // A terminal that has gone away has nothing to show either.
        let _ = tcsetattr(std::io::stdin(), SetArg::TCSAFLUSH, &self.0);
    }
}
