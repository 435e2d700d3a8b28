//! What is mounted where (`proc_pid_mountinfo(5)`), and the directory beneath.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::fs::IFlags;
use xshell::{Shell, cmd};

/// The last mount at a mount point: its device number and its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// `MAJOR:MINOR`.
    pub number: String,
    /// What was mounted.
    pub source: String,
}

/// Finds what is mounted at `point`.
pub fn at(point: &str) -> Result<Option<Mounted>> {
    let path = "/proc/self/mountinfo";
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
    Ok(find(&text, point))
}

fn find(text: &str, point: &str) -> Option<Mounted> {
    let entry = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(2);
        let number = fields.next()?.to_string();
        let place = unescape(fields.nth(1)?);
        let source = unescape(after.split(' ').nth(1)?);
        (place == point).then_some(Mounted { number, source })
    };
    text.lines().filter_map(entry).next_back()
}

/// Space, tab, newline and backslash are written as three octal digits.
fn unescape(field: &str) -> String {
    field.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

/// Mounts without systemd: on a machine that has none, or a brick that no unit knows yet.
pub fn mount(sh: &Shell, device: &str, options: &str, point: &Path) -> Result<()> {
    let command = cmd!(sh, "mount -t xfs -o {options} {device} {point}");
    let run = pc_run::run(command).deadline(Duration::from_secs(300));
    run.output().with_context(|| format!("mounting {}", point.display()))?;
    Ok(())
}

/// Whether this process has a mount namespace of its own, as sandboxed services have; where that cannot be
/// told (another sandbox hides the first process) it has.
pub fn is_private() -> bool {
    let namespace = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
    namespace("1").is_none_or(|first| namespace("self") != Some(first))
}

/// Whether nothing can be written into an unmounted mount point by mistake: it is immutable, or its file
/// system has no such flag.
pub fn is_ready(directory: &Path) -> Result<bool> {
    let file = std::fs::File::open(directory).with_context(|| format!("opening {}", directory.display()))?;
    Ok(rustix::fs::ioctl_getflags(&file).map_or(true, |flags| flags.contains(IFlags::IMMUTABLE)))
}

/// Makes a mount point that nothing can be written into while nothing is mounted on it.
/// `immutable` is false below a test's root, which could not be removed any more.
pub fn make_ready(directory: &Path, immutable: bool) -> Result<()> {
    std::fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
    let beneath = entries(directory)?;
    if let Some(first) = beneath.first() {
        return Err(pc_cli::refused(format!(
            "{} holds files ({}, ...) that a mount would hide\n  move them away",
            directory.display(),
            first.display()
        )));
    }
    let file = std::fs::File::open(directory).with_context(|| format!("opening {}", directory.display()))?;
    let Ok(flags) = rustix::fs::ioctl_getflags(&file) else { return Ok(()) };
    if !immutable {
        return Ok(());
    }
    match rustix::fs::ioctl_setflags(&file, flags | IFlags::IMMUTABLE) {
        // A file system that shows flags and takes none (overlayfs on some): nothing more can be done.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOTTY) => Ok(()),
        other => other.with_context(|| format!("making {} immutable", directory.display())),
    }
}

/// What lies in a directory.
pub fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let listing = std::fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))?;
    listing
        .map(|entry| {
            entry.map(|entry| entry.path()).with_context(|| format!("reading {}", directory.display()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDED: &str = "\
29 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
98 29 253:4 / /srv/bricks/vms/virtio-d1 rw,noatime shared:52 - xfs /dev/mapper/pc--virtio--d1-brick rw,inode64
99 29 0:44 / /mnt/a\\040b rw - tmpfs tmpfs rw
100 29 0:45 / /mnt/a\\040b rw - fuse.glusterfs localhost:/vms rw
";

    #[test]
    fn the_last_mount_counts() {
        let brick = find(RECORDED, "/srv/bricks/vms/virtio-d1").unwrap();
        assert_eq!(
            (brick.number.as_str(), brick.source.as_str()),
            ("253:4", "/dev/mapper/pc--virtio--d1-brick")
        );
        assert_eq!(find(RECORDED, "/mnt/a b").unwrap().source, "localhost:/vms");
        assert_eq!(find(RECORDED, "/srv"), None);
    }

    #[test]
    fn files_beneath_a_mount_point_are_a_refusal() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("stray"), "x").unwrap();
        let error = make_ready(directory.path(), true).unwrap_err();
        assert!(error.is::<pc_cli::Refused>() && error.to_string().contains("stray"));
    }
}
