//! Files that somebody names: read up to a bound, and never waited for.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, Result};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use pc_cli::refused;
use zeroize::Zeroizing;

/// A key or an advertisement: far beyond any real one.
pub const SMALL: u64 = 1 << 20;

/// The content of a regular file, or of a pipe of the shell (`<(...)`, `/dev/stdin`). What is no such file, is not there or has
/// more than `largest` bytes is refused.
pub fn read(path: &Path, largest: u64) -> Result<Zeroizing<Vec<u8>>> {
    let reading = || format!("reading {}", path.display());
    let file = open(path).with_context(reading)?;
    let mut bytes = Zeroizing::new(Vec::new());
    let count = file.take(largest + 1).read_to_end(&mut bytes).with_context(reading)?;
    if count as u64 > largest {
        return Err(refused(format!("it is larger than {} MiB", largest >> 20))).with_context(reading);
    }
    Ok(bytes)
}

/// Opening alone would wait for the writer of a named pipe, perhaps for ever.
fn open(path: &Path) -> Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
    let file = file.map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::PermissionDenied | ErrorKind::NotADirectory => refused(error),
        _ => error.into(),
    })?;
    let kind = file.metadata()?.file_type();
    if kind.is_fifo() && path.canonicalize().is_err() {
        // Nobody can name it, so a writer had it from the beginning: it is waited for as standard input is.
        fcntl(&file, FcntlArg::F_SETFL(OFlag::empty()))?;
    } else if !kind.is_file() {
        return Err(refused("it is not a regular file"));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::path::PathBuf;

    fn refusal(path: &Path, largest: u64) -> String {
        let error = read(path, largest).unwrap_err();
        assert_eq!(pc_cli::Exit::of(&error), pc_cli::Exit::Refused, "{error:#}");
        format!("{error:#}")
    }

    #[test]
    fn what_has_no_end_or_is_no_file_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let (fifo, file) = (root.path().join("fifo"), root.path().join("file"));
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for path in [Path::new("/dev/zero"), Path::new("/dev/null"), &fifo, root.path()] {
            let said = refusal(path, SMALL);
            assert_eq!(said, format!("reading {}: it is not a regular file", path.display()));
        }
        assert!(refusal(&file, SMALL).contains("No such file"), "{}", refusal(&file, SMALL));
        let sparse = File::create(&file).unwrap();
        sparse.set_len(SMALL).unwrap();
        assert_eq!(read(&file, SMALL).unwrap().len() as u64, SMALL);
        sparse.set_len(1 << 40).unwrap();
        assert!(refusal(&file, SMALL).ends_with("it is larger than 1 MiB"));
    }

    #[test]
    fn a_pipe_of_the_shell_is_read_to_its_end() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let path = PathBuf::from(format!("/proc/self/fd/{}", reader.as_raw_fd()));
        let late = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(50));
            nix::unistd::write(&writer, b"key").unwrap();
        });
        assert_eq!(**read(&path, SMALL).unwrap(), *b"key");
        late.join().unwrap();
    }
}
