//! The first node: makes the CA and all that a cluster has only one of.

use std::fmt;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};
use cluster::Cluster;
use pc_cli::{Common, Exit, log, refused};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::authority::Authority;
use crate::lost::{self, Way};
use crate::member::{self, Member, NodeKeys};
use crate::paths::{COROSYNC_KEY, NODE_KEY, Paths, RECOVERY_KEY, SSH_USER_KEY};
use crate::recovery::{self, RecoveryKey};
use crate::secrets::{self, Keeper};
use crate::token::{Token, hex};
use crate::tokens::{LIFE, Tokens};
use crate::wire::PORT;
use crate::x509::Names;
use crate::{apply, door, files, join, siblings, ssh, x509};

/// Corosync's key is 256 random bytes (corosync-keygen(8)).
const COROSYNC_KEY_BYTES: usize = 256;

/// A token, as `pc.trust.token/1`.
#[derive(Debug, Serialize)]
pub struct JoinLine {
    schema: &'static str,
    node: String,
    /// Of this member.
    address: String,
    port: u16,
    token: String,
    expires_in_seconds: u64,
    /// What to type on that node.
    command: String,
}

impl JoinLine {
    /// Ends the token.
    pub fn revoke(&self, paths: &Paths) -> Result<()> {
        Tokens::lock(paths)?.revoke(&self.node, &Token::parse(&self.token)?)
    }
}

impl fmt::Display for JoinLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "on {}, within {} minutes:\n  {}", self.node, self.expires_in_seconds / 60, self.command)
    }
}

/// `pc.trust.init/1`.
#[derive(Debug, Serialize)]
struct Answered {
    schema: &'static str,
    node: String,
    cluster: String,
    ca_sha256: String,
    /// False when it was initialised before; then nothing was changed.
    changed: bool,
    /// Shown once: absent when it was given, and on every repetition.
    #[serde(skip_serializing_if = "Option::is_none")]
    recovery_key: Option<String>,
    joins: Vec<JoinLine>,
}

impl fmt::Display for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.changed {
            return writeln!(f, "already initialised: {} is a member of {}", self.node, self.cluster);
        }
        if let Some(key) = &self.recovery_key {
            writeln!(
                f,
                "The recovery key opens every disk when no unlocker is left. It is shown this once:\n\n  {key}\n"
            )?;
        }
        self.joins.iter().try_for_each(|join| write!(f, "{join}"))
    }
}

/// Makes a token for `node` and the line to type there.
pub fn join_line(paths: &Paths, own: &Names, node: &str) -> Result<JoinLine> {
    let ca = files::read(&paths.trust(crate::paths::CA_CERTIFICATE))?
        .context("the CA's certificate is missing")?;
    let token = Token::generate(&x509::pem_fingerprint(&ca)?)?;
    Tokens::lock(paths)?.store(node, &token)?;
    let token = token.text().to_string();
    let address = own.address.to_string();
    Ok(JoinLine {
        schema: "pc.trust.token/1",
        node: node.into(),
        command: format!("pc-trust join {address} {token}"),
        address,
        port: PORT,
        token,
        expires_in_seconds: LIFE.as_secs(),
    })
}

/// `pc-trust init FILE`.
pub fn init(common: &Common, file: &Path, recovery_key_file: Option<&Path>) -> Result<Exit> {
    let paths = Paths::new(&common.root);
    let content = read_file(file)?;
    let shown = file.display().to_string();
    let node = common.node_name()?;
    let cluster = cluster::parse(&shown, &content).map_err(refused)?;
    let names = Names::of(&cluster, cluster.view(&node).map_err(refused)?.node)?;
    if let Some(member) = Member::read(&paths)? {
        return already(common, &paths, member, &cluster);
    }
    siblings::check_file(&paths, &names.node, &shown, &content)?;
    apply::refuse_foreign(common, &paths, &cluster, &names)?;
    secrets::warn_of_swap(&paths)?;
    secrets::refuse_left_over(&paths)?;
    let given = recovery::given(recovery_key_file)?;
    let show = given.is_none();
    let keeper = Keeper::new(&paths, &cluster, &content)?;
    let recovery_key = recovery_key(&paths, &keeper, given)?;
    // The first thing that stays: it fails here, and nothing was made, when no unlocker answers.
    keeper.keep(RECOVERY_KEY, recovery_key.as_bytes())?;
    let authority = settle(&paths, &keeper, &recovery_key, cluster.name.as_str(), &names)?;
    siblings::put_file(&paths, &names.node, &content)?;
    apply::settle(common, &paths, &cluster, &names)?;
    let others = cluster.nodes.iter().filter(|node| node.name.as_str() != names.node);
    let joins =
        others.map(|node| join_line(&paths, &names, node.name.as_str())).collect::<Result<Vec<_>>>()?;
    let answered = Answered {
        schema: "pc.trust.init/1",
        node: names.node.clone(),
        cluster: cluster.name.to_string(),
        ca_sha256: hex(&x509::pem_fingerprint(&authority.certificate)?),
        changed: true,
        recovery_key: show.then(|| recovery_key.to_string()),
        joins,
    };
    // Shown before the node is a member: an init that ends here is repeated, with the same recovery key.
    // When nobody reads it the work is done all the same, and is no success.
    let heard = pc_cli::emit_heard(common.json, &answered);
    if let Err(error) = &heard {
        log::error(unheard(&paths, &answered, error));
    }
    join::become_member(common, &paths, &cluster, &names, &authority.certificate)?;
    if !answered.joins.is_empty() {
        door::open(&paths, &names).context("the node is initialised, but others cannot join yet")?;
    }
    Ok(if heard.is_ok() { Exit::Done } else { Exit::Failed })
}

