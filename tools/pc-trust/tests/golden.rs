//! Every answer as it stands in tests/golden, and error texts. `BLESS=1` writes them anew.

#![allow(clippy::unwrap_used, reason = "a test says what it expects")]

mod common;

use std::fs;
use std::path::Path;

use common::{Answer, Lab};
use serde_json::Value;

/// Replaces what differs from run to run by a sample of the same form.
fn steady(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let sample = match key.as_str() {
                    "ca_sha256" | "digest" => "5f".repeat(32),
                    "recovery_key" => ["bvcccccc"; 8].join("-"),
                    "token" => ["0123"; 13].join("-"),
                    "command" => format!("pc-trust join 192.0.2.1 {}", ["0123"; 13].join("-")),
                    "not_after" => "2027-11-20T12:00:00Z".into(),
                    "renew_after" => "2026-11-20T12:00:00Z".into(),
                    "ca_not_after" => "2045-11-15T12:00:00Z".into(),
                    "certificate" if value.is_string() => {
                        "-----BEGIN CERTIFICATE-----\n...\n-----END CERTIFICATE-----\n".into()
                    }
                    "signature" => "MEUCIQ...".into(),
                    "seconds" | "external_seconds" => {
                        *value = 0.5.into();
                        continue;
                    }
                    _ => {
                        steady(value);
                        continue;
                    }
                };
                *value = Value::String(sample);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(steady),
        _ => {}
    }
}

fn compare(name: &str, mut value: Value) {
    steady(&mut value);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.json"));
    let text = serde_json::to_string_pretty(&value).unwrap() + "\n";
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), text, "{}", path.display());
}

#[test]
fn answers_have_the_recorded_form() {
    let lab = Lab::new();
    let init = lab.init();
    let token = init["joins"][0]["token"].as_str().unwrap().to_string();
    compare("init", init);
    compare("init-again", lab.init());
    let member = lab.serve("node1");
    compare("join", lab.join("node2", &member.address, &token).json());
    compare("token", lab.run("node1", &["--json", "token", "node3"]).json());
    let mut status = lab.run("node1", &["--json", "status"]).json();
    status["tokens"][0]["expires_in_seconds"] = 900.into();
    compare("status", status);
    compare("status-outside", lab.run("node3", &["--json", "status"]).json());
    fs::remove_file(lab.root("node1").join("usr/lib/ssl/glusterfs.pem")).unwrap();
    fs::remove_file(lab.root("node1").join("var/lib/glusterd/secure-access")).unwrap();
    compare("plan", lab.run("node1", &["--json", "plan"]).json());
    let applied = lab.run("node1", &["--json", "apply"]).json();
    let seconds = |key: &str| applied[key].as_f64().unwrap();
    assert!(seconds("external_seconds") <= seconds("seconds"), "{applied}");
    compare("apply", applied);
    let idle = lab.run("node1", &["apply", "-v"]);
    assert_eq!((idle.code, idle.stdout.as_str()), (Some(0), ""), "converged: silence");
    assert!(idle.stderr.contains(" external calls took "), "{idle:?}");
    let pipe = |arguments: &[&str], text: &str| {
        let file = lab.directory.path().join("text");
        fs::write(&file, text).unwrap();
        let stdin = fs::File::open(&file).unwrap();
        Answer::of(lab.command("node1").args(arguments).stdin(stdin).output().unwrap())
    };
    let envelope = pipe(&["sign"], "schema = \"personal-cluster/1\"\n");
    compare("verified", pipe(&["--json", "verify"], &envelope.stdout).json());
    compare("envelope", envelope.json());
}

#[test]
fn people_read_the_same_value() {
    let lab = Lab::new();
    let outside = lab.run("node1", &["status", "--exit-code"]);
    assert_eq!((outside.code, outside.stdout.as_str()), (Some(3), "problem: belongs to no cluster\n"));
    let init = lab.run("node1", &["init", lab.file().to_str().unwrap()]);
    assert!(init.stdout.starts_with("The recovery key opens every disk"), "{}", init.stdout);
    let lines: Vec<&str> = init.stdout.lines().filter(|line| line.starts_with("  pc-trust join")).collect();
    assert_eq!(lines.len(), 2);
    let status = lab.run("node1", &["status", "--exit-code"]);
    assert_eq!(status.code, Some(0), "{status:?}");
    assert!(
        status
            .stdout
            .starts_with("node1, member of home\ncertificate for node1, node1.home.arpa, 192.0.2.1 until")
    );
    assert!(status.stdout.contains("recovery-key      sealed, open\n"), "{}", status.stdout);
    assert_eq!(lab.run("node1", &["plan"]).stdout, "nothing to do\n");
}

#[test]
fn a_wrong_command_line_is_usage() {
    let lab = Lab::new();
    for arguments in [&["init"][..], &["token"], &["join", "192.0.2.1"], &["apply", "x"], &["nonsense"]] {
        assert_eq!(lab.run("node1", arguments).code, Some(2), "{arguments:?}");
    }
    lab.run("node1", &["init", "/nonexistent"]).refused(2, "/nonexistent: no such file or directory");
    lab.run("node1", &["serve"]).refused(2, "belongs to no cluster");
    lab.run("node1", &["gate"]).refused(2, "no command was asked for");
    let bad = lab.directory.path().join("bad");
    fs::write(&bad, [0xff, 0xfe, 0x00]).unwrap();
    let bad = bad.to_str().unwrap();
    assert_eq!(lab.run("node1", &["init", bad]).code, Some(2));
    let key = ["init", lab.file().to_str().unwrap(), "--recovery-key-file", bad].map(String::from);
    assert_ne!(lab.run("node1", &key.each_ref().map(String::as_str)).code, Some(0));
    assert!(!lab.root("node1").join("etc/personal-cluster").exists());
}

#[test]
fn others_than_root_are_turned_away() {
    let copy = tempfile::tempdir().unwrap();
    let tool = copy.path().join("pc-trust");
    fs::copy(common::TOOL, &tool).unwrap();
    fs::set_permissions(copy.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for verb in ["status", "plan", "renew"] {
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&tool).arg(verb);
        Answer::of(command.output().unwrap())
            .refused(2, &format!("this needs root\n  sudo pc-trust {verb}\n"));
    }
}

#[test]
fn a_given_recovery_key_is_used_and_not_shown() {
    let lab = Lab::new();
    let key = ["bvcccccc"; 8].join("-");
    let file = lab.directory.path().join("recovery");
    fs::write(&file, format!("{}\n", key.to_uppercase())).unwrap();
    let (cluster, file) = (lab.file(), file.to_str().unwrap().to_string());
    let init = lab.run("node1", &["--json", "init", cluster.to_str().unwrap(), "--recovery-key-file", &file]);
    assert!(init.json().get("recovery_key").is_none() && !init.stdout.contains(&key));
    assert_eq!(fs::read_to_string(lab.secret("node1", "recovery-key")).unwrap(), key);
}
