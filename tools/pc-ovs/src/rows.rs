//! Actions on the switch as rows of `Open_vSwitch`: one transaction, every row guarded and marked as ours.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::action::Action;
use crate::model::{ADDRESS, Bridge, Interface, OWNER, Port};
use crate::ovsdb::{Replica, Transaction, map, named, set, uuid};

/// Puts the switch's part of `actions` into one transaction. Only rows that carry our mark are named in it.
pub fn transaction(replica: &Replica, actions: &[&Action]) -> Result<Transaction> {
    let mut builder = Builder { replica, transaction: Transaction::default(), count: 0 };
    // What goes away first: a name can then be used again in the same transaction.
    let removes =
        |action: &&&Action| matches!(action, Action::RemoveBridge { .. } | Action::RemovePort { .. });
    for action in actions.iter().filter(removes).chain(actions.iter().filter(|action| !removes(action))) {
        builder.add(action)?;
    }
    Ok(builder.transaction)
}

struct Builder<'a> {
    replica: &'a Replica,
    transaction: Transaction,
    count: usize,
}

fn by_name(name: &str) -> Value {
    json!([["name", "==", name]])
}

fn optional(value: Option<impl Into<Value>>) -> Value {
    set(value.map(Into::into))
}

impl Builder<'_> {
    fn add(&mut self, action: &Action) -> Result<()> {
        match action {
            Action::AddBridge { bridge } => self.add_bridge(bridge),
            Action::SetBridge { bridge } => {
                self.still_ours("Bridge", &bridge.name, &bridge.uplink);
                self.transaction.update("Bridge", &by_name(&bridge.name), &settings(bridge));
                let mut hwaddr = vec![json!(["other_config", "delete", set([json!("hwaddr")])])];
                if let Some(mac) = &bridge.hwaddr {
                    hwaddr.push(json!(["other_config", "insert", map([("hwaddr", mac.as_str())])]));
                }
                self.transaction.mutate("Bridge", &by_name(&bridge.name), &Value::Array(hwaddr));
            }
            Action::RemoveBridge { name, uplink } => self.remove_bridge(name, uplink)?,
            Action::AddPort { bridge, uplink, port } => {
                let reference = self.port_row(port, bridge, uplink);
                self.attach(bridge, &reference);
            }
            Action::SetPort { bridge, uplink, port } => self.set_port(port, bridge, uplink)?,
            Action::RemovePort { bridge, name } => {
                let (port, row) =
                    self.replica.named("Port", name).context("removing a port that has gone")?;
                let owner = row.key("external_ids", OWNER).unwrap_or_default().to_string();
                self.still_ours("Port", name, &owner);
                let mutation = json!([["ports", "delete", set([uuid(port)])]]);
                self.transaction.mutate("Bridge", &by_name(bridge), &mutation);
            }
            Action::TakeOver { .. }
            | Action::Flush { .. }
            | Action::Up { .. }
            | Action::SetAddress { .. }
            | Action::SetRouter { .. }
            | Action::RemoveRouter { .. } => {}
        }
        Ok(())
    }

    /// Goes through only while that row exists and carries our mark.
    fn still_ours(&mut self, table: &str, name: &str, uplink: &str) {
        let condition = json!([["name", "==", name], ["external_ids", "includes", map([(OWNER, uplink)])]]);
        self.transaction.expect(table, &condition, &["name"], &json!([{ "name": name }]));
    }

    fn fresh(&mut self, kind: &str) -> String {
        self.count += 1;
        format!("{kind}{}", self.count)
    }

    fn add_bridge(&mut self, bridge: &Bridge) {
        self.transaction.expect("Bridge", &by_name(&bridge.name), &["name"], &json!([]));
        let ports: Vec<Value> =
            bridge.ports.iter().map(|port| self.port_row(port, &bridge.name, &bridge.uplink)).collect();
        let row_name = self.fresh("bridge");
        let mut row = settings(bridge);
        row["name"] = json!(bridge.name);
        row["ports"] = set(ports);
        row["external_ids"] = map([(OWNER, bridge.uplink.as_str())]);
        if let Some(mac) = &bridge.hwaddr {
            row["other_config"] = map([("hwaddr", mac.as_str())]);
        }
        self.transaction.insert("Bridge", &row_name, &row);
        let mutation = json!([["bridges", "insert", set([named(&row_name)])]]);
        self.transaction.mutate("Open_vSwitch", &json!([]), &mutation);
    }

    fn remove_bridge(&mut self, name: &str, uplink: &str) -> Result<()> {
        let (bridge, row) = self.replica.named("Bridge", name).context("removing a bridge that has gone")?;
        self.still_ours("Bridge", name, uplink);
        // A port that somebody adds meanwhile must not vanish with the bridge.
        self.transaction.expect(
            "Bridge",
            &by_name(name),
            &["ports"],
            &json!([{ "ports": row.raw("ports") }]),
        );
        let mutation = json!([["bridges", "delete", set([uuid(bridge)])]]);
        self.transaction.mutate("Open_vSwitch", &json!([]), &mutation);
        Ok(())
    }

    fn attach(&mut self, bridge: &str, port: &Value) {
        let mutation = json!([["ports", "insert", set([port.clone()])]]);
        self.transaction.mutate("Bridge", &by_name(bridge), &mutation);
    }

    /// Inserts a port with its interfaces, and gives the reference to it.
    fn port_row(&mut self, port: &Port, bridge: &str, uplink: &str) -> Value {
        let interfaces: Vec<Value> =
            port.interfaces.iter().map(|interface| self.interface_row(interface, bridge, uplink)).collect();
        let row_name = self.fresh("port");
        let row = json!({
            "name": port.name,
            "interfaces": set(interfaces),
            "tag": optional(port.tag),
            "bond_mode": optional(port.bond_mode.clone()),
            "external_ids": map([(OWNER, uplink)]),
        });
        self.transaction.insert("Port", &row_name, &row);
        named(&row_name)
    }

    fn interface_row(&mut self, interface: &Interface, bridge: &str, uplink: &str) -> Value {
        let row_name = self.fresh("interface");
        let mut row = interface_settings(interface);
        row["name"] = json!(interface.name);
        row["type"] = json!(if interface.internal || interface.name == bridge { "internal" } else { "" });
        let ids = [(OWNER, uplink)]
            .into_iter()
            .chain(interface.address.as_deref().map(|address| (ADDRESS, address)));
        row["external_ids"] = map(ids);
        self.transaction.insert("Interface", &row_name, &row);
        named(&row_name)
    }

    /// New settings; members that stay keep their rows, so that their links do not flap.
    fn set_port(&mut self, port: &Port, bridge: &str, uplink: &str) -> Result<()> {
        self.still_ours("Port", &port.name, uplink);
        let (_, row) = self.replica.named("Port", &port.name).context("setting a port that has gone")?;
        let present: Vec<(String, String)> = row
            .references("interfaces")
            .into_iter()
            .filter_map(|id| {
                Some((self.replica.row("Interface", id)?.text("name")?.to_string(), id.to_string()))
            })
            .collect();
        let mut members = Vec::new();
        for interface in &port.interfaces {
            let known = present.iter().find(|(name, _)| *name == interface.name);
            let Some((name, id)) = known else {
                members.push(self.interface_row(interface, bridge, uplink));
                continue;
            };
            members.push(uuid(id));
            self.transaction.update("Interface", &by_name(name), &interface_settings(interface));
            let mut ids = vec![json!(["external_ids", "delete", set([json!(ADDRESS)])])];
            if let Some(address) = &interface.address {
                ids.push(json!(["external_ids", "insert", map([(ADDRESS, address.as_str())])]));
            }
            self.transaction.mutate("Interface", &by_name(name), &Value::Array(ids));
        }
        let row = json!({"interfaces": set(members), "tag": optional(port.tag), "bond_mode": optional(port.bond_mode.clone())});
        self.transaction.update("Port", &by_name(&port.name), &row);
        Ok(())
    }
}

fn settings(bridge: &Bridge) -> Value {
    json!({"fail_mode": bridge.fail_mode, "datapath_type": bridge.datapath})
}

fn interface_settings(interface: &Interface) -> Value {
    json!({"mac": optional(interface.mac.clone()), "mtu_request": optional(interface.mtu_bytes)})
}
