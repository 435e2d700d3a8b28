//! `OVN_Northbound` of this machine: read in one call, changed in one guarded transaction, then waited for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use pc_cli::{refused, try_again};
use pc_plan::Step;
use serde_json::{Value, json};

use super::plan::{Change, Found, Have, changed};
use super::row::{Kind, OWNER, ROW, Row, TABLES, Table, table, written};
use crate::ovn::{self, Side};
use crate::ovsdb::{Client, Error, Replica, Transaction, map, named, set, uuid};

const DATABASE: &str = "OVN_Northbound";
/// Where `ovn-central` of Debian listens, below the root; where it is set up by hand.
const SOCKET: &str = "run/ovn/ovnnb_db.sock";
/// OVN's central part is installed: on Debian, on NixOS.
const PROGRAMS: [&str; 2] = ["usr/bin/ovn-northd", "run/current-system/sw/bin/ovn-northd"];
/// How long one call of the database may take.
const CALL: Duration = Duration::from_secs(20);
/// How long ovn-northd may take to translate a change.
const TRANSLATE: Duration = Duration::from_secs(60);

/// Where the database is, and what runs it.
struct Place {
    socket: PathBuf,
    server: &'static str,
    northd: &'static str,
}

impl Place {
    /// `pc-ovs ovn`'s where this node holds it, else `ovn-central`'s.
    fn of(root: &Path) -> Place {
        let socket = ovn::socket(root, Side::Nb);
        if socket.exists() || ovn::file(root, Side::Nb).exists() {
            return Place { socket, server: "pc-ovs-ovn@nb", northd: "pc-ovs-ovn@northd" };
        }
        Place { socket: root.join(SOCKET), server: "ovn-central", northd: "ovn-central" }
    }
}

/// An open connection with everything read.
pub struct North {
    place: Place,
    client: Client,
    replica: Replica,
    cluster: String,
}

impl North {
    /// Connects and reads. `None`: nobody listens, and ovn-northd is not installed either.
    pub fn open(root: &Path, cluster: &str) -> Result<Option<North>> {
        let under = |path: &str| root.join(path);
        let place = Place::of(root);
        if !place.socket.exists() && !PROGRAMS.iter().any(|path| under(path).exists()) {
            return Ok(None);
        }
        let columns: Vec<(&str, Vec<&str>)> =
            TABLES.iter().map(|table| (table.name, columns(table))).collect();
        let mut tables: Vec<(&str, &[&str])> =
            columns.iter().map(|(table, columns)| (*table, columns.as_slice())).collect();
        tables.push(("NB_Global", &["nb_cfg", "sb_cfg"]));
        let opened = Client::connect(&place.socket, CALL).and_then(|mut client| {
            let replica = Replica::monitor(&mut client, DATABASE, &tables)?;
            Ok((client, replica))
        });
        let (client, replica) = match opened {
            Ok(opened) => opened,
            Err(error @ (Error::NotThere { .. } | Error::TimedOut { .. })) => {
                return Err(try_again(format!("{error}\n  systemctl restart {}", place.server)));
            }
            Err(error @ Error::Denied(_)) => return Err(refused(error)),
            Err(error) => return Err(error).context("reading OVN_Northbound"),
        };
        if replica.rows("NB_Global").next().is_none() {
            return Err(try_again(format!(
                "OVN_Northbound is empty: ovn-northd has not started yet\n  systemctl start {}",
                place.northd
            )));
        }
        Ok(Some(North { place, client, replica, cluster: cluster.into() }))
    }

    /// Whether ovn-northd has translated the last change that somebody waits for: what was asked, and what is done.
    pub fn translated(&self) -> (i64, i64) {
        let global = self.replica.rows("NB_Global").next();
        let number = |column| global.and_then(|(_, row)| row.number(column)).unwrap_or_default();
        (number("nb_cfg"), number("sb_cfg"))
    }

