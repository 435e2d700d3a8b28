//! What strangers send to the join socket, and joins cut at every write.

#![allow(clippy::unwrap_used, reason = "a test says what it expects")]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Answer, Lab, TOOL, chain_holds};

/// Sends bytes through TLS as anybody with openssl can; gives what comes back.
fn through_tls(address: &str, bytes: &[u8]) -> String {
    let mut child = Command::new("timeout")
        .args(["20", "openssl", "s_client", "-quiet", "-connect", address])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let _ = stdin.write_all(bytes);
    let mut back = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut back).unwrap();
    child.wait().unwrap();
    drop(stdin);
    String::from_utf8_lossy(&back).into_owned()
}

fn frame(body: &str) -> Vec<u8> {
    let mut bytes = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(body.bytes());
    bytes
}

#[test]
fn strangers_are_turned_away_and_the_token_survives_them() {
    let lab = Lab::new();
    let init = lab.init();
    let token = init["joins"][0]["token"].as_str().unwrap();
    let mut member = lab.serve("node1");
    // Silent ones hold a place each until their time is up, and keep nobody out.
    let silent: Vec<TcpStream> = (0..2).map(|_| TcpStream::connect(&member.address).unwrap()).collect();
    // No TLS at all.
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 4096], &[0xff; 4096], b"\x16\x03\x01\xff\xff"] {
        let mut stream = TcpStream::connect(&member.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let _ = stream.write_all(garbage);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    }
    // TLS, but no join: closed without an answer.
    for bytes in [&b"\xff\xff\xff\xff"[..], b"\0\x05\0\0", &frame("{}"), &frame("[[[["), &frame("\0")] {
        assert_eq!(through_tls(&member.address, bytes), "", "{bytes:?}");
    }
    // A join without the token, or of a name that is no name.
    let hello = |schema: &str, node: &str, proof: &str| {
        frame(&serde_json::json!({ "schema": schema, "node": node, "proof": proof }).to_string())
    };
    let proof = "00".repeat(32);
    let mut names = vec!["node2".to_string(), "../../etc/passwd".into(), String::new(), "x".repeat(100_000)];
    names.push("node1\n".into());
    for node in names {
        let answer = through_tls(&member.address, &hello("pc.trust.join/1", &node, &proof));
        assert!(answer.contains("refused") && answer.contains("wrong, used, or expired"), "{answer}");
        assert!(answer.len() < 400, "nothing is echoed at length");
    }
    let answer = through_tls(&member.address, &hello("pc.trust.join/9", "node2", &proof));
    assert!(answer.contains("this member speaks pc.trust.join/1"), "{answer}");
    assert!(member.running());
    lab.join("node2", &member.address, token).json();
    drop(silent);
    let log = member.stop();
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn strangers_do_not_keep_a_member_listening_when_no_token_is_left() {
    let lab = Lab::new();
    let init = lab.init();
    let member = lab.serve("node1");
    // Connections are taken in their order: this one is being served when the joins are.
    let early = TcpStream::connect(&member.address).unwrap();
    for (index, node) in ["node2", "node3"].into_iter().enumerate() {
        lab.join(node, &member.address, init["joins"][index]["token"].as_str().unwrap()).json();
    }
    let late = TcpStream::connect(&member.address).unwrap();
    drop(early);
    // Served, the late one would be named too, when its minute was over.
    let log = member.end();
    assert_eq!(log.matches("warning: 127.0.0.1: ").count(), 1, "{log}");
    drop(late);
}

#[test]
fn an_impostor_member_is_found_out() {
    // A machine that copied the clear certificates but has no key of the cluster, and one with its own CA.
    let lab = Lab::new();
    let init = lab.init();
    let token = init["joins"][0]["token"].as_str().unwrap().to_string();
    let (key, certificate) = (lab.directory.path().join("key.pem"), lab.directory.path().join("cert.pem"));
    let [key_path, certificate_path] = [&key, &certificate].map(|path| path.to_str().unwrap());
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-subj", "/CN=node1", "-keyout", key_path, "-out", certificate_path])
        .stderr(Stdio::null())
        .status();
    assert!(made.unwrap().success());
    // The chain shows the true CA, which the token pins; the leaf is self-made.
    let ca = lab.trust("node1", "ca.crt");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut server = Command::new("openssl")
        .args([
            "s_server",
            "-quiet",
            "-accept",
            &address.to_string(),
            "-cert",
            certificate_path,
            "-key",
            key_path,
        ])
        .args(["-cert_chain", ca.to_str().unwrap()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(address).is_err() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    let before = lab.tree("node2");
    let answer = lab.join("node2", &address.to_string(), &token);
    server.kill().unwrap();
    server.wait().unwrap();
    answer.refused(2, "not a member of the cluster of this token");
    assert_eq!(before, lab.tree("node2"));
    lab.join("node2", &address.to_string(), &token).refused(75, "a member listens for 15 minutes");
}

/// Runs the tool and kills it at its n-th rename(2): every write of ours ends in one. `None` when it came to
/// its end before that.
fn killed_at(lab: &Lab, node: &str, arguments: &[&str], rename: usize) -> Option<()> {
    let mut command = lab.command(node);
    let inject = format!("inject=/^rename:signal=KILL:when={rename}");
    let own: Vec<std::ffi::OsString> = command.get_args().map(Into::into).collect();
    let mut traced = Command::new("strace");
    traced.args(["-o", "/dev/null", "-e", "trace=/^rename", "-e", &inject, TOOL]).args(own).args(arguments);
    for (key, value) in command.env_clear().get_envs() {
        if let Some(value) = value {
            traced.env(key, value);
        }
    }
    let fakes = lab.directory.path().join("fakes");
    let path = format!("{}:{}", fakes.display(), std::env::var("PATH").unwrap());
    let output = traced.env("PATH", path).env("FAKES", fakes).stdin(Stdio::null()).output().unwrap();
    let killed = output.status.signal() == Some(9) || output.status.code() == Some(137);
    assert!(killed || output.status.success(), "{:?}", Answer::of(output));
    killed.then_some(())
}

fn healthy(lab: &Lab, node: &str, address: &str, when: usize) {
    let status = lab.run(node, &["--json", "status"]).json();
    assert_eq!(status["problems"], serde_json::json!([]), "killed at write {when}");
    chain_holds(lab, "node1", node, address);
    let apply = lab.run(node, &["apply"]);
    assert_eq!((apply.code, apply.stderr.as_str()), (Some(0), ""), "killed at write {when}");
}

#[test]
fn init_killed_at_every_write_is_completed_by_the_next() {
    let lab = Lab::new();
    let file = lab.file();
    let init = ["init", file.to_str().unwrap()];
    let mut writes = 0;
    loop {
        lab.machine("node1");
        if killed_at(&lab, "node1", &init, writes + 1).is_none() {
            break;
        }
        writes += 1;
        let kept = fs::read_to_string(lab.secret("node1", "recovery-key")).ok();
        let member = lab.trust("node1", "member.json").exists();
        let again = lab.init();
        if let (Some(kept), false) = (kept, member) {
            assert_eq!(again["recovery_key"], kept.as_str(), "disks may have it already");
        }
        healthy(&lab, "node1", "192.0.2.1", writes);
    }
    assert!(writes > 20, "{writes}");
}

#[test]
fn join_killed_at_every_write_is_completed_by_the_next() {
    let lab = Lab::new();
    lab.init();
    let member = lab.serve("node1");
    let mut writes = 0;
    loop {
        lab.machine("node2");
        let (token, address) = (lab.token("node2"), member.address.as_str());
        if killed_at(&lab, "node2", &["join", address, &token], writes + 1).is_none() {
            break;
        }
        writes += 1;
        lab.join("node2", address, &lab.token("node2")).json();
        healthy(&lab, "node2", "192.0.2.2", writes);
    }
    assert!(writes > 20, "{writes}");
}

#[test]
fn killed_while_a_sibling_works() {
    for (kill, call) in
        ["KILL_AT", "KILL_AFTER"].into_iter().flat_map(|kill| (2..=7).map(move |call| (kill, call)))
    {
        let lab = Lab::new();
        let output =
            lab.command("node1").arg("init").arg(lab.file()).env(kill, call.to_string()).output().unwrap();
        assert_eq!(output.status.signal(), Some(9), "{kill} {call}: {:?}", Answer::of(output));
        assert_eq!(lab.init()["changed"], true);
        healthy(&lab, "node1", "192.0.2.1", call);
    }
}
