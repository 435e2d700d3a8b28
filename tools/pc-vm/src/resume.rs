//! A guest that QEMU paused because its disk failed goes on when its volume answers again.
//!
//! Touches no volume: this runs within pacemaker's monitor, which must not hang with it. The volume's own probe says when it
//! was last written to.
//!
//! One whose disk is open on a mount that is no more never goes on; it is said of none that only waits. See [`descriptor`].

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use cluster::Cluster;
use cluster::timing::Timing;
use pc_cli::{Exit, log, try_again};

use crate::descriptor;
use crate::hypervisor::{Hypervisor, IO_ERROR, Live};
use crate::places::Places;
use crate::probe;
use crate::site::Site;

/// For each of a few calls of libvirt: pacemaker gives its monitor two minutes, of which the looks at /proc may take a sixth.
const GLANCE: Duration = Duration::from_secs(8);
/// Where the agent pc-volume notes that a write has reached the volume, every ten seconds or so.
const PROBES: &str = "/run/personal-cluster/ha";

/// How long a guest that went on is watched, in seconds: QEMU tries at once what failed, and an end of the client is told
/// without asking anybody. One that takes longer is found paused by the next monitor.
const WATCHED: u32 = 3;

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

fn is_stuck(live: Option<&Live>) -> bool {
    judge(live, true) == Verdict::Resume
}

/// Has a guest of this node go on that was paused for an I/O error; does nothing about any other. With `exit_code` 3 when it
/// cannot, and nothing but a new start will help.
pub fn resume(site: &Site, name: &str, exit_code: bool) -> Result<Exit> {
    let guest = site.guest(name)?;
    let (uuid, volume) = (guest.uuid(), guest.vm.volume.as_str());
    let local = site.nodes.local_within(GLANCE)?;
    let live = local.live(&uuid, GLANCE)?;
    let answers = was_written(&site.common.under_root(PROBES), volume, recent(site.cluster())?);
    let verdict = judge(live.as_ref(), answers);
    act(&local, name, volume, &uuid, &verdict)?;
    if verdict != Verdict::Resume
        || !has_lost_its_disk(site, &uuid, &Places::of(guest.name, &guest.vm.volume))
    {
        return Ok(Exit::Done);
    }
    // A mount that was taken away serves on while its client lives: what the guest itself meets decides.
    if !is_paused_again(|| local.live(&uuid, GLANCE), Duration::from_secs(1))? {
        return Ok(Exit::Done);
    }
    log::error(format_args!(
        "vm {name} cannot go on: its disk is open on a mount of volume {volume} that is no more, it has to be started anew"
    ));
    Ok(Exit::of_answer(exit_code, true))
}

/// Nothing is lost as far as anybody knows, when the kernel does not tell.
fn has_lost_its_disk(site: &Site, uuid: &str, places: &Places) -> bool {
    let look = || -> Result<bool, String> {
        let Some(pid) = probe::process(site, uuid)? else { return Ok(false) };
        let proc = site.common.under_root("/proc");
        descriptor::lost(&proc, pid, &places.mount, &places.disk)
            .map_err(|error| format!("looking at the files of process {pid}: {error}"))
    };
    look().unwrap_or_else(|reason| {
        log::debug(reason);
        false
    })
}

/// Whether a guest that has just gone on is paused for an I/O error again.
fn is_paused_again(mut look: impl FnMut() -> Result<Option<Live>>, pause: Duration) -> Result<bool> {
    for _ in 0..WATCHED {
        std::thread::sleep(pause);
        if is_stuck(look()?.as_ref()) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn act(local: &Hypervisor, name: &str, volume: &str, uuid: &str, verdict: &Verdict) -> Result<()> {
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
    Ok(())
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

    #[test]
    fn a_guest_that_goes_on_is_watched_until_it_is_paused_again() {
        let live = |state, reason| Some(Live { state, reason, active: true, memory_bytes: 0 });
        let (runs, failed) = (live("running", None), live("paused", Some(IO_ERROR)));
        let watched = |states: Vec<Option<Live>>| {
            let mut states = states.into_iter();
            let again = is_paused_again(|| Ok(states.next().unwrap()), Duration::ZERO).unwrap();
            (again, states.count())
        };
        assert_eq!(watched(vec![runs.clone(), failed.clone(), runs.clone()]), (true, 1));
        assert_eq!(watched(vec![runs.clone(), runs.clone(), runs.clone(), failed]), (false, 1));
        // Paused by somebody, or gone.
        assert_eq!(watched(vec![runs, live("paused", Some("by an administrator")), None]), (false, 0));
        assert!(is_paused_again(|| Err(try_again("libvirt hangs")), Duration::ZERO).is_err());
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
