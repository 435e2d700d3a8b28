//! `pc-exporter format`: status JSON on stdin, metrics on stdout. Pure but for the reading.

use std::collections::BTreeSet;
use std::io::Read;

use anyhow::{Context, Result, anyhow};
use pc_cli::refused;
use serde_json::Value;

use crate::exposition::{Format, render};
use crate::facts::{self, Fact};
use crate::metric::Sample;
use crate::nouns::{self, NOUNS, Noun};
use crate::reader::{noun_of, samples_of};

/// All answers of a large cluster together are far shorter.
const LONGEST: u64 = 64 << 20;

/// Reads standard input to its end.
pub fn stdin(format: Format) -> Result<String> {
    let mut text = String::new();
    std::io::stdin().lock().take(LONGEST).read_to_string(&mut text).context("reading standard input")?;
    formatted(&text, format).map_err(|error| refused(format!("standard input: {error:#}")))
}

/// JSON documents, one after the other, as text.
pub fn formatted(text: &str, format: Format) -> Result<String> {
    let mut samples: Vec<Sample> = Vec::new();
    let documents = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    for (index, document) in documents.enumerate() {
        let told = document.map_err(anyhow::Error::new).and_then(of_document);
        samples.extend(told.with_context(|| format!("document {}", index + 1))?);
    }
    if samples.is_empty() {
        return Err(anyhow!("no answer of a tool\n  pc-brick status --json | pc-exporter format"));
    }
    let mut seen = BTreeSet::new();
    for sample in &samples {
        if !seen.insert((sample.family.name, &sample.labels)) {
            return Err(anyhow!(
                "{} of the same thing twice: each tool's answer goes in once",
                sample.family.name
            ));
        }
    }
    Ok(render(&samples, format))
}

fn of_document(document: Value) -> Result<Vec<Sample>> {
    let schema = document.get("schema").and_then(Value::as_str).unwrap_or_default().to_string();
    if schema == facts::SCHEMA {
        let fact: Fact = serde_json::from_value(document).context("reading a fact")?;
        let noun = noun_of(&fact.name)
            .with_context(|| format!("fact {:?} is about nothing that is known", fact.name))?;
        let answer = fact.answer.with_context(|| format!("fact {} has no answer", fact.name))?;
        return Ok(samples_of(noun, answer)?.0);
    }
    // smartctl says which format it writes, and is not one of ours.
    let smart = document.get("json_format_version").is_some() && document.get("smartctl").is_some();
    let matches =
        |noun: &Noun| if smart { noun.name == "smart" } else { noun.schema == Some(schema.as_str()) };
    let Some(noun) = nouns::find(matches) else {
        let known: Vec<&str> = NOUNS.iter().filter_map(|noun| noun.schema).collect();
        let known = known.join(", ");
        return Err(anyhow!(
            "schema {schema:?} is not known\n  known: {known}, {}, smartctl --json",
            facts::SCHEMA
        ));
    };
    Ok(samples_of(noun, document)?.0)
}
