//! Every example and every TOML block of this tool's documents is a file that the loader takes.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn examples_have_no_fault() {
    let mut count = 0;
    for entry in std::fs::read_dir(root().join("examples")).unwrap() {
        let path = entry.unwrap().path();
        // examples/nixos is for Nix; tests/nix compares it with home.toml.
        if path.is_dir() {
            continue;
        }
        let report = cluster::load_report(&path);
        assert_eq!(report.errors().count(), 0, "{report}");
        let warned = report.warnings().count();
        let expected = usize::from(path.ends_with("one-pc.toml"));
        assert_eq!(warned, expected, "{report}");
        count += 1;
    }
    assert!(count >= 3);
}

/// The lab's file with a thumbprint in place is the example for a lab.
#[test]
fn the_lab_example_is_the_labs() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let lab =
        read("tests/lab/cluster.toml").replace("THUMBPRINT", "oHhoq8SKDvqo1Ub0LBEKF0I9iEQWyWZiGcuDIySbWYs");
    assert_eq!(
        cluster::parse("lab", &lab).unwrap(),
        cluster::load(&root().join("examples/lab.toml")).unwrap()
    );
}

/// The blocks between ```toml and ```, with the line they begin at.
fn blocks(text: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, line) in text.lines().enumerate() {
        match &mut open {
            None if line.trim() == "```toml" => open = Some((index + 2, String::new())),
            None => {}
            Some(_) if line.trim() == "```" => blocks.extend(open.take()),
            Some((_, block)) => {
                block.push_str(line);
                block.push('\n');
            }
        }
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
}

/// A fragment is a file when `schema` and `name` stand before it. It may name what stands elsewhere in the
/// document, so its shape is what counts; a block with a `schema` of its own must be a file without fault.
#[test]
fn blocks_of_the_documents_are_parsed() {
    for document in ["docs/cluster-file.md", "docs/tools/pc-config.md"] {
        let text = std::fs::read_to_string(root().join(document)).unwrap();
        let blocks = blocks(&text);
        assert!(!blocks.is_empty(), "{document} has no block");
        for (line, block) in blocks {
            let name = format!("{document}:{line}");
            if block.contains("schema = ") {
                let report = cluster::parse_report(&name, &block);
                assert_eq!(report.errors().count(), 0, "{report}");
            } else {
                let whole = format!("schema = \"personal-cluster/1\"\nname = \"home\"\n{block}");
                let report = cluster::parse_report(&name, &whole);
                let shape = ["is not", "is missing", "is text", "is a ", "is true"];
                let about_shape = |fault: &&cluster::Fault| {
                    fault.key.is_empty() || shape.iter().any(|start| fault.fault.contains(start))
                };
                let faults: Vec<_> = report.errors().filter(about_shape).collect();
                assert!(faults.is_empty(), "{name}: {faults:?}");
                toml::from_str::<cluster::Cluster>(&whole).unwrap_or_else(|error| panic!("{name}: {error}"));
            }
        }
    }
}

/// The reference names every key there is.
#[test]
fn the_reference_is_complete() {
    let text = std::fs::read_to_string(root().join("docs/cluster-file.md")).unwrap();
    let schema = cluster::json_schema();
    let mut missing = Vec::new();
    let mut objects = vec![("", schema)];
    objects.extend(schema["$defs"].as_object().unwrap().iter().map(|(name, object)| (name.as_str(), object)));
    for (name, object) in objects {
        for key in object["properties"].as_object().into_iter().flatten().map(|(key, _)| key) {
            if !text.contains(&format!("`{key}`"))
                && !text.contains(&format!("`[{key}"))
                && !text.contains(&format!("`[[{key}]]`"))
            {
                missing.push(format!("{name}.{key}"));
            }
        }
    }
    assert!(missing.is_empty(), "docs/cluster-file.md does not name {missing:?}");
}
