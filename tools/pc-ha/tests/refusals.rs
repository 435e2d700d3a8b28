//! What is refused before anything is touched, and corosync's own word on its configuration.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod stage;

use std::process::Command;

use stage::{Stage, said};

fn refusal(stage: &Stage, arguments: &[&str]) -> String {
    let output = stage.pc_ha(arguments);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    said(&output)
}

#[test]
fn no_watchdog_is_refused_and_softdog_is_warned_of() {
    let stage = Stage::new();
    std::fs::remove_dir_all(stage.at("sys")).unwrap();
    assert!(refusal(&stage, &["apply"]).contains("this node has no watchdog"));
    assert!(refusal(&stage, &["enable"]).contains("this node has no watchdog"));
    assert!(!stage.at("var/lib/personal-cluster/ha-enabled").exists());
    stage.write("sys/class/watchdog/watchdog0/identity", "Software Watchdog\n");
    let status = stage.json(&["status"]);
    assert_eq!(status["watchdog"]["hardware"], false);
    assert!(status["warnings"].to_string().contains("softdog"), "{status}");
    stage.write("sys/class/watchdog/watchdog1/identity", "i6300ESB timer\n");
    assert_eq!(stage.json(&["status"])["watchdog"]["device"], "/dev/watchdog1", "a chip is preferred");
}

#[test]
fn a_watchdog_that_sbd_does_not_feed_is_a_problem() {
    let stage = Stage::running();
    stage.write("var/lib/personal-cluster/ha-enabled", "");
    stage.write("sys/class/watchdog/watchdog0/state", "inactive\n");
    stage.write("sys/class/watchdog/watchdog1/identity", "Software Watchdog\n");
    stage.write("sys/class/watchdog/watchdog1/state", "active\n");
    let problems = || stage.json(&["status"])["problems"].to_string();
    assert!(!problems().contains("sbd, which runs"), "it does not");
    stage.write("proc/77/comm", "sbd\n");
    let told = "sbd, which runs, has not armed it (armed: /dev/watchdog1 Software Watchdog): ";
    assert!(problems().contains(told), "{}", problems());
    assert!(problems().contains("pc-ha drain node1 && ssh node1 systemctl reboot"), "{}", problems());
    stage.write("sys/class/watchdog/watchdog0/state", "active\n");
    assert_eq!(problems(), "[]");
}

/// A driver that was loaded by hand is not there after the next boot: sbd would fail, and nothing start.
#[test]
fn every_boot_loads_the_driver_of_the_watchdog() {
    const FILE: &str = "etc/modules-load.d/personal-cluster-watchdog.conf";
    let loaded = |stage: &Stage| {
        assert_eq!(stage.pc_ha(&["apply"]).status.code(), Some(0));
        std::fs::read_to_string(stage.at(FILE)).ok()
    };
    let stage = Stage::new();
    assert_eq!(loaded(&stage), None, "a driver that names no module is built into the kernel");
    let device = stage.at("sys/class/watchdog/watchdog0/device/driver");
    std::fs::create_dir_all(&device).unwrap();
    std::os::unix::fs::symlink("../../../../module/i6300esb", device.join("module")).unwrap();
    assert_eq!(stage.steps(), ["watchdog-module"]);
    let text = "# Made by pc-ha: the driver of the watchdog that resets this node.\ni6300esb\n";
    assert_eq!(loaded(&stage).as_deref(), Some(text));
    assert_eq!(stage.steps(), Vec::<String>::new());
    // softdog hangs on no device. Whoever else has it loaded is enough.
    let stage = Stage::new();
    stage.write("sys/class/watchdog/watchdog0/identity", "Software Watchdog\n");
    let softdog = text.replace("i6300esb", "softdog");
    assert_eq!(loaded(&stage), Some(softdog));
    std::fs::remove_file(stage.at(FILE)).unwrap();
    stage.write("usr/lib/modules-load.d/own.conf", "softdog\n");
    assert_eq!(loaded(&stage), None);
    // A file of the same name in /etc hides the other one.
    stage.write("etc/modules-load.d/own.conf", "# not any more\n");
    assert_eq!(stage.steps(), ["watchdog-module"]);
}

