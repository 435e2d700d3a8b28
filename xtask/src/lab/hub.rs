//! One Ethernet segment of the lab, without root: QEMU's `-netdev dgram` over unix sockets, one datagram a frame.
//!
//! `lab-hub DIR PORT...` listens on `DIR/hub.PORT` and sends to `DIR/vm.PORT`. It learns which port a MAC address
//! is at, as a switch does, so that under emulation no machine pays for frames that are not its own; 802.1Q tags
//! pass untouched. `DIR/rules` (see [`super::rules`]) is read again whenever it changes.

use std::collections::{BinaryHeap, HashMap};
use std::fs::File;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::pcap::Recording;
use super::rules::{Link, Rules};

/// A frame waits here for a slow machine at most this many behind one another; more are dropped, as a switch does.
const QUEUE_FRAMES: usize = 2048;
/// After this long a machine that takes nothing (stopped, dead) is taken to be unplugged for a moment.
const SEND_PATIENCE: Duration = Duration::from_millis(50);
const UNPLUGGED: Duration = Duration::from_millis(500);
const RULES_POLL: Duration = Duration::from_millis(200);
const MAC_AGE: Duration = Duration::from_secs(60);

type Mac = [u8; 6];

/// A frame on its way: the earliest due first out of the heap, then the order of arrival.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    due: std::cmp::Reverse<(Instant, u64)>,
    frame: Vec<u8>,
}

#[derive(Default)]
struct Queue {
    frames: Mutex<BinaryHeap<Waiting>>,
    filled: Condvar,
}

struct Segment {
    directory: PathBuf,
    ports: Vec<String>,
    rules: RwLock<Rules>,
    recording: Mutex<Option<Recording<File>>>,
    learned: Mutex<HashMap<Mac, (usize, Instant)>>,
    queues: Vec<Queue>,
    sequence: std::sync::atomic::AtomicU64,
}

/// A thread that panicked has said why; what it guarded is still a table of frames.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `lab-hub DIR PORT...`: runs until it is ended.
pub fn main(args: &[String]) -> Result<()> {
    let [directory, ports @ ..] = args else { bail!("usage: lab-hub DIR PORT...") };
    run(Path::new(directory), ports)
}

fn run(directory: &Path, ports: &[String]) -> Result<()> {
    let segment = Arc::new(Segment {
        directory: directory.to_owned(),
        ports: ports.to_vec(),
        rules: RwLock::new(Rules::open(ports.len())),
        recording: Mutex::new(None),
        learned: Mutex::new(HashMap::new()),
        queues: ports.iter().map(|_| Queue::default()).collect(),
        sequence: std::sync::atomic::AtomicU64::new(0),
    });
    for (port, name) in ports.iter().enumerate() {
        let path = directory.join(format!("hub.{name}"));
        let _absent = std::fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).with_context(|| format!("binding {}", path.display()))?;
        let out = socket.try_clone()?;
        out.set_write_timeout(Some(SEND_PATIENCE))?;
        let (receiver, sender) = (Arc::clone(&segment), Arc::clone(&segment));
        thread::spawn(move || receiver.receive(port, &socket));
        thread::spawn(move || sender.send(port, &out));
    }
    segment.follow_rules()
}

impl Segment {
    /// Frames from one machine, to the queues of those that get them.
    fn receive(&self, port: usize, socket: &UnixDatagram) {
        let mut buffer = vec![0; 70_000];
        loop {
            let length = match socket.recv(&mut buffer) {
                Ok(length) => length,
                Err(error) => {
                    eprintln!("receiving from {}: {error}", self.ports[port]);
                    thread::sleep(UNPLUGGED);
                    continue;
                }
            };
            let frame = &buffer[..length];
            if let Some(recording) = lock(&self.recording).as_mut() {
                if let Err(error) = recording.frame(frame) {
                    eprintln!("recording: {error:#}");
                }
            }
            for target in self.targets(port, frame) {
                let link = self.rules.read().unwrap_or_else(PoisonError::into_inner).link(port, target);
                self.enqueue(target, link, frame);
            }
        }
    }

    /// Where a frame goes: to the port that was last seen using its address, else to all others.
    fn targets(&self, from: usize, frame: &[u8]) -> Vec<usize> {
        let mac = |at: usize| frame.get(at..at + 6).and_then(|bytes| Mac::try_from(bytes).ok());
        let (Some(to), Some(source)) = (mac(0), mac(6)) else { return Vec::new() };
        let now = Instant::now();
        let mut learned = lock(&self.learned);
        learned.insert(source, (from, now));
        match learned.get(&to) {
            Some((port, seen)) if to[0] & 1 == 0 && now - *seen < MAC_AGE => {
                if *port == from {
                    Vec::new()
                } else {
                    vec![*port]
                }
            }
            _ => (0..self.ports.len()).filter(|port| *port != from).collect(),
        }
    }

    fn enqueue(&self, target: usize, link: Link, frame: &[u8]) {
        if link.cut || random_percent() < link.loss_percent {
            return;
        }
        let number = self.sequence.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let due = std::cmp::Reverse((Instant::now() + link.delay, number));
        let queue = &self.queues[target];
        let mut frames = lock(&queue.frames);
        if frames.len() < QUEUE_FRAMES {
            frames.push(Waiting { due, frame: frame.to_vec() });
            queue.filled.notify_one();
        }
    }

