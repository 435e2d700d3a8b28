//! `pc-ha maintenance`, and what waits for its end: who is asked for what, in which order. The other nodes are an ssh, systemd is a
//! stand-in on a private bus, the CIB is a file.

#![allow(clippy::unwrap_used, missing_docs, reason = "helpers of tests")]

mod stage;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::process::Output;

use stage::children::{Running, bus};
use stage::{Stage, said};
use systemd_jobs::Listed;
use zbus::blocking::{Connection, connection::Builder};
use zbus::object_server::SignalEmitter;
use zbus::zvariant::{ObjectPath, OwnedObjectPath};

/// Notes what it is asked; has no units but those that it is asked to start.
struct Systemd {
    log: PathBuf,
    /// How a restart ends, by a file that may say so.
    ends: PathBuf,
}

impl Systemd {
    fn note(&self, what: &str, unit: &str) {
        let mut log = OpenOptions::new().append(true).create(true).open(&self.log).unwrap();
        writeln!(log, "systemd {what} {unit}").unwrap();
    }
}

async fn over(emitter: &SignalEmitter<'_>, unit: &str, result: &str) -> OwnedObjectPath {
    let job = ObjectPath::try_from("/org/freedesktop/systemd1/job/7").unwrap();
    Systemd::job_removed(emitter, 7, job.clone(), unit, result).await.unwrap();
    job.into()
}

#[zbus::interface(name = "org.freedesktop.systemd1.Manager")]
#[allow(clippy::unused_self, clippy::needless_pass_by_value, reason = "the shape of D-Bus")]
impl Systemd {
    fn subscribe(&self) {}

    fn reload(&self) {
        self.note("reload", "");
    }

    fn list_units_by_patterns(&self, states: Vec<String>, patterns: Vec<String>) -> Vec<Listed> {
        assert!(states.contains(&"active".into()) && patterns == ["pc-vm@*.service"]);
        Vec::new()
    }

