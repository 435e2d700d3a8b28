//! A Debian 13 root directory that commands run in, without containers: mmdebstrap and unshare.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use xshell::{Shell, cmd};

use crate::{cache, packages};

/// Packages of the root that builds the .debs.
const BUILD: &str = "apt-utils,build-essential,ca-certificates,cargo,debhelper,fakeroot,gpg,libvirt-dev,lintian,pkgconf,rustc";
/// Packages of the root that the .debs are installed into: what every Debian machine with systemd has.
const BARE: &str = "apt-utils,ca-certificates,dbus,init,systemd-sysv";
/// Where Debian comes from.
const SUITE: &str = "trixie";

/// The root that builds packages.
pub fn build_root(sh: &Shell) -> Result<PathBuf> {
    make(sh, "build", BUILD)
}

/// A bare Debian 13, to install packages into: always entered with [`enter_copy`].
pub fn bare_root(sh: &Shell) -> Result<PathBuf> {
    make(sh, "bare", BARE)
}

/// A root kept per list of packages, made when missing.
fn make(sh: &Shell, name: &str, include: &str) -> Result<PathBuf> {
    packages::ensure(sh, packages::ROOTS)?;
    let hash = cache::hash(sh, &["xtask/src/root.rs"], include)?;
    let root = cache::directory()?.join(format!("{name}-root-{hash}"));
    if root.join("ready").exists() {
        return Ok(root);
    }
    eprintln!("making a Debian 13 root, {name} (once, one to two minutes)");
    if root.exists() {
        remove(sh, &root)?;
    }
    let include = format!("--include={include}");
    let mirror = "http://deb.debian.org/debian";
    cmd!(sh, "mmdebstrap --quiet --variant=minbase {include} {SUITE} {root} {mirror}")
        .quiet()
        .run()
        .with_context(|| format!("making the {name} root"))?;
    enter(sh, &root, &[], "mkdir -p /build /vendor && touch /ready")?;
    Ok(root)
}

/// Runs a script in `root` like [`enter`], on top of a copy that is thrown away afterwards.
pub fn enter_copy(sh: &Shell, root: &Path, binds: &[(&Path, &str)], script: &str) -> Result<()> {
    let copy = "mount -t tmpfs -o size=8G tmpfs /media\nmkdir /media/upper /media/work /media/root\n\
        mount -t overlay -o lowerdir=\"$root\",upperdir=/media/upper,workdir=/media/work overlay /media/root\nroot=/media/root\n";
    run(sh, root, copy, binds, script)
}

/// Runs a script in `root` with `binds` (outside, inside) visible, in namespaces of its own; without being
/// root when this user has subordinate ids (newuidmap(1)).
pub fn enter(sh: &Shell, root: &Path, binds: &[(&Path, &str)], script: &str) -> Result<()> {
    run(sh, root, "", binds, script)
}

fn run(sh: &Shell, root: &Path, first: &str, binds: &[(&Path, &str)], script: &str) -> Result<()> {
    let user: &[&str] = if is_root(sh)? { &[] } else { &["--user", "--map-auto", "--map-root-user"] };
    let mut prepare = format!(
        "set -e\nroot=$1\n{first}mount -t proc proc \"$root/proc\"\nmount --rbind /dev \"$root/dev\"\n"
    );
    for (outside, inside) in binds {
        let outside = outside.display();
        // Writing to a String cannot fail.
        let _ = writeln!(prepare, "mkdir -p \"$root{inside}\"\nmount --bind '{outside}' \"$root{inside}\"");
    }
    prepare.push_str(
        "cp /etc/resolv.conf \"$root/etc/resolv.conf\"\nexec chroot \"$root\" /bin/sh -ec \"$2\"\n",
    );
    let path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
    cmd!(sh, "unshare {user...} --mount --pid --fork --kill-child env -i {path} LC_ALL=C.UTF-8 HOME=/root sh -c {prepare} sh {root} {script}")
        .quiet()
        .run()
        // The command holds the whole script: too long to show; the script's own output says what failed.
        .map_err(|_| anyhow!("a script failed in {}", root.display()))
}

fn remove(sh: &Shell, root: &Path) -> Result<()> {
    let user: &[&str] = if is_root(sh)? { &[] } else { &["--user", "--map-auto", "--map-root-user"] };
    cmd!(sh, "unshare {user...} --mount rm -rf --one-file-system {root}").quiet().run()?;
    Ok(())
}

fn is_root(sh: &Shell) -> Result<bool> {
    Ok(cmd!(sh, "id -u").quiet().read()? == "0")
}
