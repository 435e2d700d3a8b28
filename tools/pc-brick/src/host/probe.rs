//! Reading the machine: disks into facts. Writes nothing.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use anyhow::{Context, Result};
use cluster::Brick;
use xshell::Shell;

use super::{Host, blkid, disk, file_system, lsblk, luks2, lvm, mounts, udev, wipefs, xfs};
use crate::facts::{Content, Device, Facts, Have, Luks, Mount};

/// LVM's view of the machine, asked for once.
#[derive(Debug, Default)]
pub struct Volumes {
    /// Physical volumes.
    pub pvs: Vec<lvm::Pv>,
    /// Logical volumes.
    pub lvs: Vec<lvm::Lv>,
}

impl Host {
    /// Facts of all bricks. A disk that cannot be examined darkens only itself.
    ///
    /// pc-unlock may be opening these disks at this very moment: LVM is asked last, so that it has seen whatever
    /// was found open.
    pub fn probe(&self, bricks: &[Brick]) -> Result<Have> {
        let unreadable = |brick, error: anyhow::Error| {
            let content = Content::Unreadable(format!("{error:#}"));
            // Above a disk that fails its file system is mounted still.
            let mount = self.mount_facts(brick).unwrap_or_default();
            Facts { device: Some(Device { content, ..Device::default() }), mount, ..Facts::default() }
        };
        let outside = |brick| self.outside(brick).unwrap_or_else(|error| unreadable(brick, error));
        let mut all: Vec<Facts> = bricks.iter().map(outside).collect();
        let is_open = |facts: &Facts| facts.device.as_ref().is_some_and(|device| device.stack.open);
        let volumes = if all.iter().any(is_open) { self.volumes()? } else { Volumes::default() };
        for (brick, facts) in bricks.iter().zip(&mut all).filter(|(_, facts)| is_open(facts)) {
            if let Err(error) = self.fill_stack(brick, &volumes, facts) {
                *facts = unreadable(brick, error);
            }
        }
        Ok(bricks.iter().map(|brick| brick.name().to_string()).zip(all).collect())
    }

    /// Asks LVM.
    pub fn volumes(&self) -> Result<Volumes> {
        Ok(Volumes { pvs: lvm::pvs(&self.sh)?, lvs: lvm::lvs(&self.sh)? })
    }

    /// A brick as far as its open LUKS device, which udev has finished with.
    fn outside(&self, brick: &Brick) -> Result<Facts> {
        let record = self.records.read(brick.name())?;
        let mount = self.mount_facts(brick)?;
        let device = self.device(brick.device.as_str(), &brick.mapper(), &brick.volume_group())?;
        if device.as_ref().is_some_and(|device| device.stack.open) && !self.is_stage() {
            udev::initialized(&self.sh, &self.mapper(brick))?;
        }
        let kept_backup = if record.is_none() { self.records.kept_backup(brick.name())? } else { None };
        let header_backup = self.records.header_backup(brick.name());
        Ok(Facts { record, device, header_backup, kept_backup, mount })
    }

    /// One device by its path, without what is inside; `None` when it is not there.
    pub fn device(&self, path: &str, mapper: &str, group: &str) -> Result<Option<Device>> {
        let path = self.under(path);
        let Ok(real) = std::fs::canonicalize(&path) else { return Ok(None) };
        let metadata =
            std::fs::metadata(&real).with_context(|| format!("asking about {}", real.display()))?;
        let mut device = Device { kernel_name: real.display().to_string(), ..Device::default() };
        if metadata.file_type().is_block_device() {
            let block = lsblk::block(&self.sh, &real)?;
            let above = lsblk::above(&block, mapper, group);
            device.size_bytes = block.size;
            device.rotational = block.rota;
            device.discard = block.discard_max > 0;
            device.read_only = block.ro;
            device.users = above.users;
            device.partitions = above.partitions;
            device.stack.open = above.open;
        } else if metadata.is_file() && self.is_stage() {
            device.size_bytes = metadata.size();
            device.read_only = metadata.permissions().readonly();
        } else {
            device.content = Content::Unreadable("not a block device".into());
            return Ok(Some(device));
        }
        device.content = content(&self.sh, &real, device.size_bytes)?;
        // A LUKS device may be held for a moment because it is just being opened: that is no reason to refuse it.
        let luks = matches!(device.content, Content::Luks2(_));
        if device.users.is_empty() && !luks && !disk::is_free(&real)? {
            device.users.push("held by the kernel or by another program".into());
        }
        Ok(Some(device))
    }

    /// Where anything above the disk is mounted.
    pub fn mounted(&self, brick: &Brick) -> Result<Vec<String>> {
        let path = std::fs::canonicalize(self.under(brick.device.as_str()))
            .with_context(|| format!("opening {}", brick.device))?;
        Ok(lsblk::all_mounts(&lsblk::block(&self.sh, &path)?))
    }

