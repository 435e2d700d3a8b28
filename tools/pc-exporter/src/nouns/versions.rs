//! Which programs this node runs, in which version.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::parsed;
use crate::metric::{Samples, families};

/// Schema of the fact.
pub const SCHEMA: &str = "pc.exporter.versions/1";

families! {
    PROGRAM: Info "pc_program_info" ["program", "version"] "A program that the cluster stands on, and its version.";
}

/// `pc.exporter.versions/1`.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// `pc.exporter.versions/1`.
    pub schema: String,
    /// Program to version.
    pub programs: BTreeMap<String, String>,
}

/// `pc.exporter.versions/1`.
pub fn read(answer: Value) -> Result<Samples> {
    let versions: Versions = parsed(answer)?;
    let mut samples = Samples::default();
    for (program, version) in &versions.programs {
        samples.info(&PROGRAM, &[program, version]);
    }
    Ok(samples)
}

/// The version in what a program says to `--version`: the first word with a digit at its front and a dot in it.
pub fn version(text: &str) -> Option<&str> {
    let words = text.split(|c: char| c.is_whitespace() || "(),'".contains(c));
    words
        .map(|word| word.trim_start_matches('v').trim_end_matches(['.', ';']))
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'))
}

#[cfg(test)]
mod tests {
    #[test]
    fn of_what_programs_say() {
        for (said, version) in [
            ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright (c)", "7.2.22"),
            ("libvirtd (libvirt) 9.0.0", "9.0.0"),
            ("glusterfs 11.1\nRepository revision: git://", "11.1"),
            ("ovs-vswitchd (Open vSwitch) 3.1.0", "3.1.0"),
            ("Corosync Cluster Engine, version '3.1.7'\nCopyright", "3.1.7"),
            ("Pacemaker 2.1.5-9.fc\nWritten by Andrew", "2.1.5-9.fc"),
            ("pc-config 0.1.0", "0.1.0"),
            ("systemd 252 (252.39-1~deb12u2)", "252.39-1~deb12u2"),
        ] {
            assert_eq!(super::version(said), Some(version), "{said}");
        }
        assert_eq!(super::version("no version here"), None);
    }
}
