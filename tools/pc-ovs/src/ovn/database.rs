//! The files of OVN's databases, one of each per holder: made by `ovsdb-tool`, once, and never again over one that is there.

use std::ffi::OsString;
use std::fs::{DirBuilder, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use pc_cli::refused;
use pc_run::run;
use serde_json::{Value, json};
use xshell::{Shell, cmd};

use super::want::{Member, Side, Want};

/// How long a holder may take to answer.
const ANSWER: &str = "--timeout=5";
/// Time without the leader after which another is elected. The default of 1 s is shorter than what a busy disk may take for
/// one write; ovn-controllers go on with what they have meanwhile.
const ELECTION: &str = "--election-timer=5000";
/// How a file of a database with several holders begins (ovsdb(5)).
const CLUSTERED: &[u8] = b"OVSDB CLUSTER";
const DEADLINE: Duration = Duration::from_secs(60);

/// The file.
pub fn file(root: &Path, side: Side) -> PathBuf {
    root.join(format!("var/lib/personal-cluster/ovn/{}.db", side.short()))
}

/// Where its server listens on this machine.
pub fn socket(root: &Path, side: Side) -> PathBuf {
    root.join(format!("run/personal-cluster/ovn/{}.sock", side.short()))
}

/// Whether the file is there; one that is not this node's is refused.
pub fn is_made(root: &Path, own: &Member, side: Side) -> Result<bool> {
    let path = file(root, side);
    let name = path.display();
    let mut start = Vec::new();
    let length = CLUSTERED.len() as u64;
    match File::open(&path) {
        Ok(file) => file.take(length).read_to_end(&mut start).with_context(|| format!("reading {name}"))?,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error).with_context(|| format!("opening {name}")),
    };
    if start != CLUSTERED {
        return Err(refused(format!(
            "{name} is not a database of a cluster\n  look at it, and move it away: ovsdb-tool show-log {name}"
        )));
    }
    let sh = Shell::new()?;
    let address = run(cmd!(sh, "ovsdb-tool db-local-address {path}")).deadline(DEADLINE).read()?;
    let expected = own.at(side.raft_port());
    if address != expected {
        return Err(refused(format!(
            "{name} belongs to a holder at {address}, and this node is {expected}: one that moves leaves, and joins anew\n  \
             man pc-ovs, \"A node that holds the databases\""
        )));
    }
    Ok(true)
}

/// The first holder's: with nothing in it.
pub fn create(root: &Path, own: &Member, side: Side) -> Result<()> {
    let local = own.at(side.raft_port());
    let schema = schema(side)?;
    made(root, side, |sh, new| {
        run(cmd!(sh, "ovsdb-tool {ELECTION} create-cluster {new} {schema} {local}"))
            .deadline(DEADLINE)
            .output()
    })
}

/// Another holder's: empty until its server has reached one that is there.
pub fn join(root: &Path, want: &Want, own: &Member, side: Side, cluster: &str) -> Result<()> {
    let (name, local) = (side.database(), own.at(side.raft_port()));
    let remotes: Vec<String> = want.others().map(|member| member.at(side.raft_port())).collect();
    // Of two clusters by mistake, only the one that answered.
    let cluster = format!("--cid={cluster}");
    made(root, side, |sh, new| {
        run(cmd!(sh, "ovsdb-tool {cluster} join-cluster {new} {name} {local} {remotes...}"))
            .deadline(DEADLINE)
            .output()
    })
}

