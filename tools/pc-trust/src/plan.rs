//! What would put this node's keys and certificates where Gluster, libvirt, QEMU and sshd look for them.
//! Pure: decides, touches nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use pc_plan::{Plan, Step};
use serde::{Deserialize, Serialize};

use crate::modes::Exposed;
use crate::paths::{NODE_KEY, RECOVERY_KEY, SECRETS};
use crate::places::SSHD;

/// First line of every file that is ours to rewrite.
pub const HEADER: &str = "# Written by pc-trust; changes are lost.";
/// Makes glusterd use TLS for management.
pub const SECURE_ACCESS: &str = "/var/lib/glusterd/secure-access";

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// Copy a secret that is kept in clear to the tmpfs.
    Open {
        /// Its name.
        secret: String,
    },
    /// Seal a secret that is kept in clear, and remove the clear copy.
    Seal {
        /// Its name.
        secret: String,
    },
    /// Open a sealed secret anew, whose open copy is of no use.
    Unseal {
        /// Its name.
        secret: String,
    },
    /// Close a secret file, or the directory of secrets, to everybody but root.
    Private {
        /// Where.
        path: String,
        /// Its mode now, octal.
        was: String,
    },
    /// Issue this node's certificates again.
    Renew {
        /// Why.
        reason: String,
    },
    /// Make a symbolic link.
    Link {
        /// Where.
        path: String,
        /// What it points to.
        target: String,
    },
    /// Write a file.
    Write {
        /// Where.
        path: String,
        /// The whole content.
        content: String,
    },
    /// Copy the node's key to where QEMU can read it.
    QemuKey {
        /// The group QEMU runs as.
        group: String,
    },
    /// Turn TLS on for Gluster's management.
    SecureAccess,
    /// Restart a glusterd that serves nothing yet and was started before TLS was on.
    RestartGlusterd,
    /// Let sshd read its configuration again.
    ReloadSshd,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Open { secret } => write!(f, "open {secret}, which is kept in clear"),
            Action::Seal { secret } => write!(f, "seal {secret} and remove its clear copy"),
            Action::Unseal { secret } => write!(f, "open {secret} again: its open copy is of no use"),
            Action::Private { path, was } => write!(f, "close {path} to all but root, mode {was} now"),
            Action::Renew { reason } => write!(f, "renew this node's certificates: {reason}"),
            Action::Link { path, target } => write!(f, "link {path} to {target}"),
            Action::Write { path, .. } => write!(f, "write {path}"),
            Action::QemuKey { group } => write!(f, "copy node.key for QEMU, group {group}"),
            Action::SecureAccess => write!(f, "create {SECURE_ACCESS}"),
            Action::RestartGlusterd => write!(f, "restart glusterd, which serves nothing yet, with TLS"),
            Action::ReloadSshd => write!(f, "reload sshd"),
        }
    }
}

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum At {
    /// Nothing.
    Nothing,
    /// A symbolic link to this.
    Link(String),
    /// A file with this text.
    File(String),
    /// A directory, or something that cannot be read as text.
    Other,
}

/// What this node should look like.
#[derive(Debug, Clone, Default)]
pub struct Want {
    /// Links: path and target.
    pub links: Vec<(String, String)>,
    /// Files: path and content.
    pub files: Vec<(String, String)>,
    /// The file has `[unlock]`.
    pub sealed: bool,
    /// Gluster's management is to use TLS.
    pub gluster: bool,
    /// The group QEMU runs as, when QEMU is to have the key.
    pub qemu_group: Option<String>,
    /// Why sshd gets no drop-in: it does not say whose certificates it takes for root, and ours might replace them.
    pub sshd: Option<String>,
    /// Our drop-in stands, and sshd does not do what it says.
    pub unread: bool,
}

/// What it looks like.
#[derive(Debug, Clone, Default, Serialize)]
#[allow(clippy::struct_excessive_bools, reason = "facts that do not depend on each other")]
pub struct Have {
    /// What stands at each path of the wanted links and files.
    pub at: BTreeMap<String, At>,
    /// Secrets kept in clear; a copy that is of no use is none.
    pub clear: BTreeSet<String>,
    /// Secrets that are open; a copy that is of no use is none.
    pub open: BTreeSet<String>,
    /// Sealed secrets whose other copies are of no use.
    pub unseal: BTreeSet<String>,
    /// What others than root may read or enter.
    pub exposed: Vec<Exposed>,
    /// Why the certificates should be renewed, when they should.
    pub renew: Option<String>,
    /// QEMU's copy is there and equal.
    pub qemu_key: bool,
    /// Gluster's switch exists.
    pub secure_access: bool,
    /// Gluster has peers or volumes.
    pub gluster_serves: bool,
    /// glusterd runs, and was started before the switch existed.
    pub glusterd_without_tls: bool,
}

