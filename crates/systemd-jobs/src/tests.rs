//! Against a manager that is played here, on a real bus of its own.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use zbus::blocking::connection;
use zbus::object_server::SignalEmitter;
use zbus::zvariant::ObjectPath;

use super::*;

/// Ends what a test started, also when it fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

type Heard = Arc<Mutex<Vec<String>>>;

/// Ends every job at once, before its answer is out, with another node's job before it.
struct Played {
    heard: Heard,
    result: &'static str,
}

#[zbus::interface(name = "org.freedesktop.systemd1.Manager")]
impl Played {
    fn subscribe(&self) {
        self.heard.lock().unwrap().push("subscribe".into());
    }

    async fn start_unit(
        &self,
        name: String,
        mode: String,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> OwnedObjectPath {
        self.heard.lock().unwrap().push(format!("start {name} {mode}"));
        let job =
            |number: u32| ObjectPath::try_from(format!("/org/freedesktop/systemd1/job/{number}")).unwrap();
        Self::job_removed(&emitter, 6, job(6), "other.service", "failed").await.unwrap();
        Self::job_removed(&emitter, 7, job(7), &name, self.result).await.unwrap();
        job(7).into()
    }

    fn restart_unit(&self, name: &str, mode: &str) -> OwnedObjectPath {
        self.heard.lock().unwrap().push(format!("restart {name} {mode}"));
        ObjectPath::try_from("/org/freedesktop/systemd1/job/8").unwrap().into()
    }

    fn reload_or_restart_unit(&self, name: &str, mode: &str) -> OwnedObjectPath {
        self.heard.lock().unwrap().push(format!("reload {name} {mode}"));
        ObjectPath::try_from("/org/freedesktop/systemd1/job/9").unwrap().into()
    }

    /// Those of the units below that have one of these names and are in one of these states.
    fn list_units_by_patterns(&self, states: Vec<String>, patterns: Vec<String>) -> Vec<Listed> {
        let call: Vec<String> = std::iter::once("list".into()).chain(states).collect();
        self.heard.lock().unwrap().push(call.join(" "));
        let units = [
            ("failed.service", "failed"),
            ("never.service", "inactive"),
            ("runs.service", "active"),
            ("waits.service", "activating"),
        ];
        let path = || OwnedObjectPath::from(ObjectPath::try_from("/a").unwrap());
        let text = String::new;
        let listed = |name: String| {
            let state = units.iter().find(|unit| unit.0 == name)?.1.to_string();
            let known = call.contains(&state);
            known.then(|| (name, text(), text(), state, text(), text(), path(), 0, text(), path()))
        };
        patterns.into_iter().filter_map(listed).collect()
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

/// A client, and the manager that it talks to.
fn play(result: &'static str) -> (Running, Connection, Connection, Heard) {
    let mut daemon = Command::new("dbus-daemon")
        .args(["--session", "--nofork", "--print-address"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("dbus-daemon must be installed for this test");
    let mut address = String::new();
    BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut address).unwrap();
    let heard = Heard::default();
    let connect = || connection::Builder::address(address.trim()).unwrap();
    let manager = connect()
        .name("org.freedesktop.systemd1")
        .unwrap()
        .serve_at("/org/freedesktop/systemd1", Played { heard: heard.clone(), result })
        .unwrap()
        .build()
        .unwrap();
    (Running(daemon), connect().build().unwrap(), manager, heard)
}

#[test]
fn the_end_of_a_job_is_seen_though_it_came_before_the_answer() {
    for result in ["done", "failed"] {
        let (_daemon, bus, _manager, heard) = play(result);
        let ended = end_of_job(&bus, |manager| manager.start_unit("a.mount", "replace")).unwrap();
        assert_eq!(ended, result);
        assert_eq!(*heard.lock().unwrap(), ["subscribe", "start a.mount replace"]);
    }
}

#[test]
fn what_nobody_started_is_not_restarted() {
    let (_daemon, bus, _manager, heard) = play("done");
    let names = ["runs.service", "never.service", "unknown.service", "failed.service"].map(String::from);
    let restart = |manager: &Manager<'_>, name: &str| manager.restart_unit(name, "replace");
    assert_eq!(of_those_at_work(&bus, &names, restart).unwrap(), ["runs.service", "failed.service"]);
    assert_eq!(
        *heard.lock().unwrap(),
        ["list active activating failed", "restart runs.service replace", "restart failed.service replace"]
    );
    heard.lock().unwrap().clear();
    let reload = |manager: &Manager<'_>, name: &str| manager.reload_or_restart_unit(name, "replace");
    assert_eq!(of_those_at_work(&bus, &names, reload).unwrap(), ["runs.service", "failed.service"]);
    assert_eq!(
        *heard.lock().unwrap(),
        ["list active activating failed", "reload runs.service replace", "reload failed.service replace"]
    );
}

#[test]
fn what_waits_for_its_next_try_is_being_started() {
    let (_daemon, bus, _manager, heard) = play("done");
    let names = ["runs.service", "waits.service", "failed.service", "unknown.service"].map(String::from);
    assert_eq!(list_starting(&bus, &names).unwrap(), ["waits.service"]);
    assert_eq!(*heard.lock().unwrap(), ["list activating"]);
    assert_eq!(list_starting(&bus, &[]).unwrap(), Vec::<String>::new());
    assert_eq!(heard.lock().unwrap().len(), 1, "without a name nobody is asked");
}

#[test]
fn a_conversation_without_end_is_given_up() {
    let error = within("sleep", Duration::from_millis(10), |_| {
        std::thread::sleep(Duration::from_secs(5));
        Ok(())
    })
    .unwrap_err();
    // Where there is no system bus at all the connection fails first.
    let text = format!("{error:#}");
    assert!(text.contains("asking systemd to sleep"), "{text}");
}
