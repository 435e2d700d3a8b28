//! A child that works for hours: what it says is heard while it says it, somebody looks after it meanwhile, and it does
//! not outlive us.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::unistd::Pid;
use pc_cli::try_again;
use zeroize::Zeroizing;

/// How often somebody looks whether the work may go on.
const LOOK: Duration = Duration::from_millis(500);
/// borg gives its lock back and ends within moments of SIGTERM; a commit on a slow volume takes longer.
const GRACE: Duration = Duration::from_secs(60);

/// What a child said.
enum Event {
    Out(Vec<u8>),
    Err(String),
    Closed,
}

/// What became of it.
#[derive(Debug)]
pub struct Ended {
    /// How it ended.
    pub status: ExitStatus,
    /// The last lines of its stderr.
    pub stderr: Vec<String>,
}

/// A program that is ended by the kernel, with `signal`, when we are gone: even after kill -9 nothing of ours goes on
/// writing (setpriv(1); an exec keeps the setting). It leads a session of its own (setsid(1)): Ctrl-C of a terminal is for
/// us, and where it would ask for a password it finds no terminal, instead of being stopped because it is in the background.
/// A shell script that starts us in the background has us ignore SIGINT, which we would pass on: env(1) undoes that, and
/// leaves alone what [`spawn_deaf`] blocks.
pub fn bound_to_us(program: &str, signal: &str) -> Command {
    let mut command = Command::new("env");
    command.args(["--default-signal=INT", "setpriv", "--pdeathsig", signal, "--", SESSION, program]);
    command
}

const SESSION: &str = "setsid";

/// What a message should name.
fn program(command: &Command) -> String {
    let bound = command.get_args().skip_while(|word| *word != SESSION).nth(1);
    bound.unwrap_or(command.get_program()).to_string_lossy().into_owned()
}

/// Starts a child that hears signals. It inherits what is blocked here, so that nothing is for a moment: a signal of that
/// moment ends us as SIGKILL would, which the next run copes with.
pub fn spawn(command: &mut Command) -> std::io::Result<Child> {
    let caught = SigSet::thread_get_mask().is_ok_and(|mask| mask.contains(Signal::SIGTERM));
    if caught {
        signals().thread_unblock()?;
    }
    let child = command.spawn();
    if caught {
        signals().thread_block()?;
    }
    child
}

/// Starts a child that hears SIGINT alone. What somebody sends to all of us, a session or a unit that is ended, is for us: we
/// still need the child while we put everything back.
pub fn spawn_deaf(command: &mut Command) -> std::io::Result<Child> {
    let before = SigSet::thread_get_mask()?;
    let mut mask = before;
    for signal in &signals() {
        mask.add(signal);
    }
    mask.remove(Signal::SIGINT);
    mask.thread_set_mask()?;
    let child = command.spawn();
    before.thread_set_mask()?;
    child
}

fn signals() -> SigSet {
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().collect()
}

/// Runs `command`, which is bound to us, to its end, `secret` on its stdin. `out` gets what it writes to stdout, `said` each line of its stderr,
/// `may_go_on` is asked again and again; an error of any of them ends the child.
pub fn attend(
    mut command: Command,
    secret: Option<&Zeroizing<Vec<u8>>>,
    out: &mut dyn FnMut(&[u8]) -> Result<()>,
    said: &mut dyn FnMut(&str),
    may_go_on: &dyn Fn() -> Result<()>,
) -> Result<Ended> {
    let program = program(&command);
    command.env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
    command.stdin(if secret.is_some() { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    pc_run::timed(|| {
        let mut child = spawn(&mut command).with_context(|| format!("running {program}"))?;
        feed(child.stdin.take(), secret.cloned());
        let events = listen(&mut child);
        let mut stderr = Vec::new();
        match hear(&events, out, said, may_go_on, &mut stderr) {
            Ok(()) => {
                let status = child.wait().with_context(|| format!("waiting for {program}"))?;
                Ok(Ended { status, stderr })
            }
            Err(error) => {
                end(&mut child, &events);
                Err(error)
            }
        }
    })
}

fn feed(pipe: Option<ChildStdin>, secret: Option<Zeroizing<Vec<u8>>>) {
    if let (Some(mut pipe), Some(secret)) = (pipe, secret) {
        // Whoever ends without reading it says why elsewhere.
        std::thread::spawn(move || drop(pipe.write_all(&secret)));
    }
}

/// Few events at a time: whoever writes waits for whoever reads.
fn listen(child: &mut Child) -> Receiver<Event> {
    let (sender, receiver) = sync_channel(16);
    if let Some(mut pipe) = child.stdout.take() {
        let sender: SyncSender<Event> = sender.clone();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 256 << 10];
            while let Ok(length @ 1..) = pipe.read(&mut buffer) {
                if sender.send(Event::Out(buffer[..length].to_vec())).is_err() {
                    return;
                }
            }
            let _ = sender.send(Event::Closed);
        });
    }
    if let Some(pipe) = child.stderr.take() {
        std::thread::spawn(move || {
            let mut lines = BufReader::new(pipe);
            let mut line = Vec::new();
            while let Ok(1..) = lines.read_until(b'\n', &mut line) {
                let text = String::from_utf8_lossy(&line).trim_end().to_string();
                line.clear();
                if sender.send(Event::Err(text)).is_err() {
                    return;
                }
            }
            let _ = sender.send(Event::Closed);
        });
    }
    receiver
}

