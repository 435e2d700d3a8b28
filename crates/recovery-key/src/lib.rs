//! The recovery key as text: 256 random bits that survive pencil and paper, and the one way in which every tool reads them.
//! A disk that one tool formats opens with what another tool makes of the same sheet of paper.
//!
//! The form is systemd-cryptenroll(1)'s: 64 modhex letters (at the same place on most keyboard layouts) in eight groups of
//! eight. Reads no file, has no random numbers, decides nothing.

use zeroize::Zeroizing;

/// The letters of a key, in the order of their values.
const MODHEX: &[u8; 16] = b"cbdefghijklnrtuv";

/// What is wrong with a text that has another form, as the end of a sentence about it.
pub const FORM: &str = "is not 8 groups of 8 letters out of cbdefghijklnrtuv";

/// 32 random bytes in the form of a key.
pub fn render(bytes: &[u8; 32]) -> Zeroizing<String> {
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

/// A recovery key, or a passphrase of another form that stands in its place. Wiped from memory when dropped; `Debug` does
/// not show it.
pub struct Key {
    text: Zeroizing<String>,
    written: Option<Zeroizing<String>>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Key {
    /// Reads what a person or a file gave. White space around it does not matter, nor do capitals in a key of the form;
    /// in any other passphrase they do.
    pub fn read(given: &str) -> Key {
        let mut text = Zeroizing::new(given.trim().to_string());
        let mut lower = text.clone();
        lower.make_ascii_lowercase();
        if has_form(&lower) {
            text = lower;
        }
        let line = given.strip_suffix('\n').unwrap_or(given);
        let line = line.strip_suffix('\r').unwrap_or(line);
        let written = (line != text.as_str()).then(|| Zeroizing::new(line.to_string()));
        Key { text, written }
    }

    /// A key that was just made.
    pub fn new(bytes: &[u8; 32]) -> Key {
        Key { text: render(bytes), written: None }
    }

    /// The text that every tool means by it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// For a program's stdin.
    pub fn bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// The line as it was given, when that is another text. Before all tools read alike, disks were formatted with it.
    pub fn as_written(&self) -> Option<&str> {
        self.written.as_ref().map(|text| text.as_str())
    }

    /// Whether it has the form of a key that was generated. Anything else may be guessed: keyslots are not stretched.
    pub fn has_form(&self) -> bool {
        has_form(&self.text)
    }

    /// Only the text.
    pub fn into_text(self) -> Zeroizing<String> {
        self.text
    }
}

fn has_form(text: &str) -> bool {
    let group = |group: &str| group.len() == 8 && group.bytes().all(|byte| MODHEX.contains(&byte));
    text.split('-').count() == 8 && text.split('-').all(group)
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
        assert!(Key::new(&bytes).has_form());
        assert_eq!(format!("{:?}", Key::new(&bytes)), "Key(..)");
    }

    #[test]
    fn a_key_in_capitals_between_blanks_is_the_same_key() {
        let text = render(&[0x5a; 32]);
        for given in [format!("{}\r\n", text.to_uppercase()), format!("  {}\n\n", text.as_str())] {
            let key = Key::read(&given);
            assert_eq!((key.text(), key.has_form()), (text.as_str(), true), "{given:?}");
            assert!(key.as_written().is_some_and(|written| given.starts_with(written)), "{given:?}");
        }
        assert_eq!(Key::read(&format!("{}\n", text.as_str())).as_written(), None);
    }

    #[test]
    fn another_passphrase_keeps_its_capitals_and_has_not_the_form() {
        for given in [
            "",
            "hunter2",
            "Some Phrase",
            "bvcccccc-cccccccc",
            // "a" is no letter of it.
            "avcccccc-cccccccc-cccccccc-cccccccc-cccccccc-cccccccc-cccccccc-ccccccuc",
            "AVcccccc-cccccccc-cccccccc-cccccccc-cccccccc-cccccccc-cccccccc-ccccccuc",
        ] {
            let key = Key::read(&format!(" {given} \n"));
            assert_eq!((key.text(), key.has_form()), (given, false));
        }
    }
}