    /// What is inside an open one.
    fn fill_stack(&self, brick: &Brick, volumes: &Volumes, facts: &mut Facts) -> Result<()> {
        let Some(device) = facts.device.as_mut() else { return Ok(()) };
        let (group, mapper) = (brick.volume_group(), self.mapper(brick));
        let holds = |pv: &&lvm::Pv| pv.vg_name == group;
        let volume = |name: &str, kind: &str| {
            volumes.lvs.iter().find(|lv| lv.vg_name == group && lv.lv_name == name && lv.segtype == kind)
        };
        match volumes.pvs.iter().find(holds) {
            Some(pv) if Path::new(&pv.pv_name) == mapper => {}
            Some(pv) => {
                device.users.push(format!("volume group {group} is on {} instead", pv.pv_name));
                return Ok(());
            }
            None => return Ok(()),
        }
        let stack = &mut device.stack;
        stack.volume_group = true;
        stack.pool = volume(brick.pool(), "thin-pool").is_some();
        let thin = volume(brick.logical_volume(), "thin").filter(|lv| lv.pool_lv == brick.pool());
        stack.volume = stack.pool && thin.is_some();
        let block = self.under(&brick.block_device());
        stack.active = thin.is_some_and(|lv| lv.lv_active == "active") && block.exists();
        stack.file_system = match facts.mount {
            Mount::Mounted { .. } => true,
            _ if stack.active => xfs::super_block(&self.sh, &block)?.is_some_and(|found| found.complete),
            _ => false,
        };
        Ok(())
    }

    /// What is at the brick's mount point.
    pub fn mount_facts(&self, brick: &Brick) -> Result<Mount> {
        let point = brick.mount_point();
        let mounted = if self.is_stage() { None } else { mounts::at(&point)? };
        let directory = self.under(&point);
        if let Some(mounted) = mounted {
            let number = std::fs::metadata(self.under(&brick.block_device())).map(|metadata| metadata.rdev());
            let own = number.is_ok_and(|number| {
                format!("{}:{}", nix::sys::stat::major(number), nix::sys::stat::minor(number))
                    == mounted.number
            });
            if !own {
                return Ok(Mount::Foreign(mounted.source));
            }
            let directory = file_system::directory(&directory, &self.under(&brick.brick_directory()));
            return Ok(Mount::Mounted { directory });
        }
        if !directory.is_dir() {
            return Ok(Mount::Absent);
        }
        Ok(if self.is_stage() || mounts::is_ready(&directory)? { Mount::Ready } else { Mount::Writable })
    }
}

/// What a device carries. blkid decides; wipefs sees what blkid passes over; samples see the rest.
fn content(sh: &Shell, path: &Path, size: u64) -> Result<Content> {
    let probe = blkid::probe(sh, path)?;
    let signatures = wipefs::signatures(sh, path)?;
    if let blkid::Probe::Found(tags) = &probe {
        let tag = |name: &str| tags.get(name).cloned().unwrap_or_default();
        let only_luks = signatures.iter().all(|found| found.kind == "crypto_LUKS");
        if tag("TYPE") == "crypto_LUKS" && tag("VERSION") == "2" && only_luks {
            let metadata = luks2::metadata(path)?;
            return Ok(Content::Luks2(Luks {
                uuid: tag("UUID"),
                subsystem: tag("SUBSYSTEM"),
                keyslots: metadata.keyslots(),
                bound: metadata.bound(),
            }));
        }
    }
    let mut found = match &probe {
        blkid::Probe::Found(tags)
            if tags.get("TYPE").is_some_and(|kind| kind == "xfs") && xfs::is_gluster(sh, path) =>
        {
            blkid::describe(tags).into_iter().map(|words| format!("{words} with GlusterFS data")).collect()
        }
        blkid::Probe::Found(tags) => blkid::describe(tags),
        blkid::Probe::Ambivalent => vec!["signatures that contradict each other".into()],
        blkid::Probe::Nothing => Vec::new(),
    };
    // A protective MBR is a part of GPT.
    let gpt = found.iter().any(|words| words.starts_with("gpt"));
    for signature in signatures.into_iter().filter(|signature| !(gpt && signature.kind == "PMBR")) {
        if !found.iter().any(|words| words.starts_with(&signature.kind)) {
            found.push(format!("{} signature at {}", signature.kind, signature.offset));
        }
    }
    if !found.is_empty() {
        return Ok(Content::Found(found));
    }
    Ok(match disk::data(path, size)? {
        disk::Data::Nowhere => Content::Blank,
        disk::Data::Start => Content::UnknownStart,
        disk::Data::Beyond => Content::Unknown,
    })
}
