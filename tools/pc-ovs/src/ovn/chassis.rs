//! What the switch tells ovn-controller: keys of `external_ids` and the certificate, in `Open_vSwitch`
//! (ovn-controller(8), ovs-vswitchd.conf.db(5)). ovn-controller takes every change in by itself.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::plan::{Action, Have, HaveTls, is_known};
use super::want::Tls;
use crate::model;
use crate::ovsdb::{Client, Replica, Row, Transaction, map, named, set, uuid};
use crate::switch::{self, DATABASE};

const TABLES: [(&str, &[&str]); 2] = [
    (DATABASE, &["external_ids", "ssl"]),
    ("SSL", &["private_key", "certificate", "ca_cert", "external_ids"]),
];

/// An open connection with everything read.
pub struct Chassis {
    client: Client,
    replica: Replica,
}

impl Chassis {
    /// Connects and reads. Not there yet means: try again later.
    pub fn open(socket: &Path) -> Result<Chassis> {
        let (client, replica) = switch::read(socket, &TABLES)?;
        Ok(Chassis { client, replica })
    }

    fn global(&self) -> Result<(&str, &Row)> {
        self.replica.rows(DATABASE).next().context("the switch has lost its only row of Open_vSwitch")
    }

    fn tls_row(&self) -> Option<(&str, &Row)> {
        let (_, global) = self.replica.rows(DATABASE).next()?;
        let id = *global.references("ssl").first()?;
        Some((id, self.replica.row("SSL", id)?))
    }

    /// What is there, seen by a node of `cluster`; of units it knows nothing.
    pub fn have(&self, cluster: &str) -> Result<Have> {
        let (_, global) = self.global()?;
        let known = global.pairs("external_ids").into_iter().filter(|(key, _)| is_known(key));
        let settings: BTreeMap<String, String> =
            known.map(|(key, value)| (key.to_string(), value.to_string())).collect();
        let tls = self.tls_row().map(|(_, row)| {
            let text = |column| row.text(column).unwrap_or_default().to_string();
            let tls = Tls {
                private_key: text("private_key"),
                certificate: text("certificate"),
                ca_cert: text("ca_cert"),
            };
            HaveTls { tls, ours: row.key("external_ids", model::OWNER) == Some(cluster) }
        });
        Ok(Have { settings, tls, active: None })
    }

    /// Carries out the switch's part of `actions` in one guarded transaction. [`crate::ovsdb::Error::Stale`] is in the chain
    /// when somebody changed the same columns meanwhile.
    pub fn commit(&mut self, actions: &[&Action], cluster: &str) -> Result<()> {
        let mut transaction = Transaction::default();
        let (id, global) = self.global()?;
        let here = by_uuid(id);
        let columns = ["external_ids", "ssl"];
        let row: serde_json::Map<String, Value> =
            columns.iter().map(|column| ((*column).to_string(), global.raw(column))).collect();
        transaction.expect(DATABASE, &here, &columns, &json!([row]));
        for action in actions {
            match action {
                Action::Settings { set: wanted, remove } => {
                    // A key that is there keeps its value when the same key is inserted (RFC 7047, section 5.1).
                    let first = set(wanted.keys().chain(remove).map(|key| json!(key)));
                    let pairs = map(wanted.iter().map(|(key, value)| (key.as_str(), value.as_str())));
                    let mutations =
                        json!([["external_ids", "delete", first], ["external_ids", "insert", pairs]]);
                    transaction.mutate(DATABASE, &here, &mutations);
                }
                Action::Tls { tls } => {
                    let columns = json!({"private_key": tls.private_key, "certificate": tls.certificate,
                        "ca_cert": tls.ca_cert, "bootstrap_ca_cert": false,
                        "external_ids": map([(model::OWNER, cluster)])});
                    if let Some((id, _)) = self.tls_row() {
                        transaction.update("SSL", &by_uuid(id), &columns);
                    } else {
                        transaction.insert("SSL", "tls", &columns);
                        transaction.update(DATABASE, &here, &json!({"ssl": named("tls")}));
                    }
                }
                // With nothing to refer to it the database drops the row.
                Action::RemoveTls => transaction.update(DATABASE, &here, &json!({"ssl": set([])})),
                Action::Start { .. } => {}
            }
        }
        if transaction.is_empty() {
            return Ok(());
        }
        transaction.commit(&mut self.client, DATABASE).context("changing the switch")?;
        Ok(())
    }
}

fn by_uuid(id: &str) -> Value {
    json!([["_uuid", "==", uuid(id)]])
}
