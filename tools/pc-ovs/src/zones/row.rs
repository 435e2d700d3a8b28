//! Rows of `OVN_Northbound` (ovn-nb(5)) as data: what is wanted and what is there, in the same words. A row has a key of
//! ours, which its `external_ids` carry, so that it is found again whatever its UUID.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::ovsdb::{Row as Raw, map, set};

/// Key in `external_ids` of every row that is ours; its value is the cluster.
pub const OWNER: &str = "personal-cluster";
/// Key in `external_ids`: our key of the row.
pub const ROW: &str = "personal-cluster-row";

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A string.
    Text,
    /// An integer.
    Number,
    /// An integer that may be absent.
    OptionalNumber,
    /// A set of strings.
    Words,
    /// A map of strings.
    Map,
    /// A set of references; those to rows of others are not ours to see.
    Rows,
    /// A reference that may be absent.
    OptionalRow,
}

/// One table, as far as we write it.
#[derive(Debug)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// The table and column that keep its rows alive; none for a table of roots.
    pub parent: Option<(&'static str, &'static str)>,
    /// Two rows of the same `name` cannot be.
    pub is_named: bool,
    /// Columns that keep rows of other tables alive: with a row of somebody else in one of them a row of ours stays.
    pub keeps: &'static [&'static str],
    /// What we write.
    pub columns: &'static [(&'static str, Kind)],
}

/// Rows are inserted in this order, so that a reference is known when it is used.
pub static TABLES: [Table; 8] = [
    Table {
        name: "DHCP_Options",
        parent: None,
        is_named: false,
        keeps: &[],
        columns: &[("cidr", Kind::Text), ("options", Kind::Map)],
    },
    Table {
        name: "ACL",
        parent: Some(("Port_Group", "acls")),
        is_named: false,
        keeps: &[],
        columns: &[
            ("direction", Kind::Text),
            ("priority", Kind::Number),
            ("match", Kind::Text),
            ("action", Kind::Text),
        ],
    },
    Table {
        name: "Logical_Switch_Port",
        parent: Some(("Logical_Switch", "ports")),
        is_named: true,
        keeps: &[],
        columns: &[
            ("name", Kind::Text),
            ("type", Kind::Text),
            ("addresses", Kind::Words),
            ("port_security", Kind::Words),
            ("options", Kind::Map),
            ("tag", Kind::OptionalNumber),
            ("dhcpv4_options", Kind::OptionalRow),
            ("dhcpv6_options", Kind::OptionalRow),
        ],
    },
    Table {
        name: "Logical_Router_Port",
        parent: Some(("Logical_Router", "ports")),
        is_named: true,
        keeps: &[],
        columns: &[
            ("name", Kind::Text),
            ("mac", Kind::Text),
            ("networks", Kind::Words),
            ("ipv6_ra_configs", Kind::Map),
        ],
    },
    Table {
        name: "Logical_Router_Policy",
        parent: Some(("Logical_Router", "policies")),
        is_named: false,
        keeps: &[],
        columns: &[("priority", Kind::Number), ("match", Kind::Text), ("action", Kind::Text)],
    },
    Table {
        name: "Logical_Switch",
        parent: None,
        is_named: false,
        keeps: &["ports", "acls", "qos_rules", "forwarding_groups"],
        columns: &[("name", Kind::Text)],
    },
    Table {
        name: "Logical_Router",
        parent: None,
        is_named: false,
        keeps: &["ports", "policies", "static_routes", "nat"],
        columns: &[("name", Kind::Text)],
    },
    Table {
        name: "Port_Group",
        parent: None,
        is_named: true,
        keeps: &["acls"],
        columns: &[("name", Kind::Text), ("ports", Kind::Rows)],
    },
];

/// The table of that name; the names are our own.
pub fn table(name: &str) -> Option<&'static Table> {
    TABLES.iter().find(|table| table.name == name)
}

/// The content of one column. References are our keys of the rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Column {
    /// A string.
    Text(String),
    /// An integer.
    Number(i64),
    /// Strings, or references.
    Words(BTreeSet<String>),
    /// Strings by string.
    Map(BTreeMap<String, String>),
}

/// One row. What is empty is absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The table.
    pub table: String,
    /// Our key of the row that keeps it alive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Columns by name.
    pub columns: BTreeMap<String, Column>,
}

impl Row {
    /// An empty row of a table.
    pub fn of(table: &str) -> Row {
        Row { table: table.into(), parent: None, columns: BTreeMap::new() }
    }

