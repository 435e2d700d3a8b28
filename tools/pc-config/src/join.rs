//! Several cluster files as one: what one has and another lacks is added, comments and all; what both have
//! must be the same.

use anyhow::{Context, Result};
use pc_cli::{log, refused};
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, TableLike, value};

use crate::merge::Part;

/// All parts as one text; every contradiction at once is the error.
pub fn join(parts: Vec<Part>) -> Result<String> {
    let names: Vec<String> = parts.iter().map(|part| part.name.clone()).collect();
    let raise = single_copies(&parts);
    let mut parts = parts.into_iter();
    let mut merged = parts.next().context("nothing to merge")?;
    let mut contradictions = Vec::new();
    for part in parts {
        let mut joiner = Joiner { first: &names[0], name: &part.name, contradictions: &mut contradictions };
        joiner.table(merged.document.as_table_mut(), part.document.as_table(), "");
    }
    if !contradictions.is_empty() {
        return Err(refused(contradictions.join("\n")));
    }
    for volume in raise {
        raise_copies(&mut merged.document, &volume);
    }
    renumber(&mut merged.document);
    Ok(merged.document.to_string())
}

struct Joiner<'a> {
    first: &'a str,
    name: &'a str,
    contradictions: &'a mut Vec<String>,
}

impl Joiner<'_> {
    fn contradiction(&mut self, key: &str, other: &str, remedy: &str) {
        self.contradictions.push(format!("{}: {key}: {other} in {}\n  {remedy}", self.name, self.first));
    }

    /// Adds what `from` has and `into` lacks; what both have must be the same.
    fn table(&mut self, into: &mut dyn TableLike, from: &dyn TableLike, path: &str) {
        for (key, item) in from.iter() {
            let here = if path.is_empty() { key.to_string() } else { format!("{path}.{key}") };
            let Some(own) = into.get_mut(key) else {
                into.insert(key, item.clone());
                if let (Some((mut own, _)), Some((theirs, _))) =
                    (into.get_key_value_mut(key), from.get_key_value(key))
                {
                    own.leaf_decor_mut().clone_from(theirs.leaf_decor());
                }
                continue;
            };
            match (own.as_array_of_tables_mut(), item.as_array_of_tables()) {
                (Some(own), Some(item)) => self.list(own, item, key),
                _ => match (own.as_table_like_mut(), item.as_table_like()) {
                    (Some(own), Some(item)) => self.table(own, item, &here),
                    _ => self.single(own, item, &here),
                },
            }
        }
    }

    fn single(&mut self, own: &mut Item, item: &Item, here: &str) {
        if plain(own) == plain(item) {
            return;
        }
        if let (Some(own), Some(item)) = (own.as_array_mut(), item.as_array()) {
            // Tang servers of both; any other list is one value.
            if here == "unlock.tang" {
                let known: Vec<String> =
                    own.iter().map(|value| value.to_string().trim().to_string()).collect();
                let new = item.iter().filter(|value| !known.contains(&value.to_string().trim().to_string()));
                own.extend(new.cloned());
                return;
            }
        }
        let told = format!("{}, but {}", plain(item), plain(own));
        self.contradiction(here, &told, "make them the same, or keep it in one of the files");
    }

    fn list(&mut self, own: &mut ArrayOfTables, item: &ArrayOfTables, key: &str) {
        for table in item {
            let text = |table: &Table| plain(&Item::Table(table.clone()));
            if own.iter().any(|known| text(known) == text(table)) {
                continue;
            }
            let name = table.get("name").and_then(Item::as_str);
            let twice =
                key == "node" && own.iter().any(|known| known.get("name").and_then(Item::as_str) == name);
            if twice {
                let remedy = "give every machine its own name, `hostnamectl hostname node2`, and draft again";
                let node = format!("node {}", name.unwrap_or_default());
                self.contradiction(&node, "another machine of this name is", remedy);
            } else {
                let mut table = table.clone();
                // What every draft says above its node is said once.
                let above = |table: &Table| {
                    table.decor().prefix().and_then(|prefix| prefix.as_str().map(str::to_string))
                };
                if own.iter().next().is_some_and(|first| above(first) == above(&table)) {
                    table.decor_mut().set_prefix("\n");
                }
                own.push(table);
            }
        }
    }
}