#[test]
fn where_etc_is_the_system_s_own_the_module_is_named_there() {
    let stage = Stage::new();
    stage.write("sys/class/watchdog/watchdog0/identity", "Software Watchdog\n");
    std::fs::create_dir_all(stage.at("etc/modules-load.d")).unwrap();
    let output = stage.pc_ha_read_only("etc/modules-load.d", &["apply"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(
        said(&output).ends_with("\n  NixOS: boot.kernelModules = [ \"softdog\" ];\n"),
        "{}",
        said(&output)
    );
    stage.write("etc/modules-load.d/nixos.conf", "bridge\nsoftdog\n");
    assert_eq!(stage.pc_ha(&["apply"]).status.code(), Some(0));
}

#[test]
fn unsafe_numbers_are_refused_with_the_computation() {
    let stage = Stage::new();
    stage.write("cluster.toml", &stage::FILE.replace("[ha]", "[ha]\nfencing_seconds = 15"));
    let told = refusal(&stage, &["plan"]);
    assert!(
        told.contains("23 s is safe: 2 x 5 s watchdog + 4 s sbd + 3.6 s consensus + 5 s election"),
        "{told}"
    );
}

#[test]
fn two_nodes_need_a_third_vote_and_an_arbiter() {
    let stage = Stage::new();
    let two = stage::FILE.replace(
        "[[node]]\nname = \"node3\"\naddress = \"192.168.0.52/24\"\ndisks.vms = [\"/dev/disk/by-id/ata-C\"]\n",
        "",
    );
    assert_ne!(two, stage::FILE);
    let two = two.replace("replicas = 3", "replicas = 2");
    stage.write("cluster.toml", &two);
    assert!(refusal(&stage, &["plan"]).contains("two nodes without a third vote"));
    stage.write("cluster.toml", &two.replace("[ha]", "[ha]\nquorum_device = \"192.168.0.2\""));
    assert!(refusal(&stage, &["plan"]).contains("two nodes without an arbiter brick"));
}

#[test]
fn a_file_without_ha_asks_for_nothing() {
    let stage = Stage::new();
    stage.write("cluster.toml", &stage::FILE.replace("[ha]", ""));
    assert!(refusal(&stage, &["plan"]).contains("the file has no [ha]"));
}

#[test]
fn enable_waits_for_the_key_and_wants_the_applied_file() {
    let stage = Stage::new();
    assert!(refusal(&stage, &["enable"]).contains("units read that file"));
    std::fs::create_dir_all(stage.at("var/lib/personal-cluster")).unwrap();
    let show = |text: &str| stage.write("var/lib/personal-cluster/applied.json", text);
    show(
        r#"{"schema":"personal-cluster/1","name":"home","ha":{},"node":[{"name":"node1","address":"192.168.0.50/24"},{"name":"node2","address":"192.168.0.51/24"},{"name":"node3","address":"192.168.0.52/24"}]}"#,
    );
    let output = stage.pc_ha(&["enable"]);
    assert_eq!(output.status.code(), Some(75), "{}", said(&output));
    assert!(said(&output).contains("corosync.authkey is not open"), "{}", said(&output));
    assert!(!stage.at("var/lib/personal-cluster/ha-enabled").exists());
}

#[test]
fn somebody_else_s_corosync_is_not_touched() {
    let stage = Stage::new();
    stage.write("etc/corosync/corosync.conf", "totem {\n  cluster_name: office\n}\n");
    assert!(refusal(&stage, &["apply"]).contains("is somebody else's cluster"));
    assert!(stage.read("etc/corosync/corosync.conf").contains("office"));
    // The example that Debian ships is nobody's; it is kept beside ours.
    stage.write("etc/corosync/corosync.conf", "totem {\n  cluster_name: debian\n}\n");
    assert_eq!(stage.pc_ha(&["apply"]).status.code(), Some(0));
    assert!(stage.read("etc/corosync/corosync.conf").contains("cluster_name: home"));
    assert!(stage.read("etc/corosync/corosync.conf.before-personal-cluster").contains("debian"));
}

#[test]
fn corosync_accepts_what_is_written() {
    let stage = Stage::new();
    assert_eq!(stage.pc_ha(&["apply"]).status.code(), Some(0));
    let text = stage.read("etc/corosync/corosync.conf");
    let key = stage.at("authkey");
    std::fs::write(&key, [7_u8; 256]).unwrap();
    let text = text.replace("/run/personal-cluster/secrets/corosync.authkey", &key.display().to_string());
    let accepts = |text: &str| {
        stage.write("test.conf", &text.replace("to_stderr: no", "to_stderr: yes"));
        // corosync wants one of the addresses on this machine.
        let script =
            "ip link set lo up && ip address add 192.168.0.50/24 dev lo && exec corosync -t -c \"$1\"";
        let run = Command::new("unshare")
            .args(["--net", "sh", "-c", script, "sh"])
            .arg(stage.at("test.conf"))
            .output()
            .unwrap();
        (run.status.success(), said(&run))
    };
    let (accepted, told) = accepts(&text);
    assert!(accepted, "{told}");
    // It does check: what it must refuse, it refuses.
    let (accepted, told) = accepts(&text.replace("crypto_hash: sha256", "crypto_hash: none"));
    assert!(!accepted && told.contains("crypto_hash"), "{told}");
    assert!(text.contains("crypto_cipher: aes256") && text.contains("crypto_hash: sha256"));
    // Hand-made: printf personal-cluster/node/home/node1 | sha256sum begins with 3d47.
    assert!(text.contains("nodeid: 15687"), "{text}");
}

#[test]
fn sbd_s_environment_is_as_recorded() {
    let stage = Stage::new();
    assert_eq!(stage.pc_ha(&["apply"]).status.code(), Some(0));
    let text = stage.read("var/lib/personal-cluster/ha/sbd.env");
    for line in ["SBD_WATCHDOG_DEV=/dev/watchdog0", "SBD_WATCHDOG_TIMEOUT=5", "SBD_PACEMAKER=yes"] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert!(!text.lines().any(|line| line.starts_with("SBD_DEVICE")), "no shared disk");
}

#[test]
fn a_plan_can_be_filtered_and_a_stale_one_is_refused() {
    let stage = Stage::new();
    let plan = stage.json(&["plan"]);
    let mut only = plan.clone();
    only["steps"].as_array_mut().unwrap().retain(|step| step["id"] == "sbd");
    let output = stage.fed(&["apply", "-"], &only.to_string());
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(!stage.at("etc/corosync/corosync.conf").exists());
    let output = stage.fed(&["apply", "-"], &plan.to_string());
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("stale"), "{}", said(&output));
}

#[test]
fn answers_are_as_recorded() {
    let stage = Stage::running();
    stage.write("var/lib/personal-cluster/ha-enabled", "");
    let mut status = stage.json(&["status"]);
    status["measured_at"] = "2026-01-02T03:04:05Z".into();
    stage::golden("status.json", &status);
    let fresh = Stage::new();
    let mut plan = fresh.json(&["plan"]);
    plan["digest"] = "0".into();
    stage::golden("plan.json", &plan);
    let mut apply = fresh.json(&["apply"]);
    for field in ["seconds", "external_seconds"] {
        apply[field] = 1.5.into();
    }
    stage::golden("apply.json", &apply);
    let mut moved = stage.json(&["move", "mail", "node2"]);
    moved["seconds"] = 0.1.into();
    stage::golden("move.json", &moved);
    let mut undrained = stage.json(&["undrain", "node3"]);
    undrained["seconds"] = 0.1.into();
    stage::golden("drain.json", &undrained);
    let text = stage.pc_ha(&["status"]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(
        text.contains(
            "fail-over at worst 44.6 s: detection 6.6, election 5.0, fencing 23.0, placement 2.0, storage 0.0, start 8.0"
        ),
        "{text}"
    );
    assert!(text.contains("profiles at worst: fast 40.2 s, normal 44.6 s, patient 88.0 s"), "{text}");
}
