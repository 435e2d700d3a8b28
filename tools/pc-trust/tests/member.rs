//! One node: what it holds, puts in place, renews, signs.

#![allow(clippy::unwrap_used, reason = "a test says what it expects")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use common::{Lab, chain_holds};

#[test]
fn two_at_once_are_one_after_the_other() {
    let lab = Lab::new();
    let root = fs::File::open(lab.root("node1").join("etc")).unwrap();
    let root = nix::fcntl::Flock::lock(root, nix::fcntl::FlockArg::LockExclusive).unwrap();
    let before = lab.tree("node1");
    lab.run("node1", &["init", lab.file().to_str().unwrap()]).refused(75, "another pc-trust is changing");
    assert_eq!(before, lab.tree("node1"));
    drop(root);
    lab.init();
}

#[test]
fn a_strict_umask_hides_nothing_from_qemu() {
    let lab = Lab::new();
    let mut command = lab.command("node1");
    command.arg("init").arg(lab.file());
    let output = Command::new("sh")
        .args(["-c", "umask 077; exec \"$@\"", "sh"])
        .arg(command.get_program())
        .args(command.get_args())
        .envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))))
        .output()
        .unwrap();
    assert!(output.status.success());
    let root = lab.root("node1");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for public in ["etc/pki/qemu", "etc/pki/CA", "etc/personal-cluster/trust", "run/personal-cluster"] {
        assert_eq!(mode(&root.join(public)), 0o755, "{public}");
    }
    assert_eq!(mode(&lab.trust("node1", "node.crt")), 0o644);
}

#[test]
fn a_second_init_and_a_second_apply_change_nothing() {
    let lab = Lab::new();
    lab.init();
    let before = lab.tree("node1");
    let again = lab.init();
    assert_eq!((&again["changed"], again.get("recovery_key")), (&false.into(), None));
    assert_eq!(before, lab.tree("node1"));
    let apply = lab.run("node1", &["apply"]);
    assert_eq!((apply.code, apply.stderr.as_str()), (Some(0), ""), "silence means converged");
    assert_eq!(lab.run("node1", &["plan", "--exit-code"]).code, Some(0));
    let other = common::FILE.replace("\"home\"", "\"away\"");
    fs::write(lab.file(), other).unwrap();
    lab.run("node1", &["init", lab.file().to_str().unwrap()]).refused(2, "a member of home");
}

/// The writing end of `| true`.
fn gone() -> std::process::Stdio {
    let (reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
    drop(reader);
    std::os::fd::OwnedFd::from(writer).into()
}

/// A full disk.
fn full() -> std::process::Stdio {
    fs::OpenOptions::new().write(true).open("/dev/full").unwrap().into()
}

/// `| true`, or onto a full disk: the node is a member, which is not all that was asked for.
#[test]
fn an_answer_that_nobody_reads_does_not_stop_an_init_and_is_no_success() {
    for stdout in [gone(), full()] {
        let lab = Lab::new();
        let output = lab.command("node1").arg("init").arg(lab.file()).stdout(stdout).output().unwrap();
        let answer = common::Answer::of(output);
        assert_eq!(answer.code, Some(1), "{answer:?}");
        let key = lab.secret("node1", "recovery-key");
        let told = [
            "error: nobody has read the answer: writing to standard output: ",
            &format!("\n  cat {} shows the recovery key\n", key.display()),
            "\n  pc-trust token node2 makes another token\n",
        ];
        assert!(told.iter().all(|told| answer.stderr.contains(told)), "{answer:?}");
        let text = fs::read_to_string(key).unwrap();
        assert!(text.len() == 71 && !answer.stderr.contains(&text), "{answer:?}");
        assert_eq!(lab.run("node1", &["status", "--exit-code"]).code, Some(0));
        assert_eq!(lab.init()["changed"], false);
    }
}

/// `pc-trust token NODE | true`: it is shown once, so that one that nobody has read is of use to nobody.
#[test]
fn a_token_that_nobody_reads_ends_and_is_no_success() {
    let lab = Lab::new();
    lab.init();
    let tokens = || lab.run("node1", &["--json", "status"]).json()["tokens"].clone();
    let before = lab.run("node1", &["--json", "token", "node3"]).json();
    assert_eq!(tokens().as_array().unwrap().len(), 2);
    for stdout in [gone(), full()] {
        let output = lab.command("node1").args(["token", "node2"]).stdout(stdout).output().unwrap();
        let answer = common::Answer::of(output);
        assert_eq!(answer.code, Some(1), "{answer:?}");
        let told = [
            "error: nobody has read the answer: writing to standard output: ",
            "; this token has ended\n  pc-trust token node2\n",
        ];
        assert!(told.iter().all(|told| answer.stderr.contains(told)), "{answer:?}");
        assert_eq!(tokens()[0]["node"], "node3", "only the other one is left");
        assert_eq!(tokens().as_array().unwrap().len(), 1);
    }
    let member = lab.serve("node1");
    assert_eq!(lab.join("node3", &member.address, before["token"].as_str().unwrap()).code, Some(0));
}

#[test]
fn foreign_files_are_refused_by_name_before_anything_is_made() {
    let lab = Lab::new();
    let (ssl, pki) = (lab.root("node1").join("usr/lib/ssl"), lab.root("node1").join("etc/pki/CA"));
    fs::write(ssl.join("glusterfs.pem"), "mine").unwrap();
    fs::create_dir_all(&pki).unwrap();
    common::link(Path::new("/root/ca.pem"), &pki.join("cacert.pem"));
    let before = lab.tree("node1");
    let file = lab.file();
    let answer = lab.run("node1", &["init", file.to_str().unwrap()]);
    answer.refused(2, "/usr/lib/ssl/glusterfs.pem");
    answer.refused(2, "/etc/pki/CA/cacert.pem");
    assert_eq!(before, lab.tree("node1"));
}

#[test]
fn without_unlock_secrets_stay_in_clear_and_are_sealed_later() {
    let lab = Lab::new();
    let (unlock, rest) = common::FILE.split_at(common::FILE.find("[[node]]").unwrap());
    let without = format!("{}{rest}", &unlock[..unlock.find("[unlock]").unwrap()]);
    fs::write(lab.file(), &without).unwrap();
    let file = lab.file();
    let init = lab.run("node1", &["init", file.to_str().unwrap()]);
    assert!(
        init.stderr.contains("kept in clear below /etc/personal-cluster/secrets-clear"),
        "{}",
        init.stderr
    );
    let root = lab.root("node1");
    let clear = root.join("etc/personal-cluster/secrets-clear");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(&clear), mode(&clear.join("node.key"))), (0o700, 0o600));
    // A reboot: the tmpfs is empty; the unit applies again.
    let key = fs::read(lab.secret("node1", "node.key")).unwrap();
    fs::remove_dir_all(root.join("run")).unwrap();
    assert_eq!(lab.run("node1", &["--applied", "apply"]).code, Some(0));
    assert_eq!(key, fs::read(lab.secret("node1", "node.key")).unwrap());
    assert!(root.join("run/personal-cluster/qemu/node.key").exists());
    // The file gains [unlock].
    fs::write(root.join("etc/personal-cluster/cluster.toml"), common::FILE).unwrap();
    assert_eq!(lab.run("node1", &["apply"]).code, Some(0));
    assert_eq!(fs::read_dir(&clear).unwrap().count(), 0);
    assert!(root.join("etc/personal-cluster/sealed/recovery-key.jwe").exists());
    is_sealed(&lab);
}

