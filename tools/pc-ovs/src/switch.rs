//! The switch: what `Open_vSwitch` (ovs-vswitchd.conf.db(5)) says of it, and changes to it in one transaction.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use pc_cli::try_again;
use serde_json::{Value, json};

use crate::action::Action;
use crate::model::{ADDRESS, Bridge, HaveBridge, Interface, OWNER, Port};
use crate::ovsdb::{Client, Error, Replica, Row, Transaction};
use crate::rows;

/// Name of the switch's database, and of its table with one row.
pub const DATABASE: &str = "Open_vSwitch";
/// Everything we look at. Statistics are left out: they change every few seconds (`counters`).
const TABLES: [(&str, &[&str]); 4] = [
    ("Open_vSwitch", &["bridges", "next_cfg", "cur_cfg"]),
    ("Bridge", &["name", "ports", "fail_mode", "datapath_type", "other_config", "external_ids"]),
    ("Port", &["name", "interfaces", "tag", "bond_mode", "bond_active_slave", "external_ids"]),
    (
        "Interface",
        &[
            "name",
            "type",
            "mac",
            "mac_in_use",
            "mtu",
            "mtu_request",
            "ofport",
            "error",
            "link_state",
            "external_ids",
        ],
    ),
];

/// How long one call of the database may take; emulated machines are slow.
const CALL: Duration = Duration::from_secs(20);
/// How long ovs-vswitchd may take to carry out what the database says.
const CARRY_OUT: Duration = Duration::from_secs(60);

/// An open connection with everything read.
pub struct Switch {
    client: Client,
    /// The present content.
    pub replica: Replica,
}

impl Switch {
    /// Connects and reads everything in one call. Not there yet means: try again later.
    pub fn open(socket: &Path) -> Result<Switch> {
        let (client, replica) = read(socket, &TABLES)?;
        Ok(Switch { client, replica })
    }

    /// All bridges.
    pub fn bridges(&self) -> Vec<HaveBridge> {
        let mut bridges: Vec<HaveBridge> =
            self.replica.rows("Bridge").filter_map(|(_, row)| self.bridge(row)).collect();
        bridges.sort_by(|one, other| one.bridge.name.cmp(&other.bridge.name));
        bridges
    }

    fn bridge(&self, row: &Row) -> Option<HaveBridge> {
        let name = row.text("name")?.to_string();
        let owner = row.key("external_ids", OWNER);
        let mut ports = Vec::new();
        let mut foreign = BTreeMap::new();
        for port in row.references("ports").into_iter().filter_map(|uuid| self.replica.row("Port", uuid)) {
            let interfaces: Vec<&Row> = port
                .references("interfaces")
                .into_iter()
                .filter_map(|uuid| self.replica.row("Interface", uuid))
                .collect();
            let port_name = port.text("name").unwrap_or_default().to_string();
            if owner.is_some() && port.key("external_ids", OWNER).is_some() {
                ports.push(have_port(port_name, port, &interfaces, &name));
            } else {
                let names =
                    interfaces.iter().filter_map(|row| row.text("name")).map(str::to_string).collect();
                foreign.insert(port_name, names);
            }
        }
        ports.sort_by_key(|port| (port.name != name, port.name.clone()));
        let datapath = row.text("datapath_type").filter(|kind| *kind != "system").unwrap_or_default().into();
        let bridge = Bridge {
            uplink: owner.unwrap_or_default().into(),
            hwaddr: row.key("other_config", "hwaddr").map(str::to_string),
            fail_mode: row.text("fail_mode").unwrap_or_default().into(),
            datapath,
            ports,
            name,
        };
        Some(HaveBridge { ours: owner.is_some(), bridge, foreign })
    }

    /// Carries out the switch's part of `actions` in one guarded transaction; true when there was any, with
    /// ovs-vswitchd done. [`Error::Stale`] is in the chain when somebody changed the database meanwhile.
    pub fn commit(&mut self, actions: &[&Action]) -> Result<bool> {
        let transaction = rows::transaction(&self.replica, actions)?;
        if transaction.is_empty() {
            return Ok(false);
        }
        let wanted = self.bumped(transaction)?;
        self.wait(wanted)?;
        Ok(true)
    }

