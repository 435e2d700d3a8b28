//! Whether a process with a QEMU's arguments can be one that libvirt started: arguments are anybody's to choose. Only what is shown
//! to be somebody else's is passed over; to miss a real one would be worse than to believe a false one.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What distributions have libvirt run QEMU as, beside root: Debian, Fedora and openSUSE, NixOS.
const NAMES: [&str; 3] = ["libvirt-qemu", "qemu", "qemu-libvirtd"];
/// Where a person says otherwise (`user = "..."`); the second one is NixOS'.
const CONFIGURATION: [&str; 2] = ["etc/libvirt/qemu.conf", "var/lib/libvirt/qemu.conf"];

/// Users that libvirt may run QEMU as; `None` when they cannot be told.
pub type Users = Option<BTreeSet<u32>>;

/// The users of a machine.
pub fn users(root: &Path) -> Users {
    let passwd = fs::read_to_string(root.join("etc/passwd")).ok()?;
    let mut users = BTreeSet::from([0]);
    users.extend(NAMES.iter().filter_map(|name| number(&passwd, name)));
    for path in CONFIGURATION {
        match fs::read_to_string(root.join(path)) {
            Ok(text) => {
                for name in text.lines().filter_map(user_of) {
                    users.insert(number(&passwd, name)?);
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(_) => return None,
        }
    }
    Some(users)
}

/// passwd(5), or a number, before which qemu.conf may have a `+`.
fn number(passwd: &str, name: &str) -> Option<u32> {
    let named = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1))?
    });
    named.unwrap_or_else(|| name.strip_prefix('+').unwrap_or(name)).parse().ok()
}

/// `user = "name"` of qemu.conf.
fn user_of(line: &str) -> Option<&str> {
    let value = line.trim_start().strip_prefix("user")?.trim_start().strip_prefix('=')?;
    let value = value.split('#').next().unwrap_or_default();
    Some(value.trim().trim_matches('"'))
}

/// Whether a process may be libvirt's QEMU: it is of one of its users, or runs a program of that name which is root's own. What the
/// kernel does not show is believed.
pub fn may_be(process: &Path, users: &Users) -> bool {
    let status = fs::read_to_string(process.join("status")).unwrap_or_default();
    // Its real user: a program that runs as root for whoever calls it is the caller's.
    let uid =
        status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().next()?.parse().ok());
    let (Some(users), Some(uid)) = (users, uid) else { return true };
    if users.contains(&uid) {
        return true;
    }
    let exe = process.join("exe");
    let Ok(program) = fs::read_link(&exe) else { return true };
    let name = program.file_name().map(|name| name.to_string_lossy().into_owned());
    // `.qemu-system-x86_64-wrapped` on NixOS; ` (deleted)` after an upgrade.
    let is_named = name.is_none_or(|name| is_name(&name));
    // A copy of another program can be called anything.
    is_named && fs::metadata(&exe).map_or(true, |file| file.uid() == 0)
}

/// A name that QEMU goes by, of its program or its process.
pub fn is_name(name: &str) -> bool {
    name.contains("qemu") || name.contains("kvm")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_that_libvirt_runs_qemu_as_are_read() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let read = || users(root.path());
        assert_eq!(read(), None, "nobody knows who is who");
        write(
            "etc/passwd",
            "root:x:0:0::/root:/bin/sh\nlibvirt-qemu:x:64055:108::/:/bin/false\nann:x:1000:1000\n",
        );
        assert_eq!(read(), Some([0, 64055].into()));
        for (text, also) in [
            ("#user = \"x\"\nuser = \"ann\"  # me\ngroup=\"x\"\n", 1000),
            ("user=\"+301\"\n", 301),
            (" user = 7", 7),
        ] {
            write("var/lib/libvirt/qemu.conf", text);
            assert_eq!(read(), Some([0, 64055, also].into()), "{text}");
        }
        write("etc/libvirt/qemu.conf", "user = \"of-a-directory-service\"\n");
        assert_eq!(read(), None);
    }
}
