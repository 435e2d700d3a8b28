//! /etc/network/interfaces and what it sources: interfaces(5) of Debian's ifupdown.

use super::ini::matches;
use super::{By, Claim};

/// What taken-over lines begin with, so that a person can find and undo them.
pub const MARK: &str = "#pc-ovs# ";

/// Words that begin a new stanza, besides every `allow-*`.
const STANZAS: [&str; 9] = [
    "iface",
    "auto",
    "mapping",
    "source",
    "source-directory",
    "rename",
    "template",
    "no-auto-down",
    "no-scripts",
];
/// Options of one interface that name others.
const MEMBERS: [&str; 6] =
    ["bridge_ports", "bridge-ports", "bond-slaves", "slaves", "ovs_ports", "vlan-raw-device"];

/// A stanza: its first line, the lines it covers, its words.
struct Stanza {
    line: usize,
    lines: Vec<usize>,
    words: Vec<String>,
    options: Vec<Vec<String>>,
}

/// Reads one file into stanzas. A backslash at the end of a line continues it.
fn stanzas(text: &str) -> Vec<Stanza> {
    let mut found: Vec<Stanza> = Vec::new();
    let mut pending: Vec<(usize, &str)> = Vec::new();
    let mut input = text.lines().enumerate().peekable();
    while let Some((index, line)) = input.next() {
        if pending.is_empty() && line.trim_start().starts_with('#') {
            continue;
        }
        pending.push((index + 1, line));
        if line.ends_with('\\') && input.peek().is_some() {
            continue;
        }
        let joined: String =
            pending.iter().map(|(_, part)| part.trim_end_matches('\\')).collect::<Vec<_>>().join(" ");
        let lines: Vec<usize> = pending.drain(..).map(|(number, _)| number).collect();
        let words: Vec<String> = joined.split_whitespace().map(str::to_string).collect();
        let Some(first) = words.first() else { continue };
        if STANZAS.contains(&first.as_str()) || first.starts_with("allow-") {
            found.push(Stanza { line: lines[0], lines, words, options: Vec::new() });
        } else if let Some(stanza) = found.last_mut() {
            stanza.lines.extend(lines);
            stanza.options.push(words);
        }
    }
    found
}

impl Stanza {
    fn is_iface(&self) -> bool {
        self.words[0] == "iface"
    }

    /// The interface of an `iface` stanza.
    fn name(&self) -> &str {
        self.words.get(1).map_or("", String::as_str)
    }

    /// The interface itself, or an alias of it (`eth0:1`).
    fn is_of(&self, device: &str) -> bool {
        self.name() == device || self.name().strip_prefix(device).is_some_and(|rest| rest.starts_with(':'))
    }

    fn method(&self) -> &str {
        self.words.get(3).map_or("", String::as_str)
    }

    /// Another interface that is built on the device: a VLAN of it, or a bridge or bond that has it.
    fn is_on(&self, device: &str) -> bool {
        let vlan = self.name().strip_prefix(device).is_some_and(|rest| rest.starts_with('.'));
        let member = |option: &Vec<String>| {
            MEMBERS.contains(&option[0].as_str()) && option[1..].iter().any(|word| word == device)
        };
        self.is_iface() && (vlan || (self.name() != device && self.options.iter().any(member)))
    }

    /// The `auto` or `allow-*` line of interfaces.
    fn starts(&self, device: &str) -> bool {
        (self.words[0] == "auto" || self.words[0].starts_with("allow-"))
            && self.words[1..].iter().any(|word| word == device)
    }
}

/// Who claims `device` in one file.
pub fn claims(file: &str, text: &str, device: &str) -> Vec<Claim> {
    let claim = |stanza: &Stanza, by_hand: Option<String>| Claim {
        device: device.into(),
        by: By::Ifupdown,
        file: file.into(),
        line: stanza.line,
        dhcp: stanza.method() == "dhcp",
        by_hand,
    };
    let mut found = Vec::new();
    for stanza in &stanzas(text) {
        if stanza.is_iface() && stanza.is_of(device) {
            // `manual` gives no address; with commands of its own (up, pre-up) it may do anything.
            if stanza.method() != "manual" || stanza.options.iter().any(|option| option[0].ends_with("up")) {
                found.push(claim(stanza, None));
            }
        } else if stanza.is_on(device) {
            let why = format!("remove iface {} by hand: it is built on {device}", stanza.name());
            found.push(claim(stanza, Some(why)));
        } else if stanza.is_iface() && stanza.name().starts_with('/') {
            let pattern = stanza.name()[1..].split(['/', '=']).next().unwrap_or("");
            if matches(pattern, device) {
                let why = format!("name the interfaces that iface {} is for", stanza.name());
                found.push(claim(stanza, Some(why)));
            }
        }
    }
    found
}

