//! All calls of borg. The passphrase goes through its stdin, never through argv or the environment.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use cluster::Bytes;
use pc_cli::log;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::child::{self, attend, bound_to_us};
use crate::fault::{Fault, Said};

/// A repository as this node reaches it.
pub struct Borg<'a> {
    /// A path or `ssh://` URL.
    pub repository: String,
    /// The policy, for messages that name the next command.
    pub policy: String,
    /// Cache, configuration, security data: on the volume, so that a VM that moved stays incremental.
    pub base: PathBuf,
    /// Names this node and its boot in borg's own locks.
    pub host_id: String,
    /// Opens the repository.
    pub passphrase: Zeroizing<Vec<u8>>,
    /// Bytes a second that may be sent to a server.
    pub limit: Option<Bytes>,
    /// Asked all the time while borg works.
    pub may_go_on: &'a dyn Fn() -> Result<()>,
}

/// What one archive cost, as `borg create --json` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Stats {
    /// All that is in the archive.
    pub original_size: u64,
    /// What the repository grew by.
    pub deduplicated_size: u64,
    /// Files in it.
    pub nfiles: u64,
}

#[derive(Deserialize)]
struct Created {
    archive: CreatedArchive,
}

#[derive(Deserialize)]
struct CreatedArchive {
    stats: Stats,
}

/// One line of `--log-json`.
#[derive(Debug, Deserialize)]
struct LogLine {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    levelname: String,
    #[serde(default)]
    message: String,
    msgid: Option<String>,
    #[serde(default)]
    original_size: u64,
    #[serde(default)]
    finished: bool,
}

/// What to put into an archive.
#[derive(Debug)]
pub struct Create<'a> {
    /// Its name.
    pub archive: &'a str,
    /// The directory that the paths are relative to: always the same for one VM.
    pub directory: &'a Path,
    /// Directories below it, in the order in which they are stored.
    pub paths: &'a [&'a str],
    /// One chunk for each segment.
    pub segment_bytes: u64,
    /// One files cache for each VM.
    pub vm: &'a str,
}

