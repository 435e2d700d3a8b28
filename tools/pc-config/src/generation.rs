//! A generation: a numbered file, signed or not, as it travels between nodes and as it is kept.

use anyhow::Result;
use pc_cli::refused;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::before::Before;
use crate::plan::Have;
use crate::trust::Trust;

/// `pc.config.generation/1`: what is signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::struct_field_names, reason = "a generation's number is called so in the JSON")]
pub struct Generation {
    /// `pc.config.generation/1`.
    pub schema: String,
    /// Counts up by one with every change.
    pub generation: u64,
    /// SHA-256 of `file`, in hexadecimal.
    pub sha256: String,
    /// The text of the cluster file.
    pub file: String,
}

/// The largest number: what JSON readers tell apart (RFC 8259, 6), and more than anybody counts to.
const LARGEST: u64 = 1 << 53;
const SCHEMA: &str = "pc.config.generation/1";
const SIGNED: &str = "pc.trust.envelope/1";

impl Generation {
    /// Numbers a text.
    pub fn new(generation: u64, file: &str) -> Generation {
        Generation { schema: SCHEMA.into(), generation, sha256: sha256(file), file: file.into() }
    }

    /// As JSON, ready to be signed or kept.
    pub fn to_text(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    fn read(text: &str) -> Result<Generation> {
        let read: Generation = serde_json::from_str(text)
            .map_err(|error| refused(format!("reading the generation: {error}")))?;
        if read.schema != SCHEMA || read.sha256 != sha256(&read.file) || read.generation == 0 {
            return Err(refused(
                "reading the generation: its number, digest and file do not belong together",
            ));
        }
        Ok(read)
    }
}

/// The number after this one.
pub fn next(newest: u64) -> Result<u64> {
    newest.checked_add(1).filter(|next| *next <= LARGEST).ok_or_else(|| {
        refused(format!(
            "no number follows generation {newest}: {LARGEST} is the largest\n  remove /var/lib/personal-cluster/generation.json on every node that has it, and put the file again: it begins at 1"
        ))
    })
}

/// Refuses a number that nobody reached by counting: after the largest no change could follow.
pub fn countable(generation: u64) -> Result<(), String> {
    if generation <= LARGEST {
        return Ok(());
    }
    Err(format!(
        "generation {generation} is above {LARGEST}, the largest\n  put the cluster file itself: it is numbered here"
    ))
}

/// In hexadecimal.
pub fn sha256(text: &str) -> String {
    format!("{:x}", Sha256::digest(text))
}

/// What `put -` was given.
#[derive(Debug, PartialEq, Eq)]
pub enum Given {
    /// A cluster file, typed or made here.
    File(String),
    /// A numbered file, of a node that could not sign.
    Unsigned(Generation),
    /// A numbered file, and the signed text that proves it (not yet verified).
    Signed(String),
}

/// Tells the three apart by their `schema`.
pub fn tell_apart(text: String) -> Result<Given> {
    #[derive(Deserialize)]
    struct Head {
        schema: String,
    }
    let head = text.trim_start().starts_with('{').then(|| serde_json::from_str::<Head>(&text).ok()).flatten();
    Ok(match head.as_ref().map(|head| head.schema.as_str()) {
        Some(SCHEMA) => Given::Unsigned(Generation::read(&text)?),
        Some(SIGNED) => Given::Signed(text),
        Some(other) if other.starts_with("pc.") => {
            return Err(refused(format!(
                "{other:.60} is not a cluster file\n  give the file that was meant"
            )));
        }
        _ => Given::File(text),
    })
}

/// Verifies a signed text and reads what was signed, and by which node.
pub fn verify(trust: &Trust, signed: &str) -> Result<(Generation, String)> {
    let verified = trust.verify(signed)?;
    Ok((Generation::read(&verified.content)?, verified.signer))
}

/// Refuses the signature of a node that is not in the file in force: its certificate is good for as long as it lives, and a
/// node that was taken out of the file has no say in the next one. Where no file is in force nobody is known yet.
pub fn signed_by_ours(have: &Have, signer: &str) -> Result<()> {
    let before = match have.before() {
        Before::Nothing => return Ok(()),
        Before::Unreadable(told) => return Err(refused(told)),
        Before::File(before) => before,
    };
    let nodes: Vec<&str> = before.nodes.iter().map(|node| node.name.as_str()).collect();
    if nodes.contains(&signer) {
        return Ok(());
    }
    let number = have.kept.as_ref().map(|(kept, _)| format!("generation {}, the one", kept.generation));
    Err(refused(format!(
        "signed by {signer}, which is no node of {} in force here\n  pc-config push on one that is: {}",
        number.as_deref().unwrap_or("the file"),
        nodes.join(", ")
    )))
}

/// The number in what is left of a record.
pub fn number_in(text: &str) -> Option<u64> {
    const KEY: &str = "generation";
    let number = |(at, _)| {
        let rest = &text[at + KEY.len()..];
        // A signed one is a string within a string.
        let digits = rest.trim_start_matches(['\\', '"', ':', ' ']);
        digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    text.match_indices(KEY).find_map(number)
}

/// What is kept at `generation.json`; the signature was checked when it was received.
pub fn read_kept(text: &str) -> Result<(Generation, bool)> {
    #[derive(Deserialize)]
    struct Envelope {
        content: String,
    }
    match tell_apart(text.into())? {
        Given::Unsigned(generation) => Ok((generation, false)),
        Given::Signed(signed) => {
            let envelope: Envelope = serde_json::from_str(&signed)
                .map_err(|error| refused(format!("reading the signed generation: {error}")))?;
            Ok((Generation::read(&envelope.content)?, true))
        }
        Given::File(_) => Err(refused("is not a generation")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_the_largest_number_there_is_none() {
        assert_eq!(next(LARGEST - 1).unwrap(), LARGEST);
        for newest in [LARGEST, u64::MAX] {
            let told = next(newest).unwrap_err().to_string();
            assert!(told.starts_with(&format!("no number follows generation {newest}: ")), "{told}");
        }
    }

    #[test]
    fn the_three_forms_are_told_apart() {
        let generation = Generation::new(3, "schema = \"personal-cluster/1\"\n");
        let text = generation.to_text().unwrap();
        assert_eq!(tell_apart(text.clone()).unwrap(), Given::Unsigned(generation.clone()));
        let signed = serde_json::json!({ "schema": SIGNED, "content": text }).to_string();
        assert_eq!(tell_apart(signed.clone()).unwrap(), Given::Signed(signed.clone()));
        assert_eq!(read_kept(&signed).unwrap(), (generation.clone(), true));
        assert_eq!(read_kept(&text).unwrap(), (generation, false));
        for file in ["name = 1", "{\"schema\": \"personal-cluster/1\"}", "{ broken", ""] {
            assert_eq!(tell_apart(file.into()).unwrap(), Given::File(file.into()));
        }
        assert!(tell_apart("{\"schema\": \"pc.brick.plan/1\"}".into()).is_err());
        assert!(tell_apart(text.replace("cluster/1", "cluster/2")).is_err(), "the digest no longer fits");
    }
}
