//! When a silent node is dead. Pure arithmetic: the file gives three numbers, corosync, sbd and pacemaker get theirs,
//! and whatever could let a VM run twice is refused.
//!
//! A lost node resets itself: it notices that it is alone (token, consensus), elects itself, sees that it has no quorum,
//! sbd stops feeding the watchdog, the watchdog fires. The others wait for all of that (`stonith-watchdog-timeout`)
//! before they start its VMs, and twice the watchdog's time on top of the rest is the margin (docs/decisions/timings.md).

use std::fmt;

use crate::guests::{Ha, Profile};

/// sbd's own loop and its patience with a cluster that changes (sbd.sysconfig; measured 3 s + 1 s).
pub const SBD_MS: u64 = 4_000;
/// An isolated node has to elect itself before it sees that it has no quorum.
pub const ELECTION_MS: u64 = 5_000;
/// Gluster keeps the locks of a dead client this long (`server.tcp-user-timeout`, which pc-gluster sets).
pub const LOCKS_MS: u64 = 20_000;
/// Gluster takes a silent server for dead after this (`network.ping-timeout`, which pc-gluster sets)...
pub const PING_MS: u64 = 10_000;
/// ...or after twice this, when something was still sent to it meanwhile (rpc-clnt-ping.c re-arms its timer once). As long
/// every write to the volume waits, on every node.
pub const FREEZE_MS: u64 = 2 * PING_MS;
/// A probe of a volume that is not answered this long after the freeze of a neighbour's death is over has failed.
pub const PROBE_MARGIN_MS: u64 = 10_000;
/// What pacemaker gives the agent on top, to say so.
pub const AGENT_MS: u64 = 20_000;
/// What the taking over must stay behind the end of those locks.
pub const LOCKS_MARGIN_MS: u64 = 5_000;
/// Pacemaker asks its agents this often, or less often.
const WATCH_MS: u64 = 10_000;
/// Pacemaker's arithmetic and its messages, for the worst case.
pub const PLACEMENT_MS: u64 = 2_000;
/// `pc-vm start` until QEMU runs, for the worst case; three seconds of it for the question whether the lost node answers
/// after all.
pub const START_MS: u64 = 8_000;

/// What corosync, sbd and pacemaker are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Silence before a node counts as lost (corosync `totem.token`).
    pub token_ms: u64,
    /// Agreeing on who is left (corosync `totem.consensus`): its own minimum, 1.2 x token.
    pub consensus_ms: u64,
    /// With two nodes: how long the third vote may take (`quorum.device.sync_timeout`). sbd does not trust one that
    /// takes longer than its watchdog.
    pub quorum_device_ms: u64,
    /// `SBD_WATCHDOG_TIMEOUT`.
    pub watchdog_ms: u64,
    /// `stonith-watchdog-timeout`.
    pub fencing_ms: u64,
}

/// Why the file's numbers are refused: each would let a VM run twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsafe {
    fencing_ms: u64,
    needed_ms: u64,
    terms: String,
}

impl Unsafe {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        format!("write {} or more, or leave it out: the shortest safe one is computed", self.needed_ms / 1000)
    }
}

impl fmt::Display for Unsafe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (is, needed) = (seconds(self.fencing_ms), seconds(self.needed_ms));
        write!(f, "a lost node's VMs would start elsewhere after {is}, {needed} is safe: {}", self.terms)
    }
}

impl std::error::Error for Unsafe {}

impl Timing {
    /// The numbers of a file with `nodes` nodes.
    pub fn of(ha: &Ha, nodes: usize) -> Result<Timing, Unsafe> {
        let (token, watchdog) = match ha.profile {
            Profile::Normal => (3_000, 5),
            Profile::Fast => (1_000, 5),
            Profile::Patient => (10_000, 15),
        };
        let token_ms = u64::from(ha.token_ms.unwrap_or(token));
        let watchdog_ms = u64::from(ha.watchdog_seconds.unwrap_or(watchdog)) * 1000;
        let quorum_device_ms = if nodes == 2 && ha.quorum_device.is_some() { watchdog_ms - 1_000 } else { 0 };
        let consensus_ms = (token_ms * 12).div_ceil(10);
        let mut timing = Timing { token_ms, consensus_ms, quorum_device_ms, watchdog_ms, fencing_ms: 0 };
        let needed_ms = timing.shortest_ms();
        timing.fencing_ms = ha.fencing_seconds.map_or(needed_ms, |seconds| u64::from(seconds) * 1000);
        if timing.fencing_ms < needed_ms {
            let terms = if timing.reset_ms() >= timing.locks_ms() {
                timing.reset_terms()
            } else {
                timing.locks_terms()
            };
            return Err(Unsafe { fencing_ms: timing.fencing_ms, needed_ms, terms });
        }
        Ok(timing)
    }