/// What is wrong and will not be changed.
pub fn problems(want: &Want, have: &Have) -> Vec<String> {
    let mut problems: Vec<String> =
        foreign(want, have).iter().map(|path| format!("{path}: not ours, and not overwritten")).collect();
    if want.gluster && have.gluster_serves && !have.secure_access {
        problems.push(format!(
            "Gluster has peers or volumes from before, and its management is not encrypted: with all of them \
             stopped, create {SECURE_ACCESS} on every node"
        ));
    }
    problems.extend(have.exposed.iter().filter(|exposed| exposed.readable).map(Exposed::problem));
    problems.extend(want.sshd.as_deref().map(untold));
    if want.unread {
        problems.push(format!(
            "sshd does not let nodes in as root: it does not read {SSHD}, or a Match before that one says otherwise \
             (a drop-in of 60 and above comes after it)"
        ));
    }
    problems
}

/// sshd cannot be asked.
pub fn untold(why: &str) -> String {
    format!("whose certificates sshd takes for root is not known, and ours could replace them: {why}")
}

/// Paths where somebody else's file stands in our way: never overwritten.
pub fn foreign(want: &Want, have: &Have) -> Vec<String> {
    let paths = want.links.iter().chain(&want.files).map(|(path, _)| path);
    paths.filter(|path| !free(&have.at, path)).cloned().collect()
}

fn free(at: &BTreeMap<String, At>, path: &str) -> bool {
    match at.get(path) {
        None | Some(At::Nothing) => true,
        Some(At::Link(target)) => {
            target.starts_with("/etc/personal-cluster/") || target.starts_with("/run/personal-cluster/")
        }
        Some(At::File(text)) => text.starts_with(HEADER),
        Some(At::Other) => false,
    }
}

/// The steps from `have` to `want`; foreign paths are left alone.
pub fn plan(node: &str, want: &Want, have: &Have) -> Plan<Action> {
    let mut steps = Steps(Vec::new());
    for Exposed { path, mode, .. } in &have.exposed {
        let was = format!("{mode:04o}");
        steps.add(&format!("private{path}"), &[], Action::Private { path: path.clone(), was });
    }
    let mut open = have.open.clone();
    for secret in &have.unseal {
        steps.add(&format!("unseal/{secret}"), &[], Action::Unseal { secret: secret.clone() });
        open.insert(secret.clone());
    }
    for secret in SECRETS.iter().filter(|secret| have.clear.contains(**secret)) {
        if !have.open.contains(*secret) {
            steps.add(&format!("open/{secret}"), &[], Action::Open { secret: (*secret).into() });
            open.insert((*secret).into());
        }
    }
    let opened = |secret: &str| {
        let how = if have.unseal.contains(secret) { "unseal" } else { "open" };
        format!("{how}/{secret}")
    };
    for (path, target) in want.links.iter().filter(|(path, _)| free(&have.at, path)) {
        if have.at.get(path) != Some(&At::Link(target.clone())) {
            steps.add(
                &format!("link{path}"),
                &[],
                Action::Link { path: path.clone(), target: target.clone() },
            );
        }
    }
    let mut sshd = have.renew.is_some();
    for (path, content) in want.files.iter().filter(|(path, _)| free(&have.at, path)) {
        if have.at.get(path) != Some(&At::File(content.clone())) {
            sshd |= path.starts_with("/etc/ssh/");
            steps.add(
                &format!("write{path}"),
                &[],
                Action::Write { path: path.clone(), content: content.clone() },
            );
        }
    }
    if let Some(group) = want.qemu_group.as_ref().filter(|_| open.contains(NODE_KEY) && !have.qemu_key) {
        steps.add("qemu-key", &[opened(NODE_KEY)], Action::QemuKey { group: group.clone() });
    }
    if want.gluster && !have.secure_access && !have.gluster_serves {
        let links: Vec<String> = steps.ids().filter(|id| id.contains("glusterfs.")).collect();
        steps.add("secure-access", &links, Action::SecureAccess);
    }
    if want.gluster && have.glusterd_without_tls && !have.gluster_serves && open.contains(NODE_KEY) {
        steps.add("restart-glusterd", &["secure-access".into(), opened(NODE_KEY)], Action::RestartGlusterd);
    }
    if let Some(reason) = &have.renew {
        let needs = [opened(NODE_KEY), opened(RECOVERY_KEY)];
        steps.add("renew", &needs, Action::Renew { reason: reason.clone() });
    }
    if sshd {
        let needs: Vec<String> =
            steps.ids().filter(|id| id.starts_with("write/etc/ssh/") || id == "renew").collect();
        steps.add("reload-sshd", &needs, Action::ReloadSshd);
    }
    // Last: it fails when Tang is down, which must not hold up the rest.
    for secret in SECRETS.iter().filter(|secret| want.sealed && have.clear.contains(**secret)) {
        steps.add(&format!("seal/{secret}"), &[], Action::Seal { secret: (*secret).into() });
    }
    Plan::new("pc.trust.plan/1", node, have, steps.0)
}

struct Steps(Vec<Step<Action>>);

impl Steps {
    /// Adds a step; of what it needs only what is itself to be done.
    fn add(&mut self, id: &str, needs: &[String], action: Action) {
        let needs =
            needs.iter().filter(|need| self.0.iter().any(|step| step.id == **need)).cloned().collect();
        self.0.push(Step { id: id.into(), needs, action });
    }

    fn ids(&self) -> impl Iterator<Item = String> + '_ {
        self.0.iter().map(|step| step.id.clone())
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
