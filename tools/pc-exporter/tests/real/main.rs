//! The program itself: over TCP, with siblings that hang, with a D-Bus that does not answer. Loopback only.

#![allow(clippy::unwrap_used, reason = "tests; helpers outside #[test] functions too")]

mod answers;
mod dashboards;
mod hangs;
mod mail;
mod queries;
mod service;
mod serving;
mod tls;
