//! put: a checked file becomes the one in force on this node.

use std::fmt;
use std::path::Path;

use anyhow::Result;
use cluster::Cluster;
use pc_cli::{Common, Exit, log, refused};
use serde::Serialize;

use crate::check::stable_names;
use crate::generation::{Generation, Given, next, signed_by_ours, tell_apart, verify};
use crate::host::{ALL, ELSEWHERE, Host};
use crate::keeps::keeps_vms;
use crate::plan::{Have, Place, Want, Write, accepts, plan};
use crate::trust::Trust;
use crate::{disks, hosts, local_disks, network, show};

/// `pc.config.put/1`.
#[derive(Debug, Serialize)]
struct Answered {
    schema: &'static str,
    node: String,
    generation: u64,
    sha256: String,
    signed: bool,
    /// False with `--check`.
    in_force: bool,
    /// Files that were replaced (with `--check`: that would be).
    replaced: Vec<&'static str>,
}

impl fmt::Display for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.in_force, self.replaced.is_empty()) {
            (true, true) => Ok(()),
            (true, false) => writeln!(f, "generation {} is in force on {}", self.generation, self.node),
            (false, _) => writeln!(f, "generation {} would be accepted by {}", self.generation, self.node),
        }
    }
}

/// Who gave the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Giver {
    /// Somebody who may put any file here.
    Administrator,
    /// Another node, with `--signed`.
    Node,
}

/// A numbered file with all that is needed to put it in force.
struct Accepted {
    cluster: Cluster,
    generation: Generation,
    record: String,
    signed: bool,
}

/// `pc-config put FILE`.
pub fn put(common: &Common, source: &Path, check: bool, signed: bool) -> Result<Exit> {
    let host = Host::new(common);
    let declared = host.declared()?;
    host.ready(if declared.is_some() { &[Place::Generation] } else { &ALL })?;
    let text = cluster::read_wrapped(source).map_err(refused)?;
    let name = if source.as_os_str() == "-" { "stdin".into() } else { source.display().to_string() };
    // Whoever comes over the network has shown that it is a node, not that an administrator wrote this.
    if signed && !matches!(tell_apart(text.clone())?, Given::Signed(_)) {
        return Err(refused(format!(
            "{name}: is not signed\n  push it from a node that is unlocked: pc-config push"
        )));
    }
    // Looking only needs no lock; and a put that is refused creates nothing, not even a directory.
    let from = if signed { Giver::Node } else { Giver::Administrator };
    let accepted = accept(common, &name, &text, from, &host.have()?, false)?;
    if declared.as_ref().is_some_and(|declared| *declared != accepted.cluster) {
        return Err(refused(ELSEWHERE));
    }
    let writes = |accepted: &Accepted, have: &Have| writes(accepted, have, declared.is_some());
    if check {
        let writes = writes(&accepted, &host.have()?)?;
        // A full disk is found out here, where nothing was changed on any node.
        host.rehearse(&writes)?;
        return answer(common, &accepted, &writes, false);
    }
    let _lock = host.lock()?;
    let have = host.have()?;
    let accepted = accept(common, &name, &text, from, &have, true)?;
    if declared.is_none() {
        have.warn_of_loss();
    }
    let writes = writes(&accepted, &have)?;
    for (line, node) in hosts::rivals(&have.hosts, &accepted.cluster) {
        log::warning(format_args!("/etc/hosts:{line}: gives {node} another address; ours comes first"));
    }
    let cut_short = have.file.as_deref().is_some_and(|file| host.cut_short(file));
    if !writes.is_empty() {
        let node = own_name(common, &accepted.cluster)?;
        in_force(&host, &writes, &node, &have, &accepted.cluster)?;
        network::warn(&have, &accepted.cluster, Some(&node));
        // A push says this once, where it begins; a person who puts it here should hear of all nodes.
        local_disks::warn(&have, &accepted.cluster, signed.then_some(node.as_str()));
    }
    if writes.iter().any(|write| write.place == Place::Edited) {
        let what = if cut_short { "is of a put that was cut short" } else { "had been edited and never put" };
        log::warning(format_args!("{}: {what}; kept as {}", Place::File, Place::Edited));
    }
    host.sweep();
    answer(common, &accepted, &writes, true)
}

/// Replaces the files, and tells those that read the disks of the old ones.
pub fn in_force(host: &Host, writes: &[Write], node: &str, have: &Have, cluster: &Cluster) -> Result<()> {
    let others = disks::are_others(node, have, cluster);
    host.replace(writes, || {
        host.reload_systemd()?;
        // Before the record: a put that is cut short here is repeated, and this with it.
        if others {
            host.restart(&disks::READERS, &format!("{node} has other disks than before"));
        }
        Ok(())
    })
}

