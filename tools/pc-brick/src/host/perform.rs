//! The steps. Each looks again before it writes, does nothing that is done already, and can be killed at any
//! instruction: what permits it (the record) is on disk before it starts.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cluster::Brick;

use super::{Host, cryptsetup, lvm, mounts, systemd, xfs};
use crate::answer::Verb;
use crate::facts::{Content, Device, Directory, Facts, Mount, Record, State};
use crate::fault;
use crate::key::{Key, Keys, random_uuid};
use crate::plan::{Verdict, judge};

/// LUKS is complete, and what is inside may be made.
fn is_formatted(state: State) -> bool {
    state == State::Formatted
}

impl Host {
    /// Does one step of one brick.
    pub fn perform(&self, verb: Verb, brick: &Brick, keys: &mut Keys) -> Result<()> {
        match verb {
            Verb::Claim => self.claim(brick, keys),
            Verb::LuksFormat => self.luks_format(brick, keys),
            Verb::Bind => self.unlock.bind(&self.sh, &brick.device, self.fitting(brick, keys.required()?)?),
            Verb::HeaderBackup => self.save_header(brick, keys),
            Verb::Open => self.open(brick, keys),
            Verb::Vg => self.make_group(brick),
            Verb::Pool => self.make_pool(brick),
            Verb::Lv => self.make_volume(brick),
            Verb::Activate => self.activate(brick),
            Verb::Mkfs => self.make_file_system(brick),
            Verb::Mountpoint => mounts::make_ready(&self.under(&brick.mount_point()), !self.is_stage()),
            Verb::Mount => self.mount(brick),
            Verb::Directory => self.make_directory(brick),
            Verb::Record => self.records.advance(brick.name(), State::Done),
        }
    }

    fn disk(&self, brick: &Brick) -> std::path::PathBuf {
        self.under(brick.device.as_str())
    }

    /// The device as it is now, after the planner has agreed once more that it may be written to.
    fn agreed(&self, brick: &Brick, record: Option<Record>) -> Result<Device> {
        let device = self.device(brick.device.as_str(), &brick.mapper(), &brick.volume_group())?;
        let facts = Facts { record, device, ..Facts::default() };
        match judge(brick, &facts, false) {
            Verdict::Do(_) => facts.device.context("the disk has gone"),
            Verdict::Missing => bail!("{}: the disk has gone", brick.device),
            Verdict::Refused(refusal) => Err(pc_cli::refused(refusal)),
        }
    }

    fn claim(&self, brick: &Brick, keys: &mut Keys) -> Result<()> {
        // Nothing is claimed that could not be encrypted in the next step, and bound in the one after.
        keys.for_new_disk()?;
        if self.is_bound {
            self.unlock.check_servers(&self.sh)?;
        }
        if self.records.read(brick.name())?.is_some() {
            bail!("{} is there already", self.records.path(brick.name()).display());
        }
        let device = self.agreed(brick, None)?;
        let record = Record {
            schema: "pc.brick.record/1".into(),
            device: brick.device.to_string(),
            luks_uuid: random_uuid()?,
            file_system_uuid: Some(random_uuid()?),
            size_bytes: device.size_bytes,
            state: State::Claimed,
            claimed: crate::now()?,
        };
        self.records.write(brick.name(), &record)
    }

    /// The only step that overwrites what is on a disk. A header that is complete and opens with the key is
    /// kept; one that was interrupted, or whose key nobody ever saw, holds nothing yet and is made again.
    fn luks_format(&self, brick: &Brick, keys: &mut Keys) -> Result<()> {
        let record = self.permitted(brick, State::is_unformatted)?;
        let device = self.agreed(brick, Some(record.clone()))?;
        let path = self.disk(brick);
        let key = keys.required()?;
        let complete = match &device.content {
            Content::Luks2(luks) => luks.keyslots > 0 && cryptsetup::opens(&self.sh, &path, key.bytes())?,
            _ => false,
        };
        if !complete {
            if device.stack.open {
                bail!(
                    "{} is open while it is being formatted\n  cryptsetup close {}",
                    brick.device,
                    brick.mapper()
                );
            }
            // A label has at most 47 characters; it is for people only.
            let label: String = brick.mapper().chars().take(47).collect();
            let key = keys.for_new_disk()?;
            // From here on what is found on the disk may be ours.
            self.records.advance(brick.name(), State::Formatting)?;
            cryptsetup::format(&self.sh, &path, &record.luks_uuid, &label, key)?;
        }
        self.records.advance(brick.name(), State::Formatted)
    }

    /// The record, if it still permits a step that makes something.
    fn permitted(&self, brick: &Brick, is_right: impl Fn(State) -> bool) -> Result<Record> {
        let record = self.records.required(brick.name())?;
        if !is_right(record.state) {
            bail!("the record of {} says {:?}: nothing is made again", brick.name(), record.state);
        }
        Ok(record)
    }

