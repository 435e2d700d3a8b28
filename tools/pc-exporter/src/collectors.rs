//! What collectors have found last, for a scrape to be made of. Nobody waits here for anything but a short lock.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use pc_cli::log;

use crate::metric::{Sample, Samples, families};

families! {
    SUCCESS: Gauge "pc_collector_success" ["collector"] "1 when the collector's last look ended well and in time.";
    DURATION: Gauge "pc_collector_duration_seconds" ["collector"] "How long the collector's last look took.";
    AGE: Gauge "pc_collector_age_seconds" ["collector"] "How long ago the values were measured that this scrape tells.";
    BUILD: Info "pc_exporter_build_info" ["version"] "Version of pc-exporter.";
    SCRAPES: Counter "pc_exporter_scrapes_total" [] "Scrapes that were answered.";
    REFUSED: Counter "pc_exporter_connections_refused_total" [] "Connections that were closed unheard, because too many were open.";
}

/// What one collector has to tell.
#[derive(Debug, Clone)]
pub struct Told {
    /// The values of its last good look.
    pub samples: Arc<[Sample]>,
    /// When they were measured.
    pub measured: Option<SystemTime>,
    /// Why the last look failed.
    pub error: Option<String>,
    /// How long the last look took.
    pub duration: Option<Duration>,
    /// Older values are no longer told.
    pub keep: Duration,
}

struct Entry {
    told: Told,
    /// A look is under way since then, and has this long.
    running: Option<(Instant, Duration)>,
}

/// All collectors.
#[derive(Default)]
pub struct Board(Mutex<BTreeMap<String, Entry>>);

impl Board {
    /// Every statement leaves the map whole, so a thread that died did not break it.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a collector has found; a new error is logged once.
    pub fn tell(&self, collector: &str, told: Told) {
        let mut entries = self.lock();
        let known = entries.get(collector).and_then(|entry| entry.told.error.clone());
        if told.error != known {
            match &told.error {
                Some(error) => log::warning(format_args!("collector {collector}: {error}")),
                None => log::info(format_args!("collector {collector}: works again")),
            }
        }
        entries.insert(collector.into(), Entry { told, running: None });
    }

    /// The collector has nothing to watch here (any more).
    pub fn forget(&self, collector: &str) {
        self.lock().remove(collector);
    }

    fn begin(&self, collector: &str, deadline: Duration) {
        if let Some(entry) = self.lock().get_mut(collector) {
            entry.running = Some((Instant::now(), deadline));
        }
    }

    fn last(&self, collector: &str) -> Option<Told> {
        self.lock().get(collector).map(|entry| entry.told.clone())
    }

    /// Everything that is known, as of now.
    pub fn samples(&self, now: SystemTime) -> Vec<Sample> {
        let entries: Vec<(String, Told, bool)> = {
            let late = |entry: &Entry| entry.running.is_some_and(|(since, time)| since.elapsed() > time);
            self.lock().iter().map(|(name, entry)| (name.clone(), entry.told.clone(), late(entry))).collect()
        };
        let mut samples = Samples::default();
        for (name, told, late) in &entries {
            let collector = [name.as_str()];
            // A clock that was set back makes nothing older, and nothing from the future.
            let age = told.measured.map(|at| now.duration_since(at).unwrap_or_default());
            let fresh = age.is_some_and(|age| age <= told.keep);
            samples.truth(&SUCCESS, &collector, told.error.is_none() && fresh && !late);
            if let Some(duration) = told.duration {
                samples.number(&DURATION, &collector, duration.as_secs_f64());
            }
            if let Some(age) = age {
                samples.number(&AGE, &collector, age.as_secs_f64());
            }
            if fresh {
                samples.0.extend(told.samples.iter().cloned());
            }
        }
        samples.0
    }
}

/// A collector that looks for itself, on a thread of its own.
pub struct Collector {
    /// Its name.
    pub name: &'static str,
    /// So often it looks.
    pub every: Duration,
    /// After this long it counts as failing, and goes on waiting: no second look is begun beside it.
    pub deadline: Duration,
}

