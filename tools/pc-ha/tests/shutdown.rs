//! `pc-ha inhibit` as its unit runs it: a private bus with a stand-in for logind, and a CIB in a file.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says what it expects")]

mod stage;

use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use stage::Stage;
use stage::children::{Running, bus};
use zbus::blocking::{Connection, connection::Builder};

/// Every delay that is asked for: its words, and an end that is closed when the other one is.
struct Logind(Sender<(String, UnixStream)>);

#[zbus::interface(name = "org.freedesktop.login1.Manager")]
impl Logind {
    fn inhibit(&self, what: &str, who: &str, why: &str, mode: &str) -> zbus::zvariant::OwnedFd {
        let (reader, writer) = UnixStream::pair().unwrap();
        self.0.send((format!("{what} {who} {mode}: {why}"), reader)).unwrap();
        OwnedFd::from(writer).into()
    }

    #[allow(clippy::unused_self, reason = "the shape of a D-Bus property")]
    #[zbus(property, name = "InhibitDelayMaxUSec")]
    fn inhibit_delay_max_usec(&self) -> u64 {
        4_000_000
    }
}

struct Scene {
    asked: Receiver<(String, UnixStream)>,
    logind: Connection,
    // In the order in which they end.
    _inhibit: Running,
    _daemon: Running,
}

/// `inhibit` on a node, with the CIB of a stage.
fn scene(stage: &Stage, node: &str) -> Scene {
    let (daemon, address) = bus();
    let (sender, asked) = channel();
    let logind = Builder::address(address.as_str())
        .and_then(|builder| builder.serve_at("/org/freedesktop/login1", Logind(sender)))
        .and_then(|builder| builder.name("org.freedesktop.login1"))
        .and_then(Builder::build)
        .unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_pc-ha"));
    command.arg("--root").arg(stage.at(".")).arg("--file").arg(stage.at("cluster.toml"));
    command.args(["--node", node, "inhibit"]).env("CIB_file", stage.at("cib.xml"));
    command.env("DBUS_SYSTEM_BUS_ADDRESS", &address).env_remove("NOTIFY_SOCKET");
    Scene { asked, logind, _inhibit: Running(command.spawn().unwrap()), _daemon: daemon }
}

impl Scene {
    /// The next delay that is asked for.
    fn delay(&self) -> UnixStream {
        let (words, reader) = self.asked.recv_timeout(Duration::from_secs(60)).expect("a delay");
        assert_eq!(words, "shutdown pc-ha delay: VMs move to other nodes");
        reader
    }

    /// logind says that the machine goes down, or that it does not after all.
    fn say(&self, down: bool) {
        let path = "/org/freedesktop/login1";
        let interface = "org.freedesktop.login1.Manager";
        self.logind.emit_signal(None::<&str>, path, interface, "PrepareForShutdown", &(down,)).unwrap();
    }
}

/// Waits for the other end to be closed; gives the seconds.
fn closed(mut reader: UnixStream) -> Duration {
    let (sender, receiver) = channel();
    let begun = Instant::now();
    std::thread::spawn(move || sender.send(reader.read(&mut [0])));
    assert_eq!(receiver.recv_timeout(Duration::from_secs(60)).unwrap().unwrap(), 0);
    begun.elapsed()
}

const STANDBY: &str = r#"name="standby" value="on""#;

#[test]
fn a_node_that_goes_down_is_on_standby_until_it_boots_and_lets_go_in_time() {
    let stage = Stage::running();
    let scene = scene(&stage, "node2");
    let delay = scene.delay();
    assert!(!stage.read("cib.xml").contains(STANDBY));
    // Nobody moves anything in a file: it holds on for as long as logind would wait, and no longer.
    scene.say(true);
    let took = closed(delay);
    assert!(took > Duration::from_millis(1500) && took < Duration::from_secs(20), "{took:?}");
    let cib = stage.read("cib.xml");
    let (configuration, status) = cib.split_once("<status").unwrap();
    // In the status: pacemaker forgets it with this boot. In the configuration it would be a drain.
    assert!(status.contains(STANDBY) && !configuration.contains(STANDBY), "{cib}");
    let moved = stage.simulate(&[]);
    assert!(!stage::line(&moved, "pc-vm-mail").contains("node2"), "{moved}");
    // Called off: it takes VMs again, and the next shutdown is waited with as well.
    scene.say(false);
    let next = scene.delay();
    assert!(!stage.read("cib.xml").contains(STANDBY));
    // The VM is elsewhere by now: nothing to wait for.
    scene.say(true);
    assert!(closed(next) < Duration::from_secs(20));
    assert!(!stage.read("cib.xml").contains(STANDBY));
}

/// A logind that is at work on what was asked for before: a shutdown, or a sleep.
struct Busy {
    goes_down: bool,
}

#[derive(Debug, zbus::DBusError)]
#[zbus(prefix = "org.freedesktop.login1")]
enum Refusal {
    #[zbus(error)]
    ZBus(zbus::Error),
    OperationInProgress(String),
}

#[zbus::interface(name = "org.freedesktop.login1.Manager")]
impl Busy {
    #[allow(clippy::unused_self, reason = "the shape of a D-Bus method")]
    fn reboot(&self, interactive: bool) -> Result<(), Refusal> {
        assert!(!interactive, "nobody sits there");
        Err(Refusal::OperationInProgress("There's already a shutdown or sleep operation in progress".into()))
    }

    fn power_off(&self, interactive: bool) -> Result<(), Refusal> {
        self.reboot(interactive)
    }

    #[zbus(property)]
    fn preparing_for_shutdown(&self) -> bool {
        self.goes_down
    }
}

#[test]
fn a_machine_that_goes_down_already_does_what_it_is_told() {
    let stage = Stage::running();
    for goes_down in [true, false] {
        let (_daemon, address) = bus();
        let _logind = Builder::address(address.as_str())
            .and_then(|builder| builder.serve_at("/org/freedesktop/login1", Busy { goes_down }))
            .and_then(|builder| builder.name("org.freedesktop.login1"))
            .and_then(Builder::build)
            .unwrap();
        for verb in ["reboot", "power-off"] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_pc-ha"));
            command.arg("--root").arg(stage.at(".")).arg("--file").arg(stage.at("cluster.toml"));
            command.args(["--node", "node2", "engine", verb]);
            let output = command.env("DBUS_SYSTEM_BUS_ADDRESS", &address).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            let expected =
                if goes_down { "this machine is going down already\n" } else { "OperationInProgress" };
            assert_eq!(output.status.success(), goes_down, "{verb}: {said}");
            assert!(said.contains(expected), "{verb}: {said}");
        }
    }
}
