//! `restore-file`: a file or a directory out of a VM's archive, without a restore of the VM. The disk is restored to a copy
//! that nobody else sees, every segment compared with its digest, and looked into by a machine of its own.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cluster::{Bytes, Name};
use pc_cli::{log, refused};
use pc_run::Cost;
use serde::Serialize;
use time::OffsetDateTime;

use crate::archive::{self, rfc3339};
use crate::guestfish::{Disk, Kind};
use crate::naming;
use crate::restore::{self, Wanted, policy_of};
use crate::scratch::{self, Purpose, Scratch};
use crate::session;
use crate::site::{Heal, Site, tell};
use crate::want::unknown;

/// How `restore-file` is asked.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The VM
    pub vm: String,
    /// A file or a directory of the guest, from its root on
    pub path: String,
    /// Write it here; a directory as an archive of tar(1)
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
    /// The newest archive that is not later: 2026-11-21, "2026-11-21 18:00", 2026-11-21T18:00:00Z (UTC)
    #[arg(long, value_name = "TIME", value_parser = archive::parse_at)]
    pub at: Option<OffsetDateTime>,
    /// Out of this policy's repository (by default the one with the newest archive)
    #[arg(long, value_name = "POLICY")]
    pub policy: Option<String>,
    /// The copy of the disk lies on this volume while it lasts (by default the VM's own)
    #[arg(long = "to", value_name = "VOLUME")]
    pub volume: Option<String>,
    #[command(flatten)]
    pub lock: session::LockOptions,
}

/// `pc.borg.restore.file/1`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// `pc.borg.restore.file/1`.
    pub schema: &'static str,
    /// The VM.
    pub vm: String,
    /// Where it came from.
    pub policy: String,
    /// The archive.
    pub archive: String,
    /// When its data was taken, RFC 3339 UTC.
    pub taken_at: String,
    /// In the guest.
    pub path: String,
    /// `file`, or `directory`: the output is an archive of tar(1).
    pub kind: &'static str,
    /// Where it is.
    pub output: String,
    /// Its size.
    pub output_bytes: u64,
    /// What it cost.
    #[serde(flatten)]
    pub cost: Cost,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.kind == "directory" { "as a tar archive, " } else { "" };
        let Answer { vm, path, taken_at, output, .. } = self;
        writeln!(f, "{path} of {vm} as of {taken_at}: {how}{} in {output}", Bytes(self.output_bytes))
    }
}

/// Takes it out; nothing that exists is written over.
pub fn restore_file(site: &Site, options: &Options) -> Result<Answer> {
    let started = Instant::now();
    let name = Name::try_from(options.vm.clone())
        .map_err(|fault| refused(format!("vm {:?}: {fault}", options.vm)))?;
    if !options.path.starts_with('/') || options.path.contains(char::is_control) {
        return Err(refused(format!("{:?}: is no path from the guest's root on", options.path)));
    }
    let output = Output::claim(&options.output)?;
    let volume = volume(site, &name, options)?;
    site.require_volumes([volume], Heal::Ignored)?;
    let policy = policy_of(site, &options.vm, options.policy.as_deref())?;
    // For a moment pc-borg recover may have it.
    let patience = Duration::from_secs(options.lock.lock_wait.max(10));
    let _alone = scratch::alone(site, Purpose::Files, patience)?;
    let scratch = Scratch::make(site, Purpose::Files, &name, volume)?;
    let wanted =
        Wanted { vm: &name, policy, at: options.at, small: &[], verb: "restore-file", lock: &options.lock };
    let archive = restore::copy(site, &wanted, &scratch)?.archive;
    tell(&format!("{name}: looking into {}", archive.name));
    let may_go_on = || {
        site.interrupts.check()?;
        scratch.require_room()
    };
    let (image, taken) = (scratch.at("disk.img"), scratch.at("taken"));
    let disk = Disk { image: &image, work: &scratch.directory, may_go_on: &may_go_on };
    let kind = disk.kind(&options.path).with_context(|| archive.name.clone())?;
    disk.take(kind, &options.path, &taken).with_context(|| archive.name.clone())?;
    let output_bytes = output.fill(&taken)?;
    log::info(format_args!("{}: {} out of {}", options.output.display(), options.path, archive.name));
    Ok(Answer {
        schema: "pc.borg.restore.file/1",
        vm: options.vm.clone(),
        policy: policy.name.to_string(),
        taken_at: rfc3339(archive.taken_at)?,
        archive: archive.name,
        path: options.path.clone(),
        kind: if kind == Kind::Directory { "directory" } else { "file" },
        output: options.output.display().to_string(),
        output_bytes,
        cost: Cost::since(started),
    })
}

