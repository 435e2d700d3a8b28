//! The tool on a whole machine: real paths in a mount namespace, a stand-in for systemd on a private bus, a
//! socket handed over by systemd-socket-activate; and QEMU's own TLS with what it is given.

#![allow(clippy::unwrap_used, reason = "a test says what it expects")]
#![allow(clippy::unused_self, clippy::used_underscore_binding, reason = "systemd's own signatures")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use common::{Answer, Lab, TOOL};
use zbus::blocking::connection::Builder;
use zbus::zvariant::{ObjectPath, OwnedObjectPath};

/// The machine of directory $1, as the root of a mount namespace; then runs "$@".
const MACHINE: &str = r#"
set -eu
root=$1 tool=$2; shift 2
mount -t tmpfs none /mnt
for place in etc usr/bin usr/lib/ssl var/lib; do
  mkdir -p "/mnt/upper/$place" "/mnt/work/$place"
  case $place in
    etc) mkdir -p /mnt/upper/etc/ssh /mnt/upper/etc/libvirt; cp -a "$root/etc/ssh/." /mnt/upper/etc/ssh/;;
    usr/bin) cp "$tool" /mnt/upper/usr/bin/pc-trust;;
    var/lib) mkdir -p /mnt/upper/var/lib/glusterd;;
  esac
  mount -t overlay none -o "lowerdir=/$place,upperdir=/mnt/upper/$place,workdir=/mnt/work/$place" "/$place"
