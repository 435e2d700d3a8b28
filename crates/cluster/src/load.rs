//! Reading the file: TOML, or JSON of the same shape.

use std::path::Path;

use crate::fault::{Fault, Faults, Report, Severity, locate};
use crate::model::Cluster;
use crate::tree::Step;
use crate::{read, sense, shape, source};

/// Reads and checks the file at `path` (`-` is standard input).
pub fn load(path: &Path) -> Result<Cluster, Faults> {
    load_report(path).into_result()
}

/// Reads what was applied last: it was checked then, so only its shape matters, and keys of a newer
/// version are ignored.
pub fn load_applied(path: &Path) -> Result<Cluster, Faults> {
    of_text(name_of(path), source::read_wrapped(path), true).into_result()
}

/// The same for a text that is here already: what was in force once, in whichever version.
pub fn parse_applied(name: &str, text: &[u8]) -> Result<Cluster, Faults> {
    of_text(name.into(), source::wrapped(text.to_vec()), true).into_result()
}

/// Parses and checks `text`; `name` is how messages call the file.
pub fn parse(name: &str, text: &str) -> Result<Cluster, Faults> {
    parse_report(name, text).into_result()
}

/// Reads and checks the file at `path` (`-` is standard input) and tells everything, warnings too.
pub fn load_report(path: &Path) -> Report {
    of_text(name_of(path), source::read(path), false)
}

/// Parses and checks `text` and tells everything, warnings too.
pub fn parse_report(name: &str, text: &str) -> Report {
    of_text(name.into(), source::text(text.as_bytes().to_vec()), false)
}

/// The text of the file at `path` (`-` is standard input), within the limits of a cluster file, unchecked.
pub fn read_text(path: &Path) -> Result<String, Faults> {
    source::read(path).map_err(|fault| unread(path, *fault))
}

/// The text at `path` (`-` is standard input), which may be a cluster file or hold one as a string: 16 MiB at most. The file
/// within has its own limit, when it is parsed.
pub fn read_wrapped(path: &Path) -> Result<String, Faults> {
    source::read_wrapped(path).map_err(|fault| unread(path, *fault))
}

fn unread(path: &Path, fault: Fault) -> Faults {
    Faults(Report { name: name_of(path), cluster: None, faults: vec![fault] }.to_string())
}

/// Checks a file that was never text, or no longer is; the positions mean nothing then.
pub fn check(cluster: &Cluster) -> Vec<Fault> {
    let Ok(text) = serde_json::to_string(cluster) else { return Vec::new() };
    let (_, mut faults) = understand(&text, false);
    faults.sort_by_key(|fault| fault.offset);
    faults
}

/// The line of a key of the text of a file, `["route", "[0]"]` or `["network", "mail", "isolated"]`. The line of what is left of the path when the file has no such key; `None` when it has nothing of it.
pub fn line_of(text: &str, path: &[&str]) -> Option<u32> {
    let is_json = text.trim_start().starts_with('{');
    let tree = if is_json { read::json(text) } else { read::toml(text) }.ok()?;
    let index = |part: &str| part.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let step = |part: &&str| index(part).map_or_else(|| Step::from(*part), Step::Index);
    let steps: Vec<Step> = path.iter().map(step).collect();
    let found = tree.find(&steps);
    if found.path.is_empty() {
        return None;
    }
    let mut fault = Fault { offset: Some(found.at), ..Fault::of_file("", "") };
    locate(std::slice::from_mut(&mut fault), text);
    fault.line
}

fn name_of(path: &Path) -> String {
    if path.as_os_str() == "-" { "stdin".into() } else { path.display().to_string() }
}

fn of_text(name: String, text: Result<String, Box<Fault>>, newer: bool) -> Report {
    let text = match text {
        Ok(text) => text,
        Err(fault) => return Report { name, cluster: None, faults: vec![*fault] },
    };
    let (cluster, mut faults) = understand(&text, newer);
    locate(&mut faults, &text);
    Report { name, cluster, faults }
}

/// Text to content and faults; `newer`: the file may be of a newer version, and was checked before.
fn understand(text: &str, newer: bool) -> (Option<Cluster>, Vec<Fault>) {
    if text.trim().is_empty() {
        return (None, vec![Fault::of_file("is empty", "write one with `pc-config draft`")]);
    }
    let is_json = text.trim_start().starts_with('{');
    let tree = match if is_json { read::json(text) } else { read::toml(text) } {
        Ok(tree) => tree,
        Err(faults) => {
            let grammar = if is_json { "JSON" } else { "TOML" };
            return (None, faults.into_iter().map(|fault| Fault::of_syntax(grammar, fault)).collect());
        }
    };
    let shape::Shaped { node, mut faults } = shape::shape(&tree, newer);
    let cluster = match serde_json::from_value::<Cluster>(node.to_json()) {
        Ok(cluster) => cluster,
        Err(error) => {
            // The schema comes out of the same types, so this is a fault of ours: told, not hidden.
            if faults.is_empty() {
                let remedy = "this is a fault of personal-cluster itself: please report it";
                faults.push(Fault::of_file(error.to_string(), remedy));
            }
            return (None, faults);
        }
    };
    let whole = faults.is_empty();
    if !newer {
        faults.extend(sense::check(&cluster, &node, &tree, whole));
    }
    let usable = faults.iter().all(|fault| fault.severity == Severity::Warning);
    (usable.then_some(cluster), faults)
}