    /// Whether a port is plugged in somewhere.
    pub fn is_up(&self, uuid: &str) -> bool {
        let row = self.replica.row("Logical_Switch_Port", uuid);
        row.and_then(|row| row.truth("up")).unwrap_or_default()
    }

    /// Rows of ours, and the names that others have.
    pub fn have(&self) -> Have {
        let mut keys = BTreeMap::new();
        let mut foreign = BTreeSet::new();
        let mut seen = BTreeSet::new();
        for table in &TABLES {
            for (id, row) in self.replica.rows(table.name) {
                let own = row.key("external_ids", OWNER) == Some(self.cluster.as_str());
                let key = row.key("external_ids", ROW).filter(|_| own);
                if let Some(key) = key {
                    // A copy that somebody made is nothing that the file asks for.
                    let is_first = seen.insert(key.to_string());
                    keys.insert(id.to_string(), if is_first { key.into() } else { format!("{key}#{id}") });
                } else if let Some(name) = row.text("name").filter(|_| table.is_named) {
                    foreign.insert((table.name.to_string(), name.to_string()));
                }
            }
        }
        let parents = self.parents(&keys);
        let mut rows = BTreeMap::new();
        for table in &TABLES {
            for (id, raw) in self.replica.rows(table.name) {
                let Some(key) = keys.get(id) else { continue };
                let mut row = Row::read(table, raw, &keys);
                row.parent = parents.get(id).cloned();
                let mut held = table.keeps.iter().flat_map(|column| raw.references(column));
                let is_shared = held.any(|child| !keys.contains_key(child));
                rows.insert(key.clone(), Found { uuid: id.into(), row, is_shared });
            }
        }
        Have { rows, foreign }
    }

    /// Our key of the row of ours that holds a row, by the UUID of the latter.
    fn parents(&self, keys: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut parents = BTreeMap::new();
        for (table, column) in TABLES.iter().filter_map(|table| table.parent) {
            for (id, row) in self.replica.rows(table) {
                let Some(key) = keys.get(id) else { continue };
                parents
                    .extend(row.references(column).into_iter().map(|child| (child.to_string(), key.clone())));
            }
        }
        parents
    }

    /// Carries out `steps` in one transaction, and waits until ovn-northd has translated it. [`Error::Stale`] is in the
    /// chain when somebody changed the database meanwhile.
    pub fn commit(&mut self, have: &Have, steps: &[Step<Change>]) -> Result<()> {
        let mut transaction = self.transaction(have, steps)?;
        let global =
            self.replica.rows("NB_Global").next().map(|(id, row)| (id.to_string(), row.raw("nb_cfg")));
        let (id, asked) = global.context("OVN_Northbound has lost its only row of NB_Global")?;
        // Whoever changes zones counts on, so that of two at the same time one plans anew.
        transaction.expect("NB_Global", &by_uuid(&id), &["nb_cfg"], &json!([{ "nb_cfg": asked }]));
        transaction.mutate("NB_Global", &by_uuid(&id), &json!([["nb_cfg", "+=", 1]]));
        match transaction.commit(&mut self.client, DATABASE) {
            // Without a majority of its holders the database takes changes in when there is one again.
            Err(error @ Error::TimedOut { .. }) => {
                let server = self.place.server;
                return Err(try_again(format!(
                    "changing OVN_Northbound: {error}\n  systemctl status {server}"
                )));
            }
            done => done.context("changing OVN_Northbound")?,
        };
        self.wait(asked.as_i64().unwrap_or_default() + 1)
    }

    fn wait(&mut self, wanted: i64) -> Result<()> {
        let until = Instant::now() + TRANSLATE;
        while self.translated().1 < wanted {
            if !self.replica.follow(&mut self.client, until).context("waiting for ovn-northd")? {
                return Err(try_again(format!(
                    "OVN_Northbound is changed, but ovn-northd has not translated it within {} s\n  \
                     systemctl status {}",
                    TRANSLATE.as_secs(),
                    self.place.northd
                )));
            }
        }
        Ok(())
    }

