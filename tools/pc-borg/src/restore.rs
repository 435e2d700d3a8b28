//! `restore`: a VM's disk out of an archive, compared with its digests while it is written.

use std::fmt;
use std::fs::{self, File};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use cluster::{Bytes, Name};
use pc_cli::{log, refused, try_again};
use pc_run::Cost;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::archive::{self, Archive, rfc3339};
use crate::borg::Borg;
use crate::naming;
use crate::queue::Kind;
use crate::scratch::Scratch;
use crate::session::{self, Session};
use crate::site::{Heal, Site, now, tell};
use crate::sparse::{Writer, digests};
use crate::stage::GuestFiles;
use crate::want::{Policy, unknown};

/// How `restore` is asked.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The VM
    pub vm: String,
    /// The newest archive that is not later: 2026-11-21, "2026-11-21 18:00", 2026-11-21T18:00:00Z (UTC)
    #[arg(long, value_name = "TIME", value_parser = archive::parse_at)]
    pub at: Option<OffsetDateTime>,
    /// Restore it as this VM
    #[arg(long = "as", value_name = "NAME")]
    pub name: Option<String>,
    /// To this volume
    #[arg(long = "to", value_name = "VOLUME")]
    pub volume: Option<String>,
    /// Out of this policy's repository (by default the one with the newest archive)
    #[arg(long, value_name = "POLICY")]
    pub policy: Option<String>,
    #[command(flatten)]
    pub lock: session::LockOptions,
}

/// `pc.borg.restore/1`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// `pc.borg.restore/1`.
    pub schema: &'static str,
    /// The VM whose archive it is.
    pub vm: String,
    /// The VM that it is now.
    pub restored_as: String,
    /// Where it came from.
    pub policy: String,
    /// The archive.
    pub archive: String,
    /// When its data was taken, RFC 3339 UTC.
    pub taken_at: String,
    /// The disk.
    pub disk: String,
    /// Its size.
    pub disk_bytes: u64,
    /// What was written of it: the rest is zero.
    pub written_bytes: u64,
    /// The digest over its digests, as in the archive's manifest; every segment was compared with its own.
    pub digests_sha256: String,
    /// What it cost.
    #[serde(flatten)]
    pub cost: Cost,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} as of {}: {} of {} written to {}, every segment as it was backed up",
            self.vm,
            self.taken_at,
            Bytes(self.written_bytes),
            Bytes(self.disk_bytes),
            self.disk
        )
    }
}

/// pc.segments.manifest/1.
#[derive(Debug, Deserialize)]
struct Manifest {
    schema: String,
    disks: Vec<ManifestDisk>,
}

/// One disk of it.
#[derive(Debug, Deserialize)]
pub struct ManifestDisk {
    name: String,
    /// As the guest sees it.
    pub size_bytes: u64,
    segment_bytes: u64,
    digests: String,
    /// Of the list of digests of its segments.
    pub digests_sha256: String,
}

/// The disk that every VM of ours has.
const DISK: &str = "vda";

/// Restores; nothing that exists is written to.
pub fn restore(site: &Site, options: &Options) -> Result<Answer> {
    let started = Instant::now();
    let name =
        Name::try_from(options.name.clone().unwrap_or_else(|| options.vm.clone())).map_err(|fault| {
            refused(format!("vm {:?}: {fault}", options.name.as_deref().unwrap_or(&options.vm)))
        })?;
    let volume = volume(site, options, &name)?;
    site.require_volumes([&volume], Heal::Ignored)?;
    let files = GuestFiles::of(site, &name, &volume);
    let disk = files.disk();
    let is_there = || {
        refused(format!(
            "{} is there, and is not written over\n  pc-borg restore {} --as {name}-restored",
            disk.display(),
            options.vm
        ))
    };
    if disk.symlink_metadata().is_ok() {
        return Err(is_there());
    }
    files.require_whole().with_context(|| format!("vm {name}"))?;
    let policy = choose_policy(site, options)?;
    let session = Session::open(site, policy, "restore", &options.lock)?;
    let guard = session.guard(site);
    let borg = session.borg(site, policy, &guard);
    let archives = borg.list()?;
    let chosen = archive::choose(&archives, &options.vm, options.at, now())?;
    let (manifest, digests) = contents(&borg, chosen)?;
    files.make()?;
    let incomplete = files.directory.join("disk.img.restoring");
    let file = claim(&incomplete)?;
    // Another restore may have had it, and ended well.
    if disk.symlink_metadata().is_ok() {
        let _ = fs::remove_file(&incomplete);
        return Err(is_there());
    }
    // Or an instant has begun.
    if let Err(error) = files.require_whole() {
        let _ = fs::remove_file(&incomplete);
        return Err(error.context(format!("vm {name}")));
    }
    let written = file.set_len(0).context("emptying what a restore that was cut off has left");
    let written = written.and_then(|()| read(&borg, chosen, &manifest, digests, Some(&file)));
    let written = written.and_then(|written| {
        finish(&borg, chosen, &files, (&incomplete, &file), site, &name).map(|()| written)
    });
    if written.is_err() && is_at(&file, &incomplete) {
        // Half a disk is nobody's.
        let _ = fs::remove_file(&incomplete);
    }
    Ok(Answer {
        schema: "pc.borg.restore/1",
        vm: options.vm.clone(),
        restored_as: name.to_string(),
        policy: policy.name.to_string(),
        archive: chosen.name.clone(),
        taken_at: rfc3339(chosen.taken_at)?,
        disk: disk.display().to_string(),
        disk_bytes: manifest.size_bytes,
        written_bytes: written?,
        digests_sha256: manifest.digests_sha256,
        cost: Cost::since(started),
    })
}