fn hear(
    events: &Receiver<Event>,
    out: &mut dyn FnMut(&[u8]) -> Result<()>,
    said: &mut dyn FnMut(&str),
    may_go_on: &dyn Fn() -> Result<()>,
    stderr: &mut Vec<String>,
) -> Result<()> {
    let (mut open, mut looked) = (2, Instant::now());
    while open > 0 {
        if looked.elapsed() >= LOOK {
            may_go_on()?;
            looked = Instant::now();
        }
        match events.recv_timeout(LOOK) {
            Ok(Event::Out(bytes)) => out(&bytes)?,
            Ok(Event::Err(line)) => {
                said(&line);
                stderr.push(line);
                // What matters stands at the end.
                if stderr.len() > 200 {
                    stderr.drain(..100);
                }
            }
            Ok(Event::Closed) => open -= 1,
            Err(RecvTimeoutError::Timeout) => (),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    Ok(())
}

/// SIGTERM to the whole group, and SIGKILL to what is left after a while.
fn end(child: &mut Child, events: &Receiver<Event>) {
    let signal = |signal| {
        let Ok(pid) = i32::try_from(child.id()) else { return };
        // One that was only just started leads no group yet; one that has gone already is what we want.
        if killpg(Pid::from_raw(pid), signal).is_err() {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    };
    signal(Signal::SIGTERM);
    let until = Instant::now() + GRACE;
    let mut open = 2;
    while open > 0 {
        match events.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Event::Closed) => open -= 1,
            Ok(_) => (),
            Err(_) => {
                signal(Signal::SIGKILL);
                break;
            }
        }
    }
    let _ = child.wait();
}

/// How a child ended, for a message.
pub fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        _ => status.to_string(),
    }
}

/// SIGTERM and SIGINT, caught so that a run can put everything back before it ends.
#[derive(Debug)]
pub struct Interrupts {
    signals: nix::sys::signalfd::SignalFd,
    came: std::cell::Cell<Option<u32>>,
}

impl Interrupts {
    /// Signals end us, as they end any program.
    pub fn none() -> Result<Interrupts> {
        Interrupts::of(&SigSet::empty())
    }

    /// From now on these signals wait until somebody looks.
    pub fn catch() -> Result<Interrupts> {
        let set = signals();
        set.thread_block().context("blocking signals")?;
        Interrupts::of(&set)
    }

    fn of(set: &SigSet) -> Result<Interrupts> {
        use nix::sys::signalfd::{SfdFlags, SignalFd};
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(set, flags).context("listening for signals")?;
        Ok(Interrupts { signals, came: std::cell::Cell::new(None) })
    }

    /// An error, 75, from the first one on.
    pub fn check(&self) -> Result<()> {
        if let Ok(Some(signal)) = self.signals.read_signal() {
            self.came.set(Some(signal.ssi_signo));
        }
        match self.came.get() {
            Some(signal) => Err(try_again(format!("ended by signal {signal}"))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = bound_to_us("sh", "KILL");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn everything_is_heard() {
        let (mut out, mut lines) = (Vec::new(), Vec::new());
        let secret = Zeroizing::new(b"secret".to_vec());
        let ended = attend(
            sh("cat; echo one >&2; printf two >&2; exit 3"),
            Some(&secret),
            &mut |bytes| {
                out.extend_from_slice(bytes);
                Ok(())
            },
            &mut |line| lines.push(line.to_string()),
            &|| Ok(()),
        )
        .unwrap();
        assert_eq!(
            (out.as_slice(), lines.as_slice()),
            (&b"secret"[..], &["one".to_string(), "two".into()][..])
        );
        assert_eq!((ended.status.code(), ended.stderr.len()), (Some(3), 2));
        assert_eq!(how(ended.status), "exit status 3");
    }

    /// Who leads a session that never opened a terminal has none (tty(4)), whoever started us.
    #[test]
    fn nobody_is_asked_at_a_terminal() {
        let mut out = Vec::new();
        let mut keep = |bytes: &[u8]| {
            out.extend_from_slice(bytes);
            Ok(())
        };
        // proc(5), stat: the session, and the terminal.
        let script = "echo $$ 0; cut -d ' ' -f 6,7 /proc/$$/stat";
        attend(sh(script), None, &mut keep, &mut |_| (), &|| Ok(())).unwrap();
        let told = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = told.lines().collect();
        assert!(lines.len() == 2 && lines[0] == lines[1], "{told}");
        assert_eq!(program(&sh("true")), "sh");
    }

    #[test]
    fn who_is_still_needed_hears_nobody_but_us() {
        let bound = sh("echo ready; exec sleep 60");
        // Whatever whoever started us ignores.
        let mut command = Command::new("env");
        command.arg("--ignore-signal=INT").arg(bound.get_program()).args(bound.get_args());
        let mut child = spawn_deaf(command.stdout(Stdio::piped())).unwrap();
        let mut ready = [0; 6];
        child.stdout.take().unwrap().read_exact(&mut ready).unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        // What ends a session of logind's.
        for signal in [Signal::SIGTERM, Signal::SIGHUP] {
            kill(pid, signal).unwrap();
        }
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(child.try_wait().unwrap(), None);
        kill(pid, Signal::SIGINT).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(2));
    }

    #[test]
    fn who_may_not_go_on_is_asked_to_end() {
        let directory = tempfile::tempdir().unwrap();
        let marker = directory.path().join("ended");
        let script = format!(
            "trap 'echo ended > {}; exit 1' TERM; echo ready; while :; do sleep 0.1; done",
            marker.display()
        );
        let error = attend(sh(&script), None, &mut |_| Ok(()), &mut |_| (), &|| {
            Err(try_again("somebody else has the token"))
        })
        .unwrap_err();
        assert_eq!(error.to_string(), "somebody else has the token");
        assert_eq!(std::fs::read_to_string(marker).unwrap(), "ended\n");
    }
}
