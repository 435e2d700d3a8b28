//! The McCallum-Relyea exchange (tang(8), "Key exchange") and the key derivation around it (RFC 7518, 4.6).
//!
//! Server key S = sG. Sealing: C = cG goes into the header, K = cS is the secret, c is forgotten.
//! Opening: fresh e, X = C + eG, the server answers Y = sX, and K = Y - eS; the server learns nothing of C.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::adv::{Advertisement, is_exchange_key};
use crate::curve::{Point, Secret};
use crate::jwe::{Cek, Jwe};
use crate::jwk::{self, Key};
use crate::{Error, json, url};

const HEADER: &str = "the JWE's header";

/// What a JWE of the pin `tang` says, checked as far as it can be without asking anyone.
#[derive(Debug, Clone)]
pub struct Sealed {
    /// The server's URL.
    pub url: String,
    /// The thumbprint in the header, which names the server's key.
    pub kid: String,
    /// The keys that the server advertised when it was sealed.
    pub keys: Vec<Key>,
    server: Point,
    ephemeral: Point,
    apu: Vec<u8>,
    apv: Vec<u8>,
}

/// One exchange that is under way: holds the blinding that makes the server's answer useful.
pub struct Exchange<'a> {
    sealed: &'a Sealed,
    blinding: Secret,
    asked: Key,
}

/// What takes the blinding off the answer: does not depend on it, so it is worked out while the server answers.
pub struct Unblinding<'a> {
    sealed: &'a Sealed,
    /// eS.
    blind: Point,
}

impl Sealed {
    /// Reads the header of a JWE of the pin `tang`.
    pub fn read(jwe: &Jwe) -> Result<Sealed, Error> {
        let (pin, node) = jwe.pin()?;
        if pin != "tang" {
            return Err(Error::UnknownPin(pin.into()));
        }
        let algorithm = jwe.algorithm()?;
        if algorithm != "ECDH-ES" {
            let found = algorithm.into();
            return Err(Error::Unsupported { what: HEADER, key: "alg", found, expected: "ECDH-ES" });
        }
        let keys = jwk::parse_set("an embedded key", json::object(HEADER, node, "adv")?)?;
        let kid = json::text(HEADER, &jwe.header, "kid")?;
        let server =
            keys.iter().find(|key| key.is(kid)).ok_or_else(|| Error::KidNotAdvertised(kid.into()))?;
        if !is_exchange_key(server) {
            let found = server.operations.join(" ");
            return Err(Error::Unsupported {
                what: "the key named by kid",
                key: "key_ops",
                found,
                expected: "deriveKey, for ECMR",
            });
        }
        let epk = jwe.header.get("epk").ok_or(Error::Missing { what: HEADER, key: "epk" })?;
        let ephemeral = Key::parse("the JWE's epk", epk)?.point;
        if ephemeral.curve() != server.point.curve() {
            return Err(Error::WrongCurve {
                what: "the JWE's epk",
                found: ephemeral.curve().name(),
                expected: server.point.curve().name(),
            });
        }
        Ok(Sealed {
            url: plain(json::text(HEADER, node, "url")?)?,
            kid: kid.into(),
            server: server.point.clone(),
            keys,
            ephemeral,
            apu: party(&jwe.header, "apu")?,
            apv: party(&jwe.header, "apv")?,
        })
    }

    /// Starts an exchange with a fresh blinding.
    pub fn start(&self) -> Result<Exchange<'_>, Error> {
        let blinding = Secret::random(self.server.curve());
        let asked = self.ephemeral.plus(&blinding.public()?)?;
        Ok(Exchange { sealed: self, blinding, asked: Key::of_point(asked) })
    }
}

/// The URL goes into messages and lists: one with control characters would be lines of its own there.
fn plain(url: &str) -> Result<String, Error> {
    if url.contains(char::is_control) {
        return Err(Error::Url { url: url::shown(url).into(), why: "it holds control characters" });
    }
    Ok(url.into())
}

impl<'a> Exchange<'a> {
    /// The path to POST to, below the server's URL.
    pub fn path(&self) -> String {
        format!("/rec/{}", self.sealed.kid)
    }

    /// The body to POST, `application/jwk+json`.
    pub fn body(&self) -> Vec<u8> {
        let mut jwk = self.asked.raw.clone();
        jwk.insert("alg".into(), "ECMR".into());
        Value::Object(jwk).to_string().into_bytes()
    }

    /// Goes on to the second half: for between the request and its answer.
    pub fn unblinding(self) -> Result<Unblinding<'a>, Error> {
        Ok(Unblinding { sealed: self.sealed, blind: self.sealed.server.times(&self.blinding)? })
    }
}

impl Unblinding<'_> {
    /// Turns the server's answer into the content key. A wrong answer cannot be told from a right one
    /// here; the JWE's tag does that.
    pub fn finish(self, answer: &[u8]) -> Result<Cek, Error> {
        const ANSWER: &str = "the server's answer";
        let jwk = json::parse(ANSWER, answer)?;
        let key = Key::parse(ANSWER, &jwk)?;
        if let Some(algorithm) = key.algorithm.as_deref().filter(|algorithm| *algorithm != "ECMR") {
            let found = algorithm.into();
            return Err(Error::Unsupported { what: ANSWER, key: "alg", found, expected: "ECMR" });
        }
        if key.point.curve() != self.sealed.server.curve() {
            return Err(Error::WrongCurve {
                what: ANSWER,
                found: key.point.curve().name(),
                expected: self.sealed.server.curve().name(),
            });
        }
        let shared = key.point.minus(&self.blind)?;
        Ok(derive(&shared, &self.sealed.apu, &self.sealed.apv))
    }
}

/// Encrypts to the exchange key of a verified advertisement: what `clevis encrypt tang` makes.
pub fn seal(advertisement: &Advertisement, url: &str, plaintext: &[u8]) -> Result<Jwe, Error> {
    let server = advertisement.exchange_key()?;
    let secret = Secret::random(server.point.curve());
    let shared = server.point.times(&secret)?;
    let ephemeral = Key::of_point(secret.public()?);
    let header = serde_json::json!({
        "alg": "ECDH-ES",
        "clevis": {"pin": "tang", "tang": {"adv": advertisement.payload, "url": url}},
        "epk": ephemeral.raw,
        "kid": server.thumbprint(),
    });
    let Value::Object(header) = header else { return Err(Error::Missing { what: HEADER, key: "alg" }) };
    Jwe::encrypt(header, &derive(&shared, &[], &[]), plaintext)
}

fn party(header: &Map<String, Value>, key: &'static str) -> Result<Vec<u8>, Error> {
    match header.get(key) {
        None => Ok(Vec::new()),
        Some(_) => Ok(json::decode(HEADER, json::text(HEADER, header, key)?)?.to_vec()),
    }
}

/// Concat KDF (NIST SP 800-56A, 5.8.1) for 256 bits: one round of SHA-256.
fn derive(shared: &Point, apu: &[u8], apv: &[u8]) -> Cek {
    let mut hash = Sha256::new();
    hash.update(1_u32.to_be_bytes());
    hash.update(shared.x());
    for part in [b"A256GCM", apu, apv] {
        // A header is smaller than 4 GiB.
        hash.update(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        hash.update(part);
    }
    hash.update(256_u32.to_be_bytes());
    Zeroizing::new(hash.finalize().into())
}