    /// Frames to one machine, when they are due.
    fn send(&self, port: usize, socket: &UnixDatagram) {
        let path = self.directory.join(format!("vm.{}", self.ports[port]));
        loop {
            let frame = self.next_due(port);
            if socket.send_to(&frame, &path).is_err() {
                // Powered off, or stopped and its queue full: what waits is lost, as with a pulled cable.
                thread::sleep(UNPLUGGED / 10);
                lock(&self.queues[port].frames).clear();
            }
        }
    }

    fn next_due(&self, port: usize) -> Vec<u8> {
        let queue = &self.queues[port];
        let mut frames = lock(&queue.frames);
        loop {
            let now = Instant::now();
            let wait = match frames.peek() {
                Some(first) if first.due.0.0 <= now => match frames.pop() {
                    Some(first) => return first.frame,
                    None => continue,
                },
                Some(first) => first.due.0.0 - now,
                None => Duration::from_secs(3600),
            };
            frames = queue.filled.wait_timeout(frames, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Read the rules file again whenever its text changes.
    fn follow_rules(&self) -> Result<()> {
        let path = self.directory.join("rules");
        let mut last = String::new();
        loop {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            if text != last {
                match Rules::parse(&text, &self.ports) {
                    Ok(rules) => self.install(rules)?,
                    Err(error) => eprintln!("{}: {error:#}; the old rules stay", path.display()),
                }
                last = text;
            }
            thread::sleep(RULES_POLL);
        }
    }

    fn install(&self, rules: Rules) -> Result<()> {
        let mut current = self.rules.write().unwrap_or_else(PoisonError::into_inner);
        if current.pcap != rules.pcap {
            *lock(&self.recording) = rules.pcap.as_deref().map(Recording::create).transpose()?;
        }
        *current = rules;
        Ok(())
    }
}

/// A number from 0 to 100 (exclusive). The standard library's per-process random hash keys are the only source
/// of randomness it has; good enough to lose frames with.
fn random_percent() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    let random = RandomState::new().hash_one(0_u8) % 10_000;
    f64::from(u32::try_from(random).unwrap_or(0)) / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixture {
        directory: PathBuf,
        machines: Vec<UnixDatagram>,
    }

    impl Drop for Fixture {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }

    /// Three machines a, b, c on a running hub.
    fn fixture(name: &str) -> Fixture {
        let directory = std::env::temp_dir().join(format!("lab-hub-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let ports = ["a", "b", "c"].map(String::from);
        let machines = ports.iter().map(|port| {
            let socket = UnixDatagram::bind(directory.join(format!("vm.{port}"))).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            socket
        });
        let machines = machines.collect();
        let at = directory.clone();
        thread::spawn(move || run(&at, &ports));
        while !directory.join("hub.c").exists() {
            thread::sleep(Duration::from_millis(5));
        }
        thread::sleep(Duration::from_millis(20));
        Fixture { directory, machines }
    }

    impl Fixture {
        fn send(&self, from: usize, to_mac: u8, from_mac: u8) {
            let mut frame = vec![0; 60];
            (frame[5], frame[11]) = (to_mac, from_mac);
            if to_mac == 0xff {
                frame[..6].fill(0xff);
            }
            let name = ["a", "b", "c"][from];
            self.machines[from].send_to(&frame, self.directory.join(format!("hub.{name}"))).unwrap();
        }

        fn got(&self) -> Vec<bool> {
            self.machines.iter().map(|machine| machine.recv(&mut [0; 100]).is_ok()).collect()
        }

        fn rules(&self, text: &str) {
            std::fs::write(self.directory.join("rules"), text).unwrap();
            thread::sleep(RULES_POLL * 2);
        }
    }

    #[test]
    fn floods_then_learns() {
        let hub = fixture("learn");
        hub.send(0, 0xff, 1);
        assert_eq!(hub.got(), [false, true, true]);
        hub.send(1, 1, 2);
        assert_eq!(hub.got(), [true, false, false]);
    }

    #[test]
    fn cut_delay_and_pcap_follow_the_file() {
        let hub = fixture("rules");
        let pcap = hub.directory.join("x.pcap");
        hub.rules(&format!("cut a b\npcap {}\n", pcap.display()));
        hub.send(0, 0xff, 1);
        assert_eq!(hub.got(), [false, false, true]);
        assert_eq!(std::fs::metadata(&pcap).unwrap().len(), 24 + 16 + 60);
        hub.rules("delay a c 250\n");
        let begun = Instant::now();
        hub.send(0, 0xff, 1);
        hub.machines[2].recv(&mut [0; 100]).unwrap();
        assert!(begun.elapsed() >= Duration::from_millis(250), "{:?}", begun.elapsed());
        hub.rules("loss a * 100\n");
        hub.send(0, 0xff, 1);
        hub.machines[1].recv(&mut [0; 100]).unwrap();
        assert_eq!(hub.got(), [false, false, false]);
    }

    #[test]
    fn a_machine_that_takes_nothing_stops_nobody_else() {
        let hub = fixture("stuck");
        for _ in 0..100 {
            hub.send(0, 0xff, 1);
            hub.machines[2].recv(&mut [0; 100]).unwrap();
        }
    }
}
