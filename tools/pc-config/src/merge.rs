//! merge: several drafts into one file, comments kept, contradictions named.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cluster::Name;
use pc_cli::{Common, Exit, log, refused};
use serde::Serialize;
use toml_edit::{DocumentMut, value};

use crate::join::join;

/// One file that is to be merged.
pub struct Part {
    pub name: String,
    pub document: DocumentMut,
}

/// The merged file, which may not be complete.
#[derive(Debug, Serialize)]
struct Merged {
    schema: serde_json::Value,
    #[serde(flatten)]
    rest: serde_json::Map<String, serde_json::Value>,
    #[serde(skip)]
    text: String,
}

impl fmt::Display for Merged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// `pc-config merge FILE...`.
pub fn merge(common: &Common, sources: &[PathBuf], name: Option<&Name>) -> Result<Exit> {
    let mut parts = Vec::new();
    for source in sources {
        let text = cluster::read_text(source).map_err(refused)?;
        let shown = if source.as_os_str() == "-" { Path::new("stdin") } else { source };
        let shown = shown.display();
        let read = split(&shown.to_string(), &text)?;
        // A `draft` that failed leaves nothing behind in a pipe: half a cluster is not what was asked for.
        if read.iter().all(|part| part.document.is_empty()) {
            return Err(refused(format!("{shown}: holds no draft\n  pc-config draft prints one")));
        }
        parts.extend(read);
    }
    if let Some(name) = name {
        for part in &mut parts {
            part.document["name"] = value(name.as_str());
        }
    }
    let text = join(parts)?;
    let report = cluster::parse_report("merged", &text);
    let errors = report.errors().count();
    if errors > 0 {
        // Incomplete drafts are merged too: what is missing is for a person to fill in.
        let faults = if errors == 1 { "1 fault".into() } else { format!("{errors} faults") };
        log::warning(format_args!("the merged file has {faults}: pc-config check tells them"));
    }
    let mut rest: serde_json::Map<_, _> = toml::from_str(&text).context("reading the merged file back")?;
    let schema = rest.remove("schema").unwrap_or_default();
    pc_cli::emit(common.json, &Merged { schema, rest, text })?;
    Ok(Exit::Done)
}

/// The documents of one stream: each begins with its `schema` line, or is one JSON value of a stream.
fn split(name: &str, text: &str) -> Result<Vec<Part>> {
    if text.trim_start().starts_with('{') {
        return split_json(name, text);
    }
    let documents = documents(text);
    let several = documents.len() > 1;
    let part = |(index, text): (usize, String)| {
        let name = if several { format!("{name}, document {}", index + 1) } else { name.to_string() };
        match text.parse::<DocumentMut>() {
            Ok(document) => Ok(Part { name, document }),
            // The crate's own reader tells the place in the form that everything else has.
            Err(error) => match cluster::parse(&name, &text) {
                Err(faults) => Err(refused(faults)),
                Ok(_) => Err(refused(format!("{name}: {}", error.message()))),
            },
        }
    };
    documents.into_iter().enumerate().map(part).collect()
}

/// Cuts a stream of TOML: every `schema` line begins a document, with the comments above it.
fn documents(text: &str) -> Vec<String> {
    let mut documents = Vec::new();
    let mut document = String::new();
    let mut waiting = String::new();
    let mut begun = false;
    for line in text.split_inclusive('\n') {
        if line.trim().is_empty() || line.starts_with('#') {
            waiting.push_str(line);
            continue;
        }
        let is_head = line.strip_prefix("schema").is_some_and(|rest| rest.trim_start().starts_with('='));
        if is_head && begun {
            documents.push(std::mem::take(&mut document));
        }
        begun |= is_head;
        document.push_str(&std::mem::take(&mut waiting));
        document.push_str(line);
    }
    documents.push(document + &waiting);
    documents
}

fn split_json(name: &str, text: &str) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    for (index, read) in serde_json::Deserializer::from_str(text).into_iter::<serde_json::Value>().enumerate()
    {
        let name = format!("{name}, document {}", index + 1);
        let mut read = read.map_err(|error| refused(format!("{name}: is not JSON: {error}")))?;
        if read["schema"] == "pc.config.draft/1" {
            read = read["file"].take();
        }
        let text = toml::to_string_pretty(&read).map_err(|error| refused(format!("{name}: {error}")))?;
        let document =
            text.parse::<DocumentMut>().map_err(|error| refused(format!("{name}: {}", error.message())))?;
        parts.push(Part { name, document });
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE1: &str = include_str!("../tests/draft/node1.toml");
    const NODE2: &str = include_str!("../tests/draft/node2.toml");
    const NODE3: &str = include_str!("../tests/draft/node3.toml");

    fn merged(files: &[&str]) -> Result<String> {
        let part = |(index, text): (usize, &&str)| split(&format!("{}.toml", index + 1), text);
        join(files.iter().enumerate().map(part).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    #[test]
    fn three_drafts_are_one_file_that_passes_the_check() {
        let text = merged(&[NODE1, NODE2, NODE3]).unwrap();
        let report = cluster::parse_report("merged", &text);
        assert_eq!(report.errors().count(), 0, "{report}");
        let cluster = report.cluster.unwrap();
        assert_eq!(cluster.nodes.len(), 3);
        assert_eq!(cluster.volumes.values().next().unwrap().replicas(), 3);
        assert_eq!(text.matches("pc-unlock adv").count(), 1);
        assert_eq!(text.matches("# Blank disks").count(), 3);
        assert!(text.find("node3").unwrap() < text.find("[volume.vms]").unwrap());
        let stream = format!("{NODE1}{NODE2}{NODE3}");
        assert_eq!(merged(&[&stream]).unwrap(), text);
        assert_eq!(merged(&[NODE1, NODE2, NODE3, NODE2]).unwrap(), text, "the same draft twice is one node");
    }

    #[test]
    fn json_and_toml_merge_alike() {
        let json = |text: &str| {
            let file: serde_json::Value = toml::from_str(text).unwrap();
            format!("{}\n", serde_json::json!({ "schema": "pc.config.draft/1", "file": file }))
        };
        let stream = json(NODE1) + &json(NODE2) + &json(NODE3);
        let of = |text: String| cluster::parse("merged", &text).unwrap();
        assert_eq!(of(merged(&[&stream]).unwrap()), of(merged(&[NODE1, NODE2, NODE3]).unwrap()));
    }

    #[test]
    fn contradictions_are_all_named() {
        let other = NODE2.replace("\"home\"", "\"work\"").replace("10.10.0.254", "10.10.0.253");
        let error = merged(&[NODE1, &other.replace("node2", "node1")]).unwrap_err().to_string();
        for told in [
            "2.toml: name: \"work\", but \"home\" in 1.toml",
            "node node1: another machine",
            "network.lan.router",
        ] {
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn tang_servers_are_collected() {
        let with = |url: &str| {
            format!(
                "schema = \"personal-cluster/1\"\nname = \"h\"\n[unlock]\ntang = [{{ url = \"{url}\", thumbprint = \"x\" }}]\n"
            )
        };
        let text = merged(&[&with("http://a"), &with("http://b"), &with("http://a")]).unwrap();
        assert_eq!(text.matches("url").count(), 2);
    }

    #[test]
    fn what_is_no_toml_is_told_with_its_place() {
        let error = merged(&[NODE1, "schema = \"personal-cluster/1\"\nname = \n"]).unwrap_err().to_string();
        assert!(error.starts_with("2.toml:2:8: is not TOML"), "{error}");
        assert!(merged(&["{\"schema\": 1} {"]).is_err());
        assert!(merged(&[""]).is_ok());
    }
}
