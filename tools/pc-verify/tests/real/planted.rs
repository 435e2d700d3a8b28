//! What is to be found, planted one by one on a machine's root that is otherwise as it should be: the program itself tells each,
//! with its remedy, and nothing else. Units, the clock and other nodes are planted in the tests of systemd.rs, lints.rs and
//! whole.rs, as a private root has none.

use std::fs;

use serde_json::{Value, json};

use crate::node::{HA, NODE, Node, OTHERS, healthy};

#[test]
fn a_node_as_it_should_be_is_silent_but_for_what_opens_no_disk() {
    let told = Node::new().told();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told.iter()
            .all(|[severity, fault, _]| severity == "warning" && fault.contains("disks without [unlock]"))
    );
}

#[test]
fn a_set_up_by_hand() {
    let plant = |files: &[(&str, &str)], severity, fault: &str, remedy: &str| {
        let node = Node::new();
        for (path, text) in files {
            node.put(path, text);
        }
        node.finds(severity, fault, remedy);
    };
    plant(
        &[("etc/libvirt/qemu.conf", "security_driver = \"none\"\n")],
        "problem",
        "security_driver = \"none\"",
        "remove that line, then systemctl restart libvirtd.service",
    );
    plant(
        &[("etc/crypttab", "gv0 /dev/sdb1 none luks\n")],
        "problem",
        "gv0 is /dev/sdb1, which may be another disk after a reboot",
        "write UUID=..., as `blkid /dev/sdb1` prints it",
    );
    plant(
        &[("etc/crypttab", "gv0 UUID=4b none luks,_netdev\n")],
        "problem",
        "gv0 lacks nofail",
        "add nofail to the options of gv0 in /etc/crypttab",
    );
    plant(
        &[("etc/fstab", "node1:/gv0 /gluster glusterfs defaults,_netdev 0 0\n")],
        "problem",
        "/gluster lacks nofail",
        "add nofail to the options of /gluster in /etc/fstab",
    );
    plant(
        &[("etc/fstab", "node1:/gv0 /gluster glusterfs nofail,_netdev 0 0\n")],
        "warning",
        "asks node1:/gv0 alone",
        "add backup-volfile-servers=NODE:NODE to its options in /etc/fstab",
    );
    plant(
        &[("var/lib/glusterd/vols/vms/info", "type=2\n")],
        "problem",
        "volume vms has disks of VMs without the options for them",
        "pc-gluster apply",
    );
    // Also of a volume that is not in the file.
    plant(
        &[("var/lib/glusterd/vols/gv1/info", "server.allow-insecure=on\n")],
        "problem",
        "volume gv1 has server.allow-insecure",
        "gluster volume reset gv1 server.allow-insecure",
    );
    plant(
        &[("var/lib/glusterd/snaps/nightly/info", "")],
        "warning",
        "Gluster's snapshot nightly is there",
        "gluster snapshot delete nightly",
    );
    plant(
        &[("etc/cron.daily/backup", "#!/bin/sh\nborg create /backup::x /mnt/vms || true\n")],
        "warning",
        "/etc/cron.daily/backup copies volumes by itself",
        "remove that from /etc/cron.daily/backup; [backup.NAME] in the cluster file does it",
    );
    let node = Node::new();
    node.key("usr/lib/ssl/glusterfs.key", 0o644);
    node.finds("problem", "every user may read the key", "chmod o= /usr/lib/ssl/glusterfs.key");
}

#[test]
fn a_file_that_does_without() {
    let plant = |parts: &[&str], fault, remedy| {
        let node = Node::new();
        node.file(parts);
        node.finds("warning", fault, remedy);
    };
    plant(
        &[NODE, OTHERS],
        "there is no [ha]: when a node dies, its VMs wait for it",
        "add [ha], then pc-ha enable on every node",
    );
    let near = OTHERS.replace("ssh://borg@backup.example/./home", "/mnt/vms/borg");
    plant(
        &[NODE, &near, HA],
        "every backup of mail is on the nodes themselves",
        "add a [backup.NAME] with repository = \"ssh://USER@HOST/PATH\" or \"disk:LABEL=LABEL\"",
    );
}

