//! The recovery key: 256 random bits as text that survives pencil and paper.
//!
//! The form is systemd-cryptenroll's: 64 modhex digits (`cbdefghijklnrtuv`, the same on most keyboard
//! layouts) in eight groups of eight.

use anyhow::{Context, Result, anyhow};
use pc_cli::refused;
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::{Zeroize, Zeroizing};

const MODHEX: &[u8; 16] = b"cbdefghijklnrtuv";

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
    Ok(render(&*random::<32>()?))
}

fn render(bytes: &[u8; 32]) -> RecoveryKey {
    // One allocation: a growing string would leave copies behind.
    let mut text = Zeroizing::new(String::with_capacity(71));
    for (index, byte) in bytes.iter().enumerate() {
        if index > 0 && index % 4 == 0 {
            text.push('-');
        }
        text.push(char::from(MODHEX[usize::from(byte >> 4)]));
        text.push(char::from(MODHEX[usize::from(byte & 15)]));
    }
    text
}

/// Reads one that a person or a file gave: blanks around it and capitals do not matter.
pub fn parse(text: &str) -> Result<RecoveryKey> {
    let mut key = Zeroizing::new(text.trim().to_string());
    key.make_ascii_lowercase();
    let groups: Vec<&str> = key.split('-').collect();
    let group = |group: &&str| group.len() == 8 && group.bytes().all(|byte| MODHEX.contains(&byte));
    if groups.len() != 8 || !groups.iter().all(group) {
        return Err(refused(
            "the recovery key is not 8 groups of 8 letters out of cbdefghijklnrtuv\n  \
             `systemd-cryptenroll --recovery-key` makes such a key; leave it out to have one made",
        ));
    }
    Ok(key)
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
    fn the_form_is_that_of_systemd() {
        let mut bytes = [0; 32];
        bytes[0] = 0x1f;
        bytes[31] = 0xe0;
        let text = render(&bytes);
        assert_eq!(text.as_str(), "bvcccccc-cccccccc-cccccccc-cccccccc-cccccccc-cccccccc-cccccccc-ccccccuc");
        assert_eq!(parse(&format!(" {}\n", text.to_uppercase())).unwrap(), text);
        assert_ne!(generate().unwrap(), generate().unwrap());
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
