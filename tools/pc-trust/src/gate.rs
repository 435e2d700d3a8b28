//! gate: what a node that logs in with a user certificate of ours may run. No shell, no other program, no
//! argument that the table does not name.

use std::os::unix::process::CommandExt;

use anyhow::{Result, anyhow};
use pc_cli::{Exit, refused};

use crate::siblings;

/// What may be asked for, word by word.
const TABLE: &[&str] = &[
    "pc-config check -",
    "pc-config put --signed -",
    "pc-config put --check --signed -",
    "pc-config show --json",
    "pc-config nodes --json",
    "pc-config status --json",
    "pc-trust status --json",
    "pc-trust plan --json",
    "pc-unlock status --json",
    "pc-brick status --json",
    "pc-brick plan --json",
    "pc-gluster status --json",
    "pc-gluster plan --json",
    "pc-ovs status --json",
    "pc-ovs plan --json",
    "pc-vm status --json",
    "pc-vm plan --json",
    "pc-vm list --json",
    // Whoever starts a VM: what this node's kernel shows, whatever its libvirt has lost.
    "pc-vm probe --all --json",
    "pc-ha status --json",
    "pc-ha plan --json",
    "pc-verify --json",
    "pc-verify --json --patient",
    // pc-ha maintenance and pc-ha shutdown: the engine of all nodes, in order.
    "pc-ha engine release",
    "pc-ha engine adopt",
    "pc-ha engine stop",
    "pc-ha engine start",
    "pc-ha engine power-off",
    // pc-ha drill: as if the power was cut.
    "pc-ha engine power-cut",
    // pc-ha upgrade: what a node says of itself, and its own command, never one that comes with the request.
    "pc-ha engine report",
    "pc-ha engine upgrade",
    "pc-ha engine reboot",
];

/// Longest request.
const LIMIT: usize = 256;

/// The words of an admitted request.
fn admitted(request: &str) -> Result<Vec<String>> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b" -_.,:/=@+".contains(&byte);
    if request.len() > LIMIT || !request.bytes().all(plain) {
        return Err(refused("gate: the request has characters that no admitted one has"));
    }
    if !TABLE.contains(&request) {
        return Err(refused(format!(
            "gate: {request:?} is not among the verbs that nodes may ask each other for"
        )));
    }
    Ok(request.split(' ').map(ToString::to_string).collect())
}

/// `pc-trust gate`: becomes the program that `SSH_ORIGINAL_COMMAND` asks for.
pub fn gate() -> Result<Exit> {
    let request = std::env::var_os("SSH_ORIGINAL_COMMAND")
        .ok_or_else(|| refused("gate: no command was asked for, and there is no shell here"))?;
    let request = request.to_str().ok_or_else(|| refused("gate: the request is not text"))?;
    let words = admitted(request)?;
    pc_cli::log::info(format_args!("gate: {request}"));
    let mut command = siblings::command(&words[0], &words[1..]);
    let path = std::env::var_os("PATH");
    command.env_clear().env("LC_ALL", "C.UTF-8");
    if let Some(path) = path {
        command.env("PATH", path);
    }
    let error = command.exec();
    Err(anyhow!(error).context(format!("running {}", words[0])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_table_passes() {
        for request in TABLE {
            assert_eq!(admitted(request).unwrap().join(" "), *request);
            assert!(request.starts_with("pc-") && request.len() <= LIMIT);
        }
        let long = "pc-config put --signed -".repeat(1000);
        for request in [
            "",
            "sh",
            "bash -i",
            "pc-config",
            "pc-config put",
            "pc-config put -",
            "pc-config put --check -",
            "pc-config put --signed",
            "pc-config put --signed /etc/shadow",
            "pc-config  put --signed -",
            " pc-config put --signed -",
            "pc-config put --signed - ",
            "pc-config put --signed -;id",
            "pc-config put --signed -\nid",
            "pc-config put --signed $(id)",
            "pc-config put --signed - --root /tmp",
            "/usr/bin/pc-config put --signed -",
            "pc-brick wipe /dev/disk/by-id/x",
            "pc-trust token node2",
            "pc-trust sign",
            "pc-trust gate",
            "pc-ha engine upgrade-here",
            "pc-ha engine upgrade apt-get",
            "pc-ha upgrade",
            "pc-vm probe mail --json",
            "pc-vm start mail",
            "pc-unlock unseal node.key",
            "PC-CONFIG put --signed -",
            "pc-config\tput\t--signed\t-",
            "scp -t /",
            &long,
        ] {
            let error = admitted(request).unwrap_err();
            assert!(error.to_string().starts_with("gate: "), "{request}: {error}");
        }
    }
}
