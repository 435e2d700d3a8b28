//! A disk image as fixed-size segments: geometry, digests, changed extents, and the state file that pc-segments
//! writes and pc-dirty reads. Images are raw files, block devices, or NBD exports on a unix socket.
//!
//! Never writes to an image, and never guesses its format.

mod digest;
mod extents;
mod geometry;
mod image;
mod nbd;
mod qemu;
mod source;
mod state;

pub use digest::{Digest, Hasher};
pub use extents::{DiskExtents, Extent, Extents, Method, SCHEMA as EXTENTS_SCHEMA, merge};
pub use geometry::{Geometry, LARGEST, parse_segment};
pub use image::Image;
pub use qemu::changed_since;
pub use source::{Format, Source, valid_name};
pub use state::{DiskState, LOST, Lock, Record, SCHEMA as STATE_SCHEMA, State};
