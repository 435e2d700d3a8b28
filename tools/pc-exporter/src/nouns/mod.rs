//! A file per noun: its families, and how a tool's answer becomes samples of them. All of it pure.

pub mod borg;
pub mod brick;
pub mod config;
pub mod corosync;
pub mod gluster;
pub mod ha;
pub mod ovs;
pub mod pacemaker;
pub mod smart;
pub mod storage;
pub mod trust;
pub mod unlock;
pub mod ups;
pub mod versions;
pub mod vm;
pub mod vm_list;

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::metric::{Family, Samples};

/// How an answer is written.
#[derive(Clone, Copy)]
pub enum Reader {
    /// JSON.
    Json(fn(Value) -> Result<Samples>),
    /// A program's text or XML.
    Text(fn(&str) -> Result<Samples>),
}

/// A noun that answers can be about.
pub struct Noun {
    /// What its fact and its collector are called.
    pub name: &'static str,
    /// The `schema` of the answer, where it is one of ours.
    pub schema: Option<&'static str>,
    /// Answer to samples.
    pub reader: Reader,
    /// What there may be samples of.
    pub families: &'static [&'static Family],
}

impl Noun {
    const fn ours(
        name: &'static str,
        schema: &'static str,
        read: fn(Value) -> Result<Samples>,
        families: &'static [&'static Family],
    ) -> Noun {
        Noun { name, schema: Some(schema), reader: Reader::Json(read), families }
    }
}

/// All of them, in the order of a scrape.
pub static NOUNS: &[Noun] = &[
    Noun::ours("unlock", "pc.unlock.status/1", unlock::read, unlock::FAMILIES),
    Noun::ours("brick", "pc.brick.status/1", brick::read, brick::FAMILIES),
    Noun::ours("gluster", "pc.gluster.status/1", gluster::read, gluster::FAMILIES),
    Noun::ours("storage", "pc.storage/1", storage::read, storage::FAMILIES),
    Noun::ours("ovs", "pc.ovs.status/1", ovs::read, ovs::FAMILIES),
    Noun::ours("vm", "pc.vm.status/1", vm::read, vm::FAMILIES),
    Noun::ours("vm-list", "pc.vm.list/1", vm_list::read, vm_list::FAMILIES),
    Noun::ours("trust", "pc.trust.status/1", trust::read, trust::FAMILIES),
    Noun::ours("ha", "pc.ha.status/1", ha::read, ha::FAMILIES),
    Noun::ours("borg", "pc.borg.status/1", borg::read, borg::FAMILIES),
    Noun::ours("config", "pc.config.status/1", config::read, config::FAMILIES),
    Noun::ours("versions", versions::SCHEMA, versions::read, versions::FAMILIES),
    Noun { name: "smart", schema: None, reader: Reader::Json(smart::read), families: smart::FAMILIES },
    Noun {
        name: "corosync",
        schema: None,
        reader: Reader::Text(corosync::read),
        families: corosync::FAMILIES,
    },
    Noun {
        name: "pacemaker",
        schema: None,
        reader: Reader::Text(pacemaker::read),
        families: pacemaker::FAMILIES,
    },
];

/// The noun that a fact or a schema belongs to.
pub fn find(matches: impl Fn(&Noun) -> bool) -> Option<&'static Noun> {
    NOUNS.iter().find(|noun| matches(noun))
}

/// An answer as the type that its file declares; fields that are not of interest are left aside.
fn parsed<T: DeserializeOwned>(answer: Value) -> Result<T> {
    serde_json::from_value(answer).context("reading the answer")
}

/// A time as seconds since 1970.
fn timestamp(text: &str) -> Result<f64> {
    let time = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339)
        .with_context(|| format!("{text:?} is no RFC 3339 time"))?;
    Ok(crate::metric::float(u64::try_from(time.unix_timestamp()).unwrap_or(0)))
}
