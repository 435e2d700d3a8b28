//! A passphrase that a person types, or pipes in.

use std::io::{BufRead, IsTerminal, Read, Write};

use anyhow::{Context, Result, bail};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::cryptsetup;
use crate::device::Device;
use crate::text;

/// cryptsetup reads no more from a terminal either.
const LONGEST: u64 = 512;

/// A passphrase that `device` has now: from the terminal, without showing it, else all of standard input. A newline at its end,
/// which `echo` and most editors add, is taken off unless the device says that it belongs there.
pub fn passphrase(device: &Device) -> Result<Zeroizing<Vec<u8>>> {
    if std::io::stdin().is_terminal() {
        return prompt(&device.name);
    }
    let mut bytes = text::stdin("an existing passphrase")?;
    if bytes.last() == Some(&b'\n') && !cryptsetup::fits(&device.path, None, &bytes)? {
        bytes.pop();
    }
    Ok(bytes)
}

fn prompt(name: &str) -> Result<Zeroizing<Vec<u8>>> {
    let mut line = Zeroizing::new(Vec::new());
    {
        let _silent = Silent::begin().context("preparing the terminal")?;
        eprint!("a passphrase of {name}: ");
        std::io::stderr().flush().context("asking for a passphrase")?;
        let stdin = std::io::stdin().lock();
        stdin.take(LONGEST + 1).read_until(b'\n', &mut line).context("reading the passphrase")?;
    }
    eprintln!();
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() as u64 > LONGEST {
        bail!("the passphrase is longer than {LONGEST} bytes\n  give it on standard input, from a file");
    }
    Ok(line)
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
