//! One node for real: a network namespace with its own ovsdb-server and ovs-vswitchd (userspace datapath), a
//! veth cable to another namespace that plays peer and router, and a directory that stands for its root.
//! Needs root, iproute2 and openvswitch-switch.

#![allow(clippy::unwrap_used, reason = "tests; helpers outside #[test] functions too")]

mod boot;
mod boot_back;
#[path = "../common/mod.rs"]
mod common;
mod machine;
mod outputs;
mod refusals;
mod rollback;
mod switch;
mod takeover;
