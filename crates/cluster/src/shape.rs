//! Compares the tree with the JSON Schema that the types give: unknown, missing and mistyped keys, all of
//! them at once. What is wrong is told and left out, so that the rest can still be checked for its sense.

use serde_json::Value as Json;

use crate::fault::{Fault, Severity};
use crate::names::{DevicePath, Name};
use crate::schema::{json_schema, resolve};
use crate::tree::{Entry, Item, Node, Value, push_index, push_key, quoted};
use crate::units::Bytes;

/// Sections that later versions will bring.
const RESERVED: [&str; 4] = ["power", "edge", "service", "kubernetes"];

/// What is left of a tree, and what was wrong with it.
pub(crate) struct Shaped {
    pub node: Node,
    pub faults: Vec<Fault>,
}

/// Compares a whole file with the schema. With `newer`, unknown keys are left out silently.
pub(crate) fn shape(tree: &Node, newer: bool) -> Shaped {
    let mut walker = Walker { newer, faults: Vec::new(), path: String::new() };
    let mut node = walker.table(tree, json_schema(), tree.at);
    if let Value::Table(entries) = &mut node.value {
        // Stand-ins for what was told to be missing, so that everything else can still be checked.
        for (key, text) in [("schema", crate::model::SCHEMA), ("name", "nameless")] {
            if !entries.iter().any(|entry| entry.key == key) {
                let node = Node { value: Value::Text(text.into()), at: 0 };
                entries.push(Entry { key: key.into(), key_at: 0, node });
            }
        }
    }
    Shaped { node, faults: walker.faults }
}

struct Walker {
    newer: bool,
    faults: Vec<Fault>,
    path: String,
}

impl Walker {
    fn fault(&mut self, at: usize, value: Option<String>, fault: impl Into<String>, remedy: Option<String>) {
        let key = self.path.clone();
        let (severity, fault, offset) = (Severity::Error, fault.into(), Some(at));
        self.faults.push(Fault { severity, line: None, column: None, key, value, fault, remedy, offset });
    }

    /// Any value; `None` when it cannot be used. `key_at` is where to point at when it is a table.
    fn value(&mut self, node: &Node, outer: &Json, key_at: usize) -> Option<Node> {
        let (schema, defined) = resolve(not_null(outer));
        match &node.value {
            Value::Table(_) if allows(schema, "object") => return self.whole_table(node, schema, key_at),
            Value::Array(items) if allows(schema, "array") => return Some(self.list(node.at, items, schema)),
            _ => {}
        }
        let Some((fault, remedy)) = scalar_fault(&node.value, schema, defined) else {
            return Some(node.clone());
        };
        let at = if matches!(node.value, Value::Table(_)) { key_at } else { node.at };
        let remedy = remedy.or_else(|| self.example(outer));
        self.fault(at, node.value.shown(), fault, remedy);
        None
    }

    /// What the documentation of the key would write there.
    fn example(&self, schema: &Json) -> Option<String> {
        let key = self.path.rsplit('.').next().unwrap_or(&self.path);
        let or = if leaves_out(schema) { "leave it out, or " } else { "" };
        Some(format!("{or}write for example {key} = {}", schema["examples"].get(0)?))
    }

    fn list(&mut self, at: usize, items: &[Item], schema: &Json) -> Node {
        let length = self.path.len();
        let mut kept = Vec::new();
        for item in items {
            push_index(&mut self.path, item.index);
            if let Some(node) = self.value(&item.node, &schema["items"], item.node.at) {
                kept.push(Item { index: item.index, node });
            }
            self.path.truncate(length);
        }
        Node { value: Value::Array(kept), at }
    }

    /// A table, unless one of its required keys is missing or was unusable.
    fn whole_table(&mut self, node: &Node, schema: &Json, key_at: usize) -> Option<Node> {
        let table = self.table(node, schema, key_at);
        required(schema).all(|key| table.get(key).is_some()).then_some(table)
    }

    fn table(&mut self, node: &Node, schema: &Json, key_at: usize) -> Node {
        let length = self.path.len();
        let mut kept = Vec::new();
        for entry in node.table() {
            push_key(&mut self.path, &entry.key);
            if let Some(inner) = self.schema_of(entry, schema, length == 0) {
                if let Some(node) = self.value(&entry.node, inner, entry.key_at) {
                    kept.push(Entry { key: entry.key.clone(), key_at: entry.key_at, node });
                }
            }
            self.path.truncate(length);
        }
        for key in required(schema).filter(|key| node.get(key).is_none()) {
            let example = schema["properties"][key]["examples"].get(0);
            let remedy = example.map(|example| format!("add for example {key} = {example}"));
            self.fault(key_at, None, format!("{key} is missing"), remedy);
        }
        Node { value: Value::Table(kept), at: node.at }
    }

