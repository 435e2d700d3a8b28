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

/// What a machine does with a connection.
#[derive(Debug)]
pub enum Knock {
    /// It takes it, or refuses it: its kernel runs.
    Answers,
    /// Nothing comes back.
    Silent,
    /// It never left this machine.
    Unknown(std::io::Error),
}

/// Whether a machine answers at a port.
pub fn knock(ip: IpAddr, port: u16, patience: Duration) -> Knock {
    match pc_run::timed(|| TcpStream::connect_timeout(&SocketAddr::new(ip, port), patience)) {
        Ok(_) => Knock::Answers,
        Err(error) => match error.kind() {
            ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => Knock::Answers,
            // The second is this machine's own word: nobody there has told the Ethernet address that belongs to it.
            ErrorKind::TimedOut | ErrorKind::HostUnreachable => Knock::Silent,
            _ => Knock::Unknown(error),
        },
    }
}

/// Whether a machine with this address is switched on: it takes a connection for ssh, or refuses it. Silence says nothing.
pub fn answers(address: &str) -> bool {
    address.parse().is_ok_and(|ip| matches!(knock(ip, 22, KNOCK), Knock::Answers))
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
