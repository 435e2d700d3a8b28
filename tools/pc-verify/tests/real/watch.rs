//! `--watch` on a terminal of its own.

use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::bench::{Bench, text};

/// Nothing here takes longer on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// script(1) makes the terminal, stty(1) says how it was before and is after.
struct Screen {
    script: Child,
    keyboard: Option<ChildStdin>,
    /// What is left behind: `tty`, `pid`, `before`, `after`, `code`.
    notes: PathBuf,
    seen: Arc<Mutex<Vec<u8>>>,
}

fn until<T>(what: &str, mut so: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = so() {
            return found;
        }
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Screen {
    fn open(bench: &Bench, arguments: &str) -> Screen {
        let (notes, root) = (bench.path("notes"), bench.root.path().display());
        fs::create_dir(&notes).unwrap();
        let program = env!("CARGO_BIN_EXE_pc-verify");
        let lines = format!(
            "cd {notes}; tty > tty; stty cols 70 rows 24; stty -g > before\n\
             sh -c 'echo $$ > pid; exec {program} --watch {arguments} --root {root} --node node1 --file {root}/cluster.toml'\n\
             echo $? > code; stty -g > after\n",
            notes = notes.display()
        );
        fs::write(bench.path("lines"), lines).unwrap();
        let command = format!("sh {root}/lines");
        let mut script = Command::new("script")
            .args(["--quiet", "--flush", "--command", &command, "/dev/null"])
            .env("PATH", bench.programs())
            .env("TERM", "xterm")
            .env_remove("NO_COLOR")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, kept) = (script.stdout.take().unwrap(), Arc::clone(&seen));
        std::thread::spawn(move || {
            let mut part = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut part) {
                kept.lock().unwrap().extend_from_slice(&part[..count]);
            }
        });
        let keyboard = script.stdin.take();
        Screen { script, keyboard, notes, seen }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }

    /// What was written from there on, as soon as it has this in it.
    fn until(&self, from: usize, words: &str) -> String {
        until(words, || Some(self.text().split_off(from)).filter(|text| text.contains(words)))
    }

    fn types(&mut self, keys: &str) {
        let keyboard = self.keyboard.as_mut().unwrap();
        keyboard.write_all(keys.as_bytes()).unwrap();
        keyboard.flush().unwrap();
    }

    fn note(&self, name: &str) -> String {
        let path = self.notes.join(name);
        let text = until(name, || fs::read_to_string(&path).ok().filter(|text| text.ends_with('\n')));
        text.trim().to_string()
    }

    /// As the window of a terminal that is drawn smaller.
    fn resized(&self, columns: &str, rows: &str) {
        let stty =
            Command::new("stty").args(["-F", &self.note("tty"), "cols", columns, "rows", rows]).status();
        assert!(stty.unwrap().success());
    }

    /// How it ends, and that it leaves the terminal as it was.
    fn ends(mut self) -> String {
        let code = self.note("code");
        assert_eq!(self.note("after"), self.note("before"));
        self.until(0, "\u{1b}[0m\u{1b}[?7h\u{1b}[?25h\u{1b}[?1049l");
        self.keyboard = None;
        self.script.wait().unwrap();
        code
    }
}

impl Drop for Screen {
    /// After a failed assertion too: whoever reads what the tests say would wait for it.
    fn drop(&mut self) {
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

#[test]
fn what_changes_is_shown_until_somebody_quits() {
    let bench = Bench::new();
    let mut screen = Screen::open(&bench, "3600");
    let first = screen.until(0, "node1: healthy");
    assert!(first.contains("\u{1b}[?1049h"), "{first:?}");
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
    screen.resized("30", "6");
    let third = screen.until(from, "lines 1-5 of ");
    // stty sets columns and rows one after the other: the last picture counts.
    let (_, third) = third.rsplit_once("\u{1b}[2J").unwrap_or_else(|| panic!("{third:?}"));
    assert!(third.contains("\u{1b}[6;1H") && !third.contains("\u{1b}[7;1H"), "{third:?}");
    let from = screen.text().len();
    screen.types("j\u{1b}[B");
    screen.until(from, "lines 3-7 of ");
    // The file in force is gone: what is known stays, and that is said.
    fs::remove_file(bench.path("cluster.toml")).unwrap();
    let from = screen.text().len();
    screen.types("bbr");
    screen.until(from, "The last look failed");
    screen.types("q");
    assert_eq!(screen.ends(), "0");
}

#[test]
fn signals_and_ctrl_c_leave_the_terminal_as_it_was() {
    for how in ["\u{3}", "SIGTERM", "SIGHUP"] {
        let bench = Bench::new();
        let mut screen = Screen::open(&bench, "");
        screen.until(0, "node1: healthy");
        let pid = Pid::from_raw(screen.note("pid").parse().unwrap());
        match how {
            "SIGTERM" => kill(pid, Signal::SIGTERM).unwrap(),
            "SIGHUP" => kill(pid, Signal::SIGHUP).unwrap(),
            key => screen.types(key),
        }
        assert_eq!(screen.ends(), "0", "{how:?}");
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
    fs::write(bench.path("cluster.toml"), "schema = 1").unwrap();
    let output = bench.run(&["--watch"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("cluster.toml"), "the file comes first");
}
