//! TOML and JSON to the same tree of positioned values.

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use toml::de::{DeString, DeTable, DeValue};

use crate::tree::{Entry, Item, Node, Value};

/// A fault of the syntax: byte offset and what is wrong there.
pub(crate) type SyntaxFault = (usize, String);

/// How deep a JSON file may nest. The shape of a cluster file needs fewer than ten levels; each one is read anew and followed by a call of
/// its own, and the parser's limit does not count across them.
const DEEPEST: usize = 64;

/// Reads TOML; goes on after a fault, to tell all of them.
pub(crate) fn toml(text: &str) -> Result<Node, Vec<SyntaxFault>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let fault = |error: toml::de::Error| {
            (error.span().map_or(text.len(), |span| span.start), error.message().to_string())
        };
        let mut faults: Vec<SyntaxFault> = errors.into_iter().map(fault).collect();
        // One place has one fault: what else is said of it follows, as for every bracket that is still open there.
        faults.sort_by_key(|(offset, _)| *offset);
        faults.dedup_by_key(|(offset, _)| *offset);
        return Err(faults);
    }
    Ok(Node { value: toml_table(table.get_ref()), at: 0 })
}

fn toml_table(table: &DeTable<'_>) -> Value {
    let entry = |(key, value): (&toml::Spanned<DeString<'_>>, &toml::Spanned<DeValue<'_>>)| Entry {
        key: key.get_ref().to_string(),
        key_at: key.span().start,
        node: toml_node(value),
    };
    let mut entries: Vec<Entry> = table.iter().map(entry).collect();
    entries.sort_by_key(|entry| entry.key_at);
    Value::Table(entries)
}

fn toml_node(value: &toml::Spanned<DeValue<'_>>) -> Node {
    let plain = match value.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Boolean(truth) => Value::Bool(*truth),
        DeValue::Integer(number) => match i128::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => Value::Other("a number beyond all bounds", number.to_string()),
        },
        DeValue::Float(number) => Value::Other("a fraction", number.to_string()),
        DeValue::Datetime(date) => Value::Other("a date", date.to_string()),
        DeValue::Table(table) => toml_table(table),
        DeValue::Array(array) => Value::Array(
            array.iter().enumerate().map(|(index, value)| Item { index, node: toml_node(value) }).collect(),
        ),
    };
    Node { value: plain, at: value.span().start }
}

/// Reads JSON. `null` is the same as leaving a key out: that is how Nix writes an option without a value.
pub(crate) fn json(text: &str) -> Result<Node, Vec<SyntaxFault>> {
    let raw: &RawValue = serde_json::from_str(text).map_err(|error| {
        let message = error.to_string();
        let plain = message.split(" at line ").next().unwrap_or(&message).to_string();
        vec![(offset_of(text, error.line(), error.column()), plain)]
    })?;
    if let Some((at, key)) = too_deep(text) {
        return Err(vec![(at, format!("recursion: {key} has more than {DEEPEST} brackets in each other"))]);
    }
    let mut faults = Vec::new();
    let node = json_node(text, raw, &mut faults);
    match node {
        Some(node) if faults.is_empty() => Ok(node),
        _ => Err(faults),
    }
}

