//! A client for OVSDB (RFC 7047) that reads a database with one `monitor` and changes it with one guarded
//! `transact`. It knows no schema: tables and columns are named by the caller, so that `Open_vSwitch` and
//! `OVN_Northbound` are two callers of the same code.

mod client;
mod replica;
mod transact;
mod wire;

pub use client::{Client, Error};
pub use replica::{Replica, Row};
pub use transact::{Transaction, map, named, set, uuid};

#[cfg(test)]
mod hostile;