/// Values without their comments and layout, to be compared and shown.
fn plain(item: &Item) -> String {
    let mut item = item.clone();
    item.make_value();
    match toml::from_str::<serde_json::Value>(&format!("x = {}", item.to_string().trim())) {
        Ok(value) => value["x"].to_string(),
        Err(_) => item.to_string().trim().to_string(),
    }
}

/// Replicated volumes that every part which has them keeps in one copy: what a draft of one machine writes.
fn single_copies(parts: &[Part]) -> Vec<String> {
    let volumes = |part: &Part| -> Vec<(String, Option<i64>)> {
        let table = part.document.get("volume").and_then(Item::as_table_like);
        let copies = |item: &Item| item.as_table_like()?.get("replicas")?.as_integer();
        table
            .into_iter()
            .flat_map(|table| {
                table.iter().map(|(name, item)| (name.to_string(), copies(item))).collect::<Vec<_>>()
            })
            .collect()
    };
    let all: Vec<(String, Option<i64>)> = parts.iter().flat_map(volumes).collect();
    let mut names: Vec<String> = all.iter().map(|(name, _)| name.clone()).collect();
    names.sort();
    names.dedup();
    names.retain(|name| all.iter().filter(|(other, _)| other == name).all(|(_, copies)| *copies == Some(1)));
    if parts.len() < 2 { Vec::new() } else { names }
}

/// One copy was right for one machine; with several nodes it is as many copies as there are nodes, up to 3.
fn raise_copies(document: &mut DocumentMut, volume: &str) {
    let has_disk = |node: &Table| {
        let disks = node.get("disks").and_then(Item::as_table_like).and_then(|disks| disks.get(volume));
        disks.and_then(Item::as_array).is_some_and(|disks| !disks.is_empty())
    };
    let nodes = document.get("node").and_then(Item::as_array_of_tables);
    let holders = nodes.map_or(0, |nodes| nodes.iter().filter(|node| has_disk(node)).count());
    let copies = i64::try_from(holders.min(3)).unwrap_or(3);
    if copies < 2 {
        return;
    }
    let replicas = document.get_mut("volume").and_then(Item::as_table_like_mut);
    let replicas = replicas.and_then(|volumes| volumes.get_mut(volume)).and_then(Item::as_table_like_mut);
    if let Some(table) = replicas {
        table.insert("replicas", value(copies));
        log::info(format_args!(
            "volume.{volume}.replicas: 1 became {copies}, for {holders} nodes with disks"
        ));
    }
}

/// Tables of the first document come in its order, those of the others after them, nodes together.
fn renumber(document: &mut DocumentMut) {
    let mut position = 0;
    number(document.as_table_mut(), &mut position);
}

fn number(table: &mut Table, position: &mut isize) {
    let mut keys: Vec<(isize, String)> = table
        .iter()
        .map(|(key, item)| {
            let first = match item {
                Item::Table(table) => first_position(table),
                Item::ArrayOfTables(tables) => tables.iter().next().and_then(first_position),
                _ => None,
            };
            (first.unwrap_or(isize::MAX), key.to_string())
        })
        .collect();
    keys.sort_by_key(|(first, _)| *first);
    for (_, key) in keys {
        match table.get_mut(&key) {
            Some(Item::Table(table)) => {
                *position += 1;
                table.set_position(*position);
                number(table, position);
            }
            Some(Item::ArrayOfTables(tables)) => {
                for table in tables.iter_mut() {
                    *position += 1;
                    table.set_position(*position);
                    number(table, position);
                }
            }
            _ => {}
        }
    }
}

/// An implicit table has no place of its own: that of what it holds counts.
fn first_position(table: &Table) -> Option<isize> {
    table
        .position()
        .or_else(|| table.iter().filter_map(|(_, item)| item.as_table()).filter_map(first_position).min())
}
