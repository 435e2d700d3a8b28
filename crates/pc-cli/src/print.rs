//! stdout is the answer and nothing else. A closed stdout (`| head`) ends a tool silently with 0.

use std::fmt::Display;
use std::io::{ErrorKind, Write};

use anyhow::{Context, Result};

use crate::plain::printable;

/// Prints the answer: JSON when asked for, else its rendering for people, in which a terminal finds nothing to obey.
/// The first field of `value` must be `schema` (for example `"pc.brick.status/1"`).
pub fn emit<T: serde::Serialize + Display>(json: bool, value: &T) -> Result<()> {
    emit_raw(&rendered(json, value)?)
}

/// As [`emit`], for a verb that is not done with its answer: a reader that has gone is an error like any
/// other, and the caller decides what becomes of the work that is left.
pub fn emit_heard<T: serde::Serialize + Display>(json: bool, value: &T) -> Result<()> {
    write(&mut std::io::stdout().lock(), &rendered(json, value)?).context(WRITING)
}

/// Writes bytes to stdout; when the reader has gone, ends the process with 0 as `cat` would. Only for the
/// last thing that a verb does: what would come after it is not done.
pub fn emit_raw(bytes: &[u8]) -> Result<()> {
    match write(&mut std::io::stdout().lock(), bytes) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        written => written.context(WRITING),
    }
}

const WRITING: &str = "writing to standard output";

fn write(out: &mut impl Write, bytes: &[u8]) -> std::io::Result<()> {
    out.write_all(bytes).and_then(|()| out.flush())
}

fn rendered<T: serde::Serialize + Display>(json: bool, value: &T) -> Result<Vec<u8>> {
    let mut text = if json {
        serde_json::to_string_pretty(value).context("writing the answer as JSON")?
    } else {
        printable(&value.to_string()).into_owned()
    };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text.into_bytes())
}
