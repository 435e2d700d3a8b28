//! Public EC keys as JWKs (RFC 7517, RFC 7518 section 6.2) and their thumbprints (RFC 7638).

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::curve::{Curve, Point};
use crate::{Error, json};

/// A public EC key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The point it stands for.
    pub point: Point,
    /// `alg`: `ES512`, `ECMR`, ...
    pub algorithm: Option<String>,
    /// `key_ops`; empty when absent.
    pub operations: Vec<String>,
    /// The object as it was received: a JWE embeds it unchanged.
    pub raw: Map<String, Value>,
}

impl Key {
    /// Reads a JWK object; `what` names it in errors.
    pub fn parse(what: &'static str, jwk: &Value) -> Result<Key, Error> {
        let Value::Object(raw) = jwk else { return Err(Error::Json { what, why: "not an object".into() }) };
        let kty = json::text(what, raw, "kty")?;
        if kty != "EC" {
            return Err(Error::Unsupported { what, key: "kty", found: kty.into(), expected: "EC" });
        }
        let name = json::text(what, raw, "crv")?;
        let curve = Curve::by_name(name).ok_or_else(|| Error::Unsupported {
            what,
            key: "crv",
            found: name.into(),
            expected: "P-256, P-384 or P-521",
        })?;
        let x = json::decode(what, json::text(what, raw, "x")?)?;
        let y = json::decode(what, json::text(what, raw, "y")?)?;
        let point = Point::from_coordinates(what, curve, &x, &y)?;
        let algorithm = match raw.get("alg") {
            None => None,
            Some(Value::String(algorithm)) => Some(algorithm.clone()),
            Some(_) => return Err(Error::Missing { what, key: "alg" }),
        };
        Ok(Key { point, algorithm, operations: operations(what, raw)?, raw: raw.clone() })
    }

    /// The bare public key of a point.
    pub fn of_point(point: Point) -> Key {
        let raw = match json!({
            "crv": point.curve().name(), "kty": "EC", "x": json::encode(point.x()), "y": json::encode(point.y()),
        }) {
            Value::Object(raw) => raw,
            _ => Map::new(),
        };
        Key { point, algorithm: None, operations: Vec::new(), raw }
    }

    /// `key_ops` names this operation.
    pub fn may(&self, operation: &str) -> bool {
        self.operations.iter().any(|known| known == operation)
    }

    /// The members that identify the key, in the order of RFC 7638.
    fn canonical(&self) -> String {
        format!(
            r#"{{"crv":"{}","kty":"EC","x":"{}","y":"{}"}}"#,
            self.point.curve().name(),
            json::encode(self.point.x()),
            json::encode(self.point.y())
        )
    }

    /// SHA-256 thumbprint, 43 characters: what tang 8 and later, and clevis 15 and later, show.
    pub fn thumbprint(&self) -> String {
        json::encode(&Sha256::digest(self.canonical()))
    }

    /// SHA-1 thumbprint, 27 characters: what older ones show.
    pub fn legacy_thumbprint(&self) -> String {
        json::encode(&sha1::Sha1::digest(self.canonical()))
    }

    /// `thumbprint` is this key's, in either form.
    pub fn is(&self, thumbprint: &str) -> bool {
        self.thumbprint() == thumbprint || self.legacy_thumbprint() == thumbprint
    }
}

fn operations(what: &'static str, raw: &Map<String, Value>) -> Result<Vec<String>, Error> {
    let wrong = || Error::Missing { what, key: "key_ops" };
    let Some(value) = raw.get("key_ops") else { return Ok(Vec::new()) };
    value.as_array().ok_or_else(wrong)?.iter().map(|op| Ok(op.as_str().ok_or_else(wrong)?.into())).collect()
}

/// Reads `{"keys": [...]}`.
pub(crate) fn parse_set(what: &'static str, set: &Map<String, Value>) -> Result<Vec<Key>, Error> {
    let keys = set.get("keys").and_then(Value::as_array).ok_or(Error::Missing { what, key: "keys" })?;
    if keys.len() > 64 {
        return Err(Error::TooLarge(what));
    }
    keys.iter().map(|jwk| Key::parse(what, jwk)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Thumbprints computed by `jose jwk thp -a S256` and `-a S1` (jose 11) for a key of tangd-keygen.
    #[test]
    fn thumbprints_are_those_of_jose() {
        let jwk = json!({"alg":"ES512","crv":"P-521","key_ops":["verify"],"kty":"EC",
            "x":"AL-bETvbJjC2tZXWNSr0FnzWBXvK6sDZG5-Fr-uBiPWq8c9QBr-9GPynfA1_zdsUE-AX1LiiuqQqV_psS6acREq5",
            "y":"ATly-gyx6_glF25nSTYIdclNfXZfhDaRN1bmmVmZF689wZI2jEp_pRx-k1m18OqPAVnQtIHFsyY0821h-p5ZnJMI"});
        let key = Key::parse("a key", &jwk).unwrap();
        assert_eq!(key.thumbprint(), "2BS5Qjos4nyPhAg74iccmn5jmqS0fUBN2p78kFeSktw");
        assert!(key.may("verify") && !key.may("deriveKey"));
        assert!(key.is(&key.legacy_thumbprint()) && key.legacy_thumbprint().len() == 27);
    }
}
