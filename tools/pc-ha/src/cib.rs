//! What the CIB has of ours, and how it differs from what is wanted. Reads only; pacemaker's own tools write.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use roxmltree::{Document, Node};
use serde::Serialize;

use crate::duration::milliseconds;
use crate::room::{self, Counted};
use crate::rows::{OPTIONS, PROVIDER, Row};

/// What the plan is made from: every object that carries an id of ours, and nothing that changes by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cib {
    /// Objects by id, each as it stands in the CIB.
    pub objects: BTreeMap<String, String>,
    /// `maintenance-mode` is on.
    pub maintenance: bool,
    /// `stonith-watchdog-timeout`.
    pub fencing: Fencing,
    /// How long the watchdogs that run wait, by node, as each node says itself; a node that is away says nothing.
    pub watchdogs: BTreeMap<String, u64>,
    /// The longest token that corosync may run with, in milliseconds, told in the same way.
    pub tokens: BTreeMap<String, u64>,
    /// The row that `shutdown --all` left, when the last thing the cluster did was to shut down.
    pub shut_down: bool,
    /// Nodes on which one was begun: until the node has left, or whoever began it has given up.
    pub shutting_down: Vec<String>,
    /// Rows by which VMs were sent to a node, and that nobody took away.
    pub left: Vec<String>,
    /// What pacemaker counts.
    pub counted: Counted,
}

/// How long pacemaker waits until it holds a silent node for dead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fencing {
    /// Nobody has said.
    Unset,
    /// So long; a part of a second counts as one.
    Seconds(u64),
    /// Somebody has said what has no length that anybody could compare.
    Unread(String),
}

impl Fencing {
    fn read(text: Option<String>) -> Fencing {
        let Some(text) = text else { return Fencing::Unset };
        match milliseconds(&text) {
            Some(ms) => Fencing::Seconds(ms.div_ceil(1000)),
            None => Fencing::Unread(text),
        }
    }
}

/// Id of the option that `shutdown --all` sets, and the next start takes away.
pub const SHUTDOWN: &str = "pc-shutdown";

/// Transient attribute of a node: the seconds that its running watchdog waits.
pub const WATCHDOG: &str = "pc-watchdog-seconds";
/// The milliseconds of the longest token that its corosync may run with.
pub const TOKEN: &str = "pc-token-ms";
/// It was asked to shut the cluster down.
pub const SHUTS_DOWN: &str = "pc-shutting-down";

/// Reads `cibadmin --query`.
pub fn read(xml: &str) -> Result<Cib> {
    let document = Document::parse(xml).context("reading the CIB")?;
    let configuration = document
        .descendants()
        .find(|node| node.has_tag_name("configuration"))
        .context("reading the CIB: it has no configuration")?;
    let mut objects = BTreeMap::new();
    for scope in ["crm_config", "resources", "constraints"] {
        let section = configuration.children().find(|node| node.has_tag_name(scope));
        for object in section.iter().flat_map(Node::children).filter(|object| is_ours(object)) {
            let id = object.attribute("id").unwrap_or_default();
            objects.insert(id.to_string(), xml[object.range()].to_string());
        }
    }
    let option = |name: &str| {
        let pairs = configuration.descendants().filter(|node| node.has_tag_name("nvpair"));
        let in_set = |node: &Node| node.ancestors().any(|above| above.has_tag_name("crm_config"));
        let mut pairs = pairs.filter(in_set).filter(|node| node.attribute("name") == Some(name));
        pairs.next().and_then(|node| node.attribute("value")).map(String::from)
    };
    Ok(Cib {
        maintenance: option("maintenance-mode").is_some_and(|value| is_true(&value)),
        fencing: Fencing::read(option("stonith-watchdog-timeout")),
        watchdogs: told(&document, WATCHDOG),
        tokens: told(&document, TOKEN),
        shut_down: document.descendants().any(|node| node.attribute("id") == Some(SHUTDOWN)),
        shutting_down: told(&document, SHUTS_DOWN).into_keys().collect(),
        left: Vec::new(),
        counted: room::read(&configuration),
        objects,
    })
}

/// What each node says of itself under this name.
fn told(document: &Document, name: &str) -> BTreeMap<String, u64> {
    let states = document.descendants().filter(|node| node.has_tag_name("node_state"));
    let told = states.filter_map(|state| {
        let mut pairs = state.descendants().filter(|node| node.has_tag_name("nvpair"));
        let pair = pairs.find(|pair| pair.attribute("name") == Some(name))?;
        Some((state.attribute("uname")?.to_string(), pair.attribute("value")?.parse().ok()?))
    });
    told.collect()
}

