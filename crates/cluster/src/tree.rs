//! The file as a tree of values that remember where they stand, the same for TOML and JSON.

use std::borrow::Cow;
use std::fmt::Write;

use serde_json::Value as Json;

/// A value and the byte at which it begins.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub value: Value,
    pub at: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// In the order of the file.
    Table(Vec<Entry>),
    Array(Vec<Item>),
    Text(String),
    Bool(bool),
    Integer(i128),
    /// What the file's grammar never asks for (a fraction, a date): its kind, and how it is written.
    Other(&'static str, String),
}

/// One key of a table.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub key: String,
    pub key_at: usize,
    pub node: Node,
}

/// One element of an array, with the index it has in the file (faulty elements before it may be gone).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Item {
    pub index: usize,
    pub node: Node,
}

/// One step of a path through the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Key(String),
    Index(usize),
}

impl From<&str> for Step {
    fn from(key: &str) -> Step {
        Step::Key(key.into())
    }
}

impl From<&crate::names::Name> for Step {
    fn from(name: &crate::names::Name) -> Step {
        Step::Key(name.to_string())
    }
}

impl From<usize> for Step {
    fn from(index: usize) -> Step {
        Step::Index(index)
    }
}

/// Builds a path: `at!["node", 0, "disks", &volume, 1]`.
macro_rules! at {
    ($($step:expr),* $(,)?) => { [$($crate::tree::Step::from($step)),*] };
}
pub(crate) use at;

/// The longest piece of a value that a message repeats, in characters.
const SHOWN: usize = 80;

impl Value {
    /// What a person would call it.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Table(_) => "a table",
            Value::Array(_) => "a list",
            Value::Text(_) => "text",
            Value::Bool(_) => "true or false",
            Value::Integer(_) => "a whole number",
            Value::Other(kind, _) => kind,
        }
    }

    /// How a message repeats it, without the password of a URL; tables and lists are not repeated.
    pub fn shown(&self) -> Option<String> {
        match self {
            Value::Table(_) | Value::Array(_) => None,
            Value::Text(text) => Some(quoted(&without_password(text))),
            Value::Bool(truth) => Some(truth.to_string()),
            Value::Integer(number) => Some(number.to_string()),
            Value::Other(_, written) => Some(shortened(written)),
        }
    }
}

/// `scheme://user:password@host` with asterisks for the password: messages end up in journals and on other nodes. In doubt too
/// much is hidden, for a password may hold any character; what stands behind the port of a URL is none.
fn without_password(text: &str) -> Cow<'_, str> {
    let start = text.find("://").map_or(0, |scheme| scheme + 3);
    let hidden = text.rfind('@').filter(|end| *end > start).and_then(|end| {
        let colon = start + text[start..end].find(':')?;
        let behind = &text[colon + 1..end];
        let is_port = |(port, _): (&str, &str)| port.bytes().all(|byte| byte.is_ascii_digit());
        (!behind.split_once('/').is_some_and(is_port)).then(|| (colon + 1, end))
    });
    hidden.map_or(Cow::Borrowed(text), |(from, to)| format!("{}***{}", &text[..from], &text[to..]).into())
}

/// `text` in double quotes, control characters escaped, cut when it is long.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for character in shortened(text).chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            _ if character.is_control() => out.extend(character.escape_default()),
            _ => out.push(character),
        }
    }
    out.push('"');
    out
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((cut, _)) => format!("{}...", &text[..cut]),
        None => text.into(),
    }
}

/// Adds one key to a path as people write it: `vm.mail.cpus`.
pub(crate) fn push_key(path: &mut String, key: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !key.is_empty() && key.bytes().all(bare) {
        path.push_str(&shortened(key));
    } else {
        path.push_str(&quoted(key));
    }
}

/// Adds one index to a path as people write it: `node[0]`.
pub(crate) fn push_index(path: &mut String, index: usize) {
    // Writing to a String cannot fail.
    let _ = write!(path, "[{index}]");
}

/// What a path leads to: as much of it as the file has.
pub(crate) struct Found<'a> {
    /// The path of what was found, as people write it.
    pub path: String,
    /// Where to point at.
    pub at: usize,
    /// The value, unless only an ancestor was found.
    pub value: Option<&'a Value>,
}

impl Node {
    pub fn table(&self) -> &[Entry] {
        match &self.value {
            Value::Table(entries) => entries,
            _ => &[],
        }
    }

    pub fn get(&self, key: &str) -> Option<&Node> {
        self.table().iter().find(|entry| entry.key == key).map(|entry| &entry.node)
    }

    pub fn array(&self) -> &[Item] {
        match &self.value {
            Value::Array(items) => items,
            _ => &[],
        }
    }

    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Follows `steps` as far as the file goes; a table is pointed at by its key.
    pub fn find(&self, steps: &[Step]) -> Found<'_> {
        let mut found = Found { path: String::new(), at: self.at, value: None };
        let mut node = self;
        for (done, step) in steps.iter().enumerate() {
            let next = match step {
                Step::Key(key) => node.table().iter().find(|entry| entry.key == *key).map(|entry| {
                    push_key(&mut found.path, key);
                    let is_table = matches!(entry.node.value, Value::Table(_));
                    (&entry.node, if is_table { entry.key_at } else { entry.node.at })
                }),
                Step::Index(index) => node.array().get(*index).map(|item| {
                    push_index(&mut found.path, item.index);
                    (&item.node, item.node.at)
                }),
            };
            let Some((next, at)) = next else { return found };
            found.at = at;
            node = next;
            if done + 1 == steps.len() {
                found.value = Some(&node.value);
            }
        }
        found
    }

    /// The plain value, for serde.
    pub fn to_json(&self) -> Json {
        match &self.value {
            Value::Table(entries) => {
                entries.iter().map(|entry| (entry.key.clone(), entry.node.to_json())).collect()
            }
            Value::Array(items) => items.iter().map(|item| item.node.to_json()).collect(),
            Value::Text(text) => Json::from(text.as_str()),
            Value::Bool(truth) => Json::from(*truth),
            Value::Integer(number) => match (i64::try_from(*number), u64::try_from(*number)) {
                (Ok(signed), _) => signed.into(),
                (_, Ok(unsigned)) => unsigned.into(),
                _ => Json::Null,
            },
            Value::Other(_, written) => Json::from(written.as_str()),
        }
    }
}