fn volume<'a>(site: &Site<'a>, name: &Name, options: &Options) -> Result<&'a Name> {
    let cluster = site.cluster();
    if let Some(wanted) = &options.volume {
        let found = cluster.volumes.get_key_value(wanted.as_str());
        return found
            .map(|(volume, _)| volume)
            .ok_or_else(|| unknown("volume", wanted, cluster.volumes.keys()));
    }
    cluster.vms.get(name).map(|vm| &vm.volume).ok_or_else(|| {
        let first = cluster.volumes.keys().next().map_or("vms", Name::as_str);
        refused(format!("the file has no vm {name}: where may a copy of its disk lie?\n  --to {first}"))
    })
}

/// The file that somebody wants, complete or not there at all.
#[derive(Debug)]
struct Output<'a> {
    path: &'a Path,
    part: PathBuf,
    file: File,
}

impl<'a> Output<'a> {
    /// Before the long work: it is not there, and can be made.
    fn claim(path: &'a Path) -> Result<Output<'a>> {
        if path.symlink_metadata().is_ok() {
            return Err(refused(format!("{}: is there, and is not written over", path.display())));
        }
        let Some(name) = path.file_name() else {
            return Err(refused(format!("--output {}: names no file", path.display())));
        };
        let mut part = name.to_os_string();
        part.push(format!(".pc-borg-part.{}", std::process::id()));
        let part = path.with_file_name(part);
        // New, and ours: whoever else may write there has put nothing under that name.
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part);
        let file = file.with_context(|| format!("making {}", part.display()))?;
        Ok(Output { path, part, file })
    }

    /// It gets its name last; whoever made one meanwhile keeps it.
    fn fill(mut self, from: &Path) -> Result<u64> {
        let mut taken = File::open(from).with_context(|| format!("opening {}", from.display()))?;
        let writing = || format!("writing {}", self.path.display());
        let bytes = std::io::copy(&mut taken, &mut self.file).with_context(writing)?;
        self.file.sync_all().with_context(writing)?;
        naming::name(&self.part, self.path).with_context(|| format!("naming {}", self.path.display()))?;
        Ok(bytes)
    }
}

impl Drop for Output<'_> {
    fn drop(&mut self) {
        match fs::remove_file(&self.part) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                log::warning(format_args!("removing {}: {error}", self.part.display()));
            }
            // It is gone, or has its name.
            _ => (),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_is_complete_or_not_there_and_replaces_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let (path, from) = (directory.path().join("out"), directory.path().join("from"));
        fs::write(&from, "content").unwrap();
        drop(Output::claim(&path).unwrap());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing of it is left");
        assert_eq!(Output::claim(&path).unwrap().fill(&from).unwrap(), 7);
        assert_eq!(fs::read_to_string(&path).unwrap(), "content");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
        assert!(Output::claim(&path).unwrap_err().to_string().ends_with("is there, and is not written over"));
        fs::remove_file(&path).unwrap();
        let late = Output::claim(&path).unwrap();
        fs::write(&path, "somebody else's").unwrap();
        assert!(late.fill(&from).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "somebody else's");
        assert_eq!(
            Output::claim(Path::new("/")).unwrap_err().to_string(),
            "/: is there, and is not written over"
        );
    }
}
