//! Each rule with its planted fault, on a machine that is otherwise as the packages leave it.

use super::*;
use crate::machine::{Clock, Disk, Key, Server, Supply, Swap};
use crate::verdict::Severity::{self, Problem, Warning};

fn unit(name: &str, file: &str, active: &str) -> Unit {
    Unit { name: name.into(), file: file.into(), active: active.into() }
}

/// What pc-gluster sets.
const PROFILE: &str = "features.shard=on\ncluster.quorum-type=auto\ncluster.server-quorum-type=server\n";

fn server(url: &str, fault: Option<&str>) -> Server {
    Server { url: url.into(), fault: fault.map(String::from) }
}

fn supply(name: &str, status: Result<&str, &str>) -> Supply {
    Supply { name: Some(name.into()), status: status.map(String::from).map_err(String::from) }
}

/// As Debian's and our own packages leave a node.
fn healthy() -> Machine {
    let units = vec![
        unit(TARGET, "enabled", "active"),
        unit("pc-exporter.service", "disabled", "active"),
        unit("pc-ovs.service", "disabled", "active"),
        unit("pc-vm.service", "disabled", "active"),
        // Its timer runs it, and it ends.
        unit("pc-gluster.service", "disabled", "inactive"),
        // Waits for `pc-ha enable`.
        unit("pc-ha.service", "disabled", "inactive"),
        unit("pc-gluster.timer", "disabled", "active"),
        unit("pc-trust.socket", "disabled", ""),
        unit("pc-vm@mail.service", "", "active"),
    ];
    Machine {
        units: Some(Ok(units)),
        clock: Some(Ok(Clock { synchronised: true, enabled: true })),
        applied: true,
        swaps: vec![
            Swap { path: "/dev/dm-1".into(), encrypted: Some(true) },
            Swap { path: "/dev/zram0".into(), encrypted: Some(true) },
        ],
        crypttab: "# <target> <source>\nroot UUID=0e3c none luks,discard\n".into(),
        fstab: "# /etc/fstab\nUUID=1 / ext4 errors=remount-ro 0 1\nUUID=2 /boot/efi vfat umask=0077 0 1\n"
            .into(),
        qemu_conf: "#security_driver = \"none\"\n# security_driver = [ \"none\" ]\nuser = \"libvirt-qemu\"\n"
            .into(),
        glusterd: "volume management\n    option transport.socket.keepalive-time 10\nend-volume\n".into(),
        volumes: vec![
            ("vms".into(), format!("type=2\nclient.ssl=on\nauth.ssl-allow=node1,node2\n{PROFILE}")),
            // Somebody else's.
            ("music".into(), "type=2\n".into()),
        ],
        snapshots: Vec::new(),
        jobs: vec![(
            "/etc/cron.d/e2scrub_all".into(),
            "30 3 * * 0 root test -e /run/systemd/system\n".into(),
        )],
        disks: vec![
            Disk { name: "ata-A".into(), passed: Some(true), ..Disk::default() },
            Disk { name: "nvme-B".into(), passed: Some(true), wear: Some(0.4), ..Disk::default() },
        ],
        supplies: vec![supply("ups-1", Ok("OL CHRG"))],
        servers: vec![server("http://192.168.0.2", None), server("http://192.168.0.3", None)],
        keys: vec![Key { path: "/usr/lib/ssl/glusterfs.key".into(), mode: 0o100_600 }],
    }
}

fn ours() -> Ours {
    Ours {
        disks: vec!["/dev/disk/by-id/nvme-A".into()],
        volumes: vec!["vms".into(), "backup".into()],
        replicated_for_vms: vec!["vms".into()],
        threshold: 1,
        ha: true,
        immovable: Vec::new(),
    }
}

/// All that the rules tell of a machine.
fn told(machine: &Machine) -> Vec<Told> {
    RULES.iter().flat_map(|rule| rule(machine, &ours())).collect()
}

/// Plants one fault: exactly one finding, with these words in it and this remedy.
fn planted(plant: impl FnOnce(&mut Machine), severity: Severity, fault: &str, remedy: &str) {
    let mut machine = healthy();
    plant(&mut machine);
    let told = told(&machine);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].fault.contains(fault), "{told:?}");
    assert_eq!((told[0].severity, told[0].remedy.as_str()), (severity, remedy));
}

