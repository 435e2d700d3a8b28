//! The machine: the files that a put replaces, and systemd.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use cluster::Cluster;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{AccessFlags, access};
use pc_cli::{Common, log, refused, try_again};
use tempfile::NamedTempFile;

use crate::before::told_number;
use crate::generation::read_kept;
use crate::plan::{Have, Place, Write};

const ANSWER: Duration = Duration::from_secs(90);
/// How the names of new contents begin, before they are renamed.
const STAGED: &str = ".pc-config.";
/// Every place there is.
pub const ALL: [Place; 6] =
    [Place::Previous, Place::Edited, Place::File, Place::Applied, Place::Hosts, Place::Generation];
/// What a machine of `NixOS` is told when another file is put there than its configuration has.
pub const ELSEWHERE: &str = "on NixOS the file comes out of the system's configuration\n  change services.personal-cluster.settings and run: nixos-rebuild switch";

/// The machine below a root.
pub struct Host<'a> {
    common: &'a Common,
}

impl<'a> Host<'a> {
    /// The machine that the flags name.
    pub fn new(common: &'a Common) -> Host<'a> {
        Host { common }
    }

    fn read(&self, place: Place) -> Result<Option<Vec<u8>>> {
        let path = self.target(place)?.path;
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(anyhow!(error).context(format!("reading {}", path.display()))),
        }
    }

    /// What is there now. A record that cannot be read counts as none, and is told.
    pub fn have(&self) -> Result<Have> {
        let generation =
            self.read(Place::Generation)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let kept = generation.as_deref().and_then(|text| match read_kept(text) {
            Ok(kept) => Some(kept),
            Err(error) => {
                log::warning(format_args!("ignoring {}: {error:#}", Place::Generation));
                None
            }
        });
        let status = self.common.under_root("/run/personal-cluster/config.json");
        Ok(Have {
            kept,
            generation,
            told: fs::read_to_string(status).ok().and_then(|status| told_number(&status)),
            applied: self.read(Place::Applied)?,
            file: self.read(Place::File)?,
            hosts: self.read(Place::Hosts)?.unwrap_or_default(),
        })
    }

    /// On `NixOS`, the file that the running generation of the system was built with: no other can be in force.
    pub fn declared(&self) -> Result<Option<Cluster>> {
        if !self.common.under_root("/etc/NIXOS").exists() {
            return Ok(None);
        }
        let path = self.common.under_root(pc_cli::CLUSTER_FILE).with_extension("json");
        match cluster::read_text(&path) {
            Ok(text) => cluster::parse(&path.display().to_string(), &text).map_err(refused).map(Some),
            Err(_) => Err(refused(ELSEWHERE)),
        }
    }

    /// Refuses where something of `places` cannot be written.
    pub fn ready(&self, places: &[Place]) -> Result<()> {
        for place in places.iter().copied() {
            let target = self.target(place)?;
            let existing =
                target.path.ancestors().skip(1).find(|path| path.exists()).unwrap_or(Path::new("/"));
            writable(existing, "below ")?;
            match (target.in_place, place) {
                (true, Place::Hosts) => writable(&target.path, "")?,
                (true, _) => {
                    return Err(anyhow!(
                        "{place}: is a mount point, which no rename can replace\n  mount its directory instead; nothing was changed"
                    ));
                }
                (false, _) => {}
            }
        }
        Ok(())
    }

    /// The file that a place leads to.
    fn target(&self, place: Place) -> Result<Target> {
        let path = followed(&self.common.root, &self.common.under_root(place.path()))?;
        let in_place = is_mount_point(&path);
        Ok(Target { place, path, in_place })
    }