fn is_sealed(lab: &Lab) {
    let status = lab.run("node1", &["--json", "status"]).json();
    assert_eq!(status["healthy"], true, "{status}");
}

#[test]
fn renewal_when_due_and_for_new_names() {
    let lab = Lab::new();
    lab.init();
    let certificate = fs::read(lab.trust("node1", "node.crt")).unwrap();
    let renew = lab.run("node1", &["renew"]);
    assert_eq!((renew.code, renew.stderr.as_str()), (Some(0), ""));
    assert_eq!(certificate, fs::read(lab.trust("node1", "node.crt")).unwrap());
    let file = lab.root("node1").join("etc/personal-cluster/cluster.toml");
    fs::write(&file, common::FILE.replace("192.0.2.1/", "192.0.2.77/")).unwrap();
    let renew = lab.run("node1", &["renew"]);
    assert!(renew.stderr.contains("its names are not those of the file"), "{}", renew.stderr);
    chain_holds(&lab, "node1", "node1", "192.0.2.77");
    assert_eq!(lab.run("node1", &["renew"]).stderr, "");
    fs::remove_file(lab.secret("node1", "recovery-key")).unwrap();
    lab.run("node1", &["renew", "--force"]).refused(75, "recovery-key is not open yet");
}

#[test]
fn a_plan_is_filtered_and_a_stale_one_refused() {
    let lab = Lab::new();
    lab.init();
    let root = lab.root("node1");
    for gone in ["usr/lib/ssl/glusterfs.pem", "etc/pki/CA/cacert.pem"] {
        fs::remove_file(root.join(gone)).unwrap();
    }
    let mut plan = lab.run("node1", &["--json", "plan"]).json();
    assert_eq!(plan["steps"].as_array().unwrap().len(), 2);
    plan["steps"].as_array_mut().unwrap().remove(0);
    let feed = |plan: &serde_json::Value| {
        let file = lab.directory.path().join("plan.json");
        fs::write(&file, plan.to_string()).unwrap();
        let stdin = fs::File::open(&file).unwrap();
        common::Answer::of(lab.command("node1").args(["apply", "-"]).stdin(stdin).output().unwrap())
    };
    assert_eq!(feed(&plan).code, Some(0));
    assert!(root.join("etc/pki/CA/cacert.pem").symlink_metadata().is_ok());
    assert!(root.join("usr/lib/ssl/glusterfs.pem").symlink_metadata().is_err());
    feed(&plan).refused(2, "plan is stale");
}

#[test]
fn what_one_node_signs_the_others_verify() {
    let lab = Lab::new();
    let init = lab.init();
    let member = lab.serve("node1");
    lab.join("node2", &member.address, init["joins"][0]["token"].as_str().unwrap()).json();
    let pipe = |node: &str, verb: &str, text: &str| {
        let file = lab.directory.path().join("text");
        fs::write(&file, text).unwrap();
        let stdin = fs::File::open(&file).unwrap();
        common::Answer::of(lab.command(node).arg(verb).stdin(stdin).output().unwrap())
    };
    let envelope = pipe("node1", "sign", common::FILE);
    assert_eq!(pipe("node2", "verify", &envelope.stdout).stdout, common::FILE);
    pipe("node2", "verify", &envelope.stdout.replace("192.0.2.3", "192.0.2.4")).refused(2, "does not fit");
    pipe("node3", "verify", &envelope.stdout).refused(2, "belongs to no cluster");
    pipe("node3", "sign", "x").refused(2, "no certificate");
}
