//! Debian packages that a command needs on this machine: installed once, and named before they are.

use anyhow::{Context, Result, bail};
use xshell::{Shell, cmd};

/// Builds a workspace: `virt` links libvirt.
pub const BUILD: &[&str] = &["gcc", "pkg-config", "libvirt-dev"];
/// Makes Debian roots and packages.
pub const ROOTS: &[&str] = &["mmdebstrap", "uidmap"];

/// Installs what is missing of `wanted`; nothing is started (policy-rc.d(8) through an environment of its own).
pub fn ensure(sh: &Shell, wanted: &[&str]) -> Result<()> {
    // apt may take away what was there in a version that does not fit what it installs (of backports, for example): once
    // more, and that comes back in one that does.
    for _ in 0..2 {
        let missing = missing(sh, wanted)?;
        if missing.is_empty() {
            return Ok(());
        }
        install(sh, &missing)?;
    }
    let missing = missing(sh, wanted)?;
    if missing.is_empty() {
        return Ok(());
    }
    bail!("apt-get has installed everything, but not these beside each other: {}", missing.join(" "))
}

fn missing<'a>(sh: &Shell, wanted: &[&'a str]) -> Result<Vec<&'a str>> {
    let known = cmd!(sh, "dpkg-query -W -f '${Package} ${db:Status-Status}\\n' {wanted...}")
        .ignore_status()
        .ignore_stderr()
        .quiet()
        .read()?;
    let installed = |name: &&str| known.lines().any(|line| line == format!("{name} installed"));
    Ok(wanted.iter().copied().filter(|name| !installed(name)).collect())
}

fn install(sh: &Shell, missing: &[&str]) -> Result<()> {
    eprintln!("installing missing Debian packages: {}", missing.join(" "));
    let root = cmd!(sh, "id -u").quiet().read()? == "0";
    let sudo: &[&str] = if root { &[] } else { &["sudo"] };
    if !root && cmd!(sh, "sudo -n true").ignore_stderr().quiet().run().is_err() {
        bail!(
            "not root and sudo asks for a password\n  sudo apt-get install --no-install-recommends {}",
            missing.join(" ")
        );
    }
    let _held = HoldServices::new(sh, sudo)?;
    let script = "apt-get update -q && exec apt-get install -y -q --no-install-recommends \"$@\"";
    let names = missing;
    cmd!(
        sh,
        "env {sudo...} env DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l sh -c {script} sh {names...}"
    )
    .quiet()
    .ignore_stdout()
    .run()
    .with_context(|| format!("installing {}", missing.join(" ")))
}

/// While it lives, installing a package starts no service: a policy-rc.d that says no, unless the machine has
/// one of its own.
struct HoldServices<'a> {
    sh: &'a Shell,
    sudo: Vec<String>,
    ours: bool,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";

impl<'a> HoldServices<'a> {
    fn new(sh: &'a Shell, sudo: &[&str]) -> Result<HoldServices<'a>> {
        let ours = !sh.path_exists(POLICY);
        if ours {
            let write = "printf '#!/bin/sh\\nexit 101\\n' > \"$1\" && chmod 755 \"$1\"";
            cmd!(sh, "env {sudo...} sh -c {write} sh {POLICY}").quiet().run()?;
        }
        Ok(HoldServices { sh, sudo: sudo.iter().map(ToString::to_string).collect(), ours })
    }
}

impl Drop for HoldServices<'_> {
    fn drop(&mut self) {
        if self.ours {
            let (sh, sudo) = (self.sh, &self.sudo);
            if cmd!(sh, "env {sudo...} rm -f {POLICY}").quiet().run().is_err() {
                eprintln!("warning: {POLICY} is left behind: remove it by hand");
            }
        }
    }
}
