//! One run: take the state, decide what changed, show it, and commit when somebody says that the backup worked.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use pc_cli::{Exit, emit_heard, log, refused};
use sd_notify::NotifyState;
use segment_map::{Geometry, Image, Lock, Method, Source, State};

use crate::decide::{Now, Told, decide};
use crate::disk::Disk;
use crate::host::{self, Event};
use crate::report::{End, EndedBy, Mounted, Run};
use crate::view::View;
use crate::{Cli, Ended, input, verify};

/// The whole run.
pub fn run(cli: &Cli) -> Ended {
    let started = Instant::now();
    let (mount_point, images) = cli.places.split_last().context("no mount point")?;
    let sources = sources(images)?;
    let mut work = Work::begin(cli, &sources, Path::new(mount_point))?;
    let ended = work.show(cli);
    let (end, result) = match ended {
        Ok(mut end) => {
            let result = work.conclude(cli, &mut end);
            (end, result)
        }
        Err(error) => (End { by: EndedBy::Mismatch, code: None, committed: false }, Err(error)),
    };
    let mismatch = work.view.mismatch();
    if result.is_ok() || mismatch.is_some() || end.code.is_some() {
        let report = Run::new(&work.view, work.everything.clone(), &end, started);
        if end.committed && report.left_dirty() > 0 {
            let left = report.left_dirty();
            log::warning(format_args!(
                "{left} changed segments were not read to their end: they stay changed"
            ));
        }
        if let Some(path) = &cli.report {
            let mut text = serde_json::to_vec_pretty(&report).context("writing the report as JSON")?;
            text.push(b'\n');
            pc_cli::write_atomic(path, &text, 0o644)?;
        }
    }
    result
}

fn sources(places: &[OsString]) -> Result<Vec<Source>> {
    let mut sources: Vec<Source> = Vec::new();
    for place in places {
        let text =
            place.to_str().ok_or_else(|| refused(format!("{}: not UTF-8", Path::new(place).display())))?;
        let source = Source::parse(text).map_err(refused)?;
        if sources.iter().any(|other| other.name == source.name) {
            let name = &source.name;
            bail!(refused(format!("two disks are called {name}: NAME=IMAGE gives one another name")));
        }
        sources.push(source);
    }
    Ok(sources)
}

/// What a run holds.
struct Work<'a> {
    path: Option<&'a Path>,
    mount_point: PathBuf,
    state: State,
    view: Arc<View>,
    everything: Option<String>,
    checkpoint: Option<String>,
    _lock: Option<Lock>,
}