/// Whether a node has the mark that stays when it leaves, unlike that of a reboot.
pub fn is_drained(xml: &str, node: &str) -> Result<bool> {
    let document = Document::parse(xml).context("reading the CIB")?;
    let mut nodes = document.descendants().filter(|found| found.has_tag_name("node"));
    let of_it = nodes.find(|found| found.attribute("uname") == Some(node));
    let mut pairs = of_it.iter().flat_map(Node::descendants).filter(|pair| pair.has_tag_name("nvpair"));
    Ok(pairs.any(|pair| {
        pair.attribute("name") == Some("standby") && pair.attribute("value").is_some_and(is_true)
    }))
}

/// As pacemaker reads a boolean (`crm_is_true`).
pub fn is_true(text: &str) -> bool {
    ["true", "on", "yes", "y", "1"].contains(&text.to_ascii_lowercase().as_str())
}

/// Ours are the set of options (of which we want three), resources of our agents, and constraints named as ours are. A
/// constraint that `crm_resource --move` or a person made has another name.
fn is_ours(object: &Node) -> bool {
    let id = object.attribute("id").unwrap_or_default();
    let of_ours = || {
        object.descendants().any(|node| node.attribute("provider") == Some(PROVIDER)) && id.starts_with("pc-")
    };
    match object.tag_name().name() {
        "cluster_property_set" => id == OPTIONS,
        "rsc_order" => id.starts_with("pc-order-") || id.starts_with("pc-after-"),
        "rsc_colocation" => id.starts_with("pc-with-") || id.starts_with("pc-apart-"),
        "rsc_location" => id.starts_with("pc-home-") || id.starts_with("pc-not-"),
        _ => of_ours(),
    }
}

/// What has to change so that `have` says all that `want` says; empty when it does. More than that may stand in it:
/// attributes, meta attributes (`target-role` of somebody who stopped the VM) and operations that we have no opinion on.
pub fn differences(want: &Row, have: &str) -> Result<Vec<String>> {
    let wanted = Document::parse(&want.xml).with_context(|| format!("making the row {}", want.id))?;
    let there = Document::parse(have).with_context(|| format!("reading the row {}", want.id))?;
    let mut found = Vec::new();
    compare(&wanted.root_element(), Some(&there.root_element()), &mut found);
    Ok(found)
}

fn compare(want: &Node, have: Option<&Node>, found: &mut Vec<String>) {
    let called = want.attribute("name").or(want.attribute("id")).unwrap_or_else(|| want.tag_name().name());
    let Some(have) = have.filter(|have| have.tag_name() == want.tag_name()) else {
        let value = want.attribute("value").map(|value| format!(" = {value}")).unwrap_or_default();
        found.push(format!("{called}{value} (is missing)"));
        return;
    };
    for attribute in want.attributes() {
        let is = have.attribute(attribute.name());
        // Two writers, two ids: pacemaker's tools name an option's row by their own rules.
        if is != Some(attribute.value()) && attribute.name() != "id" {
            let label =
                if attribute.name() == "value" { String::new() } else { format!(" {}", attribute.name()) };
            found.push(format!("{called}{label} = {} (is {})", attribute.value(), is.unwrap_or("not set")));
        }
    }
    for child in want.children().filter(Node::is_element) {
        let twin = have.children().find(|other| is_twin(&child, other));
        compare(&child, twin.as_ref(), found);
    }
}

/// The same thing in both: by id, or an option by its name, or what has no id by its tag.
fn is_twin(want: &Node, have: &Node) -> bool {
    if want.tag_name() != have.tag_name() {
        return false;
    }
    match (want.attribute("id"), have.attribute("id")) {
        (None, _) => true,
        (one, other) if one == other => true,
        _ => want.has_tag_name("nvpair") && want.attribute("name") == have.attribute("name"),
    }
}

/// The XML to hand to `cibadmin --modify`: the wanted row, with the ids that its options already have.
pub fn patch(want: &Row, have: Option<&str>) -> Result<String> {
    let mut xml = want.xml.clone();
    let Some(have) = have else { return Ok(xml) };
    let wanted = Document::parse(&want.xml).context("making the row")?;
    let there = Document::parse(have).context("reading the row")?;
    for pair in wanted.descendants().filter(|node| node.has_tag_name("nvpair")) {
        let Some(set) = pair.parent().and_then(|set| set.attribute("id")) else { continue };
        let twin = there
            .descendants()
            .filter(|node| node.attribute("id") == Some(set))
            .flat_map(|set| set.children())
            .find(|other| is_twin(&pair, other));
        if let (Some(id), Some(is)) = (pair.attribute("id"), twin.and_then(|twin| twin.attribute("id"))) {
            xml = xml.replace(&format!("nvpair id=\"{id}\""), &format!("nvpair id=\"{is}\""));
        }
    }
    Ok(xml)
}
