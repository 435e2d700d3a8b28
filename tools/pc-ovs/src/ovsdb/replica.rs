//! What a `monitor` told us of a database, kept up to date by its `update`s (RFC 7047, section 4.1.5).

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::{Map, Value, json};

use super::client::{Client, Error};
use super::wire::Malformed;

/// Columns of one row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Row(Map<String, Value>);

impl Row {
    /// A string column, or an optional one that is set.
    pub fn text(&self, column: &str) -> Option<&str> {
        self.0.get(column).and_then(only).and_then(Value::as_str)
    }

    /// An integer column, or an optional one that is set.
    pub fn number(&self, column: &str) -> Option<i64> {
        self.0.get(column).and_then(only).and_then(Value::as_i64)
    }

    /// One key of a map column.
    pub fn key(&self, column: &str, key: &str) -> Option<&str> {
        self.pairs(column).into_iter().find(|(found, _)| *found == key).map(|(_, value)| value)
    }

    /// All pairs of a map from strings to strings.
    pub fn pairs(&self, column: &str) -> Vec<(&str, &str)> {
        let pairs = match self.0.get(column).and_then(Value::as_array).map(Vec::as_slice) {
            Some([kind, Value::Array(pairs)]) if kind == "map" => pairs.as_slice(),
            _ => &[],
        };
        pairs.iter().filter_map(|pair| Some((pair.get(0)?.as_str()?, pair.get(1)?.as_str()?))).collect()
    }

    /// All elements of a set of strings.
    pub fn words(&self, column: &str) -> Vec<&str> {
        let Some(value) = self.0.get(column) else { return Vec::new() };
        elements(value).into_iter().filter_map(Value::as_str).collect()
    }

    /// An optional truth value that is set, or one that always is.
    pub fn truth(&self, column: &str) -> Option<bool> {
        self.0.get(column).and_then(only).and_then(Value::as_bool)
    }

    /// The rows that a column refers to.
    pub fn references(&self, column: &str) -> Vec<&str> {
        let Some(value) = self.0.get(column) else { return Vec::new() };
        elements(value)
            .into_iter()
            .filter(|atom| atom.get(0).and_then(Value::as_str) == Some("uuid"))
            .filter_map(|atom| atom.get(1)?.as_str())
            .collect()
    }

    /// The column as it came: for guards.
    pub fn raw(&self, column: &str) -> Value {
        self.0.get(column).cloned().unwrap_or(Value::Null)
    }
}

/// The elements of a set; a set of one may be written as that one (RFC 7047, section 5.1).
fn elements(value: &Value) -> Vec<&Value> {
    match value.as_array().map(Vec::as_slice) {
        Some([kind, Value::Array(list)]) if kind == "set" => list.iter().collect(),
        _ => vec![value],
    }
}

fn only(value: &Value) -> Option<&Value> {
    match elements(value)[..] {
        [one] => Some(one),
        _ => None,
    }
}

/// The monitored part of one database.
#[derive(Debug, Default)]
pub struct Replica {
    tables: BTreeMap<String, BTreeMap<String, Row>>,
}

impl Replica {
    /// Reads the named columns of the named tables of `database` in one call, and keeps listening to them.
    pub fn monitor(
        client: &mut Client,
        database: &str,
        tables: &[(&str, &[&str])],
    ) -> Result<Replica, Error> {
        let requests: Map<String, Value> =
            tables.iter().map(|(table, columns)| ((*table).into(), json!({"columns": columns}))).collect();
        let initial = client.call("monitor", &json!([database, database, requests]))?;
        let mut replica = Replica::default();
        replica.update(&initial)?;
        Ok(replica)
    }

    /// Takes in the next update; false when none came before `until`.
    pub fn follow(&mut self, client: &mut Client, until: Instant) -> Result<bool, Error> {
        let Some(params) = client.next_update(until)? else { return Ok(false) };
        let updates = params.get(1).ok_or_else(|| Malformed("an update without its tables".into()))?;
        self.update(updates)?;
        Ok(true)
    }

