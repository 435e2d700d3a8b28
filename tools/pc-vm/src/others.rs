//! What else runs here when the machine goes down: VMs that left the file while they ran, and guests that somebody else
//! made. libvirt-guests is skipped on a machine of a cluster, so nobody else presses their power buttons.

use std::time::Duration;

use anyhow::{Result, anyhow};
use pc_cli::log;

use crate::hypervisor::{Found, Hypervisor};
use crate::site::Site;
use crate::stop::{end, press};

/// Stops whatever runs on this node and is not in the file, all at once.
pub fn stop(site: &Site, patience: Duration) -> Result<()> {
    let file: Vec<String> = site.guests().iter().map(crate::domain::Guest::uuid).collect();
    stop_on(&site.nodes.local()?, &file, patience)
}

fn stop_on(hypervisor: &Hypervisor, file: &[String], patience: Duration) -> Result<()> {
    let others = others(file, hypervisor.domains()?);
    std::thread::scope(|scope| {
        let stopping: Vec<_> =
            others.iter().map(|found| scope.spawn(|| stop_one(hypervisor, found, patience))).collect();
        let lost = |_| Err(anyhow!("stopping a guest ended badly"));
        let results = stopping.into_iter().map(|thread| thread.join().unwrap_or_else(lost));
        pc_cli::together(results.filter_map(Result::err))
    })
}

/// Those that run and are not in the file: of our own making first.
fn others(file: &[String], domains: Vec<Found>) -> Vec<Found> {
    let running = domains.into_iter().filter(|found| found.active);
    let (ours, theirs): (Vec<_>, Vec<_>) =
        running.filter(|found| !file.contains(&found.uuid)).partition(|found| found.mark.is_some());
    ours.into_iter().chain(theirs).collect()
}

/// Somebody else's guest is asked only: its plug is left to systemd, which ends every QEMU at last.
fn stop_one(hypervisor: &Hypervisor, found: &Found, patience: Duration) -> Result<()> {
    let (name, uuid) = (&found.name, &found.uuid);
    if found.mark.is_some() {
        end(hypervisor, name, uuid, patience)?;
        log::info(format_args!("stopped vm {name}, which is not in the file any more"));
    } else if press(hypervisor, name, uuid, patience)? {
        log::info(format_args!("domain {name}, which pc-vm did not make, has stopped"));
    } else {
        let seconds = patience.as_secs();
        log::warning(format_args!(
            "domain {name}, which pc-vm did not make, did not stop within {seconds} s"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::NAMESPACE;
    use crate::hypervisor::QUICK;

    fn domain(name: &str, uuid: &str, marked: bool) -> String {
        let mark =
            if marked { format!("<pc:vm xmlns:pc='{NAMESPACE}' digest='one'/>") } else { String::new() };
        format!(
            "<domain type='test'><name>{name}</name><uuid>{uuid}</uuid><metadata>{mark}</metadata>\
             <memory unit='KiB'>65536</memory><vcpu>1</vcpu><os><type>hvm</type></os></domain>"
        )
    }

    /// The test driver knows no power button: nobody stops when asked.
    #[test]
    fn what_left_the_file_is_stopped_and_what_is_somebody_else_s_is_asked() {
        let uuid = |number: u8| format!("32bb3f29-f1f3-8955-8093-0000000000{number:02}");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node.xml");
        let running = domain("alien", &uuid(1), false)
            + &domain("mail", &uuid(2), true)
            + &domain("old", &uuid(3), true);
        std::fs::write(&path, format!("<node>{running}</node>")).unwrap();
        let uri = format!("test://{}", path.display());
        let hypervisor = Hypervisor::open(&uri, "the test host", QUICK).unwrap();
        hypervisor.define(&domain("off", &uuid(4), true)).unwrap();
        let file = [uuid(2)];
        let names = |found: Vec<Found>| found.into_iter().map(|found| found.name).collect::<Vec<_>>();
        assert_eq!(names(others(&file, hypervisor.domains().unwrap())), ["old", "alien"]);
        stop_on(&hypervisor, &file, Duration::from_millis(10)).unwrap();
        let left = hypervisor.domains().unwrap().into_iter().filter(|found| found.active).collect();
        assert_eq!(names(left), ["alien", "mail"]);
    }
}
