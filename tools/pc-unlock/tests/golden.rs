//! Every JSON answer against its golden sample; what differs by nature (times, ports, keys) is replaced.
//! `PC_BLESS=1` writes the samples anew.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says what it expects")]

mod support;

use std::path::Path;

use serde_json::Value;
use support::{Machine, PASSPHRASE, Tang, device};

const TIME: &str = "  \"time\": \"2026-01-01T00:00:00Z\",";
const SECONDS: &str = "  \"seconds\": 1.25,";
const EXTERNAL: &str = "  \"external_seconds\": 1.0";

fn compare(name: &str, answer: &[u8], replace: &[(&str, &str)]) {
    let mut text = String::from_utf8(answer.to_vec()).unwrap();
    for (found, sample) in replace {
        text = text.replace(found, sample);
    }
    // The order of members is part of the answer: `schema` comes first.
    let lines = text.lines().map(|line| {
        let mut samples = [TIME, SECONDS, EXTERNAL].into_iter();
        samples.find(|sample| line.starts_with(&sample[..=sample.find(':').unwrap()])).unwrap_or(line)
    });
    let text = lines.collect::<Vec<_>>().join("\n") + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("PC_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap(), "{name}");
}

#[test]
fn answers() {
    let (tang, machine) = (Tang::start("P-521"), Machine::new());
    for disk in ["ata-A", "ata-B", "ata-C"] {
        machine.disk(disk);
    }
    std::fs::File::create(machine.path("ata-D")).unwrap().set_len(1 << 20).unwrap();
    machine.file(1, &[&tang], &["ata-A", "ata-B", "ata-C", "ata-D", "ata-E"]);
    machine.ok(&["bind", &device("ata-A")], PASSPHRASE.as_bytes());
    machine.ok(&["bind", &device("ata-B")], PASSPHRASE.as_bytes());
    machine.ok(&["seal", "node.key"], b"PEM");
    machine.ok(&["seal", "ssh-user.key"], b"PEM");
    machine.ok(&["unseal", "node.key"], b"");
    let open = support::maps(machine.path("ata-A").to_str().unwrap(), "pc-ata-A", machine.root.path());
    support::run("sh", &["-ec", &open], b"");
    let url = [(tang.url.as_str(), "http://192.168.0.2")];
    compare("status.json", &machine.ok(&["status", "--json"], b"").out, &url);
    let status = machine.unlock(&["status", "--exit-code"], b"");
    assert_eq!(status.code, 3);
    compare("open.json", &machine.unlock(&["open", "--test", "--json"], b"").out, &url);
    compare("servers.json", &machine.ok(&["check", "--servers", "--json"], b"").out, &url);
    assert!(machine.ok(&["check", "--servers"], b"").out.is_empty());
    let adv = machine.ok(&["adv", "--json", &tang.url], b"").out;
    let keys: Value = serde_json::from_slice(&adv).unwrap();
    let thumbprint = |list: &str, key: &str| keys[list][0][key].as_str().unwrap().to_string();
    let long = "2BS5Qjos4nyPhAg74iccmn5jmqS0fUBN2p78kFeSktw";
    let short = "xq2fYB2W89p-WTSH2a3bPnjt8XQ";
    let mut replace = url.to_vec();
    let found: Vec<(String, &str)> = ["signing", "exchange"]
        .into_iter()
        .flat_map(|list| {
            [(thumbprint(list, "thumbprint"), long), (thumbprint(list, "legacy_thumbprint"), short)]
        })
        .collect();
    replace.extend(found.iter().map(|(found, sample)| (found.as_str(), *sample)));
    compare("adv.json", &adv, &replace);
}