    fn transaction(&self, have: &Have, steps: &[Step<Change>]) -> Result<Transaction> {
        let new: BTreeMap<&str, String> = steps
            .iter()
            .filter(|step| matches!(step.action, Change::Add { .. }))
            .enumerate()
            .map(|(number, step)| (step.id.as_str(), format!("row{number}")))
            .collect();
        let mut builder = Builder {
            north: self,
            have,
            new,
            children: BTreeMap::new(),
            transaction: Transaction::default(),
        };
        builder.gather(steps);
        // Rows that go first free their names; roots follow those that hang on them.
        for step in steps {
            if let Change::Remove { .. } = step.action {
                builder.detach(&step.id)?;
            }
        }
        for table in &TABLES {
            for step in steps {
                match &step.action {
                    Change::Add { row } if row.table == table.name => builder.add(&step.id, row, table)?,
                    Change::Set { row } if row.table == table.name => builder.set(&step.id, row, table)?,
                    Change::Remove { row } if row.table == table.name && table.parent.is_none() => {
                        builder.delete(&step.id, table)?;
                    }
                    _ => {}
                }
            }
        }
        builder.attach()?;
        Ok(builder.transaction)
    }
}

/// Columns that are read: what we write, what keeps others alive, whose it is.
fn columns(table: &Table) -> Vec<&'static str> {
    let mut columns: Vec<&str> = table.columns.iter().map(|(column, _)| *column).collect();
    columns.extend(table.keeps);
    columns.push("external_ids");
    if table.name == "Logical_Switch_Port" {
        columns.push("up");
    }
    columns
}

fn by_uuid(id: &str) -> Value {
    json!([["_uuid", "==", uuid(id)]])
}

struct Builder<'a> {
    north: &'a North,
    have: &'a Have,
    /// Names, within the transaction, of rows that it inserts.
    new: BTreeMap<&'a str, String>,
    /// Rows to be hung on others: by our key of the latter and its column.
    children: BTreeMap<(&'a str, &'static str), Vec<Value>>,
    transaction: Transaction,
}

impl<'a> Builder<'a> {
    fn found(&self, key: &str) -> Result<&Found> {
        self.have.rows.get(key).with_context(|| format!("the row {key:?} has gone"))
    }

    /// A reference to the row of that key, which is there or about to be.
    fn reference(&self, key: &str) -> Value {
        match (self.new.get(key), self.have.rows.get(key)) {
            (Some(name), _) => named(name),
            (None, Some(found)) => uuid(&found.uuid),
            (None, None) => named("missing"),
        }
    }

    /// Goes through only while these columns are as they were read.
    fn unchanged(&mut self, table: &str, id: &str, columns: &[&str]) {
        let Some(raw) = self.north.replica.row(table, id) else { return };
        let mut columns = columns.to_vec();
        columns.push("external_ids");
        let row: serde_json::Map<String, Value> =
            columns.iter().map(|column| ((*column).to_string(), raw.raw(column))).collect();
        self.transaction.expect(table, &by_uuid(id), &columns, &json!([row]));
    }

    fn add(&mut self, key: &'a str, row: &Row, table: &Table) -> Result<()> {
        let name = self.new.get(key).context("a row without a name")?.clone();
        let mut values = serde_json::Map::new();
        for (column, kind) in table.columns {
            if let Some(value) = row.columns.get(*column) {
                values.insert((*column).into(), written(*kind, Some(value), |key| self.reference(key)));
            }
        }
        for table in &TABLES {
            let Some((_, column)) = table.parent else { continue };
            if let Some(rows) = self.children.remove(&(key, column)) {
                values.insert(column.into(), set(rows));
            }
        }
        let ids = [(OWNER, self.north.cluster.as_str()), (ROW, key)];
        values.insert("external_ids".into(), map(ids));
        self.transaction.insert(table.name, &name, &Value::Object(values));
        Ok(())
    }

