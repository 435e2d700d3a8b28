//! The program itself, with siblings and an ssh that a test puts on its PATH: five-line fakes.

#![allow(clippy::unwrap_used, reason = "tests; helpers outside #[test] functions too")]

mod bench;
mod node;
mod planted;
mod watch;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::bench::{Bench, text};

#[test]
fn healthy_is_0_and_a_fault_is_3() {
    let bench = Bench::new();
    let output = bench.run(&[]);
    assert_eq!((output.status.code(), text(&output).as_str()), (Some(0), "node1: healthy\n"));
    // The tools are asked about the same file, node and root.
    let root = bench.root.path().display();
    let expected = format!("status --json --file {root}/cluster.toml --root {root} --node node1\n");
    assert_eq!(fs::read_to_string(bench.path("pc-config.log")).unwrap(), expected);
    // A defect of a set-up by hand.
    fs::create_dir_all(bench.path("etc/libvirt")).unwrap();
    fs::write(bench.path("etc/libvirt/qemu.conf"), "security_driver = \"none\"\n").unwrap();
    let output = bench.run(&[]);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output).starts_with("node1: not healthy, 1 problem\nproblem: machine: security_driver"));
    bench.program(
        "pc-trust",
        "echo 'error: reading x: denied' >&2; echo '  sudo pc-trust status' >&2; exit 1",
    );
    let told = text(&bench.run(&[]));
    let fault = "problem: trust: gives no status: reading x: denied\n  sudo pc-trust status\n";
    assert!(told.contains(fault), "{told}");
    fs::remove_file(bench.path("bin/pc-trust")).unwrap();
    let told = text(&bench.run(&[]));
    assert!(told.contains("problem: trust: pc-trust is not installed"), "{told}");
}

#[test]
fn a_page_replaces_the_one_before_it_at_once() {
    let bench = Bench::new();
    let hostile =
        r#"{"schema": "pc.trust.status/1", "healthy": false, "problems": ["<script>x</script>\n  do y"]}"#;
    bench.program("pc-trust", &format!("cat <<'EOF'\n{hostile}\nEOF"));
    let page = bench.path("page.html");
    let output = bench.run(&["--html", "--output", &page.to_string_lossy()]);
    assert_eq!((output.status.code(), text(&output).as_str()), (Some(3), ""), "the verdict decides");
    let told = fs::read_to_string(&page).unwrap();
    assert!(told.contains("<p class=\"fault\">&lt;script&gt;x&lt;/script&gt;</p>"), "{told}");
    assert!(told.contains("<code>do y</code>"), "{told}");
    // Whoever serves it is not root.
    assert_eq!(fs::metadata(&page).unwrap().permissions().mode() & 0o777, 0o644);
    let before = fs::metadata(&page).unwrap().ino();
    bench.prints("pc-trust", "pc-trust/tests/golden/status.json");
    assert_eq!(bench.run(&["--html", "--output", &page.to_string_lossy()]).status.code(), Some(0));
    assert_ne!(fs::metadata(&page).unwrap().ino(), before, "a reader of the old one keeps it whole");
    let named = fs::read_dir(bench.root.path())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains("page"));
    assert_eq!(named.count(), 1);
    // Without --output it goes to standard output.
    let printed = text(&bench.run(&["--html"]));
    assert!(printed.starts_with("<!doctype html>") && printed.ends_with("</html>\n"), "{printed}");
    for wrong in [&["--html", "--json"][..], &["--output", "x"]] {
        assert_eq!(bench.run(wrong).status.code(), Some(2), "{wrong:?}");
    }
    let nowhere = bench.path("none/page.html");
    assert_eq!(bench.run(&["--html", "--output", &nowhere.to_string_lossy()]).status.code(), Some(1));
}

