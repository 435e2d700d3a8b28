//! What this process waited for: how many external calls it made, and how long it waited for them.
//!
//! An external call is a program that [`crate::run()`] ran, or a wait for another daemon (libvirt, OVSDB, systemd, Tang, a
//! FUSE client) that was put into [`timed`]. Its seconds are wall time: calls that run side by side count as many calls,
//! but the time that they overlap counts once. So the calls never took longer than the whole, and what is left of the
//! whole is our own: computing, reading files, and the pauses between two questions.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

#[derive(Debug)]
struct Tally {
    calls: u32,
    under_way: u32,
    /// When the first of those that are under way began.
    since: Option<Instant>,
    /// Before that.
    waited: Duration,
}

impl Tally {
    const fn new() -> Tally {
        Tally { calls: 0, under_way: 0, since: None, waited: Duration::ZERO }
    }

    fn begin(&mut self, now: Instant) {
        self.calls = self.calls.saturating_add(1);
        self.under_way += 1;
        self.since.get_or_insert(now);
    }

    fn end(&mut self, now: Instant) {
        self.under_way = self.under_way.saturating_sub(1);
        if self.under_way == 0 {
            self.waited = self.waited(now);
            self.since = None;
        }
    }

    fn waited(&self, now: Instant) -> Duration {
        self.waited + self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

static TALLY: Mutex<Tally> = Mutex::new(Tally::new());

/// Whole after every statement: a thread that died did not break it.
fn tally() -> MutexGuard<'static, Tally> {
    TALLY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A call that is under way; dropping it ends it.
pub(crate) struct Call(());

impl Call {
    pub(crate) fn begin() -> Call {
        tally().begin(Instant::now());
        Call(())
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        tally().end(Instant::now());
    }
}

/// Counts `call` as one external call. It belongs around the waiting itself, on the thread that waits: a call that was
/// given up and goes on without us is none of our time any more.
pub fn timed<T>(call: impl FnOnce() -> T) -> T {
    let _call = Call::begin();
    call()
}

/// What some work cost; the fields of every answer of `apply`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Cost {
    /// Wall time of all of it.
    pub seconds: f64,
    /// External calls of this process.
    pub external_calls: u32,
    /// Wall time during which at least one of them was under way.
    pub external_seconds: f64,
}

impl Cost {
    /// Of the work that began at `started`, before which this process made no external call.
    pub fn since(started: Instant) -> Cost {
        let (tally, now) = (tally(), Instant::now());
        Cost {
            seconds: now.saturating_duration_since(started).as_secs_f64(),
            external_calls: tally.calls,
            external_seconds: tally.waited(now).as_secs_f64(),
        }
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.external_calls == 1 { "" } else { "s" };
        let Cost { seconds, external_calls, external_seconds } = self;
        write!(f, "{external_calls} external call{plural} took {external_seconds:.2} of {seconds:.2} s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_side_by_side_count_each_but_their_time_once() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut tally = Tally::new();
        // One from 0 to 3, one within it, one from 2 to 5; nothing until 10; one from 10 on.
        tally.begin(at(0));
        tally.begin(at(1));
        tally.end(at(2));
        tally.begin(at(2));
        tally.end(at(3));
        assert_eq!(tally.waited(at(4)), Duration::from_secs(4), "one is still under way");
        tally.end(at(5));
        assert_eq!((tally.calls, tally.waited(at(9))), (3, Duration::from_secs(5)));
        tally.begin(at(10));
        assert_eq!((tally.calls, tally.waited(at(12))), (4, Duration::from_secs(7)));
    }

    #[test]
    fn programs_and_waits_are_counted() {
        let started = Instant::now();
        let before = Cost::since(started).external_calls;
        crate::run(std::process::Command::new("true")).output().unwrap();
        assert_eq!(timed(|| 7), 7);
        let cost = Cost::since(started);
        // Other tests of this process may run programs beside this one.
        assert!(cost.external_calls >= before + 2, "{cost:?}");
        assert!(cost.external_seconds > 0.0, "{cost:?}");
    }

    #[test]
    fn people_read_numbers_and_times() {
        let cost = |external_calls| Cost { seconds: 4.2, external_calls, external_seconds: 3.0 };
        assert_eq!(cost(2).to_string(), "2 external calls took 3.00 of 4.20 s");
        assert_eq!(cost(1).to_string(), "1 external call took 3.00 of 4.20 s");
    }
}