/// Under another name first: a file of that name is a whole one.
fn made(
    root: &Path,
    side: Side,
    make: impl FnOnce(&Shell, &Path) -> Result<pc_run::Output, pc_run::Error>,
) -> Result<()> {
    let path = file(root, side);
    let directory = path.parent().context("a file without a directory")?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .with_context(|| format!("making {}", directory.display()))?;
    let new = path.with_extension("new");
    let lock = directory.join(format!(".{}.new.~lock~", side.short()));
    remove(&new)?;
    make(&Shell::new()?, &new).with_context(|| format!("making {}", path.display()))?;
    // A file that appeared meanwhile is another run's, and perhaps served already.
    std::fs::hard_link(&new, &path).with_context(|| format!("making {}", path.display()))?;
    remove(&new)?;
    remove(&lock)?;
    File::open(directory).and_then(|directory| directory.sync_all()).context("storing the database")
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// The schema that belongs to the ovn-northd that is installed, wherever that is (NixOS).
fn schema(side: Side) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/bin"));
    let name = format!("share/ovn/ovn-{}.ovsschema", side.short());
    let programs =
        std::env::split_paths(&path).filter_map(|place| place.join("ovn-northd").canonicalize().ok());
    let mut found = programs.filter_map(|program| Some(program.parent()?.parent()?.join(&name)));
    found.find(|path| path.exists()).ok_or_else(|| {
        refused("OVN's databases and ovn-northd are not installed\n  apt-get install ovn-central")
    })
}

/// What another holder says of its copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is one of the cluster with this identifier.
    Has(String),
    /// It has none, or runs no server.
    HasNot,
    /// It cannot be known: no answer, or one to somebody else.
    Unknown(String),
}

/// Asks another holder for its copy of a database.
pub fn ask(want: &Want, other: &Member, side: Side) -> Result<Answer> {
    let [key, certificate, ca] = want.tls.options();
    let remote = other.at(side.port());
    let question = json!(["_Server", {"op": "select", "table": "Database", "columns": ["cid"],
        "where": [["name", "==", side.database()]]}])
    .to_string();
    let sh = Shell::new()?;
    let command = cmd!(sh, "ovsdb-client {ANSWER} {key} {certificate} {ca} query {remote} {question}");
    match run(command).read() {
        Ok(text) => Ok(cluster_of(&text)),
        Err(error) if error.is_missing() => Err(error.into()),
        Err(error) if error.stderr().contains("Connection refused") => Ok(Answer::HasNot),
        Err(error) => Ok(Answer::Unknown(error.to_string())),
    }
}

/// Reads the answer: `[{"rows":[{"cid":["uuid","..."]}]}]`; a server that has not joined yet has an empty set.
fn cluster_of(text: &str) -> Answer {
    let Ok(answer) = serde_json::from_str::<Value>(text) else {
        return Answer::Unknown("an answer that is not JSON".into());
    };
    let Some(rows) = answer.pointer("/0/rows").and_then(Value::as_array) else {
        return Answer::Unknown("an answer without rows".into());
    };
    let identifier = rows.iter().find_map(|row| {
        let cid = row.get("cid")?;
        (cid.get(0)? == "uuid").then(|| cid.get(1)?.as_str().map(str::to_string)).flatten()
    });
    identifier.map_or(Answer::HasNot, Answer::Has)
}

/// Nothing is made where the node cannot prove who it is.
pub fn trusted(want: &Want) -> Result<()> {
    let tls = &want.tls;
    for path in [&tls.certificate, &tls.ca_cert, &tls.private_key] {
        match File::open(path) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let why = "this node is not a member yet, or the unlock servers have not answered";
                return Err(pc_cli::try_again(format!("{path} is not there: {why}\n  pc-trust status")));
            }
            Err(error) => bail!("opening {path}: {error}"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_ovsdb_server_are_told_apart() {
        // As ovsdb-client 3.1 prints them: a member, a server that waits to join, one without the database.
        let member = r#"[{"rows":[{"cid":["uuid","7e9c3d9f-5d0b-4f7e-93a2-1d6d0b6a4a11"]}]}]"#;
        assert_eq!(cluster_of(member), Answer::Has("7e9c3d9f-5d0b-4f7e-93a2-1d6d0b6a4a11".into()));
        assert_eq!(cluster_of(r#"[{"rows":[{"cid":["set",[]]}]}]"#), Answer::HasNot);
        assert_eq!(cluster_of(r#"[{"rows":[]}]"#), Answer::HasNot);
        assert!(matches!(cluster_of(r#"[{"error":"permission error"}]"#), Answer::Unknown(_)));
        assert!(matches!(cluster_of("ovsdb-client: help"), Answer::Unknown(_)));
    }
}
