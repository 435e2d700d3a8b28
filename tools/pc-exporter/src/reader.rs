//! The facts and the siblings' last status, from files to the board. Reads `/run` only, so it waits for nobody.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow};
use pc_cli::log;
use serde_json::Value;

use crate::collectors::{Board, Told};
use crate::facts::{self, Fact};
use crate::metric::Samples;
use crate::nouns::{self, Noun, Reader};

/// A fact is told for three times the while after which it is asked for again, and for five minutes at least.
fn keep(fact: &str) -> Duration {
    (crate::jobs::every(fact) * 3).max(Duration::from_secs(300))
}

/// The noun that a fact is about: `smart-nvme-A` is about `smart`.
pub fn noun_of(fact: &str) -> Option<&'static Noun> {
    nouns::find(|noun| noun.name == fact)
        .or_else(|| nouns::find(|noun| noun.name == "smart" && fact.starts_with("smart-")))
}

/// An answer as samples.
pub fn samples_of(noun: &Noun, answer: Value) -> Result<Samples> {
    match (noun.reader, answer) {
        (Reader::Json(read), answer) => read(answer),
        (Reader::Text(read), Value::String(text)) => read(&text),
        (Reader::Text(_), _) => Err(anyhow!("the answer is no text")),
    }
}

/// Reads everything once and tells the board; `known` are the collectors that were told of before.
pub fn look(root: &Path, board: &Board, known: &mut Vec<String>) {
    let run = root.join("run/personal-cluster");
    let mut found: BTreeMap<String, Told> = BTreeMap::new();
    let mut tried: BTreeMap<String, SystemTime> = BTreeMap::new();
    for path in json_files(&run.join("facts")) {
        let Some(name) = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()) else { continue };
        if let Some(noun) = noun_of(&name) {
            let (told, at) = of_fact(noun, &name, &path);
            tried.extend(at.map(|at| (name.clone(), at)));
            found.insert(name, told);
        }
    }
    for path in json_files(&run) {
        let Some(name) = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()) else { continue };
        let Some(noun) = nouns::find(|noun| noun.schema.is_some() && noun.name == name) else { continue };
        let Some(told) = of_status(noun, &name, &path) else { continue };
        let told = match found.remove(&name) {
            Some(fact) => newer(fact, told, tried.get(&name).copied()),
            None => told,
        };
        found.insert(name, told);
    }
    for gone in known.iter().filter(|name| !found.contains_key(*name)) {
        board.forget(gone);
    }
    *known = found.keys().cloned().collect();
    for (name, told) in found {
        board.tell(&name, told);
    }
}

fn json_files(directory: &Path) -> Vec<std::path::PathBuf> {
    // No such directory yet: nothing was ever asked.
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
    // A name with a dot before it is a file that is being written.
    let visible =
        |path: &std::path::PathBuf| path.file_name().is_some_and(|n| !n.to_string_lossy().starts_with('.'));
    paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "json") && visible(path))
        .collect()
}

/// A fact, or what the tool's own run has left, when that is newer. A tool that is asked leaves its answer itself, a
/// moment before it becomes a fact: that is the same answer.
fn newer(fact: Told, status: Told, tried: Option<SystemTime>) -> Told {
    const MOMENT: Duration = Duration::from_secs(2);
    if fact.measured.map(|at| at + MOMENT) >= status.measured {
        return fact;
    }
    // Asked again since that run: how it ended is the last that is known.
    if tried >= status.measured {
        return Told { error: fact.error, duration: fact.duration, ..status };
    }
    status
}

/// What a fact tells, and when it was asked for.
fn of_fact(noun: &Noun, name: &str, path: &Path) -> (Told, Option<SystemTime>) {
    let fact = facts::read_bounded(path).and_then(|bytes| {
        serde_json::from_slice::<Fact>(&bytes).with_context(|| format!("{}: is no fact", path.display()))
    });
    let keep = keep(name);
    let broken = |error: anyhow::Error, duration| {
        let error = Some(format!("{error:#}"));
        Told { samples: [].into(), measured: None, error, duration, keep }
    };
    let fact = match fact {
        Ok(fact) => fact,
        Err(error) => return (broken(error, None), None),
    };
    let duration = Duration::try_from_secs_f64(fact.seconds).ok();
    let tried = facts::time_of(&fact.tried_at).map(SystemTime::from);
    let measured = fact.measured_at.as_deref().and_then(facts::time_of).map(SystemTime::from);
    let told = match fact.answer.map_or_else(|| Ok(Samples::default()), |answer| samples_of(noun, answer)) {
        Ok(samples) => Told { samples: samples.0.into(), measured, error: fact.error, duration, keep },
        Err(error) => broken(error, duration),
    };
    (told, tried)
}

