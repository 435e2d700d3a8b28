//! `--watch` on a terminal of its own.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};

use crate::bench::{Bench, text};

/// Nothing here takes longer on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

struct Screen {
    child: Child,
    /// Our end of the terminal, and the other one, which keeps it there after the program.
    near: File,
    far: OwnedFd,
    before: String,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Screen {
    fn open(bench: &Bench, arguments: &[&str]) -> Screen {
        let near = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&near).unwrap();
        unlockpt(&near).unwrap();
        let name = ptsname(&near, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let far = rustix::fs::open(OsStr::from_bytes(name.as_bytes()), flags, Mode::empty()).unwrap();
        tcsetwinsize(&near, size(70, 24)).unwrap();
        let before = mode(&far);
        // A session of its own, with this terminal: signals of the terminal reach it.
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait", env!("CARGO_BIN_EXE_pc-verify"), "--watch"]).args(arguments);
        bench.prepare(&mut command);
        command.env("TERM", "xterm").env_remove("NO_COLOR");
        let end = || far.try_clone().unwrap();
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let near = File::from(near);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, kept) = (near.try_clone().unwrap(), Arc::clone(&seen));
        std::thread::spawn(move || {
            let mut part = [0; 4096];
            // EIO: nobody has the other end any more.
            while let Ok(count @ 1..) = reader.read(&mut part) {
                kept.lock().unwrap().extend_from_slice(&part[..count]);
            }
        });
        Screen { child, near, far, before, seen }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }

    /// What was written from there on, as soon as it has this in it.
    fn until(&self, from: usize, words: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let text = self.text().split_off(from);
            if text.contains(words) {
                return text;
            }
            assert!(Instant::now() < end, "never {words:?}: {text:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn types(&mut self, keys: &str) {
        self.near.write_all(keys.as_bytes()).unwrap();
    }

    /// How it ends, and that it leaves the terminal as it was.
    fn ends(mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < end, "it does not end: {:?}", self.text());
            std::thread::sleep(Duration::from_millis(20));
        };
        self.until(0, "\u{1b}[0m\u{1b}[?7h\u{1b}[?25h\u{1b}[?1049l");
        assert_eq!(mode(&self.far), self.before);
        status
    }
}

fn mode(terminal: &OwnedFd) -> String {
    format!("{:?}", tcgetattr(terminal).unwrap())
}

fn size(columns: u16, rows: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

#[test]
fn what_changes_is_shown_until_somebody_quits() {
    let bench = Bench::new();
    let mut screen = Screen::open(&bench, &["3600"]);
    let first = screen.until(0, "node1: healthy");
    assert!(first.starts_with("\u{1b}[?1049h"), "{first:?}");
    let hostile = r#"{"schema": "pc.trust.status/1", "healthy": false, "problems": ["\u001b]0;owned\u0007 is wrong\n  do y"]}"#;
    bench.program("pc-trust", &format!("cat <<'EOF'\n{hostile}\nEOF"));
    let from = screen.text().len();
    screen.types("r");
    let second = screen.until(from, "do y");
    assert!(second.contains("node1: not healthy, 1 problem"), "{second:?}");
    assert!(second.contains("\\u{1b}]0;owned\\u{7} is wrong") && !second.contains("\u{1b}]0;"), "{second:?}");
    assert!(!second.contains("q ends"), "a row that has not changed is not written again: {second:?}");
    // Smaller: everything anew, and nothing outside.
    let from = screen.text().len();
    tcsetwinsize(&screen.near, size(30, 6)).unwrap();
    let third = screen.until(from, "lines 1-5 of ");
    assert!(third.contains("\u{1b}[2J"), "{third:?}");
    assert!(third.contains("\u{1b}[6;1H") && !third.contains("\u{1b}[7;1H"), "{third:?}");
    let from = screen.text().len();
    screen.types("j\u{1b}[B");
    screen.until(from, "lines 3-7 of ");
    // The file in force is gone: what is known stays, and that is said.
    std::fs::remove_file(bench.path("cluster.toml")).unwrap();
    let from = screen.text().len();
    screen.types("bbr");
    screen.until(from, "The last look failed");
    screen.types("q");
    assert_eq!(screen.ends().code(), Some(0));
}

#[test]
fn signals_and_ctrl_c_leave_the_terminal_as_it_was() {
    for how in ["\u{3}", "SIGTERM", "SIGHUP"] {
        let bench = Bench::new();
        let mut screen = Screen::open(&bench, &[]);
        screen.until(0, "node1: healthy");
        let pid = Pid::from_raw(screen.child.id().try_into().unwrap());
        match how {
            "SIGTERM" => kill(pid, Signal::SIGTERM).unwrap(),
            "SIGHUP" => kill(pid, Signal::SIGHUP).unwrap(),
            key => screen.types(key),
        }
        assert_eq!(screen.ends().code(), Some(0), "{how:?}");
    }
}

#[test]
fn without_a_terminal_it_is_refused() {
    let bench = Bench::new();
    let output = bench.run(&["--watch"]);
    assert_eq!((output.status.code(), text(&output).as_str()), (Some(2), ""));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        told.contains("--watch needs a terminal\n  pc-verify, or in a script: pc-verify --json"),
        "{told}"
    );
    for wrong in [&["--watch", "--json"][..], &["--watch", "--html"], &["--watch", "1"]] {
        assert_eq!(bench.run(wrong).status.code(), Some(2), "{wrong:?}");
    }
    std::fs::write(bench.path("cluster.toml"), "schema = 1").unwrap();
    let output = bench.run(&["--watch"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("cluster.toml"), "the file comes first");
}
