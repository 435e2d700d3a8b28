//! `pc-ovs ovn status`: this node's part in OVN.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::database::{file, socket};
use super::plan::Planned;
use super::want::{Side, Want};
use crate::ovsdb::{Client, Error, Replica};

/// How long a server of this machine may take.
const ANSWER: Duration = Duration::from_secs(5);

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// `pc.ovs.ovn.status/1`.
    pub schema: &'static str,
    /// The node that was asked.
    pub node: String,
    /// Nothing is wrong.
    pub healthy: bool,
    /// The node is as the file has it.
    pub converged: bool,
    /// What is wrong, for people.
    pub errors: Vec<String>,
    /// The nodes that hold the databases; none where the file has no zone.
    pub holders: Vec<String>,
    /// The databases of this node.
    pub databases: Vec<Database>,
}

/// One database of a holder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Database {
    /// Its name.
    pub name: &'static str,
    /// Its server answers.
    pub serves: bool,
    /// It is in touch with a majority of the holders.
    pub connected: bool,
    /// It is the one through which changes go.
    pub leader: bool,
}

/// Puts it together.
pub fn status(root: &Path, node: &str, want: Option<&Want>, planned: &Planned) -> Status {
    let mut errors = planned.refusals.clone();
    let mut databases = Vec::new();
    let is_holder = want.is_some_and(|want| want.own().is_some());
    for side in Side::ALL {
        if is_holder {
            let (database, error) = look(root, side);
            databases.push(database);
            errors.extend(error);
        } else if let (Some(want), true) = (want, file(root, side).exists()) {
            errors.push(format!(
                "{} is here, and belongs on {}: this node may still vote\n  man pc-ovs, \"A node that holds the databases\"",
                side.database(),
                want.names()
            ));
        }
    }
    let holders = want.map(|want| want.members.iter().map(|member| member.name.clone()).collect());
    Status {
        schema: "pc.ovs.ovn.status/1",
        node: node.into(),
        healthy: errors.is_empty(),
        converged: planned.steps.is_empty() && planned.refusals.is_empty(),
        errors,
        holders: holders.unwrap_or_default(),
        databases,
    }
}

/// What its server says of it (ovsdb-server(5), `_Server`).
fn look(root: &Path, side: Side) -> (Database, Option<String>) {
    let name = side.database();
    let mut database = Database { name, serves: false, connected: false, leader: false };
    let unit = format!("pc-ovs-ovn@{}.service", side.short());
    let asked: Result<Replica, Error> =
        Client::connect(&socket(root, side), ANSWER).and_then(|mut client| {
            let columns: [(&str, &[&str]); 1] = [("Database", &["name", "connected", "leader"])];
            Replica::monitor(&mut client, "_Server", &columns)
        });
    let replica = match asked {
        Ok(replica) => replica,
        Err(error) => return (database, Some(format!("{name}: {error}\n  systemctl status {unit}"))),
    };
    database.serves = true;
    if let Some((_, row)) = replica.named("Database", name) {
        database.connected = row.truth("connected").unwrap_or_default();
        database.leader = row.truth("leader").unwrap_or_default();
    }
    let apart = || format!("{name} is not in touch with a majority of its holders\n  journalctl -u {unit}");
    let error = (!database.connected).then(apart);
    (database, error)
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.holders.is_empty() {
            return writeln!(f, "the file has no zone");
        }
        writeln!(f, "databases on {}", self.holders.join(", "))?;
        for database in &self.databases {
            let state = match (database.serves, database.connected, database.leader) {
                (false, ..) => "no server answers",
                (_, false, _) => "without a majority",
                (_, _, true) => "leads",
                _ => "follows",
            };
            writeln!(f, "  {}: {state}", database.name)?;
        }
        if !self.converged {
            writeln!(f, "not as the file has it: pc-ovs ovn plan")?;
        }
        self.errors.iter().try_for_each(|error| writeln!(f, "{error}"))
    }
}
