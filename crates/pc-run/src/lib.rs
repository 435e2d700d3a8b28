//! Runs one external program: argv, bytes for its stdin, a deadline, its own process group, the tail of
//! its stderr in the error. Takes what `xshell::cmd!` makes, or a plain [`std::process::Command`].
//!
//! Never goes through a shell, never waits without a deadline, never logs what goes through stdin.

mod tally;

use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use zeroize::Zeroizing;

pub use tally::{Cost, timed};

/// Why a program gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program is not installed, or not executable.
    #[error("running {program}: {}", not_started(program, reason))]
    Start {
        /// The program's name as it was called.
        program: String,
        /// What the kernel said. The message has it, so it is no `source`: a chain would tell it twice.
        reason: std::io::Error,
    },
    /// It did not end in time; its whole process group was killed.
    #[error("{program}: no answer within {} s", deadline.as_secs())]
    TimedOut {
        /// The program's name as it was called.
        program: String,
        /// How long it was given.
        deadline: Duration,
    },
    /// It ended with a code that was not expected.
    #[error("{program}: {status}{}", tail(stderr))]
    Failed {
        /// The program's name with its first argument.
        program: String,
        /// Exit code or signal.
        status: ExitStatus,
        /// The last lines of its stderr.
        stderr: String,
    },
}

/// Why it did not start; of a program that is not there, what installs it on Debian.
fn not_started(program: &str, reason: &std::io::Error) -> String {
    if reason.kind() != std::io::ErrorKind::NotFound {
        return reason.to_string();
    }
    match package(program.split(' ').next().unwrap_or(program)) {
        Some(package) => format!("not installed\n  apt-get install {package}"),
        None => reason.to_string(),
    }
}

/// The Debian package of a program, where that is known here; callers that know better say it themselves.
fn package(program: &str) -> Option<&str> {
    match program {
        "blkid" | "lsblk" | "wipefs" => Some("util-linux"),
        "mount" | "umount" => Some("mount"),
        "cryptsetup" => Some("cryptsetup-bin"),
        "curl" => Some("curl"),
        "ip" | "ss" => Some("iproute2"),
        "qemu-img" => Some("qemu-utils"),
        "ssh" | "ssh-keygen" => Some("openssh-client"),
        "sshd" => Some("openssh-server"),
        "mkfs.xfs" | "xfs_admin" | "xfs_db" | "xfs_growfs" | "xfs_repair" => Some("xfsprogs"),
        "lvcreate" | "lvremove" | "lvs" | "pvs" | "vgchange" | "vgcreate" => Some("lvm2"),
        // Each of our own is a package of its own name.
        _ if program.starts_with("pc-") => Some(program),
        _ => None,
    }
}

fn tail(stderr: &str) -> String {
    let lines: Vec<&str> = stderr.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let last = lines[lines.len().saturating_sub(4)..].join("; ");
    if last.is_empty() { last } else { format!(": {last}") }
}

impl Error {
    /// The exit code, when the program ended with one.
    pub fn code(&self) -> Option<i32> {
        match self {
            Error::Failed { status, .. } => status.code(),
            _ => None,
        }
    }

    /// What the program said on stderr.
    pub fn stderr(&self) -> &str {
        match self {
            Error::Failed { stderr, .. } => stderr,
            _ => "",
        }
    }

    /// The program is not there at all.
    pub fn is_missing(&self) -> bool {
        matches!(self, Error::Start { reason, .. } if reason.kind() == std::io::ErrorKind::NotFound)
    }
}

/// How long a program that was killed is waited for.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// What a program answered.
#[derive(Debug)]
pub struct Output {
    /// The exit code (0, or one of those that were allowed).
    pub code: i32,
    /// Everything it wrote to stdout; wiped when dropped, since it may be a secret.
    pub stdout: Zeroizing<Vec<u8>>,
    /// Everything it wrote to stderr, as text.
    pub stderr: String,
}

