//! What is wrong with a file, and how it is told: `file:line:column: key = value: fault`, and the remedy,
//! indented, on the next line.

use std::fmt;
use std::fmt::Write;

use serde::Serialize;

use crate::model::Cluster;

/// The most faults that are told at once; the rest is counted.
const TOLD: usize = 20;

/// Whether a fault stops the file from being used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file is used; a person should look.
    Warning,
}

/// One thing that is wrong, or risky.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Error or warning.
    pub severity: Severity,
    /// Line, from 1; absent when the fault is the whole file's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Column in characters, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    /// Path of the key, `node[0].disks.vms[0]`; empty when the fault is the whole file's, or of its syntax.
    pub key: String,
    /// The value as it stands there, when it is a single one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// What is wrong.
    pub fault: String,
    /// What would be right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Byte offset, which becomes line and column; absent when the fault is the whole file's.
    #[serde(skip)]
    pub(crate) offset: Option<usize>,
}

impl Fault {
    /// An error of the whole file.
    pub(crate) fn of_file(fault: impl Into<String>, remedy: impl Into<String>) -> Fault {
        Fault {
            severity: Severity::Error,
            line: None,
            column: None,
            key: String::new(),
            value: None,
            fault: fault.into(),
            remedy: Some(remedy.into()),
            offset: None,
        }
    }

    /// An error of the grammar, before any key means anything.
    pub(crate) fn of_syntax(grammar: &str, (offset, message): (usize, String)) -> Fault {
        let remedy = syntax_remedy(grammar, &message);
        Fault { offset: Some(offset), ..Fault::of_file(format!("is not {grammar}: {message}"), remedy) }
    }
}

/// What the parser's words ask for, as one would write it.
fn syntax_remedy(grammar: &str, message: &str) -> &'static str {
    let known = [
        ("must be quoted", "write text in double quotes, for example domain = \"home.arpa\""),
        ("duplicate key", "keep one of them"),
        ("unclosed array table", "write the head of a section so: [[node]]"),
        ("unclosed table", "write the head of a section so: [volume.vms]"),
        ("unclosed", "close what was opened before it"),
        ("recursion", "nothing in this file is nested so deep: remove some brackets"),
    ];
    match known.into_iter().find(|(words, _)| message.contains(words)) {
        Some((_, remedy)) => remedy,
        None if grammar == "JSON" => {
            "write a comma between two entries and none after the last, and text in double quotes"
        }
        None => "write key = value, text in double quotes, lists in brackets: https://toml.io tells the rest",
    }
}

/// Sorts faults into the order of the file and turns their byte offsets into lines and columns, in one pass:
/// a hostile file has a fault on every line.
pub(crate) fn locate(faults: &mut [Fault], text: &str) {
    faults.sort_by_key(|fault| fault.offset);
    let (mut line, mut column, mut done) = (1, 1, 0);
    for fault in faults {
        let Some(offset) = fault.offset else { continue };
        for character in text.get(done..offset.min(text.len())).unwrap_or_default().chars() {
            (line, column) = if character == '\n' { (line + 1, 1) } else { (line, column + 1) };
        }
        done = done.max(offset.min(text.len()));
        (fault.line, fault.column) = (Some(line), Some(column));
    }
}

impl fmt::Display for Fault {
    /// Without the file's name; [`Report`] puts it in front.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, "{line}:{column}: ")?;
        }
        if !self.key.is_empty() {
            f.write_str(&self.key)?;
            if let Some(value) = &self.value {
                write!(f, " = {value}")?;
            }
            f.write_str(": ")?;
        }
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        f.write_str(&self.fault)?;
        match &self.remedy {
            Some(remedy) => write!(f, "\n  {remedy}"),
            None => Ok(()),
        }
    }
}

/// A file that was read and checked: its content when it could be understood, and all its faults.
#[derive(Debug, Clone)]
pub struct Report {
    /// How messages call the file.
    pub name: String,
    /// The content; absent when something refuses the file.
    pub cluster: Option<Cluster>,
    /// In the order of the file.
    pub faults: Vec<Fault>,
}

impl Report {
    /// Faults that refuse the file.
    pub fn errors(&self) -> impl Iterator<Item = &Fault> {
        self.faults.iter().filter(|fault| fault.severity == Severity::Error)
    }

    /// Faults that only warn.
    pub fn warnings(&self) -> impl Iterator<Item = &Fault> {
        self.faults.iter().filter(|fault| fault.severity == Severity::Warning)
    }

    /// The content, when nothing refuses it; warnings are dropped.
    pub fn into_result(self) -> Result<Cluster, Faults> {
        let refusal = self.text(self.errors());
        match self.cluster {
            Some(cluster) if refusal.is_empty() => Ok(cluster),
            _ => Err(Faults(refusal)),
        }
    }

    /// The given faults as people read them, capped.
    fn text<'a>(&self, faults: impl Iterator<Item = &'a Fault>) -> String {
        let mut told = String::new();
        let mut rest = 0;
        for (index, fault) in faults.enumerate() {
            if index >= TOLD {
                rest += 1;
                continue;
            }
            // `file:14:15: ` has no space after the name, `file: is empty` has one.
            let space = if fault.line.is_some() { "" } else { " " };
            let newline = if told.is_empty() { "" } else { "\n" };
            // Writing to a String cannot fail.
            let _ = write!(told, "{newline}{}:{space}{fault}", self.name);
        }
        if rest > 0 {
            let _ = write!(told, "\nand {rest} more fault{}", if rest == 1 { "" } else { "s" });
        }
        told
    }
}

impl fmt::Display for Report {
    /// Errors and warnings, in the order of the file; nothing when there are none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(self.faults.iter()))
    }
}

/// Everything that is wrong with a file, ready to be shown: `file:line:column: key = value: fault`, with
/// the remedy on the next line.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Faults(pub String);
