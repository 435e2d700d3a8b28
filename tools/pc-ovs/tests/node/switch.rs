//! Bridges, bonds, VLANs on the real thing.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::machine::{FILE, Machine};

/// Two NICs, the node's network tagged, one more VLAN.
fn tagged() -> String {
    FILE.replace("[\"nic0\"]", "[\"nic0\", \"nic1\"]").replace("[network.lan]", "[network.mgmt]\nvlan = 30")
        + "mtu = 1400\n\n[network.lan]\nuplink = \"lan\"\n"
}

#[test]
fn a_bond_and_a_tagged_address() {
    let machine = Machine::blank();
    machine.write("etc/personal-cluster/cluster.toml", &tagged());
    machine.pc(&["apply"]).with(0);
    assert_eq!(machine.vsctl(&["list-ports", "br-lan"]), "bond-lan\nh-mgmt\n");
    assert_eq!(machine.vsctl(&["get", "port", "bond-lan", "bond_mode"]).trim(), "active-backup");
    assert_eq!(machine.vsctl(&["get", "port", "h-mgmt", "tag"]).trim(), "30");
    assert_eq!(machine.addresses("h-mgmt"), ["10.9.0.50/24"]);
    let link = machine.ip("-oneline link show dev h-mgmt");
    assert!(link.contains("mtu 1400") && link.contains("link/ether 02:50:"), "{link}");
    assert_eq!(machine.default_route(), "default via 10.9.0.1 dev h-mgmt proto 112 metric 50");
    for nic in ["nic0", "nic1"] {
        assert!(machine.ip(&format!("-brief link show dev {nic}")).contains("UP"));
    }
    let before = machine.configurations();
    let again = machine.pc(&["apply"]).with(0);
    assert_eq!((again.err.as_str(), machine.configurations()), ("", before));
}

#[test]
fn one_file_after_another() {
    let machine = Machine::blank();
    machine.pc(&["apply"]).with(0);
    machine.vsctl(&[
        "add-port",
        "br-lan",
        "vnet0",
        "tag=20",
        "--",
        "set",
        "interface",
        "vnet0",
        "type=internal",
    ]);
    machine.vsctl(&["add-br", "br-mine", "--", "set", "bridge", "br-mine", "datapath_type=netdev"]);
    let mine = |dump: &str| {
        let names = ["vnet0", "br-mine"];
        dump.lines()
            .filter(|line| names.iter().any(|name| line.contains(name)))
            .map(str::to_string)
            .collect::<Vec<_>>()
    };
    let foreign = mine(&machine.dump());
    let two_nics = FILE.replace("[\"nic0\"]", "[\"nic0\", \"nic1\"]");
    for file in [two_nics.clone(), tagged(), FILE.replace("0.50", "0.51"), FILE.into(), two_nics] {
        machine.write("etc/personal-cluster/cluster.toml", &file);
        machine.pc(&["apply"]).with(0);
        let before = machine.configurations();
        let again = machine.pc(&["apply"]).with(0);
        assert_eq!((again.err.as_str(), machine.configurations()), ("", before), "{file}");
        assert_eq!(mine(&machine.dump()), foreign);
        let status = machine.pc(&["status", "--exit-code"]);
        assert_eq!(status.code, Some(0), "{}{}", status.out, status.err);
    }
    // The VM's port keeps its bridge alive when the file drops it; ours on it would go.
    let gone = FILE.replace("nics.lan", "nics.wan").replace("uplink = \"lan\"", "uplink = \"wan\"");
    machine.write("etc/personal-cluster/cluster.toml", &gone);
    let answer = machine.pc(&["apply"]);
    assert!(machine.vsctl(&["list-ports", "br-lan"]).contains("vnet0"), "{}", answer.err);
    assert_eq!(mine(&machine.dump()), foreign);
}

#[test]
fn a_missing_nic_leaves_the_other_one_working() {
    let machine = Machine::blank();
    let file = FILE.replace("[\"nic0\"]", "[\"nic0\", \"nic7\"]");
    machine.write("etc/personal-cluster/cluster.toml", &file);
    let answer = machine.pc(&["apply"]).with(0);
    assert!(answer.err.contains("nic7: could not open network device nic7"), "{}", answer.err);
    assert_eq!(machine.addresses("br-lan"), ["10.9.0.50/24"]);
    let status = machine.pc(&["status", "--exit-code"]).with(3);
    assert!(
        status.out.contains("error: nic7: could not open network device nic7 (No such device)"),
        "{}",
        status.out
    );
}

#[test]
fn a_virtual_address_of_someone_else_stays() {
    let machine = Machine::blank();
    machine.pc(&["apply"]).with(0);
    machine.ip("address add 10.9.0.99/32 dev br-lan");
    machine.write("etc/personal-cluster/cluster.toml", &FILE.replace("0.50", "0.51"));
    machine.pc(&["apply"]).with(0);
    assert_eq!(machine.addresses("br-lan"), ["10.9.0.99/32", "10.9.0.51/24"]);
}

