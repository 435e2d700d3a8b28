//! The advertisement of a Tang server: a JWS (RFC 7515, JSON serialization) over `{"keys": [...]}`, signed
//! by every signing key in it.

use p256::ecdsa::signature::Verifier;
use serde_json::{Map, Value};

use crate::curve::Curve;
use crate::jwk::{self, Key};
use crate::{Error, json};

const WHAT: &str = "the advertisement";

/// Why a server is believed to be the right one.
#[derive(Debug, Clone)]
pub enum Trust<'a> {
    /// A signing key with this thumbprint (S256, or S1 of old) has signed.
    Pinned(&'a str),
    /// As above; and when the pinned key has been rotated out of the advertisement, it may be among these
    /// keys, known from before: Tang still signs `/adv/<thumbprint>` with it.
    PinnedOrKnown(&'a str, &'a [Key]),
    /// Whoever answers: first use, accepted on purpose.
    FirstUse,
}

/// A verified advertisement.
#[derive(Debug, Clone)]
pub struct Advertisement {
    /// All keys, in the server's order.
    pub keys: Vec<Key>,
    /// The payload, as a JWE embeds it.
    pub payload: Map<String, Value>,
    /// The whole JWS as the server gave it: `adv` of a [`crate::pin::Tang`] that is not to be asked again.
    pub jws: Value,
}

impl Advertisement {
    /// Keys that sign.
    pub fn signing_keys(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(|key| key.may("verify"))
    }

    /// The key to encrypt to: the first one made for key exchange.
    pub fn exchange_key(&self) -> Result<&Key, Error> {
        self.keys.iter().find(|key| is_exchange_key(key)).ok_or(Error::NoExchangeKey)
    }

    /// All keys that can be encrypted to.
    pub fn exchange_keys(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(|key| is_exchange_key(key))
    }
}

/// Tang answers only for keys that say `deriveKey` and, if they name an algorithm, `ECMR`.
pub(crate) fn is_exchange_key(key: &Key) -> bool {
    key.may("deriveKey") && key.algorithm.as_deref().is_none_or(|algorithm| algorithm == "ECMR")
}

struct Signature {
    algorithm: String,
    signed: String,
    bytes: Vec<u8>,
}

/// Checks an advertisement: well-formed, signed by each of its signing keys, and trusted.
pub fn verify(text: &[u8], trust: &Trust<'_>) -> Result<Advertisement, Error> {
    let jws = json::parse_object(WHAT, text)?;
    let payload_text = json::text(WHAT, &jws, "payload")?;
    let payload = json::parse_object("the advertisement's payload", &json::decode(WHAT, payload_text)?)?;
    let signatures = signatures(&jws, payload_text)?;
    let keys = jwk::parse_set("an advertised key", &payload)?;
    let advertisement = Advertisement { keys, payload, jws: Value::Object(jws.clone()) };
    let mut signers: Vec<&Key> = Vec::new();
    for key in advertisement.signing_keys() {
        if !signatures.iter().any(|signature| signature.is_by(key)) {
            return Err(Error::PartlySigned(key.thumbprint()));
        }
        signers.push(key);
    }
    if signers.is_empty() {
        return Err(Error::NoSigningKey);
    }
    let pinned = match trust {
        Trust::FirstUse => return Ok(advertisement),
        Trust::Pinned(pinned) => *pinned,
        Trust::PinnedOrKnown(pinned, known) => {
            let still = known.iter().find(|key| key.may("verify") && key.is(pinned));
            if still.is_some_and(|key| signatures.iter().any(|signature| signature.is_by(key))) {
                return Ok(advertisement);
            }
            *pinned
        }
    };
    if signers.iter().any(|key| key.is(pinned)) {
        return Ok(advertisement);
    }
    let found = signers.iter().map(|key| key.thumbprint()).collect::<Vec<_>>().join(", ");
    Err(Error::NotTrusted { pinned: pinned.into(), found })
}

/// Flattened (one signature) or general (`signatures`), never both (RFC 7515, section 7.2).
fn signatures(jws: &Map<String, Value>, payload: &str) -> Result<Vec<Signature>, Error> {
    let list = match jws.get("signatures") {
        None if !jws.contains_key("signature") => return Err(Error::Unsigned),
        None => vec![signature(jws, payload)?],
        Some(_) if jws.contains_key("signature") => {
            return Err(Error::Unsupported {
                what: WHAT,
                key: "signature",
                found: "signatures beside it".into(),
                expected: "one of the two",
            });
        }
        Some(list) => {
            let list = list.as_array().ok_or(Error::Missing { what: WHAT, key: "signatures" })?;
            if list.len() > 64 {
                return Err(Error::TooLarge(WHAT));
            }
            let one = |item: &Value| {
                let item = item.as_object().ok_or(Error::Missing { what: WHAT, key: "signatures" })?;
                signature(item, payload)
            };
            list.iter().map(one).collect::<Result<_, _>>()?
        }
    };
    if list.is_empty() { Err(Error::Unsigned) } else { Ok(list) }
}

fn signature(item: &Map<String, Value>, payload: &str) -> Result<Signature, Error> {
    const HEADER: &str = "the advertisement's signature header";
    let protected = json::text(WHAT, item, "protected")?;
    let header = json::parse_object(HEADER, &json::decode(WHAT, protected)?)?;
    let algorithm = json::text(HEADER, &header, "alg")?;
    if !["ES256", "ES384", "ES512"].contains(&algorithm) {
        return Err(Error::Unsupported {
            what: HEADER,
            key: "alg",
            found: algorithm.into(),
            expected: "ES256, ES384 or ES512",
        });
    }
    if let Some(critical) = header.get("crit") {
        let found = critical.to_string();
        return Err(Error::Unsupported { what: HEADER, key: "crit", found, expected: "no such member" });
    }
    let bytes = json::decode(WHAT, json::text(WHAT, item, "signature")?)?.to_vec();
    Ok(Signature { algorithm: algorithm.into(), signed: format!("{protected}.{payload}"), bytes })
}

impl Signature {
    fn is_by(&self, key: &Key) -> bool {
        let curve = key.point.curve();
        if self.algorithm != curve.signature_algorithm() {
            return false;
        }
        /// One curve's key and signature types; all three have the same three methods.
        macro_rules! check {
            ($ecdsa:path) => {{
                use $ecdsa as ecdsa;
                match (
                    ecdsa::VerifyingKey::from_sec1_bytes(key.point.sec1()),
                    ecdsa::Signature::from_slice(&self.bytes),
                ) {
                    (Ok(key), Ok(signature)) => key.verify(self.signed.as_bytes(), &signature).is_ok(),
                    _ => false,
                }
            }};
        }
        match curve {
            Curve::P256 => check!(p256::ecdsa),
            Curve::P384 => check!(p384::ecdsa),
            Curve::P521 => check!(p521::ecdsa),
        }
    }
}