    /// Until the watchdog of a lost node has fired, counted from when the others know that it is lost, with a margin
    /// of one whole watchdog.
    fn reset_ms(&self) -> u64 {
        2 * self.watchdog_ms + SBD_MS + self.consensus_ms + ELECTION_MS + self.quorum_device_ms
    }

    /// Until the storage has given up the locks of its QEMU: longer than this, strictly.
    fn locks_ms(&self) -> u64 {
        (LOCKS_MS + LOCKS_MARGIN_MS + 1).saturating_sub(self.token_ms + self.consensus_ms)
    }

    /// The shortest safe `stonith-watchdog-timeout`, in whole seconds.
    fn shortest_ms(&self) -> u64 {
        self.reset_ms().max(self.locks_ms()).div_ceil(1000) * 1000
    }

    fn reset_terms(&self) -> String {
        let device = match self.quorum_device_ms {
            0 => String::new(),
            ms => format!(" + {} quorum device", seconds(ms)),
        };
        let (watchdog, consensus) = (seconds(self.watchdog_ms), seconds(self.consensus_ms));
        format!(
            "2 x {watchdog} watchdog + {} sbd + {consensus} consensus + {} election{device}",
            seconds(SBD_MS),
            seconds(ELECTION_MS)
        )
    }

    fn locks_terms(&self) -> String {
        let (token, consensus) = (seconds(self.token_ms), seconds(self.consensus_ms));
        format!(
            "with {token} token and {consensus} consensus it must outlast the {} locks of a dead client by {}",
            seconds(LOCKS_MS),
            seconds(LOCKS_MARGIN_MS)
        )
    }

    /// Which of the two conditions set the pace, in words and numbers.
    pub fn reason(&self) -> String {
        if self.reset_ms() >= self.locks_ms() { self.reset_terms() } else { self.locks_terms() }
    }

