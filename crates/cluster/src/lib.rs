//! The cluster file: types, validation, one node's view of it.
//!
//! Never touches the machine, never runs a program; the only I/O is reading the file that a caller names.

mod fault;
mod guests;
mod hardware;
pub mod identity;
mod load;
pub mod model;
pub mod names;
pub mod net;
mod read;
pub mod room;
mod schema;
mod sense;
pub mod sets;
mod shape;
mod source;
pub mod timing;
mod tree;
pub mod units;
pub mod view;
pub mod zones;

pub use fault::{Fault, Faults, Report, Severity};
pub use load::{
    check, line_of, load, load_applied, load_report, parse, parse_applied, parse_report, read_text,
    read_wrapped,
};
pub use model::*;
pub use names::{DevicePath, Name};
pub use net::{NodeNetwork, bridge_name};
pub use schema::json_schema;
pub use units::Bytes;
pub use view::{Brick, NodeView, UnknownNode, mapper_name, paths};
pub use zones::{End, Gateway, Ports};