    /// Kept alive by that row.
    pub fn under(mut self, parent: impl Into<String>) -> Row {
        self.parent = Some(parent.into());
        self
    }

    /// With a string.
    pub fn text(self, column: &str, text: impl Into<String>) -> Row {
        let text = text.into();
        let is_empty = text.is_empty();
        self.with(column, Column::Text(text), is_empty)
    }

    /// With an integer.
    pub fn number(self, column: &str, number: impl Into<i64>) -> Row {
        self.with(column, Column::Number(number.into()), false)
    }

    /// With strings, or references.
    pub fn words(self, column: &str, words: impl IntoIterator<Item = String>) -> Row {
        let words: BTreeSet<String> = words.into_iter().collect();
        let is_empty = words.is_empty();
        self.with(column, Column::Words(words), is_empty)
    }

    /// With a map.
    pub fn map<V: Into<String>>(
        self,
        column: &str,
        pairs: impl IntoIterator<Item = (&'static str, V)>,
    ) -> Row {
        let map: BTreeMap<String, String> =
            pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        let is_empty = map.is_empty();
        self.with(column, Column::Map(map), is_empty)
    }

    fn with(mut self, column: &str, value: Column, is_empty: bool) -> Row {
        if !is_empty {
            self.columns.insert(column.into(), value);
        }
        self
    }

    /// The words of a column.
    pub fn words_of(&self, column: &str) -> impl Iterator<Item = &str> {
        let words = match self.columns.get(column) {
            Some(Column::Words(words)) => Some(words),
            _ => None,
        };
        words.into_iter().flatten().map(String::as_str)
    }

    /// The string of a column.
    pub fn text_of(&self, column: &str) -> &str {
        match self.columns.get(column) {
            Some(Column::Text(text)) => text,
            _ => "",
        }
    }

    /// The rows that it refers to, by our key, with the column.
    #[cfg(test)]
    pub fn references(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let columns = table(&self.table).map_or(&[][..], |table| table.columns);
        let of_rows = columns.iter().filter(|(_, kind)| matches!(kind, Kind::Rows | Kind::OptionalRow));
        of_rows.flat_map(move |(column, _)| self.words_of(column).map(move |word| (*column, word)))
    }

    /// Takes the columns of a row that the database holds; `keys` are our keys by UUID.
    pub fn read(table: &Table, raw: &Raw, keys: &BTreeMap<String, String>) -> Row {
        let mut row = Row::of(table.name);
        for (column, kind) in table.columns {
            row = match kind {
                Kind::Text => row.text(column, raw.text(column).unwrap_or_default()),
                Kind::Number | Kind::OptionalNumber => match raw.number(column) {
                    Some(number) => row.number(column, number),
                    None => row,
                },
                Kind::Words => row.words(column, raw.words(column).into_iter().map(str::to_string)),
                Kind::Map => {
                    let pairs = raw.pairs(column).into_iter();
                    let map: BTreeMap<String, String> =
                        pairs.map(|(key, value)| (key.to_string(), value.to_string())).collect();
                    let is_empty = map.is_empty();
                    row.with(column, Column::Map(map), is_empty)
                }
                Kind::Rows => row
                    .words(column, raw.references(column).into_iter().filter_map(|id| keys.get(id).cloned())),
                // One of somebody else's differs from every one of ours.
                Kind::OptionalRow => {
                    let key = |id: &str| keys.get(id).cloned().unwrap_or_else(|| format!("?{id}"));
                    row.words(column, raw.references(column).into_iter().map(key))
                }
            };
        }
        row
    }
}

/// The content of a column as OVSDB writes it (RFC 7047, section 5.1); `reference` gives the row of a key of ours.
pub fn written(kind: Kind, value: Option<&Column>, reference: impl Fn(&str) -> Value) -> Value {
    match (kind, value) {
        (Kind::Text, None) => json!(""),
        (Kind::Number, None) => json!(0),
        (Kind::Map, None) => map([]),
        (_, None) => set([]),
        (_, Some(Column::Text(text))) => json!(text),
        (_, Some(Column::Number(number))) => json!(number),
        (Kind::Rows | Kind::OptionalRow, Some(Column::Words(keys))) => {
            set(keys.iter().map(|key| reference(key)))
        }
        (_, Some(Column::Words(words))) => set(words.iter().map(|word| json!(word))),
        (_, Some(Column::Map(pairs))) => map(pairs.iter().map(|(key, value)| (key.as_str(), value.as_str()))),
    }
}
