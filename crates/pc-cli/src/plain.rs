//! Text of a disk, a guest or a server on its way to a person: a terminal must not obey it.

use std::borrow::Cow;

/// `text` with every control character (an escape sequence's ESC, a carriage return, C1) as Rust writes it, `\u{1b}`;
/// line feeds and tabs stay.
pub fn printable(text: &str) -> Cow<'_, str> {
    let harmful = |c: char| c.is_control() && c != '\n' && c != '\t';
    if !text.contains(harmful) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if harmful(c) { plain.extend(c.escape_default()) } else { plain.push(c) }
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_obeys_nothing() {
        assert_eq!(
            printable("disk \u{1b}[31m\u{7}\r\u{9b}2J\u{7f}"),
            "disk \\u{1b}[31m\\u{7}\\r\\u{9b}2J\\u{7f}"
        );
        assert!(matches!(printable("a\tb\ngrößer 漢字"), Cow::Borrowed("a\tb\ngrößer 漢字")));
    }
}
