//! The passphrase of a repository: opened by the unlock servers when it is needed, never on a disk in clear.

use std::fs;
use std::io::{ErrorKind, Read};
use std::path::Path;

use anyhow::{Context, Result};
use cluster::paths;
use pc_cli::{refused, write_atomic};
use zeroize::Zeroizing;

use crate::siblings;
use crate::site::Site;
use crate::want::Policy;

/// Read easily, typed easily: 32 symbols that nobody takes for one another.
const SYMBOLS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// 8 groups of 5: 200 bits.
const GROUPS: usize = 8;

/// A secret that a person may have ended with a line break.
fn trimmed(mut secret: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    while secret.last().is_some_and(|last| *last == b'\n' || *last == b'\r') {
        secret.pop();
    }
    secret
}

/// The name under which pc-unlock knows it.
pub fn secret_name(policy: &Policy) -> String {
    format!("borg-{}", policy.name)
}

/// The passphrase; `None` when the policy has none yet.
///
/// First the open secret of this node (`pc-unlock seal borg-POLICY`, opened at each boot), then the copy on the volume,
/// sealed to the same servers, which every node finds.
pub fn find(site: &Site, policy: &Policy) -> Result<Option<Zeroizing<Vec<u8>>>> {
    let open = site.at(&format!("{}/{}", paths::SECRETS, secret_name(policy)));
    if let Some(secret) = read(&open)? {
        return Ok(Some(trimmed(secret)));
    }
    match read(&site.records(policy).passphrase())? {
        None => Ok(None),
        Some(sealed) => siblings::unseal(&sealed)
            .map(|secret| Some(trimmed(secret)))
            .with_context(|| format!("backup.{}: opening its passphrase", policy.name)),
    }
}

/// The passphrase of a policy that has one.
pub fn require(site: &Site, policy: &Policy) -> Result<Zeroizing<Vec<u8>>> {
    find(site, policy)?
        .ok_or_else(|| refused(format!("backup.{0}: has no repository yet\n  pc-borg init {0}", policy.name)))
}

/// Seals it and leaves a copy on the volume, before anything is encrypted to it.
pub fn keep(site: &Site, policy: &Policy, secret: &Zeroizing<Vec<u8>>) -> Result<()> {
    let name = secret_name(policy);
    siblings::seal(site.common, &name, secret)?;
    let sealed = site.at(&format!("{}/{name}.jwe", paths::SEALED));
    let content = fs::read(&sealed).with_context(|| format!("reading {}", sealed.display()))?;
    write_atomic(&site.records(policy).passphrase(), &content, 0o600)
}

/// What somebody else chose: a file, or `-` for standard input.
pub fn given(file: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let mut secret = Zeroizing::new(Vec::new());
    let read = if file == Path::new("-") {
        std::io::stdin().take(4096).read_to_end(&mut secret)
    } else {
        fs::File::open(file).and_then(|file| file.take(4096).read_to_end(&mut secret))
    };
    read.with_context(|| format!("reading the passphrase from {}", file.display()))?;
    let secret = trimmed(secret);
    if secret.is_empty() || secret.contains(&b'\n') {
        return Err(refused(format!("{}: a passphrase is one line that is not empty", file.display())));
    }
    Ok(secret)
}

/// A new one, out of the kernel's random numbers.
pub fn new() -> Result<Zeroizing<Vec<u8>>> {
    let mut random = Zeroizing::new([0; GROUPS * 5]);
    let filled = rustix::rand::getrandom(random.as_mut_slice(), rustix::rand::GetRandomFlags::empty())
        .context("asking the kernel for random numbers")?;
    if filled != random.len() {
        anyhow::bail!("asking the kernel for random numbers: {filled} bytes only");
    }
    let mut secret = Zeroizing::new(Vec::with_capacity(GROUPS * 6));
    for (index, byte) in random.iter().enumerate() {
        if index > 0 && index % 5 == 0 {
            secret.push(b'-');
        }
        secret.push(SYMBOLS[usize::from(byte % 32)]);
    }
    Ok(secret)
}

fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>> {
    match fs::read(path) {
        Ok(content) => Ok(Some(Zeroizing::new(content))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_passphrase_is_long_and_never_the_same() {
        let (one, two) = (new().unwrap(), new().unwrap());
        assert_eq!(one.len(), 47);
        assert_ne!(*one, *two);
        assert!(one.iter().all(|byte| *byte == b'-' || SYMBOLS.contains(byte)));
    }

    #[test]
    fn a_line_break_is_not_part_of_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "correct horse\r\n").unwrap();
        assert_eq!(*given(file.path()).unwrap(), b"correct horse");
        for bad in ["", "\n", "two\nlines\n"] {
            fs::write(file.path(), bad).unwrap();
            assert!(given(file.path()).unwrap_err().is::<pc_cli::Refused>(), "{bad:?}");
        }
    }
}
