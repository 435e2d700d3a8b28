//! The descriptor by which QEMU has a disk open on a Gluster volume, and the mount that it belongs to.
//!
//! A client that is ended (an update of its package does that) takes its mount away from under a QEMU that has files open there,
//! and the volume is mounted again by another client, of which these descriptors know nothing: they fail for ever.
//!
//! That a descriptor answers ENOTCONN proves nothing: a client that lives and reaches no brick says the same. So nobody asks the
//! descriptor, which could hang as well; the kernel's tables tell, and touch no file system.

use std::fs;
use std::io;
use std::path::Path;

/// One line of a table of mounts (`proc_pid_mountinfo(5)`).
#[derive(Debug, PartialEq, Eq)]
struct Mounted<'a> {
    id: &'a str,
    /// Every client has one of its own: the kernel gives none away that a lost mount still has.
    device: &'a str,
    point: &'a str,
    kind: &'a str,
}

fn mounted(line: &str) -> Option<Mounted<'_>> {
    let (fields, rest) = line.split_once(" - ")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let kind = rest.split(' ').next()?;
    Some(Mounted { id: fields.first()?, device: fields.get(2)?, point: fields.get(4)?, kind })
}

/// What the kernel shows of a process.
#[derive(Debug, Default)]
struct Seen {
    /// Path and `fdinfo` of each descriptor.
    descriptors: Vec<(String, String)>,
    /// Its own table of mounts and ours: libvirt gives QEMU a namespace, in which the same mount has another number, and may
    /// hand it files that were opened outside.
    tables: [String; 2],
}

/// Whether the disk is open, and nowhere on what is mounted at `mount` now. `false` also while nothing is mounted there, and of
/// a file system of the kernel's own, which stays the same however often it is mounted.
fn is_lost(seen: &Seen, mount: &str, disk: &str) -> bool {
    let [_, ours] = &seen.tables;
    let now = ours.lines().filter_map(mounted).rfind(|line| line.point == mount);
    let Some(now) = now.filter(|now| now.kind.starts_with("fuse")) else { return false };
    // Once its mount is gone, a path begins where that did.
    let within = disk.strip_prefix(mount).unwrap_or(disk);
    let is_its = |(path, _): &&(String, String)| path == disk || path == within;
    let ids: Vec<&str> =
        seen.descriptors.iter().filter(is_its).filter_map(|(_, info)| mount_id(info)).collect();
    let is_on_it = |id: &&str| {
        let mut mounts = seen.tables.iter().flat_map(|table| table.lines()).filter_map(mounted);
        mounts.any(|line| line.id == *id && line.device == now.device)
    };
    !ids.is_empty() && !ids.iter().any(is_on_it)
}

/// The number behind `mnt_id:` (`proc_pid_fdinfo(5)`).
fn mount_id(info: &str) -> Option<&str> {
    info.lines().find_map(|line| line.strip_prefix("mnt_id:")).map(str::trim)
}

