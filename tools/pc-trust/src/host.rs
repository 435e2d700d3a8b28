//! The only module that looks at and changes what other programs read: links, drop-ins, QEMU's key, Gluster's switch.

use std::fs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::Path;

use anyhow::{Context, Result};
use cluster::{Cluster, Use};
use nix::unistd::Group;

use crate::paths::{NODE_KEY, Paths, QEMU, SECRETS, SSH_CA};
use crate::plan::{Action, At, Have, SECURE_ACCESS, Want};
use crate::sshd::{self, Form, Told};
use crate::systemd::Systemd;
use crate::x509::Names;
use crate::{files, member, modes, places, renewal, secrets, siblings, ssh};

/// Groups that QEMU runs as under libvirt: Debian, NixOS, others.
const QEMU_GROUPS: [&str; 3] = ["libvirt-qemu", "qemu-libvirtd", "qemu"];

/// What the file and this machine's programs ask for.
pub fn want(paths: &Paths, cluster: &Cluster) -> Result<Want> {
    let replicated = cluster.volumes.values().any(|volume| volume.purpose != Use::Local);
    let there = |path: &str| paths.at(path).is_dir();
    let gluster = replicated || there("/var/lib/glusterd");
    let mut want = Want { sealed: cluster.unlock.is_some(), gluster, ..Want::default() };
    if gluster {
        // The directory is compiled into Gluster: /usr/lib/ssl in Debian 12's, /etc/ssl in Debian 13's and elsewhere.
        if there("/usr/lib/ssl") {
            want.links.extend(places::gluster_links("/usr/lib/ssl"));
        }
        want.links.extend(places::gluster_links("/etc/ssl"));
    }
    if !cluster.vms.is_empty() || there("/etc/libvirt") {
        want.links.extend(places::libvirt_links());
        want.qemu_group = qemu_group(paths)?;
        if want.qemu_group.is_some() {
            want.links.extend(places::qemu_links());
        }
        if there("/etc/apparmor.d/abstractions") {
            want.files.push(places::apparmor());
        }
    }
    if there("/etc/ssh/sshd_config.d") {
        sshd_for_root(paths, &mut want)?;
    }
    // One that is spoilt must not spoil what was made of it.
    let ssh_ca = files::read(&paths.trust(SSH_CA)).ok().flatten();
    let ssh_ca = ssh_ca.filter(|text| ssh::ed25519(text.trim()).is_ok());
    want.files.extend(places::ssh_files(cluster, ssh_ca.as_deref()));
    Ok(want)
}

/// Our drop-in, in the form that takes nothing from anybody. When that cannot be told the form that stands stays; where none
/// stands none is made.
fn sshd_for_root(paths: &Paths, want: &mut Want) -> Result<()> {
    let standing = sshd::standing(paths)?;
    let form = match (sshd::without_us(paths)?, standing.clone()) {
        (Told::Form(form), _) | (Told::Ourselves | Told::Unknown(_), Some(form)) => form,
        (Told::Ourselves, None) => Form::Authority,
        (Told::Unknown(why), None) => {
            want.sshd = Some(why);
            return Ok(());
        }
    };
    if standing.as_ref() == Some(&form) && sshd::in_force(paths, &form)? == Some(false) {
        want.unread = true;
    }
    want.files.push(places::sshd(ssh::host_key(paths)?.is_some(), &form));
    Ok(())
}

fn qemu_group(paths: &Paths) -> Result<Option<String>> {
    if !paths.is_machine() {
        // A directory has no users of its own: whoever runs us stands for QEMU.
        let group = Group::from_gid(nix::unistd::getegid()).context("looking up this process's group")?;
        return Ok(group.map(|group| group.name));
    }
    for name in QEMU_GROUPS {
        if Group::from_name(name).with_context(|| format!("looking up the group {name}"))?.is_some() {
            return Ok(Some(name.into()));
        }
    }
    Ok(None)
}

/// What this machine looks like.
pub fn have(paths: &Paths, want: &Want, names: &Names) -> Result<Have> {
    let mut have = Have::default();
    for (path, _) in want.links.iter().chain(&want.files) {
        have.at.insert(path.clone(), look(&paths.at(path))?);
    }
    look_at_secrets(paths, &mut have);
    have.exposed = modes::exposed(paths)?;
    have.renew = renewal::due(paths, names)?.filter(|_| renewal::can_sign(paths));
    have.qemu_key = qemu_has(paths)?;
    have.secure_access = paths.at(SECURE_ACCESS).exists();
    have.gluster_serves = gluster_serves(paths);
    have.glusterd_without_tls = want.gluster && glusterd_without_tls(paths)?;
    Ok(have)
}

fn look_at_secrets(paths: &Paths, have: &mut Have) {
    for name in SECRETS {
        let copies = [paths.secret(name), paths.clear(name)].map(|path| secrets::state(&path, name));
        let sound = copies.map(|state| state == Some(true));
        if sound[0] {
            have.open.insert(name.into());
        }
        if sound[1] {
            have.clear.insert(name.into());
        }
        if copies.contains(&Some(false)) && sound == [false, false] && paths.sealed(name).exists() {
            have.unseal.insert(name.into());
        }
    }
}

/// QEMU's copy is there and equal, and nobody else reads it.
fn qemu_has(paths: &Paths) -> Result<bool> {
    let (directory, copy) = (paths.at(QEMU), paths.at(QEMU).join(NODE_KEY));
    let shut = |path: &Path| fs::symlink_metadata(path).is_ok_and(|data| data.permissions().mode() % 8 == 0);
    Ok(match (secrets::read(paths, NODE_KEY)?, fs::read(&copy)) {
        (Some(key), Ok(bytes)) => *key == *zeroize::Zeroizing::new(bytes) && shut(&directory) && shut(&copy),
        _ => false,
    })
}