#[test]
fn a_file_that_is_none_is_refused() {
    let bench = Bench::new();
    fs::write(bench.path("cluster.toml"), "schema = 1").unwrap();
    assert_eq!(bench.run(&[]).status.code(), Some(2));
    // Standard input can be read once, and every tool wants it.
    let root = bench.root.path().to_string_lossy().into_owned();
    let output = Command::new(env!("CARGO_BIN_EXE_pc-verify"))
        .args(["--root", &root, "--file", "-"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("every tool reads the file for itself"));
}

#[test]
fn a_tool_that_hangs_costs_the_deadline_and_is_killed() {
    let bench = Bench::new();
    let pid = bench.path("pid");
    // A child of its own, as a tool that waits for a dead daemon has.
    bench.program("pc-trust", &format!("sleep 600 & echo $! > {}; wait", pid.display()));
    let started = Instant::now();
    let verdict = bench.json(&[], 3);
    let took = started.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    let seconds = verdict["seconds"].as_f64().unwrap();
    assert!((2.5..10.0).contains(&seconds), "{seconds}");
    assert_eq!(verdict["nodes"][0]["checks"][1]["state"], "silent");
    assert!(verdict["findings"][0]["fault"].as_str().unwrap().starts_with("gives no status: "), "{verdict}");
    let child = fs::read_to_string(pid).unwrap();
    // It is killed with the tool, and gone as soon as the kernel lets it run once more.
    let runs =
        || fs::read(format!("/proc/{}/cmdline", child.trim())).is_ok_and(|line| line.starts_with(b"sleep"));
    let until = Instant::now() + Duration::from_secs(20);
    while runs() {
        assert!(Instant::now() < until, "the child of the killed tool still runs");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn all_nodes_through_the_gate() {
    let bench = Bench::new();
    // No member: the others cannot be asked, and that is told for each.
    let verdict = bench.json(&["--cluster"], 3);
    assert_eq!(verdict["nodes"][1]["reachable"], false);
    assert!(verdict["findings"][0]["fault"].as_str().unwrap().contains("belongs to no cluster"), "{verdict}");
    bench.join();
    // The other node's own verdict, which ended with 3.
    let mut theirs = bench.json(&[], 0);
    theirs["node"] = "node2".into();
    theirs["nodes"][0]["node"] = "node2".into();
    theirs["findings"] = serde_json::json!([{
        "severity": "problem", "check": "unlock", "nodes": ["node2"], "fault": "disk x is locked", "remedy": "y"
    }]);
    theirs["measured_at"] = "MEASURED".into();
    fs::write(bench.path("theirs.json"), theirs.to_string()).unwrap();
    let (log, answer) = (bench.path("ssh.log"), bench.path("theirs.json"));
    let now = "$(date -u +%Y-%m-%dT%H:%M:%SZ)";
    let script =
        format!("echo \"$*\" >> {}\nsed \"s/MEASURED/{now}/\" {}\nexit 3", log.display(), answer.display());
    bench.program("ssh", &script);
    let output = bench.run(&["--cluster"]);
    let told = text(&output);
    assert_eq!(output.status.code(), Some(3), "{told}");
    let expected = "home: not healthy, 1 problem, 2 of 2 nodes looked at\nproblem on node2: unlock: disk x is locked\n  y\n";
    assert_eq!(told, expected);
    // Exactly what the gate of pc-trust admits.
    let config = bench.path("etc/personal-cluster/trust/ssh_config");
    let called = fs::read_to_string(&log).unwrap();
    assert_eq!(called, format!("-F {} -oConnectTimeout=2 -- node2 pc-verify --json\n", config.display()));
    bench.run(&["--cluster", "--patient"]);
    assert!(fs::read_to_string(&log).unwrap().ends_with("ssh_config -- node2 pc-verify --json --patient\n"));
    // A node that is off.
    bench.program("ssh", "echo 'ssh: connect to host 192.168.0.51 port 22: No route to host' >&2; exit 255");
    let told = text(&bench.run(&["--cluster"]));
    let fault = "problem on node2: cluster: node2 cannot be reached: ssh: connect to host 192.168.0.51 port 22: No route to host\n  switch node2 on";
    assert!(told.contains(fault), "{told}");
    // Another machine under its address.
    theirs["node"] = "node7".into();
    fs::write(bench.path("theirs.json"), theirs.to_string()).unwrap();
    bench.program("ssh", &script);
    let told = text(&bench.run(&["--cluster"]));
    assert!(told.contains("node2 calls itself node7\n  hostnamectl hostname node2, there"), "{told}");
}

/// While a guest moves, both ends may have said that they run it, a moment apart: what counts is said twice.
#[test]
fn a_vm_that_two_nodes_run_is_looked_at_again() {
    let bench = Bench::new();
    let file = fs::read_to_string(bench.path("cluster.toml")).unwrap()
        + "disks.vms = [\"/dev/disk/by-id/nvme-A\"]\n[volume.vms]\nuse = \"vm\"\nreplicas = 1\n\
           [vm.mail]\nmemory = \"1GiB\"\ndisk = \"1GiB\"\nvolume = \"vms\"\nnetworks = []\n";
    fs::write(bench.path("cluster.toml"), file).unwrap();
    for tool in ["unlock", "brick", "vm"] {
        bench.prints(&format!("pc-{tool}"), &format!("pc-{tool}/tests/golden/status.json"));
    }
    bench.prints("pc-gluster", "pc-gluster/tests/golden/status-healthy.json");
    let golden = format!("{}/../pc-vm/tests/golden/status.json", env!("CARGO_MANIFEST_DIR"));
    let mut status: serde_json::Value = serde_json::from_str(&fs::read_to_string(golden).unwrap()).unwrap();
    let vm = |state: &str| serde_json::json!({"name": "mail", "state": state, "reason": null, "here": true});
    status["vms"][0]["state"] = "running".into();
    status["vms"][0]["here"] = true.into();
    bench.program("pc-vm", &format!("cat <<'EOF'\n{status}\nEOF"));
    bench.join();
    let mut theirs = bench.json(&[], 3);
    (theirs["node"], theirs["nodes"][0]["node"]) = ("node2".into(), "node2".into());
    theirs["findings"] = serde_json::json!([]);
    for (name, vms) in [("first", vec![vm("running")]), ("then", Vec::new())] {
        theirs["nodes"][0]["vms"] = serde_json::Value::Array(vms);
        fs::write(bench.path(name), theirs.to_string()).unwrap();
    }
    let (log, first, then) = (bench.path("ssh.log"), bench.path("first"), bench.path("then"));
    let twice = |verdict: &serde_json::Value| {
        let findings = verdict["findings"].as_array().unwrap().iter();
        findings.filter(|finding| finding["fault"].as_str().unwrap().starts_with("vm mail runs on")).count()
    };
    let answers = |second: &std::path::Path| {
        let _ = fs::remove_file(&log);
        let (log, first, second) = (log.display(), first.display(), second.display());
        bench.program(
            "ssh",
            &format!("echo x >> {log}\n[ $(wc -l < {log}) = 1 ] && cat {first} || cat {second}"),
        );
    };
    answers(&then);
    let verdict = bench.json(&["--cluster"], 3);
    assert_eq!((twice(&verdict), fs::read_to_string(&log).unwrap().as_str()), (0, "x\nx\n"), "{verdict}");
    answers(&first);
    assert_eq!(twice(&bench.json(&["--cluster"], 3)), 1);
}