    /// Adds one to `next_cfg` in the same transaction, and gives the new value.
    fn bumped(&mut self, mut transaction: Transaction) -> Result<i64> {
        transaction.mutate("Open_vSwitch", &json!([]), &json!([["next_cfg", "+=", 1]]));
        transaction.select("Open_vSwitch", &["next_cfg"]);
        let results = transaction.commit(&mut self.client, DATABASE).context("changing the switch")?;
        let next =
            results.last().and_then(|result| result.pointer("/rows/0/next_cfg")).and_then(Value::as_i64);
        next.context("changing the switch: the answer lacks next_cfg")
    }

    /// Waits until ovs-vswitchd has carried out configuration `wanted`.
    fn wait(&mut self, wanted: i64) -> Result<()> {
        let until = Instant::now() + CARRY_OUT;
        loop {
            let current = self.replica.rows("Open_vSwitch").next().and_then(|(_, row)| row.number("cur_cfg"));
            if current.is_some_and(|current| current >= wanted) {
                return Ok(());
            }
            if !self.replica.follow(&mut self.client, until).context("waiting for ovs-vswitchd")? {
                return Err(try_again(format!(
                    "ovs-vswitchd has not carried out the change within {} s\n  systemctl status ovs-vswitchd",
                    CARRY_OUT.as_secs()
                )));
            }
        }
    }

    /// What the datapath could not do: the database accepts anything. Only our own interfaces.
    pub fn errors(&self) -> Vec<(String, String)> {
        let ours = self.replica.rows("Interface").filter(|(_, row)| row.key("external_ids", OWNER).is_some());
        ours.filter_map(|(_, row)| Some((row.text("name")?.to_string(), fault(row)?))).collect()
    }

    /// Fails when an interface that was just made is not in the datapath.
    pub fn check(&self, interfaces: &[String]) -> Result<()> {
        let faulty: Vec<String> = self
            .errors()
            .into_iter()
            .filter(|(name, _)| interfaces.contains(name))
            .map(|(name, error)| format!("{name}: {error}"))
            .collect();
        if !faulty.is_empty() {
            bail!("ovs-vswitchd cannot do it: {}", faulty.join("; "));
        }
        Ok(())
    }
}

/// Connects, and reads the named columns of the switch's database.
pub fn read(socket: &Path, tables: &[(&str, &[&str])]) -> Result<(Client, Replica)> {
    let opened = Client::connect(socket, CALL).and_then(|mut client| {
        let replica = Replica::monitor(&mut client, DATABASE, tables)?;
        Ok((client, replica))
    });
    let (client, replica) = match opened {
        Ok(opened) => opened,
        Err(error @ Error::NotThere { .. }) => {
            return Err(try_again(format!("{error}\n  systemctl start openvswitch-switch")));
        }
        Err(error @ Error::TimedOut { .. }) => {
            let restart = "systemctl restart ovsdb-server  # what is switched goes on meanwhile";
            return Err(try_again(format!("{error}\n  {restart}")));
        }
        Err(error @ Error::Denied(_)) => return Err(pc_cli::refused(error)),
        Err(error) => return Err(error).context("reading the switch"),
    };
    if replica.rows("Open_vSwitch").next().is_none() {
        return Err(try_again(
            "the database is empty: Open vSwitch has not started yet\n  systemctl start openvswitch-switch",
        ));
    }
    Ok((client, replica))
}

/// `error`, or an `ofport` of -1 (ovs-vswitchd.conf.db(5)).
pub fn fault(row: &Row) -> Option<String> {
    let error = row.text("error").map(str::to_string);
    error.or_else(|| (row.number("ofport") == Some(-1)).then(|| "not in the datapath (ofport -1)".into()))
}

fn have_port(name: String, row: &Row, interfaces: &[&Row], bridge: &str) -> Port {
    let small = |row: &Row, column| row.number(column).and_then(|number| u16::try_from(number).ok());
    let interfaces = interfaces.iter().filter_map(|row| {
        let name = row.text("name")?.to_string();
        Some(Interface {
            internal: row.text("type") == Some("internal") || name == bridge,
            mac: row.text("mac").map(str::to_string),
            mtu_bytes: small(row, "mtu_request"),
            address: row.key("external_ids", ADDRESS).map(str::to_string),
            name,
        })
    });
    Port {
        name,
        tag: small(row, "tag"),
        bond_mode: row.text("bond_mode").map(str::to_string),
        interfaces: interfaces.collect(),
    }
}