done
rm -rf /var/lib/glusterd/* /etc/personal-cluster /etc/pki
mkdir -p /mnt/run/systemd/system; mount --bind /mnt/run /run
getent group libvirt-qemu > /dev/null || echo libvirt-qemu:x:64055: >> /etc/group
exec "$@"
"#;

/// What the stand-in knows of units: when they became active, microseconds; 0 when they are not.
type Units = Arc<Mutex<BTreeMap<&'static str, u64>>>;

struct Manager {
    calls: Arc<Mutex<Vec<String>>>,
    units: Units,
}

fn job() -> OwnedObjectPath {
    ObjectPath::from_static_str_unchecked("/org/freedesktop/systemd1/job/1").into()
}

fn object(unit: &str) -> OwnedObjectPath {
    let name: String = unit.chars().filter(char::is_ascii_alphanumeric).collect();
    ObjectPath::try_from(format!("/org/freedesktop/systemd1/unit/{name}")).unwrap().into()
}

impl Manager {
    fn note(&self, call: &str, unit: &str) -> OwnedObjectPath {
        self.calls.lock().unwrap().push(format!("{call} {unit}"));
        job()
    }

    fn activate(&self, unit: &str) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros();
        if let Some(since) = self.units.lock().unwrap().get_mut(unit) {
            *since = u64::try_from(now).unwrap();
        }
    }
}

#[zbus::interface(name = "org.freedesktop.systemd1.Manager")]
impl Manager {
    fn reload(&self) {
        self.note("Reload", "");
    }
    fn start_unit(&self, name: &str, _mode: &str) -> OwnedObjectPath {
        self.activate(name);
        self.note("Start", name)
    }
    fn stop_unit(&self, name: &str, _mode: &str) -> OwnedObjectPath {
        self.note("Stop", name)
    }
    fn try_restart_unit(&self, name: &str, _mode: &str) -> OwnedObjectPath {
        self.activate(name);
        self.note("TryRestart", name)
    }
    fn reload_or_try_restart_unit(&self, name: &str, _mode: &str) -> OwnedObjectPath {
        self.note("ReloadOrTryRestart", name)
    }
    fn load_unit(&self, name: &str) -> OwnedObjectPath {
        object(name)
    }
}

struct Unit {
    name: &'static str,
    units: Units,
}

#[zbus::interface(name = "org.freedesktop.systemd1.Unit")]
impl Unit {
    #[zbus(property)]
    fn active_state(&self) -> String {
        let active = self.active_enter_timestamp() > 0;
        if active { "active" } else { "inactive" }.into()
    }
    #[zbus(property)]
    fn load_state(&self) -> String {
        if self.name == "sshd.service" { "not-found" } else { "loaded" }.into()
    }
    #[zbus(property)]
    fn active_enter_timestamp(&self) -> u64 {
        self.units.lock().unwrap()[self.name]
    }
}

struct Systemd {
    daemon: Child,
    address: String,
    calls: Arc<Mutex<Vec<String>>>,
    _connection: zbus::blocking::Connection,
}

impl Systemd {
    fn start() -> Systemd {
        let mut daemon = Command::new("dbus-daemon")
            .args(["--session", "--nofork", "--print-address"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut address = String::new();
        BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut address).unwrap();
        let address = address.trim().to_string();
        let calls = Arc::new(Mutex::new(Vec::new()));
        // glusterd has run since 1970: longer than its TLS switch exists.
        let names =
            ["pc-trust.socket", "pc-trust.service", "ssh.service", "sshd.service", "glusterd.service"];
        let units: Units =
            Arc::new(Mutex::new(names.map(|name| (name, u64::from(name == "glusterd.service"))).into()));
        let manager = Manager { calls: calls.clone(), units: units.clone() };
        let mut builder = Builder::address(address.as_str())
            .and_then(|builder| builder.name("org.freedesktop.systemd1"))
            .and_then(|builder| builder.serve_at("/org/freedesktop/systemd1", manager))
            .unwrap();
        for name in names {
            builder = builder.serve_at(object(name), Unit { name, units: units.clone() }).unwrap();
        }
        Systemd { daemon, address, calls, _connection: builder.build().unwrap() }
    }

    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

fn machine(lab: &Lab, systemd: &Systemd, script: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", MACHINE, "sh"]).arg(lab.root("node1")).arg(TOOL);
    let fakes = lab.directory.path().join("fakes");
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", fakes.display());
    command.args(["sh", "-euc", script, "sh"]).arg(lab.file());
    command.env("PATH", path).env("FAKES", fakes).env("DBUS_SYSTEM_BUS_ADDRESS", &systemd.address);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

#[test]
fn a_whole_machine_from_init_to_the_closed_door() {
    let (lab, systemd) = (Lab::new(), Systemd::start());
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let script = format!(
        "pc-trust --node node1 --json init $1
         cat /run/systemd/system/pc-trust.socket.d/50-address.conf > $FAKES/drop-in
         stat -c '%a %U:%G' /run/personal-cluster/qemu /run/personal-cluster/qemu/node.key > $FAKES/qemu
         cat /etc/pki/qemu/server-key.pem /usr/lib/ssl/glusterfs.key | grep -c BEGIN >> $FAKES/qemu
         pc-trust --node node1 apply 2> $FAKES/second
         echo ready > $FAKES/ready
         exec systemd-socket-activate -E PATH -E FAKES -E DBUS_SYSTEM_BUS_ADDRESS -l 127.0.0.1:{port} \\
           pc-trust --applied serve"
    );
    let mut child = machine(&lab, &systemd, &script).stderr(Stdio::piped()).spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while !lab.fake("ready").exists() && child.try_wait().unwrap().is_none() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut init = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    while !init.ends_with("\n}\n") {
        assert!(stdout.read_line(&mut init).unwrap() > 0, "{init}");
    }
    assert_eq!(
        systemd.calls(),
        [
            "TryRestart glusterd.service",
            "ReloadOrTryRestart ssh.service",
            "Reload ",
            "Start pc-trust.socket",
            "Start pc-trust.service"
        ]
    );
    let text = |name: &str| fs::read_to_string(lab.fake(name)).unwrap();
    assert!(text("drop-in").ends_with("[Socket]\nListenStream=\nListenStream=192.0.2.1:7625\n"));
    assert_eq!(text("qemu"), "750 root:libvirt-qemu\n640 root:libvirt-qemu\n2\n");
    assert_eq!(text("second"), "", "the second apply has nothing to do");
    let init: serde_json::Value = serde_json::from_str(&init).unwrap();
    let address = format!("127.0.0.1:{port}");
    let token = |index: usize| init["joins"][index]["token"].as_str().unwrap().to_string();
    // The first to connect, and to hang up, starts the service.
    while std::net::TcpStream::connect(&address).is_err() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    lab.join("node2", &address, &token(0)).json();
    lab.join("node3", &address, &token(1)).json();
    let end = Answer::of(child.wait_with_output().unwrap());
    assert_eq!(end.code, Some(0), "{end:?}");
    assert_eq!(systemd.calls(), ["Stop pc-trust.socket"]);
}

#[test]
fn a_gluster_that_serves_is_left_alone() {
    let (lab, systemd) = (Lab::new(), Systemd::start());
    let script = "mkdir -p /var/lib/glusterd/vols/old; pc-trust --node node1 init $1 > /dev/null; test ! -e /var/lib/glusterd/secure-access; pc-trust --node node1 status";
    let answer = Answer::of(machine(&lab, &systemd, script).stderr(Stdio::piped()).output().unwrap());
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(answer.stdout.contains("its management is not encrypted"), "{answer:?}");
    assert!(!systemd.calls().iter().any(|call| call.contains("glusterd")));
}

#[test]
fn qemu_takes_the_certificates() {
    let lab = Lab::new();
    let init = lab.init();
    let member = lab.serve("node1");
    lab.join("node2", &member.address, init["joins"][0]["token"].as_str().unwrap()).json();
    let directory = |node: &str| {
        let directory = lab.directory.path().join(format!("qemu-{node}"));
        fs::create_dir(&directory).unwrap();
        // The links of /etc/pki/qemu, followed below the machine's root.
        for entry in fs::read_dir(lab.root(node).join("etc/pki/qemu")).unwrap() {
            let entry = entry.unwrap();
            let target = fs::read_link(entry.path()).unwrap();
            let target = lab.root(node).join(target.strip_prefix("/").unwrap());
            fs::copy(target, directory.join(entry.file_name())).unwrap();
        }
        directory.display().to_string()
    };
    let (socket, image) = (lab.directory.path().join("nbd"), lab.directory.path().join("image"));
    fs::write(&image, vec![0; 65536]).unwrap();
    let credentials =
        |node: &str, end: &str| format!("tls-creds-x509,id=t,dir={},endpoint={end}", directory(node));
    let mut server = Command::new("qemu-nbd")
        .args(["-t", "-f", "raw", "--tls-creds", "t", "--object", &credentials("node1", "server"), "-k"])
        .arg(&socket)
        .arg(&image)
        .spawn()
        .unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    while !socket.exists() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    let client = credentials("node2", "client");
    let ask = |name: &str| {
        let options = format!("driver=nbd,path={},tls-creds=t,tls-hostname={name}", socket.display());
        Answer::of(
            Command::new("qemu-img")
                .args(["info", "--object", &client, "--image-opts", &options])
                .output()
                .unwrap(),
        )
    };
    let answers = ["node1", "node1.home.arpa", "192.0.2.1", "node2"].map(ask);
    server.kill().unwrap();
    server.wait().unwrap();
    for answer in &answers[..3] {
        assert_eq!(answer.code, Some(0), "{answer:?}");
    }
    assert!(answers[3].stderr.contains("does not match the hostname node2"), "{:?}", answers[3]);
}
