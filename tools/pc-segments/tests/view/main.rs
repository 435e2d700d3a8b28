//! The real program with a real FUSE mount, real borg and restic in private repositories, real qemu-nbd.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod backup;
mod ends;
mod images;
mod join;
mod lab;
mod shape;
mod trust;
