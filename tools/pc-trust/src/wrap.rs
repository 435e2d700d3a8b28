//! The CA's private keys, wrapped by the recovery key: on every node, useless without it.
//!
//! The file is a JWE in compact form (RFC 7516) with `alg` "dir" and `enc` "A256GCM"; its key is
//! HKDF-SHA256 (RFC 5869) over the text of the recovery key, salt "personal-cluster", info "ca.key", so
//! that openssl and jose open it without us (docs/tools/pc-trust.md shows the two lines).

use anyhow::{Context, Result, anyhow, bail};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::recovery::random;

const HEADER: &str = r#"{"alg":"dir","enc":"A256GCM"}"#;

/// Private keys of the cluster: of the X.509 CA and of the SSH CA.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub struct CaKeys {
    /// PKCS #8 PEM of the X.509 CA.
    pub ca_key: String,
    /// OpenSSH private key of the SSH CA.
    pub ssh_ca_key: String,
}

/// The wrapped form, a text without line break.
pub fn wrap(keys: &CaKeys, recovery_key: &str) -> Result<String> {
    let nonce = random::<12>()?;
    let protected = BASE64.encode(HEADER);
    let mut body = Zeroizing::new(serde_json::to_vec(keys).context("writing the CA's keys")?);
    let tag = key(recovery_key)?
        .seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(*nonce),
            Aad::from(protected.as_bytes()),
            body.as_mut_slice(),
        )
        .map_err(|_| anyhow!("wrapping the CA's keys"))?;
    Ok(format!(
        "{protected}..{}.{}.{}",
        BASE64.encode(nonce.as_ref()),
        BASE64.encode(&*body),
        BASE64.encode(tag.as_ref())
    ))
}

/// The keys again.
pub fn unwrap(jwe: &str, recovery_key: &str) -> Result<CaKeys> {
    let parts: Vec<&str> = jwe.trim().split('.').collect();
    let [protected, "", nonce, body, tag] = parts[..] else { bail!("not a JWE in compact form") };
    let header: serde_json::Value =
        serde_json::from_slice(&BASE64.decode(protected).context("reading the JWE's header")?)
            .context("reading the JWE's header")?;
    if header["alg"] != "dir" || header["enc"] != "A256GCM" {
        bail!("the JWE is not alg dir with enc A256GCM");
    }
    let nonce = BASE64.decode(nonce).context("reading the JWE's initialisation vector")?;
    let mut sealed = Zeroizing::new(BASE64.decode(body).context("reading the JWE's ciphertext")?);
    sealed.extend(BASE64.decode(tag).context("reading the JWE's tag")?);
    let nonce =
        Nonce::try_assume_unique_for_key(&nonce).map_err(|_| anyhow!("the JWE's iv is not 96 bits"))?;
    let plain = key(recovery_key)?
        .open_in_place(nonce, Aad::from(protected.as_bytes()), sealed.as_mut_slice())
        .map_err(|_| anyhow!("the recovery key does not open it"))?;
    serde_json::from_slice(plain).context("reading the unwrapped keys")
}

fn key(recovery_key: &str) -> Result<LessSafeKey> {
    let prk = Salt::new(HKDF_SHA256, b"personal-cluster").extract(recovery_key.as_bytes());
    let okm = prk.expand(&[b"ca.key"], &AES_256_GCM).map_err(|_| anyhow!("deriving the wrapping key"))?;
    Ok(LessSafeKey::new(UnboundKey::from(okm)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECOVERY: &str = "bvcccccc-cccccccc-cccccccc-cccccccc-cccccccc-cccccccc-cccccccc-ccccccuc";

    fn keys() -> CaKeys {
        CaKeys { ca_key: "x509".into(), ssh_ca_key: "ssh".into() }
    }

    #[test]
    fn opens_with_the_same_key_only() {
        let jwe = wrap(&keys(), RECOVERY).unwrap();
        assert_eq!(unwrap(&jwe, RECOVERY).unwrap().ssh_ca_key, "ssh");
        assert!(unwrap(&jwe, "other").is_err_and(|error| error.to_string().contains("does not open")));
        let mut bent = jwe.into_bytes();
        let last = bent.len() - 3;
        bent[last] = if bent[last] == b'A' { b'B' } else { b'A' };
        assert!(unwrap(&String::from_utf8(bent).unwrap(), RECOVERY).is_err());
        for bad in ["", "a.b.c", "....", "e30..AA.AA.AA"] {
            assert!(unwrap(bad, RECOVERY).is_err(), "{bad}");
        }
    }

    /// The way back without us: openssl derives, jose decrypts.
    #[test]
    fn openssl_and_jose_open_it() {
        use std::process::{Command, Stdio};
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ca.key.jwe");
        std::fs::write(&file, wrap(&keys(), RECOVERY).unwrap()).unwrap();
        let derived = Command::new("openssl")
            .args(["kdf", "-binary", "-keylen", "32", "-kdfopt", "digest:SHA256", "-kdfopt"])
            .arg(format!("key:{RECOVERY}"))
            .args(["-kdfopt", "salt:personal-cluster", "-kdfopt", "info:ca.key", "HKDF"])
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert_eq!(derived.stdout.len(), 32);
        let jwk = directory.path().join("key.jwk");
        std::fs::write(&jwk, format!(r#"{{"kty":"oct","k":"{}"}}"#, BASE64.encode(&derived.stdout))).unwrap();
        let opened =
            Command::new("jose").args(["jwe", "dec", "-i"]).arg(&file).arg("-k").arg(&jwk).output().unwrap();
        assert_eq!(String::from_utf8(opened.stdout).unwrap(), r#"{"ca_key":"x509","ssh_ca_key":"ssh"}"#);
    }
}
