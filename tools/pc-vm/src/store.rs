//! A VM's directory on its volume: is the volume there, who holds the lock, who owns the VM, what lies in it.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::Duration;

use anyhow::{Context, Result};
use cluster::view::paths;
use pc_cli::{log, refused, try_again, write_atomic};
use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::io::Errno;

use crate::image_lock;
use crate::owner::{Owner, SCHEMA};
use crate::places::Places;

mod unfinished;

/// The files of one VM, below the machine's root.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    vm: String,
    places: Places,
    carrier: Carrier,
}

/// Who makes and mounts its volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// This node alone: pc-brick.
    Disk,
    /// Several nodes: pc-gluster.
    Nodes,
}

impl Carrier {
    /// Where to look when something is wrong with it.
    fn remedy(self) -> &'static str {
        match self {
            Carrier::Disk => "pc-brick status",
            Carrier::Nodes => "pc-gluster status",
        }
    }
}

/// Held while one program starts, stops or moves a VM; the kernel and the volume release it when we end.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code, reason = "the lock lives as long as the file is open")] File);

impl Store {
    /// The files of a VM.
    pub fn new(root: &Path, vm: &str, places: Places, carrier: Carrier) -> Store {
        Store { root: root.into(), vm: vm.into(), places, carrier }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// The disk.
    pub fn disk(&self) -> PathBuf {
        self.at(&self.places.disk)
    }

    /// The UEFI variables.
    pub fn nvram(&self) -> PathBuf {
        self.at(&self.places.nvram)
    }

    /// The directory of states to come back to.
    pub fn snapshots(&self) -> PathBuf {
        self.at(&self.places.snapshots)
    }

    /// 75 with the reason unless the volume is mounted: an empty mount point must never be written to.
    pub fn require_mounted(&self) -> Result<()> {
        let path = self.root.join("proc/self/mountinfo");
        let table = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        if paths::is_mounted(&table, &self.places.mount) {
            return Ok(());
        }
        let (mount, remedy) = (&self.places.mount, self.carrier.remedy());
        Err(try_again(format!("vm {}: {mount} is not mounted\n  {remedy}", self.vm)))
    }

    /// Makes the directory and takes the VM's lock (a POSIX lock: Gluster keeps it across nodes).
    pub fn lock(&self) -> Result<Lock> {
        self.take()?.ok_or_else(|| self.busy())
    }

    /// As `lock`, when what others do to a VM that runs is soon over: a disk that grows, a snapshot that goes.
    pub fn lock_within(&self, patience: Duration) -> Result<Lock> {
        if let Some(lock) = self.take()? {
            return Ok(lock);
        }
        log::info(format_args!("vm {}: waiting for another pc-vm that is at work on it", self.vm));
        let file = self.open()?;
        let (sender, receiver) = channel();
        // The kernel wakes whoever queues, and knows no deadline: a thread does it, and ends with us.
        std::thread::spawn(move || {
            let locked = loop {
                match fcntl_lock(&file, FlockOperation::LockExclusive) {
                    Err(Errno::INTR) => {}
                    other => break other,
                }
            };
            drop(sender.send(locked.map(|()| Lock(file))));
        });
        match pc_run::timed(|| receiver.recv_timeout(patience)) {
            Ok(Ok(lock)) => Ok(lock),
            Ok(Err(error)) => Err(self.unwritable(&error.into())),
            Err(_) => Err(self.busy()),
        }
    }

    fn busy(&self) -> anyhow::Error {
        try_again(format!("vm {}: another pc-vm is starting, stopping or moving it", self.vm))
    }

    /// `None`: another process has it.
    fn take(&self) -> Result<Option<Lock>> {
        let file = self.open()?;
        match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Lock(file))),
            Err(Errno::AGAIN | Errno::ACCESS) => Ok(None),
            Err(error) => Err(self.unwritable(&error.into())),
        }
    }

    /// The lock's file, not locked yet; a process that closes it gives up whatever lock it had on it.
    fn open(&self) -> Result<File> {
        let directory = self.at(&self.places.directory);
        let opened = fs::DirBuilder::new()
            .recursive(true)
            // QEMU passes through, and nobody lists.
            .mode(0o711)
            .create(&directory)
            .and_then(|()| {
                OpenOptions::new()
                    .create(true)
                    .truncate(false)
                    .write(true)
                    .mode(0o600)
                    .open(self.at(&self.places.lock))
            });
        opened.map_err(|error| self.unwritable(&error))
    }

    /// A volume without quorum or with a dead client answers with one of many errors; all of them may pass.
    fn unwritable(&self, error: &std::io::Error) -> anyhow::Error {
        try_again(format!(
            "vm {}: writing to {}: {error}\n  {}",
            self.vm,
            self.places.directory,
            self.carrier.remedy()
        ))
    }

    /// The VM's owner; `None` when it was never started.
    pub fn owner(&self) -> Result<Option<Owner>> {
        let path = self.at(&self.places.owner);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.unwritable(&error)),
        };
        // Nobody may guess who owns it.
        let unreadable = |what: String| {
            let (path, vm) = (path.display(), &self.vm);
            refused(format!("{path}: {what}\n  find out where vm {vm} runs, then write it anew"))
        };
        // The schema first: another one may have other fields.
        let owner: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))?;
        if owner["schema"] != SCHEMA {
            return Err(unreadable(format!("its schema is {}, not {SCHEMA:?}", owner["schema"])));
        }
        let owner: Owner = serde_json::from_value(owner).map_err(|error| unreadable(error.to_string()))?;
        if owner.vm != self.vm {
            return Err(unreadable(format!("speaks of vm {:?}", owner.vm)));
        }
        Ok(Some(owner))
    }

    /// Writes the owner, atomically and onto stable storage.
    pub fn set_owner(&self, owner: &Owner) -> Result<()> {
        let mut text = serde_json::to_vec_pretty(owner).context("writing the owner as JSON")?;
        text.push(b'\n');
        write_atomic(&self.at(&self.places.owner), &text, 0o644)
    }

    /// Whether a cloud-init seed was written once.
    pub fn has_seed(&self) -> bool {
        self.at(&self.places.seed).is_file()
    }

    /// Puts the seed beside the disk unless it is there already; `true` when it was written.
    pub fn write_seed(&self, seed: &[u8]) -> Result<bool> {
        // May hold cloud-init secrets; libvirt hands it to QEMU's user when the VM starts.
        write_if_different(&self.at(&self.places.seed), seed, 0o600)
    }

    /// Puts a copy of the definition beside the disk.
    pub fn write_definition(&self, xml: &str) -> Result<bool> {
        write_if_different(&self.at(&self.places.definition), xml.as_bytes(), 0o644)
    }

    /// The size of the disk as a guest sees it; `None` when there is none, or it cannot be seen from here.
    pub fn disk_bytes(&self) -> Option<u64> {
        fs::metadata(self.disk()).ok().filter(fs::Metadata::is_file).map(|meta| meta.len())
    }

    /// Whether a QEMU holds its lock on the disk; `None` when that cannot be seen from here, and while the VM runs on another
    /// file, under which its disk is still being made.
    pub fn disk_is_locked(&self) -> Option<bool> {
        match self.unfinished() {
            Ok(None) => image_lock::is_held(&self.disk()),
            _ => None,
        }
    }

    /// Bytes that the disk really takes on the volume; `None` when it cannot be seen from here.
    pub fn allocated_bytes(&self) -> Option<u64> {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(self.disk()).ok().map(|meta| meta.blocks() * 512)
    }
}

