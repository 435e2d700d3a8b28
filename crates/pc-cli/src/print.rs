//! stdout is the answer and nothing else. A closed stdout (`| head`) ends a tool silently with 0.

use std::fmt::Display;
use std::io::{ErrorKind, Write};

use anyhow::{Context, Result};

/// Prints the answer: JSON when asked for, else its rendering for people.
/// The first field of `value` must be `schema` (for example `"pc.brick.status/1"`).
pub fn emit<T: serde::Serialize + Display>(json: bool, value: &T) -> Result<()> {
    if json {
        let mut text = serde_json::to_string_pretty(value).context("writing the answer as JSON")?;
        text.push('\n');
        emit_raw(text.as_bytes())
    } else {
        let text = value.to_string();
        let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        emit_raw(format!("{text}{end}").as_bytes())
    }
}

/// Writes bytes to stdout; when the reader has gone, ends the process with 0 as `cat` would.
pub fn emit_raw(bytes: &[u8]) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(error).context("writing to standard output"),
    }
}