    async fn start_unit(
        &self,
        name: String,
        mode: String,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> OwnedObjectPath {
        assert_eq!(mode, "replace");
        self.note("start", &name);
        over(&emitter, &name, "done").await
    }

    async fn stop_unit(
        &self,
        name: String,
        mode: String,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> OwnedObjectPath {
        assert_eq!(mode, "replace");
        self.note("stop", &name);
        over(&emitter, &name, "done").await
    }

    async fn restart_unit(
        &self,
        name: String,
        mode: String,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> OwnedObjectPath {
        assert_eq!(mode, "replace");
        self.note("restart", &name);
        let end = std::fs::read_to_string(&self.ends).unwrap_or_else(|_| "done".into());
        over(&emitter, &name, &end).await
    }

    #[zbus(signal)]
    async fn job_removed(
        emitter: &SignalEmitter<'_>,
        id: u32,
        job: ObjectPath<'_>,
        unit: &str,
        result: &str,
    ) -> zbus::Result<()>;
}

/// Another node; while there is a file `refuse-NODE`, or `refuse-VERB`, it cannot be done.
const SSH: &str = r#"#!/bin/sh
echo "$4 ${5##* }" >> @ROOT@/asked.log
[ ! -e "@ROOT@/refuse-$4" ] && [ ! -e "@ROOT@/refuse-${5##* }" ] || { echo "error: vm mail is still noted as pacemaker's: /mnt/vms is not mounted" >&2; exit 75; }
"#;

struct Scene {
    stage: Stage,
    // In the order in which they end.
    _systemd: Connection,
    _daemon: Running,
}

/// Three nodes that run what they should, or with `mail` stopped.
fn scene(mail_runs: bool) -> Scene {
    let mut stage = Stage::running();
    if !mail_runs {
        stage.pc_ha(&["stop", "mail"]);
        stage.simulate(&[]);
    }
    let root = stage.at("").display().to_string();
    let root = root.trim_end_matches('/');
    stage.program("ssh", &SSH.replace("@ROOT@", root));
    stage.program("pc-vm", &format!("#!/bin/sh\necho \"pc-vm $*\" >> {root}/asked.log\n"));
    stage.write("etc/personal-cluster/trust/ssh_config", "");
    stage.write("run/personal-cluster/secrets/ssh-user.key", "");
    let (daemon, address) = bus();
    let manager = Systemd { log: stage.at("asked.log"), ends: stage.at("ends") };
    let systemd = Builder::address(address.as_str())
        .and_then(|builder| builder.serve_at("/org/freedesktop/systemd1", manager))
        .and_then(|builder| builder.name("org.freedesktop.systemd1"))
        .and_then(Builder::build)
        .unwrap();
    stage.bus = Some(address);
    Scene { stage, _systemd: systemd, _daemon: daemon }
}

impl Scene {
    /// What was asked of whom since the last time.
    fn asked(&self) -> Vec<String> {
        let path = self.stage.at("asked.log");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let _ = std::fs::remove_file(path);
        text.lines().map(String::from).collect()
    }

    /// On a network where no other node answers.
    fn pc_ha(&self, arguments: &[&str]) -> Output {
        self.stage.pc_ha_in_network("", arguments)
    }

    fn ends(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.pc_ha(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", said(&output));
        said(&output)
    }

    fn is_on(&self) -> bool {
        self.stage.read("cib.xml").contains(r#"name="maintenance-mode" value="true""#)
    }
}

/// Without pacemaker a node feeds its watchdog whatever happens to it: no record may say that its fencing is proof.
#[test]
fn the_records_are_nobody_s_before_pacemaker_stops_and_its_own_again_after() {
    let scene = scene(true);
    let told = scene.ends(0, &["maintenance", "on"]);
    assert!(told.contains("nobody is fenced; end it with: pc-ha maintenance off\n"), "{told}");
    assert!(scene.is_on());
    let begun = [
        "node2 release",
        "node3 release",
        "systemd stop pc-ha.service",
        "pc-vm --applied release",
        "node2 stop",
        "node3 stop",
        "systemd stop pacemaker.service",
    ];
    assert_eq!(scene.asked(), begun);
    scene.ends(0, &["maintenance", "off"]);
    assert!(!scene.is_on());
    let ended = [
        "systemd start pacemaker.service",
        "node2 start",
        "node3 start",
        "node2 adopt",
        "node3 adopt",
        "systemd restart pc-ha.service",
    ];
    assert_eq!(scene.asked(), ended);
    // It has ended; that a node is not armed yet is said, and asked again by the unit.
    scene.stage.write("ends", "failed");
    let told = scene.ends(75, &["maintenance", "off"]);
    assert!(told.contains("the VMs are not all noted as pacemaker's yet: a node that dies keeps those down; pc-ha.service asks again: "), "{told}");
    assert!(
        told.ends_with("pc-ha.service: its job ended as failed\n  systemctl status pc-ha.service\n"),
        "{told}"
    );
}

#[test]
fn maintenance_does_not_begin_while_a_record_says_that_fencing_is_proof() {
    let scene = scene(true);
    scene.stage.write("refuse-node3", "");
    let told = scene.ends(75, &["maintenance", "on"]);
    assert!(told.contains("maintenance did not begin: "), "{told}");
    assert!(told.contains("vm mail is still noted as pacemaker's: /mnt/vms is not mounted"), "{told}");
    assert!(!scene.is_on());
    let asked = scene.asked();
    assert!(
        !asked.iter().any(|line| line.ends_with(" stop") || line.contains("pacemaker.service")),
        "{asked:?}"
    );
    assert!(asked.ends_with(&["systemd restart pc-ha.service".into()]), "{asked:?}");
}

/// It would come back in the middle, with a configuration of before.
#[test]
fn a_node_that_is_away_is_named() {
    let scene = scene(false);
    scene.stage.simulate(&["--node-down", "node2"]);
    let before = scene.stage.read("cib.xml");
    let told = scene.ends(75, &["maintenance", "on"]);
    assert!(told.contains("node2 is away: maintenance would not reach what is not there"), "{told}");
    assert!(
        told.ends_with(
            "\n  switched off until maintenance is over, for certain: pc-ha maintenance on --dead node2\n"
        ),
        "{told}"
    );
    assert_eq!((scene.stage.read("cib.xml"), scene.asked()), (before, Vec::new()));
    scene.ends(0, &["maintenance", "on", "--dead", "node2"]);
    assert!(!scene.asked().iter().any(|line| line.starts_with("node2")));
    // Its VMs start elsewhere by the word of whoever says that it is dead, which is noted before pacemaker is in charge.
    scene.ends(0, &["maintenance", "off", "--dead", "node2"]);
    let ended = [
        "systemd start pacemaker.service",
        "node3 start",
        "pc-vm --applied disown mail --owner-is-dead node2",
        "node3 adopt",
        "systemd restart pc-ha.service",
    ];
    assert_eq!(scene.asked(), ended);
}

#[test]
fn nobody_waits_for_a_node_that_was_lost_and_may_live() {
    let scene = scene(true);
    let before = scene.stage.read("cib.xml");
    let state = before.lines().find(|line| line.contains("<node_state") && line.contains("node2")).unwrap();
    let lost = state
        .replace(r#"crmd="online""#, r#"crmd="offline""#)
        .replace(r#"in_ccm="true""#, r#"in_ccm="false""#);
    scene.stage.write("cib.xml", &before.replace(state, &lost));
    let cib = scene.stage.read("cib.xml");
    let told = scene.ends(75, &["maintenance", "on", "--dead", "node2"]);
    let unclean = "node2 was lost and is not yet known to be dead\n  pc-ha status\n";
    assert!(told.ends_with(unclean) && scene.stage.read("cib.xml") == cib, "{told}");
}

#[test]
fn in_maintenance_nothing_starts_and_nothing_is_adopted() {
    let scene = scene(false);
    scene.stage.simulate(&["--node-down", "node2"]);
    scene.ends(0, &["maintenance", "on", "--dead", "node2"]);
    scene.asked();
    for arguments in [&["start", "mail", "--owner-is-dead", "node2"][..], &["start", "mail"]] {
        let told = scene.ends(75, arguments);
        let waits = "maintenance mode is on: pacemaker starts nothing, and has fenced nobody\n  pc-ha maintenance off\n";
        assert!(told.ends_with(waits), "{told}");
    }
    // All of it is in force, and still nobody would be fenced.
    scene.stage.write("var/lib/personal-cluster/ha-enabled", "");
    scene.stage.write("proc/77/comm", "sbd\n");
    scene.stage.write("sys/class/watchdog/watchdog0/state", "active\n");
    let told = scene.ends(75, &["apply"]);
    assert!(
        told.ends_with("are not pacemaker's yet: maintenance mode is on\n  pc-ha maintenance off\n"),
        "{told}"
    );
    assert_eq!(scene.asked(), Vec::<String>::new());
}

/// As it was switched off: maintenance is in the CIB that all nodes keep.
#[test]
fn enable_says_that_maintenance_is_on_from_before() {
    let scene = scene(true);
    scene.ends(0, &["maintenance", "on"]);
    let stage = &scene.stage;
    stage.write("cib.xml", &stage.read("cib.xml").replacen("<cib ", "<cib dc-uuid=\"15687\" ", 1));
    stage.write("run/personal-cluster/secrets/corosync.authkey", "");
    let nodes = ["node1", "node2", "node3"];
    let nodes: Vec<_> = (50..)
        .zip(nodes)
        .map(|(last, name)| serde_json::json!({"name": name, "address": format!("192.168.0.{last}/24")}))
        .collect();
    let applied =
        serde_json::json!({"schema": "personal-cluster/1", "name": "home", "ha": {}, "node": nodes});
    stage.write("var/lib/personal-cluster/applied.json", &applied.to_string());
    let told = scene.ends(75, &["enable"]);
    let waits = "pacemaker leaves everything alone: maintenance mode is on, from before\n  \
                 pc-ha enable on every node, then on one of them: pc-ha maintenance off\n";
    assert!(told.ends_with(waits), "{told}");
    assert!(stage.at("var/lib/personal-cluster/ha-enabled").exists(), "the rest of it is done");
    assert!(scene.asked().ends_with(&["systemd start pc-ha.service".into()]));
}

#[test]
fn a_shutdown_that_fails_says_where_that_leaves_the_cluster() {
    let scene = scene(true);
    let told = scene.ends(75, &["shutdown", "--all", "--timeout", "1"]);
    let stays = "did not stop: nothing is switched off, and all guests may run again\n  \
                 pc-ha status; when it is known why: pc-ha shutdown --all\n";
    assert!(told.ends_with(stays), "{told}");
    assert_eq!(scene.asked(), Vec::<String>::new());
    // Nobody stops anything in a file.
    for vm in ["lab", "mail"] {
        scene.pc_ha(&["stop", vm]);
    }
    scene.stage.simulate(&[]);
    scene.stage.write("refuse-node3", "");
    let told = scene.ends(75, &["shutdown", "--all"]);
    assert!(
        told.contains(
            "\n  every guest has stopped, and some engines: on every node systemctl start pacemaker"
        ),
        "{told}"
    );
    assert_eq!(scene.asked(), ["node2 stop", "node3 stop"]);
    // This node's engine is stopped last, and the fault is another one's.
    std::fs::remove_file(scene.stage.at("refuse-node3")).unwrap();
    scene.stage.write("refuse-power-off", "");
    let told = scene.ends(75, &["shutdown", "--all"]);
    assert!(
        told.ends_with("\n  every guest has stopped: switch off by hand what is still on, this node last\n"),
        "{told}"
    );
}
