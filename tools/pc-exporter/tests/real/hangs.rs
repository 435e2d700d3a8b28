//! A sibling that hangs, and a D-Bus that is dead: told, bounded, and nobody's delay.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::service::{PATIENCE, Service, root_with_vms, until};

const FILE: &str = r#"
schema = "personal-cluster/1"
name = "home"
[[node]]
name = "node1"
address = "192.168.0.50/24"
disks.vms = ["/dev/disk/by-id/ata-A"]
[volume.vms]
use = "vm"
replicas = 1
"#;

fn script(directory: &Path, name: &str, text: &str) {
    let path = directory.join(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_stopped_sibling_is_killed_and_told_and_the_others_are_not_held_up() {
    let root = tempfile::tempdir().unwrap();
    let bin = root.path().join("bin");
    fs::create_dir(&bin).unwrap();
    let pid = root.path().join("pid");
    let golden = |tool: &str| format!("{}/../{tool}/tests/golden/status.json", env!("CARGO_MANIFEST_DIR"));
    script(&bin, "pc-config", &format!("exec cat {}", golden("pc-config")));
    script(&bin, "pc-brick", "echo not ready >&2; exit 75");
    script(&bin, "pc-unlock", "echo '{'");
    // As pc-gluster is when its disk does not answer: alive, and deaf to everything but SIGKILL.
    script(&bin, "pc-gluster", &format!("echo $$ > {}; kill -STOP $$; echo '{{}}'", pid.display()));
    fs::write(root.path().join("cluster.toml"), FILE).unwrap();
    let ask = || {
        Command::new(env!("CARGO_BIN_EXE_pc-exporter"))
            .args(["facts", "--all", "--deadline", "3", "--node", "node1", "--root"])
            .arg(root.path())
            .arg("--file")
            .arg(root.path().join("cluster.toml"))
            // Nothing but the scripts and a shell's own programs: what is not there is not asked.
            .env("PATH", format!("{}:/bin", bin.display()))
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    let facts = root.path().join("run/personal-cluster/facts");
    let mut run = ask();
    until("the others have answered", || {
        facts.join("config.json").exists() && facts.join("brick.json").exists()
    });
    assert!(!facts.join("gluster.json").exists(), "that one was told before its time");
    let service = Service::start(root.path(), root.path());
    let scraped = Instant::now();
    let text = service.scrape();
    assert!(scraped.elapsed() < Duration::from_secs(2), "{:?}", scraped.elapsed());
    assert!(text.contains("\npc_collector_success{collector=\"config\"} 1\n"), "{text}");
    assert!(run.wait().unwrap().success());

    let fact = |name: &str| -> serde_json::Value {
        serde_json::from_slice(&fs::read(facts.join(format!("{name}.json"))).unwrap()).unwrap()
    };
    assert_eq!(fact("gluster")["error"], "pc-gluster status: no answer within 3 s");
    assert_eq!(fact("brick")["error"], "pc-brick status: exit status: 75: not ready");
    assert!(fact("unlock")["error"].as_str().unwrap().starts_with("pc-unlock: its answer is no JSON"));
    assert_eq!(fact("config")["answer"]["generation"], 1);
    let stopped: i32 = fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
    assert!(!Path::new(&format!("/proc/{stopped}")).exists(), "it outlived its deadline");
    until("the scrape tells which one hangs", || {
        service.scrape().contains("\npc_collector_success{collector=\"gluster\"} 0\n")
    });

    // It works again: the answer counts, and a failure after that keeps it.
    script(
        &bin,
        "pc-gluster",
        &format!("exec cat {}/../pc-gluster/tests/golden/status-healthy.json", env!("CARGO_MANIFEST_DIR")),
    );
    assert!(ask().wait().unwrap().success());
    until("it is well", || service.scrape().contains("\npc_gluster_healthy 1\n"));
    script(&bin, "pc-gluster", "exit 1");
    assert!(ask().wait().unwrap().success());
    until("it is told as failing, with its last values", || {
        let text = service.scrape();
        text.contains("\npc_collector_success{collector=\"gluster\"} 0\n")
            && text.contains("\npc_gluster_healthy 1\n")
    });
    // No longer installed: no longer told.
    fs::remove_file(bin.join("pc-gluster")).unwrap();
    assert!(ask().wait().unwrap().success());
    until("it is forgotten", || !service.scrape().contains("gluster"));
}

#[test]
fn a_dead_bus_holds_its_own_threads_and_no_scrape() {
    let root = root_with_vms(10);
    let bus = root.path().join("bus");
    // Takes connections, and says nothing to them.
    let _listener = UnixListener::bind(&bus).unwrap();
    let service = Service::start(root.path(), &bus);
    let mut slowest = Duration::ZERO;
    let started = Instant::now();
    let mut most = 0;
    // Longer than the collectors' deadlines.
    while started.elapsed() < Duration::from_secs(7) {
        let scraped = Instant::now();
        let text = service.scrape();
        slowest = slowest.max(scraped.elapsed());
        assert!(text.contains("\npc_collector_success{collector=\"units\"} 0\n"), "{text}");
        assert!(text.contains("\npc_collector_success{collector=\"vm\"} 1\n"), "{text}");
        most = most.max(service.status("Threads:"));
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    // Main, four collectors, the files, zbus' own, and the scrape that is just ending.
    assert!(most <= 12, "{most} threads");
    assert!(started.elapsed() < PATIENCE);
}
