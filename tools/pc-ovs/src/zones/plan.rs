//! From the rows that are wanted and those that are there to the steps between them. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use pc_plan::Step;
use serde::{Deserialize, Serialize};

use super::row::{Row, table};

/// Schema of a printed plan.
pub const SCHEMA: &str = "pc.ovs.zones.plan/1";

/// One change of one row; the step's id is our key of the row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Change {
    /// A new row.
    Add {
        /// The row.
        row: Row,
    },
    /// Other columns.
    Set {
        /// The row as it is to be.
        row: Row,
    },
    /// A row of ours that the file no longer has.
    Remove {
        /// The row as it is.
        row: Row,
    },
}

/// What `OVN_Northbound` holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Have {
    /// Rows of ours, by our key.
    pub rows: BTreeMap<String, Found>,
    /// Names that rows of others have, in tables where two of the same name cannot be: table and name.
    #[serde(skip)]
    pub foreign: BTreeSet<(String, String)>,
}

/// A row of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Found {
    /// Its UUID.
    pub uuid: String,
    /// What it holds.
    pub row: Row,
    /// It keeps rows of somebody else alive.
    #[serde(skip)]
    pub is_shared: bool,
}

/// Steps, and what people should know.
#[derive(Debug, Default)]
pub struct Planned {
    /// In order.
    pub steps: Vec<Step<Change>>,
    /// Names that are taken: nothing is done.
    pub refusals: Vec<String>,
    /// What is left alone on purpose.
    pub notes: Vec<String>,
}

/// Plans.
pub fn plan(want: &BTreeMap<String, Row>, have: &Have) -> Planned {
    let Planned { mut steps, mut refusals, mut notes } = Planned::default();
    let mut push = |id: &str, action| steps.push(Step { id: id.into(), needs: Vec::new(), action });
    for (key, found) in have.rows.iter().filter(|(key, _)| !want.contains_key(*key)) {
        if found.is_shared {
            let (table, name) = (&found.row.table, found.row.text_of("name"));
            notes.push(format!("{table} {name} stays: it holds rows of somebody else"));
        } else {
            push(key, Change::Remove { row: found.row.clone() });
        }
    }
    let is_new = |key: &str| !have.rows.contains_key(key);
    for (key, row) in want {
        let name = row.text_of("name");
        if is_new(key) && have.foreign.contains(&(row.table.clone(), name.to_string())) {
            let clash = format!("{} {name} exists and is not ours", row.table);
            refusals.push(format!("{clash}\n  look at it: ovn-nbctl find {} name={name}", row.table));
        }
        match have.rows.get(key) {
            None => push(key, Change::Add { row: row.clone() }),
            Some(found) if found.row != *row => push(key, Change::Set { row: row.clone() }),
            Some(_) => {}
        }
    }
    Planned { steps, refusals, notes }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Add { row } => write!(f, "add {}", described(row)),
            Change::Set { row } => write!(f, "set {}", described(row)),
            Change::Remove { row } => write!(f, "remove {}", described(row)),
        }
    }
}

/// A row for people: its name, or what it matches.
fn described(row: &Row) -> String {
    let of = |column| row.text_of(column);
    match row.table.as_str() {
        "ACL" => format!("{} {} where {}", of("action"), of("direction"), of("match")),
        "Logical_Router_Policy" => format!("{} on the router where {}", of("action"), of("match")),
        "DHCP_Options" => format!("DHCP for {}", of("cidr")),
        "Logical_Switch_Port" if of("type").is_empty() => {
            format!("port {} for {}", of("name"), row.words_of("addresses").collect::<Vec<_>>().join(", "))
        }
        other => format!("{other} {}", of("name")),
    }
}

/// Columns in which two rows of a table differ, in the table's order.
pub fn changed<'a>(
    row: &'a Row,
    found: &'a Row,
) -> impl Iterator<Item = (&'static str, super::row::Kind)> + 'a {
    let columns = table(&row.table).map_or(&[][..], |table| table.columns);
    columns
        .iter()
        .filter(move |(column, _)| row.columns.get(*column) != found.columns.get(*column))
        .map(|(column, kind)| (*column, *kind))
}
