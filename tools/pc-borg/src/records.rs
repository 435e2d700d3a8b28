//! What pc-borg remembers of a policy beside its lock: a record for each VM, the key, the last check. Small JSON files on
//! the volume, written after the fact: a record that is missing makes an archive look older, never newer.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use pc_cli::{refused, try_again, write_atomic};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// `pc.borg.record/1`: the last archive of a VM, and what went wrong since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// `pc.borg.record/1`.
    pub schema: String,
    /// The VM.
    pub vm: String,
    /// The newest archive; `None`: there is none yet.
    pub last: Option<Last>,
    /// The last attempt, when it failed.
    pub failure: Option<Failure>,
}

/// The newest archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Last {
    /// Its name.
    pub archive: String,
    /// When its data was taken, RFC 3339 UTC.
    #[serde(with = "time::serde::rfc3339")]
    pub taken_at: OffsetDateTime,
    /// The node that made it.
    pub node: String,
    /// `stopped`, `frozen` or `crash`.
    pub consistency: String,
}

/// A failed attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// When, RFC 3339 UTC.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// The node that tried.
    pub node: String,
    /// What it said.
    pub error: String,
}

/// `pc.borg.key/1`: what is known of the copy of the key that lies elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// `pc.borg.key/1`.
    pub schema: String,
    /// The code on the copy that was vouched for.
    pub code: String,
    /// When, RFC 3339 UTC.
    pub acknowledged_at: String,
    /// By which node's administrator.
    pub node: String,
    /// The repository whose key it was; older records do not know it.
    #[serde(default)]
    pub repository_id: Option<String>,
}

/// `pc.borg.upkeep/1`: when a policy's repository was pruned and checked, RFC 3339 UTC.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upkeep {
    /// `pc.borg.upkeep/1`.
    pub schema: String,
    /// Pruned and compacted.
    pub pruned_at: Option<String>,
    /// Checked, and found whole.
    pub checked_at: Option<String>,
    /// Every chunk read and authenticated, and found whole.
    pub data_checked_at: Option<String>,
    /// The last check found damage: what borg said.
    pub damage: Option<String>,
}

/// `pc.borg.verified/1`: the last archive of a VM that was read from its first byte to its last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// `pc.borg.verified/1`.
    pub schema: String,
    /// The archive.
    pub archive: String,
    /// When, RFC 3339 UTC.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// The node that read it.
    pub node: String,
    /// It is not what was backed up, or cannot be read.
    pub error: Option<String>,
}

/// `pc.borg.drilled/1`: the last restore of a VM that was rehearsed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drilled {
    /// `pc.borg.drilled/1`.
    pub schema: String,
    /// When it ended, RFC 3339 UTC.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// The node that did it.
    pub node: String,
    /// It was not restored, or showed no sign of life: why.
    pub error: Option<String>,
    /// The last one that went well.
    pub proven: Option<Proven>,
}

/// A restore that came up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proven {
    /// The archive.
    pub archive: String,
    /// When, RFC 3339 UTC.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// From the beginning of the restore to the sign of life.
    pub rto_seconds: u64,
    /// How old the archive was when the restore began.
    pub rpo_seconds: u64,
}

const RECORD: &str = "pc.borg.record/1";
const VERIFIED: &str = "pc.borg.verified/1";
const DRILLED: &str = "pc.borg.drilled/1";
const KEY: &str = "pc.borg.key/1";
const UPKEEP: &str = "pc.borg.upkeep/1";

/// The records of one policy.
#[derive(Debug, Clone)]
pub struct Records(pub PathBuf);

impl Records {
    /// Digests and time stamps of a VM's segments, pc-segments' own file.
    pub fn segments(&self, vm: &str) -> PathBuf {
        self.0.join(format!("vms/{vm}.segments"))
    }

    /// The passphrase, sealed to the unlock servers: useless to whoever has only the disks.
    pub fn passphrase(&self) -> PathBuf {
        self.0.join("passphrase.jwe")
    }

    /// borg's own files.
    pub fn base(&self) -> PathBuf {
        self.0.join("borg")
    }

    /// One VM's record.
    pub fn vm(&self, vm: &str) -> Result<Record> {
        let found: Option<Record> = read(&self.0.join(format!("vms/{vm}.json")), RECORD)?;
        Ok(found.unwrap_or_else(|| Record {
            schema: RECORD.into(),
            vm: vm.into(),
            last: None,
            failure: None,
        }))
    }

    /// A new archive.
    pub fn succeeded(&self, vm: &str, last: Last) -> Result<()> {
        self.write_vm(&Record { schema: RECORD.into(), vm: vm.into(), last: Some(last), failure: None })
    }

    /// An attempt that failed.
    pub fn failed(&self, vm: &str, failure: Failure) -> Result<()> {
        let record = self.vm(vm)?;
        self.write_vm(&Record { failure: Some(failure), ..record })
    }

    /// What was verified last of a VM.
    pub fn verified(&self, vm: &str) -> Result<Option<Verified>> {
        read(&self.0.join(format!("vms/{vm}.verified.json")), VERIFIED)
    }