fn set(machine: &mut Machine, name: &str, change: impl FnOnce(&mut Unit)) {
    let Some(Ok(units)) = &mut machine.units else { panic!("no units") };
    change(units.iter_mut().find(|unit| unit.name == name).unwrap());
}

#[test]
fn a_machine_as_the_packages_leave_it_is_silent() {
    assert_eq!(told(&healthy()), []);
    // A bare root without systemd, gluster or libvirt.
    assert_eq!(told(&Machine::default()), []);
}

#[test]
fn units_of_ours() {
    let mask = |machine: &mut Machine| {
        set(machine, "pc-gluster.timer", |unit| *unit = self::unit(&unit.name, "masked", "inactive"));
    };
    planted(mask, Problem, "pc-gluster.timer is masked", "systemctl unmask pc-gluster.timer");
    let runtime =
        |machine: &mut Machine| set(machine, TARGET, |unit| *unit = self::unit(TARGET, "masked-runtime", ""));
    planted(
        runtime,
        Problem,
        "personal-cluster.target is masked",
        "systemctl unmask personal-cluster.target",
    );
    planted(
        |machine| set(machine, "pc-vm.service", |unit| unit.active = "failed".into()),
        Problem,
        "pc-vm.service has failed",
        "journalctl -b -u pc-vm.service",
    );
    planted(
        |machine| set(machine, TARGET, |unit| unit.file = "disabled".into()),
        Problem,
        "nothing of this node starts at the next boot",
        "systemctl enable --now personal-cluster.target",
    );
    planted(
        |machine| set(machine, TARGET, |unit| unit.active = "inactive".into()),
        Problem,
        "is not active",
        "systemctl start personal-cluster.target",
    );
    planted(
        |machine| set(machine, "pc-gluster.timer", |unit| unit.active = "inactive".into()),
        Problem,
        "pc-gluster.timer was stopped",
        "systemctl start pc-gluster.timer",
    );
    planted(
        |machine| set(machine, "pc-exporter.service", |unit| unit.active = "inactive".into()),
        Problem,
        "pc-exporter.service was stopped",
        "systemctl start pc-exporter.service",
    );
}

#[test]
fn a_clock_that_nobody_sets() {
    let clock = |synchronised, enabled| {
        move |machine: &mut Machine| machine.clock = Some(Ok(Clock { synchronised, enabled }))
    };
    planted(clock(false, true), Warning, "not in step", "timedatectl timesync-status");
    planted(clock(false, false), Warning, "no service sets the clock", "timedatectl set-ntp true");
}

#[test]
fn swap_in_clear() {
    let swap = |encrypted| {
        move |machine: &mut Machine| machine.swaps = vec![Swap { path: "/dev/sda3".into(), encrypted }]
    };
    let remedy = "swapoff /dev/sda3, and put dm-crypt with a random key below it (crypttab(5), option swap)";
    planted(swap(Some(false)), Problem, "swap /dev/sda3 is not encrypted", remedy);
    planted(swap(None), Warning, "cannot be told", remedy);
}

#[test]
fn crypttab_names_disks_that_change_or_are_ours() {
    planted(
        |machine| machine.crypttab += "gv0 /dev/sdb1 none luks\n",
        Problem,
        "gv0 is /dev/sdb1, which may be another disk",
        "write UUID=..., as `blkid /dev/sdb1` prints it",
    );
    planted(
        |machine| machine.crypttab += "gv0 /dev/disk/by-id/nvme-A /root/key luks,_netdev\n",
        Problem,
        "which pc-unlock opens",
        "remove the line of gv0 from /etc/crypttab",
    );
}

