//! One VM's archive in the making: what changed, the view of it, borg, and only then the commit.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cluster::Name;
use pc_cli::{log, try_again};

use crate::archive::{self, rfc3339};
use crate::backup::runs_now;
use crate::borg::{Borg, Create};
use crate::freeze::Freezer;
use crate::hypervisor::Export;
use crate::lock::Lock;
use crate::moment::{Begun, Moment};
use crate::records::{Last, Records};
use crate::report::Made;
use crate::siblings::dirty;
use crate::site::{Site, tell};
use crate::stage::{About, Fingerprint, GuestFiles, STORED, Stage};
use crate::view::{Ending, View, Wanted};
use crate::want::{Pair, Policy};

/// One VM's archive in the making.
pub struct Work<'a> {
    /// Where.
    pub site: &'a Site<'a>,
    /// Where to.
    pub policy: &'a Policy<'a>,
    /// Of what.
    pub pair: &'a Pair,
    /// Its directory.
    pub stage: &'a Stage,
    /// The VM's files.
    pub files: &'a GuestFiles,
    /// Freezes it.
    pub freezer: &'a Freezer,
    /// What is remembered.
    pub records: Records,
    /// What lets us write.
    pub lock: &'a Lock,
    /// It is saved together with others, as its group.
    pub group: Option<&'a Name>,
}

impl Work<'_> {
    /// Makes it, of a moment that has begun.
    pub fn archive(&self, borg: &Borg, begun: Begun, may_go_on: &dyn Fn() -> Result<()>) -> Result<Made> {
        let Begun { moment, before, export } = begun;
        let (vm, taken_at, consistency) = (self.pair.vm.as_str(), moment.taken_at, moment.consistency);
        let (made, unfinished) = match self.attempt(borg, &moment, may_go_on)? {
            Some(made) => made,
            None => match self.attempt(borg, &moment, may_go_on)? {
                Some(made) => made,
                None => bail!("its disk differs from its digests twice in a row: is the volume failing?"),
            },
        };
        // The last byte was read: only now it can be known what all of them were read from.
        if let Err(error) = self.of_one_moment(export.as_ref(), &before) {
            self.discard(borg, &unfinished);
            return Err(error);
        }
        drop(export);
        borg.rename(&unfinished, &made.name)?;
        let name = made.name.clone();
        let last =
            Last { archive: name, taken_at, node: self.site.node().into(), consistency: consistency.into() };
        self.records.succeeded(vm, last)?;
        log::info(format_args!(
            "vm {vm}: {} in {} ({consistency}), token {}",
            made.name,
            self.policy.settings.repository,
            self.lock.token()
        ));
        Ok(made)
    }

    /// An error, 75, unless the export was there to the end, or nobody had the disk: whoever was asked before it was read may
    /// have known an older state of things.
    fn of_one_moment(&self, export: Option<&Export>, before: &Fingerprint) -> Result<()> {
        if let Some(export) = export {
            return export.still_there();
        }
        if runs_now(self.site, self.pair.vm.as_str())? || self.files.fingerprint()? != *before {
            return Err(try_again(
                "it was started, or its disk written to, while it was read: no archive was kept",
            ));
        }
        Ok(())
    }

    /// What stays behind is no archive by its name, and the next run deletes it.
    fn discard(&self, borg: &Borg, unfinished: &str) {
        if let Err(error) = borg.delete(unfinished) {
            log::warning(format_args!("vm {}: deleting {unfinished}: {error:#}", self.pair.vm));
        }
    }

    /// One archive, with the name that it has until it is finished; `None` when segments that counted as unchanged had
    /// changed: it was deleted, and everything counts as changed in the next attempt.
    fn attempt(
        &self,
        borg: &Borg,
        moment: &Moment,
        may_go_on: &dyn Fn() -> Result<()>,
    ) -> Result<Option<(Made, String)>> {
        let vm = self.pair.vm.as_str();
        let work = self.stage.work();
        let (known, extents, report) =
            (self.records.segments(vm), work.join("extents.json"), work.join("report.json"));
        if let Some(directory) = known.parent() {
            std::fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
        }
        let segment_bytes = segment_bytes(moment.disk_bytes);
        let image = format!("vda={}", moment.source);
        tell(&format!("{vm}: looking for what has changed"));
        let found = dirty(&image, &known, segment_bytes, &extents, may_go_on)?;
        let name = archive::name(vm, moment.taken_at)?;
        let unfinished = archive::unfinished(&name, self.lock.token());
        let taken_at = rfc3339(moment.taken_at)?;
        self.stage.fill(
            self.site.cluster(),
            self.files,
            &About {
                schema: "pc.borg.archive/1",
                vm,
                policy: self.policy.name.as_str(),
                node: self.site.node(),
                taken_at: &taken_at,
                consistency: moment.consistency,
                disk_bytes: moment.disk_bytes,
                method: &found.method,
                group: self.group.map(Name::as_str),
                version: env!("CARGO_PKG_VERSION"),
            },
        )?;
        let mut view = View::open(&Wanted {
            image: &image,
            mount_point: &self.stage.view(),
            state: &known,
            extents: &extents,
            segment_bytes,
            report: &report,
        })?;
        self.lock.still_ours()?;
        let changed_bytes = view.dirty_bytes;
        tell(&format!("{vm}: {} to save", cluster::Bytes(changed_bytes)));
        let create = Create {
            archive: &unfinished,
            directory: &self.stage.directory,
            paths: &STORED,
            segment_bytes,
            vm,
        };
        let mut told = Instant::now();
        let mut progress = |bytes: u64| {
            if told.elapsed() >= Duration::from_secs(2) {
                told = Instant::now();
                // Of the whole view; what did not change passes in no time.
                tell(&format!(
                    "{vm}: {} of {} passed",
                    cluster::Bytes(bytes),
                    cluster::Bytes(moment.disk_bytes)
                ));
            }
        };
        let stats = match borg.create(&create, &mut progress) {
            Ok(stats) => stats,
            // A view that found its own state to be wrong ends itself under borg.
            Err(error) => match view.mismatch() {
                Some(segments) => {
                    alarm(vm, &segments);
                    return Ok(None);
                }
                None => return Err(error),
            },
        };
        let read_bytes = match view.commit() {
            Ok(Ending::Committed(read_bytes)) => read_bytes,
            Ok(Ending::Mismatch(segments)) => {
                alarm(vm, &segments);
                borg.delete(&unfinished)?;
                return Ok(None);
            }
            Err(error) => {
                self.discard(borg, &unfinished);
                return Err(error);
            }
        };
        let looked: u64 = found.disks.iter().map(|disk| disk.read_bytes).sum();
        let made = Made {
            name,
            taken_at,
            consistency: moment.consistency,
            group: self.group.map(Name::to_string),
            method: found.method,
            method_reason: found.reason,
            disk_bytes: moment.disk_bytes,
            changed_bytes,
            read_bytes: looked + read_bytes,
            added_bytes: stats.deduplicated_size,
            seconds: moment.started.elapsed().as_secs_f64(),
        };
        Ok(Some((made, unfinished)))
    }
}

fn alarm(vm: &str, segments: &[u64]) {
    log::error(format_args!(
        "vm {vm}: {} segments that counted as unchanged have changed: everything is read again",
        segments.len()
    ));
}

/// 1 MiB; 4 MiB above 2 TiB, where so many files would cost too much memory.
fn segment_bytes(disk: u64) -> u64 {
    if disk > 2 << 40 { 4 << 20 } else { 1 << 20 }
}
