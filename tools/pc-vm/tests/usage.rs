//! What is refused before libvirt is asked.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::Write;
use std::process::{Command, Output, Stdio};

const FILE: &str = r#"
schema = "personal-cluster/1"
name = "home"

[[node]]
name = "node1"
address = "192.168.0.50/24"
"#;

/// Runs pc-vm on a machine whose libvirt is absent.
fn pc_vm(arguments: &[&str], stdin: &[u8]) -> Output {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("cluster.toml");
    std::fs::write(&file, FILE).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_pc-vm"))
        .args(["--node", "node1", "--connect", "test:///no/such/file", "--file"])
        .arg(&file)
        .arg("--root")
        .arg(root.path())
        .args(arguments)
        .env_remove("JOURNAL_STREAM")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A verb that reads nothing may have ended already.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    child.wait_with_output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn what_is_no_plan_is_refused_whatever_libvirt_does() {
    for garbage in [&b"\xff"[..], b"", b"[]", b"{\"schema\": \"pc.vm.plan/1\"}"] {
        let output = pc_vm(&["apply", "-"], garbage);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).starts_with("error: reading the plan: "), "{}", said(&output));
    }
}

#[test]
fn status_answers_without_libvirt() {
    let output = pc_vm(&["status", "--json"], b"");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["healthy"], false);
    assert_eq!(pc_vm(&["status", "--exit-code"], b"").status.code(), Some(3));
}

#[test]
fn someone_who_is_not_root_is_told_the_whole_command() {
    let place = tempfile::tempdir().unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(place.path(), open).unwrap();
    let (file, program) = (place.path().join("cluster.toml"), place.path().join("pc-vm"));
    std::fs::write(&file, FILE).unwrap();
    std::fs::copy(env!("CARGO_BIN_EXE_pc-vm"), &program).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program);
    let output = command.args(["stop", "mail", "--node", "node1", "--file"]).arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("\n  sudo pc-vm stop mail --node node1 "), "{}", said(&output));
}

/// Whoever takes itself for another node would ask that node nothing before it starts a VM.
#[test]
fn a_machine_without_the_nodes_address_acts_as_nobody() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("cluster.toml");
    // Addresses for documentation (RFC 5737) are on no interface.
    let two = "[[node]]\nname = \"node2\"\naddress = \"203.0.113.52/24\"\n";
    std::fs::write(&file, FILE.replace("192.168.0.50", "203.0.113.51") + two).unwrap();
    for verb in [
        &["start", "mail"][..],
        &["stop", "mail"],
        &["migrate", "mail", "node1"],
        &["resize", "mail"],
        &["delete", "mail"],
        &["import", "mail", "x"],
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pc-vm"));
        command.args(["--node", "node2", "--connect", "test:///no/such/file", "--file"]).arg(&file);
        let output = command.args(verb).env_remove("JOURNAL_STREAM").output().unwrap();
        assert_eq!(output.status.code(), Some(75), "{verb:?}: {}", said(&output));
        assert!(said(&output).contains("this machine has no address of the file yet"), "{}", said(&output));
    }
}

/// A name that a VM may have would be that VM to whoever comes next.
#[test]
fn a_copy_is_called_like_no_vm() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("cluster.toml");
    let vm =
        "[volume.vms]\nuse = \"local\"\n[vm.mail]\nmemory = \"1GiB\"\ndisk = \"1GiB\"\nvolume = \"vms\"\n";
    std::fs::write(&file, format!("{FILE}disks.vms = [\"/dev/disk/by-id/ata-A\"]\n{vm}")).unwrap();
    let xml = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pc-vm"));
        command.args(["--node", "node1", "--connect", "test:///default", "--file"]).arg(&file);
        command.args(["xml", "mail"]).args(arguments).env_remove("JOURNAL_STREAM").output().unwrap()
    };
    for (name, directory) in [("copy", "/srv/x"), ("a.b\"", "/srv/x"), ("a.b", "srv")] {
        let refused = xml(&["--copy", directory, "--as", name]);
        assert_eq!(refused.status.code(), Some(2), "{name} {directory}: {}", said(&refused));
    }
    assert_eq!(xml(&["--copy", "/srv/x"]).status.code(), Some(2), "what is it called?");
    assert_eq!(xml(&["--console", "/run/x"]).status.code(), Some(2), "of which copy?");
    assert_eq!(xml(&["--copy", "/srv/x", "--as", "a.b", "--console", "x"]).status.code(), Some(2));
    let copy = place.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    let print = || {
        let output = xml(&["--copy", copy.to_str().unwrap(), "--as", "copy.mail"]);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(print().contains("<name>copy.mail</name>") && !print().contains("seed.img"));
    assert!(print().contains(&format!("<log file='{}/console.log' append='on'/>", copy.display())));
    let elsewhere = xml(&["--copy", copy.to_str().unwrap(), "--as", "copy.mail", "--console", "/run/x.log"]);
    let elsewhere = String::from_utf8(elsewhere.stdout).unwrap();
    assert!(elsewhere.contains("<log file='/run/x.log' append='on'/>"), "{elsewhere}");
    std::fs::write(copy.join("seed.img"), "").unwrap();
    assert!(print().contains(&format!("<source file='{}/seed.img'/>", copy.display())));
}
