//! The other nodes, through pc-trust's gate, which admits listed verbs only.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Result;
use pc_cli::Common;
use pc_ssh::Ssh;

/// Pacemaker stops within this: it waits for whatever is under way.
const DEADLINE: Duration = Duration::from_secs(2100);
/// For a question, or a request that waits for nothing.
const QUICK: Duration = Duration::from_secs(90);

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

/// Runs `pc-ha engine VERB` on a node, and waits for its end.
pub fn engine(common: &Common, node: &str, verb: &str) -> Result<()> {
    let verb = format!("pc-ha engine {verb}");
    Ssh::of(common)?.verb(node, &verb).deadline(DEADLINE).text().map(drop)
}

/// As `engine`, for what is answered at once.
pub fn ask(common: &Common, node: &str, verb: &str, stdin: &str) -> Result<String> {
    let verb = format!("pc-ha engine {verb}");
    Ssh::of(common)?.verb(node, &verb).stdin(stdin).deadline(QUICK).text()
}