    /// Notes it.
    pub fn set_verified(
        &self,
        vm: &str,
        archive: &str,
        node: &str,
        at: OffsetDateTime,
        error: Option<String>,
    ) -> Result<()> {
        let (archive, node) = (archive.into(), node.into());
        let verified = Verified { schema: VERIFIED.into(), archive, at, node, error };
        self.write(&format!("vms/{vm}.verified.json"), &verified)
    }

    /// What was rehearsed last of a VM.
    pub fn drilled(&self, vm: &str) -> Result<Option<Drilled>> {
        read(&self.0.join(format!("vms/{vm}.drilled.json")), DRILLED)
    }

    /// Notes a rehearsal; one that failed keeps what the last good one has proven.
    pub fn set_drilled(
        &self,
        vm: &str,
        node: &str,
        at: OffsetDateTime,
        ended: Result<Proven, String>,
    ) -> Result<()> {
        let (proven, error) = match ended {
            Ok(proven) => (Some(proven), None),
            Err(error) => (self.drilled(vm)?.and_then(|last| last.proven), Some(error)),
        };
        let drilled = Drilled { schema: DRILLED.into(), at, node: node.into(), error, proven };
        self.write(&format!("vms/{vm}.drilled.json"), &drilled)
    }

    fn write_vm(&self, record: &Record) -> Result<()> {
        self.write(&format!("vms/{}.json", record.vm), record)
    }

    /// The key's record.
    pub fn key(&self) -> Result<Option<KeyRecord>> {
        read(&self.0.join("key.json"), KEY)
    }

    /// Somebody has a copy of the key of this repository.
    pub fn acknowledge(
        &self,
        code: &str,
        node: &str,
        at: OffsetDateTime,
        repository_id: &str,
    ) -> Result<KeyRecord> {
        let record = KeyRecord {
            schema: KEY.into(),
            code: code.into(),
            acknowledged_at: crate::archive::rfc3339(at)?,
            node: node.into(),
            repository_id: Some(repository_id.into()),
        };
        self.set_key(&record)?;
        Ok(record)
    }

    /// Replaces the key's record.
    pub fn set_key(&self, record: &KeyRecord) -> Result<()> {
        self.write("key.json", record)
    }

    /// The copy that somebody has is of a key that is no longer used.
    pub fn forget_key(&self) -> Result<()> {
        let path = self.0.join("key.json");
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(unusable(&path, &error)),
            _ => Ok(()),
        }
    }

    /// When it was pruned and checked.
    pub fn upkeep(&self) -> Result<Upkeep> {
        let found: Option<Upkeep> = read(&self.0.join("upkeep.json"), UPKEEP)?;
        Ok(found.unwrap_or_else(|| Upkeep { schema: UPKEEP.into(), ..Upkeep::default() }))
    }

    /// Notes it.
    pub fn set_upkeep(&self, upkeep: &Upkeep) -> Result<()> {
        self.write("upkeep.json", upkeep)
    }

    fn write<T: Serialize>(&self, name: &str, value: &T) -> Result<()> {
        let path = self.0.join(name);
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(|error| unusable(directory, &error))?;
        }
        let mut text = serde_json::to_vec_pretty(value).context("writing a record as JSON")?;
        text.push(b'\n');
        write_atomic(&path, &text, 0o600)
    }
}

/// A record, `None` when it was never written.
fn read<T: DeserializeOwned>(path: &Path, schema: &str) -> Result<Option<T>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unusable(path, &error)),
    };
    let unreadable = |what: String| refused(format!("{0}: {what}\n  rm {0}", path.display()));
    let value: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))?;
    if value["schema"] != schema {
        return Err(unreadable(format!("its schema is {}, not {schema:?}", value["schema"])));
    }
    serde_json::from_value(value).map(Some).map_err(|error| unreadable(error.to_string()))
}

fn unusable(path: &Path, error: &std::io::Error) -> anyhow::Error {
    try_again(format!("{}: {error}\n  pc-gluster status", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn a_failure_leaves_the_last_archive_and_a_success_ends_it() {
        let directory = tempfile::tempdir().unwrap();
        let records = Records(directory.path().into());
        assert_eq!(records.vm("mail").unwrap().last, None);
        let last = Last {
            archive: "mail.2026-01-01T00:00:00Z".into(),
            taken_at: datetime!(2026-01-01 0:00 UTC),
            node: "node1".into(),
            consistency: "stopped".into(),
        };
        records.succeeded("mail", last.clone()).unwrap();
        let failure =
            Failure { at: datetime!(2026-01-02 0:00 UTC), node: "node2".into(), error: "full".into() };
        records.failed("mail", failure.clone()).unwrap();
        let record = records.vm("mail").unwrap();
        assert_eq!((record.last.as_ref(), record.failure.as_ref()), (Some(&last), Some(&failure)));
        records.succeeded("mail", last).unwrap();
        assert_eq!(records.vm("mail").unwrap().failure, None);
    }

    #[test]
    fn a_record_that_cannot_be_read_is_not_guessed() {
        let directory = tempfile::tempdir().unwrap();
        let records = Records(directory.path().into());
        fs::write(directory.path().join("key.json"), r#"{"schema": "pc.borg.key/2"}"#).unwrap();
        let error = records.key().unwrap_err();
        assert!(error.is::<pc_cli::Refused>());
        assert!(
            error.to_string().contains("its schema is \"pc.borg.key/2\", not \"pc.borg.key/1\""),
            "{error}"
        );
    }
}
