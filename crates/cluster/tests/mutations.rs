//! No file makes the loader panic, hang or tell a place that does not exist; what it accepts it can write and
//! read again.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use cluster::{Cluster, parse_report};

const HOME: &str = include_str!("../../../examples/home.toml");

/// xorshift64: the same sequence on every machine, so a failure can be repeated.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % sides.max(1)
    }
}

/// Pieces that are likely to be misunderstood.
const PIECES: [&str; 24] = [
    "\"",
    "'''",
    "[",
    "]",
    "[[",
    "{",
    "}",
    "=",
    ".",
    ",",
    "#",
    "\n",
    "\r",
    "\\u0000",
    "\u{feff}",
    "é",
    "-1",
    "1e99",
    "99999999999999999999",
    "0x",
    "1979-05-27",
    "null",
    "[power]\n",
    "/dev/sda",
];

fn mutate(text: &str, dice: &mut Dice) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    for _ in 0..=dice.roll(4) {
        let length = characters.len();
        let (from, to) = (dice.roll(length), dice.roll(length));
        let (from, to) = (from.min(to), from.max(to).min(from.min(to) + 1 + dice.roll(60)));
        match dice.roll(6) {
            0 => drop(characters.drain(from..to)),
            1 => drop(characters.splice(from..from, PIECES[dice.roll(PIECES.len())].chars())),
            2 => {
                let copied = characters[from..to].to_vec();
                let at = dice.roll(characters.len());
                drop(characters.splice(at..at, copied));
            }
            3 if to > from => characters.swap(from, to - 1),
            4 => {
                let lines: Vec<String> = characters
                    .iter()
                    .collect::<String>()
                    .split_inclusive('\n')
                    .map(ToString::to_string)
                    .collect();
                let mut lines = lines;
                let (one, other) = (dice.roll(lines.len()), dice.roll(lines.len()));
                lines.swap(one, other);
                characters = lines.concat().chars().collect();
            }
            _ if from < length => {
                characters[from] = char::from_u32(u32::try_from(dice.roll(300)).unwrap()).unwrap_or('x');
            }
            _ => {}
        }
    }
    characters.into_iter().collect()
}

fn holds(text: &str) {
    let report = parse_report("m", text);
    let lines = text.lines().count() + 1;
    for fault in &report.faults {
        assert!(fault.line.is_none_or(|line| line as usize <= lines), "{fault} in {text}");
        assert!(!fault.fault.is_empty() && !fault.to_string().contains('\0'), "{fault}");
        assert!(fault.to_string().len() < 2000, "{fault}");
    }
    assert_eq!(report.cluster.is_some(), report.errors().next().is_none());
    if let Some(cluster) = report.cluster {
        let written = toml::to_string(&cluster).unwrap();
        let read: Cluster = toml::from_str(&written).unwrap();
        assert_eq!(read, cluster);
        assert!(cluster::parse("w", &written).is_ok(), "{written}");
    }
}

#[test]
fn mutated_files_are_survived() {
    let json = serde_json::to_string_pretty(&cluster::parse("home", HOME).unwrap()).unwrap();
    let mut dice = Dice(0x5eed_cafe_f00d_0001);
    for _ in 0..500 {
        holds(&mutate(HOME, &mut dice));
        holds(&mutate(&json, &mut dice));
    }
}

#[test]
fn any_bytes_are_survived() {
    let mut dice = Dice(42);
    for _ in 0..500 {
        let length = dice.roll(300);
        let bytes: Vec<u8> = (0..length).map(|_| u8::try_from(dice.roll(256)).unwrap()).collect();
        holds(&String::from_utf8_lossy(&bytes));
    }
    holds(&"[".repeat(500_000));
    holds(&"{\"a\":".repeat(150_000));
    holds(&format!("{{\"name\": {}{}}}", "[".repeat(3000), "]".repeat(3000)));
    holds(&format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000)));
    holds(&format!("schema = \"{}\"", "x".repeat(900_000)));
    holds(&format!("{} = 1", "k".repeat(900_000)));
    holds(&"a = 1\n".repeat(100_000));
}

/// Line ends of Windows and a byte order mark change nothing but the bytes.
#[test]
fn windows_files_read() {
    let home = cluster::parse("home", HOME).unwrap();
    assert_eq!(cluster::parse("crlf", &HOME.replace('\n', "\r\n")).unwrap(), home);
    assert_eq!(cluster::parse("bom", &format!("\u{feff}{HOME}")).unwrap(), home);
    let faulty = format!("\u{feff}{}", HOME.replace('\n', "\r\n").replace("cpus", "cups"));
    let report = parse_report("both", &faulty);
    let line = HOME.lines().position(|line| line.starts_with("cpus")).unwrap() + 1;
    assert_eq!(report.faults[0].line, u32::try_from(line).ok());
    assert_eq!(report.faults[0].column, Some(1));
}

/// A newer version's keys do not stop an older program at boot; nonsense still does.
#[test]
fn the_applied_file_may_be_newer() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("applied.json");
    let mut value: serde_json::Value = toml::from_str(HOME).unwrap();
    value["schema"] = "personal-cluster/2".into();
    value["kubernetes"] = serde_json::json!({ "nodes": 3 });
    value["vm"]["mail"]["gpu"] = "none".into();
    value["node"][0]["rack"] = 7.into();
    std::fs::write(&path, value.to_string()).unwrap();
    let mut expected = cluster::parse("home", HOME).unwrap();
    expected.schema = "personal-cluster/2".into();
    assert_eq!(cluster::load_applied(&path).unwrap(), expected);
    assert_eq!(cluster::parse_applied("x", value.to_string().as_bytes()).unwrap(), expected);
    let refused_today = HOME.replacen("use = \"vm\"", "use = \"local\"", 1);
    assert!(cluster::parse("x", &refused_today).is_err());
    assert!(cluster::parse_applied("x", refused_today.as_bytes()).is_ok(), "only its shape matters");
    assert!(cluster::parse_applied("x", b"").is_err());
    assert!(cluster::load(&path).is_err());
    value["node"][0]["address"] = 7.into();
    std::fs::write(&path, value.to_string()).unwrap();
    assert!(cluster::load_applied(&path).unwrap_err().to_string().contains("node[0].address = 7"));
}

/// Written out with its defaults a large file becomes larger. What is that large and no JSON is nothing that we wrote.
#[test]
fn the_applied_file_may_be_larger() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("applied.json");
    let mut value: serde_json::Value = toml::from_str(HOME).unwrap();
    value["later"] = "x".repeat(2 << 20).into();
    std::fs::write(&path, value.to_string()).unwrap();
    assert_eq!(cluster::load_applied(&path).unwrap(), cluster::parse("home", HOME).unwrap());
    for (text, told) in
        [("[\n".repeat(1 << 20), "is larger than 1 MiB"), ("{\n".repeat(10 << 20), "is larger than 16 MiB")]
    {
        std::fs::write(&path, text).unwrap();
        assert!(cluster::load_applied(&path).unwrap_err().to_string().contains(told), "{told}");
    }
}

/// A file that never was text is checked alike.
#[test]
fn a_cluster_made_by_a_program_is_checked() {
    let mut home = cluster::parse("home", HOME).unwrap();
    assert_eq!(cluster::check(&home), []);
    home.nodes.pop();
    let faults = cluster::check(&home);
    assert!(faults.iter().any(|fault| fault.key.starts_with("volume.vms")), "{faults:?}");
}
