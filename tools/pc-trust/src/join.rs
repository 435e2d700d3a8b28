//! The joiner's side: becomes a member, or leaves the machine as it was.

use std::fmt;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use cluster::Cluster;
use pc_cli::{Common, Exit, log, refused, try_again};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, Stream};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::member::{self, Member, NodeKeys};
use crate::paths::{COROSYNC_KEY, NODE_KEY, Paths, RECOVERY_KEY, SSH_USER_KEY};
use crate::secrets::{self, Keeper};
use crate::token::{Side, Token, hex};
use crate::wire::{self, Answer, Hello, Joined, PORT, Request};
use crate::x509::Names;
use crate::{apply, authority, recovery, siblings, ssh, tls, x509};

const CONNECTING: Duration = Duration::from_secs(30);
const TALKING: Duration = Duration::from_secs(60);

/// `pc.trust.join/1`.
#[derive(Debug, Serialize)]
struct Answered {
    schema: &'static str,
    node: String,
    cluster: String,
    ca_sha256: String,
}

impl fmt::Display for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} is a member of {}", self.node, self.cluster)
    }
}

/// An open session with a member whose CA the token pins.
struct Session {
    connection: ClientConnection,
    socket: tls::Timed,
    /// The CA's certificate, PEM.
    ca: String,
}

/// `pc-trust join ADDRESS TOKEN`.
pub fn join(common: &Common, address: &str, token: &str) -> Result<Exit> {
    let paths = Paths::new(&common.root);
    let node = common.node_name()?;
    let node = node.split('.').next().unwrap_or_default().to_string();
    let token = if token == "-" {
        Zeroizing::new(
            std::io::read_to_string(std::io::stdin()).context("reading the token from standard input")?,
        )
    } else {
        Zeroizing::new(token.to_string())
    };
    let token = Arc::new(Token::parse(&token)?);
    let before = Member::read(&paths)?;
    secrets::refuse_left_over(&paths)?;
    let mut session = connect(address, &token)?;
    let ca_sha256 = hex(&x509::pem_fingerprint(&session.ca)?);
    if let Some(member) = before.filter(|member| member.ca_sha256 != ca_sha256) {
        return Err(refused(format!(
            "this node is a member of another cluster, {}\n  to leave it for good, move /etc/personal-cluster and /run/personal-cluster/secrets away",
            member.cluster
        )));
    }
    let (file, generation) = session.greet(&node, &token)?;
    let cluster = cluster::parse("the member's cluster file", &file).map_err(refused)?;
    let names = Names::of(&cluster, cluster.view(&node).map_err(refused)?.node)?;
    apply::refuse_foreign(common, &paths, &cluster, &names)?;
    secrets::warn_of_swap(&paths)?;
    let keys = NodeKeys::load_or_make(&paths, &node)?;
    let keeper = Keeper::new(&paths, &cluster, &file)?;
    // The first thing that stays: it fails here, with the token still good, when no unlocker answers.
    keeper.keep(NODE_KEY, keys.tls_pem().as_bytes())?;
    let joined = session.ask(&paths, &node, &keys)?;
    check(&joined, &session.ca, &names, &keys)?;
    settle(&paths, &keeper, &keys, &joined, &session.ca)?;
    siblings::put_file(&paths, &node, &generation)?;
    become_member(common, &paths, &cluster, &names, &session.ca)?;
    let cluster = cluster.name.to_string();
    pc_cli::emit(common.json, &Answered { schema: "pc.trust.join/1", node, cluster, ca_sha256 })?;
    Ok(Exit::Done)
}

/// Keeps and opens all secrets, then writes the certificates.
fn settle(paths: &Paths, keeper: &Keeper<'_>, keys: &NodeKeys, joined: &Joined, ca: &str) -> Result<()> {
    let corosync_key = Zeroizing::new(BASE64.decode(&joined.corosync_key).context("reading corosync's key")?);
    let recovery_key = recovery::parse(&joined.recovery_key)?;
    let tls = keys.tls_pem();
    let all: [(&str, &[u8]); 3] = [
        (SSH_USER_KEY, keys.ssh.private.as_bytes()),
        (COROSYNC_KEY, &corosync_key),
        (RECOVERY_KEY, recovery_key.as_bytes()),
    ];
    for (name, secret) in all {
        keeper.keep(name, secret)?;
    }
    for (name, secret) in all.into_iter().chain([(NODE_KEY, tls.as_bytes())]) {
        secrets::open(paths, name, secret)?;
    }
    keeper.prove()?;
    member::write_authority(paths, ca, &joined.ssh_ca, &joined.ca_keys)?;
    member::write_ssh_public(paths, &keys.ssh.public)?;
    member::write_issued(
        paths,
        &authority::Issued {
            node: joined.node_certificate.clone(),
            ssh_host: joined.ssh_host_certificate.clone(),
            ssh_user: joined.ssh_user_certificate.clone(),
        },
    )
}

/// Puts links and drop-ins in place, and then the file that makes this node a member.
pub fn become_member(
    common: &Common,
    paths: &Paths,
    cluster: &Cluster,
    names: &Names,
    ca: &str,
) -> Result<()> {
    apply::settle(common, paths, cluster, names)?;
    Member::write(paths, &names.node, cluster.name.as_str(), ca)?;
    log::info(format_args!("{} is a member of {}", names.node, cluster.name));
    Ok(())
}

