//! /proc/self/mountinfo, as `proc_pid_mountinfo(5)` describes it.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// What is mounted at a path, the topmost: its type and its source.
pub fn at(mountinfo: &[u8], path: &Path) -> Option<(String, String)> {
    mountinfo.split(|byte| *byte == b'\n').rev().find_map(|line| {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let place = OsString::from_vec(unescaped(fields.get(4)?));
        let dash = fields.iter().skip(6).position(|field| *field == b"-")? + 6;
        let text =
            |at: usize| fields.get(at).map(|field| String::from_utf8_lossy(&unescaped(field)).into_owned());
        (place.as_bytes() == path.as_os_str().as_bytes()).then_some((text(dash + 1)?, text(dash + 2)?))
    })
}

/// `\040` is a blank; tab, line feed and backslash are written that way too.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        let octal = (*byte == b'\\').then(|| after.get(..3)).flatten();
        let value = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match value {
            Some(value) => {
                plain.push(value);
                rest = &after[3..];
            }
            None => plain.push(*byte),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    // Recorded, Linux 6.1; the second line's mount point has a blank.
    const RECORDED: &[u8] = b"\
        25 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n\
        77 25 0:51 / /run/view/my\\040mail ro,nosuid,nodev,noexec,relatime shared:99 - fuse pc-segments ro,user_id=0\n\
        78 25 0:52 / /mnt rw - fuse.glusterfs gv0 rw\n";

    #[test]
    fn the_mount_at_a_path() {
        let at = |path: &str| at(RECORDED, Path::new(path));
        assert_eq!(at("/run/view/my mail"), Some(("fuse".into(), "pc-segments".into())));
        assert_eq!(at("/mnt"), Some(("fuse.glusterfs".into(), "gv0".into())));
        assert_eq!(at("/run/view"), None);
    }
}
