//! `cargo xtask test`: everything, cheapest first, one line per stage.

use std::time::Instant;

use anyhow::{Context, Result, bail};
use xshell::{Shell, cmd};

use crate::{cache, deb, lab, packages, tidy};

/// Programs that the tests run for real.
const TEST: &[&str] = &[
    "bindfs",
    "clevis",
    "clevis-luks",
    "clevis-tpm2",
    "cryptsetup-bin",
    "curl",
    "dbus-daemon",
    "dosfstools",
    "fdisk",
    "gdisk",
    "glusterfs-client",
    "glusterfs-server",
    "iproute2",
    "jose",
    "jq",
    "libtss2-tcti-swtpm0",
    "libvirt-clients",
    "libvirt-daemon-system",
    "libxml2-utils",
    "luksmeta",
    "lvm2",
    "mdadm",
    "mtools",
    "mypy",
    "nix-bin",
    "openssh-client",
    "openssh-server",
    "openssl",
    "openvswitch-switch",
    "procps",
    "prometheus",
    "python3-jsonschema",
    "qemu-system-x86",
    "qemu-utils",
    "socat",
    "strace",
    "swtpm",
    "systemd",
    "tang",
    "tang-common",
    "thin-provisioning-tools",
    "tpm2-tools",
    "uidmap",
    "util-linux",
    "xfsprogs",
];

/// `cargo xtask test [--quick | --no-lab]`.
pub fn main(args: &[String]) -> Result<()> {
    let (packages, lab) = match args {
        [] => (true, true),
        [flag] if flag == "--no-lab" => (true, false),
        [flag] if flag == "--quick" => (false, false),
        other => bail!("unknown arguments {other:?}: --quick and --no-lab are known"),
    };
    let sh = cache::workspace()?;
    stage("packages", || {
        packages::ensure(&sh, packages::BUILD)?;
        packages::ensure(&sh, TEST)
    })?;
    stage("format", || run(&sh, &["cargo", "fmt", "--all", "--check"]))?;
    stage("tidy", tidy::main)?;
    stage("clippy", || {
        run(
            &sh,
            &[
                "cargo",
                "clippy",
                "--quiet",
                "--locked",
                "--workspace",
                "--all-targets",
                "--",
                "-D",
                "warnings",
            ],
        )
    })?;
    stage("tests", || run(&sh, &["cargo", "test", "--quiet", "--locked", "--workspace", "--no-fail-fast"]))?;
    stage("python", || {
        run(
            &sh,
            &["env", "MYPYPATH=tests", "/usr/bin/mypy", "--strict", "--cache-dir=/dev/null", "-p", "lab"],
        )?;
        run(&sh, &["/usr/bin/mypy", "--strict", "--cache-dir=/dev/null", "tests/bad-input/check.py"])
    })?;
    stage("json", || run(&sh, &["/usr/bin/python3", "tests/json/validate.py"]))?;
    stage("telemetry", || run(&sh, &["sh", "telemetry/check.sh"]))?;
    stage("nix", || nix(&sh))?;
    stage("pipes", || pipes(&sh))?;
    stage("bad input", || run(&sh, &["/usr/bin/python3", "-B", "tests/bad-input/check.py"]))?;
    if packages {
        stage("debs", || deb::repository().map(drop))?;
        stage("lintian", deb::lintian)?;
        stage("packages alone", deb::lifecycle)?;
    }
    if lab {
        stage("two nodes", || {
            run(&sh, &["cargo", "test", "--quiet", "--locked", "-p", "pc-vm", "--test", "two_nodes"])
        })?;
        stage("lab smoke", || lab::main(&["test".into(), "smoke".into()]))?;
    }
    Ok(())
}

fn stage(name: &str, run: impl FnOnce() -> Result<()>) -> Result<()> {
    let started = Instant::now();
    eprintln!("== {name}");
    run().with_context(|| format!("stage {name}"))?;
    eprintln!("== {name}: ok, {} s", started.elapsed().as_secs());
    Ok(())
}

fn run(sh: &Shell, argv: &[&str]) -> Result<()> {
    let (program, rest) = argv.split_first().context("an empty command")?;
    cmd!(sh, "{program} {rest...}").quiet().run()?;
    Ok(())
}

/// Every Nix file parses.
fn nix(sh: &Shell) -> Result<()> {
    let files = cache::files(sh, &["*.nix"])?;
    cmd!(sh, "nix-instantiate --parse {files...}").quiet().ignore_stdout().run()?;
    Ok(())
}

/// The pipelines that README and docs/pipes.md show.
fn pipes(sh: &Shell) -> Result<()> {
    run(sh, &["cargo", "build", "--quiet", "--locked", "--workspace"])?;
    let binaries = sh.current_dir().join("target/debug");
    let path = format!("{}:{}", binaries.display(), std::env::var("PATH").unwrap_or_default());
    for script in cache::files(sh, &["tests/pipes/*.sh"])? {
        cmd!(sh, "timeout 300 bash -euo pipefail {script}")
            .env("PATH", &path)
            .quiet()
            .run()
            .with_context(|| format!("pipeline {script}"))?;
    }
    Ok(())
}
