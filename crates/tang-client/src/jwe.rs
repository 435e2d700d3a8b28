//! JWE (RFC 7516) with `enc: A256GCM`: compact and JSON forms, as Clevis writes them.

use aes_gcm::aead::rand_core::RngCore;
use aes_gcm::aead::{Aead, KeyInit, OsRng, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::{Error, json};

const WHAT: &str = "the JWE";
const HEADER: &str = "the JWE's header";
/// A whole LUKS2 header with its keyslots (16 MiB) in base64 fits; nothing larger is ever sealed.
const LARGEST: usize = 24 << 20;

/// The key that a JWE's content is encrypted with: 256 bits, wiped when dropped.
pub type Cek = Zeroizing<[u8; 32]>;

/// One encrypted message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jwe {
    /// The protected header as it was received: it is authenticated in this very spelling.
    protected: String,
    /// The same, parsed.
    pub header: Map<String, Value>,
    iv: [u8; 12],
    ciphertext: Vec<u8>,
    tag: [u8; 16],
}

impl Jwe {
    /// Reads either form: JSON when it begins with `{`, else compact. White space around it is ignored,
    /// as `clevis decrypt` does.
    pub fn parse(text: &[u8]) -> Result<Jwe, Error> {
        if text.len() > LARGEST {
            return Err(Error::TooLarge(WHAT));
        }
        let text = text.trim_ascii();
        if text.first() == Some(&b'{') {
            return Jwe::from_json(&json::parse_object(WHAT, text)?);
        }
        Jwe::from_compact(std::str::from_utf8(text).map_err(|_| Error::Base64(WHAT))?)
    }

    /// Reads the compact form: five parts, the second one empty.
    pub fn from_compact(text: &str) -> Result<Jwe, Error> {
        if text.len() > LARGEST {
            return Err(Error::TooLarge(WHAT));
        }
        let parts: Vec<&str> = text.split('.').collect();
        let [protected, encrypted_key, iv, ciphertext, tag] = parts[..] else {
            return Err(Error::Parts(parts.len()));
        };
        Jwe::from_parts(protected, encrypted_key, iv, ciphertext, tag)
    }

    /// Reads the flattened JSON form, which LUKS2 tokens hold.
    pub fn from_json(object: &Map<String, Value>) -> Result<Jwe, Error> {
        for key in ["unprotected", "header", "recipients", "aad"] {
            if object.contains_key(key) {
                let found = object[key].to_string();
                return Err(Error::Unsupported { what: WHAT, key, found, expected: "no such member" });
            }
        }
        let encrypted_key = match object.get("encrypted_key") {
            None => "",
            Some(key) => key.as_str().ok_or(Error::Missing { what: WHAT, key: "encrypted_key" })?,
        };
        Jwe::from_parts(
            json::text(WHAT, object, "protected")?,
            encrypted_key,
            json::text(WHAT, object, "iv")?,
            json::text(WHAT, object, "ciphertext")?,
            json::text(WHAT, object, "tag")?,
        )
    }

    fn from_parts(
        protected: &str,
        encrypted_key: &str,
        iv: &str,
        ciphertext: &str,
        tag: &str,
    ) -> Result<Jwe, Error> {
        let header = json::parse_object(HEADER, &json::decode(HEADER, protected)?)?;
        let enc = json::text(HEADER, &header, "enc")?;
        if enc != "A256GCM" {
            return Err(Error::Unsupported {
                what: HEADER,
                key: "enc",
                found: enc.into(),
                expected: "A256GCM",
            });
        }
        for key in ["crit", "zip"] {
            if let Some(found) = header.get(key).map(ToString::to_string) {
                return Err(Error::Unsupported { what: HEADER, key, found, expected: "no such member" });
            }
        }
        // Both `dir` and `ECDH-ES` use the agreed key directly (RFC 7516, section 5.2, step 10).
        let what = "the JWE's encrypted key";
        if !encrypted_key.is_empty() {
            let found = json::decode(what, encrypted_key)?.len();
            return Err(Error::Length { what, found, expected: 0 });
        }
        Ok(Jwe {
            protected: protected.into(),
            header,
            iv: fixed("the JWE's iv", iv)?,
            ciphertext: json::decode("the JWE's ciphertext", ciphertext)?.to_vec(),
            tag: fixed("the JWE's tag", tag)?,
        })
    }

    /// Encrypts `plaintext` under a key that `header` says how to get. Adds `enc`.
    pub fn encrypt(mut header: Map<String, Value>, cek: &Cek, plaintext: &[u8]) -> Result<Jwe, Error> {
        header.insert("enc".into(), "A256GCM".into());
        let protected = json::encode(Value::Object(header.clone()).to_string().as_bytes());
        let mut iv = [0; 12];
        OsRng.fill_bytes(&mut iv);
        let payload = Payload { msg: plaintext, aad: protected.as_bytes() };
        let mut ciphertext = Aes256Gcm::new(cek.as_slice().into())
            .encrypt(Nonce::from_slice(&iv), payload)
            .map_err(|_| Error::TooLarge("the text to encrypt"))?;
        let mut tag = [0; 16];
        tag.copy_from_slice(&ciphertext[ciphertext.len() - 16..]);
        ciphertext.truncate(ciphertext.len() - 16);
        Ok(Jwe { protected, header, iv, ciphertext, tag })
    }

    /// Checks the tag, then gives the text; nothing of it comes out when the tag does not fit.
    pub fn decrypt(&self, cek: &Cek) -> Result<Zeroizing<Vec<u8>>, Error> {
        let sealed = [&self.ciphertext[..], &self.tag[..]].concat();
        Aes256Gcm::new(cek.as_slice().into())
            .decrypt(Nonce::from_slice(&self.iv), Payload { msg: &sealed, aad: self.protected.as_bytes() })
            .map(Zeroizing::new)
            .map_err(|_| Error::Tag)
    }

    /// The compact form.
    pub fn to_compact(&self) -> String {
        format!(
            "{}..{}.{}.{}",
            self.protected,
            json::encode(&self.iv),
            json::encode(&self.ciphertext),
            json::encode(&self.tag)
        )
    }

    /// The flattened JSON form.
    pub fn to_json(&self) -> Value {
        json!({
            "ciphertext": json::encode(&self.ciphertext),
            "encrypted_key": "",
            "iv": json::encode(&self.iv),
            "protected": self.protected,
            "tag": json::encode(&self.tag),
        })
    }

    /// `alg` of the header.
    pub fn algorithm(&self) -> Result<&str, Error> {
        json::text(HEADER, &self.header, "alg")
    }

    /// The Clevis pin and its part of the header: `clevis.pin` and `clevis.<pin>`.
    pub fn pin(&self) -> Result<(&str, &Map<String, Value>), Error> {
        const CLEVIS: &str = "the JWE's clevis header";
        let clevis = json::object(HEADER, &self.header, "clevis")?;
        let pin = json::text(CLEVIS, clevis, "pin")?;
        let node = clevis.get(pin).and_then(Value::as_object);
        Ok((pin, node.ok_or(Error::Missing { what: CLEVIS, key: "member named by its pin" })?))
    }
}

fn fixed<const N: usize>(what: &'static str, text: &str) -> Result<[u8; N], Error> {
    let bytes = json::decode(what, text)?;
    bytes.as_slice().try_into().map_err(|_| Error::Length { what, found: bytes.len(), expected: N })
}
