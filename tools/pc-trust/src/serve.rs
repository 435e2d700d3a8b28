//! The member's side of a join: answers on the socket while a token is outstanding, then closes it.

use std::net::{IpAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use cluster::Cluster;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pc_cli::{Common, Exit, Refused, TryAgain, log, refused};
use rustls::{ServerConfig, ServerConnection, Stream};

use crate::authority::Authority;
use crate::member::Member;
use crate::paths::{CA_CERTIFICATE, COROSYNC_KEY, NODE_CERTIFICATE, NODE_KEY, Paths, RECOVERY_KEY};
use crate::token::Side;
use crate::tokens::{NO, Tokens};
use crate::wire::{self, Answer, Hello, Joined, Request};
use crate::x509::Names;
use crate::{apply, door, files, secrets, ssh, tls, x509};

/// A stranger has this long to show that it knows the token.
const STRANGER: Duration = Duration::from_secs(60);
/// A joiner then has this long to seal its key; machines under emulation are slow.
const SEALING: Duration = Duration::from_secs(180);
/// Connections at a time; more are dropped.
const AT_ONCE: usize = 32;
/// Connections of one address at a time: a stranger who holds some keeps nobody else out.
const PER_ADDRESS: usize = 4;
/// So often the tokens are looked at: they expire, and one is made without our being told.
const MOMENT: Duration = Duration::from_secs(1);
/// What `pc-config` keeps of the last generation, as it was signed.
const GENERATION: &str = "/var/lib/personal-cluster/generation.json";

struct Host {
    common: Common,
    paths: Paths,
    tls: Arc<ServerConfig>,
    busy: Mutex<Vec<IpAddr>>,
    left: Condvar,
}

/// `pc-trust serve`: on systemd's socket, or on `listen`.
pub fn serve(common: &Common, listen: Option<&str>) -> Result<Exit> {
    let paths = Paths::new(&common.root);
    Member::required(&paths)?;
    let listener = match listen {
        Some(address) => TcpListener::bind(address).with_context(|| format!("listening on {address}"))?,
        None => listenfd::ListenFd::from_env()
            .take_tcp_listener(0)
            .context("taking systemd's socket")?
            .context("no socket was handed over\n  `systemctl start pc-trust.socket`, or `pc-trust token NODE`, which does it")?,
    };
    listener.set_nonblocking(true).context("preparing the socket")?;
    if listen.is_some() {
        log::info(format_args!("listening on {}", listener.local_addr().context("asking for the port")?));
    }
    let of = |name| files::read(&paths.trust(name)).map(Option::unwrap_or_default);
    let key = secrets::needed(&paths, NODE_KEY)?;
    let tls = tls::server(&of(NODE_CERTIFICATE)?, &of(CA_CERTIFICATE)?, &key)?;
    let host = Arc::new(Host {
        common: common.clone(),
        paths,
        tls,
        busy: Mutex::new(Vec::new()),
        left: Condvar::new(),
    });
    // A systemd that is not there is not told.
    let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Ready]);
    attend(&host, &listener)?;
    door::close(&host.paths)?;
    Ok(Exit::Done)
}

/// Until no token is left and nobody is being served. Without a token nobody new is let in: strangers who keep
/// coming do not keep us here.
fn attend(host: &Arc<Host>, listener: &TcpListener) -> Result<()> {
    let mut said = String::new();
    let mut knocks = false;
    loop {
        let tokens = Tokens::lock(&host.paths)?.outstanding()?;
        let names: Vec<&str> = tokens.iter().map(|token| token.node.as_str()).collect();
        let status = if names.is_empty() {
            "ending: every token is used or expired".into()
        } else {
            format!("waiting for {}", names.join(", "))
        };
        if status != said {
            let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Status(&status)]);
            said = status;
        }
        if tokens.is_empty() {
            if host.is_idle_within(MOMENT) {
                return Ok(());
            }
            // Still busy; and a token may have been made in the meantime.
            continue;
        }
        if knocks {
            match listener.accept() {
                Ok((socket, peer)) => welcome(host, socket, peer.ip()),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                // The peer has gone again, or descriptors are short: neither ends the service.
                Err(error) => log::debug(format_args!("accepting: {error}")),
            }
        }
        let mut ready = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        let moment = PollTimeout::try_from(MOMENT).context("waiting for connections")?;
        knocks = poll(&mut ready, moment).context("waiting for connections")? > 0;
    }
}

