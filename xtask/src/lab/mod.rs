//! `cargo xtask lab`: a whole cluster of virtual machines on this computer. This side installs what is missing
//! and builds what is needed; the driver itself is `tests/lab`, in Python, because the scenarios are.

mod hub;
mod pcap;
mod rules;

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{cache, deb, packages};

/// What the lab runs on this computer.
const HOST: &[&str] = &[
    "busybox-static",
    "dosfstools",
    "e2fsprogs",
    "mmdebstrap",
    "mtools",
    "openssh-client",
    "python3",
    "qemu-utils",
    "syslinux",
    "uidmap",
];

/// `cargo xtask lab ARGS...`: ends with the driver's exit code.
pub fn main(args: &[String]) -> Result<()> {
    // The segment's hub is this same binary, started by the driver.
    if let Some(("hub", rest)) = args.split_first().map(|(command, rest)| (command.as_str(), rest)) {
        return hub::main(rest);
    }
    let sh = cache::workspace()?;
    // Who only asks gets an answer, and nothing installed.
    if !args.iter().any(|arg| arg == "--help" || arg == "-h") {
        packages::ensure(&sh, HOST)?;
    }
    let mut driver = Command::new("python3");
    driver.args(["-m", "lab"]).args(args);
    driver.env("PYTHONPATH", sh.current_dir().join("tests"));
    driver.env("PYTHONDONTWRITEBYTECODE", "1");
    driver.env("LAB_XTASK", std::env::current_exe()?);
    if builds_a_cluster(args) {
        // Empty is unset, as in most shells' scripts.
        let repository = match std::env::var_os("LAB_REPOSITORY") {
            Some(given) if !given.is_empty() => given,
            _ => deb::repository().context("building the .debs for the lab")?.into_os_string(),
        };
        driver.env("LAB_REPOSITORY", repository);
    }
    let status = driver.status().context("starting python3")?;
    if !status.success() {
        bail!("lab {}: failed", args.join(" "));
    }
    Ok(())
}

/// Only these verbs need the packages; the others talk to what runs.
fn builds_a_cluster(args: &[String]) -> bool {
    args.first().is_some_and(|verb| matches!(verb.as_str(), "up" | "run" | "test" | "drill"))
}