fn volume(site: &Site, options: &Options, name: &Name) -> Result<Name> {
    let cluster = site.cluster();
    if let Some(wanted) = &options.volume {
        return match cluster.volumes.get_key_value(wanted.as_str()) {
            Some((volume, _)) => Ok(volume.clone()),
            None => Err(unknown("volume", wanted, cluster.volumes.keys())),
        };
    }
    let vm = cluster.vms.get(name).or_else(|| cluster.vms.get(options.vm.as_str()));
    vm.map(|vm| vm.volume.clone()).ok_or_else(|| {
        let first = cluster.volumes.keys().next().map_or("vms", Name::as_str);
        refused(format!(
            "the file has neither vm {name} nor vm {}: which volume?\n  pc-borg restore {} --to {first}",
            options.vm, options.vm
        ))
    })
}

/// The policy that was named, else the one of the VM with the newest archive; of a VM that left the file, any.
pub fn choose_policy<'s, 'a>(site: &'s Site<'a>, options: &Options) -> Result<&'s Policy<'a>> {
    policy_of(site, &options.vm, options.policy.as_deref())
}

/// As [`choose_policy`], for other verbs.
pub fn policy_of<'s, 'a>(site: &'s Site<'a>, vm: &str, policy: Option<&str>) -> Result<&'s Policy<'a>> {
    if let Some(policy) = policy {
        return site.policy(policy);
    }
    let own = site.cluster().vms.get(vm).map(|vm| vm.backup.as_slice()).unwrap_or_default();
    let mut candidates: Vec<&Policy> =
        site.policies.iter().filter(|policy| own.is_empty() || own.contains(policy.name)).collect();
    // A record that cannot be read is no reason not to restore.
    let newest = |policy: &&Policy| {
        let record = site.records(policy).vm(vm).ok();
        record.and_then(|record| record.last).map(|last| last.taken_at)
    };
    candidates.sort_by_key(newest);
    candidates.pop().ok_or_else(|| refused("the file has no [backup.NAME]"))
}

/// What the archive says of its disk.
pub fn contents(borg: &Borg, archive: &Archive) -> Result<(ManifestDisk, Vec<String>)> {
    let text = borg.extract_file(&archive.name, "disks/manifest.json")?;
    if text.is_empty() {
        bail!(refused(format!("{}: was not made by pc-borg\n  see docs/restore-by-hand.md", archive.name)));
    }
    let manifest: Manifest =
        serde_json::from_slice(&text).with_context(|| format!("{}: disks/manifest.json", archive.name))?;
    if manifest.schema != "pc.segments.manifest/1" {
        bail!("{}: its manifest is {:?}, not pc.segments.manifest/1", archive.name, manifest.schema);
    }
    let disk = manifest.disks.into_iter().find(|disk| disk.name == DISK);
    let disk = disk.with_context(|| format!("{}: holds no disk {DISK}", archive.name))?;
    let listed = borg.extract_file(&archive.name, &format!("disks/{}", disk.digests))?;
    let digest = {
        use sha2::Digest;
        format!("{:x}", sha2::Sha256::digest(&listed))
    };
    if digest != disk.digests_sha256 {
        bail!("{}: disks/{} is not what the manifest says", archive.name, disk.digests);
    }
    let listed =
        String::from_utf8(listed).with_context(|| format!("{}: disks/{}", archive.name, disk.digests))?;
    let digests = digests(&listed, DISK)?;
    Ok((disk, digests))
}

/// A copy of a VM's disk that somebody looks at.
pub struct Wanted<'a> {
    /// The VM.
    pub vm: &'a Name,
    /// Out of its repository.
    pub policy: &'a Policy<'a>,
    /// The newest archive that is not later.
    pub at: Option<OffsetDateTime>,
    /// Small files of the VM that lie beside it then, those that there are.
    pub small: &'a [&'a str],
    /// Who has the repository meanwhile.
    pub verb: &'a str,
    /// How long to wait for it.
    pub lock: &'a session::LockOptions,
}