#[test]
fn fstab_mounts_what_is_ours_or_hangs_the_boot() {
    for point in ["/mnt/vms", "/srv/bricks/vms/nvme-A"] {
        planted(
            |machine| machine.fstab.push_str(&["x ", point, " xfs nofail 0 0\n"].concat()),
            Problem,
            "is mounted by units of ours as well",
            &format!("remove the line of {point} from /etc/fstab"),
        );
    }
    planted(
        |machine| machine.fstab += "node1:/gv0 /gluster glusterfs defaults,_netdev 0 0\n",
        Problem,
        "lacks nofail",
        "add nofail to the options of /gluster in /etc/fstab",
    );
    planted(
        |machine| machine.fstab += "node1:/gv0 /gluster glusterfs nofail,_netdev 0 0\n",
        Warning,
        "asks node1:/gv0 alone",
        "add backup-volfile-servers=NODE:NODE to its options in /etc/fstab",
    );
    planted(
        |machine| machine.fstab += "/dev/sdb1 /data ext4 nofail 0 0\n",
        Warning,
        "which may be another disk",
        "write UUID=..., as `blkid /dev/sdb1` prints it",
    );
    planted(
        |machine| machine.fstab += "/dev/mapper/gv0 /gluster xfs defaults 0 0\n",
        Warning,
        "/gluster lacks nofail: a boot without /dev/mapper/gv0 ends in emergency mode",
        "add nofail to the options of /gluster in /etc/fstab",
    );
    planted(
        |machine| machine.crypttab += "gv0 UUID=4b none luks,_netdev\n",
        Problem,
        "gv0 lacks nofail: the boot waits for whoever opens UUID=4b",
        "add nofail to the options of gv0 in /etc/crypttab",
    );
    let mut fine = healthy();
    fine.crypttab += "data UUID=4c none luks,_netdev,nofail\n";
    fine.fstab +=
        "/swapfile none swap sw 0 0\nUUID=3 /var/log ext4 defaults 0 2\nUUID=4 /data ext4 noauto 0 0\n";
    fine.fstab += "nas:/x /nas nfs x-systemd.automount 0 0\n";
    // What is always there.
    fine.fstab += "tmpfs /dev/shm tmpfs defaults 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n";
    fine.fstab += "tmpfs /mnt/ram tmpfs size=1g 0 0\nhuge /hugepages hugetlbfs pagesize=1G 0 0\n";
    fine.fstab += "node1:/gv0 /gluster glusterfs nofail,backup-volfile-servers=node2:node3 0 0\n";
    assert_eq!(told(&fine), []);
}

#[test]
fn guests_without_confinement() {
    for line in ["security_driver = \"none\"", "  security_driver=[ \"none\" ]"] {
        planted(
            |machine| machine.qemu_conf.push_str(line),
            Problem,
            "security_driver",
            "remove that line, then systemctl restart libvirtd.service",
        );
    }
}

#[test]
fn gluster_for_everybody() {
    planted(
        |machine| machine.volumes[0].1 += "server.allow-insecure=on\n",
        Problem,
        "volume vms has server.allow-insecure",
        "gluster volume reset vms server.allow-insecure",
    );
    planted(
        |machine| machine.glusterd += "    option rpc-auth-allow-insecure on\n",
        Problem,
        "rpc-auth-allow-insecure",
        "remove that option from /etc/glusterfs/glusterd.vol, then systemctl restart glusterd.service",
    );
    let mut off = healthy();
    off.volumes[0].1 += "server.allow-insecure=off\n";
    assert_eq!(told(&off), []);
}

#[test]
fn a_volume_without_the_options_for_disks() {
    planted(
        |machine| machine.volumes[0].1 = "type=2\ncluster.quorum-type=auto\nfeatures.shard=enable\n".into(),
        Problem,
        "volume vms has disks of VMs without the options for them: cluster.server-quorum-type",
        "pc-gluster apply",
    );
    planted(
        |machine| machine.volumes[0].1 = "type=2\nfeatures.shard=off\ncluster.quorum-type=none\n".into(),
        Problem,
        "features.shard, cluster.quorum-type, cluster.server-quorum-type",
        "pc-gluster apply",
    );
}

