//! OVN on three nodes for real: its databases in private servers that know each other by certificates of a private CA,
//! ovn-northd and ovn-controller, all in one network namespace with an address per node, and a directory that stands for the root
//! of each. The tests are systemd. Needs root, iproute2, openssl, openvswitch-switch, ovn-central and ovn-host.

#![allow(clippy::unwrap_used, reason = "tests; helpers outside #[test] functions too")]

#[path = "../common/mod.rs"]
mod common;
mod databases;
mod nodes;
mod settings;
