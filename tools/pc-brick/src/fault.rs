//! What is wrong with a brick that serves, and what soon will be: in words, with the command to run next on a second line.

use cluster::{Brick, Use, paths};

use crate::host::file_system::Space;

/// A pool whose metadata is this full needs a person (lvmthin(7): a full one stops all writes).
const FULL_PERCENT: f64 = 90.0;
/// One that is this full should be looked at: data, metadata. As the alerts have it (telemetry/rules/storage.yml).
const FILLING_PERCENT: [f64; 2] = [85.0, 75.0];
/// A file system with so much left is about to refuse writes.
const NO_ROOM_PERCENT: u64 = 3;
/// One with so much left should be looked at.
const LITTLE_ROOM_PERCENT: u64 = 10;

/// What is wrong, and what works and should be looked at.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Wrong.
    pub problems: Vec<String>,
    /// Soon wrong.
    pub warnings: Vec<String>,
}

/// What `pc-brick apply` mends.
pub fn to_apply(problem: &str) -> String {
    format!("{problem}\n  pc-brick apply")
}

/// What a file system says of itself, or why it says nothing.
pub fn file_system(brick: &Brick, space: &Result<Space, String>) -> Faults {
    match space {
        Ok(space) => room(brick, space),
        Err(why) => Faults { problems: vec![silent(brick, why)], warnings: Vec::new() },
    }
}

/// A file system that does not answer.
pub fn silent(brick: &Brick, why: &str) -> String {
    failing(brick, &format!("its file system does not answer: {why}"))
}

/// A finished brick without its directory. It is not made again: Gluster would heal into an empty one.
pub fn gone(brick: &Brick) -> String {
    format!(
        "the brick directory is gone\n  ls -la {}  # renamed: name it brick again; lost: {}",
        brick.mount_point(),
        replace(brick)
    )
}

/// What the thin pool says of its data and its metadata, in percent.
pub fn pool(brick: &Brick, fills: [Option<f64>; 2]) -> Faults {
    let mut faults = Faults::default();
    for ((what, fill), filling) in ["data", "metadata"].into_iter().zip(fills).zip(FILLING_PERCENT) {
        let Some(fill) = fill else { continue };
        let text = || {
            format!(
                "the thin pool's {what} is {fill} % full\n  fstrim {}; lvs {}  # then lvremove snapshots that nobody needs",
                brick.mount_point(),
                brick.volume_group()
            )
        };
        if fill >= FULL_PERCENT {
            faults.problems.push(text());
        } else if fill >= filling {
            faults.warnings.push(text());
        }
    }
    faults
}

/// What it says of its room.
fn room(brick: &Brick, space: &Space) -> Faults {
    let mut faults = Faults::default();
    if space.read_only {
        faults.problems.push(failing(brick, "its file system takes no writes"));
        return faults;
    }
    if space.size == 0 {
        return faults;
    }
    let left = space.available.saturating_mul(100) / space.size;
    let text = || {
        let volume = &brick.volume;
        let mount = paths::volume_mount(volume);
        format!(
            "its file system has {left} % left\n  du -h -d 2 {mount} | sort -h | tail  # delete there, or give volume {volume} more \
             disks in the file"
        )
    };
    match left {
        0..NO_ROOM_PERCENT => faults.problems.push(text()),
        NO_ROOM_PERCENT..LITTLE_ROOM_PERCENT => faults.warnings.push(text()),
        _ => {}
    }
    faults
}

fn failing(brick: &Brick, fault: &str) -> String {
    format!("{fault}\n  journalctl -k -b  # when its disk fails: {}", replace(brick))
}

fn replace(brick: &Brick) -> String {
    let volume = &brick.volume;
    match brick.purpose {
        Use::Local => "another disk into the file, and its VMs out of their backups: pc-borg restore".into(),
        Use::Vm | Use::Backup => {
            format!("another disk into the file, then pc-gluster replace-brick {volume} OLD NEW")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::brick;

    fn first(faults: &[String]) -> Vec<&str> {
        faults.iter().filter_map(|text| text.lines().next()).collect()
    }

    #[test]
    fn a_file_system_that_fills_or_takes_no_writes() {
        type Case<'a> = (u64, u64, bool, &'a [&'a str], &'a [&'a str]);
        let cases: [Case; 5] = [
            (1000, 100, false, &[], &[]),
            (1000, 99, false, &[], &["its file system has 9 % left"]),
            (1000, 29, false, &["its file system has 2 % left"], &[]),
            (1000, 500, true, &["its file system takes no writes"], &[]),
            (0, 0, false, &[], &[]),
        ];
        for (size, available, read_only, problems, warnings) in cases {
            let faults = room(&brick(Use::Vm), &Space { size, available, read_only });
            assert_eq!(
                (first(&faults.problems), first(&faults.warnings)),
                (problems.into(), warnings.into())
            );
        }
    }

    /// lvmthin(7) for what is full; 85 and 75 are those of the alerts.
    #[test]
    fn a_pool_that_fills() {
        let of = |data, metadata| pool(&brick(Use::Vm), [Some(data), Some(metadata)]);
        assert_eq!(of(84.9, 74.9), Faults::default());
        let faults = of(85.0, 75.0);
        let both = ["the thin pool's data is 85 % full", "the thin pool's metadata is 75 % full"];
        assert_eq!((first(&faults.problems), first(&faults.warnings)), (vec![], both.into()));
        assert_eq!(of(90.0, 90.5).problems.len(), 2);
        assert_eq!(pool(&brick(Use::Vm), [None, None]), Faults::default());
    }

    /// `apply` does nothing about any of these.
    #[test]
    fn each_names_what_to_run_next() {
        let second = |text: &str| text.lines().nth(1).unwrap().trim().to_string();
        let full = |purpose| room(&brick(purpose), &Space { size: 1000, available: 0, read_only: false });
        let place =
            "du -h -d 2 /mnt/vms | sort -h | tail  # delete there, or give volume vms more disks in the file";
        assert_eq!(second(&full(Use::Vm).problems[0]), place);
        assert_eq!(
            second(&file_system(&brick(Use::Vm), &Err("I/O error".into())).problems[0]),
            "journalctl -k -b  # when its disk fails: another disk into the file, then pc-gluster replace-brick vms OLD NEW"
        );
        let local = second(&silent(&brick(Use::Local), "I/O error"));
        assert!(local.ends_with("and its VMs out of their backups: pc-borg restore"), "{local}");
        let filled = pool(&brick(Use::Vm), [Some(99.0), None]);
        let trim = "fstrim /srv/bricks/vms/ata-A; lvs pc-ata-A  # then lvremove snapshots that nobody needs";
        assert_eq!(second(&filled.problems[0]), trim);
        assert!(second(&gone(&brick(Use::Backup))).starts_with("ls -la /srv/bricks/vms/ata-A  # "));
    }
}