impl Output {
    /// stdout as text; bytes that are not UTF-8 become U+FFFD.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// One call of a program.
#[derive(Debug)]
pub struct Run {
    command: Command,
    stdin: Option<Zeroizing<Vec<u8>>>,
    deadline: Duration,
    allowed: Vec<i32>,
}

/// Prepares a call with a deadline of 30 s; [`Run::output`] makes it.
pub fn run(command: impl Into<Command>) -> Run {
    Run { command: command.into(), stdin: None, deadline: Duration::from_secs(30), allowed: vec![0] }
}

impl Run {
    /// Bytes for the program's stdin (otherwise `/dev/null`). This is the way for secrets.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Run {
        self.stdin = Some(Zeroizing::new(bytes.into()));
        self
    }

    /// How long the program may take before its process group is killed.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Run {
        self.deadline = deadline;
        self
    }

    /// Exit codes other than 0 that are answers, not failures.
    #[must_use]
    pub fn allow(mut self, codes: &[i32]) -> Run {
        self.allowed.extend_from_slice(codes);
        self
    }

    /// Runs the program to its end.
    pub fn output(mut self) -> Result<Output, Error> {
        let program = name(&self.command);
        let _call = tally::Call::begin();
        let started = Instant::now();
        self.command.env("LC_ALL", "C.UTF-8").process_group(0);
        self.command.stdin(if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() });
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            self.command.spawn().map_err(|reason| Error::Start { program: program.clone(), reason })?;
        let result = collect(&mut child, self.stdin.take(), started + self.deadline);
        let Some((status, stdout, stderr)) = result else {
            kill_group(child);
            return Err(Error::TimedOut { program, deadline: self.deadline });
        };
        match status.code() {
            Some(code) if self.allowed.contains(&code) => Ok(Output { code, stdout, stderr }),
            _ => Err(Error::Failed { program, status, stderr }),
        }
    }

    /// Runs the program and gives its stdout as text without the last newline.
    pub fn read(self) -> Result<String, Error> {
        Ok(self.output()?.text().trim_end().to_string())
    }
}

/// The program and its first argument: enough to recognise a call, too little to show a value.
fn name(command: &Command) -> String {
    let mut name = command.get_program().to_string_lossy().into_owned();
    if let Some(first) = command.get_args().next() {
        name.push(' ');
        name.push_str(&first.to_string_lossy());
    }
    name
}

type Collected = (ExitStatus, Zeroizing<Vec<u8>>, String);

/// Feeds stdin and drains both pipes on threads of their own, so that no full pipe can stop us;
/// `None` when the deadline passes first.
fn collect(child: &mut Child, stdin: Option<Zeroizing<Vec<u8>>>, until: Instant) -> Option<Collected> {
    if let (Some(mut pipe), Some(bytes)) = (child.stdin.take(), stdin) {
        // A program may end without reading all of it: a broken pipe is the program's choice.
        std::thread::spawn(move || drop(pipe.write_all(&bytes)));
    }
    let (sender, receiver) = std::sync::mpsc::channel();
    let mut out = child.stdout.take()?;
    let mut err = child.stderr.take()?;
    let stdout_sender = sender.clone();
    std::thread::spawn(move || {
        let mut bytes = Zeroizing::new(Vec::new());
        let _ = out.read_to_end(&mut bytes);
        let _ = stdout_sender.send((true, bytes));
    });
    std::thread::spawn(move || {
        let mut bytes = Zeroizing::new(Vec::new());
        let _ = err.read_to_end(&mut bytes);
        let _ = sender.send((false, bytes));
    });
    let mut stdout = Zeroizing::new(Vec::new());
    let mut stderr = String::new();
    for _ in 0..2 {
        let (is_stdout, bytes) =
            receiver.recv_timeout(until.saturating_duration_since(Instant::now())).ok()?;
        if is_stdout {
            stdout = bytes;
        } else {
            stderr = String::from_utf8_lossy(&bytes).into_owned();
        }
    }
    Some((wait_until(child, until)?, stdout, stderr))
}