impl<'a> Work<'a> {
    /// Everything up to the mount. Once a time stamp has been taken, the state remembers it.
    fn begin(cli: &'a Cli, sources: &[Source], mount_point: &Path) -> Result<Work<'a>> {
        let path = cli.state.as_deref();
        let lock = path.map(Lock::take).transpose()?;
        let mount_point = host::prepare(mount_point)?;
        let told = input::told(cli.extents.as_deref(), cli.full)?;
        let mut state = path.map_or_else(State::default, known);
        let images = sources.iter().map(Image::open).collect::<Result<Vec<_>>>()?;
        let segment_of = |name: &str| cli.segment.or_else(|| Some(state.disk(name)?.geometry.segment));
        let now: Vec<Now> = sources
            .iter()
            .zip(&images)
            .map(|(source, image)| Now {
                name: source.name.clone(),
                geometry: Geometry::new(image.size(), segment_of(&source.name)),
            })
            .collect();
        let decided = decide(&state, &told, &now)?;
        let everything = decided
            .iter()
            .zip(&now)
            .find_map(|(decided, now)| decided.everything.as_ref().map(|why| format!("{}: {why}", now.name)));
        if let Some(why) = &everything {
            log::info(format_args!("everything counts as changed: {why}"));
        }
        let (id, stamp) = state.begin(host::now());
        if let Some(path) = path {
            state.save(path)?;
        }
        let disks = images
            .into_iter()
            .zip(&now)
            .zip(&decided)
            .map(|((image, now), decided)| Disk::new(now.name.clone(), now.geometry, image, decided));
        let view = Arc::new(View::new(id, stamp, disks.collect())?);
        let percent = cli.verify_share.unwrap_or_else(|| usual_share(&told));
        for disk in &mut *view.disks() {
            let name = disk.name.clone();
            verify::share(disk, percent, state.runs).with_context(|| format!("reading disk {name}"))?;
        }
        let checkpoint = match told {
            Told::Extents(extents) => extents.checkpoint,
            Told::Nothing(_) => None,
        };
        Ok(Work { path, mount_point, state, view, everything, checkpoint, _lock: lock })
    }

    /// Mounts it and waits for an end.
    fn show(&mut self, cli: &Cli) -> Result<End> {
        self.believe()?;
        let (sender, events) = host::events()?;
        host::mount(self.view.clone(), &self.mount_point, sender.clone())?;
        let ended = self.wait(cli, sender, &events);
        let unmounted = host::unmount(&self.mount_point);
        let end = ended?;
        unmounted?;
        Ok(end)
    }

    fn wait(&self, cli: &Cli, sender: Sender<Event>, events: &Receiver<Event>) -> Result<End> {
        let mounted = Mounted::new(&self.view, &self.mount_point);
        // Without a service manager there is nobody to tell.
        let _ = sd_notify::notify(false, &[NotifyState::Ready, NotifyState::Status(&mounted.to_string())]);
        let child = if cli.command.is_empty() {
            emit_heard(cli.json, &mounted)?;
            host::silence()?;
            None
        } else {
            log::info(&mounted);
            Some(host::start(&cli.command, sender)?)
        };
        let end = |by, code| Ok(End { by, code, committed: false });
        match events.recv().context("waiting for an end")? {
            Event::Ended(status) => {
                end(EndedBy::Command, Some(host::code(status.context("waiting for the command")?)))
            }
            Event::Signal(signal_hook::consts::SIGUSR1) if child.is_none() => end(EndedBy::Commit, None),
            event => {
                if let Some(pid) = child {
                    host::end(pid, events);
                }
                match event {
                    Event::Unmounted(result) => {
                        result.context("serving the view")?;
                        end(EndedBy::Unmount, None)
                    }
                    _ => end(EndedBy::Signal, child.map(|_| 128 + 15)),
                }
            }
        }
    }

    /// Commits when it worked; how the run ends.
    fn conclude(&mut self, cli: &Cli, end: &mut End) -> Ended {
        if let Err(error) = self.believe() {
            end.by = EndedBy::Mismatch;
            return Err(error);
        }
        let worked = match (end.by, end.code) {
            (EndedBy::Commit, _) => true,
            (EndedBy::Command, Some(code)) => cli.commit_on.iter().any(|good| i32::from(*good) == code),
            _ => false,
        };
        if worked {
            self.state = self.view.committed(&self.state, self.checkpoint.take());
            if let Some(path) = self.path {
                self.state.save(path)?;
                end.committed = true;
            }
            return Ok(Exit::Done);
        }
        let Some(program) = cli.command.first() else { return Ok(Exit::Done) };
        let program = program.to_string_lossy();
        match (end.by, end.code) {
            (EndedBy::Command, Some(code)) => bail!("{program}: ended with {code}, nothing is committed"),
            (EndedBy::Unmount, _) => bail!("{program}: somebody unmounted its view, nothing is committed"),
            _ => bail!("{program}: ended by a signal to us, nothing is committed"),
        }
    }

    /// Fails when a clean segment was found to differ, and makes the next run read everything.
    fn believe(&mut self) -> Result<()> {
        let Some(mismatch) = self.view.mismatch() else { return Ok(()) };
        if let Some(path) = self.path {
            self.state.doubted = Some(mismatch.clone());
            self.state.save(path)?;
        }
        bail!(
            "{mismatch}: changed, although nothing said so: backups since the last commit may lack changes\n  \
             the next run reads everything; --full does so at once"
        )
    }
}

/// The last state; one that is damaged is not believed, and everything counts as changed.
fn known(path: &Path) -> State {
    match State::load(path) {
        Ok(state) => state.unwrap_or_default(),
        Err(error) => {
            log::warning(format_args!("{error:#}: everything counts as changed"));
            State::default()
        }
    }
}

/// Digests were just compared; whatever else says "clean" is checked a little.
fn usual_share(told: &Told) -> f64 {
    match told {
        Told::Extents(extents) if extents.disks.iter().all(|disk| disk.method == Method::Digest) => 0.0,
        _ => 1.0,
    }
}
