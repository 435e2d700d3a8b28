//! `pc-ha members --lost NODE`: which connections are closed, on real ones between namespaces, by the kernel.

#![allow(clippy::unwrap_used, reason = "a test says what it expects")]

mod networks;
mod stage;

use std::io::ErrorKind::ConnectionAborted;
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};

use networks::{Machine, Networks, end};
use stage::{Stage, said};

/// Connections of one machine to another: glusterd, two bricks, somebody's own, and one to a brick here.
struct Connections {
    all: Vec<(&'static str, TcpStream)>,
    others: Vec<(TcpListener, TcpStream)>,
}

const STORAGE: [&str; 3] = ["glusterd", "brick", "last brick"];
const PORTS: [(&str, u16); 5] =
    [("glusterd", 24007), ("brick", 49152), ("last brick", 60999), ("not a brick", 61000), ("other", 7000)];

impl Connections {
    fn new(from: &Machine, to: &Machine, brick: &TcpListener) -> Connections {
        let mut made = Connections { all: Vec::new(), others: Vec::new() };
        for (what, port) in PORTS {
            let listener = to.listen(port);
            let (here, there) = from.connect(&listener);
            made.all.push((what, here));
            made.others.push((listener, there));
        }
        let (there, here) = to.connect(brick);
        // What a filter of ports alone would take for a connection to a brick of theirs.
        let port = here.peer_addr().unwrap().port();
        assert!((49152..=60999).contains(&port), "{port}");
        made.all.push(("to a brick here", here));
        made.others.push((brick.try_clone().unwrap(), there));
        made
    }

    /// Which ones are closed, with the error that a client of Gluster sees.
    fn closed(&self) -> Vec<&'static str> {
        let ends = self.all.iter().map(|(what, stream)| (*what, end(stream)));
        ends.filter_map(|(what, end)| {
            assert!(end.is_none_or(|end| end == ConnectionAborted), "{what}: {end:?}");
            end.map(|_| what)
        })
        .collect()
    }
}

fn three() -> (Networks, Stage) {
    let stage = Stage::new();
    stage.write("cluster.toml", &networks::file(stage::FILE));
    (Networks::new(3), stage)
}

fn lost(networks: &Networks, stage: &Stage, node: &str) -> Output {
    networks.machines[0].run(|| stage.pc_ha(&["members", "--lost", node]))
}

#[test]
fn of_a_silent_node_the_connections_to_its_storage_are_closed_and_no_others() {
    let (networks, stage) = three();
    let [first, second, third] = &networks.machines[..] else { unreachable!() };
    let brick = first.listen(49153);
    let to_second = Connections::new(first, second, &brick);
    let to_third = Connections::new(first, third, &brick);

    // It answers at glusterd's port: corosync alone is gone.
    let output = lost(&networks, &stage, "node3");
    assert_eq!((output.status.code(), to_third.closed().len()), (Some(0), 0), "{}", said(&output));
    assert!(said(&output).contains("node3 answers: its connections stay"), "{}", said(&output));

    // Silent, on a side that is lost itself.
    networks.cable(3, false);
    stage.quorum(1);
    let output = lost(&networks, &stage, "node3");
    assert_eq!((output.status.code(), to_third.closed().len()), (Some(75), 0), "{}", said(&output));

    stage.quorum(2);
    let output = lost(&networks, &stage, "node3");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(
        said(&output).contains("node3: lost, and silent: connections to its Gluster closed: 3"),
        "{}",
        said(&output)
    );
    assert_eq!(to_third.closed(), STORAGE);
    assert_eq!(to_second.closed(), [""; 0]);

    // Nothing is left to close.
    let output = lost(&networks, &stage, "node3");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).contains("closed: 0"), "{}", said(&output));
}

#[test]
fn a_machine_whose_glusterd_is_stopped_refuses_and_that_is_an_answer() {
    let (networks, stage) = three();
    let [first, _, third] = &networks.machines[..] else { unreachable!() };
    let listener = third.listen(49152);
    let (here, _there) = first.connect(&listener);
    let output = lost(&networks, &stage, "node3");
    assert_eq!((output.status.code(), end(&here)), (Some(0), None), "{}", said(&output));
}

#[test]
fn what_is_refused() {
    let (networks, stage) = three();
    for (node, why) in [("node9", "node node9: not in the file"), ("node1", "node node1: this one")] {
        let output = lost(&networks, &stage, node);
        assert_eq!(output.status.code(), Some(2));
        assert!(said(&output).contains(why), "{}", said(&output));
    }
    // A kernel that does not close anything says so before anything is lost. This one is not allowed to.
    let output = networks.machines[0].run(|| {
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set=-all", env!("CARGO_BIN_EXE_pc-ha"), "--root"]).arg(stage.at("."));
        command
            .arg("--file")
            .arg(stage.at("cluster.toml"))
            .args(["--node", "node1", "members"])
            .output()
            .unwrap()
    });
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    let why = "error: closing a connection of this process to itself: ";
    assert!(said(&output).starts_with(why), "{}", said(&output));
    assert!(said(&output).contains("\n  it takes CAP_NET_ADMIN and a kernel with CONFIG_INET_DIAG_DESTROY"));
    println!("{}", said(&output));
}
