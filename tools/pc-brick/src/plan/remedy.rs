//! The line that brings back a brick whose header is gone, before one that gives it up.

use cluster::Brick;

use crate::facts::Backup;

/// What pc-unlock has to be told before it writes over it.
pub(super) const EVERYTHING: &str = "--yes-destroy-all-data-on-it";
pub(super) const OTHER: &str = "--overwrite-other-device";
pub(super) const LOST_TOO: &str = ", nor that backup, which is lost with it";

/// What stands where the header of a brick was.
#[derive(Clone, Copy)]
pub(super) enum Now {
    /// Nothing that anybody knows, and there is a record of the brick.
    Recorded,
    /// Something else, and there is a record of the brick.
    Another(&'static str),
    /// Whatever it is, there is no record: pc-unlock has to be told which backup, too.
    Forgotten(&'static str),
}

/// The line that puts a header back.
pub(super) fn restore(brick: &Brick, backup: &Backup, now: Now) -> String {
    let device = &brick.device;
    let command = match (backup, now) {
        (Backup::Sealed(_), Now::Recorded) => format!("pc-unlock header restore {device}"),
        (Backup::Sealed(_), Now::Another(flag)) => format!("pc-unlock header restore {device} {flag}"),
        (Backup::Sealed(path), Now::Forgotten(flag)) => {
            format!("pc-unlock header restore {device} --from {path} {flag}")
        }
        (Backup::Image(path), _) => {
            format!("cryptsetup luksHeaderRestore {device} --header-backup-file {path}")
        }
    };
    match now {
        Now::Recorded => format!("{command}  # its data comes back with its header\n  "),
        Now::Another(_) => {
            format!(
                "{command}  # if what is there now came by mistake: it is lost, the brick's data comes back\n  "
            )
        }
        Now::Forgotten(_) => {
            format!("{command}  # if it is that brick, its data comes back: then pc-brick adopt {device}\n  ")
        }
    }
}
