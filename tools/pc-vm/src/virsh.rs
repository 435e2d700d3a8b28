//! Every call of virsh(1): for what the binding of libvirt has no call.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow};
use pc_cli::try_again;

use crate::hypervisor::{LOOK, QUICK};

const REMEDY: &str = "running virsh\n  apt-get install libvirt-clients";

fn virsh(uri: &str) -> Command {
    let mut command = Command::new("virsh");
    command.args(["--connect", uri]);
    command
}

/// Becomes `virsh console`; gives why it did not.
pub fn console(uri: &str, domain: &str) -> Error {
    Error::new(virsh(uri).args(["console", "--", domain]).exec()).context(REMEDY)
}

/// Gives up a move that is under way: the guest runs on where it is.
pub fn abort_move(uri: &str, uuid: &str) -> Result<(), pc_run::Error> {
    let mut command = virsh(uri);
    command.args(["domjobabort", uuid]);
    pc_run::run(command).deadline(LOOK).read().map(drop)
}

/// What kind of guest a processor is for, in libvirt's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kind {
    /// `x86_64`.
    pub arch: String,
    /// `kvm` or `qemu`.
    pub domain_type: String,
}

impl Kind {
    fn arguments(&self) -> [&str; 6] {
        ["--arch", &self.arch, "--virttype", &self.domain_type, "--machine", "q35"]
    }
}

/// What QEMU on a node can give a guest, XML; the processor that is nearest to the node's own is in it.
pub fn domain_capabilities(uri: &str, kind: &Kind) -> Result<String, pc_run::Error> {
    let mut command = virsh(uri);
    command.arg("domcapabilities").args(kind.arguments());
    pc_run::run(command).deadline(QUICK).read()
}

/// The processor that all those can give which `given` describes, one behind the other, XML. A guest can take it along.
/// With `features` also those are in it that the model has by itself.
pub fn cpu_baseline(uri: &str, kind: &Kind, given: &str, features: bool) -> Result<String, pc_run::Error> {
    let mut command = virsh(uri);
    command.args(["hypervisor-cpu-baseline", "--migratable", "--file", "/dev/stdin"]).args(kind.arguments());
    if features {
        command.arg("--features");
    }
    pc_run::run(command).stdin(given).deadline(QUICK).read()
}

/// Looks out for the event by which libvirt tells that a guest was reset, whoever did it.
#[derive(Debug)]
pub struct Lookout {
    virsh: Child,
    heard: Receiver<Heard>,
    patience: Duration,
}

/// What virsh said.
#[derive(Debug)]
enum Heard {
    /// It is connected, and asks for the event now.
    Ready,
    /// It has ended: its standard output, and the errors.
    Ended(String, String),
}

/// What it says on standard error, which it does not buffer, when it is connected.
const READY: &str = "pc-vm-ready";
/// More than virsh takes to connect, and to say goodbye.
const SLACK: Duration = Duration::from_secs(60);

impl Lookout {
    /// Comes back when virsh listens: what is asked for afterwards is heard.
    pub fn new(uri: &str, domain: &str, patience: Duration) -> Result<Lookout> {
        let mut command = virsh(uri);
        // Commands of one connection. Names of ours hold neither quotes nor blanks.
        command.arg(format!(
            "domid '{domain}' ; echo --err {READY} ; event --domain '{domain}' --event reboot --timeout {}",
            patience.as_secs().max(1)
        ));
        command.env("LC_ALL", "C.UTF-8").process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut virsh = command.spawn().context(REMEDY)?;
        let (sender, heard) = channel();
        let (out, errors) = (virsh.stdout.take(), virsh.stderr.take());
        std::thread::spawn(move || listen(out, errors, &sender));
        let lookout = Lookout { virsh, heard, patience };
        match lookout.heard.recv_timeout(SLACK) {
            Ok(Heard::Ready) => Ok(lookout),
            Ok(Heard::Ended(_, errors)) => Err(failed(&errors)),
            Err(_) => Err(try_again(format!("virsh: not connected within {} s", SLACK.as_secs()))),
        }
    }

    /// Waits; `false` when the guest was not reset in time.
    pub fn wait(mut self) -> Result<bool> {
        match self.heard.recv_timeout(self.patience + SLACK) {
            Ok(Heard::Ended(out, errors)) => {
                // It ends with 0 at the first event, and with 1 when the time is over or it could not listen at all.
                let status = self.virsh.wait().context("waiting for virsh")?;
                if status.success() || out.contains("timed out") {
                    return Ok(status.success());
                }
                Err(failed(&errors))
            }
            _ => Err(anyhow!("virsh gave no answer")),
        }
    }
}

impl Drop for Lookout {
    fn drop(&mut self) {
        // It has ended, or nobody needs it any more.
        let _ = self.virsh.kill();
        let _ = self.virsh.wait();
    }
}

fn failed(errors: &str) -> Error {
    anyhow!("listening for the guest's restart: virsh: {}", errors.trim())
}

/// Both streams to their ends. What virsh writes to the first one fits into its pipe.
fn listen(out: Option<ChildStdout>, errors: Option<ChildStderr>, sender: &Sender<Heard>) {
    let mut said = String::new();
    for line in errors.into_iter().flat_map(|errors| BufReader::new(errors).lines().map_while(Result::ok)) {
        if line.ends_with(READY) {
            // Nobody listens any more when connecting took too long.
            let _ = sender.send(Heard::Ready);
        } else {
            said.push_str(&line);
            said.push('\n');
        }
    }
    let mut text = String::new();
    let _ = out.map(|mut out| out.read_to_string(&mut text));
    let _ = sender.send(Heard::Ended(text, said));
}
