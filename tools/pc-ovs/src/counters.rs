//! What interfaces have dropped since they were made: counters of the datapath (`statistics` of `Interface`,
//! ovs-vswitchd.conf.db(5)). Read once where they are told, as they change every few seconds.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use crate::ovsdb::{Client, Error};
use crate::switch::DATABASE;

/// The answer comes out of the server's memory, right after it has answered a larger question.
const CALL: Duration = Duration::from_secs(5);

/// Packets of one interface, each where its driver counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Dropped on the way in.
    pub received_dropped: Option<u64>,
    /// Dropped on the way out.
    pub sent_dropped: Option<u64>,
    /// Faulty on the way in.
    pub received_errors: Option<u64>,
    /// Faulty on the way out.
    pub sent_errors: Option<u64>,
}

/// Of every interface, by its name.
pub fn read(socket: &Path) -> Result<BTreeMap<String, Counters>, Error> {
    let select =
        json!({"op": "select", "table": "Interface", "where": [], "columns": ["name", "statistics"]});
    let answer = Client::connect(socket, CALL)?.call("transact", &json!([DATABASE, select]))?;
    Ok(of_rows(&answer))
}

/// The results of the transaction (RFC 7047, section 4.1.3); a row without a name or a map is left out.
fn of_rows(answer: &Value) -> BTreeMap<String, Counters> {
    let rows = answer.pointer("/0/rows").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let of_row = |row: &Value| {
        let pairs = row.pointer("/statistics/1")?.as_array()?;
        let of = |key: &str| {
            let pair = pairs.iter().find(|pair| pair.get(0).and_then(Value::as_str) == Some(key));
            pair.and_then(|pair| pair.get(1)?.as_u64())
        };
        let counters = Counters {
            received_dropped: of("rx_dropped"),
            sent_dropped: of("tx_dropped"),
            received_errors: of("rx_errors"),
            sent_errors: of("tx_errors"),
        };
        Some((row.get("name")?.as_str()?.to_string(), counters))
    };
    rows.iter().filter_map(of_row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_driver_does_not_count_is_not_zero() {
        let answer = json!([{"rows": [
            {"name": "nic0", "statistics": ["map", [["rx_bytes", 90], ["rx_dropped", 7], ["tx_dropped", 0], ["tx_errors", -1]]]},
            {"name": "new", "statistics": ["map", []]},
            {"name": "odd", "statistics": 3},
            {"statistics": ["map", []]},
        ]}]);
        let nic0 = Counters { received_dropped: Some(7), sent_dropped: Some(0), ..Counters::default() };
        let expected = [("new".to_string(), Counters::default()), ("nic0".to_string(), nic0)];
        assert_eq!(of_rows(&answer), BTreeMap::from(expected));
        assert_eq!(of_rows(&json!([{"error": "unknown column", "details": ""}])), BTreeMap::new());
    }
}
