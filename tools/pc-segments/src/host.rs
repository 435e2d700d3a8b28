//! The only module that mounts, unmounts and waits.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use fuser::{Config, Filesystem, MountOption, Session, SessionACL};
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pc_cli::{log, refused, try_again};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};

use crate::fs::Fuse;
use crate::join_fs::JoinedFs;
use crate::mountinfo;
use crate::view::View;

/// The source that our mounts have in mountinfo.
const NAME: &str = "pc-segments";
/// A view that does not answer for so long is somebody's who is stopped.
const ALIVE: Duration = Duration::from_secs(5);
/// What a command gets between SIGTERM and SIGKILL: borg ends its checkpoint.
const GRACE: Duration = Duration::from_secs(30);

/// What can end a view.
#[derive(Debug)]
pub enum Event {
    /// A signal.
    Signal(i32),
    /// The kernel has unmounted it.
    Unmounted(std::io::Result<()>),
    /// The command ended.
    Ended(std::io::Result<ExitStatus>),
}

/// Nanoseconds since 1970.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX / 2)
}

/// The mount point by its full name, made when it is missing, with nothing on it. What a killed run left is removed.
pub fn prepare(mount_point: &Path) -> Result<PathBuf> {
    let path = full_name(mount_point)?;
    let mountinfo = std::fs::read("/proc/self/mountinfo").context("reading /proc/self/mountinfo")?;
    if let Some((kind, source)) = mountinfo::at(&mountinfo, &path) {
        if !kind.starts_with("fuse") || source != NAME {
            return Err(refused(format!("{}: {source} ({kind}) is mounted there", path.display())));
        }
        if alive(&path) {
            return Err(try_again(format!("{}: another run shows its view there", path.display())));
        }
        log::warning(format_args!("{}: removing what a killed run left", path.display()));
        unmount(&path)?;
    }
    let occupied = std::fs::read_dir(&path)
        .with_context(|| format!("opening the mount point {}", path.display()))?
        .next()
        .is_some();
    if occupied {
        return Err(refused(format!("{}: is not empty", path.display())));
    }
    Ok(path)
}

/// A dead mount has no canonical name, its parent has.
fn full_name(mount_point: &Path) -> Result<PathBuf> {
    let path = std::path::absolute(mount_point)?;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        bail!(refused(format!("{}: is no mount point", path.display())));
    };
    std::fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
    let path = parent.canonicalize().with_context(|| format!("looking for {}", parent.display()))?.join(name);
    match std::fs::create_dir(&path) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error).with_context(|| format!("creating {}", path.display())),
    }
    if std::fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_symlink()) {
        return path.canonicalize().with_context(|| format!("following {}", path.display()));
    }
    Ok(path)
}

/// Somebody serves this mount, or holds it without answering.
fn alive(path: &Path) -> bool {
    let (sender, receiver) = channel();
    let path = path.to_path_buf();
    // statfs() is never answered from a cache, as stat() is. Not waited for: of a stopped server it may never return.
    std::thread::spawn(move || sender.send(nix::sys::statvfs::statvfs(&path).map(drop)));
    !matches!(receiver.recv_timeout(ALIVE), Ok(Err(Errno::ENOTCONN)))
}

/// Takes the view out of the way at once; whoever still reads gets errors when we have ended.
pub fn unmount(path: &Path) -> Result<()> {
    match umount2(path, MntFlags::MNT_DETACH) {
        // Nothing is mounted there any more.
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
        Err(Errno::EPERM) => {
            let mut command = Command::new("fusermount3");
            command.args(["-u", "-z", "--"]).arg(path);
            pc_run::run(command).output().map(drop).with_context(|| format!("unmounting {}", path.display()))
        }
        Err(error) => Err(error).with_context(|| format!("unmounting {}", path.display())),
    }
}

/// Events arrive here.
pub fn events() -> Result<(Sender<Event>, Receiver<Event>)> {
    let (sender, receiver) = channel();
    let mut signals =
        signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGUSR1]).context("taking signals")?;
    let own = sender.clone();
    // A receiver that has gone means that we are ending.
    std::thread::spawn(move || signals.forever().for_each(|signal| drop(own.send(Event::Signal(signal)))));
    Ok((sender, receiver))
}

/// Mounts the view; the session runs on a thread of its own.
pub fn mount(view: Arc<View>, path: &Path, events: Sender<Event>) -> Result<()> {
    let mut config = config();
    config.mount_options.push(MountOption::RO);
    serve(Fuse::new(view), path, &config, events)
}

/// The same for disks that were put together: for other users too, as far as the files' owner and mode let them, since QEMU is not
/// root; and not read-only for the kernel, which would refuse the owner that libvirt gives them.
pub fn mount_joined(disks: JoinedFs, path: &Path, events: Sender<Event>) -> Result<()> {
    let mut config = config();
    if nix::unistd::geteuid().is_root() {
        config.acl = SessionACL::All;
    }
    serve(disks, path, &config, events)
}

fn config() -> Config {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName(NAME.into()),
        MountOption::NoSuid,
        MountOption::NoDev,
        MountOption::NoExec,
        MountOption::NoAtime,
        MountOption::DefaultPermissions,
    ];
    config
}

fn serve(what: impl Filesystem, path: &Path, config: &Config, events: Sender<Event>) -> Result<()> {
    let session = Session::new(what, path, config).map_err(|error| {
        let remedy = match error.kind() {
            std::io::ErrorKind::NotFound => "\n  apt-get install fuse3 && modprobe fuse",
            _ => "",
        };
        anyhow::anyhow!("mounting on {}: {error}{remedy}", path.display())
    })?;
    std::thread::spawn(move || drop(events.send(Event::Unmounted(session.run()))));
    Ok(())
}

/// Starts the command beside the view; its end becomes an event. Our standard input is spent, its standard output is ours.
pub fn start(command: &[OsString], events: Sender<Event>) -> Result<Pid> {
    let (program, arguments) = command.split_first().context("no command")?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("running {}", program.to_string_lossy()))?;
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    std::thread::spawn(move || drop(events.send(Event::Ended(child.wait()))));
    Ok(pid)
}

/// Ends the command: SIGTERM, and SIGKILL when that was not enough.
pub fn end(pid: Pid, events: &Receiver<Event>) {
    for (signal, patience) in [(Signal::SIGTERM, GRACE), (Signal::SIGKILL, ALIVE)] {
        // It may have ended by itself a moment ago.
        let _ = kill(pid, signal);
        loop {
            match events.recv_timeout(patience) {
                Ok(Event::Ended(_)) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => break,
            }
        }
    }
}

/// As a shell says it: 128 and the signal's number.
pub fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Closes standard output for whoever waits for its end.
pub fn silence() -> Result<()> {
    let null = std::fs::File::options().write(true).open("/dev/null").context("opening /dev/null")?;
    nix::unistd::dup2_stdout(&null).context("closing standard output")
}
