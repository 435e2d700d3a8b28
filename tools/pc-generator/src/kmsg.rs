//! The kernel's log: the only place that exists when generators run (systemd.generator(7)).

use std::io::Write;
use std::path::Path;

/// Writes one warning; on a test's root, or where the kernel's log cannot be opened, to stderr.
pub fn log(root: &Path, line: &str) {
    let kernel = if root == Path::new("/") {
        std::fs::OpenOptions::new().write(true).open("/dev/kmsg").ok()
    } else {
        None
    };
    // <28>: facility daemon (3), priority warning (4). One write per record (Linux, Documentation/ABI/testing/dev-kmsg).
    let sent =
        kernel.is_some_and(|mut file| file.write_all(format!("<28>pc-generator: {line}").as_bytes()).is_ok());
    if !sent {
        pc_cli::log::warning(line);
    }
}
