//! Every answer as recorded in tests/golden: what docs/json promises, and what other programs rely on.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod machine;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use machine::{Ended, Machine, as_recorded, file, run};

fn at(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn of_example(example: &str, arguments: &[&str]) -> Ended {
    let path = at("examples").join(example);
    let mut all = vec!["--json", "--file", path.to_str().unwrap()];
    all.extend(arguments);
    Machine::new().run(&all, "")
}

#[test]
fn show_and_nodes() {
    as_recorded("show.json", &of_example("home.toml", &["show"]));
    as_recorded("show-one-pc.json", &of_example("one-pc.toml", &["show"]));
    as_recorded("show-lab.json", &of_example("lab.toml", &["show"]));
    as_recorded("node.json", &of_example("home.toml", &["show", "--node", "node2"]));
    as_recorded("nodes.json", &of_example("home.toml", &["nodes"]));
}

#[test]
fn check() {
    let text = std::fs::read_to_string(at("tests/errors/several-at-once.toml")).unwrap();
    let ended = Machine::new().run(&["--json", "check", "-"], &text);
    assert_eq!(ended.code, 2);
    as_recorded("check.json", &ended);
    let whole = Machine::new().run(&["--json", "check", "-"], "");
    as_recorded("check-empty.json", &whole);
}

#[test]
fn put_and_status() {
    let machine = Machine::new();
    as_recorded("put.json", &machine.run(&["--json", "--node", "node1", "put", "-"], &file(2, "")));
    as_recorded("status.json", &machine.run(&["--json", "--node", "node1", "status"], ""));
    as_recorded("status-none.json", &Machine::new().run(&["--json", "--node", "node1", "status"], ""));
}

/// A machine as lsblk and ip recorded it, with names below /dev/disk/by-id.
#[test]
fn draft() {
    let machine = Machine::new();
    let by_id = machine.root.join("dev/disk/by-id");
    std::fs::create_dir_all(&by_id).unwrap();
    for (name, target) in [
        ("virtio-root", "vda"),
        ("virtio-root-part1", "vda1"),
        ("virtio-node1-d1", "vdb"),
        ("virtio-node1-d2", "vdc"),
        ("nvme-Samsung_SSD_980_1TB_S649", "nvme0n1"),
        ("nvme-eui.002538b411b27d1e", "nvme0n1"),
    ] {
        std::os::unix::fs::symlink(format!("../../{target}"), by_id.join(name)).unwrap();
    }
    std::fs::create_dir_all(machine.root.join("proc")).unwrap();
    std::fs::write(machine.root.join("proc/meminfo"), "MemTotal:       16303428 kB\n").unwrap();
    let tests = at("tools/pc-config/tests");
    let fakes = [
        ("lsblk", format!("cat {}", tests.join("lsblk/node.json").display())),
        (
            "ip",
            format!(
                "case \"$*\" in *route*) echo '[{{\"dst\":\"default\",\"gateway\":\"192.0.2.1\",\"dev\":\"eth0\"}}]' ;; *) cat {} ;; esac",
                tests.join("ip/addr.json").display()
            ),
        ),
    ];
    for (name, script) in fakes {
        let path = machine.root.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:{}", machine.root.display(), std::env::var("PATH").unwrap());
    let ended = |arguments: &[&str]| run(machine.command(arguments).env("PATH", &path), b"");
    let json = ended(&["--json", "--node", "node1", "draft"]);
    as_recorded("draft.json", &json);
    let text = ended(&["--node", "node1", "draft", "--name", "lab"]);
    let report = cluster::parse_report("draft", &text.stdout);
    assert_eq!(report.errors().count(), 0, "{report}");
    let merged = machine.run(&["merge", "-"], &text.stdout);
    assert_eq!(merged.stdout, text.stdout);
    let drafted: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    let merged: serde_json::Value =
        serde_json::from_str(&machine.run(&["--json", "merge", "-"], &json.stdout).stdout).unwrap();
    assert_eq!(merged, drafted["file"]);
}

/// The schema that is documented is the one that is printed, and that the loader walks.
#[test]
fn the_schema_is_the_documented_one() {
    let printed = Machine::new().run(&["schema"], "").stdout;
    let documented = std::fs::read_to_string(at("docs/json/personal-cluster-v1.json")).unwrap_or_default();
    assert!(
        printed == documented,
        "docs/json/personal-cluster-v1.json is not what `pc-config schema` prints"
    );
}

/// The golden form of DESIGN: a machine that has the disk knows its stable name.
#[test]
fn a_disk_of_this_machine_gets_its_stable_name() {
    let machine = Machine::new();
    let by_id = machine.root.join("dev/disk/by-id");
    std::fs::create_dir_all(&by_id).unwrap();
    for (name, target) in
        [("ata-WDC_WD40-XYZ", "../../sdb"), ("wwn-0x50014ee2b", "../../sdb"), ("ata-other", "../../sda")]
    {
        std::os::unix::fs::symlink(target, by_id.join(name)).unwrap();
    }
    let text = file(1, "disks.vms = [\"/dev/sdb\"]\n[volume.vms]\nuse = \"vm\"\nreplicas = 1\n");
    let ended = machine.run(&["check", "-"], &text);
    assert_eq!(ended.code, 2);
    let told = "stdin:6:14: node[0].disks.vms[0] = \"/dev/sdb\": may name another disk after a reboot\n  \
                use /dev/disk/by-id/ata-WDC_WD40-XYZ (this machine's sdb)\n";
    assert!(ended.stdout.starts_with(told) || ended.stdout.contains(told), "{}", ended.stdout);
}

/// A closed stdout ends the tool silently.
#[test]
fn a_closed_pipe_is_no_error() {
    let path = at("examples/home.toml");
    let script = format!(
        "{} --file {} show | head -c 1 >/dev/null; exit ${{PIPESTATUS[0]}}",
        machine::PROGRAM,
        path.display()
    );
    let ended = run(std::process::Command::new("bash").args(["-c", &script]), b"");
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
}