    /// From the loss of a node to QEMU running elsewhere, at worst, phase by phase in milliseconds. An operation that
    /// pacemaker has under way when the node dies comes on top: it is waited for.
    pub fn worst_case(&self) -> [(&'static str, u64); 6] {
        let detection = self.token_ms + self.consensus_ms + self.quorum_device_ms;
        let placed = detection + ELECTION_MS + self.fencing_ms + PLACEMENT_MS;
        [
            ("detection", detection),
            ("election", ELECTION_MS),
            ("fencing", self.fencing_ms),
            ("placement", PLACEMENT_MS),
            // Nothing starts from a volume that still waits for the dead node.
            ("storage", FREEZE_MS.saturating_sub(placed)),
            ("start", START_MS),
        ]
    }

    /// How often pacemaker asks how a volume or a VM is: a cluster that is given a long token is one of slow machines,
    /// which must not be kept busy with that.
    pub fn watch_ms(&self) -> u64 {
        (3 * self.token_ms).max(WATCH_MS)
    }

    /// How long the probe of a volume waits before it calls it failed: a neighbour's death must not be taken for it.
    pub fn probe_ms() -> u64 {
        FREEZE_MS + PROBE_MARGIN_MS
    }

    /// The time-out of the operation that runs the probe.
    pub fn probe_operation_ms() -> u64 {
        Timing::probe_ms() + AGENT_MS
    }

    /// The sum of [`Timing::worst_case`].
    pub fn worst_case_ms(&self) -> u64 {
        self.worst_case().iter().map(|(_, ms)| ms).sum()
    }

    /// Until a node that is cut off has been reset by its own watchdog, at the latest, counted from the cut.
    pub fn self_reset_ms(&self) -> u64 {
        self.token_ms + self.consensus_ms + self.quorum_device_ms + ELECTION_MS + SBD_MS + self.watchdog_ms
    }
}

/// `3.6 s`, `23 s`.
fn seconds(ms: u64) -> String {
    let text = format!("{}.{:03}", ms / 1000, ms % 1000);
    format!("{} s", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ha(profile: Profile) -> Ha {
        Ha {
            watchdog: "auto".into(),
            quorum_device: None,
            profile,
            token_ms: None,
            watchdog_seconds: None,
            fencing_seconds: None,
        }
    }

    /// By hand. normal: 2x5 + 4 + 3.6 + 5 = 22.6, up to 23; 3 + 3.6 + 5 + 23 + 2 + 8 = 44.6. fast: 2x5 + 4 + 1.2 + 5 = 20.2, but
    /// 1 + 1.2 + x > 25, so 23; 1 + 1.2 + 5 + 23 + 2 + 8 = 40.2. patient: 2x15 + 4 + 12 + 5 = 51; 22 + 5 + 51 + 2 + 8 = 88.
    #[test]
    fn profiles_are_what_the_documentation_says() {
        for (profile, fencing, worst) in [
            (Profile::Normal, 23_000, 44_600),
            (Profile::Fast, 23_000, 40_200),
            (Profile::Patient, 51_000, 88_000),
        ] {
            let timing = Timing::of(&ha(profile), 3).unwrap();
            assert_eq!((timing.fencing_ms, timing.worst_case_ms()), (fencing, worst), "{profile:?}");
        }
        // Volumes thaw 20 s after a death at the latest: no fail-over waits for that.
        for profile in [Profile::Normal, Profile::Fast, Profile::Patient] {
            assert_eq!(Timing::of(&ha(profile), 3).unwrap().worst_case()[4], ("storage", 0), "{profile:?}");
        }
    }

    #[test]
    fn slow_machines_are_asked_less_often() {
        let watch = |profile| Timing::of(&ha(profile), 3).unwrap().watch_ms();
        assert_eq!([Profile::Normal, Profile::Fast, Profile::Patient].map(watch), [10_000, 10_000, 30_000]);
    }

    /// 10 s of Gluster's, twice: a probe that ends earlier calls the survivors' volumes dead as well.
    #[test]
    fn a_probe_outlasts_the_freeze_of_a_neighbour_s_death() {
        assert_eq!((Timing::probe_ms(), Timing::probe_operation_ms()), (30_000, 50_000));
        assert!(Timing::probe_ms() > 2 * PING_MS);
    }

    #[test]
    fn a_third_vote_that_may_be_slow_is_waited_for() {
        let two = Ha { quorum_device: Some("tang".into()), ..ha(Profile::Normal) };
        let timing = Timing::of(&two, 2).unwrap();
        assert_eq!(timing.quorum_device_ms, 4_000, "below the watchdog, or sbd does not trust it");
        assert_eq!(timing.fencing_ms, 27_000, "22.6 + 4, up");
    }

    #[test]
    fn what_is_not_safe_is_refused_with_the_numbers() {
        let short = Ha { fencing_seconds: Some(22), ..ha(Profile::Normal) };
        assert_eq!(
            Timing::of(&short, 3).unwrap_err().to_string(),
            "a lost node's VMs would start elsewhere after 22 s, 23 s is safe: \
             2 x 5 s watchdog + 4 s sbd + 3.6 s consensus + 5 s election"
        );
        let short = Ha { fencing_seconds: Some(22), ..ha(Profile::Fast) };
        assert_eq!(
            Timing::of(&short, 3).unwrap_err().to_string(),
            "a lost node's VMs would start elsewhere after 22 s, 23 s is safe: with 1 s token and 1.2 s consensus \
             it must outlast the 20 s locks of a dead client by 5 s"
        );
        let long = Ha { fencing_seconds: Some(60), ..ha(Profile::Normal) };
        assert_eq!(Timing::of(&long, 3).unwrap().fencing_ms, 60_000);
    }

    /// The rule as DESIGN states it, in other words than the code's, over the whole range of inputs.
    #[test]
    fn no_accepted_timing_breaks_the_rule() {
        let mut accepted = 0;
        for token in (1_000..=60_000).step_by(370) {
            for watchdog in 3..=120 {
                for fencing in [None, Some(1), Some(20), Some(30), Some(90), Some(600)] {
                    let ha = Ha {
                        token_ms: Some(token),
                        watchdog_seconds: Some(watchdog),
                        fencing_seconds: fencing,
                        ..ha(Profile::Normal)
                    };
                    let Ok(timing) = Timing::of(&ha, 3) else { continue };
                    accepted += 1;
                    let Timing { token_ms, consensus_ms, watchdog_ms, fencing_ms, .. } = timing;
                    assert!(fencing_ms >= 2 * watchdog_ms + 4_000 + consensus_ms + 5_000, "{timing:?}");
                    assert!(token_ms + consensus_ms + fencing_ms > 20_000 + 5_000, "{timing:?}");
                    assert!(5 * consensus_ms >= 6 * token_ms, "corosync.conf(5) asks for 1.2: {timing:?}");
                    // Both count from the loss: the reset comes at least one whole watchdog before the take-over.
                    let reset = timing.self_reset_ms() + watchdog_ms;
                    assert!(reset <= token_ms + consensus_ms + fencing_ms, "{timing:?}");
                }
            }
        }
        assert!(accepted > 40_000, "{accepted}");
    }
}