/// What nobody has read, and where it is found: a repeated init shows none of it.
fn unheard(paths: &Paths, answered: &Answered, error: &anyhow::Error) -> String {
    let mut lines = vec![format!("nobody has read the answer: {error:#}")];
    if answered.recovery_key.is_some() {
        lines.push(format!("cat {} shows the recovery key", paths.secret(RECOVERY_KEY).display()));
    }
    if let Some(join) = answered.joins.first() {
        lines.push(format!("pc-trust token {} makes another token", join.node));
    }
    lines.join("\n  ")
}

fn read_file(file: &Path) -> Result<Zeroizing<String>> {
    cluster::read_text(file).map(Zeroizing::new).map_err(refused)
}

fn already(common: &Common, paths: &Paths, member: Member, file: &Cluster) -> Result<Exit> {
    let cluster = file.name.as_str();
    if member.cluster != cluster {
        return Err(refused(format!(
            "this node is a member of {}, the file describes {cluster}\n  to leave it for good, move /etc/personal-cluster and /run/personal-cluster/secrets away",
            member.cluster
        )));
    }
    log::info(
        "already initialised: `pc-trust token NODE` makes a token, `pc-config put FILE` installs a new file",
    );
    let way = Way::new(common, &member.node, Some(file));
    lost::problems(paths, &member, &way).iter().for_each(log::warning);
    let answered = Answered {
        schema: "pc.trust.init/1",
        node: member.node,
        cluster: member.cluster,
        ca_sha256: member.ca_sha256,
        changed: false,
        recovery_key: None,
        joins: Vec::new(),
    };
    pc_cli::emit(common.json, &answered)?;
    Ok(Exit::Done)
}

/// The one that was given, else the one that this node keeps (disks may have it already), else new. One of a cluster that this
/// machine left was refused before.
fn recovery_key(paths: &Paths, keeper: &Keeper<'_>, given: Option<RecoveryKey>) -> Result<RecoveryKey> {
    if let Some(key) = given {
        return Ok(key);
    }
    match secrets::text(paths, RECOVERY_KEY)? {
        Some(text) => recovery::parse(&text).context("reading the open recovery key"),
        None => kept_recovery_key(paths, keeper)?.map_or_else(recovery::generate, Ok),
    }
}

/// A new one would take the place of what is kept, and with it the way into all that has the old one.
fn kept_recovery_key(paths: &Paths, keeper: &Keeper<'_>) -> Result<Option<RecoveryKey>> {
    let clear = paths.clear(RECOVERY_KEY);
    match std::fs::read_to_string(&clear).map(Zeroizing::new) {
        Ok(text) => {
            return recovery::parse(&text).map(Some).map_err(|_| {
                refused(format!(
                    "{}: holds no recovery key\n  give the one on paper, --recovery-key-file, or move this file away",
                    clear.display()
                ))
            });
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("reading {}", clear.display())),
    }
    if !paths.sealed(RECOVERY_KEY).exists() {
        return Ok(None);
    }
    // An init that was killed may have sealed it and gone no further.
    keeper.open_again(RECOVERY_KEY)?;
    let text = secrets::text(paths, RECOVERY_KEY)?.context("pc-unlock opened no recovery key")?;
    recovery::parse(&text).map(Some).context("reading the recovery key that was sealed here")
}

/// Secrets kept, then opened, then certificates written; what an interrupted init left is used again.
fn settle(
    paths: &Paths,
    keeper: &Keeper<'_>,
    recovery_key: &RecoveryKey,
    cluster: &str,
    names: &Names,
) -> Result<Authority> {
    secrets::open(paths, RECOVERY_KEY, recovery_key.as_bytes())?;
    let keys = NodeKeys::load_or_make(paths, &names.node)?;
    let corosync_key = match secrets::read(paths, COROSYNC_KEY)? {
        Some(key) if key.len() == COROSYNC_KEY_BYTES => key,
        _ => Zeroizing::new(recovery::random::<COROSYNC_KEY_BYTES>()?.to_vec()),
    };
    let tls = keys.tls_pem();
    let all: [(&str, &[u8]); 3] = [
        (NODE_KEY, tls.as_bytes()),
        (SSH_USER_KEY, keys.ssh.private.as_bytes()),
        (COROSYNC_KEY, &corosync_key),
    ];
    for (name, secret) in all {
        keeper.keep(name, secret)?;
        secrets::open(paths, name, secret)?;
    }
    keeper.prove()?;
    let authority = match Authority::load(paths, recovery_key) {
        Ok(Some(authority)) => authority,
        // Nothing there, or wrapped by another key: no node has joined yet, so a new CA harms nobody.
        _ => Authority::create(paths, cluster, recovery_key)?,
    };
    member::write_authority(paths, &authority.certificate, &authority.ssh_public, &authority.wrapped)?;
    let host_key = ssh::host_key(paths)?;
    let issued = authority.issue(paths, names, &keys.tls, host_key.as_deref(), &keys.ssh.public)?;
    member::write_ssh_public(paths, &keys.ssh.public)?;
    member::write_issued(paths, &issued)?;
    Ok(authority)
}
