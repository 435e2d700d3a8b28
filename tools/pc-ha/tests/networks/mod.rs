//! Machines as network namespaces on one bridge, and TCP connections between them. Threads enter them; sockets stay in the network
//! that they were made in, and programs in the one that they were started from. Needs root and iproute2.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    dead_code,
    reason = "helpers of tests; not every test uses all"
)]

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

/// A network of its own.
pub struct Machine {
    network: File,
    pub address: Ipv4Addr,
}

/// Machines at 10.78.0.1, 10.78.0.2, ..., each with a link to one bridge.
pub struct Networks {
    hub: Machine,
    pub machines: Vec<Machine>,
}

fn ip(words: &str) {
    let output = Command::new("ip").args(words.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Of the packets that come to this machine, or go, this part is lost.
pub fn loses(chain: &str, part: f64) {
    let words = format!("-A {chain} -p udp -m statistic --mode random --probability {part} -j DROP");
    let output = Command::new("iptables").args(words.split(' ')).output().unwrap();
    assert!(output.status.success(), "iptables {words}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Gives this thread, and all that it starts from now on, shared memory of their own: corosync's stays behind when it is killed.
pub fn own_memory() {
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace: this needs root");
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
    mount(Some("tmpfs"), "/dev/shm", Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
}

impl Machine {
    fn new(address: Ipv4Addr) -> Machine {
        let made = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace: this needs root");
            ip("link set lo up");
            // All are as high as a brick's: what is closed is not found by that.
            std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "50000 50999").unwrap();
            File::open("/proc/thread-self/ns/net").unwrap()
        });
        Machine { network: made.join().unwrap(), address }
    }

    /// Does something on this machine.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&self.network, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            thread.join().unwrap()
        })
    }

    pub fn listen(&self, port: u16) -> TcpListener {
        self.run(|| TcpListener::bind((self.address, port)).unwrap())
    }

    /// A connection from here, and its end there.
    pub fn connect(&self, to: &TcpListener) -> (TcpStream, TcpStream) {
        let address = to.local_addr().unwrap();
        let here = self.run(|| TcpStream::connect(address).unwrap());
        (here, to.accept().unwrap().0)
    }

    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.network.as_raw_fd())
    }
}

impl Networks {
    pub fn new(count: u8) -> Networks {
        let hub = Machine::new(Ipv4Addr::UNSPECIFIED);
        hub.run(|| ip("link add hub type bridge"));
        hub.run(|| ip("link set hub up"));
        let machines = (1..=count).map(|number| {
            let machine = Machine::new(Ipv4Addr::new(10, 78, 0, number));
            let path = machine.path();
            hub.run(|| ip(&format!("link add port{number} type veth peer name eth0 netns {path}")));
            hub.run(|| ip(&format!("link set port{number} master hub up")));
            machine.run(|| ip(&format!("address add {}/24 dev eth0", machine.address)));
            machine.run(|| ip("link set eth0 up"));
            machine
        });
        let machines = machines.collect();
        Networks { hub, machines }
    }

    /// Pulls a machine's cable, or plugs it in again.
    pub fn cable(&self, number: usize, plugged: bool) {
        let state = if plugged { "up" } else { "down" };
        self.hub.run(|| ip(&format!("link set port{number} {state}")));
    }
}

/// A cluster file with the machines' addresses in the place of its own.
pub fn file(text: &str) -> String {
    let addresses =
        [("192.168.0.50", "10.78.0.1"), ("192.168.0.51", "10.78.0.2"), ("192.168.0.52", "10.78.0.3")];
    addresses.iter().fold(text.to_string(), |text, (theirs, ours)| text.replace(theirs, ours))
}

/// What this end of a connection sees: `None` while it is open and nothing comes.
pub fn end(mut stream: &TcpStream) -> Option<ErrorKind> {
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    match stream.read(&mut [0]) {
        Ok(0) => Some(ErrorKind::UnexpectedEof),
        Ok(_) => panic!("nobody wrote anything"),
        // A machine that is stopped and goes on ends it early.
        Err(error) if error.kind() == ErrorKind::Interrupted => end(stream),
        Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => None,
        Err(error) => Some(error.kind()),
    }
}
