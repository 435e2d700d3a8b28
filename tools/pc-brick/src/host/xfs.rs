//! XFS: mkfs.xfs(8), and `xfs_db(8)` to tell a finished file system from an interrupted one.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use xshell::{Shell, cmd};

/// What a super block says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuperBlock {
    /// mkfs sets `sb_inprogress` first and clears it last (XFS Algorithms & Data Structures, superblocks).
    pub complete: bool,
    /// UUID of the file system.
    pub uuid: String,
}

/// Reads the super block; `None` when there is none. Exit codes other than 0: not XFS.
pub fn super_block(sh: &Shell, device: &Path) -> Result<Option<SuperBlock>> {
    let command = cmd!(sh, "xfs_db -r -c 'sb 0' -c 'print inprogress uuid' {device}");
    match pc_run::run(command).deadline(Duration::from_secs(60)).output() {
        Ok(output) => Ok(parse(&output.text())),
        Err(error) if error.code().is_some() => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading the super block of {}", device.display())),
    }
}

fn parse(text: &str) -> Option<SuperBlock> {
    let value = |name: &str| {
        text.lines()
            .filter_map(|line| line.split_once(" = "))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    };
    Some(SuperBlock { complete: value("inprogress")? == "0", uuid: value("uuid")?.trim().to_string() })
}

/// Whether a foreign file system is a brick: Gluster keeps `.glusterfs` at a brick's top, which is the file
/// system's top or, by custom, `brick` in it. Only for the wording of a refusal, so that no failure matters.
pub fn is_gluster(sh: &Shell, device: &Path) -> bool {
    ["ls /", "ls /brick"].into_iter().any(|list| {
        let run = pc_run::run(cmd!(sh, "xfs_db -r -c {list} {device}")).deadline(Duration::from_secs(20));
        run.read().is_ok_and(|text| text.split_whitespace().any(|word| word == ".glusterfs"))
    })
}

/// Makes the file system. Inodes of 512 bytes hold Gluster's attributes; a new thin volume has nothing to
/// discard (`-K`). `force` is for the remains of an interrupted mkfs only.
pub fn make(sh: &Shell, device: &Path, uuid: &str, label: &str, force: bool) -> Result<()> {
    let force: &[&str] = if force { &["-f"] } else { &[] };
    let uuid = format!("uuid={uuid}");
    // XFS labels have at most 12 characters.
    let label: String = label.chars().take(12).collect();
    let command = cmd!(sh, "mkfs.xfs -q -K {force...} -m {uuid} -i size=512 -L {label} {device}");
    let run = pc_run::run(command).deadline(Duration::from_secs(600));
    run.output().with_context(|| format!("making the file system on {}", device.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_super_blocks() {
        // xfs_db 6.1.
        let text = "inprogress = 0\nuuid = 8c1a67b0-42a5-4a4e-9f0e-0d5d6a3a0c11\n";
        let found = parse(text).unwrap();
        assert_eq!((found.complete, found.uuid.as_str()), (true, "8c1a67b0-42a5-4a4e-9f0e-0d5d6a3a0c11"));
        assert!(!parse(&text.replace("= 0", "= 1")).unwrap().complete);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn the_real_mkfs_keeps_the_uuid_and_needs_force_over_itself() {
        let sh = Shell::new().unwrap();
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(400 << 20).unwrap();
        assert_eq!(super_block(&sh, image.path()).unwrap(), None);
        let uuid = "8c1a67b0-42a5-4a4e-9f0e-0d5d6a3a0c11";
        make(&sh, image.path(), uuid, "a-volume-with-a-long-name", false).unwrap();
        assert_eq!(
            super_block(&sh, image.path()).unwrap(),
            Some(SuperBlock { complete: true, uuid: uuid.into() })
        );
        assert!(make(&sh, image.path(), uuid, "x", false).is_err());
        make(&sh, image.path(), uuid, "x", true).unwrap();
    }
}
