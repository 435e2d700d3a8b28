//! The dashboards in telemetry/dashboards: every metric, label and recorded rule that they name exists.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use serde_json::Value;

/// Labels that the scrape configuration and node-exporter give.
const LABELS: &[&str] = &["cluster", "node", "device", "alertstate", "mode", "role"];

fn told(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_pc-exporter")).args(arguments).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

/// Labels by metric.
fn families() -> BTreeMap<String, BTreeSet<String>> {
    let metrics: Value = serde_json::from_str(&told(&["metrics", "--json"])).unwrap();
    let texts =
        |value: &Value| value.as_array().unwrap().iter().map(|one| one.as_str().unwrap().into()).collect();
    let entries = metrics["metrics"].as_array().unwrap().iter();
    entries.map(|entry| (entry["name"].as_str().unwrap().into(), texts(&entry["labels"]))).collect()
}

/// Words of a query, the text within quotes left out.
fn words(query: &str) -> Vec<String> {
    let code: String = query.split('"').step_by(2).collect::<Vec<_>>().join(" ");
    code.split(|c: char| !(c.is_ascii_alphanumeric() || "_:".contains(c))).map(String::from).collect()
}

#[test]
fn dashboards_name_only_what_exists() {
    let (families, rules) = (families(), told(&["rules"]));
    let mut seen = BTreeSet::new();
    for entry in fs::read_dir("../../telemetry/dashboards").unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_stem().unwrap().to_string_lossy().into_owned();
        let board: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(board["uid"], format!("personal-cluster-{file}"), "{file}");
        let mut places = BTreeSet::new();
        for panel in board["panels"].as_array().unwrap() {
            let title = panel["title"].as_str().unwrap();
            let place = format!("{file}: {title}");
            assert!(panel["description"].as_str().unwrap().ends_with('.'), "{place}: no description");
            assert!(places.insert(panel["gridPos"].to_string()), "{place}: lies over another panel");
            for target in panel["targets"].as_array().unwrap() {
                assert_eq!(target["datasource"]["uid"], "${datasource}", "{place}");
                let query = target["expr"].as_str().unwrap();
                let mut labels: BTreeSet<&str> = LABELS.iter().copied().collect();
                for word in words(query) {
                    if word.starts_with("pc_") {
                        let family = families.get(&word);
                        let family = family.unwrap_or_else(|| panic!("{place}: no metric is called {word}"));
                        labels.extend(family.iter().map(String::as_str));
                        seen.insert(word);
                    } else if word.contains("personal_cluster:") {
                        assert!(
                            rules.contains(&format!("record: {word}\n")),
                            "{place}: no rule records {word}"
                        );
                        labels.insert("vm");
                    }
                }
                let legend = target["legendFormat"].as_str().unwrap();
                for label in legend.split("{{").skip(1).filter_map(|rest| rest.split("}}").next()) {
                    assert!(labels.contains(label), "{place}: {query} has no label {label}");
                }
            }
        }
    }
    assert!(seen.len() >= 40, "the dashboards are read: {seen:?}");
}