    /// One put at a time: the lock goes with the process.
    pub fn lock(&self) -> Result<Flock<File>> {
        let directory = self.directory(Place::Applied)?;
        let file = File::open(&directory).with_context(|| format!("opening {}", directory.display()))?;
        Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|_| try_again("another pc-config put is at work\n  repeat in a moment"))
    }

    fn directory(&self, place: Place) -> Result<PathBuf> {
        let path = self.common.under_root(place.path());
        let directory = path.parent().unwrap_or(Path::new("/")).to_path_buf();
        fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
        Ok(directory)
    }

    /// Replaces all files or, when one cannot be written, none: every new content is on the disk before the
    /// first rename. `settle` runs before the last one, which records that the work is done. What fails after
    /// the first rename all the same names what was replaced.
    pub fn replace(&self, writes: &[Write], settle: impl FnOnce() -> Result<()>) -> Result<()> {
        let mut staged = Vec::new();
        for write in writes {
            staged.push(self.stage(write).map_err(|error| told(&error, &[]))?);
        }
        let record = match staged.last() {
            Some((target, _)) if target.place == Place::Generation => staged.pop(),
            _ => None,
        };
        let mut replaced = Vec::new();
        for (target, temporary) in staged {
            target.take(temporary).map_err(|error| told(&error, &replaced))?;
            replaced.push(target.place);
        }
        settle().map_err(|error| told(&error, &replaced))?;
        match record {
            Some((target, temporary)) => target.take(temporary).map_err(|error| told(&error, &replaced)),
            None => Ok(()),
        }
    }

    /// Whether all of it finds room, and drops it again. A directory that is not there yet stays so.
    pub fn rehearse(&self, writes: &[Write]) -> Result<()> {
        let exists =
            |write: &&Write| self.common.under_root(write.place.path()).parent().is_some_and(Path::is_dir);
        let staged: Result<Vec<_>> = writes.iter().filter(exists).map(|write| self.stage(write)).collect();
        staged.map(drop).map_err(|error| told(&error, &[]))
    }

    /// Whether a put that was killed had this as its file: its record still stands beside the one in force.
    pub fn cut_short(&self, file: &[u8]) -> bool {
        let records =
            self.staged(Place::Generation).into_iter().filter_map(|path| fs::read_to_string(path).ok());
        records.filter_map(|text| read_kept(&text).ok()).any(|(kept, _)| kept.file.as_bytes() == file)
    }

    /// Removes what puts that were killed left behind; the caller holds the lock, and everything is in its place.
    /// A `--check` that runs meanwhile does not miss its own.
    pub fn sweep(&self) {
        for path in ALL.into_iter().flat_map(|place| self.staged(place)) {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    log::warning(format_args!("removing {}: {error}", path.display()));
                }
                _ => log::debug(format_args!("{}: removed", path.display())),
            }
        }
    }

    /// New contents beside a place.
    fn staged(&self, place: Place) -> Vec<PathBuf> {
        let Ok(target) = self.target(place) else { return Vec::new() };
        let entries = target.path.parent().and_then(|directory| fs::read_dir(directory).ok());
        let ours = |entry: &fs::DirEntry| {
            let named = entry.file_name().to_str().is_some_and(|name| name.starts_with(STAGED));
            named && entry.file_type().is_ok_and(|kind| kind.is_file())
        };
        entries.into_iter().flatten().flatten().filter(ours).map(|entry| entry.path()).collect()
    }

    fn stage(&self, write: &Write) -> Result<(Target, NamedTempFile)> {
        let staging = || format!("writing {}", write.place);
        self.directory(write.place)?;
        let target = self.target(write.place)?;
        let mut file = tempfile::Builder::new()
            .prefix(STAGED)
            .permissions(fs::Permissions::from_mode(0o644))
            .tempfile_in(target.path.parent().unwrap_or(Path::new("/")))
            .with_context(staging)?;
        // The umask took its share of the mode above.
        file.as_file().set_permissions(fs::Permissions::from_mode(0o644)).with_context(staging)?;
        file.write_all(&write.content).and_then(|()| file.as_file().sync_all()).with_context(staging)?;
        Ok((target, file))
    }

    /// Lets systemd run the generator on the new file. A machine without systemd, or a directory that only
    /// stands for a machine, has nothing to reload.
    pub fn reload_systemd(&self) -> Result<()> {
        if self.has_systemd() { systemd_jobs::reload(ANSWER) } else { Ok(()) }
    }

    /// Lets units that read the file once read it again; nobody waits for them. The file is in force whatever comes of it.
    pub fn restart(&self, units: &[&str], why: &str) {
        if !self.has_systemd() {
            return;
        }
        match systemd_jobs::request_restart(units, ANSWER) {
            Ok(restarted) if restarted.is_empty() => {}
            Ok(restarted) => log::info(format_args!("{}: restarting: {why}", restarted.join(", "))),
            Err(error) => {
                log::warning(format_args!("{why}: {error:#}\n  systemctl restart {}", units.join(" ")));
            }
        }
    }

    fn has_systemd(&self) -> bool {
        let has = self.common.root == Path::new("/") && Path::new("/run/systemd/system").exists();
        if !has {
            log::debug("no systemd here");
        }
        has
    }
}