/// The file with every line that configures `device` commented out; a line shared with others loses the
/// device's name only. `None` when nothing changes.
pub fn without(text: &str, device: &str) -> Option<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_string).collect();
    let mut changed = false;
    for stanza in &stanzas(text) {
        let shared = stanza.words.len() > 2;
        if stanza.is_iface() && stanza.is_of(device) || stanza.starts(device) {
            changed = true;
            for number in &stanza.lines {
                lines[number - 1] = format!("{MARK}{}", lines[number - 1]);
            }
        }
        if stanza.starts(device) && shared {
            let kept: Vec<&str> =
                stanza.words.iter().map(String::as_str).filter(|word| *word != device).collect();
            let last = stanza.lines.last().copied().unwrap_or(stanza.line);
            lines[last - 1].push('\n');
            lines[last - 1].push_str(&kept.join(" "));
        }
    }
    changed.then(|| lines.join("\n") + "\n")
}

/// What a file sources: `(pattern, is a directory)`.
pub fn sources(text: &str) -> Vec<(String, bool)> {
    let named = |stanza: &Stanza| match stanza.words.first().map(String::as_str) {
        Some("source") => Some(false),
        Some("source-directory") => Some(true),
        _ => None,
    };
    stanzas(text)
        .iter()
        .filter_map(|stanza| Some((named(stanza)?, &stanza.words[1..])))
        .flat_map(|(directory, paths)| paths.iter().map(move |path| (path.clone(), directory)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = include_str!("../../tests/fixtures/interfaces");

    fn lines(device: &str) -> Vec<(usize, bool, bool)> {
        claims("/i", FILE, device)
            .iter()
            .map(|claim| (claim.line, claim.dhcp, claim.by_hand.is_some()))
            .collect()
    }

    #[test]
    fn stanzas_are_found_by_line() {
        assert_eq!(lines("lo"), [(5, false, false)]);
        assert_eq!(lines("ens3"), [(9, false, false), (16, false, false)]);
        assert_eq!(lines("ens4"), [(19, true, false)]);
        assert_eq!(lines("ens5"), [(24, false, true)], "member of br0");
        assert_eq!(lines("ens6"), [(32, false, true)], "under VLAN ens6.20");
        assert_eq!(lines("wlx00"), [(36, true, true)], "by pattern");
        assert_eq!(lines("ens9"), []);
    }

    #[test]
    fn exactly_the_lines_of_the_device_are_commented_out() {
        let expected = include_str!("../../tests/fixtures/interfaces.without-ens3");
        let without = without(FILE, "ens3").unwrap();
        assert_eq!(without, expected);
        assert!(claims("/i", &without, "ens3").is_empty());
        assert_eq!(super::without(&without, "ens3"), None, "a second time changes nothing");
        assert_eq!(super::without(FILE, "ens9"), None);
    }

    #[test]
    fn sources_are_named() {
        let expected = [("/etc/network/interfaces.d/*".to_string(), false), ("more".into(), true)];
        assert_eq!(sources(FILE), expected);
    }

    /// Whatever a file looks like: afterwards nothing in it configures the device, and every line of it is still there.
    #[test]
    fn any_file_is_neutralised_line_by_line() {
        let words = [
            "auto",
            "allow-hotplug",
            "iface",
            "mapping",
            "source",
            "ens3",
            "ens3:1",
            "ens4",
            "inet",
            "static",
            "dhcp",
            "manual",
            "address",
            "10.0.0.1/24",
            "up",
            "ip",
            "#",
            "\\",
            "bridge_ports",
            "\t",
        ];
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut roll = |sides: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state % sides as u64).unwrap()
        };
        for _ in 0..5000 {
            let mut text = String::new();
            for _ in 0..roll(12) {
                let line: Vec<&str> = (0..roll(6)).map(|_| words[roll(words.len())]).collect();
                text += &line.join(" ");
                text += if roll(8) == 0 { "\\\n" } else { "\n" };
            }
            let Some(after) = without(&text, "ens3") else { continue };
            let left = claims("/i", &after, "ens3");
            assert!(left.iter().all(|claim| claim.by_hand.is_some()), "{text}\n---\n{after}");
            let kept = |line: &str| after.contains(line.trim_end());
            assert!(text.lines().all(kept), "{text}\n---\n{after}");
        }
    }
}