impl Borg<'_> {
    /// borg, with what every call of it needs.
    pub fn command(&self) -> Command {
        // A killed borg leaves at most its lock behind, which the next one recognises as a dead process's.
        self.command_ended_by("KILL")
    }

    fn command_ended_by(&self, signal: &str) -> Command {
        let mut command = bound_to_us("borg", signal);
        command.arg("--log-json");
        for (name, _) in std::env::vars_os() {
            // What somebody set for a borg of their own means another repository.
            if name.to_string_lossy().starts_with("BORG_") && !KEPT.iter().any(|kept| name == *kept) {
                command.env_remove(name);
            }
        }
        command.env("BORG_BASE_DIR", &self.base);
        // Exit codes 0, 1, 2 in every version; which error it was is in the log lines.
        command.env("BORG_EXIT_CODES", "legacy");
        if !KEPT.iter().any(|kept| std::env::var_os(kept).is_some()) {
            // Nobody answers a question, and a dead server is noticed.
            command.env(
                "BORG_RSH",
                "ssh -o BatchMode=yes -o ConnectTimeout=20 -o ServerAliveInterval=20 -o ServerAliveCountMax=3",
            );
        }
        command.env("BORG_HOST_ID", &self.host_id);
        command.env("BORG_PASSPHRASE_FD", "0");
        command
    }

    /// Runs borg to its end; `allow`: exit codes beside 0 that are answers.
    pub fn run(
        &self,
        command: Command,
        out: &mut dyn FnMut(&[u8]) -> Result<()>,
        allow: &[i32],
    ) -> Result<i32> {
        self.run_heard(command, out, &mut |_| (), allow)
    }

    /// Runs borg to its end and turns what it says into one error.
    fn run_heard(
        &self,
        command: Command,
        out: &mut dyn FnMut(&[u8]) -> Result<()>,
        progress: &mut dyn FnMut(u64),
        allow: &[i32],
    ) -> Result<i32> {
        self.attempt(command, out, progress, allow)?
            .map_err(|fault| fault.told(&self.policy, &self.repository))
    }

    /// The outer error is ours (a signal, a lost token, a full disk where `out` writes), the inner one borg's.
    fn attempt(
        &self,
        command: Command,
        out: &mut dyn FnMut(&[u8]) -> Result<()>,
        progress: &mut dyn FnMut(u64),
        allow: &[i32],
    ) -> Result<Result<i32, Fault>> {
        let said = RefCell::new(Vec::<Said>::new());
        let mut hear = |line: &str| match serde_json::from_str::<LogLine>(line) {
            Ok(line) if line.kind == "archive_progress" && !line.finished => progress(line.original_size),
            _ => said.borrow_mut().extend(message(line)),
        };
        let ended = attend(command, Some(&self.passphrase), out, &mut hear, self.may_go_on)?;
        let said = said.into_inner();
        match ended.status.code() {
            Some(code) if code == 0 || allow.contains(&code) => {
                for (_, _, message) in said.iter().filter(|(level, ..)| level == "WARNING") {
                    log::debug(format_args!("borg: {}", message.trim()));
                }
                Ok(Ok(code))
            }
            _ => Ok(Err(Fault::of(&said, &child::how(ended.status)))),
        }
    }

    /// The error of a borg that has `ended` so, and wrote these lines to its stderr.
    pub fn fault(&self, lines: &[String], ended: &str) -> anyhow::Error {
        let said: Vec<Said> = lines.iter().filter_map(|line| message(line)).collect();
        Fault::of(&said, ended).told(&self.policy, &self.repository)
    }

    /// What borg prints.
    pub fn text(&self, command: Command, allow: &[i32]) -> Result<Zeroizing<Vec<u8>>> {
        let mut text = Zeroizing::new(Vec::new());
        self.run(
            command,
            &mut |bytes| {
                text.extend_from_slice(bytes);
                Ok(())
            },
            allow,
        )?;
        Ok(text)
    }

    /// An archive as borg is told.
    pub fn at(&self, archive: &str) -> String {
        format!("{}::{archive}", self.repository)
    }

    /// Makes the repository, encrypted, unless there is one. `true` when it was made.
    pub fn init(&self) -> Result<bool> {
        let mut look = self.command();
        look.args(["list", "--short", "--lock-wait", LOCK_WAIT, &self.repository]);
        match self.attempt(look, &mut |_| Ok(()), &mut |_| (), &[])? {
            Ok(_) => return Ok(false),
            Err(fault) if fault.is_missing() => (),
            Err(fault) => return Err(fault.told(&self.policy, &self.repository)),
        }
        let mut command = self.command();
        command.args(["init", "--encryption", "repokey-blake2", "--make-parent-dirs", &self.repository]);
        self.run(command, &mut |_| Ok(()), &[])?;
        Ok(true)
    }

    /// The key, encrypted to the passphrase, as `borg key import` takes it.
    pub fn key(&self) -> Result<Zeroizing<Vec<u8>>> {
        let mut command = self.command();
        command.args(["key", "export", "--lock-wait", LOCK_WAIT, &self.repository]);
        self.text(command, &[])
    }

    /// Makes an archive. With a warning of borg (a file that could not be read) it is no archive, and is deleted.
    pub fn create(&self, create: &Create, progress: &mut dyn FnMut(u64)) -> Result<Stats> {
        let mut command = self.command();
        command
            .env("BORG_FILES_CACHE_SUFFIX", create.vm)
            .current_dir(create.directory)
            .args(["create", "--json", "--progress", "--lock-wait", LOCK_WAIT])
            .args(["--noxattrs", "--noacls", "--noflags", "--numeric-ids"])
            .args(["--chunker-params", &format!("fixed,{}", create.segment_bytes)])
            .args(self.limit.iter().flat_map(|limit| ["--upload-ratelimit".into(), kibibytes(*limit)]))
            .arg(self.at(create.archive))
            .args(create.paths);
        let mut text = Vec::new();
        let mut keep = |bytes: &[u8]| {
            text.extend_from_slice(bytes);
            Ok(())
        };
        let code = self.run_heard(command, &mut keep, progress, &[1])?;
        if code != 0 {
            self.delete(create.archive)?;
            bail!("borg could not read everything: no archive was kept");
        }
        let created: Created = serde_json::from_slice(&text).context("reading what borg create said")?;
        Ok(created.archive.stats)
    }

    /// Writes the content of what is at `path` of an archive, one file after the other, to `out`.
    pub fn extract(&self, archive: &str, path: &str, out: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        self.extract_allowing(archive, path, out, &[])
    }

    /// One small file of an archive; empty when there is none, which borg only warns about.
    pub fn extract_file(&self, archive: &str, path: &str) -> Result<Vec<u8>> {
        let mut content = Vec::new();
        let mut keep = |bytes: &[u8]| {
            content.extend_from_slice(bytes);
            if content.len() > SMALL {
                bail!("{path} in {archive} is larger than any such file is");
            }
            Ok(())
        };
        self.extract_allowing(archive, path, &mut keep, &[1])?;
        Ok(content)
    }

    fn extract_allowing(
        &self,
        archive: &str,
        path: &str,
        out: &mut dyn FnMut(&[u8]) -> Result<()>,
        allow: &[i32],
    ) -> Result<()> {
        let mut command = self.command();
        command.args(["extract", "--stdout", "--lock-wait", LOCK_WAIT, &self.at(archive), path]);
        self.run(command, out, allow).map(drop)
    }

    /// Gives the space of deleted archives back to the file system.
    pub fn compact(&self) -> Result<()> {
        let mut command = self.command();
        command.args(["compact", "--lock-wait", LOCK_WAIT, &self.repository]);
        self.run(command, &mut |_| Ok(()), &[]).map(drop)
    }

    /// Checks the repository; `data` also reads, decrypts and authenticates every chunk.
    pub fn check(&self, data: bool) -> Result<()> {
        let mut command = self.command();
        command.args(["check", "--lock-wait", LOCK_WAIT]);
        if data {
            command.arg("--verify-data");
        }
        command.arg(&self.repository);
        self.run(command, &mut |_| Ok(()), &[]).map(drop)
    }

    /// `borg mount` in the foreground, until somebody unmounts it or we are ended.
    pub fn mount(&self, archive: &str, directory: &Path) -> Result<()> {
        self.run(self.mount_command(archive, directory, "TERM"), &mut |_| Ok(()), &[]).map(drop)
    }

    /// The same for whoever starts it himself: it ends when we are gone, with `signal`.
    pub fn mount_command(&self, archive: &str, directory: &Path, signal: &str) -> Command {
        let mut command = self.command_ended_by(signal);
        command.args(["mount", "--foreground", "--lock-wait", LOCK_WAIT, "-o", "ro", &self.at(archive)]);
        command.arg(directory);
        command
    }
}

/// What a line of its stderr says.
fn message(line: &str) -> Option<Said> {
    match serde_json::from_str::<LogLine>(line) {
        Ok(line) if line.kind == "log_message" => Some((line.levelname, line.msgid, line.message)),
        // Python's own words when something is very wrong, or ssh's.
        Err(_) if !line.is_empty() => Some(("ERROR".into(), None, line.to_string())),
        Ok(_) | Err(_) => None,
    }
}

/// What borg counts in; of 0 it would take that nothing is limited.
fn kibibytes(limit: Bytes) -> String {
    (limit.0 / 1024).max(1).to_string()
}

/// Variables of borg's that are about the way to a remote repository, not about which one it is.
const KEPT: &[&str] = &["BORG_RSH", "BORG_REMOTE_PATH"];

/// More than any file that is read into memory: the digests of 2 TiB are 160 MB.
const SMALL: usize = 1 << 30;

/// Seconds; our own lock comes first, so that borg's is free unless somebody uses borg by hand.
pub const LOCK_WAIT: &str = "30";
