//! A guest that QEMU paused because its disk failed goes on when its volume answers again.
//!
//! Touches no volume: this runs within pacemaker's monitor, which must not hang with it. The volume's own probe says when it
//! was last written to.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use cluster::Cluster;
use cluster::timing::Timing;
use pc_cli::{Exit, log, try_again};

use crate::hypervisor::{Hypervisor, IO_ERROR, Live};
use crate::site::Site;

/// For each of three calls of libvirt: pacemaker gives its monitor half a minute, of which the look at /proc may take a third.
const GLANCE: Duration = Duration::from_secs(4);
/// Where the agent pc-volume notes that a write has reached the volume, every ten seconds or so.
const PROBES: &str = "/run/personal-cluster/ha";

/// What is to be done about a guest.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It runs, or somebody had his reasons to pause it.
    Leave,
    /// Its volume does not answer yet.
    Wait,
    /// It goes on.
    Resume,
}

fn judge(live: Option<&Live>, answers: bool) -> Verdict {
    match live {
        Some(live) if live.active && live.reason == Some(IO_ERROR) => {
            if answers {
                Verdict::Resume
            } else {
                Verdict::Wait
            }
        }
        _ => Verdict::Leave,
    }
}

/// Has a guest of this node go on that was paused for an I/O error; does nothing about any other.
pub fn resume(site: &Site, name: &str) -> Result<Exit> {
    let guest = site.guest(name)?;
    let (uuid, volume) = (guest.uuid(), guest.vm.volume.as_str());
    let local = site.nodes.local_within(GLANCE)?;
    let live = local.live(&uuid, GLANCE)?;
    let answers = was_written(&site.common.under_root(PROBES), volume, recent(site.cluster())?);
    act(&local, name, volume, &uuid, &judge(live.as_ref(), answers))
}

fn act(local: &Hypervisor, name: &str, volume: &str, uuid: &str, verdict: &Verdict) -> Result<Exit> {
    match verdict {
        Verdict::Leave => {}
        Verdict::Wait => {
            return Err(try_again(format!(
                "vm {name} is paused after an I/O error, and its volume {volume} does not answer yet\n  pc-gluster status"
            )));
        }
        Verdict::Resume => {
            local.resume(uuid, GLANCE).with_context(|| format!("resuming vm {name}"))?;
            log::warning(format_args!(
                "vm {name} was paused after an I/O error, and goes on: its volume {volume} answers again"
            ));
        }
    }
    Ok(Exit::Done)
}

/// How old the note of a volume may be that answers: pacemaker begins a probe this long after the last one has ended, and one
/// that takes all the time it is given has succeeded nevertheless. Where a volume fails there is no note until then, and a guest
/// that goes on too early is paused again.
fn recent(cluster: &Cluster) -> Result<Duration> {
    // Nobody notes anything without [ha].
    let Some(ha) = &cluster.ha else { return Ok(Duration::ZERO) };
    let timing = Timing::of(ha, cluster.nodes.len())?;
    Ok(Duration::from_millis(timing.watch_ms() + Timing::probe_operation_ms()))
}

/// Whether a probe's write has reached the volume lately.
fn was_written(probes: &Path, volume: &str, recent: Duration) -> bool {
    let noted = std::fs::metadata(probes.join(format!("{volume}.written"))).and_then(|meta| meta.modified());
    // A time of the future is of a clock that was set back: the next probe notes another one.
    noted.is_ok_and(|noted| noted.elapsed().is_ok_and(|age| age <= recent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    #[test]
    fn only_what_an_i_o_error_paused_goes_on_and_only_when_the_volume_answers() {
        let live = |state, reason, active| Some(Live { state, reason, active, memory_bytes: 0 });
        let failed = live("paused", Some(IO_ERROR), true);
        for (live, answers, expected) in [
            (failed.clone(), true, Verdict::Resume),
            (failed, false, Verdict::Wait),
            (live("paused", Some("by an administrator"), true), true, Verdict::Leave),
            (live("paused", Some("is being moved"), true), true, Verdict::Leave),
            (live("paused", None, true), true, Verdict::Leave),
            (live("running", None, true), true, Verdict::Leave),
            (live("shut off", None, false), true, Verdict::Leave),
            (None, true, Verdict::Leave),
        ] {
            assert_eq!(judge(live.as_ref(), answers), expected, "{live:?} {answers}");
        }
    }

    /// By hand: every 10 s (patient: three tokens of 10 s), 30 s for the write and 20 s for the agent to say so.
    #[test]
    fn a_write_counts_until_the_next_one_is_overdue() {
        let recent = |ha: &str| {
            let node =
                |number| format!("[[node]]\nname = \"n{number}\"\naddress = \"192.0.2.{number}/24\"\n");
            let nodes: String = (1..=3).map(node).collect();
            let file = format!("schema = \"personal-cluster/1\"\nname = \"home\"\n{ha}{nodes}");
            super::recent(&cluster::parse("test", &file).unwrap()).unwrap().as_secs()
        };
        assert_eq!(recent("ha = {}\n"), 60);
        assert_eq!(recent("[ha]\nprofile = \"patient\"\n"), 80);
        assert_eq!(recent(""), 0);
        let probes = tempfile::tempdir().unwrap();
        let minute = Duration::from_secs(60);
        let written = |volume| was_written(probes.path(), volume, minute);
        assert!(!written("vms"), "no probe has written yet");
        let file = std::fs::File::create(probes.path().join("vms.written")).unwrap();
        assert!(written("vms") && !written("other"));
        for (seconds, counts) in [(50, true), (70, false)] {
            file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
            assert_eq!(written("vms"), counts, "{seconds} s ago");
        }
        file.set_modified(SystemTime::now() + 60 * minute).unwrap();
        assert!(!written("vms"), "of a clock that was set back");
    }

    /// libvirt's test driver pauses for no I/O error, but it does pause and go on.
    #[test]
    fn a_paused_domain_goes_on() {
        const UUID: &str = "32bb3f29-f1f3-8955-8093-5b31b9c88b6c";
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node.xml");
        let node = format!(
            "<node><domain type='test' xmlns:t='http://libvirt.org/schemas/domain/test/1.0'><name>mail</name>\
             <uuid>{UUID}</uuid><memory unit='KiB'>65536</memory><vcpu>1</vcpu><os><type>hvm</type></os>\
             <t:runstate>3</t:runstate></domain><cpu><mhz>1</mhz><model>x</model><active>2</active><nodes>1</nodes>\
             <sockets>1</sockets><cores>2</cores><threads>1</threads></cpu><memory>8192000</memory></node>"
        );
        std::fs::write(&path, node).unwrap();
        let local = Hypervisor::open(&format!("test://{}", path.display()), "this node", GLANCE).unwrap();
        let state = || local.live(UUID, GLANCE).unwrap().unwrap().state;
        assert_eq!(state(), "paused");
        act(&local, "mail", "vms", UUID, &Verdict::Leave).unwrap();
        let waits = act(&local, "mail", "vms", UUID, &Verdict::Wait).unwrap_err();
        assert!(waits.is::<pc_cli::TryAgain>(), "{waits}");
        assert_eq!(state(), "paused");
        act(&local, "mail", "vms", UUID, &Verdict::Resume).unwrap();
        assert_eq!(state(), "running");
    }
}