/// A file that is to be replaced, links followed.
struct Target {
    place: Place,
    path: PathBuf,
    /// It is a mount point, as /etc/hosts is in containers: rename(2) says EBUSY.
    in_place: bool,
}

impl Target {
    /// Puts the new content there.
    fn take(&self, temporary: NamedTempFile) -> Result<()> {
        let doing = || format!("replacing {}", self.path.display());
        if self.in_place {
            return self.overwrite(&temporary).with_context(doing);
        }
        temporary.persist(&self.path).map_err(|error| error.error).with_context(doing)?;
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        File::open(directory).and_then(|directory| directory.sync_all()).with_context(doing)?;
        log::info(format_args!("{}: replaced", self.place));
        Ok(())
    }

    /// New bytes over the old ones in one write, then what is left of the old ones cut off: no reader finds it
    /// empty. Only a power cut or SIGKILL can come between, and then the whole new content still stands beside
    /// it (`.pc-config.*`), on the disk since it was staged: it goes when `temporary` is dropped.
    fn overwrite(&self, temporary: &NamedTempFile) -> std::io::Result<()> {
        let content = fs::read(temporary.path())?;
        let mut file = fs::OpenOptions::new().write(true).open(&self.path)?;
        file.write_all(&content)?;
        file.set_len(content.len() as u64)?;
        file.sync_all()?;
        log::info(format_args!("{}: rewritten in place, since it is a mount point", self.place));
        Ok(())
    }
}

/// The error with what it left behind.
fn told(error: &anyhow::Error, replaced: &[Place]) -> anyhow::Error {
    if replaced.is_empty() {
        return anyhow!("{error:#} (nothing was changed)");
    }
    let replaced: Vec<&str> = replaced.iter().map(|place| place.path()).collect();
    let replaced = replaced.join(", ");
    anyhow!("{error:#}\n  already replaced: {replaced}; repeat this when it is mended: it goes on from there")
}

fn writable(path: &Path, how: &str) -> Result<()> {
    match access(path, AccessFlags::W_OK) {
        Ok(()) => Ok(()),
        Err(nix::Error::EACCES | nix::Error::EPERM) => {
            let command = pc_cli::as_root();
            Err(refused(format!("writing {how}{}: permission denied\n  {command}", path.display())))
        }
        Err(error) => {
            let said = error.desc().to_lowercase();
            Err(anyhow!("writing {how}{}: {said}\n  nothing was changed", path.display()))
        }
    }
}

/// Where a path leads when its last part is a link: that file is replaced, and the link stays. An absolute link
/// begins at `root`.
fn followed(root: &Path, path: &Path) -> Result<PathBuf> {
    let mut at = path.to_path_buf();
    // As many as the kernel follows (path_resolution(7)).
    for _ in 0..40 {
        let Ok(link) = fs::read_link(&at) else { return Ok(at) };
        at = match link.strip_prefix("/") {
            Ok(absolute) => root.join(absolute),
            Err(_) => at.parent().unwrap_or(root).join(link),
        };
    }
    Err(anyhow!("following {}: a link that leads to itself", path.display()))
}

fn is_mount_point(path: &Path) -> bool {
    use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
    // What cannot be looked at, or is not there, is no mount point.
    statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty())
        .is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_half_way_names_what_was_replaced() {
        let error = anyhow!("asking systemd to reload");
        assert_eq!(told(&error, &[]).to_string(), "asking systemd to reload (nothing was changed)");
        let half_way = told(&error, &[Place::File, Place::Applied]).to_string();
        assert_eq!(
            half_way,
            "asking systemd to reload\n  already replaced: /etc/personal-cluster/cluster.toml, \
             /var/lib/personal-cluster/applied.json; repeat this when it is mended: it goes on from there"
        );
    }
}
