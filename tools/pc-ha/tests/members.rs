//! `pc-ha members` as its unit runs it, beside three real corosyncs with pc-ha's own configuration.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says what it expects")]

mod networks;
mod stage;

use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use networks::{Machine, Networks, end};
use stage::children::Running;
use stage::{Stage, said};

/// In mounts of its own, where it finds the key. Shared memory is named by process, the sockets are the network's.
const COROSYNC: &str = "mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/lib/corosync
    mkdir -p /run/personal-cluster/secrets && cp \"$1/key\" /run/personal-cluster/secrets/corosync.authkey
    exec corosync -f -c \"$1/corosync.conf\"";

/// The processor is not ours alone.
const OURS: &str = "system {\n    sched_rr: no\n    move_to_root_cgroup: no\n}\n";

struct Scene {
    networks: Networks,
    stage: Stage,
    corosyncs: Vec<Running>,
}

impl Scene {
    fn new() -> Scene {
        networks::own_memory();
        let (networks, stage) = (Networks::new(3), Stage::new());
        stage.write("cluster.toml", &networks::file(stage::FILE));
        let output = stage.pc_ha(&["apply"]);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        stage.write("corosync.conf", &(stage.read("etc/corosync/corosync.conf") + OURS));
        stage.write("key", &"k".repeat(256));
        let mut scene = Scene { networks, stage, corosyncs: Vec::new() };
        for number in 1..=3 {
            let started = scene.corosync(number);
            scene.corosyncs.push(started);
        }
        scene.wait_for_members(3);
        scene
    }

    fn machine(&self, number: usize) -> &Machine {
        &self.networks.machines[number - 1]
    }

    fn corosync(&self, number: usize) -> Running {
        self.machine(number).run(|| {
            let mut command = Command::new("unshare");
            command.args(["--mount", "sh", "-c", COROSYNC, "sh"]).arg(self.stage.at("."));
            Running(command.stdout(Stdio::null()).spawn().unwrap())
        })
    }

    /// As the first one sees it.
    fn wait_for_members(&self, count: usize) {
        let end = Instant::now() + Duration::from_secs(60);
        let ask = || {
            let output = Command::new("corosync-quorumtool").arg("-s").output();
            String::from_utf8(output.expect("apt-get install corosync").stdout).unwrap()
        };
        let nodes = format!("Nodes:            {count}\n");
        while !self.machine(1).run(ask).contains(&nodes) {
            assert!(Instant::now() < end, "never {count} members");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// `pc-ha members` on the first one, with its unit's one capability, and what it tells systemd.
    fn follow(&self) -> (Running, UnixDatagram) {
        let path = self.stage.at("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--no-new-privs", "--bounding-set=-all,+net_admin", env!("CARGO_BIN_EXE_pc-ha")]);
        command.arg("--root").arg(self.stage.at(".")).arg("--file").arg(self.stage.at("cluster.toml"));
        command.args(["--node", "node1", "members"]).env("NOTIFY_SOCKET", &path);
        let running = Running(self.machine(1).run(|| command.spawn().unwrap()));
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).unwrap();
        assert!(buffer[..length].starts_with(b"READY=1"), "{}", String::from_utf8_lossy(&buffer[..length]));
        (running, socket)
    }
}

/// A connection of the first machine to a brick of another, and what keeps it open.
struct Brick {
    here: TcpStream,
    _there: (TcpListener, TcpStream),
}

impl Brick {
    fn new(scene: &Scene, number: usize, port: u16) -> Brick {
        let listener = scene.machine(number).listen(port);
        let (here, there) = scene.machine(1).connect(&listener);
        Brick { here, _there: (listener, there) }
    }

    fn is_open(&self) -> bool {
        end(&self.here).is_none()
    }

    /// Gives the time that it took.
    fn closed(&self) -> Duration {
        let begun = Instant::now();
        while self.is_open() {
            assert!(begun.elapsed() < Duration::from_secs(60), "never closed");
        }
        begun.elapsed()
    }
}

