//! Signatures over generations of the cluster file: by the node's key, checked against the CA.

use std::fmt;
use std::io::Read;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use pc_cli::{Common, Exit, refused};
use rcgen::{KeyPair, SigningKey};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use crate::paths::{CA_CERTIFICATE, MEMBER, NODE_CERTIFICATE, Paths};
use crate::{files, secrets, x509};

/// Largest text that is signed.
const LIMIT: u64 = 16 * 1024 * 1024;
/// Signed before the text, so that no signature of ours can be taken for one over something else.
const DOMAIN: &[u8] = b"personal-cluster generation 1\0";

/// A signed text, `pc.trust.envelope/1`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    schema: String,
    /// The node that signed.
    signer: String,
    /// Its certificate, PEM.
    certificate: String,
    /// ECDSA P-256 with SHA-256, ASN.1, base64.
    signature: String,
    /// The text.
    content: String,
}

/// `pc.trust.verified/1`.
#[derive(Debug, Serialize)]
struct Verified {
    schema: &'static str,
    signer: String,
    content: String,
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.content)
    }
}

fn message(content: &str) -> Vec<u8> {
    [DOMAIN, content.as_bytes()].concat()
}

fn stdin() -> Result<String> {
    let mut text = String::new();
    std::io::stdin()
        .lock()
        .take(LIMIT + 1)
        .read_to_string(&mut text)
        .map_err(|error| refused(format!("reading standard input: {error}")))?;
    if text.len() as u64 > LIMIT {
        return Err(refused(format!("standard input is more than {LIMIT} bytes")));
    }
    Ok(text)
}

/// `pc-trust sign < TEXT > ENVELOPE`.
pub fn sign(common: &Common) -> Result<Exit> {
    let paths = Paths::new(&common.root);
    let content = stdin()?;
    let certificate = files::read(&paths.trust(NODE_CERTIFICATE))?;
    let certificate = certificate.ok_or_else(|| refused("this node has no certificate to sign with"))?;
    let key = secrets::node_key(&paths)?;
    let envelope = seal(content, certificate, &key)?;
    let mut text = serde_json::to_string_pretty(&envelope).context("writing the envelope")?;
    text.push('\n');
    pc_cli::emit_raw(text.as_bytes())?;
    Ok(Exit::Done)
}

fn seal(content: String, certificate: String, key: &KeyPair) -> Result<Envelope> {
    Ok(Envelope {
        schema: "pc.trust.envelope/1".into(),
        signer: x509::facts(&certificate)?.common_name,
        signature: BASE64.encode(key.sign(&message(&content)).context("signing")?),
        certificate,
        content,
    })
}

/// `pc-trust verify < ENVELOPE > TEXT`: refuses what no node of this cluster signed. The clock does not
/// matter: an old text is for `pc-config` to refuse, by its generation.
pub fn verify(common: &Common) -> Result<Exit> {
    let paths = Paths::new(&common.root);
    let ca = files::read(&paths.trust(CA_CERTIFICATE))?;
    let ca = ca.ok_or_else(|| no_ca(&paths))?;
    let verified = open(&stdin()?, &ca)?;
    if common.json {
        pc_cli::emit(true, &verified)?;
    } else {
        pc_cli::emit_raw(verified.content.as_bytes())?;
    }
    Ok(Exit::Done)
}

/// A member that has lost its CA's certificate is no stranger.
fn no_ca(paths: &Paths) -> anyhow::Error {
    if !paths.trust(MEMBER).exists() {
        return refused("this node belongs to no cluster, and knows no CA");
    }
    let path = paths.trust(CA_CERTIFICATE);
    refused(format!("{} is missing\n  `pc-trust status` says how it comes back", path.display()))
}

