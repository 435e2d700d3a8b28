use cluster::{DevicePath, Name};

use super::*;

fn blank(volume: &str, purpose: Use, disk: &str) -> (Brick, Facts) {
    let brick = Brick {
        volume: Name::try_from(volume.to_string()).unwrap(),
        purpose,
        device: DevicePath::try_from(format!("/dev/disk/by-id/{disk}")).unwrap(),
    };
    let device = Device { size_bytes: 4 << 40, ..Device::default() };
    (brick, Facts { device: Some(device), ..Facts::default() })
}

#[test]
fn disks_of_vms_come_first_and_the_rest_as_in_the_file() {
    let disks = [
        blank("backup", Use::Backup, "ata-B"),
        blank("backup", Use::Backup, "ata-A"),
        blank("local", Use::Local, "ata-L"),
        blank("vms", Use::Vm, "nvme-2"),
        blank("vms", Use::Vm, "nvme-1"),
    ];
    let have: Have = disks.iter().map(|(brick, facts)| (brick.name().to_string(), facts.clone())).collect();
    let want: Vec<Brick> = disks.into_iter().map(|(brick, _)| brick).collect();
    let steps = plan("node1", &want, &have, true).plan.steps;
    let disks_of = |verb: Verb| -> Vec<&str> {
        let chosen = steps.iter().filter(|step| step.action.verb == verb);
        chosen.map(|step| step.action.disk.as_str()).collect()
    };
    let order = ["nvme-2", "nvme-1", "ata-B", "ata-A", "ata-L"];
    assert_eq!(disks_of(Verb::LuksFormat), order);
    assert_eq!(disks_of(Verb::HeaderBackup), order);
    let served = steps.iter().rposition(|step| step.id == "nvme-1/record").unwrap();
    let next = steps.iter().position(|step| step.id == "ata-B/claim").unwrap();
    assert!(served < next, "one disk after the other");
}