fn write_if_different(path: &Path, content: &[u8], mode: u32) -> Result<bool> {
    if fs::read(path).is_ok_and(|there| there == content) {
        return Ok(false);
    }
    write_atomic(path, content, mode)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster::Name;

    fn store(root: &Path) -> Store {
        let name = |text: &str| Name::try_from(text.to_string()).unwrap();
        Store::new(root, "mail", Places::of(&name("mail"), &name("vms")), Carrier::Disk)
    }

    const TABLE: &str = "24 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
        61 24 0:51 / /mnt/vms rw,relatime shared:30 - fuse.glusterfs localhost:/vms rw,user_id=0\n";

    #[test]
    fn an_unmounted_volume_is_worth_a_retry() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("proc/self")).unwrap();
        fs::write(root.path().join("proc/self/mountinfo"), TABLE.lines().next().unwrap()).unwrap();
        let error = store(root.path()).require_mounted().unwrap_err();
        assert!(error.is::<pc_cli::TryAgain>());
        assert!(error.to_string().starts_with("vm mail: /mnt/vms is not mounted"), "{error}");
        fs::write(root.path().join("proc/self/mountinfo"), TABLE).unwrap();
        store(root.path()).require_mounted().unwrap();
    }

    #[test]
    fn the_owner_is_read_back_and_never_guessed() {
        let root = tempfile::tempdir().unwrap();
        let store = store(root.path());
        let _lock = store.lock().unwrap();
        assert_eq!(store.owner().unwrap(), None);
        let owner = Owner::new("mail", "n1", Some("boot".into()), "2026-01-01T00:00:00Z".into());
        store.set_owner(&owner).unwrap();
        assert_eq!(store.owner().unwrap(), Some(owner));
        let path = root.path().join("mnt/vms/vms/mail/owner.json");
        let text = fs::read_to_string(&path).unwrap();
        for (text, says) in [
            ("{", "EOF while parsing"),
            (&text.replace("owner/1", "owner/2"), r#"its schema is "pc.vm.owner/2", not "pc.vm.owner/1""#),
            (&text.replace("mail", "web"), r#"speaks of vm "web""#),
        ] {
            fs::write(&path, text).unwrap();
            let error = store.owner().unwrap_err();
            assert!(error.is::<pc_cli::Refused>() && error.to_string().contains(says), "{error}");
        }
    }

    /// POSIX locks belong to a process, so another one has to hold it: flock(1) takes the other kind.
    #[test]
    fn one_starter_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let store = store(root.path());
        drop(store.lock().unwrap());
        let path = root.path().join("mnt/vms/vms/mail/lock");
        let script = "import fcntl,sys,time; f=open(sys.argv[1],'r+'); fcntl.lockf(f,fcntl.LOCK_EX); \
                      print('held',flush=True); time.sleep(60)";
        let mut holder = std::process::Command::new("python3")
            .args(["-c", script])
            .arg(&path)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let out = holder.stdout.as_mut().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).unwrap();
        let error = store.lock().unwrap_err();
        holder.kill().unwrap();
        holder.wait().unwrap();
        assert!(error.is::<pc_cli::TryAgain>(), "{error:#}");
        store.lock().unwrap();
    }

    #[test]
    fn seeds_are_written_once() {
        let root = tempfile::tempdir().unwrap();
        let store = store(root.path());
        let _lock = store.lock().unwrap();
        assert!(store.write_seed(b"seed").unwrap());
        assert!(!store.write_seed(b"seed").unwrap());
        assert!(store.write_seed(b"other").unwrap());
    }
}
