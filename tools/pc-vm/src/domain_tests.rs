use super::*;
use xshell::{Shell, cmd};

const FILE: &str = r#"
schema = "personal-cluster/1"
name = "home"

[[node]]
name = "node1"
address = "192.168.0.50/24"
nics.lan = ["enp1s0"]
disks.vms = ["/dev/disk/by-id/virtio-a"]

[volume.vms]
use = "local"

[network.lan]
uplink = "lan"
[network.mail]
uplink = "lan"
vlan = 20
mtu = 9000

[vm.mail]
cpus = 2
memory = "2GiB"
disk = "20GiB"
volume = "vms"
networks = ["lan", "mail"]

[vm.tiny]
memory = "96MiB"
disk = "1GiB"
volume = "vms"
firmware = "uefi"
"#;

fn pc(domain_type: &str, x86_64_v2: bool) -> HostFacts {
    HostFacts { arch: "x86_64".into(), domain_type: domain_type.into(), x86_64_v2 }
}

fn rendered(vm: &str, host: &HostFacts) -> Definition {
    let cluster = cluster::parse("test", FILE).unwrap();
    let (name, vm) = cluster.vms.get_key_value(vm).unwrap();
    render(&Guest { cluster: &cluster, name, vm }, host)
}

/// Compared with a file that a person has read; the digest in it comes out of the rest.
fn golden(file: &str, definition: &Definition) {
    let path = format!("{}/tests/golden/{file}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &definition.xml).unwrap();
    }
    assert_eq!(definition.xml, std::fs::read_to_string(&path).unwrap(), "{file}");
    let sh = Shell::new().unwrap();
    let checked = cmd!(sh, "virt-xml-validate {path} domain").quiet().ignore_status().output().unwrap();
    assert!(checked.status.success(), "{file}: {}", String::from_utf8_lossy(&checked.stderr));
}

#[test]
fn a_pc_with_two_networks() {
    golden("domain-mail.xml", &rendered("mail", &pc("kvm", true)));
}

/// Open vSwitch takes a port without a tag for a trunk: a guest on `lan` would hear and speak on `mail`.
#[test]
fn no_card_is_a_trunk() {
    let xml = rendered("mail", &pc("kvm", true)).xml;
    let tags: Vec<&str> = xml
        .split("<interface ")
        .skip(1)
        .filter_map(|card| card.split("<tag id='").nth(1)?.split('\'').next())
        .collect();
    assert_eq!(tags, ["0", "20"]);
}

/// A router VM: the VLANs that the file names, no other, and untagged what the card is on.
#[test]
fn a_trunk_names_its_vlans() {
    let file = FILE.replace(
        "networks = [\"lan\", \"mail\"]",
        "networks = [\"lan\"]\ntrunk = { lan = [\"web\", \"mail\"] }",
    );
    let file = file.replace(
        "mtu = 9000\n",
        "[network.web]\nuplink = \"lan\"\nvlan = 10\n[network.guests]\nuplink = \"lan\"\nvlan = 30\n",
    );
    let cluster = cluster::parse("test", &file).unwrap();
    let (name, vm) = cluster.vms.get_key_value("mail").unwrap();
    golden("domain-trunk.xml", &render(&Guest { cluster: &cluster, name, vm }, &pc("kvm", true)));
}

/// OVN finds the port by its id and knows the VLAN: nothing but its own bridge carries it.
#[test]
fn a_card_on_a_zone_goes_to_the_bridge_of_ovn() {
    let zone = "vlan = 20\nsubnet6 = \"fd00:20::/64\"\ngateway = \"external\"\n";
    let cluster = cluster::parse("test", &FILE.replace("vlan = 20\n", zone)).unwrap();
    let (name, vm) = cluster.vms.get_key_value("mail").unwrap();
    let xml = render(&Guest { cluster: &cluster, name, vm }, &pc("kvm", true)).xml;
    let plain = rendered("mail", &pc("kvm", true)).xml;
    let cards = |xml: &str| -> Vec<String> { xml.split("<interface ").skip(1).map(str::to_string).collect() };
    let (cards, plain) = (cards(&xml), cards(&plain));
    assert_eq!(cards[0], plain[0], "the other card stays as it was");
    let vlan = "      <vlan>\n        <tag id='20'/>\n      </vlan>\n";
    let expected = plain[1].replace("bridge='br-lan'", "bridge='br-int'").replace(vlan, "");
    assert_eq!(cards[1].split("</interface>").next(), expected.split("</interface>").next());
    assert!(plain[1].contains(vlan) && !cards[1].contains("<vlan>"));
}

