//! Collector: whether this node would be unlocked now: each Tang server of the file answers, with the pinned key.

use std::time::{Duration, Instant};

use cluster::Tang;
use tang_client::adv::Trust;
use tang_client::{Budget, Client};

use crate::metric::{Samples, families};

families! {
    UP: Gauge "pc_tang_up" ["server"] "1 when the Tang server answers this node with the key that the file pins.";
    DURATION: Gauge "pc_tang_duration_seconds" ["server"] "How long the Tang server took to answer, or to fail.";
    THRESHOLD: Gauge "pc_tang_threshold" [] "How many Tang servers have to answer for a disk to open.";
}

/// Asks each server once.
pub fn look(threshold: u64, servers: &[Tang]) -> Samples {
    let budget = Budget { server: Duration::from_secs(2), attempt: Duration::from_secs(2) };
    let client = Client::new(budget);
    let mut samples = Samples::default();
    samples.count(&THRESHOLD, &[], threshold);
    for server in servers {
        let started = Instant::now();
        let answer = client.advertisement(&server.url, &Trust::Pinned(&server.thumbprint));
        if let Err(error) = &answer {
            pc_cli::log::debug(error);
        }
        samples.truth(&UP, &[&server.url], answer.is_ok());
        samples.number(&DURATION, &[&server.url], started.elapsed().as_secs_f64());
    }
    samples
}
