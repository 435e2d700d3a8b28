//! TCP connections of this machine, by ss(8) of iproute2, which asks the kernel (`sock_diag`(7)).

use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use pc_cli::refused;
use pc_run::run;
use xshell::{Shell, cmd};

/// The kernel answers out of its tables.
const QUICK: Duration = Duration::from_secs(5);

fn shell() -> Result<Shell> {
    Shell::new().context("asking for the working directory")
}

/// Where connections are taken.
pub fn listening() -> Result<String> {
    let sh = shell()?;
    let call = run(cmd!(sh, "ss -H -l -t -n")).deadline(QUICK);
    call.read().map_err(|error| missing(&error)).context("listing the ports that are listened on")
}

/// Closes all connections that a filter matches: whoever reads or writes on one gets an error at once, a reset goes to the other end.
/// Gives their number. What the kernel cannot close ss leaves out in silence, so it is looked after.
pub fn close(filter: &[String]) -> Result<usize> {
    let sh = shell()?;
    let call = run(cmd!(sh, "ss -H -t -n -K {filter...}")).deadline(QUICK);
    let closed = call.read().map_err(|error| missing(&error)).context("closing connections")?;
    let call = run(cmd!(sh, "ss -H -t -n {filter...}")).deadline(QUICK);
    let left = call.read().map_err(|error| missing(&error)).context("looking for connections")?;
    if left.is_empty() {
        Ok(closed.lines().count())
    } else {
        bail!("connections that stay open: {}", left.lines().count())
    }
}

/// Closes a connection of this process to itself: a kernel that cannot do that is known before it matters.
pub fn proven() -> Result<()> {
    let proof = || -> std::io::Result<(TcpListener, TcpStream, u16)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(QUICK))?;
        Ok((listener, stream, port))
    };
    let (_listener, mut stream, port) = proof().context("connecting to this process itself")?;
    let port = format!(":{port}");
    let filter = ["state", "established", "dst", "127.0.0.1", "and", "dport", "=", &port].map(String::from);
    let closed = close(&filter);
    let mut read = || match stream.read(&mut [0]).map_err(|error| error.kind()) {
        // With a deadline even a machine that is stopped and goes on ends it early.
        Err(ErrorKind::Interrupted) => stream.read(&mut [0]).map_err(|error| error.kind()),
        end => end,
    };
    match closed {
        Ok(1) if read() == Err(ErrorKind::ConnectionAborted) => Ok(()),
        Err(error) if error.downcast_ref::<pc_cli::Refused>().is_some() => Err(error),
        answer => Err(refused(format!(
            "closing a connection of this process to itself: {}\n  \
             it takes CAP_NET_ADMIN and a kernel with CONFIG_INET_DIAG_DESTROY",
            answer.map_or_else(|error| format!("{error:#}"), |_| "it stays open".into())
        ))),
    }
}

fn missing(error: &pc_run::Error) -> anyhow::Error {
    if error.is_missing() { refused(error.to_string()) } else { anyhow::anyhow!("{error}") }
}
