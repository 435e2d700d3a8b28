//! Three nodes whose engines are started and stopped: the other nodes are an ssh, systemd is a stand-in on a private bus, the CIB
//! is a file.

#![allow(clippy::unwrap_used, missing_docs, dead_code, reason = "helpers of tests; not every test uses all")]

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::process::Output;

use systemd_jobs::Listed;
use zbus::blocking::{Connection, connection::Builder};
use zbus::object_server::SignalEmitter;
use zbus::zvariant::{ObjectPath, OwnedObjectPath};

use crate::stage::children::{Running, bus};
use crate::stage::{Stage, said};

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

pub struct Scene {
    pub stage: Stage,
    // In the order in which they end.
    _systemd: Connection,
    _daemon: Running,
}

/// Three nodes that run what they should, or with `mail` stopped.
pub fn scene(mail_runs: bool) -> Scene {
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
    pub fn asked(&self) -> Vec<String> {
        let path = self.stage.at("asked.log");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let _ = std::fs::remove_file(path);
        text.lines().map(String::from).collect()
    }

    /// On a network where no other node answers.
    pub fn pc_ha(&self, arguments: &[&str]) -> Output {
        self.stage.pc_ha_in_network("", arguments)
    }

    pub fn ends(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.pc_ha(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", said(&output));
        said(&output)
    }

    pub fn is_on(&self) -> bool {
        self.stage.read("cib.xml").contains(r#"name="maintenance-mode" value="true""#)
    }
}
