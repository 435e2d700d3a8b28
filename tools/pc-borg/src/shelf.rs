//! The archives of a repository as a whole: listed, named, deleted.

use std::cell::RefCell;

use anyhow::{Result, bail};
use cluster::Keep;
use serde::Deserialize;

use crate::archive::{self, Archive, Holdings};
use crate::borg::{Borg, LOCK_WAIT};
use crate::child::{self, attend};

/// A line of `--log-json` as far as it matters here.
#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    message: String,
}

impl Borg<'_> {
    /// Every archive, oldest first.
    pub fn list(&self) -> Result<Vec<Archive>> {
        let mut command = self.command();
        command.args(["list", "--json", "--lock-wait", LOCK_WAIT, &self.repository]);
        archive::parse_list(&self.text(command, &[])?)
    }

    /// Which repository this is, and what was never finished in it.
    pub fn holdings(&self) -> Result<Holdings> {
        let mut command = self.command();
        command.args([
            "list",
            "--json",
            "--consider-checkpoints",
            "--lock-wait",
            LOCK_WAIT,
            &self.repository,
        ]);
        archive::parse_holdings(&self.text(command, &[])?)
    }

    /// Gives an archive another name.
    pub fn rename(&self, archive: &str, name: &str) -> Result<()> {
        let mut command = self.command();
        command.args(["rename", "--lock-wait", LOCK_WAIT, &self.at(archive), name]);
        self.run(command, &mut |_| Ok(()), &[]).map(drop)
    }

    /// Deletes one archive.
    pub fn delete(&self, archive: &str) -> Result<()> {
        let mut command = self.command();
        command.args(["delete", "--lock-wait", LOCK_WAIT, &self.at(archive)]);
        self.run(command, &mut |_| Ok(()), &[]).map(drop)
    }

    /// Deletes what is too many of one VM's archives; their names.
    pub fn prune(&self, vm: &str, keep: &Keep, dry_run: bool) -> Result<Vec<String>> {
        let before = self.list_of(vm)?;
        let mut command = self.command();
        command.args(["prune", "--lock-wait", LOCK_WAIT, "--list", "--glob-archives", &archive::glob(vm)]);
        command.args(keep_flags(keep));
        if dry_run {
            command.arg("--dry-run");
        }
        command.arg(&self.repository);
        if !dry_run {
            self.run(command, &mut |_| Ok(()), &[])?;
            let after = self.list_of(vm)?;
            return Ok(before.into_iter().filter(|name| !after.contains(name)).collect());
        }
        // Nothing changes: what borg would delete is only in what it says.
        let said = RefCell::new(Vec::<String>::new());
        let mut hear = |line: &str| {
            let line = serde_json::from_str::<Line>(line).map(|line| line.message).unwrap_or_default();
            said.borrow_mut().push(line);
        };
        let ended = attend(command, Some(&self.passphrase), &mut |_| Ok(()), &mut hear, self.may_go_on)?;
        if ended.status.code() != Some(0) {
            bail!("borg prune --dry-run: {}", child::how(ended.status));
        }
        let said = said.into_inner();
        let goes = |name: &String| {
            said.iter().any(|line| line.starts_with("Would prune") && line.contains(name.as_str()))
        };
        Ok(before.into_iter().filter(goes).collect())
    }

    fn list_of(&self, vm: &str) -> Result<Vec<String>> {
        let own = self.list()?.into_iter().filter(|archive| archive.vm.as_deref() == Some(vm));
        Ok(own.map(|archive| archive.name).collect())
    }
}

/// Keeping none of a kind is said by leaving it out.
fn keep_flags(keep: &Keep) -> Vec<String> {
    let flags = [("daily", keep.daily), ("weekly", keep.weekly), ("monthly", keep.monthly)];
    flags
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(kind, count)| format!("--keep-{kind}={count}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_kept_is_not_said() {
        let keep = Keep { daily: 7, weekly: 0, monthly: 12 };
        assert_eq!(keep_flags(&keep), ["--keep-daily=7", "--keep-monthly=12"]);
    }
}