    /// New columns. The row stays, and with it what ovn-controller made of it.
    fn set(&mut self, key: &str, row: &Row, table: &Table) -> Result<()> {
        let found = self.found(key)?.clone();
        let changes: Vec<(&str, Kind)> = changed(row, &found.row).collect();
        let columns: Vec<&str> = changes.iter().map(|(column, _)| *column).collect();
        self.unchanged(table.name, &found.uuid, &columns);
        let mut values = serde_json::Map::new();
        for (column, kind) in changes {
            if kind == Kind::Rows {
                self.members(table.name, &found, row, column);
                continue;
            }
            values.insert(column.into(), written(kind, row.columns.get(column), |key| self.reference(key)));
        }
        if !values.is_empty() {
            self.transaction.update(table.name, &by_uuid(&found.uuid), &Value::Object(values));
        }
        if row.parent != found.row.parent {
            self.release(table, &found)?;
        }
        Ok(())
    }

    /// References that come and go; those to rows of others stay.
    fn members(&mut self, table: &str, found: &Found, row: &Row, column: &str) {
        let (old, new): (BTreeSet<&str>, BTreeSet<&str>) =
            (found.row.words_of(column).collect(), row.words_of(column).collect());
        let list =
            |keys: Vec<&&str>| set(keys.into_iter().map(|key| self.reference(key)).collect::<Vec<_>>());
        let mutations = json!([
            [column, "delete", list(old.difference(&new).collect())],
            [column, "insert", list(new.difference(&old).collect())],
        ]);
        self.transaction.mutate(table, &by_uuid(&found.uuid), &mutations);
    }

    /// Takes a row off what holds it: with nothing to hold it the database drops it.
    fn detach(&mut self, key: &str) -> Result<()> {
        let found = self.found(key)?.clone();
        let Some(table) = table(&found.row.table) else { return Ok(()) };
        if table.parent.is_none() {
            return Ok(());
        }
        self.unchanged(table.name, &found.uuid, &[]);
        self.release(table, &found)
    }

    fn release(&mut self, table: &Table, found: &Found) -> Result<()> {
        if let (Some((parents, column)), Some(parent)) = (table.parent, &found.row.parent) {
            let parent = self.found(parent)?.uuid.clone();
            let mutation = json!([[column, "delete", set([uuid(&found.uuid)])]]);
            self.transaction.mutate(parents, &by_uuid(&parent), &mutation);
        }
        Ok(())
    }

    fn delete(&mut self, key: &str, table: &Table) -> Result<()> {
        let id = self.found(key)?.uuid.clone();
        // What somebody hangs on it meanwhile must not vanish with it.
        self.unchanged(table.name, &id, table.keeps);
        self.transaction.delete(table.name, &by_uuid(&id));
        Ok(())
    }

    /// New rows, and those that somebody took off what holds them.
    fn gather(&mut self, steps: &'a [Step<Change>]) {
        for step in steps {
            let (Change::Add { row } | Change::Set { row }) = &step.action else { continue };
            let parent = table(&row.table).and_then(|table| table.parent).zip(row.parent.as_deref());
            let Some(((_, column), parent)) = parent else { continue };
            let is_held = self.have.rows.get(&step.id).is_some_and(|found| found.row.parent == row.parent);
            if !is_held {
                let reference = self.reference(&step.id);
                self.children.entry((parent, column)).or_default().push(reference);
            }
        }
    }

    /// Hangs on rows that are there what was not inserted together with what holds it.
    fn attach(&mut self) -> Result<()> {
        for ((parent, column), rows) in std::mem::take(&mut self.children) {
            let found = self.found(parent)?;
            let (table, condition) = (found.row.table.clone(), by_uuid(&found.uuid));
            self.transaction.mutate(&table, &condition, &json!([[column, "insert", set(rows)]]));
        }
        Ok(())
    }
}
