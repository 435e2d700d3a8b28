//! The libvirt daemons of the cluster: this node's, and the others' through TLS.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};
use cluster::{Node, NodeView};
use pc_cli::try_again;

use crate::hypervisor::{Destination, Hypervisor, LOOK, Live, QUICK};
use crate::owner::Answer;

/// libvirt's TLS port.
pub const TLS_PORT: u16 = 16514;
/// A listener answers a SYN at once, even on an emulated machine; a dead node never does.
const KNOCK: Duration = Duration::from_secs(3);
/// A daemon that had to be started by its socket first may need longer: then it answers the next time.
const CONNECT: Duration = Duration::from_secs(20);

/// How libvirt is reached. Tests put other URIs here.
#[derive(Debug, Clone, clap::Args)]
pub struct Uris {
    /// libvirt of this node
    #[arg(long, global = true, value_name = "URI", default_value = "qemu:///system", hide = true)]
    pub connect: String,
    /// libvirt of another node; `{address}` stands for its address, which its certificate carries beside its name
    #[arg(
        long,
        global = true,
        value_name = "URI",
        default_value = "qemu+tls://{address}/system",
        hide = true
    )]
    pub connect_peer: String,
}

/// All nodes, seen from this one.
#[derive(Debug, Clone)]
pub struct Nodes<'a> {
    /// This node's view of the file.
    pub view: NodeView<'a>,
    /// How the daemons are reached.
    pub uris: &'a Uris,
}

impl<'a> Nodes<'a> {
    /// The name of this node.
    pub fn me(&self) -> &'a str {
        self.view.node.name.as_str()
    }

    /// Finds a node of the file.
    pub fn named(&self, name: &str) -> Option<&'a Node> {
        self.view.cluster.nodes.iter().find(|node| node.name.as_str() == name)
    }

    /// This node's libvirt, to do something.
    pub fn local(&self) -> Result<Hypervisor> {
        self.local_within(QUICK)
    }

    /// This node's libvirt, connected and looked at within `patience` a call.
    pub fn local_within(&self, patience: Duration) -> Result<Hypervisor> {
        Hypervisor::open(&self.uris.connect, "this node", patience).map_err(|error| {
            let remedy = "systemctl status libvirtd.socket libvirtd.service";
            try_again(format!("libvirt does not answer: {error:#}\n  {remedy}"))
        })
    }

    /// The URI of any node's libvirt, as another node reaches it. No name service is needed.
    pub fn uri_of(&self, node: &Node) -> Result<String> {
        let address = match address_of(node)? {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        };
        Ok(self.uris.connect_peer.replace("{address}", &address))
    }

    /// The URI of a node's libvirt for a program that runs here.
    pub fn uri_from_here(&self, node: &Node) -> Result<String> {
        if node.name == self.view.node.name { Ok(self.uris.connect.clone()) } else { self.uri_of(node) }
    }

    /// The libvirt of any node.
    pub fn of(&self, node: &Node) -> Result<Hypervisor> {
        if node.name == self.view.node.name {
            return self.local();
        }
        self.peer(node)
    }

    fn peer(&self, node: &Node) -> Result<Hypervisor> {
        let uri = self.uri_of(node)?;
        if uri.starts_with("qemu+tls:") {
            knock(node)?;
        }
        Hypervisor::open(&uri, node.name.as_str(), CONNECT)
    }

    /// What a domain does on a node.
    pub fn live_on(&self, node: &Node, uuid: &str) -> Result<Option<Live>> {
        self.of(node)?.live(uuid, CONNECT)
    }

    /// What the other nodes of the file say, by name; all are asked at once.
    pub fn answers(&self, ask: impl Fn(&Node) -> Answer + Sync) -> BTreeMap<&'a str, Answer> {
        let ask = &ask;
        let others = self.view.cluster.nodes.iter().filter(|node| node.name != self.view.node.name);
        std::thread::scope(|scope| {
            let asked: Vec<_> =
                others.map(|node| (node.name.as_str(), scope.spawn(move || ask(node)))).collect();
            let lost = |_| Answer::Silent("asking it ended badly".into());
            asked.into_iter().map(|(name, thread)| (name, thread.join().unwrap_or_else(lost))).collect()
        })
    }

    /// Whether a domain runs on a node, as its libvirt says, which may have lost one.
    pub fn ask(&self, node: &Node, uuid: &str) -> Answer {
        match self.live_on(node, uuid) {
            Ok(Some(live)) if live.active => Answer::Runs,
            Ok(_) => Answer::Idle,
            Err(error) => Answer::Silent(format!("{error:#}")),
        }
    }

    /// Asks all nodes at once, none of them for long; gives what each said, in the order of the file.
    pub fn everywhere<T: Send>(
        &self,
        ask: impl Fn(&Hypervisor) -> Result<T> + Sync,
    ) -> Vec<(&'a Node, Result<T>)> {
        let nodes = &self.view.cluster.nodes;
        let look = |node: &Node| {
            if node.name == self.view.node.name { self.local_within(LOOK) } else { self.peer(node) }
        };
        std::thread::scope(|scope| {
            let (look, ask) = (&look, &ask);
            let asked: Vec<_> = nodes
                .iter()
                .map(|node| (node, scope.spawn(move || look(node).and_then(|hypervisor| ask(&hypervisor)))))
                .collect();
            let lost = || Err(try_again("asking it ended badly"));
            asked.into_iter().map(|(node, thread)| (node, thread.join().unwrap_or_else(|_| lost()))).collect()
        })
    }

    /// The node that runs a domain: this one first, then the others. `Err` when it was not found and somebody
    /// did not answer.
    pub fn runs_on(&self, uuid: &str) -> Result<Option<&'a Node>> {
        if self.live_on(self.view.node, uuid)?.is_some_and(|live| live.active) {
            return Ok(Some(self.view.node));
        }
        let mut silent = Vec::new();
        for (node, live) in self.everywhere(|hypervisor| hypervisor.live(uuid, CONNECT)) {
            match live {
                Ok(Some(live)) if live.active => return Ok(Some(node)),
                Ok(_) => {}
                Err(error) => silent.push(format!("{}: {error:#}", node.name)),
            }
        }
        if silent.is_empty() {
            return Ok(None);
        }
        Err(try_again(format!("it runs on no node that answers; {}", silent.join("; "))))
    }

    /// Where a guest would be moved to.
    pub fn destination(&self, node: &Node) -> Result<Destination> {
        let address = address_of(node)?;
        Ok(Destination { uri: self.uri_of(node)?, address, name: node.name.to_string() })
    }
}

/// The address of a node; the loader has checked it.
pub fn address_of(node: &Node) -> Result<IpAddr> {
    node.ip().with_context(|| format!("node {}: {:?} is not an address", node.name, node.address))
}

fn knock(node: &Node) -> Result<()> {
    let to = SocketAddr::new(address_of(node)?, TLS_PORT);
    match pc_run::timed(|| TcpStream::connect_timeout(&to, KNOCK)) {
        Ok(_) => Ok(()),
        Err(error) => Err(try_again(format!("connecting to libvirt of {} ({to}): {error}", node.name))),
    }
}
