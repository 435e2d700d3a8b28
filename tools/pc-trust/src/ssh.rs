//! SSH keys and certificates; all calls of ssh-keygen(1).
//!
//! Private keys that it must read stand in a directory of mode 0700 on the tmpfs while it runs.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use tempfile::TempDir;
use xshell::{Shell, cmd};
use zeroize::Zeroizing;

use crate::paths::Paths;
use crate::x509::{Names, node_end};

/// What a user certificate lets do, on the node that was called: the listed verbs and nothing else.
pub const FORCED_COMMAND: &str = "/usr/bin/pc-trust gate";
/// Who a user certificate is for.
pub const PRINCIPAL: &str = "personal-cluster";
const DEADLINE: Duration = Duration::from_secs(60);

/// A key pair in OpenSSH's forms.
pub struct SshKey {
    /// Private key file.
    pub private: Zeroizing<String>,
    /// `ssh-ed25519 AAAA... comment`.
    pub public: String,
}

/// A directory on the tmpfs that is gone afterwards.
pub fn workplace(paths: &Paths) -> Result<TempDir> {
    let parent = paths.run();
    crate::files::make_private(&parent)?;
    tempfile::Builder::new().prefix("work-").tempdir_in(&parent).context("making a work directory")
}

/// Makes an ed25519 key.
pub fn new_key(paths: &Paths, comment: &str) -> Result<SshKey> {
    let work = workplace(paths)?;
    let file = work.path().join("key");
    let sh = Shell::new()?;
    pc_run::run(cmd!(sh, "ssh-keygen -q -t ed25519 -N '' -C {comment} -f {file}"))
        .deadline(DEADLINE)
        .output()
        .context("making an SSH key")?;
    Ok(SshKey {
        private: Zeroizing::new(fs::read_to_string(&file).context("reading the new SSH key")?),
        public: fs::read_to_string(file.with_extension("pub"))
            .context("reading the new SSH key")?
            .trim()
            .into(),
    })
}

/// The public half of a private key.
pub fn public_of(paths: &Paths, private: &str) -> Result<String> {
    let work = workplace(paths)?;
    let file = work.path().join("key");
    write_private(&file, private)?;
    let sh = Shell::new()?;
    pc_run::run(cmd!(sh, "ssh-keygen -y -P '' -f {file}"))
        .deadline(DEADLINE)
        .read()
        .context("reading the SSH user key")
}

/// Signs a host key for all names of the node.
pub fn sign_host(paths: &Paths, ca: &str, names: &Names, public: &str) -> Result<String> {
    sign(paths, ca, names, public, &["-h", "-n", &names.all().join(",")])
}

/// Signs a user key: principal [`PRINCIPAL`], everything off but the forced command.
pub fn sign_user(paths: &Paths, ca: &str, names: &Names, public: &str) -> Result<String> {
    let forced = format!("force-command={FORCED_COMMAND}");
    sign(paths, ca, names, public, &["-n", PRINCIPAL, "-O", "clear", "-O", &forced])
}

fn sign(paths: &Paths, ca: &str, names: &Names, public: &str, options: &[&str]) -> Result<String> {
    ed25519(public)?;
    let work = workplace(paths)?;
    let (ca_file, subject) = (work.path().join("ca"), work.path().join("subject.pub"));
    write_private(&ca_file, ca)?;
    fs::write(&subject, format!("{public}\n")).context("writing the key to sign")?;
    let end = node_end();
    let life = format!("20200101:{:04}{:02}{:02}", end.year(), u8::from(end.month()), end.day());
    let identity = &names.node;
    let sh = Shell::new()?;
    // Dates are read in local time: both ends may be a day off, which is of no consequence.
    pc_run::run(cmd!(sh, "ssh-keygen -q -s {ca_file} -I {identity} -V {life} {options...} {subject}"))
        .deadline(DEADLINE)
        .output()
        .context("signing an SSH key")?;
    let certificate = work.path().join("subject-cert.pub");
    Ok(fs::read_to_string(certificate).context("reading the SSH certificate")?.trim().into())
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("creating {}", path.display()))?;
    std::io::Write::write_all(&mut file, text.as_bytes())
        .with_context(|| format!("writing {}", path.display()))
}

/// The 32 bytes of an ed25519 public key, or of the key that a certificate certifies (RFC 4253, 6.6;
/// OpenSSH's PROTOCOL.certkeys: type, nonce, key).
pub fn ed25519(line: &str) -> Result<Vec<u8>> {
    let wrong = || pc_cli::refused("not an ed25519 public key of SSH");
    if line.len() > 4096 || line.contains(['\n', '\r', '\0']) {
        return Err(wrong());
    }
    let mut words = line.split(' ');
    let (kind, blob) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let blob = BASE64.decode(blob).map_err(|_| wrong())?;
    let (inner, rest) = string(&blob).ok_or_else(wrong)?;
    if inner != kind.as_bytes() {
        return Err(wrong());
    }
    let rest = match kind {
        "ssh-ed25519" => rest,
        "ssh-ed25519-cert-v01@openssh.com" => string(rest).ok_or_else(wrong)?.1,
        _ => return Err(wrong()),
    };
    let (key, _) = string(rest).ok_or_else(wrong)?;
    if key.len() == 32 { Ok(key.to_vec()) } else { Err(wrong()) }
}

fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?);
    let length = usize::try_from(length).ok()?;
    Some((bytes.get(4..)?.get(..length)?, &bytes[4 + length..]))
}

/// This machine's ed25519 host key, when it has one.
pub fn host_key(paths: &Paths) -> Result<Option<String>> {
    match fs::read_to_string(paths.at("/etc/ssh/ssh_host_ed25519_key.pub")) {
        Ok(text) => Ok(Some(text.trim().to_string())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(anyhow!(error).context("reading the SSH host key")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_say_what_ssh_keygen_shows() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::new(root.path());
        let (ca, key) = (new_key(&paths, "ca").unwrap(), new_key(&paths, "node1").unwrap());
        let address = "192.0.2.1".parse().unwrap();
        let names = Names { node: "node1".into(), full: "node1.home.arpa".into(), address };
        let show = |certificate: &str| {
            let file = root.path().join("cert.pub");
            fs::write(&file, certificate).unwrap();
            let output = std::process::Command::new("ssh-keygen").arg("-L").arg("-f").arg(&file).output();
            String::from_utf8(output.unwrap().stdout).unwrap()
        };
        let host = sign_host(&paths, &ca.private, &names, &key.public).unwrap();
        let shown = show(&host);
        for expected in ["host certificate", "node1.home.arpa", "192.0.2.1", "from 2020-01-01"] {
            assert!(shown.contains(expected), "{expected}: {shown}");
        }
        let user = sign_user(&paths, &ca.private, &names, &key.public).unwrap();
        let shown = show(&user);
        for expected in ["user certificate", "personal-cluster", FORCED_COMMAND, "Extensions: (none)"] {
            assert!(shown.contains(expected), "{expected}: {shown}");
        }
        assert_eq!(ed25519(&user).unwrap(), ed25519(&key.public).unwrap());
        assert_eq!(public_of(&paths, &key.private).unwrap(), key.public);
        assert_eq!(fs::read_dir(paths.run()).unwrap().count(), 0, "work directories are gone");
    }

    #[test]
    fn other_keys_are_refused() {
        for line in ["", "ssh-rsa AAAA", "ssh-ed25519 !!", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA==", "a\nb"]
        {
            assert!(ed25519(line).is_err(), "{line}");
        }
    }
}
