//! What a borg that is gone has left in its own locks (borg 1.x, locking.py): a directory `lock.exclusive` with a file for whoever
//! has it, and `lock.roster`, a list of those who use the repository or the cache. Only entries that name a run of ours are
//! ever taken away, and only when that run is proven to be gone: an administrator's own borg is none of our business.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};
use pc_cli::{log, try_again, write_atomic};
use serde_json::{Map, Value};

/// Whom an entry names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The node.
    pub node: String,
    /// Its boot.
    pub boot_id: String,
    /// The process.
    pub pid: u32,
}

const PREFIX: &str = "pc-borg@";
const EXCLUSIVE: &str = "lock.exclusive";
const ROSTER: &str = "lock.roster";

/// `BORG_HOST_ID`: with the boot in it, so that a process number of an earlier one is nobody's.
pub fn host_id(node: &str, boot_id: &str) -> String {
    format!("{PREFIX}{node}@{boot_id}")
}

/// `None` for whoever is not one of ours.
fn owner(host: &str, pid: u32) -> Option<Owner> {
    let (node, boot_id) = host.strip_prefix(PREFIX)?.split_once('@')?;
    Some(Owner { node: node.into(), boot_id: boot_id.into(), pid })
}

/// `HOST.PID-THREAD`.
fn owner_of_file(name: &str) -> Option<Owner> {
    let (host, pid) = name.rsplit_once('-')?.0.rsplit_once('.')?;
    owner(host, pid.parse().ok()?)
}

/// `[HOST, PID, THREAD]`.
fn owner_of_entry(entry: &Value) -> Option<Owner> {
    owner(entry[0].as_str()?, u32::try_from(entry[1].as_u64()?).ok()?)
}

/// Takes away what those who are `gone` have left in the locks of a repository or of a cache; `host_id` is ours.
pub fn clear(directory: &Path, host_id: &str, gone: &dyn Fn(&Owner) -> bool) -> Result<()> {
    let exclusive = directory.join(EXCLUSIVE);
    let reading = || format!("reading {}", exclusive.display());
    let entries = match fs::read_dir(&exclusive) {
        Ok(entries) => entries.collect::<std::io::Result<Vec<_>>>().with_context(reading)?,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error).with_context(reading),
    };
    for entry in entries {
        let Some(owner) = entry.file_name().to_str().and_then(owner_of_file) else { continue };
        if gone(&owner) {
            remove(&entry.path())?;
            told(directory, &owner);
        }
    }
    // Somebody else's entry keeps it, as it should; a borg that comes now replaces an empty one.
    let _ = fs::remove_dir(&exclusive);
    clear_roster(directory, host_id, gone)
}