    fn update(&mut self, updates: &Value) -> Result<(), Malformed> {
        let wrong = || Malformed("an update is not a map of tables of rows".into());
        for (table, rows) in updates.as_object().ok_or_else(wrong)? {
            let known = self.tables.entry(table.clone()).or_default();
            for (uuid, change) in rows.as_object().ok_or_else(wrong)? {
                match change.get("new") {
                    // "new" holds every monitored column, changed or not.
                    Some(Value::Object(row)) => known.insert(uuid.clone(), Row(row.clone())),
                    _ => known.remove(uuid),
                };
            }
        }
        Ok(())
    }

    /// All rows of a table, by UUID.
    pub fn rows(&self, table: &str) -> impl Iterator<Item = (&str, &Row)> {
        self.tables.get(table).into_iter().flatten().map(|(uuid, row)| (uuid.as_str(), row))
    }

    /// One row.
    pub fn row(&self, table: &str, uuid: &str) -> Option<&Row> {
        self.tables.get(table)?.get(uuid)
    }

    /// The row whose `name` is this, in a table where names are unique.
    pub fn named(&self, table: &str, name: &str) -> Option<(&str, &Row)> {
        self.rows(table).find(|(_, row)| row.text("name") == Some(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(text: &str) -> Row {
        Row(serde_json::from_str(text).unwrap())
    }

    #[test]
    fn columns_of_each_kind_are_read() {
        // As ovsdb-server 3.1 writes them.
        let row = row(r#"{"name":"br0","tag":["set",[]],"mtu":1500,"error":["set",["no such device"]],
            "ports":["set",[["uuid","a"],["uuid","b"]]],"interfaces":["uuid","c"],
            "external_ids":["map",[["k","v"],["personal-cluster","lan"]]]}"#);
        assert_eq!(row.text("name"), Some("br0"));
        assert_eq!((row.number("tag"), row.number("mtu")), (None, Some(1500)));
        assert_eq!(row.text("error"), Some("no such device"));
        assert_eq!((row.references("ports"), row.references("interfaces")), (vec!["a", "b"], vec!["c"]));
        assert_eq!(row.key("external_ids", "personal-cluster"), Some("lan"));
        assert_eq!(
            (row.key("external_ids", "x"), row.key("name", "x"), row.text("absent")),
            (None, None, None)
        );
        assert!(row.references("tag").is_empty());
        assert_eq!(row.pairs("external_ids"), [("k", "v"), ("personal-cluster", "lan")]);
        assert!(row.pairs("ports").is_empty() && row.pairs("absent").is_empty());
        assert_eq!((row.words("error"), row.words("name")), (vec!["no such device"], vec!["br0"]));
        assert!(row.words("tag").is_empty() && row.words("absent").is_empty());
        assert_eq!((row.truth("mtu"), row.truth("absent")), (None, None));
    }

    #[test]
    fn updates_insert_modify_and_delete() {
        let mut replica = Replica::default();
        let update = |replica: &mut Replica, text: &str| replica.update(&serde_json::from_str(text).unwrap());
        update(&mut replica, r#"{"Port":{"u1":{"new":{"name":"p1"}},"u2":{"new":{"name":"p2"}}}}"#).unwrap();
        update(&mut replica, r#"{"Port":{"u1":{"old":{"name":"p1"},"new":{"name":"p3"}},"u2":{"old":{}}}}"#)
            .unwrap();
        let names: Vec<_> = replica.rows("Port").filter_map(|(_, row)| row.text("name")).collect();
        assert_eq!(names, ["p3"]);
        assert_eq!(replica.named("Port", "p3").map(|(uuid, _)| uuid), Some("u1"));
        for bad in ["[]", "1", r#"{"Port":[]}"#] {
            assert!(update(&mut replica, bad).is_err());
        }
    }
}
