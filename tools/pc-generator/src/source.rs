//! The applied file as text, without ever waiting for it: a boot hangs as long as a generator does.

use std::fs::OpenOptions;
use std::io::{Error, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::OFlag;

/// The largest file that is read: what pc-config writes is far smaller, and a boot has little memory to spare.
const LIMIT: u64 = 16 << 20;

/// Reads the file at `path`; anything but a regular file is refused. Without `O_NONBLOCK` a named pipe waits for a writer.
pub fn read(path: &Path) -> Result<String, Error> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(Error::new(ErrorKind::InvalidInput, "is not a regular file"));
    }
    let mut text = String::new();
    if file.take(LIMIT + 1).read_to_string(&mut text)? as u64 > LIMIT {
        return Err(Error::new(ErrorKind::InvalidData, "is larger than 16 MiB"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_of_a_sane_size_is_read() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("applied.json");
        assert_eq!(read(&file).unwrap_err().kind(), ErrorKind::NotFound);
        std::fs::write(&file, "{}").unwrap();
        let link = place.path().join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(read(&link).unwrap(), "{}");
        std::fs::File::options().write(true).open(&file).unwrap().set_len(LIMIT).unwrap();
        assert_eq!(read(&file).unwrap().len() as u64, LIMIT);
        std::fs::File::options().write(true).open(&file).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(read(&file).unwrap_err().to_string(), "is larger than 16 MiB");
        for path in [place.path(), Path::new("/dev/zero"), Path::new("/dev/full")] {
            assert_eq!(read(path).unwrap_err().to_string(), "is not a regular file", "{}", path.display());
        }
    }
}