/// What a copy is of.
pub struct Copied {
    /// The archive.
    pub archive: Archive,
    /// The disk, as the archive has it: every segment was compared with its digest.
    pub disk: ManifestDisk,
    /// What was written of it: the rest is zero.
    pub written_bytes: u64,
}

/// Restores a copy. The repository is ours until everything is read, and not while the copy is looked at.
pub fn copy(site: &Site, wanted: &Wanted, scratch: &Scratch) -> Result<Copied> {
    let Wanted { vm, policy, .. } = *wanted;
    let session = Session::open(site, policy, wanted.verb, wanted.lock)?;
    let guard = session.guard(site);
    let may_go_on = || {
        guard()?;
        scratch.require_room()
    };
    let borg = session.borg(site, policy, &may_go_on);
    let archives = borg.list()?;
    let archive = archive::choose(&archives, vm.as_str(), wanted.at, now())?;
    tell(&format!("{vm}: restoring a copy of {}", archive.name));
    let (disk, digests) = contents(&borg, archive)?;
    let file = scratch.new_disk()?;
    let written_bytes = read(&borg, archive, &disk, digests, Some(&file))?;
    for name in wanted.small {
        let content = borg.extract_file(&archive.name, &format!("vm/{name}"))?;
        if !content.is_empty() {
            pc_cli::write_atomic(&scratch.at(name), &content, 0o600)?;
        }
    }
    Ok(Copied { archive: archive.clone(), disk, written_bytes })
}

/// The half-written disk, ours alone while it is open: whoever else restores to the same place, out of whichever
/// repository and from whichever node, has it locked.
pub fn claim(path: &Path) -> Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let failed = || format!("making {}", path.display());
    for _ in 0..3 {
        let file = fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
        let file = file.with_context(failed)?;
        if !Kind::Posix.now(&file).with_context(failed)? {
            break;
        }
        // Whoever had it may have given it its name, or removed it, since it was opened here.
        if is_at(&file, path) {
            return Ok(file);
        }
    }
    Err(try_again(format!("{}: another restore is at work", path.display())))
}

/// Whether the file still has that name.
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let of = |meta: fs::Metadata| (meta.dev(), meta.ino());
    let (now, mine) = (fs::symlink_metadata(path).map(of), file.metadata().map(of));
    matches!((now, mine), (Ok(now), Ok(mine)) if now == mine)
}

/// Reads the disk out of the archive, compares every segment, and writes it to `file` where there is one; how much of it is
/// not zero.
pub fn read(
    borg: &Borg,
    archive: &Archive,
    disk: &ManifestDisk,
    digests: Vec<String>,
    file: Option<&File>,
) -> Result<u64> {
    let mut writer = Writer::new(file, disk.size_bytes, disk.segment_bytes, digests)
        .with_context(|| archive.name.clone())?;
    let (mut passed, mut told) = (0, Instant::now());
    let mut take = |bytes: &[u8]| {
        passed += bytes.len() as u64;
        if told.elapsed().as_secs() >= 2 {
            told = Instant::now();
            tell(&format!("{}: {} of {}", archive.name, Bytes(passed), Bytes(disk.size_bytes)));
        }
        writer.take(bytes).with_context(|| archive.name.clone())
    };
    borg.extract(&archive.name, &format!("disks/{DISK}"), &mut take)?;
    writer.finish().with_context(|| archive.name.clone())
}

/// The disk gets its name last, when all the rest is there; whoever made one meanwhile keeps it.
fn finish(
    borg: &Borg,
    archive: &Archive,
    files: &GuestFiles,
    (incomplete, file): (&Path, &File),
    site: &Site,
    name: &Name,
) -> Result<()> {
    let nvram = files.directory.join("nvram.fd");
    if !nvram.exists() {
        let content = borg.extract_file(&archive.name, "vm/nvram.fd")?;
        if !content.is_empty() {
            pc_cli::write_atomic(&nvram, &content, 0o600)?;
        }
    }
    if !site.cluster().vms.contains_key(name) {
        let section = borg.extract_file(&archive.name, "vm/cluster.json")?;
        let path = files.directory.join("restored.json");
        pc_cli::write_atomic(&path, &section, 0o600)?;
        log::info(format_args!("the file has no vm {name}: what it said of it lies in {}", path.display()));
    }
    let disk = files.disk();
    if !is_at(file, incomplete) {
        bail!("{}: somebody else has put another file there", incomplete.display());
    }
    naming::name(incomplete, &disk).with_context(|| format!("naming {}", disk.display()))?;
    let directory = fs::File::open(&files.directory).and_then(|directory| directory.sync_all());
    directory.with_context(|| format!("writing {}", files.directory.display()))?;
    log::info(format_args!("{}: restored from {}", disk.display(), archive.name));
    Ok(())
}