/// Both pipes are closed, so the end is near: wait for it, with growing pauses up to the deadline.
fn wait_until(child: &mut Child, until: Instant) -> Option<ExitStatus> {
    let mut pause = Duration::from_micros(200);
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < until => {
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(50));
            }
            Ok(None) => return None,
            Err(_) => return Some(ExitStatus::from_raw(0x7f00)),
        }
    }
}

fn kill_group(child: Child) {
    if let Ok(pid) = i32::try_from(child.id()) {
        // The group may have gone between the deadline and now: that is what we want.
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
    reap(child, LAST_WAIT);
}

/// Nearly always a killed program is gone at once. One that the kernel holds, because the disk that it reads hangs, ends when
/// that does, if ever: a thread waits for it, so that we do not.
fn reap(mut child: Child, patience: Duration) {
    if wait_until(&mut child, Instant::now() + patience).is_none() {
        // Without a thread it stays a zombie until we end: nothing worse.
        let _ = std::thread::Builder::new().spawn(move || child.wait());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xshell::{Shell, cmd};

    #[test]
    fn answers_with_stdin_and_codes() {
        let sh = Shell::new().unwrap();
        assert_eq!(run(cmd!(sh, "cat")).stdin("secret").read().unwrap(), "secret");
        let error = run(cmd!(sh, "sh -c 'echo one >&2; echo two >&2; exit 4'")).output().unwrap_err();
        assert_eq!(error.code(), Some(4));
        assert_eq!(error.to_string(), "sh -c: exit status: 4: one; two");
        assert_eq!(run(cmd!(sh, "sh -c 'exit 4'")).allow(&[4]).output().unwrap().code, 4);
    }

    #[test]
    fn a_deadline_kills_the_whole_group() {
        let sh = Shell::new().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let marker = directory.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; wait", marker.display());
        let error =
            run(cmd!(sh, "sh -c {script}")).deadline(Duration::from_millis(800)).output().unwrap_err();
        assert!(matches!(error, Error::TimedOut { .. }));
        let pid: i32 = std::fs::read_to_string(&marker).unwrap().trim().parse().unwrap();
        let gone = (0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(20));
            std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
        });
        assert!(gone, "the grandchild outlived its deadline");
    }

    #[test]
    fn a_program_that_no_signal_ends_is_left_to_a_thread() {
        let child = Command::new("sleep").arg("600").spawn().unwrap();
        let pid = Pid::from_raw(child.id().try_into().unwrap());
        let started = Instant::now();
        reap(child, Duration::from_millis(50));
        assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
        let there = || std::path::Path::new(&format!("/proc/{pid}")).exists();
        assert!(there());
        nix::sys::signal::kill(pid, Signal::SIGKILL).unwrap();
        let reaped = (0..500).any(|_| {
            std::thread::sleep(Duration::from_millis(20));
            !there()
        });
        assert!(reaped, "it is a zombie for ever");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run(Command::new("no-such-program")).output().unwrap_err();
        assert!(error.is_missing());
        assert!(error.to_string().starts_with("running no-such-program: No such file"), "{error}");
        assert!(std::error::Error::source(&error).is_none(), "told once, in the message");
        // Where it is known, with its package; the first argument is a part of the name.
        let missing = |program: &str| Error::Start {
            program: program.into(),
            reason: std::io::Error::from(std::io::ErrorKind::NotFound),
        };
        for (program, package) in [
            ("lsblk --json", "util-linux"),
            ("pc-unlock", "pc-unlock"),
            ("lvcreate -y", "lvm2"),
            ("mkfs.xfs", "xfsprogs"),
        ] {
            let told = format!("running {program}: not installed\n  apt-get install {package}");
            assert_eq!(missing(program).to_string(), told);
        }
        let directory = run(Command::new("/")).output().unwrap_err();
        assert!(!directory.is_missing() && directory.to_string().starts_with("running /: Permission denied"));
    }
}
