//! Every metric that there is, and the table of them.

use std::fmt;

use serde::Serialize;

use crate::metric::{Family, Kind};
use crate::nouns::{NOUNS, ups};
use crate::{budgets, clock, collectors, tang, units};

/// Schema of `metrics --json`.
const SCHEMA: &str = "pc.exporter.metrics/1";

/// Every family, in the order of a scrape.
pub fn families() -> impl Iterator<Item = &'static Family> {
    let nouns = NOUNS.iter().map(|noun| noun.families);
    let own = [
        units::FAMILIES,
        clock::FAMILIES,
        tang::FAMILIES,
        budgets::FAMILIES,
        ups::FAMILIES,
        collectors::FAMILIES,
    ];
    nouns.chain(own).flat_map(|families| families.iter().copied())
}

/// `pc.exporter.metrics/1`.
#[derive(Serialize)]
pub struct Metrics {
    schema: &'static str,
    #[serde(rename = "metrics")]
    entries: Vec<Entry>,
    #[serde(skip)]
    describe: bool,
}

#[derive(Serialize)]
struct Entry {
    #[serde(flatten)]
    family: &'static Family,
    unit: Option<&'static str>,
}

impl Metrics {
    /// All of them; `describe`: as the table of docs/metrics.md, not only the names.
    pub fn new(describe: bool) -> Metrics {
        let entries = families().map(|family| Entry { family, unit: family.unit() }).collect();
        Metrics { schema: SCHEMA, entries, describe }
    }
}

impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.describe {
            return self.entries.iter().try_for_each(|entry| writeln!(f, "{}", entry.family.name));
        }
        writeln!(f, "{HEADING}")?;
        writeln!(f, "| metric | type | unit | labels | meaning |\n|---|---|---|---|---|")?;
        for Entry { family, unit } in &self.entries {
            let kind = match family.kind {
                Kind::Gauge => "gauge",
                Kind::Counter => "counter",
                Kind::Info => "info",
            };
            let labels = family.labels.join(", ");
            let unit = unit.unwrap_or_default();
            writeln!(f, "| `{}` | {kind} | {unit} | {labels} | {} |", family.name, family.help)?;
        }
        Ok(())
    }
}

const HEADING: &str = "# Metrics
Every metric of pc-exporter. This page is what `pc-exporter metrics --describe` prints, and a test keeps it so.

A truth is 0 or 1. Without a series nothing is known: the program is not installed, was never asked, or gave no answer for so long that the
last one is no longer told. What is known of the asking itself is in the `pc_collector_*` metrics.
";

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_follow_the_convention() {
        let mut seen = BTreeSet::new();
        for family in families() {
            let name = family.name;
            assert!(seen.insert(name), "{name} is declared twice");
            assert!(name.starts_with("pc_"), "{name}");
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
                "{name}"
            );
            assert_eq!(family.kind == Kind::Counter, name.ends_with("_total"), "{name}");
            assert_eq!(family.kind == Kind::Info, name.ends_with("_info"), "{name}");
            assert!(family.help.ends_with('.') && !family.help.contains('|'), "{name}: {}", family.help);
        }
    }

    #[test]
    fn the_page_is_what_the_program_says() {
        let page = std::fs::read_to_string("../../docs/metrics.md").unwrap();
        let remedy = "pc-exporter metrics --describe > docs/metrics.md";
        assert!(Metrics::new(true).to_string() == page, "docs/metrics.md differs: {remedy}");
    }

    #[test]
    fn the_json_is_recorded() {
        let golden = std::fs::read_to_string("tests/golden/metrics.json").unwrap();
        let now = serde_json::to_string_pretty(&Metrics::new(false)).unwrap() + "\n";
        assert!(now == golden, "pc-exporter metrics --json > tools/pc-exporter/tests/golden/metrics.json");
    }
}
