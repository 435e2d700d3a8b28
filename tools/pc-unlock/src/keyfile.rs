//! The pin `file`: a key on a removable stick, as a JWK in a file or at the beginning of a bare partition.
//!
//! `clevis.file` in the header: `name`, the path. The key file holds `{"kty": "oct", "alg": "A256GCM", "k": ...}`, what
//! `jose jwk gen -i '{"alg":"A256GCM"}'` makes, and it is the content key itself (`alg` "dir"), so that `jose jwe dec -k FILE`
//! opens the message without us. The form is that of clevis-encrypt-file, which is proposed to Clevis but in no release of it.
//! The key is only ever read: written in the stick's absence it would lie beside the disks that it opens.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use base64ct::{Base64UrlUnpadded, Encoding};
use pc_cli::log;
use serde_json::{Map, Value, json};
use tang_client::jwe::Cek;
use tang_client::{Jwe, Plaintext};
use zeroize::Zeroizing;

use crate::others::Late;
use crate::silent;

/// Its name in headers and configurations.
pub const PIN: &str = "file";
/// A JWK is a hundred bytes; a bare partition is read no further.
const LARGEST: u64 = 4096;

/// The path in a configuration or header: absolute, since nobody knows from where it will be read.
pub fn path(object: &Map<String, Value>) -> Result<PathBuf> {
    let name = object.get("name").and_then(Value::as_str).context("its configuration has no name")?;
    if !name.starts_with('/') {
        bail!("{name:?} is not an absolute path");
    }
    // It goes into messages.
    if name.contains(char::is_control) {
        bail!("{name:?} holds control characters");
    }
    Ok(PathBuf::from(name))
}

/// Opens a JWE of the pin.
pub fn decrypt(jwe: &Jwe, time: Duration) -> Result<Plaintext> {
    let (_, node) = jwe.pin()?;
    if jwe.algorithm()? != "dir" {
        bail!("its alg is not dir");
    }
    Ok(jwe.decrypt(&key(&path(node)?, time)?)?)
}

/// Makes one. The stick must be plugged in.
pub fn encrypt(config: &Value, text: &[u8], time: Duration) -> Result<Jwe> {
    let path = path(config.as_object().context("its configuration is not an object")?)?;
    let cek = key(&path, time)?;
    if is_beside_the_system(&path) {
        log::warning(format_args!(
            "{} lies on this machine's own disk: whoever takes the machine takes the key",
            path.display()
        ));
    }
    let mut header = Map::new();
    header.insert("alg".into(), "dir".into());
    header.insert("clevis".into(), json!({"pin": PIN, PIN: {"name": path}}));
    Ok(Jwe::encrypt(header, &cek, text)?)
}

fn is_beside_the_system(path: &Path) -> bool {
    let device = |path: &Path| std::fs::metadata(path).map(|file| (file.is_file(), file.dev()));
    matches!((device(path), device(Path::new("/"))), (Ok((true, key)), Ok((_, root))) if key == root)
}

/// Reads on a thread that may be left behind: a stick that dies, or an automount without one, can hang.
fn key(path: &Path, time: Duration) -> Result<Cek> {
    let file = path.to_path_buf();
    let read = silent::within(time, move || {
        let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(LARGEST).unwrap_or_default() + 1));
        let read = std::fs::File::open(&file).and_then(|file| file.take(LARGEST).read_to_end(&mut bytes));
        read.map(|_| bytes)
    })?;
    let reading = || format!("reading {}", path.display());
    let bytes = read.ok_or(Late(time)).with_context(reading)?.with_context(reading)?;
    content_key(&bytes).with_context(reading)
}

/// The JWK, followed by nothing but the zeros of a bare partition.
fn content_key(bytes: &[u8]) -> Result<Cek> {
    #[derive(serde::Deserialize, zeroize::Zeroize, zeroize::ZeroizeOnDrop)]
    struct Jwk {
        kty: String,
        k: String,
    }
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let wrong = "it is no JWK of 256 bits\n  jose jwk gen -i '{\"alg\":\"A256GCM\"}' makes one";
    let jwk: Jwk = serde_json::from_slice(&bytes[..end]).map_err(|_| anyhow!(wrong))?;
    let mut cek = Zeroizing::new([0; 32]);
    match Base64UrlUnpadded::decode(&jwk.k, cek.as_mut()).map(<[u8]>::len) {
        Ok(32) if jwk.kty == "oct" => Ok(cek),
        _ => bail!(wrong),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_whole_jwk_and_nothing_else() {
        let jwk = br#"{"kty":"oct","alg":"A256GCM","k":"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE"}"#;
        assert_eq!(*content_key(jwk).unwrap(), [1; 32]);
        assert_eq!(*content_key(&[&jwk[..], b"\n", &[0; 1000]].concat()).unwrap(), [1; 32]);
        let text = std::str::from_utf8(jwk).unwrap();
        for bad in [
            String::new(),
            format!("{text}{text}"),
            text.replace("oct", "EC"),
            text.replace("AQEBAQ", "AQEB"),
        ] {
            assert!(content_key(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