/// A member is trusted with what it says, but a mistake is found before anything is written.
fn check(joined: &Joined, ca: &str, names: &Names, keys: &NodeKeys) -> Result<()> {
    let facts = x509::issued_by(&joined.node_certificate, ca)?;
    if facts.common_name != names.node || facts.public_key != keys.tls.public_key_raw() {
        bail!("the member signed another name or key");
    }
    if ssh::ed25519(&joined.ssh_user_certificate)? != ssh::ed25519(&keys.ssh.public)? {
        bail!("the member signed another SSH key");
    }
    ssh::ed25519(&joined.ssh_ca)?;
    recovery::parse(&joined.recovery_key)?;
    Ok(())
}

/// `host`, `host:port`, `[v6]:port` or a bare IPv6 address.
fn endpoint(address: &str) -> (String, u16) {
    if address.parse::<std::net::IpAddr>().is_ok() {
        return (address.into(), PORT);
    }
    if let Ok(socket) = address.parse::<std::net::SocketAddr>() {
        return (socket.ip().to_string(), socket.port());
    }
    match address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?))) {
        Some((host, port)) => (host.into(), port),
        None => (address.into(), PORT),
    }
}

fn connect(address: &str, token: &Arc<Token>) -> Result<Session> {
    let (host, port) = endpoint(address);
    let doing = format!("connecting to {host} port {port}");
    let known = (host.as_str(), port).to_socket_addrs().with_context(|| doing.clone())?;
    let mut last = anyhow!("no address");
    let mut socket = None;
    for candidate in known {
        match pc_run::timed(|| TcpStream::connect_timeout(&candidate, CONNECTING)) {
            Ok(stream) => {
                socket = Some(stream);
                break;
            }
            Err(error) => last = anyhow!(error),
        }
    }
    let Some(socket) = socket else {
        let remedy = "a member listens for 15 minutes after `pc-trust token NODE`";
        return Err(try_again(format!("{doing}: {last}\n  {remedy}")));
    };
    let _ = socket.set_nodelay(true);
    let mut socket = tls::Timed::new(socket, TALKING);
    // Any node may answer: the name is not checked, but TLS wants one.
    let name = ServerName::try_from("personal-cluster").context("preparing TLS")?;
    let mut connection = ClientConnection::new(tls::client(token.clone())?, name).context("preparing TLS")?;
    while connection.is_handshaking() {
        pc_run::timed(|| connection.complete_io(&mut socket))
            .map_err(|error| untrusted(&error))
            .with_context(|| doing.clone())?;
    }
    let der = tls::pinned_ca(connection.peer_certificates(), token)?;
    Ok(Session { connection, socket, ca: x509::to_pem(&der) })
}

/// TLS that was refused is not worth repeating; a connection that broke is.
fn untrusted(error: &std::io::Error) -> anyhow::Error {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::General(why)) => refused(why),
        Some(error) => refused(format!("not a member of the cluster of this token: {error}")),
        None => try_again(error),
    }
}

impl Session {
    fn exchange(&mut self, message: &impl Serialize, patience: Duration, limit: usize) -> Result<Answer> {
        self.socket.extend(patience);
        let mut stream = Stream::new(&mut self.connection, &mut self.socket);
        let answer = pc_run::timed(|| {
            wire::send(&mut stream, message, wire::LIMIT).and_then(|()| wire::receive(&mut stream, limit))
        });
        match answer.map_err(|error| try_again(format!("talking to the member: {error:#}")))? {
            Answer::Refused { message } => Err(refused(format!("the member refuses: {message}"))),
            Answer::TryAgain { message } => Err(try_again(format!("the member cannot: {message}"))),
            answer => Ok(answer),
        }
    }

    /// Proves and checks the token: the cluster file, and what `pc-config put` takes.
    fn greet(&mut self, node: &str, token: &Token) -> Result<(String, String)> {
        let session = tls::session(&self.connection)?;
        let verifier = token.verifier();
        let proof = verifier.prove(Side::Joiner, node, session.as_ref());
        let hello = Hello { schema: wire::SCHEMA.into(), node: node.into(), proof };
        let Answer::Welcome { proof, file, generation } =
            self.exchange(&hello, TALKING, wire::WELCOME_LIMIT)?
        else {
            bail!("the member answered something else");
        };
        if !verifier.check(Side::Member, node, session.as_ref(), &proof) {
            return Err(refused("the other side does not know the token: it is not the member that made it"));
        }
        Ok((file, generation))
    }

    fn ask(&mut self, paths: &Paths, node: &str, keys: &NodeKeys) -> Result<Box<Joined>> {
        let request = Request {
            csr: x509::request(node, &keys.tls)?,
            ssh_host_key: ssh::host_key(paths)?,
            ssh_user_key: keys.ssh.public.clone(),
        };
        let Answer::Joined(joined) = self.exchange(&request, 2 * TALKING, wire::LIMIT)? else {
            bail!("the member answered something else");
        };
        Ok(joined)
    }
}

#[cfg(test)]
mod tests {
    use super::endpoint;

    #[test]
    fn addresses_as_people_write_them() {
        for (address, host, port) in [
            ("192.0.2.1", "192.0.2.1", 7625),
            ("192.0.2.1:99", "192.0.2.1", 99),
            ("node1", "node1", 7625),
            ("node1:99", "node1", 99),
            ("2001:db8::1", "2001:db8::1", 7625),
            ("[2001:db8::1]:99", "2001:db8::1", 99),
        ] {
            assert_eq!(endpoint(address), (host.to_string(), port));
        }
    }
}
