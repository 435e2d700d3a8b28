//! A transaction being put together: guards first, then changes (RFC 7047, section 5.2).

use serde_json::{Value, json};

use super::client::{Client, Error, explain};

/// A reference to a row that exists.
pub fn uuid(uuid: &str) -> Value {
    json!(["uuid", uuid])
}

/// A reference to a row that the same transaction inserts.
pub fn named(name: &str) -> Value {
    json!(["named-uuid", name])
}

/// A set of atoms.
pub fn set(atoms: impl IntoIterator<Item = Value>) -> Value {
    json!(["set", atoms.into_iter().collect::<Vec<_>>()])
}

/// A map from strings to strings.
pub fn map<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Value {
    json!(["map", pairs.into_iter().map(|(key, value)| json!([key, value])).collect::<Vec<_>>()])
}

/// Operations that happen together or not at all.
#[derive(Debug, Default)]
pub struct Transaction {
    guards: Vec<Value>,
    changes: Vec<Value>,
}

impl Transaction {
    /// Nothing would change.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Goes through only while the rows that match `condition` have exactly these values in these columns.
    pub fn expect(&mut self, table: &str, condition: &Value, columns: &[&str], rows: &Value) {
        self.guards.push(json!({"op": "wait", "timeout": 0, "table": table, "where": condition,
            "columns": columns, "until": "==", "rows": rows}));
    }

    /// Inserts a row that others of this transaction can refer to by `name`.
    pub fn insert(&mut self, table: &str, name: &str, row: &Value) {
        self.changes.push(json!({"op": "insert", "table": table, "uuid-name": name, "row": row}));
    }

    /// Sets whole columns of the rows that match.
    pub fn update(&mut self, table: &str, condition: &Value, row: &Value) {
        self.changes.push(json!({"op": "update", "table": table, "where": condition, "row": row}));
    }

    /// Changes parts of columns of the rows that match: `[column, "insert" | "delete" | "+=", value]` each.
    pub fn mutate(&mut self, table: &str, condition: &Value, mutations: &Value) {
        self.changes
            .push(json!({"op": "mutate", "table": table, "where": condition, "mutations": mutations}));
    }

    /// Deletes the rows that match.
    pub fn delete(&mut self, table: &str, condition: &Value) {
        self.changes.push(json!({"op": "delete", "table": table, "where": condition}));
    }

    /// Makes the last change one whose rows are read back: gives its place among the results.
    pub fn select(&mut self, table: &str, columns: &[&str]) -> usize {
        self.changes.push(json!({"op": "select", "table": table, "where": [], "columns": columns}));
        self.guards.len() + self.changes.len() - 1
    }

    /// Sends it. The results are those of guards and changes, in order.
    pub fn commit(self, client: &mut Client, database: &str) -> Result<Vec<Value>, Error> {
        let guards = self.guards.len();
        let mut params = vec![json!(database)];
        params.extend(self.guards);
        params.extend(self.changes);
        let answer = client.call("transact", &Value::Array(params))?;
        let Value::Array(results) = answer else {
            return Err(Error::Transaction("the answer is not a list of results".into()));
        };
        for (place, result) in results.iter().enumerate() {
            let Some(error) = result.get("error").filter(|error| !error.is_null()) else { continue };
            // A wait that does not hold with time-out 0 "times out".
            if place < guards && error == "timed out" {
                return Err(Error::Stale);
            }
            return Err(Error::Transaction(explain(result)));
        }
        Ok(results)
    }
}
