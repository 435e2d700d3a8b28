//! Zones for real: `OVN_Northbound` and `OVN_Southbound` in private instances of ovsdb-server, a private ovn-northd, and
//! `ovn-trace` and `ovn-nbctl` as judges that know nothing of us. Needs ovn-central and openvswitch-switch; no root, no
//! kernel module, no network.

#![allow(clippy::unwrap_used, reason = "tests; helpers outside #[test] functions too")]

#[path = "../common/mod.rs"]
mod common;
mod flows;
mod ovn;
mod rows;