/// One server that does not answer is two faults: that there is no other, and that nothing would open the disks now.
#[test]
fn an_unlock_server_that_is_alone_and_away() {
    let node = Node::new();
    let thumbprint = "oHhoq8SKDvqo1Ub0LBEKF0I9iEQWyWZiGcuDIySbWYs";
    // Nobody listens on the discard port.
    let unlock =
        format!("[unlock]\ntang = [{{ url = \"http://127.0.0.1:9\", thumbprint = \"{thumbprint}\" }}]\n");
    node.file(&[NODE, OTHERS, HA, &unlock]);
    let told: Vec<_> = node.told().into_iter().collect();
    let [[first, would, look], [second, alone, name]] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((first.as_str(), second.as_str()), ("problem", "warning"));
    assert!(
        would.starts_with("would stay locked if it were rebooted now: unlock server http://127.0.0.1:9: "),
        "{would}"
    );
    assert!(!would.contains("asking http"), "{would}");
    assert_eq!(look, "curl -m 5 http://127.0.0.1:9/adv");
    assert!(alone.starts_with("unlock.tang names http://127.0.0.1:9 alone"), "{alone}");
    assert_eq!(name, "name a second server beside it; `pc-unlock adv URL` prints its line");
}

#[test]
fn a_machine_that_is_about_to_fail_or_to_tell() {
    let node = Node::new();
    node.put("proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n/dev/sda3 partition 1000 0 -2\n");
    fs::create_dir_all(node.bench.path("sys/class/block/sda3")).unwrap();
    let remedy = "swapoff /dev/sda3, and put dm-crypt with a random key below it (crypttab(5), option swap)";
    node.finds("problem", "swap /dev/sda3 is not encrypted", remedy);
    let disk = |smart: &Value| {
        let node = Node::new();
        // Of a clock that has been set back since: never too old.
        let fact = json!({"schema": "pc.exporter.fact/1", "name": "smart-nvme-A",
            "measured_at": "2999-01-01T00:00:00Z", "answer": smart});
        node.put("run/personal-cluster/facts/smart-nvme-A.json", &fact.to_string());
        node
    };
    let smart = "smartctl --all /dev/disk/by-id/nvme-A";
    let device = json!({"name": "/dev/disk/by-id/nvme-A"});
    disk(&json!({"device": device, "smart_status": {"passed": false}})).finds(
        "problem",
        "disk nvme-A expects to fail",
        smart,
    );
    let worn =
        json!({"critical_warning": 0, "percentage_used": 95, "available_spare": 100, "media_errors": 0});
    let worn = json!({"device": device, "smart_status": {"passed": true}, "nvme_smart_health_information_log": worn});
    disk(&worn).finds("warning", "disk nvme-A has used 95 % of its rated life", smart);
    let table = json!([{"id": 197, "value": 100, "raw": {"value": 8}}]);
    let lost = json!({"device": device, "ata_smart_attributes": {"table": table}});
    disk(&lost).finds("warning", "disk nvme-A cannot read 8 sectors", smart);
    let worn = json!([{"id": 233, "value": 4, "raw": {"value": 8}}]);
    let worn = json!({"device": device, "ata_smart_attributes": {"table": worn}});
    disk(&worn).finds("warning", "disk nvme-A has used 96 % of its rated life", smart);
    let node = Node::new();
    node.bench
        .program("upsc", "case $1 in -l) echo ups-1 ;; ups-1) [ $2 = ups.status ] && echo 'OB LB' ;; esac");
    let remedy = "pc-vm stop --all, then poweroff, on each node that ups-1 feeds";
    node.finds("problem", "the battery of ups-1 is nearly empty", remedy);
    node.put("var/lib/personal-cluster/ha-enabled", "");
    node.finds("problem", "the battery of ups-1 is nearly empty", "pc-ha shutdown --all");
    // One that says nothing holds up no other.
    let silent = "case $1 in -l) echo ups-1; echo ups-2 ;; ups-1) echo 'Error: Data stale' >&2; exit 1 ;; ups-2) echo OL ;; esac";
    node.bench.program("upsc", silent);
    node.finds("warning", "NUT knows nothing of ups-1: Data stale", "upsc ups-1");
}

