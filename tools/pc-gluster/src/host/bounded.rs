//! Runs what may block for good (a dead disk, a dead FUSE client) on a thread of its own.

use std::sync::mpsc;
use std::time::Duration;

/// The answer of `work`, or `None` when it takes longer than `deadline`. The thread is then left behind: no
/// signal frees a task from an unanswered file system call, and the process ends soon.
pub fn bounded<T: Send + 'static>(
    deadline: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        // Nobody listens any more after the deadline.
        let _ = sender.send(work());
    });
    receiver.recv_timeout(deadline).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_up_at_the_deadline() {
        assert_eq!(bounded(Duration::from_secs(5), || 7), Some(7));
        let slow = || std::thread::sleep(Duration::from_secs(5));
        assert_eq!(bounded(Duration::from_millis(20), slow), None);
    }
}