/// A sibling's own file; how long its run took is not known.
fn of_status(noun: &Noun, name: &str, path: &Path) -> Option<Told> {
    let measured = fs::metadata(path).and_then(|meta| meta.modified()).ok();
    let answer = facts::read_bounded(path).and_then(|bytes| {
        let answer: Value = serde_json::from_slice(&bytes).context("is no JSON")?;
        samples_of(noun, answer)
    });
    match answer {
        Ok(samples) => {
            let samples = samples.0.into();
            Some(Told { samples, measured, error: None, duration: None, keep: keep(name) })
        }
        // Whoever wrote it has another version, or is not one of ours: the fact, if any, counts.
        Err(error) => {
            log::debug(format_args!("{}: {error:#}", path.display()));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposition::{Format, render};
    use serde_json::json;

    fn write(root: &Path, path: &str, value: &Value) {
        let path = root.join("run/personal-cluster").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, value.to_string()).unwrap();
    }

    fn scrape(board: &Board) -> String {
        render(&board.samples(SystemTime::now()), Format::Text)
    }

    fn storage(healthy: bool) -> Value {
        json!({"schema": "pc.storage/1", "measured_at": "2026-01-02T03:04:05Z", "healthy": healthy, "quorum": true,
               "heal_pending": 0, "volumes": []})
    }

    #[test]
    fn the_page_tells_how_often_and_for_how_long() {
        let page = fs::read_to_string("../../docs/tools/pc-exporter.md").unwrap();
        let rows = page.lines().skip_while(|line| !line.starts_with("| fact |")).skip(2);
        let mut seen = 0;
        for row in rows.take_while(|line| line.starts_with('|')) {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let minutes = |cell: &str| {
                let (number, unit) = cell.split_once(' ').unwrap();
                Duration::from_secs(number.parse::<u64>().unwrap() * if unit == "h" { 3600 } else { 60 })
            };
            for fact in cells[1].split(", ").map(|fact| fact.trim_matches('`')) {
                let fact = fact.replace("DISK", "nvme-A");
                assert_eq!(crate::jobs::every(&fact), minutes(cells[2]), "{fact}");
                assert_eq!(keep(&fact), minutes(cells[3]), "{fact}");
                seen += usize::from(noun_of(&fact).is_some());
            }
        }
        assert_eq!(seen, nouns::NOUNS.len(), "a fact is missing in the table, or has no noun");
    }

    #[test]
    fn a_fact_a_newer_status_and_a_failed_fact() {
        let root = tempfile::tempdir().unwrap();
        let board = Board::default();
        let mut known = Vec::new();
        let old = json!({"schema": "pc.exporter.fact/1", "name": "storage", "tried_at": "2026-01-01T00:00:00Z", "seconds": 0.5,
                         "measured_at": "2026-01-01T00:00:00Z", "answer": storage(false)});
        write(root.path(), "facts/storage.json", &old);
        look(root.path(), &board, &mut known);
        let text = scrape(&board);
        assert!(text.contains("pc_collector_success{collector=\"storage\"} 0"), "too old to be told: {text}");
        assert!(text.contains("pc_collector_duration_seconds{collector=\"storage\"} 0.5"), "{text}");
        assert!(!text.contains("pc_storage_healthy"), "{text}");
        // The tool itself has left a newer answer.
        write(root.path(), "storage.json", &storage(true));
        look(root.path(), &board, &mut known);
        let text = scrape(&board);
        assert!(text.contains("pc_collector_success{collector=\"storage\"} 1"), "{text}");
        assert!(text.contains("\npc_storage_healthy 1\n"), "{text}");
        // Asked again since, and it failed: the values are told on, and that it failed.
        let mut failed = old.clone();
        failed["tried_at"] = json!("2999-01-01T00:00:00Z");
        failed["error"] = json!("no answer within 30 s");
        write(root.path(), "facts/storage.json", &failed);
        look(root.path(), &board, &mut known);
        let text = scrape(&board);
        assert!(text.contains("pc_collector_success{collector=\"storage\"} 0"), "{text}");
        assert!(text.contains("\npc_storage_healthy 1\n"), "{text}");
        // Somebody else's file, a broken fact, and one that is being written.
        write(root.path(), "other.json", &json!({"schema": "x/1"}));
        write(root.path(), "facts/gluster.json", &json!({"schema": "pc.exporter.fact/1"}));
        write(root.path(), "facts/.vm.json", &json!({}));
        look(root.path(), &board, &mut known);
        assert_eq!(known, ["gluster", "storage"]);
        assert!(scrape(&board).contains("pc_collector_success{collector=\"gluster\"} 0"));
        fs::remove_file(root.path().join("run/personal-cluster/facts/gluster.json")).unwrap();
        look(root.path(), &board, &mut known);
        assert!(!scrape(&board).contains("gluster"));
    }
}
