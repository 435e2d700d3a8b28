//! pc-unlock(8), our sibling that speaks to the Tang servers.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use cluster::DevicePath;
use xshell::{Cmd, Shell, cmd};

/// It asks servers over the network and runs cryptsetup.
const DEADLINE: Duration = Duration::from_secs(300);

/// The flags that make it read the same file as we do.
#[derive(Debug, Clone)]
pub struct Unlock {
    flags: Vec<OsString>,
}

impl Unlock {
    /// Hands our own flags on.
    pub fn new(common: &pc_cli::Common) -> Unlock {
        let mut flags: Vec<OsString> = Vec::new();
        if common.root != Path::new("/") {
            flags.extend(["--root".into(), common.root.clone().into_os_string()]);
        }
        if common.applied {
            flags.push("--applied".into());
        }
        if let Some(file) = &common.file {
            flags.extend(["--file".into(), file.clone().into_os_string()]);
        }
        if let Some(node) = &common.node {
            flags.extend(["--node".into(), node.into()]);
        }
        Unlock { flags }
    }

    /// Whether the file's servers would take a new binding now.
    pub fn check_servers(&self, sh: &Shell) -> Result<()> {
        let flags = &self.flags;
        let run = pc_run::run(plain(cmd!(sh, "pc-unlock check --servers {flags...}"))).deadline(DEADLINE);
        classified(run.output())
    }

    /// Adds a token for the file's servers to a LUKS device; the key opens it for that.
    pub fn bind(&self, sh: &Shell, device: &DevicePath, key: &[u8]) -> Result<()> {
        let (flags, device) = (&self.flags, device.as_str());
        let run = pc_run::run(plain(cmd!(sh, "pc-unlock bind {flags...} {device}"))).stdin(key);
        classified(run.deadline(DEADLINE).output()).with_context(|| format!("binding {device}"))
    }

    /// Saves the header, encrypted to the recovery key, in a directory.
    pub fn save_header(&self, sh: &Shell, device: &DevicePath, to: &Path, key: &[u8]) -> Result<()> {
        let (flags, device) = (&self.flags, device.as_str());
        let command = cmd!(sh, "pc-unlock header backup {flags...} --recovery-key-file - --to {to} {device}");
        let run = pc_run::run(plain(command)).stdin(key).deadline(DEADLINE);
        classified(run.output()).with_context(|| format!("saving the LUKS header of {device}"))
    }

    /// Opens a LUKS device through its token.
    pub fn open(&self, sh: &Shell, device: &DevicePath) -> Result<()> {
        let (flags, device) = (&self.flags, device.as_str());
        let run = pc_run::run(plain(cmd!(sh, "pc-unlock open {flags...} {device}"))).deadline(DEADLINE);
        classified(run.output()).with_context(|| format!("opening {device}"))
    }
}

/// Its errors become part of ours, which has its own journal prefix.
fn plain(command: Cmd<'_>) -> Cmd<'_> {
    command.env_remove("JOURNAL_STREAM")
}

/// 75 stays 75: the servers are down, and come back.
fn classified(result: Result<pc_run::Output, pc_run::Error>) -> Result<()> {
    match result {
        Ok(_) => Ok(()),
        Err(error) if error.code() == Some(75) => Err(pc_cli::try_again(error)),
        Err(error) if error.is_missing() => {
            Err(pc_cli::refused(format!("{error}  # or leave [unlock] out of the file")))
        }
        Err(error) => Err(error.into()),
    }
}
