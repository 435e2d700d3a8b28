//! Join tokens as text: 128 secret bits, 120 bits of the CA's fingerprint, 12 bits against typing errors,
//! as 52 characters of Crockford's base32 (no i, l, o, u) in groups of four.

use std::fmt;

use anyhow::Result;
use pc_cli::refused;
use ring::digest::{SHA256, digest};
use ring::hmac;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::recovery::random;

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const SECRET: usize = 16;
const PIN: usize = 15;

/// SHA-256 of the CA certificate's DER.
pub type Fingerprint = [u8; 32];

/// Fingerprint of a certificate.
pub fn fingerprint(der: &[u8]) -> Fingerprint {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, der).as_ref());
    bytes
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        text.push(char::from(b"0123456789abcdef"[usize::from(byte >> 4)]));
        text.push(char::from(b"0123456789abcdef"[usize::from(byte & 15)]));
        text
    })
}

/// The reverse of [`hex`].
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let bytes = text.as_bytes();
    if bytes.len() % 2 != 0 {
        return None;
    }
    bytes.chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

/// What a joining node proves that it was told.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Token {
    secret: [u8; SECRET],
    #[zeroize(skip)]
    pin: [u8; PIN],
}

impl Token {
    /// A new token for a cluster whose CA certificate has this fingerprint.
    pub fn generate(ca: &Fingerprint) -> Result<Token> {
        let mut pin = [0; PIN];
        pin.copy_from_slice(&ca[..PIN]);
        Ok(Token { secret: *random::<SECRET>()?, pin })
    }

    /// Reads what somebody typed: capitals, blanks, hyphens do not matter; i and l read as 1, o as 0.
    pub fn parse(text: &str) -> Result<Token> {
        let wrong = |what: &str| {
            refused(format!(
                "the token {what}: it is 13 groups of 4 characters, as `pc-trust token` printed it"
            ))
        };
        let mut digits = Zeroizing::new(Vec::with_capacity(52));
        for character in text.chars().filter(|character| !matches!(character, '-' | ' ' | '\n' | '\r')) {
            let plain = match character.to_ascii_lowercase() {
                'i' | 'l' => '1',
                'o' => '0',
                other => other,
            };
            let position = ALPHABET.iter().position(|letter| char::from(*letter) == plain);
            let Some(digit) = position.and_then(|digit| u8::try_from(digit).ok()) else {
                return Err(wrong(&format!("has a character {character:?} that no token has")));
            };
            digits.push(digit);
        }
        if digits.len() != 52 {
            return Err(wrong(&format!("has {} characters", digits.len())));
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(33));
        let (mut bits, mut have) = (0_u32, 0);
        for digit in &*digits {
            bits = bits << 5 | u32::from(*digit);
            have += 5;
            if have >= 8 {
                have -= 8;
                bytes.push(u8::try_from(bits >> have & 0xff).unwrap_or_default());
            }
        }
        // 260 bits: 32 whole bytes and a half one.
        let rest = u8::try_from(bits & 0xf).unwrap_or_default();
        let mut token = Token { secret: [0; SECRET], pin: [0; PIN] };
        token.secret.copy_from_slice(&bytes[..SECRET]);
        token.pin.copy_from_slice(&bytes[SECRET..SECRET + PIN]);
        if token.check() != [bytes[31], rest << 4] {
            return Err(wrong("has a typing error"));
        }
        Ok(token)
    }

    /// 12 bits that a typing error changes.
    fn check(&self) -> [u8; 2] {
        let sum = digest(&SHA256, &[&self.secret[..], &self.pin[..]].concat());
        [sum.as_ref()[0], sum.as_ref()[1] & 0xf0]
    }

    /// The text that a person carries.
    pub fn text(&self) -> Zeroizing<String> {
        let check = self.check();
        let bytes = Zeroizing::new([&self.secret[..], &self.pin[..], &check[..]].concat());
        let mut text = Zeroizing::new(String::with_capacity(64));
        for index in 0..52 {
            if index > 0 && index % 4 == 0 {
                text.push('-');
            }
            let start = index * 5;
            let high = u16::from(bytes[start / 8]) << 8;
            let low = u16::from(bytes.get(start / 8 + 1).copied().unwrap_or_default());
            let digit = ((high | low) << (start % 8)) >> 11;
            text.push(char::from(ALPHABET[usize::from(digit)]));
        }
        text
    }

    /// Whether this CA is the one that the token was made for.
    pub fn pins(&self, ca: &Fingerprint) -> bool {
        self.pin == ca[..PIN]
    }

