//! Does the node still reach anyone? Any sign of life counts: an open port, a refusal, an answer on the wire.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use cluster::NodeView;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::ip;
use crate::record::Probe;
use crate::refusal::ip as bare;
use crate::want::Want;

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Everyone the file names, and whoever is logged in: peers, router, Tang servers.
pub fn targets(view: &NodeView, want: &Want, client: Option<IpAddr>) -> Probe {
    let mut targets: Vec<SocketAddr> = Vec::new();
    let host = want.host.as_ref();
    let mut ask = |address: IpAddr, port: u16| {
        let target = SocketAddr::new(address, port);
        if !targets.contains(&target) {
            targets.push(target);
        }
    };
    for peer in view.peers().filter_map(cluster::Node::ip) {
        ask(peer, 22);
    }
    if let Some(router) = host.and_then(|host| host.router) {
        ask(router, 22);
    }
    let servers = view.cluster.unlock.iter().flat_map(|unlock| &unlock.tang);
    for (address, port) in servers.filter_map(|tang| server(&tang.url)) {
        ask(address, port);
    }
    if let Some(client) = client {
        ask(client, 22);
    }
    Probe {
        interface: host.map(|host| host.interface.clone()),
        source: host.and_then(|host| bare(&host.address)),
        targets,
    }
}

/// Address and port of `http://address[:port][/path]`; a name cannot be asked while the network changes.
fn server(url: &str) -> Option<(IpAddr, u16)> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?']).next()?;
    if let Ok(full) = authority.parse::<SocketAddr>() {
        return Some((full.ip(), full.port()));
    }
    let address = authority.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
    Some((address, if scheme == "https" { 443 } else { 80 }))
}

/// Asks everyone once; the first who answers.
pub fn ask(probe: &Probe) -> Option<IpAddr> {
    let source = probe.source;
    let reachable = |target: &SocketAddr| source.is_none_or(|source| source.is_ipv4() == target.is_ipv4());
    let through = probe.interface.as_deref();
    let (sender, receiver) = std::sync::mpsc::channel();
    for target in probe.targets.iter().copied().filter(reachable) {
        let (sender, through) = (sender.clone(), through.map(str::to_string));
        std::thread::spawn(move || {
            if answers(through.as_deref(), source, target) {
                let _ = sender.send(target.ip());
            }
        });
    }
    drop(sender);
    if let Ok(answered) = pc_run::timed(|| receiver.recv_timeout(PATIENCE + Duration::from_millis(200))) {
        return Some(answered);
    }
    // A firewall may swallow every packet, and yet its owner has answered who-has on the wire.
    let heard = ip::answering_neighbours(through?).ok()?;
    heard.into_iter().find(|address| probe.targets.iter().any(|target| target.ip() == *address))
}

/// A TCP connection is accepted, or refused: both take someone at the other end. It leaves by the interface
/// `through` with the address `source`, since an answer through another NIC does not count (the address alone would not
/// choose the way: Linux sends it out of any); without them the node's address is not what changes.
fn answers(through: Option<&str>, source: Option<IpAddr>, target: SocketAddr) -> bool {
    let attempt = || -> std::io::Result<()> {
        let socket = Socket::new(Domain::for_address(target), Type::STREAM, None)?;
        if let Some(interface) = through {
            socket.bind_device(Some(interface.as_bytes()))?;
        }
        if let Some(source) = source {
            socket.bind(&SockAddr::from(SocketAddr::new(source, 0)))?;
        }
        socket.connect_timeout(&SockAddr::from(target), PATIENCE)
    };
    match attempt() {
        Ok(()) => true,
        Err(error) => error.kind() == ErrorKind::ConnectionRefused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_from_urls() {
        for (url, expected) in [
            ("http://192.168.0.2", Some("192.168.0.2:80")),
            ("http://192.168.0.2:7500/adv", Some("192.168.0.2:7500")),
            ("https://[fd00::2]/", Some("[fd00::2]:443")),
            ("http://[fd00::2]:81", Some("[fd00::2]:81")),
            ("http://tang.home.arpa", None),
            ("192.168.0.2", None),
        ] {
            let found = server(url).map(|(address, port)| SocketAddr::new(address, port).to_string());
            assert_eq!(found.as_deref(), expected, "{url}");
        }
    }

    #[test]
    fn an_open_port_and_a_refusal_both_answer() {
        let here: IpAddr = "127.0.0.1".parse().unwrap();
        let listener = std::net::TcpListener::bind((here, 0)).unwrap();
        let open = listener.local_addr().unwrap();
        assert!(answers(Some("lo"), Some(here), open) && answers(None, None, open));
        drop(listener);
        assert!(answers(None, Some(here), open), "a closed port refuses");
        assert!(!answers(None, "192.0.2.77".parse().ok(), open), "an address we do not have asks nobody");
    }
}