#[test]
fn the_connections_to_a_lost_member_are_closed_long_before_gluster_would() {
    let mut scene = Scene::new();
    let (mut members, _socket) = scene.follow();
    let (second, third) = (Brick::new(&scene, 2, 49152), Brick::new(&scene, 3, 49152));

    // Its corosync has died: the machine answers, and serves its bricks.
    drop(scene.corosyncs.remove(1));
    scene.wait_for_members(2);
    std::thread::sleep(Duration::from_secs(3));
    assert!(second.is_open() && third.is_open());
    // Then its watchdog fires, of which corosync says nothing.
    scene.networks.cable(2, false);
    let took = second.closed();
    assert!(took < Duration::from_secs(10), "{took:?}");

    // Back, and another one loses its power: token 3 s, consensus 3.6 s, a second for the question.
    scene.networks.cable(2, true);
    let again = scene.corosync(2);
    scene.corosyncs.insert(1, again);
    scene.wait_for_members(3);
    let second = Brick::new(&scene, 2, 49153);
    assert!(third.is_open());
    scene.networks.cable(3, false);
    let took = third.closed();
    println!("closed {:.1} s after the cable was pulled", took.as_secs_f64());
    assert!(took > Duration::from_secs(3) && took < Duration::from_secs(12), "{took:?}");
    assert!(second.is_open());

    // Alone: this side is the lost one.
    scene.networks.cable(2, false);
    scene.wait_for_members(1);
    std::thread::sleep(Duration::from_secs(5));
    assert!(second.is_open());

    // corosync ends, and so does this: it is started with the next one.
    drop(scene.corosyncs.remove(0));
    assert_eq!(members.0.wait().unwrap().code(), Some(75));
}

/// A bad cable or port: every third packet from and to one machine is lost. With corosync's own numbers all three leave and
/// come again until their watchdogs end them.
#[test]
fn a_machine_that_loses_every_third_packet_takes_nobody_s_quorum() {
    let scene = Scene::new();
    let told = || {
        let ask = || Command::new("corosync-quorumtool").arg("-s").output().unwrap().stdout;
        let text = String::from_utf8(scene.machine(1).run(ask)).unwrap();
        let line =
            |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_string();
        [line("Ring ID:"), line("Nodes:"), line("Quorate:")]
    };
    let before = told();
    for chain in ["INPUT", "OUTPUT"] {
        scene.machine(3).run(|| networks::loses(chain, 0.3));
    }
    let mut rings = vec![before];
    let end = Instant::now() + Duration::from_secs(30);
    while Instant::now() < end {
        let now = told();
        if rings.last() != Some(&now) {
            rings.push(now);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(rings.iter().all(|[_, _, quorate]| quorate.ends_with("Yes")), "{rings:#?}");
}

/// By corosync's own words, and its own way to read a file again.
#[test]
fn a_corosync_that_runs_with_another_token_than_its_file_is_told_again() {
    let scene = Scene::new();
    let (stage, machine) = (&scene.stage, scene.machine(1));
    let root = stage.at("").display().to_string();
    std::fs::remove_file(stage.at("bin/corosync-quorumtool")).unwrap();
    stage.program("corosync-cfgtool", "#!/bin/sh\nexit 0\n");
    stage.simulate(&["--node-up", "node1", "--node-up", "node2", "--node-up", "node3"]);
    let steps = || machine.run(|| stage.steps());
    assert_eq!(steps(), ["token"]);
    let output = machine.run(|| stage.pc_ha(&["apply"]));
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(steps(), [""; 0]);
    let slower = networks::file(stage::FILE).replace("[ha]", "[ha]\ntoken_ms = 4000");
    stage.write("cluster.toml", &slower);
    // It was called done, and was not: it is told again until corosync says so itself.
    let output = machine.run(|| stage.pc_ha(&["apply"]));
    assert!(said(&output).contains("runs on with token 3000 ms, not 4000"), "{}", said(&output));
    assert_eq!(steps(), ["corosync-reload"]);
    let ours = OURS.replace('\n', "\\n");
    let reload = format!(
        "#!/bin/sh\n{{ cat {root}etc/corosync/corosync.conf; printf '{ours}'; }} > {root}corosync.conf\nexec /usr/sbin/corosync-cfgtool \"$@\"\n"
    );
    stage.program("corosync-cfgtool", &reload);
    let output = machine.run(|| stage.pc_ha(&["apply"]));
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(steps(), [""; 0]);
    let cib = stage.read("cib.xml");
    assert!(cib.contains(r#"name="pc-token-ms" value="4000""#), "{cib}");
}
