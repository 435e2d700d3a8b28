//! `pc-exporter rules`: the alert rules that belong to this version's metrics.

use std::path::Path;

use anyhow::{Context, Result};
use pc_cli::{log, write_atomic};

/// File name and content, as in telemetry/rules.
pub const FILES: &[(&str, &str)] = &[
    ("backups.yml", include_str!("../../../telemetry/rules/backups.yml")),
    ("exporter.yml", include_str!("../../../telemetry/rules/exporter.yml")),
    ("ha.yml", include_str!("../../../telemetry/rules/ha.yml")),
    ("monitor.yml", include_str!("../../../telemetry/rules/monitor.yml")),
    ("nodes.yml", include_str!("../../../telemetry/rules/nodes.yml")),
    ("storage.yml", include_str!("../../../telemetry/rules/storage.yml")),
    ("units.yml", include_str!("../../../telemetry/rules/units.yml")),
    ("vms.yml", include_str!("../../../telemetry/rules/vms.yml")),
];

/// All of them as one file: each is a list of groups under the same key.
pub fn all() -> String {
    let mut text = String::from("groups:\n");
    for (_, content) in FILES {
        text.extend(content.lines().filter(|line| *line != "groups:").flat_map(|line| [line, "\n"]));
    }
    text
}

/// A file each; what is there already is not written again, and what else is there is not touched.
pub fn install(directory: &Path) -> Result<()> {
    for (name, content) in FILES {
        let path = directory.join(name);
        if std::fs::read(&path).is_ok_and(|present| present == content.as_bytes()) {
            continue;
        }
        write_atomic(&path, content.as_bytes(), 0o644)
            .with_context(|| format!("installing rules in {}", directory.display()))?;
        log::info(format_args!("wrote {}", path.display()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue;
    use std::collections::BTreeSet;

    #[test]
    fn every_rule_file_is_shipped() {
        let entries = std::fs::read_dir("../../telemetry/rules").unwrap();
        let there: BTreeSet<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        let shipped: BTreeSet<String> = FILES.iter().map(|(name, _)| (*name).to_string()).collect();
        assert_eq!(there, shipped);
    }

    #[test]
    fn rules_name_only_metrics_that_exist() {
        let known: BTreeSet<&str> = catalogue::families().map(|family| family.name).collect();
        let mut used = BTreeSet::new();
        for (file, content) in FILES {
            // Comments and texts for people may say anything.
            let code = content.lines().filter(|line| {
                let line = line.trim_start();
                !["#", "summary:", "description:", "runbook:", "- alert:"]
                    .iter()
                    .any(|start| line.starts_with(start))
            });
            for word in code.flat_map(|line| line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))) {
                if word.starts_with("pc_") {
                    assert!(known.contains(word), "telemetry/rules/{file}: no metric is called {word}");
                    used.insert(word);
                }
            }
        }
        assert!(used.len() >= 20, "the rules are read: {used:?}");
    }

    #[test]
    fn installing_twice_writes_once() {
        let directory = tempfile::tempdir().unwrap();
        install(directory.path()).unwrap();
        let written =
            |name: &str| std::fs::metadata(directory.path().join(name)).unwrap().modified().unwrap();
        let first = written("units.yml");
        std::fs::write(directory.path().join("nodes.yml"), "mine").unwrap();
        install(directory.path()).unwrap();
        assert_eq!(written("units.yml"), first);
        assert_eq!(std::fs::read_to_string(directory.path().join("nodes.yml")).unwrap(), FILES[4].1);
        assert!(install(Path::new("/nonexistent/rules")).is_err());
    }
}