impl Host {
    /// Who is being served. The list is whole after every statement, so a thread that died did not break it.
    fn busy(&self) -> MutexGuard<'_, Vec<IpAddr>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reserve(&self, peer: IpAddr) -> bool {
        let mut busy = self.busy();
        let room = busy.len() < AT_ONCE && busy.iter().filter(|other| **other == peer).count() < PER_ADDRESS;
        if room {
            busy.push(peer);
        }
        room
    }

    fn release(&self, peer: IpAddr) {
        let mut busy = self.busy();
        if let Some(index) = busy.iter().position(|other| *other == peer) {
            busy.swap_remove(index);
        }
        self.left.notify_all();
    }

    /// Whether nobody is being served, now or before `time` is over.
    fn is_idle_within(&self, time: Duration) -> bool {
        let waited = self.left.wait_timeout_while(self.busy(), time, |busy| !busy.is_empty());
        waited.unwrap_or_else(PoisonError::into_inner).0.is_empty()
    }
}

fn welcome(host: &Arc<Host>, socket: TcpStream, peer: IpAddr) {
    if !host.reserve(peer) {
        log::debug(format_args!("{peer}: too many connections"));
        return;
    }
    let host = host.clone();
    std::thread::spawn(move || {
        match converse(&host, socket) {
            Ok(node) => log::info(format_args!("{node} joined from {peer}")),
            Err(error) => log::warning(format_args!("{peer}: {error:#}")),
        }
        host.release(peer);
    });
}

/// One connection: the name of the node that joined.
fn converse(host: &Host, socket: TcpStream) -> Result<String> {
    socket.set_nonblocking(false).context("preparing the connection")?;
    let _ = socket.set_nodelay(true);
    let mut socket = tls::Timed::new(socket, STRANGER);
    let mut connection = ServerConnection::new(host.tls.clone()).context("preparing TLS")?;
    let hello: Hello = wire::receive(&mut Stream::new(&mut connection, &mut socket), wire::LIMIT)?;
    let session = tls::session(&connection)?;
    let answer = |connection: &mut ServerConnection, socket: &mut tls::Timed, answer: Result<Answer>| {
        let (message, error) = match answer {
            Ok(message) => (message, None),
            Err(error) => (refusal(&error), Some(error)),
        };
        let limit = if matches!(message, Answer::Welcome { .. }) { wire::WELCOME_LIMIT } else { wire::LIMIT };
        wire::send(&mut Stream::new(connection, socket), &message, limit)?;
        error.map_or(Ok(()), Err)
    };
    let welcome = greet(host, &hello, session.as_ref());
    answer(&mut connection, &mut socket, welcome)?;
    socket.extend(SEALING);
    let request: Request = wire::receive(&mut Stream::new(&mut connection, &mut socket), wire::LIMIT)?;
    let joined = admit(host, &hello.node, &request).map(|joined| Answer::Joined(Box::new(joined)));
    answer(&mut connection, &mut socket, joined)?;
    connection.send_close_notify();
    let _ = connection.complete_io(&mut socket);
    Ok(hello.node)
}

/// What the other side is told. Of our own troubles it learns no details.
fn refusal(error: &anyhow::Error) -> Answer {
    if let Some(Refused(message)) = error.downcast_ref() {
        return Answer::Refused { message: message.clone() };
    }
    if let Some(TryAgain(message)) = error.downcast_ref() {
        return Answer::TryAgain { message: message.clone() };
    }
    Answer::TryAgain { message: "this member has a fault: `journalctl -u pc-trust` there says which".into() }
}

