//! All calls of guestfish(1): what a disk holds is read by a small machine of its own, never by this node's kernel.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use pc_cli::refused;
use zeroize::Zeroizing;

use crate::child::{attend, bound_to_us, how};

/// A machine is booted, emulated where there is no KVM, and a large directory is read.
const PATIENCE: Duration = Duration::from_secs(3600);

/// What is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It comes out as it is.
    File,
    /// It comes out as an archive of tar(1).
    Directory,
}

/// A disk that is looked into.
pub struct Disk<'a> {
    /// Raw, and nobody else's.
    pub image: &'a Path,
    /// What has to be written meanwhile goes there.
    pub work: &'a Path,
    /// Asked all the time.
    pub may_go_on: &'a dyn Fn() -> Result<()>,
}

impl Disk<'_> {
    /// What is at `path`, with symbolic links followed.
    ///
    /// # Errors
    /// Refused when there is nothing that can be taken out.
    pub fn kind(&self, path: &str) -> Result<Kind> {
        let path = quoted(path);
        let script = format!("is-file {path} followsymlinks:true\nis-dir {path} followsymlinks:true\n");
        let said = self.run(&script)?;
        match said.lines().collect::<Vec<_>>()[..] {
            ["true", _] => Ok(Kind::File),
            [_, "true"] => Ok(Kind::Directory),
            ["false", "false"] => Err(refused(format!("no file or directory is called {path} there"))),
            _ => bail!("guestfish says {said:?} where true or false is expected"),
        }
    }

    /// Writes it to `output`, which is an absolute path.
    pub fn take(&self, kind: Kind, path: &str, output: &Path) -> Result<()> {
        let Some(output) = output.to_str() else { bail!("{}: is no text", output.display()) };
        let (path, output) = (quoted(path), quoted(output));
        let script = match kind {
            Kind::File => format!("download {path} {output}\n"),
            Kind::Directory => format!("tar-out {path} {output} numericowner:true\n"),
        };
        self.run(&script).map(drop)
    }

    fn run(&self, script: &str) -> Result<String> {
        let mut command = bound_to_us("guestfish", "KILL");
        // The format is said, for if it were guessed the guest could have written it: a backing file, for example.
        command.args(["--ro", "--format=raw", "--add"]).arg(self.image).arg("--inspector");
        // Under libvirt, and so confined as the VMs are.
        command.env("LIBGUESTFS_BACKEND", "libvirt:qemu:///system");
        command.env("LIBGUESTFS_TMPDIR", self.work);
        let begun = Instant::now();
        let may_go_on = || {
            (self.may_go_on)()?;
            if begun.elapsed() < PATIENCE {
                return Ok(());
            }
            Err(anyhow!("guestfish: no answer within {} s", PATIENCE.as_secs()))
        };
        let mut out = Vec::new();
        let mut keep = |bytes: &[u8]| {
            out.extend_from_slice(bytes);
            Ok(())
        };
        let script = Zeroizing::new(script.as_bytes().to_vec());
        let ended = attend(command, Some(&script), &mut keep, &mut |_| (), &may_go_on)?;
        if ended.status.code() == Some(0) {
            return Ok(String::from_utf8_lossy(&out).into_owned());
        }
        Err(told(&how(ended.status), &ended.stderr))
    }
}

/// What it said last is what went wrong.
fn told(how: &str, stderr: &[String]) -> anyhow::Error {
    if stderr.iter().any(|line| line.contains("failed to execute guestfish")) {
        return refused("guestfish is not installed\n  apt-get install guestfish");
    }
    // It asks nobody for a passphrase: it has no terminal, and what it reads instead is no key.
    if let Some(line) = stderr.iter().find(|line| line.contains("could not find key to open LUKS")) {
        let device =
            line.split("encrypted ").nth(1).map_or("its disk", |device| device.trim_end_matches('.'));
        return refused(format!(
            "{device} is encrypted (LUKS), and its passphrase is asked for nowhere\n  \
             restore the whole VM, and open it there: pc-borg restore VM --as COPY"
        ));
    }
    let trimmed = stderr.iter().map(|line| line.trim().trim_start_matches("guestfish: "));
    let said: Vec<&str> = trimmed.filter(|line| !line.is_empty()).collect();
    let said = said[said.len().saturating_sub(4)..].join("; ");
    anyhow!("guestfish: {}", if said.is_empty() { how } else { &said })
}

/// As guestfish reads a parameter (guestfish(1), quoting). Paths of ours hold no control characters.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_parameter_whatever_it_holds() {
        assert_eq!(quoted(r#"/a b/"c"\d"#), r#""/a b/\"c\"\\d""#);
        assert_eq!(quoted("/$HOME;`x`"), "\"/$HOME;`x`\"");
    }

    #[test]
    fn the_last_words_are_told() {
        let lines = |text: &str| text.lines().map(str::to_string).collect::<Vec<_>>();
        let missing =
            told("exit status 127", &lines("setsid: failed to execute guestfish: No such file or directory"));
        assert_eq!(missing.to_string(), "guestfish is not installed\n  apt-get install guestfish");
        let none = told("exit status 1", &lines("\nguestfish: no operating system was found on this disk\n"));
        assert_eq!(none.to_string(), "guestfish: no operating system was found on this disk");
        let locked = "guestfish: could not find key to open LUKS encrypted /dev/sda2.\n\n\
                      Try using --key on the command line.\n\nOriginal error: cryptsetup_open: No key available (1)";
        let locked = told("exit status 1", &lines(locked)).to_string();
        assert!(
            locked.starts_with("/dev/sda2 is encrypted (LUKS), and its passphrase is asked for nowhere\n")
        );
        assert_eq!(told("killed by signal 9", &[]).to_string(), "guestfish: killed by signal 9");
    }
}
