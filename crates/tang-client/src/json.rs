//! Strict JSON and base64url: no key twice, nothing after the end, no padding, no stray bits.

use std::cell::RefCell;
use std::fmt;

use base64ct::{Base64UrlUnpadded, Encoding};
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::Error;

/// Parses one JSON text, which errors call `what`; `serde_json` itself limits the depth to 128.
///
/// # Errors
/// [`Error::DuplicateKey`], [`Error::TrailingBytes`], else [`Error::Json`].
pub fn parse(what: &'static str, text: &[u8]) -> Result<Value, Error> {
    let duplicate = RefCell::new(None);
    let mut reader = serde_json::Deserializer::from_slice(text);
    let parsed = Strict(&duplicate).deserialize(&mut reader);
    if let Some(key) = duplicate.into_inner() {
        return Err(Error::DuplicateKey { what, key });
    }
    let value = parsed.map_err(|error| Error::Json { what, why: error.to_string() })?;
    reader.end().map_err(|_| Error::TrailingBytes(what))?;
    Ok(value)
}

/// Parses one JSON text that must be an object.
pub(crate) fn parse_object(what: &'static str, text: &[u8]) -> Result<Map<String, Value>, Error> {
    match parse(what, text)? {
        Value::Object(object) => Ok(object),
        _ => Err(Error::Json { what, why: "not an object".into() }),
    }
}

/// The string member `key` of an object.
pub(crate) fn text<'a>(
    what: &'static str,
    object: &'a Map<String, Value>,
    key: &'static str,
) -> Result<&'a str, Error> {
    object.get(key).and_then(Value::as_str).ok_or(Error::Missing { what, key })
}

/// The object member `key` of an object.
pub(crate) fn object<'a>(
    what: &'static str,
    object: &'a Map<String, Value>,
    key: &'static str,
) -> Result<&'a Map<String, Value>, Error> {
    object.get(key).and_then(Value::as_object).ok_or(Error::Missing { what, key })
}

/// base64url without padding.
pub(crate) fn encode(bytes: &[u8]) -> String {
    Base64UrlUnpadded::encode_string(bytes)
}

/// base64url without padding; anything else is refused. Wiped when dropped.
pub(crate) fn decode(what: &'static str, text: &str) -> Result<Zeroizing<Vec<u8>>, Error> {
    Base64UrlUnpadded::decode_vec(text).map(Zeroizing::new).map_err(|_| Error::Base64(what))
}

struct Strict<'a>(&'a RefCell<Option<String>>);

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;
    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Strict(self.0))? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            if object.contains_key(&key) {
                self.0.replace(Some(key));
                return Err(A::Error::custom("duplicate key"));
            }
            let value = members.next_value_seed(Strict(self.0))?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strictness() {
        assert_eq!(parse("t", br#" {"a":[1,-2,3.5,"x",null,true]} "#).unwrap()["a"][1], -2);
        let twice = parse("t", br#"{"a":{"b":1,"b":2}}"#).unwrap_err();
        assert_eq!(twice, Error::DuplicateKey { what: "t", key: "b".into() });
        for bad in [&b"{} {}"[..], b"{}x", b"1 2"] {
            assert_eq!(parse("t", bad), Err(Error::TrailingBytes("t")), "{bad:?}");
        }
        for bad in [&b""[..], b"{\"a\":}", b"\xff"] {
            assert!(matches!(parse("t", bad), Err(Error::Json { .. })), "{bad:?}");
        }
        assert!(parse("t", "[".repeat(100_000).as_bytes()).is_err());
        assert_eq!(decode("t", "AQ").unwrap().as_slice(), [1]);
        for bad in ["AQ==", "AR", "A", "A Q", "A+/w", "AQ\n"] {
            assert_eq!(decode("t", bad), Err(Error::Base64("t")), "{bad:?}");
        }
    }
}