/// The files of a machine are looked at beside everything else: a link onto a volume, which may hang, is not followed.
#[test]
fn a_link_onto_a_volume_is_left_out() {
    let node = Node::new();
    node.put("mnt/vms/backup.sh", "borg create /backup::x /mnt/vms\n");
    fs::create_dir_all(node.bench.path("usr/local/bin")).unwrap();
    let link = node.bench.path("usr/local/bin/backup");
    std::os::unix::fs::symlink("../../../mnt/vms/backup.sh", &link).unwrap();
    assert_eq!(node.told(), Node::new().told());
    fs::remove_file(&link).unwrap();
    node.put("opt/backup.sh", "borg create /backup::x /mnt/vms\n");
    std::os::unix::fs::symlink("../../../opt/backup.sh", &link).unwrap();
    let remedy = "remove that from /usr/local/bin/backup; [backup.NAME] in the cluster file does it";
    node.finds("warning", "/usr/local/bin/backup copies volumes by itself", remedy);
}

/// What the tools tell comes through with its remedy, and once.
#[test]
fn what_a_tool_tells() {
    let plant = |tool: &str, change: fn(&mut Value), severity: &str, fault: &str, remedy: &str| {
        let node = Node::new();
        let mut status = healthy(tool);
        change(&mut status);
        node.says(tool, &status);
        node.finds(severity, fault, remedy);
    };
    let problem = |status: &mut Value, text: &str| {
        (status["healthy"], status["problems"]) = (json!(false), json!([text]));
    };
    for (tool, text, fault, remedy) in [
        (
            "vm",
            "not done yet: turn off libvirt's autostart of vm mail",
            "turn off libvirt's autostart of vm mail",
            "pc-vm apply",
        ),
        (
            "vm",
            "libvirt-guests runs: a second one who starts and stops VMs\n  systemctl disable --now libvirt-guests",
            "libvirt-guests runs",
            "systemctl disable --now libvirt-guests",
        ),
        (
            "trust",
            "the node's certificate has expired",
            "the node's certificate has expired",
            "pc-trust status",
        ),
        (
            "ha",
            "not done yet: option stonith-watchdog-timeout = 23s",
            "option stonith-watchdog-timeout = 23s",
            "pc-ha apply",
        ),
        (
            "borg",
            "vm mail: the last drill with daily did not end well: no sign of life",
            "the last drill with daily did not end well",
            "pc-borg status",
        ),
    ] {
        let node = Node::new();
        let mut status = healthy(tool);
        problem(&mut status, text);
        node.says(tool, &status);
        node.finds("problem", fault, remedy);
    }
    let brick = "disk nvme-A of volume vms";
    plant(
        "brick",
        |status| {
            status["healthy"] = json!(false);
            status["bricks"][1]["problems"] = json!(["no backup of the LUKS header\n  pc-brick apply"]);
        },
        "problem",
        &format!("{brick}: no backup of the LUKS header"),
        "pc-brick apply",
    );
    // Nothing that `apply` would mend.
    plant(
        "brick",
        |status| {
            status["healthy"] = json!(false);
            status["bricks"][1]["problems"] = json!(["its file system takes no writes"]);
        },
        "problem",
        &format!("{brick}: its file system takes no writes"),
        "pc-brick status",
    );
    plant(
        "brick",
        |status| (status["healthy"], status["bricks"][1]["state"]) = (json!(false), json!("formatted")),
        "problem",
        &format!("{brick} is not mounted"),
        "pc-brick apply",
    );
    plant(
        "vm",
        |status| status["vms"][0]["disk_locked"] = json!(false),
        "warning",
        "vm mail: QEMU has lost its lock on the disk",
        "pc-vm migrate mail NODE",
    );
    plant(
        "config",
        |status| status["edited"] = json!(true),
        "problem",
        "was edited and is not in force",
        "pc-config push",
    );
}
