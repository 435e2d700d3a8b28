//! Secrets that are sealed anew by one process while another one works on them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says what it expects")]

mod support;

use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use support::{Machine, Tang, answer};

/// Enough for a debug build on a busy machine.
const PATIENT: [&str; 4] = ["--server-time", "60", "--attempt-time", "60"];

/// A proxy before a real tangd that holds back one recovery: by then whoever asks has read what is sealed.
struct Gate {
    close: Arc<AtomicBool>,
    held: mpsc::Receiver<()>,
    release: mpsc::Sender<()>,
}

impl Gate {
    /// From now on `tang` is found behind it.
    fn before(tang: &mut Tang) -> Gate {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let inner = tang.url.strip_prefix("http://").unwrap().to_string();
        tang.url = format!("http://{}", listener.local_addr().unwrap());
        let (arrived, held) = mpsc::channel();
        let (release, released) = mpsc::channel();
        let close = Arc::new(AtomicBool::new(false));
        let (closed, released) = (Arc::clone(&close), Arc::new(Mutex::new(released)));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), TcpStream::connect(&inner).unwrap());
                let (closed, released, arrived) =
                    (Arc::clone(&closed), Arc::clone(&released), arrived.clone());
                std::thread::spawn(move || {
                    let mut method = [0; 4];
                    if client.peek(&mut method).is_ok()
                        && &method == b"POST"
                        && closed.swap(false, Ordering::SeqCst)
                    {
                        arrived.send(()).unwrap();
                        released.lock().unwrap().recv().unwrap();
                    }
                    let (mut question, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                    std::thread::spawn(move || std::io::copy(&mut question, &mut to));
                    let (mut reply, mut back) = (server, client);
                    let _ = std::io::copy(&mut reply, &mut back);
                    let _ = back.shutdown(std::net::Shutdown::Both);
                });
            }
        });
        Gate { close, held, release }
    }
}

/// A machine whose secret `s` is sealed and open.
fn machine() -> (Machine, Tang, Gate) {
    let mut tang = Tang::start("P-256");
    let gate = Gate::before(&mut tang);
    let machine = Machine::new();
    machine.file(1, &[&tang], &[]);
    machine.ok(&["seal", "s"], b"OLD");
    machine.ok(&["unseal", "s"], b"");
    (machine, tang, gate)
}

fn open_copy(machine: &Machine) -> Vec<u8> {
    std::fs::read(machine.root.path().join("run/personal-cluster/secrets/s")).unwrap()
}

#[test]
fn what_is_sealed_while_an_older_one_is_worked_on_stays() {
    for (verb, what) in [("rotate", "rotated"), ("unseal", "opened")] {
        let (machine, tang, gate) = machine();
        tang.rotate("P-256");
        gate.close.store(true, Ordering::SeqCst);
        let slow = machine.start(&[&PATIENT[..], &[verb]].concat(), b"");
        gate.held.recv_timeout(Duration::from_secs(60)).unwrap();
        machine.ok(&[&PATIENT[..], &["seal", "s"]].concat(), b"NEW");
        gate.release.send(()).unwrap();
        let slow = answer(slow);
        assert_eq!(slow.code, 75, "{verb}: {}", slow.err);
        assert!(slow.err.contains(&format!("s: was sealed anew while it was {what}")), "{}", slow.err);
        assert_eq!(open_copy(&machine), b"NEW", "{verb}");
        // The open copy cannot hide what is sealed.
        std::fs::remove_dir_all(machine.root.path().join("run/personal-cluster/secrets")).unwrap();
        machine.ok(&["unseal", "s"], b"");
        assert_eq!(open_copy(&machine), b"NEW", "{verb}");
    }
}

#[test]
fn the_lock_is_waited_for_but_not_for_ever() {
    let (machine, tang, _gate) = machine();
    tang.rotate("P-256");
    let path = machine.root.path().join("run/personal-cluster/secrets.lock");
    let lock = std::fs::File::options().write(true).open(path).unwrap();
    let lock = nix::fcntl::Flock::lock(lock, nix::fcntl::FlockArg::LockExclusive).unwrap();
    let sealed = machine.root.path().join("etc/personal-cluster/sealed/s.jwe");
    let before = std::fs::read(&sealed).unwrap();
    for (arguments, input) in
        [(&["seal", "s"][..], "OLD"), (&["seal", "s"], "NEW"), (&["unseal"], ""), (&["rotate"], "")]
    {
        let started = Instant::now();
        let late = machine.unlock(&[&["--attempt-time", "3"], arguments].concat(), input.as_bytes());
        assert!(started.elapsed() >= Duration::from_secs(3), "{arguments:?}");
        assert_eq!(late.code, 75, "{arguments:?}: {}", late.err);
        assert!(late.err.contains("secrets.lock: another pc-unlock has held it for 3 s"), "{}", late.err);
    }
    assert_eq!((std::fs::read(&sealed).unwrap(), open_copy(&machine)), (before, b"OLD".to_vec()));
    let waiting = machine.start(&[&PATIENT[..], &["seal", "s"]].concat(), b"NEW");
    std::thread::sleep(Duration::from_millis(300));
    drop(lock);
    let waiting = answer(waiting);
    assert_eq!((waiting.code, open_copy(&machine)), (0, b"NEW".to_vec()), "{}", waiting.err);
}