/// A TCP connection that was there before the take-over carries on, and notices a short gap at most.
#[test]
fn connections_survive_a_take_over() {
    let machine = Machine::configured();
    let namespace = format!("{}-peer", machine.namespace);
    let python = |namespace: &str, program: &str| {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace, "python3", "-u", "-c", program]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
    };
    let mut server = python(&namespace, ECHO);
    let mut heard = BufReader::new(server.stdout.take().unwrap()).lines();
    assert_eq!(heard.next().unwrap().unwrap(), "ready");
    let mut client = python(&machine.namespace, PING_PONG);
    let mut said = BufReader::new(client.stdout.take().unwrap()).lines();
    assert_eq!(said.next().unwrap().unwrap(), "connected");
    machine.pc(&["apply", "--take-over", "--confirm", "30s"]).with(0);
    std::thread::sleep(std::time::Duration::from_millis(500));
    drop(client.stdin.take());
    let gap: u64 = said.next().unwrap().unwrap().parse().unwrap();
    eprintln!("longest gap of an open connection during a take-over: {gap} ms");
    assert!(client.wait().unwrap().success() && server.wait().unwrap().success());
    assert!(gap < 5000, "{gap} ms");
}

const ECHO: &str = "import socket
listener = socket.create_server(('10.9.0.2', 7000))
print('ready')
connection, (address, _) = listener.accept()
assert address == '10.9.0.50', address
while data := connection.recv(64):
    connection.sendall(data)
";

const PING_PONG: &str = "import select, socket, sys, time
connection = socket.create_connection(('10.9.0.2', 7000), 10)
connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
print('connected')
longest = 0
while not select.select([sys.stdin], [], [], 0.005)[0]:
    start = time.monotonic()
    connection.sendall(b'x')
    assert connection.recv(64)
    longest = max(longest, time.monotonic() - start)
print(int(longest * 1000))
";

/// The database as a node with 500 VM ports has it: reading it all and finding nothing to do.
#[test]
fn nothing_to_do_among_500_ports() {
    let mut machine = Machine::blank();
    machine.pc(&["apply"]).with(0);
    machine.pause_switch();
    let mut words: Vec<String> = vec!["--no-wait".into()];
    for number in 0..500 {
        words.extend(["--", "add-port", "br-lan"].map(str::to_string));
        words.push(format!("vm{number}"));
        words.push(format!("tag={}", 2 + number % 50));
    }
    machine.vsctl(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let before = machine.configurations();
    let mut times: Vec<u128> = (0..5)
        .map(|_| {
            let started = std::time::Instant::now();
            machine.pc(&["apply"]).with(0);
            started.elapsed().as_millis()
        })
        .collect();
    times.sort_unstable();
    eprintln!("nothing to do among 500 ports: {} ms (debug build, ip netns exec included)", times[2]);
    assert_eq!(machine.configurations(), before);
    assert!(times[2] < 2000);
    let ports = machine.vsctl(&["list-ports", "br-lan"]).lines().count();
    assert_eq!(ports, 501);
}

/// libvirt adds and removes ports while we work: neither loses anything.
#[test]
fn ports_come_and_go_meanwhile() {
    let machine = Machine::blank();
    machine.pc(&["apply"]).with(0);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let name = format!("vm{}", number % 7);
                machine.vsctl(&["--no-wait", "--may-exist", "add-port", "br-lan", &name]);
                let other = format!("vm{}", (number + 3) % 7);
                machine.vsctl(&["--no-wait", "--if-exists", "del-port", "br-lan", &other]);
                number += 1;
            }
            machine.vsctl(&["--no-wait", "--may-exist", "add-port", "br-lan", "vm-last"]);
        });
        let two_nics = FILE.replace("[\"nic0\"]", "[\"nic0\", \"nic1\"]");
        let answers: Vec<_> = [tagged(), FILE.into(), two_nics, tagged(), FILE.into()]
            .iter()
            .map(|file| {
                machine.write("etc/personal-cluster/cluster.toml", file);
                machine.pc(&["apply"])
            })
            .collect();
        // The thread above ends whatever happened here.
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        for answer in answers {
            answer.with(0);
        }
    });
    assert!(machine.vsctl(&["list-ports", "br-lan"]).contains("vm-last\n"));
    machine.pc(&["plan", "--exit-code"]).with(0);
}

/// A plan for a take-over is piped like any other, and still needs the flag.
#[test]
fn a_take_over_through_a_pipe() {
    let machine = Machine::configured();
    let plan = machine.pc(&["plan", "--take-over", "--json"]).with(0).out;
    machine.pc_reading(&["apply", "-"], &plan).with(2);
    machine.pc_reading(&["apply", "--take-over", "--confirm", "30s", "-"], &plan).with(0);
    assert_eq!(machine.addresses("br-lan"), ["10.9.0.50/24"]);
}
