//! A file gets its name last, when it is whole, and takes it from nobody.

use std::fs;
use std::io::{Error, ErrorKind, Result};
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

/// Renames a file, within a directory, unless there is one of that name. A link never replaces anything; where there are no
/// links, as on the file system of a stick, the kernel promises the same of a rename.
pub fn name(from: &Path, to: &Path) -> Result<()> {
    match fs::hard_link(from, to) {
        Ok(()) => fs::remove_file(from),
        Err(error) if has_no_links(&error) => rename(from, to),
        Err(error) => Err(error),
    }
}

/// FAT and its kin say that it is not permitted, FUSE and the network's that it is not supported.
fn has_no_links(error: &Error) -> bool {
    let no = [Errno::PERM, Errno::OPNOTSUPP, Errno::NOSYS];
    error.raw_os_error().is_some_and(|code| no.iter().any(|errno| errno.raw_os_error() == code))
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // It cannot promise that either: what is there now is seen.
        Err(Errno::INVAL | Errno::NOSYS) if to.symlink_metadata().is_ok() => {
            Err(ErrorKind::AlreadyExists.into())
        }
        Err(Errno::INVAL | Errno::NOSYS) => fs::rename(from, to),
        renamed => Ok(renamed?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_from_nobody_with_links_and_without() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        for take in [name, rename] {
            fs::write(&from, "ours").unwrap();
            take(&from, &to).unwrap();
            assert!(!from.exists() && fs::read_to_string(&to).unwrap() == "ours");
            fs::write(&from, "later").unwrap();
            assert_eq!(take(&from, &to).unwrap_err().kind(), ErrorKind::AlreadyExists);
            assert_eq!(fs::read_to_string(&to).unwrap(), "ours");
            fs::remove_file(&to).unwrap();
        }
    }

    #[test]
    fn a_file_system_without_links_is_known_by_its_answer() {
        // link(2) on vfat, of a FUSE file system without it, on CIFS.
        for code in [Errno::PERM, Errno::NOSYS, Errno::OPNOTSUPP] {
            assert!(has_no_links(&Error::from_raw_os_error(code.raw_os_error())), "{code}");
        }
        for code in [Errno::EXIST, Errno::NOSPC, Errno::IO] {
            assert!(!has_no_links(&Error::from_raw_os_error(code.raw_os_error())), "{code}");
        }
    }
}
