//! Questions to volumes, each of which may hang: on a thread, and not for long. One that was silent once is asked nothing more:
//! what a look says of a dozen VMs on it takes no longer than what it says of one.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::mpsc::channel;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);

/// The volumes of one look.
#[derive(Debug)]
pub struct Volumes {
    patience: Duration,
    silent: RefCell<BTreeSet<String>>,
}

impl Default for Volumes {
    fn default() -> Volumes {
        Volumes { patience: PATIENCE, silent: RefCell::default() }
    }
}

impl Volumes {
    /// The answer; `None` also when the volume is silent.
    pub fn ask<T: Send + 'static>(
        &self,
        volume: &str,
        ask: impl FnOnce() -> Option<T> + Send + 'static,
    ) -> Option<T> {
        if self.silent.borrow().contains(volume) {
            return None;
        }
        let (sender, receiver) = channel();
        std::thread::spawn(move || drop(sender.send(ask())));
        receiver.recv_timeout(self.patience).unwrap_or_else(|_| {
            self.silent.borrow_mut().insert(volume.into());
            None
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_volume_is_asked_once_in_a_look() {
        let volumes = Volumes { patience: Duration::from_millis(20), ..Volumes::default() };
        let (asked, questions) = channel();
        let (_answers, hung) = channel::<u8>();
        let first = asked.clone();
        let silent = volumes.ask("vms", move || {
            first.send("first").ok()?;
            hung.recv().ok()
        });
        assert_eq!(silent, None);
        assert_eq!(volumes.ask("vms", move || asked.send("second").ok()), None);
        // Both senders are gone when nobody is being asked a second time.
        assert_eq!(questions.recv(), Ok("first"));
        assert!(questions.try_recv().is_err());
        let patient = Volumes { patience: Duration::from_secs(60), ..volumes };
        assert_eq!(
            (patient.ask("backup", || Some(7)), patient.ask::<u8>("backup", || None)),
            (Some(7), None)
        );
    }
}
