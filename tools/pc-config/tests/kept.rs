//! put on a node whose record of the file in force is refused by today's checks, broken or lost: what must not change of VMs is
//! known all the same, or nothing is put.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod machine;

use machine::{Ended, Machine};
use sha2::{Digest, Sha256};

const APPLIED: &str = "var/lib/personal-cluster/applied.json";
const GENERATION: &str = "var/lib/personal-cluster/generation.json";

/// Two nodes, each with a disk of a local volume, and a VM on the first; `disk` of the first node.
fn file(name: &str, home: &str, disk: &str) -> String {
    format!(
        "schema = \"personal-cluster/1\"\nname = \"{name}\"\n\
         [[node]]\nname = \"node1\"\naddress = \"10.0.0.1\"\ndisks.v = [\"/dev/disk/by-id/ata-{disk}\"]\n\
         [[node]]\nname = \"node2\"\naddress = \"10.0.0.2\"\ndisks.v = [\"/dev/disk/by-id/ata-B\"]\n\
         [volume.v]\nuse = \"local\"\n\
         [vm.mail]\nmemory = \"1GiB\"\ndisk = \"1GiB\"\nvolume = \"v\"\nhome = \"{home}\"\n"
    )
}

/// A machine that has had two files; its record as `spoil` leaves it.
fn machine(spoil: impl Fn(&Machine)) -> Machine {
    let machine = Machine::new();
    for text in [file("home", "node1", "A"), file("home", "node1", "A") + "# second\n"] {
        let put = machine.put(&text);
        assert_eq!(put.code, 0, "{}", put.stderr);
    }
    spoil(&machine);
    machine
}

fn write(machine: &Machine, path: &str, text: &str) {
    std::fs::write(machine.root.join(path), text).unwrap();
}

/// Has another text as the one in force, its digest right.
fn keeps(machine: &Machine, text: &str) {
    assert!(cluster::parse("x", text).is_err(), "it is refused by now");
    let mut record: serde_json::Value = serde_json::from_str(&machine.read(GENERATION)).unwrap();
    record["sha256"] = format!("{:x}", Sha256::digest(text)).into();
    record["file"] = text.into();
    write(machine, GENERATION, &record.to_string());
}

fn remove(machine: &Machine, path: &str) {
    std::fs::remove_file(machine.root.join(path)).unwrap();
}

fn refused(what: &str, machine: &Machine, text: &str, says: &str) {
    let before = machine.everything();
    let Ended { code, stderr, .. } = machine.put(text);
    assert_eq!(code, 2, "{what}: {stderr}");
    assert!(stderr.contains(says), "{what}: {stderr}");
    assert_eq!(machine.everything(), before, "{what}");
}

#[test]
fn what_vms_need_is_kept_whatever_became_of_the_record() {
    type Spoil = fn(&Machine);
    let spoilt: [(&str, Spoil); 7] = [
        ("whole", |_| {}),
        ("an address that is refused by now", |machine| {
            keeps(machine, &file("home", "node1", "A").replace("10.0.0.2", "fe80::2"));
        }),
        ("a server twice", |machine| {
            let unlock = "[unlock]\nneed = 1\ntang = [\"http://10.0.0.9\", \"http://10.0.0.9/\", \"https://10.0.0.8\"]\n";
            keeps(machine, &(file("home", "node1", "A") + unlock));
        }),
        ("a key of a later version", |machine| {
            keeps(machine, &(file("home", "node1", "A") + "later = 1\n[kubernetes]\nnodes = 3\n"));
        }),
        ("a choice of a later version", |machine| {
            keeps(machine, &file("home", "node1", "A").replace("\"local\"", "\"somewhere\""));
        }),
        ("an empty record", |machine| write(machine, GENERATION, "")),
        ("a lost record", |machine| remove(machine, GENERATION)),
    ];
    for (what, spoil) in spoilt {
        let machine = machine(spoil);
        refused(what, &machine, &file("office", "node1", "A"), "this cluster is called home and has VMs");
        refused(
            what,
            &machine,
            &file("home", "node2", "A"),
            "its home would be node2, and its disk is on node1 alone",
        );
        let put = machine.put(&(file("home", "node1", "A") + "# third\n"));
        assert_eq!(put.code, 0, "{what}: {}", put.stderr);
        let is_lost = put.stderr.contains("generation.json is lost: the new file is compared with ");
        assert_eq!(is_lost, what.ends_with(" record"), "{what}: {}", put.stderr);
        let again = machine.put(&(file("home", "node1", "A") + "# third\n"));
        assert_eq!((again.code, again.stderr.as_str()), (0, ""), "{what}");
    }
}

