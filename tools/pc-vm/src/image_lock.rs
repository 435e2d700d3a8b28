//! QEMU's lock on a disk in use, as a second QEMU would meet it. Nothing is locked here.

use std::fs::File;
use std::path::Path;

// Not rustix: its answer for a lock of an open file description, which has no process, is a panic.
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// QEMU locks single bytes, one for each thing that it does with an image and one for each that it leaves to nobody else
/// (`RAW_LOCK_PERM_BASE` and `RAW_LOCK_SHARED_BASE` in its block/file-posix.c).
const FIRST: i64 = 100;
/// Both rows of them.
const BYTES: i64 = 200;

/// Whether anybody holds one of these; `None` when that cannot be told. On a replicated volume one brick answers, as it
/// does whoever would lock: a brick that was restarted knows no lock from before.
pub fn is_held(disk: &Path) -> Option<bool> {
    let file = File::open(disk).ok()?;
    let (write, free) = (i16::try_from(libc::F_WRLCK).ok()?, i16::try_from(libc::F_UNLCK).ok()?);
    let mut lock = libc::flock { l_type: write, l_whence: 0, l_start: FIRST, l_len: BYTES, l_pid: 0 };
    fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock)).ok()?;
    Some(lock.l_type != free)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn qemus_own_lock_is_seen_and_its_loss() {
        let directory = tempfile::tempdir().unwrap();
        let disk = directory.path().join("disk.img");
        assert_eq!(is_held(&disk), None);
        File::create(&disk).unwrap().set_len(1 << 20).unwrap();
        assert_eq!(is_held(&disk), Some(false));
        // It has the image open until its standard input ends.
        let mut qemu = Command::new("qemu-io")
            .args(["-f", "raw"])
            .arg(&disk)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let until = Instant::now() + Duration::from_secs(30);
        while is_held(&disk) != Some(true) {
            assert!(Instant::now() < until, "qemu-io took no lock");
            std::thread::sleep(Duration::from_millis(10));
        }
        qemu.kill().unwrap();
        qemu.wait().unwrap();
        assert_eq!(is_held(&disk), Some(false));
    }
}
