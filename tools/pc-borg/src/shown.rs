//! An archive's disk as a file that QEMU reads, while somebody needs it: `borg mount`, and pc-segments, which puts the segments
//! together and compares each with its digest. Both end with us, whatever ends us, and not before: a guest reads through them until
//! it is stopped, and so they hear none of the signals that a session or a unit gets as a whole.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pc_cli::log;
use zeroize::Zeroizing;

use crate::borg::Borg;
use crate::child::{bound_to_us, how, spawn_deaf};
use crate::site::Site;
use crate::stage::unmount;

/// The same path in every run, for it stands in the overlay. QEMU passes through.
const PLACE: &str = "/run/personal-cluster/instant";
/// borg reads the list of what is in the archive first.
const READY: Duration = Duration::from_secs(600);
const LEAVE: Duration = Duration::from_secs(30);
const BORG: &str = "borg";
/// What ends them, from us alone.
const END: (Signal, &str) = (Signal::SIGINT, "INT");
/// The disk that every VM of ours has.
const DISK: &str = "vda";

/// A disk that is shown, until this is dropped.
#[derive(Debug)]
pub struct Shown {
    /// Ended in this order: who reads from the other goes first.
    servers: Vec<Server>,
    directory: PathBuf,
    archive: PathBuf,
    disk: PathBuf,
}

#[derive(Debug)]
struct Server {
    name: &'static str,
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
}

impl Shown {
    /// Shows it.
    pub fn open(site: &Site, borg: &Borg, archive: &str, vm: &str) -> Result<Shown> {
        let mut shown = Shown::of(site, vm);
        shown.clear(site)?;
        for directory in [&shown.directory, &shown.archive, &shown.disk] {
            let made = fs::DirBuilder::new().recursive(true).mode(0o711).create(directory);
            made.with_context(|| format!("making {}", directory.display()))?;
        }
        // Whatever the umask says; the archive itself is nobody's but root's.
        for (directory, mode) in
            [(site.at(PLACE), 0o711), (shown.directory.clone(), 0o711), (shown.archive.clone(), 0o700)]
        {
            fs::set_permissions(&directory, fs::Permissions::from_mode(mode))
                .with_context(|| format!("letting QEMU into {}", directory.display()))?;
        }
        // Others pass through to what they may read there: a unit with a umask may have made it.
        let above = site.at("/run/personal-cluster");
        let passed = || -> std::io::Result<()> {
            let mode = fs::metadata(&above)?.permissions().mode();
            fs::set_permissions(&above, fs::Permissions::from_mode(mode | 0o011))
        };
        passed().with_context(|| format!("letting QEMU into {}", above.display()))?;
        let command = borg.mount_command(archive, &shown.archive, END.1);
        let manifest = shown.archive.join("disks/manifest.json");
        shown.start(BORG, command, Some(&borg.passphrase), borg, &|| manifest.exists())?;
        let mut command = bound_to_us("pc-segments", END.1);
        command.arg("--join").arg(shown.archive.join("disks")).arg(&shown.disk);
        let file = shown.file();
        shown.start("pc-segments", command, None, borg, &|| file.exists())?;
        Ok(shown)
    }

    fn of(site: &Site, vm: &str) -> Shown {
        let directory = site.at(&format!("{PLACE}/{vm}"));
        let (archive, disk) = (directory.join("archive"), directory.join("disk"));
        Shown { servers: Vec::new(), directory, archive, disk }
    }

    /// The disk.
    pub fn file(&self) -> PathBuf {
        self.disk.join(DISK)
    }

