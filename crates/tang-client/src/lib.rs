//! Tang and Clevis formats: advertisement, McCallum-Relyea recovery, JWE, sss.
//!
//! Never follows a redirect, never uses a proxy, never waits without a deadline, never gives back a byte
//! of a text whose tag was not verified, and never accepts what it does not fully understand.
//!
//! The core ([`adv`], [`exchange`], [`jwe`], [`sss`], [`pin`]) does no I/O: bytes in, bytes out. [`http`] is a
//! thin blocking transport, and [`client`] joins the two. Formats were taken from the RFCs named in each
//! module, tang(8), clevis(1), and checked against clevis 19, tang 11 and jose 11.

pub mod adv;
mod answer;
pub mod client;
pub mod curve;
mod each;
mod error;
pub mod exchange;
pub mod http;
pub mod json;
pub mod jwe;
pub mod jwk;
mod other;
pub mod pin;
pub mod sss;
#[cfg(feature = "https")]
mod tls;
pub mod url;

pub use client::{Budget, Client, Failure, OtherPins, Plaintext};
pub use error::Error;
pub use jwe::Jwe;
pub use pin::{Pin, Policy};