    /// The schema of one key of a table, or the fault that there is none.
    fn schema_of<'a>(&mut self, entry: &Entry, schema: &'a Json, top: bool) -> Option<&'a Json> {
        if let Some(known) = schema["properties"].get(&entry.key) {
            return Some(known);
        }
        let by_name = schema["patternProperties"].as_object().and_then(|patterns| patterns.values().next());
        if let Some(inner) = by_name {
            let Err(fault) = Name::try_from(entry.key.clone()) else { return Some(inner) };
            let better = name_like(&entry.key).map(|name| format!("write for example {name}"));
            self.fault(entry.key_at, None, fault, better);
            return None;
        }
        if self.newer {
            return None;
        }
        if top && RESERVED.contains(&entry.key.as_str()) {
            let remedy = "remove it: this version would not do what it asks for";
            self.fault(entry.key_at, None, "is reserved for a later version", Some(remedy.into()));
            return None;
        }
        let known = || schema["properties"].as_object().into_iter().flatten().map(|(key, _)| key.as_str());
        let remedy = match nearest(&entry.key, known()) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("known here: {}", known().collect::<Vec<_>>().join(", ")),
        };
        self.fault(entry.key_at, None, "is not a known key", Some(remedy));
        None
    }
}

/// What is wrong with a single value, and the remedy when it is special.
fn scalar_fault(value: &Value, schema: &Json, defined: Option<&str>) -> Option<(String, Option<String>)> {
    if let Some(choices) = choices(schema) {
        let shown = value.shown().unwrap_or_default();
        if choices.contains(&shown) {
            return None;
        }
        let near =
            nearest(&shown, choices.iter().map(String::as_str)).map(|near| format!("did you mean {near}?"));
        let remedy = near.unwrap_or_else(|| format!("write one of {}", choices.join(", ")));
        return Some(("is not one of the choices".into(), Some(remedy)));
    }
    match value {
        Value::Text(text) if allows(schema, "string") => text_fault(text, schema, defined),
        Value::Bool(_) if allows(schema, "boolean") => None,
        Value::Integer(number) if allows(schema, "integer") => {
            let (least, most) = range(schema);
            let fits = (least..=most).contains(number);
            let fault = || match defined {
                Some("Bytes") => "is not a size".into(),
                _ => format!("is not between {least} and {most}"),
            };
            (!fits).then(|| (fault(), None))
        }
        _ => {
            let kinds = [
                ("object", "a table"),
                ("array", "a list"),
                ("string", "text"),
                ("integer", "a whole number"),
                ("boolean", "true or false"),
            ];
            let wanted: Vec<&str> =
                kinds.iter().filter(|(name, _)| allows(schema, name)).map(|(_, kind)| *kind).collect();
            Some((format!("is {}, not {}", value.kind(), wanted.join(" or ")), None))
        }
    }
}

/// Text with a grammar of its own.
fn text_fault(text: &str, schema: &Json, defined: Option<&str>) -> Option<(String, Option<String>)> {
    let own = |text: &str| text.to_string();
    match defined {
        Some("Name") => Name::try_from(own(text))
            .err()
            .map(|fault| (fault, name_like(text).map(|name| format!("write for example {}", quoted(&name))))),
        Some("DevicePath") => DevicePath::try_from(own(text)).err().map(|fault| {
            (fault, Some("use its name below /dev/disk/by-id, as `ls -l /dev/disk/by-id` shows it".into()))
        }),
        Some("Bytes") => text.parse::<Bytes>().err().map(|fault| (fault, None)),
        _ if schema["format"] == "ip" && text.parse::<std::net::IpAddr>().is_err() => {
            Some(("is not an IP address".into(), Some("write for example \"192.168.0.1\"".into())))
        }
        _ => None,
    }
}

fn required(schema: &Json) -> impl Iterator<Item = &str> {
    schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str)
}

/// An optional key's schema without its `null`.
fn not_null(schema: &Json) -> &Json {
    let mut alternatives = schema["anyOf"].as_array().into_iter().flatten();
    alternatives.find(|one| one["type"] != "null").unwrap_or(schema)
}

/// Whether a number is within bounds that are its own, and may be left out: that is what most mean by 0.
fn leaves_out(schema: &Json) -> bool {
    allows(schema, "integer") && allows(schema, "null") && schema["minimum"].as_i64() > Some(0)
}

fn allows(schema: &Json, kind: &str) -> bool {
    match &schema["type"] {
        Json::Array(several) => several.iter().any(|one| one == kind),
        one => one == kind,
    }
}

/// The constants of an enumeration, written as the file writes them.
fn choices(schema: &Json) -> Option<Vec<String>> {
    let constants: Vec<&Json> = match (&schema["oneOf"], &schema["enum"]) {
        (Json::Array(several), _) => several.iter().map(|one| &one["const"]).collect(),
        (_, Json::Array(several)) => several.iter().collect(),
        _ => return None,
    };
    Some(constants.into_iter().filter_map(Json::as_str).map(quoted).collect())
}

fn range(schema: &Json) -> (i128, i128) {
    let most = match schema["format"].as_str() {
        Some("uint8") => u8::MAX.into(),
        Some("uint16") => u16::MAX.into(),
        Some("uint32") => u32::MAX.into(),
        _ => i64::MAX.into(),
    };
    let bound = |key: &str| schema[key].as_i64().map(i128::from);
    (bound("minimum").unwrap_or(0), bound("maximum").unwrap_or(most))
}

/// `text` made into a valid name, when something is left of it.
fn name_like(text: &str) -> Option<String> {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = text.chars().map(letter).take(63).collect();
    Name::try_from(name.trim_matches('-').to_string()).ok().map(Into::into)
}

/// The known word that was probably meant.
pub(crate) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // A word of that length is nobody's typing error, and the distance costs its square; nor does a person
    // have hundreds of volumes, while a hostile file may.
    if word.len() > 100 {
        return None;
    }
    known
        .take(300)
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 5)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
