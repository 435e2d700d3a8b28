//! The Clevis pin `tpm2`: a key that only this machine's TPM gives out. All calls of tpm2-tools(1).
//!
//! `clevis.tpm2` in the header: `hash`, `key` (of the primary key, which is derived anew each time), `jwk_pub` and
//! `jwk_priv` (the sealed object), and `pcr_bank` with `pcr_ids` when a PCR policy guards it. The sealed text is a
//! JWK `{"kty": "oct", "k": ...}`: the content key. Checked against clevis 19 on swtpm.

use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use base64ct::{Base64UrlUnpadded, Encoding};
use pc_run::run;
use serde_json::{Map, Value, json};
use tang_client::jwe::Cek;
use tang_client::{Jwe, Plaintext};
use xshell::{Cmd, Shell, cmd};
use zeroize::Zeroizing;

use crate::others::Late;
use crate::scratch::Scratch;

/// Its name in headers and configurations.
pub const PIN: &str = "tpm2";
/// What freeing a slot gets in any case: it is a matter of milliseconds.
const FLUSH: Duration = Duration::from_secs(1);

/// A TPM has a handful of slots for objects; one disk after the other. `true` while one has its turn.
static BUSY: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

/// A turn with the TPM, and all the time that it may take.
struct Turn {
    sh: Shell,
    scratch: Scratch,
    time: Duration,
    until: Instant,
}