fn open(text: &str, ca: &str) -> Result<Verified> {
    let envelope: Envelope =
        serde_json::from_str(text).map_err(|error| refused(format!("not a signed text: {error}")))?;
    if envelope.schema != "pc.trust.envelope/1" {
        return Err(refused(format!("the envelope is {:.40}, not pc.trust.envelope/1", envelope.schema)));
    }
    let facts = x509::issued_by(&envelope.certificate, ca).map_err(|error| refused(format!("{error:#}")))?;
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &facts.public_key);
    let signature = BASE64.decode(&envelope.signature).map_err(|_| refused("the signature is not base64"))?;
    if envelope.signer != facts.common_name || key.verify(&message(&envelope.content), &signature).is_err() {
        return Err(refused("the signature does not fit the text"));
    }
    Ok(Verified { schema: "pc.trust.verified/1", signer: envelope.signer, content: envelope.content })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x509::{Names, new_ca, new_key, sign_node};

    #[test]
    fn only_what_a_node_signed_is_accepted() {
        let (ca_key, key, stranger_key) = (new_key().unwrap(), new_key().unwrap(), new_key().unwrap());
        let (ca, stranger) = (new_ca("home", &ca_key).unwrap(), new_ca("home", &stranger_key).unwrap());
        let names = Names { node: "node1".into(), full: "node1.h".into(), address: "::1".parse().unwrap() };
        let certificate = sign_node(&ca, &ca_key, &names, &key).unwrap();
        let envelope = seal("näme = 1\n".into(), certificate, &key).unwrap();
        let text = serde_json::to_string(&envelope).unwrap();
        let verified = open(&text, &ca).unwrap();
        assert_eq!((verified.signer.as_str(), verified.content.as_str()), ("node1", "näme = 1\n"));
        assert!(open(&text, &stranger).is_err());
        assert!(open(&text.replace("= 1", "= 2"), &ca).is_err());
        assert!(open(&text.replace("\"node1\"", "\"node2\""), &ca).is_err());
        for bad in ["", "{}", "näme = 1", "[[[["] {
            assert!(open(bad, &ca).is_err());
        }
        let own = seal("x".into(), ca.clone(), &ca_key).unwrap();
        assert!(open(&serde_json::to_string(&own).unwrap(), &ca).is_err(), "the CA itself signs no texts");
    }

    /// Every byte of an envelope, changed: refused, or the change does not reach the text.
    #[test]
    fn no_changed_byte_changes_the_text() {
        let (ca_key, key) = (new_key().unwrap(), new_key().unwrap());
        let ca = new_ca("home", &ca_key).unwrap();
        let names = Names { node: "node1".into(), full: "node1.h".into(), address: "::1".parse().unwrap() };
        let certificate = sign_node(&ca, &ca_key, &names, &key).unwrap();
        let text = serde_json::to_string(&seal("generation = 7".into(), certificate, &key).unwrap()).unwrap();
        for index in 0..text.len() {
            for change in [1_u8, 0x20, 0x80] {
                let mut bytes = text.clone().into_bytes();
                bytes[index] ^= change;
                let Ok(changed) = String::from_utf8(bytes) else { continue };
                if let Ok(verified) = open(&changed, &ca) {
                    let same = (verified.signer.as_str(), verified.content.as_str());
                    assert_eq!(same, ("node1", "generation = 7"), "{index} {change}");
                }
            }
        }
    }

    /// The signature is what openssl makes of it.
    #[test]
    fn openssl_verifies_it() {
        let (ca_key, key) = (new_key().unwrap(), new_key().unwrap());
        let ca = new_ca("home", &ca_key).unwrap();
        let names = Names { node: "node1".into(), full: "node1.h".into(), address: "::1".parse().unwrap() };
        let envelope = seal("text".into(), sign_node(&ca, &ca_key, &names, &key).unwrap(), &key).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("key"), key.public_key_pem()).unwrap();
        std::fs::write(at("sig"), BASE64.decode(envelope.signature).unwrap()).unwrap();
        std::fs::write(at("text"), message("text")).unwrap();
        let mut command = std::process::Command::new("openssl");
        command
            .args(["dgst", "-sha256", "-verify"])
            .arg(at("key"))
            .arg("-signature")
            .arg(at("sig"))
            .arg(at("text"));
        assert!(command.output().unwrap().status.success());
    }
}