    /// A file for notes of this run.
    pub fn note(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Takes away what a run that was killed has left of it.
    pub fn recover(site: &Site, vm: &str) -> Result<()> {
        // Dropped at once: nothing of it is served.
        Shown::of(site, vm).clear(site)
    }

    /// What a run that was killed has left mounted.
    fn clear(&self, site: &Site) -> Result<()> {
        let mounts = site.mounts()?;
        for path in [&self.disk, &self.archive] {
            let mount = path.display().to_string();
            if mounts.is_received(&mount) {
                log::debug(format_args!("{mount}: is mounted elsewhere: left to who can unmount it"));
            } else if mounts.has(&mount) {
                unmount(path)?;
                log::info(format_args!("{}: unmounted, after a run that was cut off", path.display()));
            }
        }
        Ok(())
    }

    fn start(
        &mut self,
        name: &'static str,
        mut command: Command,
        secret: Option<&Zeroizing<Vec<u8>>>,
        borg: &Borg,
        is_ready: &dyn Fn() -> bool,
    ) -> Result<()> {
        command.env("LC_ALL", "C.UTF-8").env("TZ", "UTC").stdout(Stdio::null()).stderr(Stdio::piped());
        command.stdin(if secret.is_some() { Stdio::piped() } else { Stdio::null() });
        let mut child = spawn_deaf(&mut command).with_context(|| format!("running {name}"))?;
        let said = Arc::new(Mutex::new(Vec::new()));
        if let Some(pipe) = child.stderr.take() {
            gather(name, pipe, said.clone());
        }
        let feed = child.stdin.take();
        // From here on whatever goes wrong ends it.
        self.servers.push(Server { name, child, said });
        if let (Some(mut pipe), Some(secret)) = (feed, secret) {
            // Whoever ends without reading it says why elsewhere.
            let _ = pipe.write_all(secret);
        }
        let until = Instant::now() + READY;
        pc_run::timed(|| {
            while !is_ready() {
                self.still_there(borg)?;
                (borg.may_go_on)()?;
                if Instant::now() > until {
                    bail!("{name}: shows nothing within {} s", READY.as_secs());
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            Ok(())
        })
    }

    /// An error when either has ended.
    pub fn still_there(&mut self, borg: &Borg) -> Result<()> {
        for Server { name, child, said } in &mut self.servers {
            let ended = child.try_wait().with_context(|| format!("waiting for {name}"))?;
            if let Some(status) = ended {
                // Its last words may be on their way.
                std::thread::sleep(Duration::from_millis(200));
                if *name == BORG {
                    let said = said.lock().unwrap_or_else(PoisonError::into_inner);
                    return Err(borg.fault(&said, &how(status)));
                }
                let last = last_words(said);
                bail!("{name} ended ({}){last}", how(status));
            }
        }
        Ok(())
    }

    /// What pc-segments said that it could not read.
    pub fn complaint(&self) -> String {
        self.servers.last().map(|server| last_words(&server.said)).unwrap_or_default()
    }
}

fn last_words(said: &Mutex<Vec<String>>) -> String {
    let said = said.lock().unwrap_or_else(PoisonError::into_inner);
    let told = said.iter().rev().find(|line| !line.is_empty()).map(|line| plain(line));
    told.map(|line| format!(": {line}")).unwrap_or_default()
}

/// borg speaks JSON here.
fn plain(line: &str) -> String {
    let message = serde_json::from_str::<serde_json::Value>(line).ok();
    let message = message.and_then(|message| Some(message["message"].as_str()?.to_string()));
    message.unwrap_or_else(|| line.trim_start_matches("error: ").to_string())
}

/// The last lines, as they come.
fn gather(name: &'static str, pipe: impl Read + Send + 'static, said: Arc<Mutex<Vec<String>>>) {
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(std::result::Result::ok) {
            log::debug(format_args!("{name}: {line}"));
            let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
            said.push(line);
            if said.len() > 100 {
                said.drain(..50);
            }
        }
    });
}

impl Drop for Shown {
    fn drop(&mut self) {
        for server in self.servers.iter_mut().rev() {
            if server.name == BORG {
                // It ends when nobody has it mounted any more; told to end it would leave a dead mount (borg 1.2, pyfuse3).
                let _ = unmount(&self.archive);
            }
            server.end();
        }
        self.servers.clear();
        for directory in [&self.disk, &self.archive] {
            // Empty, and nobody's, once it is unmounted.
            let _ = fs::remove_dir(directory);
        }
        let _ = fs::remove_file(self.note("copy.xml"));
        let _ = fs::remove_dir(&self.directory);
    }
}

impl Server {
    fn end(&mut self) {
        let Ok(pid) = i32::try_from(self.child.id()) else { return };
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        let _ = kill(Pid::from_raw(pid), END.0);
        let until = Instant::now() + LEAVE;
        let ended = pc_run::timed(|| {
            loop {
                match self.child.try_wait() {
                    Ok(Some(_)) => return true,
                    Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(20)),
                    _ => return false,
                }
            }
        });
        if !ended {
            log::warning(format_args!(
                "{} does not end: killed; the next run unmounts what it left",
                self.name
            ));
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
