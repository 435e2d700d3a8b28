//! Verbs that need no device and no cluster file: `adv`, `encrypt`, `decrypt`.

use std::fmt;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use pc_cli::refused;
use serde::Serialize;
use serde_json::Value;
use tang_client::adv::{Advertisement, Trust};
use tang_client::{Client, Error, Jwe, Pin, Plaintext, Policy, json};
use zeroize::Zeroizing;

use crate::given;
use crate::settings::{self, classify};

/// More than any message these verbs are for.
const LARGEST: u64 = 16 << 20;
/// The JWE of one of them, in base64.
const LARGEST_JWE: u64 = 24 << 20;

/// A text on standard input, wiped when dropped.
pub fn stdin(what: &str) -> Result<Zeroizing<Vec<u8>>> {
    stdin_up_to(what, LARGEST)
}

/// A JWE on standard input: whatever `encrypt` made fits.
pub fn stdin_jwe() -> Result<Zeroizing<Vec<u8>>> {
    stdin_up_to("the JWE", LARGEST_JWE)
}

fn stdin_up_to(what: &str, largest: u64) -> Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    let count = std::io::stdin().lock().take(largest + 1).read_to_end(&mut bytes);
    if count.with_context(|| format!("reading {what} from standard input"))? as u64 > largest {
        return Err(refused(format!("{what} is larger than {} MiB", largest >> 20)));
    }
    Ok(bytes)
}

/// `clevis decrypt`: a JWE, compact or JSON, or a whole LUKS2 token.
pub fn decrypt(client: &Client, text: &[u8]) -> Result<Plaintext> {
    let jwe = match json::parse("the token", text) {
        Err(error @ Error::DuplicateKey { .. }) => Err(error),
        Ok(token) if token.get("jwe").is_some() => {
            let jwe = token.get("jwe").and_then(Value::as_object);
            jwe.ok_or(Error::Missing { what: "the token", key: "jwe" }).and_then(Jwe::from_json)
        }
        _ => Jwe::parse(text),
    };
    let policy = jwe.and_then(Policy::read).map_err(|error| refused(format!("reading the JWE: {error}")))?;
    pc_run::timed(|| client.decrypt(&policy)).map_err(|error| classify(&error))
}

/// `clevis encrypt PIN CONFIG`. An `adv` that is a string names a file, as with Clevis.
pub fn encrypt(client: &Client, pin: &str, config: &str, first_use: bool, plaintext: &[u8]) -> Result<Jwe> {
    let mut pin = Pin::parse(pin, config.as_bytes()).map_err(refused)?;
    load_advertisements(&mut pin)?;
    settings::usable(&pin, first_use)?;
    pc_run::timed(|| client.encrypt(&pin, plaintext, first_use, &[])).map_err(|error| classify(&error))
}

/// Puts the text of every file that an `adv` names in the place of its name.
pub fn load_advertisements(pin: &mut Pin) -> Result<()> {
    match pin {
        Pin::Tang(tang) => {
            if let Some(Value::String(path)) = &tang.advertisement {
                let text = given::read(Path::new(path), given::SMALL)?;
                let value = json::parse("the advertisement", &text)
                    .map_err(|error| refused(format!("reading {path}: {error}")))?;
                tang.advertisement = Some(value);
            }
            Ok(())
        }
        Pin::Sss(_, pins) => pins.iter_mut().try_for_each(load_advertisements),
        Pin::Other(..) => Ok(()),
    }
}

/// The answer of `adv`.
#[derive(Debug, Clone, Serialize)]
pub struct Keys {
    /// `pc.unlock.adv/1`.
    pub schema: &'static str,
    /// The server.
    pub url: String,
    /// Keys that sign: pin one of these.
    pub signing: Vec<KeyLine>,
    /// Keys that are encrypted to.
    pub exchange: Vec<KeyLine>,
}

/// One key.
#[derive(Debug, Clone, Serialize)]
pub struct KeyLine {
    /// `P-521`.
    pub curve: &'static str,
    /// SHA-256 thumbprint.
    pub thumbprint: String,
    /// SHA-1 thumbprint, which old versions show.
    pub legacy_thumbprint: String,
}

/// Asks a server for its keys; they must be signed by themselves, and by `pinned` when it is given.
pub fn adv(client: &Client, url: &str, pinned: Option<&str>) -> Result<Keys> {
    tang_client::url::Url::parse(url).map_err(refused)?;
    pinned.map(settings::check_thumbprint).transpose()?;
    let trust = pinned.map_or(Trust::FirstUse, Trust::Pinned);
    let advertisement =
        pc_run::timed(|| client.advertisement(url, &trust)).map_err(|error| classify(&error))?;
    // As the cluster file wants it.
    Ok(keys(&tang_client::url::normal(url), &advertisement))
}

fn keys(url: &str, advertisement: &Advertisement) -> Keys {
    let line = |key: &tang_client::jwk::Key| KeyLine {
        curve: key.point.curve().name(),
        thumbprint: key.thumbprint(),
        legacy_thumbprint: key.legacy_thumbprint(),
    };
    Keys {
        schema: "pc.unlock.adv/1",
        url: url.into(),
        signing: advertisement.signing_keys().map(line).collect(),
        exchange: advertisement.exchange_keys().map(line).collect(),
    }
}

/// The lines to put into the cluster file.
impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# compare the thumbprint with what `tang-show-keys` prints on the server itself")?;
        writeln!(f, "[unlock]")?;
        if let Some(key) = self.signing.first() {
            writeln!(f, "tang = [{{ url = {:?}, thumbprint = {:?} }}]", self.url, key.thumbprint)?;
        }
        for key in self.signing.iter().skip(1) {
            writeln!(f, "# or, as well: thumbprint = {:?}", key.thumbprint)?;
        }
        Ok(())
    }
}
