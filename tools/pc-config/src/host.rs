//! The machine: the files that a put replaces, and systemd.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{AccessFlags, access};
use pc_cli::{Common, log, refused, try_again};
use tempfile::NamedTempFile;

use crate::generation::read_kept;
use crate::plan::{Have, Place, Write};

const ANSWER: Duration = Duration::from_secs(90);

/// The machine below a root.
pub struct Host<'a> {
    common: &'a Common,
}

impl<'a> Host<'a> {
    /// The machine that the flags name.
    pub fn new(common: &'a Common) -> Host<'a> {
        Host { common }
    }

    fn read(&self, place: Place) -> Result<Option<String>> {
        let path = self.common.under_root(place.path());
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(anyhow!(error).context(format!("reading {}", path.display()))),
        }
    }

    /// What is there now. A record that cannot be read counts as none, and is told.
    pub fn have(&self) -> Result<Have> {
        let generation = self.read(Place::Generation)?;
        let kept = generation.as_deref().and_then(|text| match read_kept(text) {
            Ok(kept) => Some(kept),
            Err(error) => {
                log::warning(format_args!("ignoring {}: {error:#}", Place::Generation));
                None
            }
        });
        Ok(Have {
            kept,
            generation,
            applied: self.read(Place::Applied)?,
            file: self.read(Place::File)?,
            hosts: self.read(Place::Hosts)?.unwrap_or_default(),
        })
    }

    /// Refuses where the file comes from elsewhere, or nothing can be written.
    pub fn ready(&self) -> Result<()> {
        if self.common.under_root("/etc/NIXOS").exists() {
            return Err(refused(
                "on NixOS the file comes out of the system's configuration\n  change services.personal-cluster.settings and run: nixos-rebuild switch",
            ));
        }
        for place in [Place::File, Place::Applied, Place::Hosts] {
            let path = self.common.under_root(place.path());
            let existing = path.ancestors().skip(1).find(|path| path.exists()).unwrap_or(Path::new("/"));
            match access(existing, AccessFlags::W_OK) {
                Ok(()) => {}
                Err(nix::Error::EACCES | nix::Error::EPERM) => {
                    return Err(refused(format!(
                        "writing below {}: permission denied\n  run this as root",
                        existing.display()
                    )));
                }
                Err(error) => {
                    let said = error.desc().to_lowercase();
                    return Err(anyhow!(
                        "writing below {}: {said}\n  nothing was changed",
                        existing.display()
                    ));
                }
            }
        }
        Ok(())
    }

    /// One put at a time: the lock goes with the process.
    pub fn lock(&self) -> Result<Flock<File>> {
        let directory = self.directory(Place::Applied)?;
        let file = File::open(&directory).with_context(|| format!("opening {}", directory.display()))?;
        Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|_| try_again("another pc-config put is at work\n  repeat in a moment"))
    }

    fn directory(&self, place: Place) -> Result<std::path::PathBuf> {
        let path = self.common.under_root(place.path());
        let directory = path.parent().unwrap_or(Path::new("/")).to_path_buf();
        fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
        Ok(directory)
    }

    /// Replaces all files or, when one cannot be written, none: every new content is on the disk before the
    /// first rename. `settle` runs before the last one, which records that the work is done.
    pub fn replace(&self, writes: &[Write], settle: impl FnOnce() -> Result<()>) -> Result<()> {
        let mut staged = Vec::new();
        for write in writes {
            staged.push((write.place, self.stage(write)?));
        }
        let record = match staged.last() {
            Some((Place::Generation, _)) => staged.pop(),
            _ => None,
        };
        for (place, temporary) in staged {
            self.persist(place, temporary)?;
        }
        settle()?;
        match record {
            Some((place, temporary)) => self.persist(place, temporary),
            None => Ok(()),
        }
    }

    fn stage(&self, write: &Write) -> Result<NamedTempFile> {
        let directory = self.directory(write.place)?;
        let staging = || format!("writing {} (nothing was changed)", write.place);
        let mut file = tempfile::Builder::new()
            .prefix(".pc-config.")
            .permissions(fs::Permissions::from_mode(0o644))
            .tempfile_in(&directory)
            .with_context(staging)?;
        // The umask took its share of the mode above.
        file.as_file().set_permissions(fs::Permissions::from_mode(0o644)).with_context(staging)?;
        file.write_all(write.content.as_bytes())
            .and_then(|()| file.as_file().sync_all())
            .with_context(staging)?;
        Ok(file)
    }

    fn persist(&self, place: Place, temporary: NamedTempFile) -> Result<()> {
        let path = self.common.under_root(place.path());
        temporary
            .persist(&path)
            .map_err(|error| error.error)
            .with_context(|| format!("replacing {}", path.display()))?;
        let directory = path.parent().unwrap_or(Path::new("/"));
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .with_context(|| format!("replacing {place}"))?;
        log::info(format_args!("{place}: replaced"));
        Ok(())
    }

    /// Lets systemd run the generator on the new file. A machine without systemd, or a directory that only
    /// stands for a machine, has nothing to reload.
    pub fn reload_systemd(&self) -> Result<()> {
        if self.common.root != Path::new("/") || !Path::new("/run/systemd/system").exists() {
            log::debug("no systemd to reload here");
            return Ok(());
        }
        let manager = zbus::blocking::connection::Builder::system()
            .map(|builder| builder.method_timeout(ANSWER))
            .and_then(zbus::blocking::connection::Builder::build)
            .context("connecting to systemd")?;
        manager
            .call_method(
                Some("org.freedesktop.systemd1"),
                "/org/freedesktop/systemd1",
                Some("org.freedesktop.systemd1.Manager"),
                "Reload",
                &(),
            )
            .map(drop)
            .context("asking systemd to reload")
    }
}
