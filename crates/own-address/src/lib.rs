//! Whether an address is one of this machine's: what tells a node from another one when a host name was cloned or `--node`
//! mistyped.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use pc_cli::log;

/// Whether an interface of this machine has the address: a datagram that is sent from it to itself arrives. Binding alone
/// says nothing where `net.ipv4.ip_nonlocal_bind` is set.
pub fn is_ours(address: IpAddr) -> bool {
    let heard = || -> std::io::Result<bool> {
        let socket = UdpSocket::bind((address, 0))?;
        // Only what it sends itself gets in.
        socket.connect(socket.local_addr()?)?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        socket.send(b"?")?;
        Ok(socket.recv(&mut [0])? == 1)
    };
    heard().unwrap_or_else(|error| {
        log::debug(format_args!("{address} is no address of this machine: {error}"));
        false
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects")]
    use super::*;

    #[test]
    fn the_kernel_knows_which_addresses_are_ours() {
        assert!(is_ours("127.0.0.1".parse().unwrap()));
        // Reserved for documentation (RFC 5737): on no interface of anybody.
        assert!(!is_ours("203.0.113.77".parse().unwrap()));
    }
}