impl Turn {
    /// Waits for the others, within the same time.
    fn begin(time: Duration) -> Result<Turn> {
        let until = Instant::now() + time;
        let (sh, scratch) = (Shell::new()?, Scratch::new()?);
        let busy = BUSY.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = BUSY.1.wait_timeout_while(busy, time, |busy| *busy);
        let (mut busy, late) = waited.unwrap_or_else(PoisonError::into_inner);
        if late.timed_out() {
            return Err(Late(time)).context("waiting for the TPM, which others use");
        }
        *busy = true;
        drop(busy);
        Ok(Turn { sh, scratch, time, until })
    }

    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// Runs one of tpm2-tools in the time that is left.
    fn run(&self, command: Cmd<'_>, stdin: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let program = command.to_string();
        match run(command).stdin(stdin).deadline(self.left()).output() {
            Ok(output) => Ok(output.stdout),
            Err(error) if error.is_missing() => Err(anyhow!("{error}\n  apt-get install tpm2-tools")),
            // Its own deadline is what was left of ours.
            Err(pc_run::Error::TimedOut { .. }) => {
                let name = program.split(' ').next().unwrap_or_default().to_string();
                Err(Late(self.time)).context(name)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Frees the TPM's slots where no resource manager does it.
    fn flush(&self) {
        let sh = &self.sh;
        // With a resource manager there is nothing to flush; a full TPM shows in the next call.
        let _ = run(cmd!(sh, "tpm2_flushcontext -t")).deadline(self.left().max(FLUSH)).output();
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *BUSY.0.lock().unwrap_or_else(PoisonError::into_inner) = false;
        BUSY.1.notify_one();
    }
}

/// Opens a JWE of the pin.
pub fn decrypt(jwe: &Jwe, time: Duration) -> Result<Plaintext> {
    Ok(jwe.decrypt(&unseal(jwe, time)?)?)
}

/// Names of algorithms and lists of PCRs go into argv: nothing else than these letters may.
fn word<'a>(object: &'a Map<String, Value>, key: &str) -> Result<Option<&'a str>> {
    let Some(value) = object.get(key) else { return Ok(None) };
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || byte == b',' || byte == b'_';
    match value.as_str() {
        Some(text) if !text.is_empty() && text.bytes().all(safe) => Ok(Some(text)),
        _ => bail!("{key} is {value}"),
    }
}

fn primary(turn: &Turn, hash: &str, key: &str) -> Result<()> {
    let (sh, context) = (&turn.sh, turn.scratch.file("primary"));
    turn.run(cmd!(sh, "tpm2_createprimary -Q -C o -g {hash} -G {key} -c {context}"), b"")?;
    turn.flush();
    Ok(())
}

fn unseal(jwe: &Jwe, time: Duration) -> Result<Cek> {
    let (_, node) = jwe.pin()?;
    let required = |key: &str| word(node, key)?.with_context(|| format!("{key} is missing"));
    let blob = |key: &str| -> Result<Vec<u8>> {
        let text = node.get(key).and_then(Value::as_str).with_context(|| format!("{key} is missing"))?;
        Base64UrlUnpadded::decode_vec(text).map_err(|_| anyhow!("{key} is not base64url"))
    };
    if jwe.algorithm()? != "dir" {
        bail!("its alg is not dir");
    }
    let policy = match word(node, "pcr_ids")? {
        None => None,
        Some(ids) => Some(format!("--auth=pcr:{}:{ids}", required("pcr_bank")?)),
    };
    let (hash, key, public, private) =
        (required("hash")?, required("key")?, blob("jwk_pub")?, blob("jwk_priv")?);
    let turn = Turn::begin(time)?;
    let (sh, scratch) = (&turn.sh, &turn.scratch);
    let (parent, loaded) = (scratch.file("primary"), scratch.file("loaded"));
    let (public, private) = (scratch.write("public", &public)?, scratch.write("private", &private)?);
    primary(&turn, hash, key)?;
    turn.run(cmd!(sh, "tpm2_load -Q -C {parent} -u {public} -r {private} -c {loaded}"), b"")?;
    turn.flush();
    let jwk = turn.run(cmd!(sh, "tpm2_unseal -c {loaded} {policy...}"), b"");
    turn.flush();
    content_key(&jwk?)
}

/// Only `k` is looked at.
fn content_key(jwk: &[u8]) -> Result<Cek> {
    #[derive(serde::Deserialize, zeroize::Zeroize, zeroize::ZeroizeOnDrop)]
    struct Jwk {
        k: String,
    }
    let jwk: Jwk =
        serde_json::from_slice(jwk).map_err(|_| anyhow!("the TPM holds something else than a key"))?;
    let mut cek = Zeroizing::new([0; 32]);
    match Base64UrlUnpadded::decode(&jwk.k, cek.as_mut()).map(<[u8]>::len) {
        Ok(32) => Ok(cek),
        _ => bail!("the TPM holds something else than a 256-bit key"),
    }
}

/// Refuses a configuration that no TPM could make right.
pub fn check(config: &Value) -> Result<()> {
    let config = config.as_object().context("the configuration is not an object")?;
    // The values that the PCRs will have one day: nothing proves such a binding now.
    if config.contains_key("pcr_digest") {
        bail!("pcr_digest: only what the PCRs hold now can be sealed to");
    }
    // A misspelt one would leave the key without its guard.
    let known = ["hash", "key", "pcr_bank", "pcr_ids"];
    if let Some(unknown) = config.keys().find(|key| !known.contains(&key.as_str())) {
        bail!("{unknown:?} is none of {}", known.join(", "));
    }
    ["hash", "key", "pcr_bank"].iter().try_for_each(|key| word(config, key).map(drop))?;
    pcr_ids(config).map(drop)
}

/// Makes one.
pub fn encrypt(config: &Value, text: &[u8], time: Duration) -> Result<Jwe> {
    let config = config.as_object().context("the configuration is not an object")?;
    let hash = word(config, "hash")?.unwrap_or("sha256");
    let key = word(config, "key")?.unwrap_or("ecc");
    // Clevis takes sha1 when nothing is said; many TPMs have that bank disabled.
    let bank = word(config, "pcr_bank")?.unwrap_or("sha256");
    let ids = pcr_ids(config)?;
    let mut cek: Cek = Zeroizing::new([0; 32]);
    getrandom::getrandom(cek.as_mut()).context("reading random bytes from the kernel")?;
    let turn = Turn::begin(time)?;
    primary(&turn, hash, key)?;
    let (public, private) = object(&turn, hash, bank, ids.as_deref(), &cek)?;
    let mut node = json!({
        "hash": hash, "key": key,
        "jwk_pub": Base64UrlUnpadded::encode_string(&public),
        "jwk_priv": Base64UrlUnpadded::encode_string(&private),
    });
    if let Some(ids) = ids {
        node["pcr_bank"] = bank.into();
        node["pcr_ids"] = ids.into();
    }
    let mut header = Map::new();
    header.insert("alg".into(), "dir".into());
    header.insert("clevis".into(), json!({"pin": PIN, PIN: node}));
    Ok(Jwe::encrypt(header, &cek, text)?)
}

/// `"0,7"`, or `["0", 7]`.
fn pcr_ids(config: &Map<String, Value>) -> Result<Option<String>> {
    let Some(Value::Array(list)) = config.get("pcr_ids") else {
        return Ok(word(config, "pcr_ids")?.map(Into::into));
    };
    let one = |id: &Value| match id {
        Value::String(text) if text.parse::<u8>().is_ok() => Ok(text.clone()),
        Value::Number(number) if number.as_u64().is_some_and(|number| number < 24) => Ok(number.to_string()),
        other => Err(anyhow!("pcr_ids holds {other}")),
    };
    let ids = list.iter().map(one).collect::<Result<Vec<_>>>()?;
    if ids.is_empty() {
        bail!("pcr_ids is empty");
    }
    Ok(Some(ids.join(",")))
}

/// Seals the content key into the TPM's object: its public and its encrypted private part.
fn object(turn: &Turn, hash: &str, bank: &str, ids: Option<&str>, cek: &Cek) -> Result<(Vec<u8>, Vec<u8>)> {
    let (sh, scratch) = (&turn.sh, &turn.scratch);
    let mut attributes = "fixedtpm|fixedparent|noda|adminwithpolicy".to_string();
    let policy = match ids {
        None => {
            attributes.push_str("|userwithauth");
            None
        }
        Some(ids) => {
            let (values, policy, list) =
                (scratch.file("pcr"), scratch.file("policy"), format!("{bank}:{ids}"));
            turn.run(cmd!(sh, "tpm2_pcrread -Q {list} -o {values}"), b"")?;
            turn.run(
                cmd!(sh, "tpm2_createpolicy -Q -g {hash} --policy-pcr -l {list} -f {values} -L {policy}"),
                b"",
            )?;
            turn.flush();
            Some(policy)
        }
    };
    let policy = policy.iter().flat_map(|file| [Path::new("-L"), file.as_path()]).collect::<Vec<_>>();
    let (parent, public, private) =
        (scratch.file("primary"), scratch.file("public"), scratch.file("private"));
    let k = Zeroizing::new(Base64UrlUnpadded::encode_string(cek.as_ref()));
    let jwk = Zeroizing::new(format!(
        r#"{{"alg":"A256GCM","k":"{}","key_ops":["encrypt","decrypt"],"kty":"oct"}}"#,
        k.as_str()
    ));
    let create = cmd!(
        sh,
        "tpm2_create -Q -g {hash} -C {parent} -u {public} -r {private} -a {attributes} {policy...} -i-"
    );
    turn.run(create, jwk.as_bytes())?;
    turn.flush();
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("reading {}", path.display()));
    Ok((read(&public)?, read(&private)?))
}
