//! The join socket: opened when a token is made, closed when the last one is gone.

use std::time::Duration;

use anyhow::{Context, Result};
use pc_cli::log;

use crate::files;
use crate::paths::Paths;
use crate::systemd::Systemd;
use crate::wire::PORT;
use crate::x509::Names;

/// The listener.
pub const SOCKET: &str = "pc-trust.socket";
/// What answers on it.
pub const SERVICE: &str = "pc-trust.service";
const DROP_IN: &str = "/run/systemd/system/pc-trust.socket.d/50-address.conf";

/// `address:port`, with brackets around an IPv6 address.
pub fn endpoint(names: &Names) -> String {
    std::net::SocketAddr::new(names.address, PORT).to_string()
}

/// Listens on this node's own address only.
pub fn open(paths: &Paths, names: &Names) -> Result<()> {
    let Some(systemd) = Systemd::of(paths)? else {
        if paths.is_machine() {
            let endpoint = endpoint(names);
            log::warning(format_args!(
                "systemd does not run here, so nothing listens\n  pc-trust serve --listen {endpoint}"
            ));
        }
        return Ok(());
    };
    let drop_in = paths.at(DROP_IN);
    if let Some(directory) = drop_in.parent() {
        files::make_public(directory)?;
    }
    let content = format!(
        "# The node's address, out of the cluster file.\n[Socket]\nListenStream=\nListenStream={}\n",
        endpoint(names)
    );
    if files::put_public(&drop_in, &content)? {
        systemd.reload()?;
    }
    // The service holds the socket's end in mind even if nobody connects.
    systemd
        .start(SOCKET, Duration::from_secs(60))
        .and_then(|()| systemd.start(SERVICE, Duration::from_secs(120)))
        .context("opening the join socket")
}

/// Stops listening.
pub fn close(paths: &Paths) -> Result<()> {
    match Systemd::of(paths)? {
        Some(systemd) => systemd.stop(SOCKET).context("closing the join socket"),
        None => Ok(()),
    }
}