fn told(directory: &Path, Owner { node, pid, .. }: &Owner) {
    log::info(format_args!(
        "{}: took away the lock of {node}'s process {pid}, which is gone",
        directory.display()
    ));
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// borg changes its roster only while it has the exclusive lock, and so do we.
fn clear_roster(directory: &Path, host_id: &str, gone: &dyn Fn(&Owner) -> bool) -> Result<()> {
    if without(&read(directory)?, gone).1.is_empty() {
        return Ok(());
    }
    let (mine, exclusive) = (format!("{host_id}.{}-0", std::process::id()), directory.join(EXCLUSIVE));
    let made = directory.join(format!("{EXCLUSIVE}.{}.tmp", std::process::id()));
    fs::create_dir_all(&made).with_context(|| format!("making {}", made.display()))?;
    fs::write(made.join(&mine), []).with_context(|| format!("writing in {}", made.display()))?;
    // As borg does: this replaces nothing but an empty directory.
    if fs::rename(&made, &exclusive).is_err() {
        remove(&made.join(&mine))?;
        fs::remove_dir(&made).with_context(|| format!("removing {}", made.display()))?;
        return Err(try_again(format!("{}: another borg is at work", directory.display())));
    }
    let cleared = read(directory).and_then(|roster| {
        let (roster, owners) = without(&roster, gone);
        write_atomic(&directory.join(ROSTER), Value::Object(roster).to_string().as_bytes(), 0o600)?;
        for owner in &owners {
            told(directory, owner);
        }
        Ok(())
    });
    remove(&exclusive.join(&mine))?;
    let _ = fs::remove_dir(&exclusive);
    cleared
}

/// Nobody, when there is no roster or one that borg itself would take for none.
fn read(directory: &Path) -> Result<Map<String, Value>> {
    let path = directory.join(ROSTER);
    match fs::read(&path) {
        Ok(text) => Ok(serde_json::from_slice(&text).unwrap_or_default()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Map::new()),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

/// The roster without those who are gone, and who they were.
fn without(roster: &Map<String, Value>, gone: &dyn Fn(&Owner) -> bool) -> (Map<String, Value>, Vec<Owner>) {
    let (mut left, mut owners) = (roster.clone(), Vec::new());
    for entries in left.values_mut().filter_map(Value::as_array_mut) {
        entries.retain(|entry| match owner_of_entry(entry) {
            Some(owner) if gone(&owner) => {
                owners.push(owner);
                false
            }
            _ => true,
        });
    }
    (left, owners)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(files: &[&str], roster: &str) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        if !files.is_empty() {
            fs::create_dir(directory.path().join(EXCLUSIVE)).unwrap();
        }
        for file in files {
            fs::write(directory.path().join(EXCLUSIVE).join(file), "").unwrap();
        }
        fs::write(directory.path().join(ROSTER), roster).unwrap();
        directory
    }

    fn node2(owner: &Owner) -> bool {
        owner.node == "node2" && owner.boot_id == "b-2"
    }

    #[test]
    fn entries_are_read_as_borg_writes_them() {
        let owner = Owner { node: "node-2".into(), boot_id: "8da5-4712".into(), pid: 31 };
        assert_eq!(owner_of_file(&format!("{}.31-0", host_id("node-2", "8da5-4712"))), Some(owner));
        assert_eq!(owner_of_file("nas.home.arpa@1234.31-0"), None);
    }

    #[test]
    fn only_what_those_left_who_are_gone_is_taken_away() {
        let admin = r#"["nas@1", 7, 0]"#;
        let roster = format!(
            r#"{{"exclusive": [["pc-borg@node2@b-2", 5, 0]], "shared": [{admin}, ["pc-borg@node2@b-3", 6, 0]]}}"#
        );
        let there = directory(&["pc-borg@node2@b-2.5-0"], &roster);
        clear(there.path(), "pc-borg@node1@b-1", &node2).unwrap();
        assert!(!there.path().join(EXCLUSIVE).exists(), "nobody has it");
        let left = Value::Object(read(there.path()).unwrap());
        let expected: Value = serde_json::from_str(&format!(
            r#"{{"exclusive": [], "shared": [{admin}, ["pc-borg@node2@b-3", 6, 0]]}}"#
        ))
        .unwrap();
        assert_eq!(left, expected);
        assert_eq!(fs::read_dir(there.path()).unwrap().count(), 1, "no directory of ours stays");
    }

    #[test]
    fn an_administrators_borg_keeps_its_lock_and_its_roster() {
        let roster = r#"{"exclusive": [["nas@1", 7, 0], ["pc-borg@node2@b-2", 5, 0]]}"#;
        let there = directory(&["nas@1.7-0"], roster);
        let error = clear(there.path(), "pc-borg@node1@b-1", &node2).unwrap_err();
        assert!(error.is::<pc_cli::TryAgain>(), "{error:#}");
        assert!(there.path().join(EXCLUSIVE).join("nas@1.7-0").exists());
        assert_eq!(fs::read_to_string(there.path().join(ROSTER)).unwrap(), roster);
        assert_eq!(fs::read_dir(there.path()).unwrap().count(), 2);
    }
}
