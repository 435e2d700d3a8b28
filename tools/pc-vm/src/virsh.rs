//! Every call of virsh(1): for what the binding of libvirt has no call.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow};

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

/// Looks out for the event by which libvirt tells that a guest was reset, whoever did it.
#[derive(Debug)]
pub struct Lookout {
    answer: Receiver<Result<bool>>,
    patience: Duration,
}

/// More than virsh takes to connect and to say goodbye.
const SLACK: Duration = Duration::from_secs(30);

impl Lookout {
    /// From now on: a guest takes longer to shut down than virsh to connect.
    pub fn new(uri: &str, domain: &str, patience: Duration) -> Lookout {
        let mut command = virsh(uri);
        command.args(["event", "--event", "reboot", "--timeout", &patience.as_secs().max(1).to_string()]);
        command.args(["--domain", domain]);
        let (sender, answer) = channel();
        // Nobody listens any more when what was to be seen could not be asked for.
        std::thread::spawn(move || drop(sender.send(seen(command, patience))));
        Lookout { answer, patience }
    }

    /// Waits; `false` when the guest was not reset in time.
    pub fn wait(self) -> Result<bool> {
        let longest = self.patience + SLACK + SLACK;
        self.answer.recv_timeout(longest).unwrap_or_else(|_| Err(anyhow!("virsh gave no answer")))
    }
}

/// virsh ends with 0 at the first event, and with 1 when the time is over or it could not listen at all.
fn seen(command: Command, patience: Duration) -> Result<bool> {
    let heard = pc_run::run(command).deadline(patience + SLACK).allow(&[1]).output();
    let heard = heard.context("waiting for the guest's restart")?;
    match heard.code {
        0 => Ok(true),
        _ if heard.text().contains("timed out") => Ok(false),
        _ => Err(anyhow!("waiting for the guest's restart: virsh: {}", heard.stderr.trim())),
    }
}
