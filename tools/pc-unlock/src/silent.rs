//! Disks that do not answer. Whatever this process itself reads from a disk it reads on a thread that may be left behind: a read
//! that hangs in the kernel ends when the kernel says so, and nobody can take it back.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use pc_cli::try_again;

use crate::device::Device;
use crate::luks2::{self, Copy};

/// What is said of one.
pub const SAID: &str = "does not answer";

/// Those that have been given up, and have not answered since.
static SILENT: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// One of them has.
static ANSWERED: Condvar = Condvar::new();

fn silent() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    SILENT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Works on a thread that is left behind after `time`; `None` then.
pub fn within<T: Send + 'static>(
    time: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<Option<T>> {
    let (sender, receiver) = mpsc::channel();
    // Nobody listens any more when it came too late.
    let work = move || drop(sender.send(work()));
    std::thread::Builder::new().spawn(work).context("starting a thread")?;
    match receiver.recv_timeout(time) {
        Ok(found) => Ok(Some(found)),
        Err(RecvTimeoutError::Timeout) => Ok(None),
        Err(RecvTimeoutError::Disconnected) => Err(anyhow!("an error in this program")),
    }
}

/// Works on all devices at once: one that does not answer costs the others nothing.
pub fn at_once<'d, T: Send>(
    devices: &'d [Device],
    work: impl Fn(&'d Device) -> T + Sync,
    broken: impl Fn(&'d Device) -> T,
) -> Vec<T> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = devices.iter().map(|device| scope.spawn(|| work(device))).collect();
        let done = threads.into_iter().zip(devices);
        done.map(|(thread, device)| thread.join().unwrap_or_else(|_| broken(device))).collect()
    })
}

/// The end of a read, however it ends.
struct Answer {
    path: PathBuf,
    came: Arc<AtomicBool>,
}

impl Drop for Answer {
    fn drop(&mut self) {
        let mut silent = silent();
        self.came.store(true, Ordering::SeqCst);
        silent.remove(&self.path);
        ANSWERED.notify_all();
    }
}

impl Device {
    /// What `read` finds, or that the disk does not answer (75). Once given up it is not waited for again before it has
    /// answered: who asks for ever leaves one thread behind, and who asks twice waits once.
    pub fn ask<T: Send + 'static>(&self, read: impl FnOnce(&Device) -> T + Send + 'static) -> Result<T> {
        let late = || try_again(format!("{} {SAID}", self.name));
        if silent().contains(&self.path) {
            return Err(late());
        }
        let (device, answered) = (self.clone(), Arc::new(AtomicBool::new(false)));
        let end = Answer { path: self.path.clone(), came: Arc::clone(&answered) };
        let found = within(self.patience, move || {
            let _end = end;
            read(&device)
        })?;
        found.ok_or_else(|| {
            let mut silent = silent();
            if !answered.load(Ordering::SeqCst) {
                silent.insert(self.path.clone());
            }
            late()
        })
    }

    /// Sleeps, until it answers when it did not.
    pub fn sleep(&self, time: Duration) {
        let silent = silent();
        if silent.contains(&self.path) {
            // However it ends: the next attempt finds out.
            drop(ANSWERED.wait_timeout_while(silent, time, |silent| silent.contains(&self.path)));
        } else {
            drop(silent);
            std::thread::sleep(time);
        }
    }

    /// The copies of its header, or why they cannot be read.
    pub fn look(&self) -> Result<std::io::Result<Vec<Copy>>> {
        self.ask(|device| luks2::open(&device.path).and_then(|mut file| luks2::copies(&mut file)))
    }

    /// It can be read, or says why not.
    pub fn require_answer(&self) -> Result<()> {
        self.look().map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pc_cli::Exit;
    use std::time::Instant;

    /// A disk that has answered late is asked again, one that has not is not waited for twice.
    #[test]
    fn who_does_not_answer_is_waited_for_once() {
        let device = Device {
            name: "ata-A".into(),
            path: "/nowhere/ata-A".into(),
            mapper: String::new(),
            sysfs: PathBuf::new(),
            patience: Duration::from_millis(50),
        };
        let soon = |what: &str, answers: &dyn Fn() -> bool| {
            let until = Instant::now() + Duration::from_secs(60);
            while !answers() {
                assert!(Instant::now() < until, "{what}");
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        let (answer, question) = mpsc::channel::<()>();
        let error = device.ask(move |_| question.recv()).unwrap_err();
        assert_eq!((Exit::of(&error), error.to_string()), (Exit::TryAgain, "ata-A does not answer".into()));
        let patient = Device { patience: Duration::from_secs(600), ..device.clone() };
        assert!(patient.ask(|_| unreachable!("nobody is asked")).is_err());
        answer.send(()).unwrap();
        soon("it has answered", &|| patient.ask(|_| ()).is_ok());
        // A read that ends in a panic has ended, too.
        assert!(device.ask::<()>(|_| panic!("planted")).is_err());
        soon("nobody reads any more", &|| patient.ask(|_| ()).is_ok());
    }
}