fn look(path: &Path) -> Result<At> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(At::Nothing),
        Err(error) => return Err(error).with_context(|| format!("looking at {}", path.display())),
    };
    if metadata.is_symlink() {
        let target = fs::read_link(path).with_context(|| format!("looking at {}", path.display()))?;
        return Ok(At::Link(target.to_string_lossy().into_owned()));
    }
    if metadata.is_file() && metadata.len() < 1024 * 1024 {
        return Ok(fs::read_to_string(path).map_or(At::Other, At::File));
    }
    Ok(At::Other)
}

/// Somebody depends on this glusterd: it has peers or volumes.
fn gluster_serves(paths: &Paths) -> bool {
    let some = |path: &str| fs::read_dir(paths.at(path)).is_ok_and(|mut entries| entries.next().is_some());
    some("/var/lib/glusterd/peers") || some("/var/lib/glusterd/vols")
}

/// glusterd runs, and has since before its TLS switch existed.
fn glusterd_without_tls(paths: &Paths) -> Result<bool> {
    let Some(systemd) = Systemd::of(paths)? else { return Ok(false) };
    let Some(since) = systemd.active_since("glusterd.service")? else { return Ok(false) };
    let switched = fs::metadata(paths.at(SECURE_ACCESS)).and_then(|metadata| metadata.modified());
    let Ok(switched) = switched else { return Ok(true) };
    let switched = switched.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_micros();
    Ok(u128::from(since) < switched)
}

/// Carries out one action.
pub fn perform(paths: &Paths, cluster_file: &Path, names: &Names, action: &Action) -> Result<()> {
    match action {
        Action::Open { secret } => {
            let bytes =
                zeroize::Zeroizing::new(fs::read(paths.clear(secret)).context("reading a clear secret")?);
            secrets::open(paths, secret, &bytes).map(drop)
        }
        Action::Seal { secret } => {
            let bytes =
                zeroize::Zeroizing::new(fs::read(paths.clear(secret)).context("reading a clear secret")?);
            secrets::seal(paths, cluster_file, secret, &bytes)
        }
        Action::Unseal { secret } => siblings::unseal(paths, cluster_file, &[secret]),
        Action::Private { path, .. } => modes::close(&paths.at(path)),
        Action::Renew { .. } => member::renew(paths, names),
        Action::Link { path, target } => link(&paths.at(path), target),
        Action::Write { path, content } => {
            let path = paths.at(path);
            if let Some(directory) = path.parent() {
                files::make_public(directory)?;
            }
            files::put_public(&path, content).map(drop)
        }
        Action::QemuKey { group } => qemu_key(paths, group),
        Action::SecureAccess => {
            files::make_public(&paths.at("/var/lib/glusterd"))?;
            fs::File::create(paths.at(SECURE_ACCESS)).map(drop).context("creating Gluster's TLS switch")
        }
        Action::RestartGlusterd => match Systemd::of(paths)? {
            Some(systemd) => systemd.try_restart("glusterd.service"),
            None => Ok(()),
        },
        Action::ReloadSshd => reload_sshd(paths),
    }
}

/// Replaces a link by renaming a new one over it, so that no reader finds nothing.
fn link(path: &Path, target: &str) -> Result<()> {
    let doing = || format!("linking {}", path.display());
    let directory = path.parent().with_context(doing)?;
    files::make_public(directory)?;
    let name = path.file_name().with_context(doing)?.to_string_lossy();
    let temporary = directory.join(format!(".{name}.{}", std::process::id()));
    let _ = fs::remove_file(&temporary);
    symlink(target, &temporary).with_context(doing)?;
    fs::rename(&temporary, path).with_context(doing)
}

/// QEMU runs as its own user, cannot enter the secrets' directory, and opens its key itself when a migration
/// starts: it gets a copy in a directory that its group, and no other, can enter.
fn qemu_key(paths: &Paths, group: &str) -> Result<()> {
    secrets::needed(paths, NODE_KEY)?;
    let key = secrets::read(paths, NODE_KEY)?.unwrap_or_default();
    let directory = paths.at(QEMU);
    let gid = Group::from_name(group)
        .with_context(|| format!("looking up the group {group}"))?
        .with_context(|| format!("there is no group {group}"))?
        .gid
        .as_raw();
    files::make_mode(&directory, 0o750)?;
    chown(&directory, None, Some(gid)).context("giving QEMU's directory to its group")?;
    let temporary = directory.join(format!(".{NODE_KEY}.{}", std::process::id()));
    let _ = fs::remove_file(&temporary);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .context("writing QEMU's key")?;
    std::io::Write::write_all(&mut file, &key).context("writing QEMU's key")?;
    std::os::unix::fs::fchown(&file, None, Some(gid)).context("giving QEMU's key to its group")?;
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o640))
        .context("writing QEMU's key")?;
    fs::rename(&temporary, directory.join(NODE_KEY)).context("writing QEMU's key")
}

fn reload_sshd(paths: &Paths) -> Result<()> {
    let Some(systemd) = Systemd::of(paths)? else { return Ok(()) };
    for unit in ["ssh.service", "sshd.service"] {
        if systemd.knows(unit) {
            return systemd.try_reload(unit);
        }
    }
    Ok(())
}
