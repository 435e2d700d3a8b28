//! Collector: power supplies, through NUT's `upsc` where it is installed. Anybody may ask.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::metric::Samples;
use crate::nouns::ups;

/// NUT of this machine. A client package alone is no reason to complain: it counts from its first answer on.
#[derive(Default)]
pub struct Supplies {
    answered: bool,
}

impl Supplies {
    /// Asks once; `None` where there is no NUT.
    pub fn look(&mut self) -> Result<Option<Samples>> {
        let names = match upsc(&["-l"]) {
            Ok(names) => names,
            Err(error) if error.is_missing() || !self.answered => return Ok(None),
            Err(error) => return Err(error).context("asking NUT"),
        };
        self.answered = true;
        let mut samples = Samples::default();
        for name in names.lines().map(str::trim).filter(|name| !name.is_empty()) {
            let text = upsc(&[name]).with_context(|| format!("asking NUT for {name}"))?;
            samples.0.extend(ups::read(name, &text)?.0);
        }
        Ok(Some(samples))
    }
}

fn upsc(arguments: &[&str]) -> Result<String, pc_run::Error> {
    let mut command = Command::new("upsc");
    command.args(arguments);
    pc_run::run(command).deadline(Duration::from_secs(5)).read()
}
