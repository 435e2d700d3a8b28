//! Sections and keys of the files of systemd and `NetworkManager`.

/// One `key=value` with where it stands.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    pub section: &'a str,
    pub key: &'a str,
    pub value: &'a str,
    pub line: usize,
}

/// All entries of a file, in order. Comments begin with `#` or `;` (systemd.syntax(7), glib key files).
pub fn entries(text: &str) -> Vec<Entry<'_>> {
    let mut section = "";
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
        } else if let Some((key, value)) = line.split_once('=') {
            found.push(Entry { section, key: key.trim(), value: value.trim(), line: index + 1 });
        }
    }
    found
}

/// A shell-style pattern: `*`, `?`, `[a-z]`, `[!a]` (fnmatch(3)).
pub fn matches(pattern: &str, text: &str) -> bool {
    glob(pattern.as_bytes(), text.as_bytes())
}

fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => (0..=text.len()).any(|skip| glob(rest, &text[skip..])),
        (Some((b'?', rest)), Some((_, tail))) => glob(rest, tail),
        (Some((b'[', rest)), Some((byte, tail))) => match class(rest, *byte) {
            Some((within, after)) => within && glob(after, tail),
            None => *byte == b'[' && glob(rest, tail),
        },
        (Some((expected, rest)), Some((byte, tail))) => expected == byte && glob(rest, tail),
        _ => false,
    }
}

/// Whether `byte` is in the class that `pattern` begins with (after its bracket), and what follows it.
fn class(pattern: &[u8], byte: u8) -> Option<(bool, &[u8])> {
    let (negated, body) = match pattern.first()? {
        b'!' | b'^' => (true, &pattern[1..]),
        _ => (false, pattern),
    };
    let end = 1 + body.get(1..)?.iter().position(|byte| *byte == b']')?;
    let set = &body[..end];
    let mut within = false;
    let mut at = 0;
    while at < set.len() {
        if at + 2 < set.len() && set[at + 1] == b'-' {
            within |= (set[at]..=set[at + 2]).contains(&byte);
            at += 3;
        } else {
            within |= set[at] == byte;
            at += 1;
        }
    }
    Some((within != negated, &body[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_fnmatch_does() {
        for (pattern, text) in [
            ("en*", "enp1s0"),
            ("*", ""),
            ("e?h[0-9]", "eth7"),
            ("[!v]*", "eth0"),
            ("br-*", "br-lan"),
            ("[", "["),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in
            [("en*", "eth0"), ("eth[0-9]", "ethx"), ("[!e]*", "eth0"), ("eth", "eth0"), ("", "a")]
        {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn entries_know_their_section_and_line() {
        let found = entries("# c\n[Match]\nName = en*\n;x\n\n[Network]\nDHCP=yes\nnonsense\n");
        let seen: Vec<_> =
            found.iter().map(|entry| (entry.section, entry.key, entry.value, entry.line)).collect();
        assert_eq!(seen, [("Match", "Name", "en*", 3), ("Network", "DHCP", "yes", 7)]);
    }
}
