//! What we say to systemd, heard by a systemd that is played here.

use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use zbus::blocking::connection::Builder;
use zbus::zvariant::{OwnedObjectPath, OwnedValue};

use crate::systemd::Bus;

type Heard = Arc<Mutex<Vec<String>>>;
type Properties = Vec<(String, OwnedValue)>;

struct Manager(Heard);

#[allow(
    clippy::needless_pass_by_value,
    clippy::used_underscore_binding,
    reason = "the macro's calling convention"
)]
#[zbus::interface(name = "org.freedesktop.systemd1.Manager")]
impl Manager {
    #[zbus(name = "StartTransientUnit")]
    fn start_transient_unit(
        &self,
        name: &str,
        mode: &str,
        properties: Properties,
        auxiliary: Vec<(String, Properties)>,
    ) -> OwnedObjectPath {
        let properties: HashMap<_, _> = properties.into_iter().collect();
        let timers =
            <Vec<(String, u64)>>::try_from(properties["TimersMonotonic"].try_clone().unwrap()).unwrap();
        let (unit, service) = auxiliary.into_iter().next().unwrap();
        let service: HashMap<_, _> = service.into_iter().collect();
        let run =
            <Vec<(String, Vec<String>, bool)>>::try_from(service["ExecStart"].try_clone().unwrap()).unwrap();
        let environment = <Vec<String>>::try_from(service["Environment"].try_clone().unwrap()).unwrap();
        self.0.lock().unwrap().push(format!("{name} {mode} {timers:?} {unit} {run:?} {environment:?}"));
        OwnedObjectPath::try_from("/org/freedesktop/systemd1/job/1").unwrap()
    }

    #[zbus(name = "StopUnit")]
    fn stop_unit(&self, name: &str, mode: &str) -> Result<OwnedObjectPath, NoSuchUnit> {
        self.0.lock().unwrap().push(format!("stop {name} {mode}"));
        Err(NoSuchUnit::NoSuchUnit(name.into()))
    }

    #[zbus(name = "GetUnitFileState")]
    fn get_unit_file_state(&self, name: &str) -> &'static str {
        assert_eq!(name, "pc-ovs.service");
        let enabled = self.0.lock().unwrap().iter().any(|line| line.starts_with("enable "));
        if enabled { "enabled" } else { "disabled" }
    }

    #[zbus(name = "EnableUnitFiles")]
    fn enable_unit_files(
        &self,
        files: Vec<String>,
        runtime: bool,
        force: bool,
    ) -> (bool, Vec<(String, String, String)>) {
        self.0.lock().unwrap().push(format!("enable {files:?} {runtime} {force}"));
        (true, Vec::new())
    }

    #[zbus(name = "Reload")]
    fn reload(&self) {
        self.0.lock().unwrap().push("reload".into());
    }
}

#[derive(Debug, zbus::DBusError)]
#[zbus(prefix = "org.freedesktop.systemd1")]
enum NoSuchUnit {
    NoSuchUnit(String),
}

fn play() -> (Bus, Heard, zbus::blocking::Connection) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let heard = Heard::default();
    let manager = Manager(heard.clone());
    let server = std::thread::spawn(move || {
        let builder = Builder::unix_stream(theirs).server(zbus::Guid::generate()).unwrap().p2p();
        builder.serve_at("/org/freedesktop/systemd1", manager).unwrap().build().unwrap()
    });
    let client = Builder::unix_stream(ours).p2p().build().unwrap();
    (Bus::over(client), heard, server.join().unwrap())
}

#[test]
fn the_rollback_timer_is_systemds_own() {
    let (bus, heard, _server) = play();
    let command = ["/usr/bin/pc-ovs", "rollback", "--expired"].map(str::to_string);
    bus.arm(Duration::from_secs(60), &command).unwrap();
    bus.disarm().unwrap();
    // ip(8) is found where this process finds it: NixOS has it in no PATH of systemd's own.
    let path = std::env::var("PATH").unwrap();
    assert_eq!(
        *heard.lock().unwrap(),
        [
            format!(
                "pc-ovs-rollback.timer replace [(\"OnActiveSec\", 60000000)] pc-ovs-rollback.service \
                 [(\"/usr/bin/pc-ovs\", [\"/usr/bin/pc-ovs\", \"rollback\", \"--expired\"], false)] [\"PATH={path}\"]"
            ),
            "stop pc-ovs-rollback.timer replace".into(),
        ]
    );
}

#[test]
fn the_boot_unit_is_enabled_once() {
    let (bus, heard, _server) = play();
    assert!(bus.enable().unwrap());
    assert!(!bus.enable().unwrap());
    assert_eq!(*heard.lock().unwrap(), ["enable [\"pc-ovs.service\"] false false", "reload"]);
}