impl Collector {
    /// Looks for ever. `Ok(None)`: there is nothing to watch here.
    pub fn spawn(
        self,
        board: &Arc<Board>,
        mut look: impl FnMut() -> Result<Option<Samples>> + Send + 'static,
    ) -> std::io::Result<()> {
        let board = Arc::clone(board);
        let keep = self.every * 3 + self.deadline;
        let nothing = move || Told { samples: [].into(), measured: None, error: None, duration: None, keep };
        // Told before the first look, so that one that hangs from the beginning counts as failing.
        board.tell(self.name, nothing());
        std::thread::Builder::new().name(self.name.into()).spawn(move || {
            loop {
                board.begin(self.name, self.deadline);
                let started = Instant::now();
                let looked = look();
                let last = board.last(self.name).unwrap_or_else(nothing);
                let duration = Some(started.elapsed());
                match looked {
                    Ok(Some(samples)) => {
                        let measured = Some(SystemTime::now());
                        let samples = samples.0.into();
                        board.tell(self.name, Told { samples, measured, error: None, duration, keep });
                    }
                    Ok(None) => board.forget(self.name),
                    Err(error) => {
                        let error = Some(format!("{error:#}"));
                        board.tell(self.name, Told { error, duration, ..last });
                    }
                }
                std::thread::sleep(self.every);
            }
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nouns::vm::PROBLEMS;
    use std::sync::mpsc;

    fn value(board: &Board, at: SystemTime, name: &str) -> Option<f64> {
        board.samples(at).iter().find(|sample| sample.family.name == name).map(|sample| sample.value)
    }

    fn told(measured: SystemTime, error: Option<&str>) -> Told {
        let mut samples = Samples::default();
        samples.count(&PROBLEMS, &[], 4);
        let (error, keep) = (error.map(str::to_string), Duration::from_secs(60));
        Told { samples: samples.0.into(), measured: Some(measured), error, duration: None, keep }
    }

    fn near(value: Option<f64>, expected: f64) -> bool {
        value.is_some_and(|value| (value - expected).abs() < 1e-6)
    }

    #[test]
    fn last_values_are_told_until_they_are_too_old() {
        let board = Board::default();
        let start = SystemTime::now();
        board.tell("vm", told(start, Some("libvirt does not answer")));
        let later = start + Duration::from_secs(50);
        assert!(near(value(&board, later, "pc_collector_success"), 0.0));
        assert!(near(value(&board, later, "pc_collector_age_seconds"), 50.0));
        assert!(near(value(&board, later, "pc_vm_problems"), 4.0));
        let much_later = start + Duration::from_secs(61);
        assert_eq!(value(&board, much_later, "pc_vm_problems"), None);
        // It never fails and is never asked again: that shows, too.
        board.tell("vm", told(start, None));
        assert!(near(value(&board, later, "pc_collector_success"), 1.0));
        assert!(near(value(&board, much_later, "pc_collector_success"), 0.0));
        // The clock was set back.
        assert!(near(value(&board, start - Duration::from_secs(9), "pc_collector_age_seconds"), 0.0));
        board.forget("vm");
        assert!(board.samples(later).is_empty());
    }

    #[test]
    fn one_that_hangs_holds_one_thread_and_no_scrape() {
        let board = Arc::new(Board::default());
        let (begun, looks) = mpsc::channel();
        let (release, held) = mpsc::channel::<()>();
        let mut released = false;
        let collector =
            Collector { name: "hangs", every: Duration::from_millis(1), deadline: Duration::from_millis(30) };
        collector
            .spawn(&board, move || {
                // The first look hangs until it is released; nobody counts the later ones.
                if begun.send(()).is_ok() && !released {
                    held.recv().unwrap();
                    released = true;
                }
                Ok(Some(Samples::default()))
            })
            .unwrap();
        let patience = Duration::from_secs(10);
        looks.recv_timeout(patience).unwrap();
        let until = Instant::now() + patience;
        while !near(value(&board, SystemTime::now(), "pc_collector_success"), 0.0) {
            assert!(Instant::now() < until, "never told to be late");
            std::thread::yield_now();
        }
        // Many times its interval has passed, and there is no second look.
        assert!(looks.recv_timeout(Duration::from_millis(100)).is_err());
        release.send(()).unwrap();
        while !near(value(&board, SystemTime::now(), "pc_collector_success"), 1.0) {
            assert!(Instant::now() < until, "never well again");
            std::thread::yield_now();
        }
    }
}