/// Whether the disk of a process is open on a mount that is no more. `proc` is the machine's.
pub fn lost(proc: &Path, pid: u32, mount: &str, disk: &str) -> io::Result<bool> {
    let process = proc.join(pid.to_string());
    let table = |path: &Path| fs::read_to_string(path);
    let tables = [table(&process.join("mountinfo"))?, table(&proc.join("self/mountinfo"))?];
    let mut seen = Seen { tables, ..Seen::default() };
    for entry in fs::read_dir(process.join("fd"))? {
        let entry = entry?;
        let info = process.join("fdinfo").join(entry.file_name());
        let both =
            fs::read_link(entry.path()).and_then(|path| fs::read_to_string(info).map(|info| (path, info)));
        match both {
            Ok((path, info)) => seen.descriptors.push((path.to_string_lossy().into_owned(), info)),
            // Closed since.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(is_lost(&seen, mount, disk))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Recorded with Linux 6.18: a process in a namespace of its own, a slave as libvirt makes it, has a file open on a FUSE mount
    // (bindfs in the place of glusterfs); its client is killed, the mount taken away with umount -l, and made again.
    const HERE: &str = "88 67 0:39 / /mnt/vms rw,relatime master:23 - fuse.glusterfs localhost:/vms rw\n";
    const OURS: &str = "65 44 0:39 / /mnt/vms rw,relatime shared:23 - fuse.glusterfs localhost:/vms rw\n";
    const HERE_AGAIN: &str =
        "89 67 0:40 / /mnt/vms rw,relatime master:23 - fuse.glusterfs localhost:/vms rw\n";
    const OURS_AGAIN: &str =
        "65 44 0:40 / /mnt/vms rw,relatime shared:23 - fuse.glusterfs localhost:/vms rw\n";
    const INFO: &str = "pos:\t0\nflags:\t0100002\nmnt_id:\t88\nino:\t11321619\n";
    const DISK: &str = "/mnt/vms/vms/mail/disk.img";
    const CUT: &str = "/vms/mail/disk.img";

    fn judged(path: &str, theirs: &str, ours: &str) -> bool {
        let other = ("/dev/kvm".to_string(), "pos:\t0\nflags:\t02\nmnt_id:\t7\n".to_string());
        let seen = Seen {
            descriptors: vec![other, (path.into(), INFO.into())],
            tables: [theirs.into(), format!("24 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n{ours}")],
        };
        is_lost(&seen, "/mnt/vms", DISK)
    }

    #[test]
    fn a_disk_is_lost_with_its_mount_and_not_before_there_is_another() {
        assert!(!judged(DISK, HERE, OURS));
        assert!(judged(CUT, HERE_AGAIN, OURS_AGAIN));
        // Its namespace heard of neither the end nor the beginning.
        assert!(judged(DISK, HERE, OURS_AGAIN));
        // The client has died, and nobody has mounted it again yet; or the mount is gone altogether.
        assert!(!judged(CUT, "", ""));
        assert!(!judged(DISK, HERE, ""));
        // Opened outside its namespace.
        assert!(!judged(DISK, "", &OURS.replace("65 ", "88 ")));
    }

    #[test]
    fn what_is_not_known_to_be_lost_is_not() {
        assert!(!judged("/vms/web/disk.img", HERE_AGAIN, OURS_AGAIN), "another's");
        let disk = |ours: &str| ours.replace("fuse.glusterfs localhost:/vms", "xfs /dev/mapper/vms");
        assert!(!judged(CUT, &disk(HERE_AGAIN), &disk(OURS_AGAIN)), "a disk's own file system");
        // One of two descriptors is still good.
        let descriptors = vec![(CUT.to_string(), INFO.to_string()), (DISK.into(), INFO.replace("88", "89"))];
        let seen = Seen { descriptors, tables: [HERE_AGAIN.into(), OURS_AGAIN.into()] };
        assert!(!is_lost(&seen, "/mnt/vms", DISK));
    }

    #[test]
    fn a_process_is_read_as_the_kernel_shows_it() {
        let proc = tempfile::tempdir().unwrap();
        let at = |path: &str| proc.path().join(path);
        for directory in ["self", "4711/fd", "4711/fdinfo"] {
            fs::create_dir_all(at(directory)).unwrap();
        }
        fs::write(at("self/mountinfo"), OURS_AGAIN).unwrap();
        fs::write(at("4711/mountinfo"), HERE_AGAIN).unwrap();
        std::os::unix::fs::symlink(CUT, at("4711/fd/9")).unwrap();
        fs::write(at("4711/fdinfo/9"), INFO).unwrap();
        assert!(lost(proc.path(), 4711, "/mnt/vms", DISK).unwrap());
        fs::write(at("self/mountinfo"), OURS).unwrap();
        fs::write(at("4711/mountinfo"), HERE).unwrap();
        assert!(!lost(proc.path(), 4711, "/mnt/vms", DISK).unwrap());
        assert!(lost(proc.path(), 4712, "/mnt/vms", DISK).is_err(), "it has ended");
        // This process, on the machine's own.
        assert!(!lost(Path::new("/proc"), std::process::id(), "/mnt/vms", DISK).unwrap());
    }
}