/// What is to be replaced. Where the system's configuration has put everything else in place, only the record of the
/// generation is missing: its number and the signature, which other nodes ask for.
fn writes(accepted: &Accepted, have: &Have, declared: bool) -> Result<Vec<Write>> {
    let want =
        Want { cluster: &accepted.cluster, generation: &accepted.generation, record: &accepted.record };
    let mut writes = plan(&want, have)?;
    writes.retain(|write| !declared || write.place == Place::Generation);
    Ok(writes)
}

fn answer(common: &Common, accepted: &Accepted, writes: &[Write], in_force: bool) -> Result<Exit> {
    let answered = Answered {
        schema: "pc.config.put/1",
        node: own_name(common, &accepted.cluster)?,
        generation: accepted.generation.generation,
        sha256: accepted.generation.sha256.clone(),
        signed: accepted.signed,
        in_force,
        replaced: writes.iter().map(|write| write.place.path()).collect(),
    };
    pc_cli::emit(common.json, &answered)?;
    Ok(Exit::Done)
}

/// This node's name in the file; a file without this machine is refused.
pub fn own_name(common: &Common, cluster: &Cluster) -> Result<String> {
    let view = cluster.view(&common.node_name()?).map_err(refused)?;
    Ok(view.node.name.to_string())
}

/// What may become the file of this node.
fn accept(common: &Common, name: &str, text: &str, from: Giver, have: &Have, sign: bool) -> Result<Accepted> {
    let accepted = checked(common, name, text, from, have, sign)?;
    keeps_vms(name, have, &accepted.cluster)?;
    Ok(accepted)
}

/// Checks what was given, and numbers it when it has no number yet.
fn checked(
    common: &Common,
    name: &str,
    text: &str,
    from: Giver,
    have: &Have,
    sign: bool,
) -> Result<Accepted> {
    let trust = Trust::of(common);
    let kept = have.kept.as_ref().map(|(kept, _)| kept);
    match tell_apart(text.into())? {
        Given::File(text) => {
            let (cluster, text) = understand(common, name, &text)?;
            number(cluster, &text, have, &trust, sign)
        }
        Given::Unsigned(generation) => {
            // A node that has a file in force and knows the CA takes a new one only with a signature.
            if trust.is_member() && kept.is_some_and(|kept| *kept != generation) {
                return Err(refused(
                    "the generation is not signed\n  push it from a node that is unlocked: pc-config push",
                ));
            }
            accepts(have, &generation).map_err(refused)?;
            let (cluster, _) = understand(common, name, &generation.file)?;
            let record = generation.to_text()?;
            Ok(Accepted { cluster, generation, record, signed: false })
        }
        Given::Signed(record) => {
            let (generation, signer) = verify(&trust, &record)?;
            accepts(have, &generation).map_err(refused)?;
            if from == Giver::Node {
                signed_by_ours(have, &signer)?;
            }
            let (cluster, _) = understand(common, name, &generation.file)?;
            let known = have.kept.as_ref().is_some_and(|(kept, signed)| *signed && *kept == generation);
            // A second signature over the same says nothing new, unless the first was made under a CA that was given up.
            let ours = have.generation.clone().filter(|ours| known && trust.holds(ours));
            let record = ours.unwrap_or(record);
            Ok(Accepted { cluster, generation, record, signed: true })
        }
    }
}

/// The file and its text; JSON becomes TOML, which is what the file on the node is.
pub fn understand(common: &Common, name: &str, text: &str) -> Result<(Cluster, String)> {
    let mut report = cluster::parse_report(name, text);
    stable_names(common, &mut report);
    let cluster = report.into_result().map_err(refused)?;
    own_name(common, &cluster)?;
    let is_json = text.trim_start_matches('\u{feff}').trim_start().starts_with('{');
    let text = if is_json { show::normal_form(&cluster)? } else { text.to_string() };
    Ok((cluster, text))
}

fn number(cluster: Cluster, text: &str, have: &Have, trust: &Trust, sign: bool) -> Result<Accepted> {
    if let (Some((kept, signed)), Some(record)) = (&have.kept, &have.generation) {
        // Nothing new; but what could not be signed then, or was under another CA, may be signed now.
        if kept.file == text && (!trust.is_member() || *signed && trust.holds(record)) {
            return Ok(Accepted {
                cluster,
                generation: kept.clone(),
                record: record.clone(),
                signed: *signed,
            });
        }
    }
    let generation = match &have.kept {
        Some((kept, _)) if kept.file == text => kept.clone(),
        Some((kept, _)) => Generation::new(next(kept.generation)?, text),
        None => Generation::new(next(have.known_number())?, text),
    };
    let plain = generation.to_text()?;
    if !sign || !trust.is_member() {
        return Ok(Accepted { cluster, generation, record: plain, signed: false });
    }
    match trust.sign(&plain) {
        Ok(record) => Ok(Accepted { cluster, generation, record, signed: true }),
        Err(error) => {
            // A node whose key is closed must still take a corrected [unlock] from its administrator.
            log::warning(format_args!("not signed, so no other node takes it: {error:#}"));
            Ok(Accepted { cluster, generation, record: plain, signed: false })
        }
    }
}
