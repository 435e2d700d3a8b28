//! The bearer token that a scrape must show. Compared in constant time, wiped when it is dropped, never shown.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use base64ct::{Base64, Encoding};
use pc_cli::{refused, try_again};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// 16 random bytes in base64 are 24 characters; whoever types less has chosen a password.
const SHORTEST: usize = 24;
/// No token is longer.
const LONGEST: u64 = 4096;
/// What pc-exporter.service has in its place while it is not open.
const CLOSED: &[u8] = b"closed";

/// What the client must know.
pub struct Token(Zeroizing<Vec<u8>>);

impl Token {
    /// The first line of a file; 75 while it is not there, or not open yet.
    pub fn read(path: &Path) -> Result<Token> {
        let closed = || {
            try_again(format!(
                "the token {} is not open yet\n  pc-unlock unseal exporter.token",
                path.display()
            ))
        };
        let mut bytes = Zeroizing::new(Vec::with_capacity(1 << 13));
        match std::fs::File::open(path) {
            Ok(file) => file.take(LONGEST + 1).read_to_end(&mut bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(closed()),
            Err(error) => Err(error),
        }
        .with_context(|| format!("reading {}", path.display()))?;
        let token = Zeroizing::new(bytes.trim_ascii_end().to_vec());
        if *token == CLOSED {
            return Err(closed());
        }
        // RFC 6750, 2.1: what may follow `Bearer `. base64 and hexadecimal digits are among it.
        let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(byte);
        let fits = (SHORTEST as u64..=LONGEST).contains(&(token.len() as u64));
        if !fits || !token.iter().all(allowed) {
            return Err(refused(format!(
                "{}: a token is one line of {SHORTEST} to {LONGEST} letters, digits and -._~+/=\n  head -c 32 /dev/urandom | base64 -w 0 | pc-unlock seal exporter.token",
                path.display()
            )));
        }
        Ok(Token(token))
    }

    /// Whether an `Authorization` header shows it: as a bearer token (RFC 6750), or, for a person with a browser, as the password
    /// of any name (RFC 7617).
    pub fn allows(&self, authorization: Option<&str>) -> bool {
        let Some((scheme, shown)) = authorization.and_then(|header| header.split_once(' ')) else {
            return false;
        };
        let shown = shown.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return self.is(shown.as_bytes());
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return false;
        }
        let mut buffer = Zeroizing::new(vec![0; shown.len()]);
        let Ok(decoded) = Base64::decode(shown, &mut buffer) else { return false };
        let password = decoded.iter().position(|byte| *byte == b':').map(|colon| &decoded[colon + 1..]);
        password.is_some_and(|password| self.is(password))
    }

    /// How long it is may be learnt from the time that this takes; nothing else.
    fn is(&self, shown: &[u8]) -> bool {
        self.0.ct_eq(shown).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pc_cli::Exit;

    /// What a line makes.
    fn of(line: &str) -> Result<Token> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, line).unwrap();
        Token::read(&path)
    }

    fn code(line: &str) -> u8 {
        Exit::of(&of(line).err().unwrap()).code()
    }

    /// 24 times the same: no secret of anybody.
    fn letters() -> String {
        "x".repeat(SHORTEST)
    }

    #[test]
    fn only_the_token_opens() {
        let token = of(&format!("{}\n", letters())).unwrap();
        let bearer = |word: &str| token.allows(Some(&format!("Bearer {word}")));
        assert!(bearer(&letters()) && token.allows(Some(&format!("bEARER  {}", letters()))));
        assert!(!bearer("") && !bearer(&letters()[1..]) && !bearer(&"y".repeat(SHORTEST)));
        assert!(!bearer(&format!("{}x", letters())) && !token.allows(None) && !token.allows(Some("Bearer")));
        assert!(!token.allows(Some(&letters())) && !token.allows(Some(&format!("Digest {}", letters()))));
        let basic =
            |text: &str| token.allows(Some(&format!("Basic {}", Base64::encode_string(text.as_bytes()))));
        assert!(basic(&format!("prometheus:{}", letters())) && basic(&format!(":{}", letters())));
        assert!(!basic(&letters()) && !basic(&format!("{}:", letters())) && !basic("a:b"));
        assert!(!token.allows(Some("Basic !!!")) && !token.allows(Some("Basic ")));
    }

    #[test]
    fn what_is_no_token_is_refused_and_what_is_closed_waited_for() {
        assert_eq!(code(&letters()[1..]), 2);
        assert_eq!(code(&"x".repeat(5000)), 2);
        assert_eq!(code(&format!("{} {}", letters(), letters())), 2);
        assert_eq!(code(&format!("{}\n{}", letters(), letters())), 2);
        assert_eq!(code(""), 2);
        assert_eq!(code("closed"), 75);
        let missing = Token::read(Path::new("/nonexistent/token")).err().unwrap();
        assert_eq!(Exit::of(&missing).code(), 75);
        // The remedy makes one that is taken.
        let made = Base64::encode_string(&[0xff; 32]);
        assert!(of(&made).is_ok() && made.len() == 44);
    }
}
