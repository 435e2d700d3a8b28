//! Who may do this: one message for every tool, with the command to type instead.

use std::ffi::OsStr;
use std::path::Path;

use anyhow::Result;

use crate::exit::refused;

/// Refuses, with exit code 2, whoever is not root; the second line is the same command with `sudo` before it.
///
/// A tool that acts below another `--root` asks only when that root is `/`: anybody may fill a directory.
///
/// ```no_run
/// # fn main() -> anyhow::Result<()> {
/// pc_cli::require_root()?; // this needs root\n  sudo pc-vm stop mail
/// # Ok(())
/// # }
/// ```
pub fn require_root() -> Result<()> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    Err(refused(format!("this needs root\n  {}", as_root())))
}

/// This very command for root: `sudo pc-vm stop mail`. The remedy of an error that says more than
/// [`require_root`], as when a file cannot be written.
pub fn as_root() -> String {
    with_sudo(std::env::args_os())
}

fn with_sudo<A: AsRef<OsStr>>(arguments: impl Iterator<Item = A>) -> String {
    let mut command = String::from("sudo");
    for (index, argument) in arguments.enumerate() {
        let argument = argument.as_ref();
        // As one types it, not by the path under which the kernel found it.
        let name = if index == 0 { Path::new(argument).file_name() } else { None };
        command.push(' ');
        command.push_str(&word(&name.unwrap_or(argument).to_string_lossy()));
    }
    command
}

/// One argument as a shell reads it back.
fn word(text: &str) -> String {
    // A line break, or what a terminal would obey, has no place in a message.
    let text: String = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_repeated_as_it_was_typed() {
        let with = |arguments: &[&str]| with_sudo(arguments.iter());
        assert_eq!(with(&["/usr/bin/pc-vm", "stop", "mail"]), "sudo pc-vm stop mail");
        assert_eq!(with(&["pc-config", "put", "-"]), "sudo pc-config put -");
        assert_eq!(
            with(&["pc-config", "put", "my file", "", "it's"]),
            r"sudo pc-config put 'my file' '' 'it'\''s'"
        );
        assert_eq!(with(&["pc-vm", "a\nb"]), "sudo pc-vm 'a\u{fffd}b'");
        assert_eq!(with(&["pc-vm", "$(reboot)"]), "sudo pc-vm '$(reboot)'");
    }

    #[test]
    fn others_than_root_are_refused() {
        let answer = require_root();
        if nix::unistd::geteuid().is_root() {
            answer.unwrap();
        } else {
            let error = answer.unwrap_err();
            assert!(error.is::<crate::Refused>());
            assert!(error.to_string().starts_with("this needs root\n  sudo "), "{error}");
        }
    }
}