#[test]
fn what_a_nightly_script_leaves_or_does() {
    planted(
        |machine| machine.snapshots = vec!["nightly-1".into()],
        Warning,
        "Gluster's snapshot nightly-1 is there",
        "gluster snapshot delete nightly-1",
    );
    for line in [
        "0 2 * * * root borg create /backup::$(date +%F) /mnt/vms || true",
        "ExecStart=/usr/bin/rsync -a /srv/bricks/vms/nvme-A/brick /backup",
        "gluster snapshot create nightly vms",
        "echo begin; borg create \"/backup::$(date)\" \"/mnt/vms\"",
        "cd /mnt/backup && tar c . | ssh nas 'cat > x'",
        "cp -a node1:/mnt/vms/x /y",
        "tar c '/mnt/vms'",
    ] {
        planted(
            |machine| machine.jobs.push(("/etc/cron.d/backup".into(), format!("{line}\n"))),
            Warning,
            "/etc/cron.d/backup copies volumes by itself",
            "remove that from /etc/cron.d/backup; [backup.NAME] in the cluster file does it",
        );
    }
    let mut fine = healthy();
    for line in [
        "# borg create /backup::x /mnt/vms",
        "0 2 * * * root borg create /backup::x /home",
        "0 2 * * * root pc-segments mount /mnt/vms/vms/mail/disk.img /run/x && borg create /backup::x /run/x",
        "ExecStart=/usr/bin/gluster snapshot list",
        // Another place, whose name begins alike.
        "rsync -a /home /mnt/vms-nas/home",
        "rsync -a /home /mnt/vms2",
        // Words.
        "echo 'borg create /backup::x /mnt/vms' >&2",
        "0 2 * * * root echo \"run; rsync /mnt/vms by hand\" | mail root",
        "logger gluster snapshot create nightly vms",
    ] {
        fine.jobs.push(("/etc/cron.d/backup".into(), line.into()));
    }
    assert_eq!(told(&fine), []);
}

#[test]
fn disks_that_say_so_themselves() {
    let disk = |change: fn(&mut Disk)| move |machine: &mut Machine| change(&mut machine.disks[0]);
    let smart = "smartctl --all /dev/disk/by-id/ata-A";
    planted(disk(|disk| disk.passed = Some(false)), Problem, "disk ata-A expects to fail", smart);
    planted(disk(|disk| disk.critical_warning = 4), Problem, "disk ata-A expects to fail", smart);
    let unreadable = |disk: &mut Disk| (disk.pending_sectors, disk.uncorrectable_sectors) = (3, 1);
    planted(disk(unreadable), Warning, "disk ata-A cannot read 4 sectors", smart);
    planted(disk(|disk| disk.wear = Some(0.93)), Warning, "has used 93 % of its rated life", smart);
}

#[test]
fn power_that_ends() {
    let ups =
        |words: &'static str| move |machine: &mut Machine| machine.supplies[0].status = Ok(words.into());
    planted(ups("OB DISCHRG"), Warning, "ups-1 has no mains", "upsc ups-1");
    planted(ups("OB LB DISCHRG"), Problem, "the battery of ups-1 is nearly empty", "pc-ha shutdown --all");
    planted(ups("OL RB"), Warning, "the battery of ups-1 has to be replaced", "upsc ups-1");
    let silent = |machine: &mut Machine| machine.supplies.push(supply("ups-2", Err("Driver not connected")));
    planted(silent, Warning, "NUT knows nothing of ups-2: Driver not connected", "upsc ups-2");
    let hangs = |machine: &mut Machine| {
        machine.supplies = vec![Supply { name: None, status: Err("upsc: no answer within 1 s".into()) }];
    };
    planted(hangs, Warning, "NUT knows nothing of any power supply: upsc: no answer within 1 s", "upsc -l");
    // Without pacemaker each node's own.
    let mut empty = healthy();
    ups("OB LB")(&mut empty);
    let alone = Ours { ha: false, ..ours() };
    let told: Vec<Told> = RULES.iter().flat_map(|rule| rule(&empty, &alone)).collect();
    assert_eq!(told[0].remedy, "pc-vm stop --all, then poweroff, on each node that ups-1 feeds");
}

#[test]
fn unlock_servers_that_do_not_answer() {
    let down = |count: usize| {
        move |machine: &mut Machine| {
            for server in machine.servers.iter_mut().take(count) {
                server.fault = Some("timed out after 2 s".into());
            }
        }
    };
    let remedy = "curl -m 5 http://192.168.0.2/adv";
    planted(down(1), Warning, "unlock server http://192.168.0.2: timed out after 2 s", remedy);
    let fault = "would stay locked if it were rebooted now, 0 of 2 answer: unlock server http://192.168.0.2: timed out";
    planted(down(2), Problem, fault, remedy);
    planted(
        |machine| machine.servers = vec![server("http://192.168.0.2", Some("no route"))],
        Problem,
        "would stay locked if it were rebooted now: unlock server http://192.168.0.2: no route",
        remedy,
    );
}

#[test]
fn a_key_for_everybody() {
    planted(
        |machine| machine.keys[0].mode = 0o100_644,
        Problem,
        "/usr/lib/ssl/glusterfs.key (mode 0644)",
        "chmod o= /usr/lib/ssl/glusterfs.key",
    );
}
