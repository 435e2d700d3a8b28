//! Does the file make sense? Everything that its shape cannot say, each fault with a reason and a remedy.

mod after;
mod apart;
mod backups;
mod devices;
mod guests;
mod monitor;
mod networks;
mod nodes;
mod routes;
mod storage;
mod trunks;
mod unlock;
mod zones;

use std::collections::BTreeMap;
use std::fmt::Display;

use crate::fault::{Fault, Severity};
use crate::model::{Cluster, SCHEMA};
use crate::names::Name;
use crate::shape::nearest;
use crate::tree::{Node as Tree, Step, at};

/// Checks what the shape alone cannot: `tree` is what `cluster` was read from, `original` the file before
/// faulty parts were left out, `whole` whether nothing was.
pub(crate) fn check(cluster: &Cluster, tree: &Tree, original: &Tree, whole: bool) -> Vec<Fault> {
    let mut sense = Sense { cluster, tree, original, whole, faults: Vec::new() };
    sense.head();
    sense.unlock();
    sense.nodes();
    sense.storage();
    sense.networks();
    sense.routes();
    sense.zones();
    sense.images();
    sense.guests();
    sense.devices();
    sense.after();
    sense.apart();
    sense.backups();
    sense.ha();
    sense.exporter();
    sense.monitor();
    sense.faults
}

struct Sense<'a> {
    cluster: &'a Cluster,
    tree: &'a Tree,
    original: &'a Tree,
    whole: bool,
    faults: Vec<Fault>,
}

impl<'a> Sense<'a> {
    fn error(&mut self, steps: &[Step], fault: impl Display, remedy: impl Display) {
        self.push(Severity::Error, steps, &fault, &remedy);
    }

    fn warn(&mut self, steps: &[Step], fault: impl Display, remedy: impl Display) {
        self.push(Severity::Warning, steps, &fault, &remedy);
    }

    /// As [`Sense::error`], of a value that a message must not repeat.
    fn secret(&mut self, steps: &[Step], fault: impl Display, remedy: impl Display) {
        self.error(steps, fault, remedy);
        if let Some(fault) = self.faults.last_mut() {
            fault.value = None;
        }
    }

    fn push(&mut self, severity: Severity, steps: &[Step], fault: &dyn Display, remedy: &dyn Display) {
        let found = self.tree.find(steps);
        self.faults.push(Fault {
            severity,
            line: None,
            column: None,
            key: found.path,
            value: found.value.and_then(crate::tree::Value::shown),
            fault: fault.to_string(),
            remedy: Some(remedy.to_string()),
            offset: Some(found.at),
        });
    }

    /// The names that a section declares, those of faulty entries too: a fault is told once.
    fn declared(&self, section: &str) -> Vec<&'a str> {
        if section == "node" {
            let nodes = self.original.get("node").map(Tree::array).unwrap_or_default();
            return nodes.iter().filter_map(|item| item.node.get("name")?.text()).collect();
        }
        let table = self.original.get(section).map(Tree::table).unwrap_or_default();
        table.iter().map(|entry| entry.key.as_str()).collect()
    }

    /// The entries of a section in the order of the file, so that of two alike the second is told.
    fn ordered<'b, V>(&self, section: &str, map: &'b BTreeMap<Name, V>) -> Vec<(&'b Name, &'b V)> {
        let table = self.tree.get(section).map(Tree::table).unwrap_or_default();
        table.iter().filter_map(|entry| map.get_key_value(entry.key.as_str())).collect()
    }

    /// Refuses `name` at `steps` unless the section declares it.
    fn known(&mut self, steps: &[Step], section: &str, name: &str) -> bool {
        self.known_as(steps, section, name, "")
    }

    /// As [`Sense::known`], where the file writes `prefix` before the name.
    fn known_as(&mut self, steps: &[Step], section: &str, name: &str, prefix: &str) -> bool {
        let declared = self.declared(section);
        if declared.contains(&name) {
            return true;
        }
        let wanted = match section {
            "node" => format!("[[node]] called {name}"),
            _ => format!("[{section}.{name}]"),
        };
        let remedy = match nearest(name, declared.iter().copied()) {
            Some(near) => format!("did you mean {prefix}{near}?"),
            None if declared.is_empty() => format!("add a {wanted}"),
            None if declared.len() <= 10 => {
                format!("add a {wanted}, or name one of: {}", declared.join(", "))
            }
            None => format!("add a {wanted}, or name one of the {} there are", declared.len()),
        };
        self.error(steps, format!("there is no {wanted}"), remedy);
        false
    }

    fn head(&mut self) {
        if self.cluster.schema != SCHEMA {
            let remedy = format!("write schema = \"{SCHEMA}\", or use the version that the file is for");
            self.error(&at!["schema"], "is not a version that this program knows", remedy);
        }
        let is_label = |label: &str| Name::try_from(label.to_string()).is_ok();
        if self.cluster.domain.len() > 200 || !self.cluster.domain.split('.').all(is_label) {
            let remedy = "write lower-case names with dots between them, for example \"home.arpa\"";
            self.error(&at!["domain"], "is not a DNS domain", remedy);
        }
    }
}

/// `1 disk`, `2 disks`.
fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