/// `serde_json` counts lines from 1 and columns in bytes, and points behind the byte it dislikes.
fn offset_of(text: &str, line: usize, column: usize) -> usize {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let mut offset = (start + column.saturating_sub(1)).min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

/// Where JSON, known to be well-formed, nests deeper than [`DEEPEST`], and below which key of the outermost object. One pass.
fn too_deep(text: &str) -> Option<(usize, &str)> {
    let (mut depth, mut key, mut string) = (0_usize, "the file", None);
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match (string, byte) {
            (Some(_), b'\\') => {
                bytes.next();
            }
            // The last string before a bracket at this depth is its key.
            (Some(start), b'"') => {
                key = if depth == 1 { &text[start..=at] } else { key };
                string = None;
            }
            (None, b'"') => string = Some(at),
            (None, b'{' | b'[') if depth == DEEPEST => return Some((at, key)),
            (None, b'{' | b'[') => depth += 1,
            (None, b'}' | b']') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

/// Every raw value is a slice of the text, so its address tells where it stands.
fn offset_in(text: &str, slice: &str) -> usize {
    (slice.as_ptr() as usize).saturating_sub(text.as_ptr() as usize)
}

fn json_node(text: &str, raw: &RawValue, faults: &mut Vec<SyntaxFault>) -> Option<Node> {
    let written = raw.get();
    let at = offset_in(text, written);
    let value = match written.as_bytes().first()? {
        b'{' => Value::Table(json_entries(text, raw, faults)),
        b'[' => {
            let items: Vec<&RawValue> = serde_json::from_str(written).ok()?;
            let item = |(index, raw)| json_node(text, raw, faults).map(|node| Item { index, node });
            Value::Array(items.into_iter().enumerate().filter_map(item).collect())
        }
        b'"' => {
            let Ok(text) = serde_json::from_str(written) else {
                // The syntax was read before: what is left is half a surrogate pair.
                faults.push((at, "half a surrogate pair".into()));
                return None;
            };
            Value::Text(text)
        }
        b't' => Value::Bool(true),
        b'f' => Value::Bool(false),
        b'n' => return None,
        _ => match written.parse() {
            Ok(number) => Value::Integer(number),
            Err(_) => Value::Other("a fraction", written.into()),
        },
    };
    Some(Node { value, at })
}

fn json_entries(text: &str, raw: &RawValue, faults: &mut Vec<SyntaxFault>) -> Vec<Entry> {
    let Ok(Members(members)) = serde_json::from_str(raw.get()) else { return Vec::new() };
    let mut entries: Vec<Entry> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for (raw_key, raw_value) in members {
        let key_at = offset_in(text, raw_key.get());
        let Ok(key) = serde_json::from_str::<String>(raw_key.get()) else {
            faults.push((key_at, "half a surrogate pair".into()));
            continue;
        };
        if !seen.insert(key.clone()) {
            faults.push((key_at, format!("duplicate key {}", crate::tree::quoted(&key))));
            continue;
        }
        if let Some(node) = json_node(text, raw_value, faults) {
            entries.push(Entry { key, key_at, node });
        }
    }
    entries
}

/// The members of an object in the order of the file, duplicates included.
struct Members<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Members<'de>, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Step, at};

    fn found<'a>(text: &'a str, tree: &Node, steps: &[Step]) -> &'a str {
        &text[tree.find(steps).at..]
    }

    #[test]
    fn both_grammars_give_positions() {
        let text = "schema = \"s\"\n[[node]]\ndisks.vms = [\n  \"a\", \"b\" ]\n[vm.x]\ncpus = 0x10\n[vm.y]\n";
        let tree = toml(text).unwrap();
        assert!(found(text, &tree, &at!["node", 0, "disks", "vms", 1]).starts_with("\"b\""));
        assert!(found(text, &tree, &at!["vm", "x", "cpus"]).starts_with("0x10"));
        assert!(found(text, &tree, &at!["vm", "y"]).starts_with("y]"));
        assert!(found(text, &tree, &at!["node", 0]).starts_with("[[node]]"));
        let text =
            "{ \"node\": [ {\"disks\": {\"vms\": [ \"a\", \"b\"]}, \"z\": null} ],\n \"vm\": {\"x\": {}} }";
        let tree = json(text).unwrap();
        assert!(found(text, &tree, &at!["node", 0, "disks", "vms", 1]).starts_with("\"b\""));
        assert!(found(text, &tree, &at!["vm", "x"]).starts_with("\"x\""));
        assert_eq!(tree.find(&at!["node", 0, "z"]).path, "node[0]");
    }

    #[test]
    fn syntax_faults_point_at_the_place() {
        let faults = toml("a = \nb = 1\nc = [1\n").unwrap_err();
        assert!(faults.len() >= 2, "{faults:?}");
        assert_eq!(toml("a = [[[[\n[[").unwrap_err().len(), 1, "an open bracket is told once");
        let faults = json("{\n \"a\": 1,\n \"a\": 2,\n \"b\": \"\\ud800\" }").unwrap_err();
        assert_eq!(faults[0], (12, "duplicate key \"a\"".into()));
        assert_eq!(json("{\n \"a\": tru }").unwrap_err()[0].0, 11);
    }

    #[test]
    fn deep_nesting_is_refused_not_followed() {
        let arrays = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let objects = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        for nested in [arrays, objects] as [fn(usize) -> String; 2] {
            // Strings are no brackets; the innermost key is not the one that a person looks for.
            let file = |depth| format!("{{ \"s\": \"\\\"[{{\",\n \"name\": {} }}", nested(depth));
            assert!(json(&file(DEEPEST - 1)).is_ok());
            for depth in [DEEPEST, 3000, 100_000] {
                let text = file(depth);
                let faults = json(&text).unwrap_err();
                let [(at, message)] = faults.as_slice() else { panic!("{faults:?}") };
                assert_eq!(message, "recursion: \"name\" has more than 64 brackets in each other");
                assert_eq!(text[..*at].matches('\n').count(), 1);
            }
            assert!(json(&nested(100_000)).is_err());
        }
        assert!(
            json(&format!("{{\"a\":[{}]}}", vec![arrays(DEEPEST - 2); 1000].join(","))).is_ok(),
            "side by side"
        );
        let tables = vec!["a"; 100_000].join(".");
        assert!(toml(&format!("a = {}", arrays(3000))).is_err());
        assert!(toml(&format!("a = {}1{}", "{a=".repeat(3000), "}".repeat(3000))).is_err());
        assert!(toml(&format!("[{tables}]\nb = 1")).is_err());
        assert!(toml(&format!("[[{tables}]]\nb = 1")).is_err());
        // Open to the end.
        assert!(toml(&format!("a = {}", "[".repeat(100_000))).is_err());
        assert!(toml(&format!("{} = 1", vec!["a"; 100_000].join("."))).is_err());
        assert!(json(&"[".repeat(100_000)).is_err());
        assert!(json(&"{\"a\":".repeat(100_000)).is_err());
    }
}