#[test]
fn emulated_uefi_without_networks() {
    golden("domain-tiny.xml", &rendered("tiny", &pc("qemu", true)));
}

/// The disk first: what was installed is not installed again.
#[test]
fn an_iso_image_boots_while_the_disk_does_not() {
    let file = FILE.replace("[vm.tiny]\n", "[vm.tiny]\ncdrom = \"/mnt/vms/iso/o'p.iso\"\n");
    let cluster = cluster::parse("test", &file).unwrap();
    let (name, vm) = cluster.vms.get_key_value("tiny").unwrap();
    let guest = Guest { cluster: &cluster, name, vm };
    golden("domain-cdrom.xml", &render(&guest, &pc("kvm", true)));
    let arm = HostFacts { arch: "aarch64".into(), domain_type: "kvm".into(), x86_64_v2: false };
    assert!(render(&guest, &arm).xml.contains("<target dev='sda' bus='scsi'/>"));
}

/// What is moved here from elsewhere and has no virtio drivers; its CD-ROM is not on the disk's port.
#[test]
fn a_guest_without_virtio_drivers_has_what_every_system_knows() {
    let old =
        "[vm.mail]\ndisk_bus = \"sata\"\nnic_model = \"e1000e\"\ncdrom = \"/mnt/vms/iso/virtio-win.iso\"\n";
    let cluster = cluster::parse("test", &FILE.replace("[vm.mail]\n", old)).unwrap();
    let (name, vm) = cluster.vms.get_key_value("mail").unwrap();
    let definition = render(&Guest { cluster: &cluster, name, vm }, &pc("kvm", true));
    golden("domain-sata.xml", &definition);
    assert!(definition.xml.contains("<target dev='sdb' bus='sata'/>"));
    let cards = definition.xml.matches("<model type='e1000e'/>").count();
    assert_eq!((cards, definition.xml.matches("<model type='virtio'/>").count()), (2, 0));
}

/// The disk is another one, and the rest is the same, mark and all.
#[test]
fn a_disk_that_is_still_being_restored_lies_over_its_archive() {
    let cluster = cluster::parse("test", FILE).unwrap();
    let (name, vm) = cluster.vms.get_key_value("mail").unwrap();
    let guest = Guest { cluster: &cluster, name, vm };
    let whole = render(&guest, &pc("kvm", true));
    let restoring = Definition { xml: over(&guest, &whole, "/run/archive's/vda").unwrap(), ..whole.clone() };
    golden("domain-over.xml", &restoring);
    assert_eq!(mark_of(&restoring.xml), Some(whole.digest.clone()));
    assert_eq!(restoring.xml.lines().count(), whole.xml.lines().count() + 5);
    let sata = Vm { disk_bus: DiskBus::Sata, ..vm.clone() };
    let guest = Guest { vm: &sata, ..guest };
    let xml = over(&guest, &render(&guest, &pc("kvm", true)), "/run/vda").unwrap();
    assert!(xml.contains("/instant.qcow2'") && !xml.contains("/disk.img'"), "{xml}");
    // Never the plain one instead, which boots what is not the disk yet.
    let why = over(&guest, &whole, "/run/vda").unwrap_err().to_string();
    assert_eq!(why, "vm mail: its definition has no disk that could lie over an archive");
}

#[test]
fn a_processor_that_the_file_names() {
    let file = FILE.replace("[vm.mail]\n", "[vm.mail]\ncpu = \"x86-64-v3\"\n");
    let cluster = cluster::parse("test", &file).unwrap();
    let (name, vm) = cluster.vms.get_key_value("mail").unwrap();
    golden("domain-cpu.xml", &render(&Guest { cluster: &cluster, name, vm }, &pc("kvm", true)));
}

/// Nothing of it listens on a network.
#[test]
fn a_screen_is_a_socket() {
    let file = FILE.replace("[vm.tiny]\n", "[vm.tiny]\ndisplay = true\n");
    let cluster = cluster::parse("test", &file).unwrap();
    let (name, vm) = cluster.vms.get_key_value("tiny").unwrap();
    let guest = Guest { cluster: &cluster, name, vm };
    let definition = render(&guest, &pc("kvm", true));
    golden("domain-display.xml", &definition);
    for listener in ["port=", "autoport", "address="] {
        let graphics = definition.xml.split("<graphics").nth(1).unwrap().split("</graphics>").next().unwrap();
        assert!(!graphics.contains(listener), "{graphics}");
    }
    let arm = HostFacts { arch: "aarch64".into(), domain_type: "kvm".into(), x86_64_v2: false };
    golden("domain-display-arm.xml", &render(&guest, &arm));
}

