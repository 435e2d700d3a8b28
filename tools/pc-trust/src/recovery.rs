//! The recovery key: made here, or handed over by the administrator. Its form is the crate `recovery-key`'s.

use anyhow::{Context, Result, anyhow};
use pc_cli::refused;
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::{Zeroize, Zeroizing};

/// The text of a recovery key.
pub type RecoveryKey = Zeroizing<String>;

/// Fills a buffer from the kernel.
pub fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>> {
    let mut bytes = Zeroizing::new([0; N]);
    SystemRandom::new().fill(bytes.as_mut()).map_err(|_| anyhow!("reading random bytes from the kernel"))?;
    Ok(bytes)
}

/// Makes a new one.
pub fn generate() -> Result<RecoveryKey> {
    Ok(recovery_key::render(&*random::<32>()?))
}

/// Reads one that a person or a file gave: blanks around it and capitals do not matter.
pub fn parse(text: &str) -> Result<RecoveryKey> {
    let key = recovery_key::Key::read(text);
    if !key.has_form() {
        return Err(refused(format!(
            "the recovery key {}\n  \
             `systemd-cryptenroll --recovery-key` makes such a key; leave it out to have one made",
            recovery_key::FORM
        )));
    }
    Ok(key.into_text())
}

/// The key that the administrator hands over: a file, `-` for stdin, or the systemd credential `recovery-key`.
pub fn given(file: Option<&std::path::Path>) -> Result<Option<RecoveryKey>> {
    let mut text = Zeroizing::new(String::new());
    if let Some(file) = file {
        if file.as_os_str() == "-" {
            std::io::Read::read_to_string(&mut std::io::stdin().lock(), &mut text)
                .context("reading the recovery key from standard input")?;
        } else {
            let mut read = std::fs::read_to_string(file)
                .with_context(|| format!("reading the recovery key from {}", file.display()))?;
            text.push_str(&read);
            read.zeroize();
        }
        return parse(&text).map(Some);
    }
    let Some(directory) = std::env::var_os("CREDENTIALS_DIRECTORY") else { return Ok(None) };
    match std::fs::read_to_string(std::path::Path::new(&directory).join("recovery-key")) {
        Ok(read) => parse(&Zeroizing::new(read)).map(Some),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context("reading the credential recovery-key"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_are_alike_and_capitals_do_not_matter() {
        let text = generate().unwrap();
        assert_eq!(parse(&format!(" {}\n", text.to_uppercase())).unwrap(), text);
        assert_ne!(generate().unwrap(), text);
    }

    #[test]
    fn weak_or_mistyped_keys_are_refused() {
        for text in [
            "",
            "secret",
            "bvcccccc-cccccccc",
            "avcccccc-cccccccc-cccccccc-cccccccc-cccccccc-cccccccc-cccccccc-ccccccuc",
        ] {
            assert!(parse(text).unwrap_err().to_string().contains("8 groups of 8"), "{text}");
        }
    }
}
