//! One recorded answer per schema; docs/json/ is checked against the same files.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;
use std::process::Command;

use serde_json::Value;

const FILE: &str = r#"schema = "personal-cluster/1"
name = "home"
[[node]]
name = "node1"
address = "192.168.0.50"
disks.vms = ["/dev/disk/by-id/nvme-A", "/dev/disk/by-id/ata-B", "/dev/disk/by-id/ata-C"]
disks.local = ["/dev/disk/by-id/ata-D"]
[volume.vms]
use = "vm"
replicas = 1
[volume.local]
use = "local"
"#;

fn answer(root: &Path, arguments: &[&str], stdin: &str) -> String {
    let plan = root.join("plan.json");
    std::fs::write(&plan, stdin).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_pc-brick"))
        .args(arguments)
        .args(["--json", "--node", "node1", "--root"])
        .arg(root)
        .arg("--file")
        .arg(root.join("cluster.toml"))
        .stdin(std::fs::File::open(plan).unwrap())
        .output()
        .unwrap();
    assert!(!output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// One line of an answer, without what differs from run to run.
fn settled(line: &str, root: &str) -> String {
    let Some((name, value)) = line.split_once(": ") else { return line.replace(root, "") };
    let comma = if value.ends_with(',') { "," } else { "" };
    let fixed = match name.trim().trim_matches('"') {
        "digest" => format!("\"{}\"", "0".repeat(64)),
        "luks_uuid" => "\"11111111-2222-4333-8444-555555555555\"".into(),
        "recovery_key" => format!("\"{}\"", ["cbdefghi"; 8].join("-")),
        "seconds" | "external_seconds" => "0.5".into(),
        "external_calls" => "9".into(),
        _ => return line.replace(root, ""),
    };
    format!("{name}: {fixed}{comma}")
}

fn compare(name: &str, found: &str, root: &Path) {
    let lines = found.lines().map(|line| settled(line, root.to_str().unwrap()) + "\n");
    let text: String = lines.collect();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap(), "{name}");
}

#[test]
fn answers_are_as_recorded() {
    let stage = tempfile::tempdir().unwrap();
    let root = stage.path();
    let by_id = root.join("dev/disk/by-id");
    std::fs::create_dir_all(&by_id).unwrap();
    std::fs::write(root.join("cluster.toml"), FILE).unwrap();
    for blank in ["nvme-A", "ata-D"] {
        std::fs::File::create(by_id.join(blank)).unwrap().set_len(1 << 30).unwrap();
    }
    std::fs::File::create(by_id.join("ata-B")).unwrap().set_len(64 << 20).unwrap();
    let made = Command::new("mkfs.ext4")
        .args(["-q", "-F", "-L", "photos", "-U", "66666666-7777-4888-8999-aaaaaaaaaaaa"])
        .arg(by_id.join("ata-B"))
        .status();
    assert!(made.unwrap().success());
    let plan = answer(root, &["plan"], "");
    compare("plan.json", &plan, root);
    let mut below: Value = serde_json::from_str(&plan).unwrap();
    below["steps"].as_array_mut().unwrap().retain(|step| {
        let action = step["action"].as_str().unwrap();
        step["disk"] == "nvme-A" && ["claim", "luks-format", "header-backup"].contains(&action)
    });
    compare("apply.json", &answer(root, &["apply", "-"], &below.to_string()), root);
    compare("status.json", &answer(root, &["status"], ""), root);
    let wipe = ["wipe", "/dev/disk/by-id/ata-B", "--yes-destroy-all-data-on-it"];
    compare("disk.json", &answer(root, &wipe, ""), root);
}
