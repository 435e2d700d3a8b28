//! Where a path leads, found out without asking a volume: of a mount that hangs not even the kind of a file can be had.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Where volumes are mounted.
const VOLUMES: [&str; 2] = ["mnt", "srv/bricks"];
/// As many as the kernel follows (`path_resolution(7)`).
const MOST: u32 = 40;

/// The path with every link followed, below `root`; none where it leads onto a volume, into a circle, or nowhere.
pub fn settled(root: &Path, path: &str) -> Option<PathBuf> {
    // From the root on, as all that lies below it says.
    let mut real = PathBuf::new();
    let mut left: VecDeque<OsString> = names(Path::new(path)).collect();
    let mut links = 0;
    while let Some(name) = left.pop_front() {
        if name == ".." {
            real.pop();
            continue;
        }
        real.push(name);
        if VOLUMES.iter().any(|place| real == Path::new(place)) {
            return None;
        }
        let here = root.join(&real);
        if !fs::symlink_metadata(&here).ok()?.is_symlink() {
            continue;
        }
        links += 1;
        let target = fs::read_link(&here).ok().filter(|_| links <= MOST)?;
        real.pop();
        if target.is_absolute() {
            real.clear();
        }
        for name in names(&target).collect::<Vec<_>>().into_iter().rev() {
            left.push_front(name);
        }
    }
    Some(root.join(real))
}

fn names(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_os_string()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_followed_but_not_onto_a_volume() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        for place in ["etc/cron.daily", "opt/scripts", "mnt/vms", "srv/bricks/vms", "srv/other"] {
            fs::create_dir_all(root.join(place)).unwrap();
        }
        for file in ["opt/scripts/backup", "mnt/vms/backup", "srv/other/backup"] {
            fs::write(root.join(file), "").unwrap();
        }
        let link =
            |target: &str, name: &str| symlink(target, root.join("etc/cron.daily").join(name)).unwrap();
        link("/opt/scripts/backup", "script");
        link("../../srv/other/backup", "other");
        link("/mnt/vms/backup", "volume");
        link("/opt/./volumes/backup", "by-two");
        link("circle", "circle");
        link("/nowhere", "nowhere");
        link("/srv/bricks/vms", "brick");
        symlink("../mnt/vms", root.join("opt/volumes")).unwrap();
        let of = |name: &str| settled(root, &format!("/etc/cron.daily/{name}"));
        assert_eq!(of("script"), Some(root.join("opt/scripts/backup")));
        assert_eq!(of("other"), Some(root.join("srv/other/backup")));
        for name in ["volume", "by-two", "circle", "nowhere", "brick", "none"] {
            assert_eq!(of(name), None, "{name}");
        }
    }
}