/// Checks the proof and hands over the file, which a joiner needs to seal its key.
fn greet(host: &Host, hello: &Hello, session: &[u8]) -> Result<Answer> {
    if hello.schema != wire::SCHEMA {
        return Err(refused(format!("this member speaks {}, not {:.40}", wire::SCHEMA, hello.schema)));
    }
    let fits =
        |verifier: &crate::token::Verifier| verifier.check(Side::Joiner, &hello.node, session, &hello.proof);
    let verifier = Tokens::lock(&host.paths)?.try_proof(&hello.node, fits)?;
    let Some(verifier) = verifier else {
        return Err(refused(format!(
            "{NO}\n  `pc-trust token {:.63}` on a member makes a new one",
            hello.node
        )));
    };
    let (cluster, file) = cluster_file(host)?;
    names(&cluster, &hello.node)?;
    let generation = match files::read(&host.paths.at(GENERATION))? {
        Some(signed) => signed,
        None => file.clone(),
    };
    Ok(Answer::Welcome { proof: verifier.prove(Side::Member, &hello.node, session), file, generation })
}

fn cluster_file(host: &Host) -> Result<(Cluster, String)> {
    let path = host.common.cluster_file();
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let cluster = cluster::parse(&path.display().to_string(), &text).map_err(anyhow::Error::new)?;
    Ok((cluster, text))
}

fn names(cluster: &Cluster, node: &str) -> Result<Names> {
    Names::of(cluster, cluster.view(node).map_err(refused)?.node)
}

/// Uses the token up and signs. Everything that can be wrong with the request is found before.
fn admit(host: &Host, node: &str, request: &Request) -> Result<Joined> {
    let key = x509::read_request(&request.csr)?;
    ssh::ed25519(&request.ssh_user_key)?;
    if let Some(host_key) = &request.ssh_host_key {
        ssh::ed25519(host_key)?;
    }
    let (cluster, _) = cluster_file(host)?;
    let names = names(&cluster, node)?;
    let authority = Authority::open(&host.paths)?;
    let recovery_key = secrets::needed(&host.paths, RECOVERY_KEY)?;
    let Some(corosync_key) = secrets::read(&host.paths, COROSYNC_KEY)? else {
        bail!("{} is not open", host.paths.secret(COROSYNC_KEY).display());
    };
    if !Tokens::lock(&host.paths)?.take(node)? {
        return Err(refused(NO));
    }
    let issued =
        authority.issue(&host.paths, &names, &key, request.ssh_host_key.as_deref(), &request.ssh_user_key)?;
    Ok(Joined {
        node_certificate: issued.node,
        ssh_host_certificate: issued.ssh_host,
        ssh_user_certificate: issued.ssh_user,
        ssh_ca: authority.ssh_public.clone(),
        ca_keys: authority.wrapped.clone(),
        recovery_key: recovery_key.to_string(),
        corosync_key: BASE64.encode(&*corosync_key),
    })
}

/// `pc-trust token NODE`: the text that the node's `join` wants.
pub fn token(common: &Common, node: &str) -> Result<Exit> {
    let paths = Paths::new(&common.root);
    let member = Member::required(&paths)?;
    // The file that the service answers by; the one being edited only where nothing was applied.
    let applied = common.under_root(pc_cli::APPLIED_FILE).exists() && common.file.is_none();
    let cluster = apply::load(&Common { applied, ..common.clone() })?;
    if cluster.nodes.iter().all(|known| known.name.as_str() != node) {
        let unknown = cluster
            .view(node)
            .err()
            .map_or_else(|| format!("{node:?} is not a node's name"), |error| error.told());
        return Err(refused(format!(
            "{unknown}\n  name one of them; a file with a new node is put in force by `pc-config push FILE`"
        )));
    }
    let own = names(&cluster, &member.node)?;
    secrets::needed(&paths, RECOVERY_KEY)?;
    let issued = crate::init::join_line(&paths, &own, node)?;
    door::open(&paths, &own)?;
    let heard = pc_cli::emit_heard(common.json, &issued);
    let Err(error) = heard else { return Ok(Exit::Done) };
    // It is shown this once: a token that nobody has read must neither look like success nor open the door.
    let ended = match issued.revoke(&paths) {
        Ok(()) => "this token has ended".to_string(),
        Err(error) => format!("this token could not be ended: {error:#}"),
    };
    bail!("nobody has read the answer: {error:#}; {ended}\n  pc-trust token {node}");
}
