//! The join's messages: JSON behind a length of four bytes, big-endian, inside TLS.
//!
//! Joiner: `Hello`. Member: `Welcome`. Joiner: `Request`. Member: `Joined`. A member that refuses says so
//! instead, and closes.

use std::io::{Read, Write};

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// TCP port of the join; not registered with IANA by anybody.
pub const PORT: u16 = 7625;
/// Largest message, but for [`Answer::Welcome`].
pub const LIMIT: usize = 256 * 1024;
/// Largest `Welcome`: it has the cluster file, of at most 1 MiB, as a string and as a string within two more, where a byte
/// becomes two and eight. A joiner admits that much from whom the token's CA vouches for, and from nobody else.
pub const WELCOME_LIMIT: usize = 16 * 1024 * 1024;
/// First field of a greeting.
pub const SCHEMA: &str = "pc.trust.join/1";

/// What a joining node says first.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// [`SCHEMA`].
    pub schema: String,
    /// Its host name.
    pub node: String,
    /// Proof that it was told the token, for this session.
    pub proof: String,
}

/// What a joining node says once it knows the cluster and has sealed its key.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Certificate request, PEM.
    pub csr: String,
    /// SSH host key, when it has one.
    pub ssh_host_key: Option<String>,
    /// SSH user key.
    pub ssh_user_key: String,
}

/// What makes a node a member.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub struct Joined {
    /// TLS certificate, PEM.
    pub node_certificate: String,
    /// SSH host certificate, when a key was sent.
    pub ssh_host_certificate: Option<String>,
    /// SSH user certificate.
    pub ssh_user_certificate: String,
    /// Public key of the SSH CA.
    pub ssh_ca: String,
    /// The CA's keys, wrapped by the recovery key.
    pub ca_keys: String,
    /// The recovery key.
    pub recovery_key: String,
    /// Corosync's key, base64.
    pub corosync_key: String,
}

/// What a member answers.
#[derive(Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// The token is right.
    Welcome {
        /// Proof that the member knows it too, for this session.
        proof: String,
        /// The cluster file, as text.
        file: String,
        /// What `pc-config put -` takes: the signed generation, or the file when there is none.
        generation: String,
    },
    /// A member now.
    Joined(Box<Joined>),
    /// No, and repeating it is useless.
    Refused {
        /// Why.
        message: String,
    },
    /// Not now.
    TryAgain {
        /// Why.
        message: String,
    },
}

/// Sends one message of at most `limit` bytes.
pub fn send(stream: &mut impl Write, message: &impl Serialize, limit: usize) -> Result<()> {
    let body = Zeroizing::new(serde_json::to_vec(message).context("writing a message")?);
    if body.len() > limit {
        bail!("a message of {} bytes is more than the {limit} that a join allows", body.len());
    }
    let length = u32::try_from(body.len()).context("writing a message")?;
    stream.write_all(&length.to_be_bytes()).context("sending")?;
    stream.write_all(&body).context("sending")?;
    stream.flush().context("sending")
}

/// Receives one message; its length is checked before anything of it is read.
pub fn receive<T: DeserializeOwned>(stream: &mut impl Read, limit: usize) -> Result<T> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).context("receiving")?;
    let length = usize::try_from(u32::from_be_bytes(length)).context("receiving")?;
    if length > limit {
        bail!("receiving: a message of {length} bytes is more than the {limit} that a join allows");
    }
    let mut body = Zeroizing::new(vec![0; length]);
    stream.read_exact(&mut body).context("receiving")?;
    serde_json::from_slice(&body).context("receiving: not a message of a join")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_received() {
        let mut pipe = Vec::new();
        let hello = Hello { schema: SCHEMA.into(), node: "node2".into(), proof: "00".into() };
        send(&mut pipe, &hello, LIMIT).unwrap();
        assert_eq!(receive::<Hello>(&mut pipe.as_slice(), LIMIT).unwrap().node, "node2");
        assert!(receive::<Request>(&mut pipe.as_slice(), LIMIT).is_err(), "another message");
        assert!(send(&mut Vec::new(), &"x".repeat(LIMIT), LIMIT).is_err());
    }

    #[test]
    fn hostile_lengths_and_bodies_end_early() {
        for bytes in [
            &b""[..],
            b"\0\0",
            b"\xff\xff\xff\xff",
            b"\0\x04\0\x01",
            b"\0\0\0\x02{",
            b"\0\0\0\x02[]",
            b"\0\0\0\x01\xff",
        ] {
            assert!(receive::<Hello>(&mut &bytes[..], LIMIT).is_err(), "{bytes:?}");
        }
        let deep = "[".repeat(100_000);
        let mut frame = u32::try_from(deep.len()).unwrap().to_be_bytes().to_vec();
        frame.extend(deep.bytes());
        assert!(receive::<Hello>(&mut frame.as_slice(), LIMIT).is_err());
    }
}