    /// Encrypted to the recovery key by pc-unlock, where that is in use anyway; else as cryptsetup makes it,
    /// readable by root only. A brick does not wait for the volumes that it is to carry: their copies are made by
    /// binding, or by pc-unlock-headers.timer once they are there.
    fn save_header(&self, brick: &Brick, keys: &mut Keys) -> Result<()> {
        if self.is_bound {
            let directory = self.records.headers()?;
            return self.unlock.save_header(&self.sh, &brick.device, &directory, keys.required()?.bytes());
        }
        let (new, path) = (self.records.new_header(brick.name())?, self.records.header(brick.name()));
        cryptsetup::header_backup(&self.sh, &self.disk(brick), &new)?;
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600))
            .and_then(|()| std::fs::File::open(&new)?.sync_all())
            .and_then(|()| std::fs::rename(&new, &path))
            .with_context(|| format!("writing {}", path.display()))
    }

    /// With the recovery key while the brick is new: that needs no server, and can let TRIM through for good.
    /// Later, at every boot, through Tang, and with the key only where Tang fails.
    fn open(&self, brick: &Brick, keys: &mut Keys) -> Result<()> {
        match self.try_open(brick, keys) {
            // pc-unlock.service, which tries at the same time, may have been faster.
            Err(error) if !self.mapper(brick).exists() => Err(error),
            _ => self.wait_for(&format!("/dev/mapper/{}", brick.mapper())),
        }
    }

    fn try_open(&self, brick: &Brick, keys: &mut Keys) -> Result<()> {
        if self.mapper(brick).exists() {
            return Ok(());
        }
        let device = self.device(brick.device.as_str(), &brick.mapper(), &brick.volume_group())?;
        let device = device.with_context(|| format!("{}: the disk has gone", brick.device))?;
        let bound = matches!(&device.content, Content::Luks2(luks) if luks.bound);
        let fresh = self.records.required(brick.name())?.state == State::Formatted;
        if !bound || (fresh && keys.existing()?.is_some()) {
            return self.open_with_key(brick, &device, keys);
        }
        let Err(error) = self.unlock.open(&self.sh, &brick.device) else { return Ok(()) };
        if self.mapper(brick).exists() || keys.existing()?.is_none() {
            return Err(error);
        }
        pc_cli::log::warning(format_args!("{error:#}: trying the recovery key"));
        self.open_with_key(brick, &device, keys)
    }

    fn open_with_key(&self, brick: &Brick, device: &Device, keys: &mut Keys) -> Result<()> {
        let Some(key) = keys.existing()? else {
            return Err(pc_cli::try_again(format!(
                "{}: locked, and no recovery key is at hand\n  pc-brick apply --recovery-key-file FILE",
                brick.device
            )));
        };
        let discard = device.discard && !device.rotational;
        let key = self.fitting(brick, key)?;
        cryptsetup::open(&self.sh, &self.disk(brick), &brick.mapper(), key, discard)
    }

    /// The key, or the line of its file as it was written when only that opens the disk: older versions formatted with it.
    fn fitting<'k>(&self, brick: &Brick, key: &'k Key) -> Result<&'k [u8]> {
        let Some(written) = key.as_written() else { return Ok(key.bytes()) };
        let opens = |key: &[u8]| cryptsetup::opens(&self.sh, &self.disk(brick), key);
        let only_written = !opens(key.bytes())? && opens(written.as_bytes())?;
        Ok(if only_written { written.as_bytes() } else { key.bytes() })
    }

    /// Keeps systemd from mounting the volume, which appears before its file system is made.
    fn mark(&self, brick: &Brick) -> Result<()> {
        let marker = self.under(&cluster::paths::formatting_marker(brick.name()));
        let directory = marker.parent().unwrap_or(&marker);
        std::fs::create_dir_all(directory)
            .and_then(|()| std::fs::write(&marker, ""))
            .with_context(|| format!("writing {}", marker.display()))
    }

    fn make_group(&self, brick: &Brick) -> Result<()> {
        self.permitted(brick, is_formatted)?;
        self.mark(brick)?;
        let device = format!("/dev/mapper/{}", brick.mapper());
        if lvm::pvs(&self.sh)?.iter().any(|pv| pv.pv_name == device && pv.vg_name == brick.volume_group()) {
            return Ok(());
        }
        lvm::make_group(&self.sh, &brick.volume_group(), &device)
    }

    fn make_pool(&self, brick: &Brick) -> Result<()> {
        self.permitted(brick, is_formatted)?;
        let group = brick.volume_group();
        let volumes = self.volumes()?;
        let mut own = volumes.lvs.iter().filter(|lv| lv.vg_name == group);
        if own.clone().any(|lv| lv.lv_name == brick.pool() && lv.segtype == "thin-pool") {
            return Ok(());
        }
        let mut pvs = volumes.pvs;
        if own.next().is_some() {
            pc_cli::log::info(format_args!("{}: removing the remains of an interrupted run", brick.name()));
            lvm::remove_volumes(&self.sh, &group)?;
            pvs = lvm::pvs(&self.sh)?;
        }
        let pv = pvs.iter().find(|pv| pv.vg_name == group).context("the volume group has gone")?;
        lvm::make_pool(&self.sh, pv, brick.pool())
    }

    /// A pool that was interrupted inside LVM's own transaction is made anew: there is no file system yet.
    fn make_volume(&self, brick: &Brick) -> Result<()> {
        self.permitted(brick, is_formatted)?;
        self.mark(brick)?;
        let group = brick.volume_group();
        if let Err(error) = self.try_volume(brick) {
            pc_cli::log::warning(format_args!("{}: {error:#}: making the pool anew", brick.name()));
            lvm::remove_volumes(&self.sh, &group)?;
            self.make_pool(brick)?;
            self.try_volume(brick)?;
        }
        self.wait_for(&brick.block_device())
    }

    fn try_volume(&self, brick: &Brick) -> Result<()> {
        let group = brick.volume_group();
        let volumes = lvm::lvs(&self.sh)?;
        let find = |name: &str| volumes.iter().find(|lv| lv.vg_name == group && lv.lv_name == name);
        let pool = find(brick.pool()).context("the thin pool has gone")?;
        match find(brick.logical_volume()) {
            // A new volume is active; one that an interrupted run left need not be.
            None => lvm::make_volume(&self.sh, &group, brick.pool(), brick.logical_volume(), pool.lv_size),
            Some(_) => lvm::activate(&self.sh, &group),
        }
    }

    fn activate(&self, brick: &Brick) -> Result<()> {
        // udev may have begun to do so when the device was opened; doing it twice is harmless.
        lvm::activate(&self.sh, &brick.volume_group())?;
        self.wait_for(&brick.block_device())
    }

    fn make_file_system(&self, brick: &Brick) -> Result<()> {
        let record = self.permitted(brick, is_formatted)?;
        self.mark(brick)?;
        let uuid = record.file_system_uuid.context("the record names no file system")?;
        let device = self.under(&brick.block_device());
        // After a power cut systemd may just be trying to mount the volume, which holds it for a moment.
        for tries_left in (0..5).rev() {
            let found = xfs::super_block(&self.sh, &device)?;
            if let Some(found) = found.as_ref().filter(|found| found.complete) {
                if found.uuid != uuid {
                    bail!("{} holds another file system, {}", device.display(), found.uuid);
                }
                break;
            }
            match xfs::make(&self.sh, &device, &uuid, brick.volume.as_str(), found.is_some()) {
                Err(error) if tries_left == 0 => return Err(error),
                Err(error) => {
                    pc_cli::log::debug(format_args!("{error:#}: trying again"));
                    std::thread::sleep(Duration::from_secs(1));
                }
                Ok(()) => break,
            }
        }
        self.records.advance(brick.name(), State::Made)
    }

    fn mount(&self, brick: &Brick) -> Result<()> {
        if matches!(self.mount_facts(brick)?, Mount::Mounted { .. }) {
            return Ok(());
        }
        // There is no marker unless the file system was made by this boot.
        let _ = std::fs::remove_file(self.under(&cluster::paths::formatting_marker(brick.name())));
        let point = brick.mount_point();
        if systemd::is_running() && !self.is_stage() {
            let unit = cluster::paths::mount_unit(&point);
            if systemd::start_mount(&unit, Duration::from_secs(330))? == systemd::Started::Active {
                return Ok(());
            }
            if mounts::is_private() {
                bail!(
                    "{unit}: not known to systemd, and a mount of this service would not be seen outside it\n  pc-config put FILE"
                );
            }
            pc_cli::log::info(format_args!("{unit}: not known to systemd, mounting without it"));
        }
        mounts::mount(&self.sh, &brick.block_device(), Brick::MOUNT_OPTIONS, &self.under(&point))
    }

    fn make_directory(&self, brick: &Brick) -> Result<()> {
        match self.mount_facts(brick)? {
            Mount::Mounted { directory: Directory::There } => Ok(()),
            Mount::Mounted { directory: Directory::Unknown(why) } => bail!("{}", fault::silent(brick, &why)),
            Mount::Mounted { directory: Directory::Gone } => {
                let path = self.under(&brick.brick_directory());
                std::fs::create_dir(&path).with_context(|| format!("creating {}", path.display()))
            }
            _ => bail!("{} is not mounted", brick.mount_point()),
        }
    }
}
