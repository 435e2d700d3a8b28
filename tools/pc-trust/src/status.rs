//! status: what this node holds.

use std::fmt;

use anyhow::Result;
use pc_cli::{Common, Exit};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::lost::{self, Way};
use crate::member::Member;
use crate::paths::{CA_CERTIFICATE, NODE_CERTIFICATE, Paths, SECRETS};
use crate::tokens::{Outstanding, Tokens};
use crate::x509::{Names, RENEW_BEFORE};
use crate::{apply, files, x509};

/// `pc.trust.status/1`.
#[derive(Debug, Serialize)]
pub struct Status {
    schema: &'static str,
    /// Nothing is wrong.
    healthy: bool,
    /// What is wrong, a line each.
    problems: Vec<String>,
    node: Option<String>,
    cluster: Option<String>,
    ca_sha256: Option<String>,
    ca_not_after: Option<String>,
    certificate: Option<Certificate>,
    secrets: Vec<Secret>,
    /// Steps that `apply` would take; absent when there is no cluster file to compare with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pending: Option<Vec<String>>,
    tokens: Vec<Outstanding>,
}

#[derive(Debug, Serialize)]
struct Certificate {
    common_name: String,
    names: Vec<String>,
    not_after: String,
    renew_after: String,
}

#[derive(Debug, Serialize)]
struct Secret {
    name: &'static str,
    /// Sealed to the unlockers.
    sealed: bool,
    /// Kept in clear on the OS disk.
    clear: bool,
    /// Open on the tmpfs.
    open: bool,
}

fn date(date: OffsetDateTime) -> String {
    date.format(&Rfc3339).unwrap_or_default()
}

/// Looks at everything. Needs no cluster file.
pub fn gather(common: &Common) -> Result<Status> {
    let paths = Paths::new(&common.root);
    let mut problems = Vec::new();
    let (member, unreadable) = match Member::read(&paths) {
        Ok(member) => (member, None),
        Err(error) => (None, Some(one_line(&error))),
    };
    let mut status = Status {
        schema: "pc.trust.status/1",
        healthy: false,
        problems: Vec::new(),
        node: member.as_ref().map(|member| member.node.clone()),
        cluster: member.as_ref().map(|member| member.cluster.clone()),
        ca_sha256: member.as_ref().map(|member| member.ca_sha256.clone()),
        ca_not_after: None,
        certificate: None,
        secrets: Vec::new(),
        pending: None,
        tokens: Vec::new(),
    };
    let Some(member) = member else {
        status.problems.push(unreadable.unwrap_or_else(|| "belongs to no cluster".into()));
        return Ok(status);
    };
    certificates(&paths, &mut status, &mut problems);
    for name in SECRETS {
        let open = paths.secret(name).exists();
        let secret =
            Secret { name, sealed: paths.sealed(name).exists(), clear: paths.clear(name).exists(), open };
        if !open {
            problems.push(format!("secret {name} is not open"));
        }
        if !secret.sealed && !secret.clear {
            problems.push(format!("secret {name} would not survive a reboot"));
        }
        status.secrets.push(secret);
    }
    against_the_file(common, &paths, &member, &mut status, &mut problems)?;
    if paths.run().is_dir() {
        status.tokens = Tokens::lock(&paths)?.outstanding()?;
    }
    status.healthy = problems.is_empty();
    status.problems = problems;
    Ok(status)
}

/// An error with its remedy, as a problem.
fn one_line(error: &anyhow::Error) -> String {
    format!("{error:#}").replace("\n  ", "; ")
}

/// What `apply` would do and what it would leave; without a file, what this node has lost.
fn against_the_file(
    common: &Common,
    paths: &Paths,
    member: &Member,
    status: &mut Status,
    problems: &mut Vec<String>,
) -> Result<()> {
    let Ok(cluster) = apply::load(common) else {
        problems.extend(lost::problems(paths, member, &Way::new(common, &member.node, None)));
        return Ok(());
    };
    let Ok(view) = cluster.view(&member.node) else {
        problems.push(format!("{} is not in the cluster file", member.node));
        problems.extend(lost::problems(paths, member, &Way::new(common, &member.node, None)));
        return Ok(());
    };
    let names = Names::of(&cluster, view.node)?;
    let apply::Decision { plan, problems: lasting, .. } = apply::decide(common, paths, &cluster, &names)?;
    problems.extend(lasting);
    problems.extend(plan.steps.iter().map(|step| format!("to do: {}", step.action)));
    status.pending = Some(plan.steps.into_iter().map(|step| step.id).collect());
    Ok(())
}

/// What the certificates say; one that cannot be read is told as lost.
fn certificates(paths: &Paths, status: &mut Status, problems: &mut Vec<String>) {
    let read = |name| {
        let text = files::read(&paths.trust(name)).ok().flatten();
        text.and_then(|text| x509::facts(&text).ok())
    };
    status.ca_not_after = read(CA_CERTIFICATE).map(|facts| date(facts.not_after));
    let Some(facts) = read(NODE_CERTIFICATE) else { return };
    if facts.not_after < OffsetDateTime::now_utc() {
        problems.push("the node's certificate has expired".into());
    }
    status.certificate = Some(Certificate {
        renew_after: date(facts.not_after - RENEW_BEFORE),
        not_after: date(facts.not_after),
        common_name: facts.common_name,
        names: facts.names,
    });
}

/// `pc-trust status`.
pub fn status(common: &Common, exit_code: bool) -> Result<Exit> {
    let status = gather(common)?;
    pc_cli::emit(common.json, &status)?;
    Ok(Exit::of_answer(exit_code, !status.healthy))
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(node), Some(cluster)) = (&self.node, &self.cluster) {
            writeln!(f, "{node}, member of {cluster}")?;
        }
        if let Some(certificate) = &self.certificate {
            let Certificate { names, not_after, renew_after, .. } = certificate;
            writeln!(
                f,
                "certificate for {} until {not_after}, renewed after {renew_after}",
                names.join(", ")
            )?;
        }
        for secret in &self.secrets {
            let kept = match (secret.sealed, secret.clear) {
                (true, false) => "sealed",
                (_, true) => "in clear",
                (false, false) => "not kept",
            };
            writeln!(f, "{:<18}{kept}, {}", secret.name, if secret.open { "open" } else { "closed" })?;
        }
        for token in &self.tokens {
            writeln!(f, "token for {}, {} s left", token.node, token.expires_in_seconds)?;
        }
        self.problems.iter().try_for_each(|problem| writeln!(f, "problem: {problem}"))
    }
}