#[test]
fn what_nobody_can_read_is_not_put_over() {
    let machine = machine(|machine| {
        write(machine, GENERATION, "");
        write(machine, APPLIED, "{");
    });
    let same = file("home", "node1", "A");
    refused(
        "both",
        &machine,
        &same,
        "a VM of it could start twice or with an empty disk: /var/lib/personal-cluster/generation.json: is not a generation; /var/lib/personal-cluster/applied.json",
    );
    remove(&machine, GENERATION);
    refused("one", &machine, &same, "only where no VM ever ran: rm /var/lib/personal-cluster/applied.json\n");
    // Both lost: cluster.toml is what stands there of the last put.
    remove(&machine, APPLIED);
    refused("both lost", &machine, &file("office", "node1", "A"), "this cluster is called home");
    write(&machine, "etc/personal-cluster/cluster.toml", "schema = \n");
    refused(
        "all of it",
        &machine,
        &same,
        "only where no VM ever ran: rm /etc/personal-cluster/cluster.toml\n",
    );
    remove(&machine, "etc/personal-cluster/cluster.toml");
    assert_eq!(machine.put(&file("office", "node1", "A")).code, 0, "blank");
}

/// What somebody wrote there and never put was never in force.
#[test]
fn the_first_put_is_compared_with_nothing() {
    for text in [file("other", "node2", "A"), "schema = \n".into()] {
        let machine = Machine::new();
        std::fs::create_dir_all(machine.root.join("etc/personal-cluster")).unwrap();
        write(&machine, "etc/personal-cluster/cluster.toml", &text);
        let put = machine.put(&file("home", "node1", "A"));
        assert_eq!(
            (put.code, put.stdout.as_str()),
            (0, "generation 1 is in force on node1\n"),
            "{}",
            put.stderr
        );
    }
}

#[test]
fn the_number_does_not_begin_anew() {
    let put = |machine: &Machine| machine.put(&(file("home", "node1", "A") + "# third\n")).stdout;
    let cut = machine(|machine| {
        let record = machine.read(GENERATION);
        write(machine, GENERATION, &record[..record.len() / 2]);
    });
    assert_eq!(put(&cut), "generation 3 is in force on node1\n");
    let lost = machine(|machine| {
        assert_eq!(machine.run(&["--node", "node1", "status"], "").code, 0);
        remove(machine, GENERATION);
    });
    assert_eq!(put(&lost), "generation 3 is in force on node1\n");
}

/// A dead disk is replaced like this; a typing error, or two nodes whose disks were swapped, look the same.
#[test]
fn another_disk_below_a_vm_is_told() {
    let whole = machine(|_| {});
    let put = whole.put(&file("home", "node1", "C"));
    assert_eq!(put.code, 0, "{}", put.stderr);
    let says = "warning: node1: /dev/disk/by-id/ata-C takes the place of /dev/disk/by-id/ata-A in the local volume v: the disk of mail stays behind ";
    assert!(put.stderr.contains(says), "{}", put.stderr);
    // The VM is on node1: on node2 nothing is lost.
    let other = whole.put(&file("home", "node1", "C").replace("ata-B", "ata-D"));
    assert_eq!((other.code, other.stderr.contains("takes the place")), (0, false), "{}", other.stderr);
    let lost = machine(|machine| remove(machine, GENERATION));
    assert!(lost.put(&file("home", "node1", "C")).stderr.contains(says), "known by applied.json");
}