/// The VM has them for itself; a copy of it that is only looked at must not take them away.
#[test]
fn devices_of_the_node_are_the_vm_s_and_no_copy_s() {
    let keys = "[vm.tiny]\nhome = \"node1\"\nusb = [\"10C4:ea60\"]\npci = [\"3b:1f.7\", \"0001:00:02.0\"]\n";
    let cluster = cluster::parse("test", &FILE.replace("[vm.tiny]\n", keys)).unwrap();
    let (name, vm) = cluster.vms.get_key_value("tiny").unwrap();
    let guest = Guest { cluster: &cluster, name, vm };
    golden("domain-devices.xml", &render(&guest, &pc("kvm", true)));
    let copy =
        Rehearsal { name: "pc-drill.tiny", directory: "/mnt/vms/pc-drill", seed: true, console: "/run/c" };
    let copy = render_copy(&guest, &pc("kvm", true), &copy);
    assert!(!copy.contains("<hostdev") && copy.contains("<controller type='usb' model='none'/>"), "{copy}");
}

#[test]
fn secure_boot_has_its_keys_and_its_mode() {
    let file = FILE.replace("firmware = \"uefi\"\n", "firmware = \"uefi\"\nsecure_boot = true\n");
    let cluster = cluster::parse("test", &file).unwrap();
    let (name, vm) = cluster.vms.get_key_value("tiny").unwrap();
    golden("domain-secure-boot.xml", &render(&Guest { cluster: &cluster, name, vm }, &pc("kvm", true)));
}

#[test]
fn an_arm_board_always_boots_uefi() {
    let host = HostFacts { arch: "aarch64".into(), domain_type: "kvm".into(), x86_64_v2: false };
    golden("domain-arm.xml", &rendered("mail", &host));
}

#[test]
fn the_mark_is_found_again_and_tells_changes() {
    let new = rendered("mail", &pc("kvm", true));
    assert_eq!(mark_of(&new.xml), Some(new.digest.clone()));
    let old = rendered("mail", &pc("kvm", false));
    assert_ne!(old.digest, new.digest);
    assert_eq!(old.uuid, new.uuid);
    assert_eq!(rendered("mail", &pc("kvm", true)), new);
    // libvirt prints the namespace with another prefix, or none: only the name of the namespace counts.
    let reprinted =
        format!("<domain><metadata><ns0:vm xmlns:ns0=\"{NAMESPACE}\" digest=\"abc\"/></metadata></domain>");
    assert_eq!(mark_of(&reprinted), Some("abc".into()));
    assert_eq!(mark_of("<domain><metadata><vm digest='abc'/></metadata></domain>"), None);
    assert_eq!(mark_of("<domain/>"), None);
}

#[test]
fn text_cannot_leave_its_attribute() {
    assert_eq!(escape("a'b\"<&>"), "a&apos;b&quot;&lt;&amp;&gt;");
}

/// The same machine, and nothing of it is the VM's own.
#[test]
fn a_copy_has_no_network_card_and_shares_nothing_with_its_vm() {
    let cluster = cluster::parse("test", FILE).unwrap();
    let of = |vm: &str, seed: bool| {
        let (name, vm) = cluster.vms.get_key_value(vm).unwrap();
        let guest = Guest { cluster: &cluster, name, vm };
        let console = "/run/personal-cluster/borg/.pc-drill/mail/console.log";
        let copy =
            Rehearsal { name: "pc-drill.mail", directory: "/mnt/vms/pc-drill/node1/mail", seed, console };
        render_copy(&guest, &pc("kvm", true), &copy)
    };
    let xml = of("mail", true);
    golden(
        "domain-copy.xml",
        &Definition { name: String::new(), uuid: String::new(), digest: String::new(), xml: xml.clone() },
    );
    assert!(!xml.contains("<interface") && !xml.contains("<uuid>") && mark_of(&xml).is_none());
    assert!(!xml.contains("/mnt/vms/vms/") && !xml.contains("/var/log/"), "{xml}");
    // All the rest is as the VM has it.
    let own = rendered("mail", &pc("kvm", true)).xml;
    let kept = |xml: &str| -> Vec<String> {
        let (head, rest) = xml.split_once("  <devices>").unwrap();
        let tail = rest.split_once("    <channel ").unwrap().1;
        let head = head.split_once("  <memory ").unwrap().1;
        [head, tail].map(str::to_string).to_vec()
    };
    assert_eq!(kept(&xml), kept(&own));
    assert!(!of("mail", false).contains("seed.img"), "an archive may hold none");
    assert!(of("tiny", true).contains("<nvram>/mnt/vms/pc-drill/node1/mail/nvram.fd</nvram>"));
}
