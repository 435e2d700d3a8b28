//! The other nodes, over ssh(1) with the certificates and the client configuration of pc-trust. There a forced command
//! admits listed verbs only.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Result, anyhow};
use pc_cli::{Common, refused, try_again};
use xshell::{Shell, cmd};

/// Pacemaker stops within this: it waits for whatever is under way.
const DEADLINE: Duration = Duration::from_secs(2100);

/// A machine that runs answers a SYN at once, if only to refuse it.
const KNOCK: Duration = Duration::from_secs(3);

/// Whether a machine with this address is switched on: it takes a connection for ssh, or refuses it. Silence says nothing.
pub fn answers(address: &str) -> bool {
    let Ok(ip) = address.parse::<IpAddr>() else { return false };
    match pc_run::timed(|| TcpStream::connect_timeout(&SocketAddr::new(ip, 22), KNOCK)) {
        Ok(_) => true,
        Err(error) => error.kind() == ErrorKind::ConnectionRefused,
    }
}

/// Runs `pc-ha engine VERB` on a node.
pub fn engine(common: &Common, node: &str, verb: &str) -> Result<()> {
    let config = common.under_root(cluster::paths::TRUST).join("ssh_config");
    if !config.exists() {
        return Err(refused(format!(
            "this machine belongs to no cluster: {} is missing\n  pc-trust init FILE, or pc-trust join ADDRESS TOKEN",
            config.display()
        )));
    }
    let sh = Shell::new()?;
    let command = format!("pc-ha engine {verb}");
    let call = pc_run::run(cmd!(sh, "ssh -F {config} -- {node} {command}")).deadline(DEADLINE);
    call.output().map(drop).map_err(|error| {
        let said = error.stderr().trim().to_string();
        match error.code() {
            Some(2) => refused(format!("{node} refuses: {said}")),
            Some(75) => try_again(format!("{node}: {said}")),
            Some(255) => try_again(format!("{node} cannot be reached: {said}")),
            Some(_) => anyhow!("{node}: {said}"),
            None => try_again(format!("{node}: {error}")),
        }
    })
}