    /// What the issuing node keeps instead of the token.
    pub fn verifier(&self) -> Verifier {
        let tag = digest(&SHA256, &[b"personal-cluster join token\0", &self.secret[..]].concat());
        let mut bytes = Zeroizing::new([0; 32]);
        bytes.copy_from_slice(tag.as_ref());
        Verifier(bytes)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// Who proves.
#[derive(Debug, Clone, Copy)]
pub enum Side {
    /// The node that wants in.
    Joiner,
    /// The node that was asked.
    Member,
}

/// A hash of the token's secret; both sides prove knowledge of it, bound to their TLS session, so that the
/// token itself never travels and a man in the middle has two sessions that do not match.
pub struct Verifier(Zeroizing<[u8; 32]>);

impl Verifier {
    /// From the form that is stored.
    pub fn from_hex(text: &str) -> Option<Verifier> {
        let bytes = Zeroizing::new(unhex(text)?);
        let mut verifier = Verifier(Zeroizing::new([0; 32]));
        if bytes.len() != 32 {
            return None;
        }
        verifier.0.copy_from_slice(&bytes);
        Some(verifier)
    }

    /// The form that is stored.
    pub fn hex(&self) -> Zeroizing<String> {
        Zeroizing::new(hex(&*self.0))
    }

    fn message(side: Side, node: &str, session: &[u8]) -> Vec<u8> {
        let side = match side {
            Side::Joiner => "joiner",
            Side::Member => "member",
        };
        [side.as_bytes(), b"\0", node.as_bytes(), b"\0", session].concat()
    }

    /// HMAC-SHA256 over the side, the node's name and the session's exported key (RFC 8446, 7.5).
    pub fn prove(&self, side: Side, node: &str, session: &[u8]) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &*self.0);
        hex(hmac::sign(&key, &Self::message(side, node, session)).as_ref())
    }

    /// Checks the other side's proof in constant time.
    pub fn check(&self, side: Side, node: &str, session: &[u8], proof: &str) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &*self.0);
        unhex(proof)
            .is_some_and(|proof| hmac::verify(&key, &Self::message(side, node, session), &proof).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_survives_typing() {
        let ca = fingerprint(b"certificate");
        let token = Token::generate(&ca).unwrap();
        let text = token.text();
        assert_eq!(text.len(), 52 + 12);
        let sloppy = text.to_uppercase().replace('1', "l").replace('0', "O").replace('-', " ");
        let read = Token::parse(&sloppy).unwrap();
        assert_eq!(*read.text(), *text);
        assert!(read.pins(&ca) && !read.pins(&fingerprint(b"other")));
    }

    /// Worked out by hand: all bits zero but the check, SHA-256 of 31 zero bytes, which starts with 0xf5, 0x8a.
    #[test]
    fn a_known_token() {
        let token = Token { secret: [0; 16], pin: [0; 15] };
        let sum = digest(&SHA256, &[0; 31]);
        let (first, second) = (sum.as_ref()[0], sum.as_ref()[1]);
        let twelve = u16::from(first) << 4 | u16::from(second >> 4);
        // Bits 248..260: the last two bits of digit 49 (248 = 49 * 5 + 3), then digits 50 and 51.
        let last: String = [twelve >> 10, twelve >> 5 & 31, twelve & 31]
            .iter()
            .map(|digit| char::from(ALPHABET[usize::from(*digit)]))
            .collect();
        assert_eq!(token.text().replace('-', ""), format!("{}{last}", "0".repeat(49)));
    }

    #[test]
    fn every_single_typing_error_is_found_or_rare() {
        let token = Token::generate(&fingerprint(b"certificate")).unwrap();
        let text = token.text();
        let mut missed = 0;
        for index in (0..text.len()).filter(|index| text.as_bytes()[*index] != b'-') {
            for letter in ALPHABET.iter().filter(|letter| **letter != text.as_bytes()[index]) {
                let mut typed = text.as_bytes().to_vec();
                typed[index] = *letter;
                missed += usize::from(Token::parse(std::str::from_utf8(&typed).unwrap()).is_ok());
            }
        }
        // 1612 errors, one in 4096 of which is missed on average.
        assert!(missed < 10, "{missed}");
    }

    #[test]
    fn garbage_is_refused_with_a_reason() {
        for (text, reason) in [("", "0 characters"), ("u", "'u'"), ("abcd", "4 characters"), ("ä", "'ä'")] {
            let error = Token::parse(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        assert!(Token::parse(&"1".repeat(100_000)).is_err());
    }

    #[test]
    fn proofs_are_bound_to_side_name_and_session() {
        let token = Token::generate(&fingerprint(b"certificate")).unwrap();
        let verifier = Verifier::from_hex(&token.verifier().hex()).unwrap();
        let proof = token.verifier().prove(Side::Joiner, "node2", b"session");
        assert!(verifier.check(Side::Joiner, "node2", b"session", &proof));
        assert!(!verifier.check(Side::Member, "node2", b"session", &proof));
        assert!(!verifier.check(Side::Joiner, "node3", b"session", &proof));
        assert!(!verifier.check(Side::Joiner, "node2", b"another", &proof));
        assert!(!verifier.check(Side::Joiner, "node2", b"session", "zz"));
    }
}
