//! wipefs(8): every signature at every offset, where blkid stops at the first that convinces it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;
use xshell::{Shell, cmd};

/// One signature.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Signature {
    /// Where it stands, as wipefs writes it: `0x438`.
    pub offset: String,
    /// `ext4`, `gpt`, `LVM2_member`, ...
    #[serde(rename = "type")]
    pub kind: String,
}

#[derive(Deserialize)]
struct Answer {
    signatures: Vec<Signature>,
}

/// All signatures of a device, which is only read.
pub fn signatures(sh: &Shell, device: &Path) -> Result<Vec<Signature>> {
    let run = pc_run::run(cmd!(sh, "wipefs --no-act --json {device}")).deadline(Duration::from_secs(60));
    let text = run.read().with_context(|| format!("probing {}", device.display()))?;
    parse(&text).with_context(|| format!("reading what wipefs says of {}", device.display()))
}

/// Some versions print nothing at all for a blank device, others an empty list.
fn parse(text: &str) -> Result<Vec<Signature>> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    Ok(serde_json::from_str::<Answer>(text)?.signatures)
}

/// Destroys every signature. Only `wipe` calls this.
pub fn erase(sh: &Shell, device: &Path) -> Result<()> {
    let run = pc_run::run(cmd!(sh, "wipefs --all --quiet {device}")).deadline(Duration::from_secs(120));
    run.output().with_context(|| format!("erasing the signatures of {}", device.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_answers() {
        // util-linux 2.38, an image file with LUKS2: the second header counts too.
        let luks = r#"{"signatures": [{"device":"l","offset":"0x0","type":"crypto_LUKS","uuid":"u","label":"pc-x"},
                      {"device":"l","offset":"0x4000","type":"crypto_LUKS","uuid":"u","label":"pc-x"}]}"#;
        let kinds: Vec<_> =
            parse(luks).unwrap().into_iter().map(|found| (found.offset, found.kind)).collect();
        assert_eq!(kinds, [("0x0".into(), "crypto_LUKS".into()), ("0x4000".into(), "crypto_LUKS".into())]);
        assert_eq!(parse("{\n   \"signatures\": [\n\n   ]\n}").unwrap(), []);
        assert_eq!(parse("").unwrap(), []);
        assert!(parse("nonsense").is_err());
    }
}
