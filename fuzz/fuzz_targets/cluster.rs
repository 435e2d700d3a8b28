//! A cluster file, TOML or JSON, as an administrator, Nix or another node writes it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    let Ok(text) = std::str::from_utf8(text) else { return };
    let report = cluster::parse_report("fuzz", text);
    assert_eq!(report.cluster.is_some(), report.errors().next().is_none(), "{report}");
    let _ = cluster::line_of(text, &["node", "[0]", "address"]);
    let Some(cluster) = report.cluster else { return };
    // What was accepted is written down as JSON, and read at boot.
    let written = serde_json::to_string(&cluster).expect("it has no key that is no text");
    assert_eq!(cluster::parse("written", &written).expect("it was accepted"), cluster);
});
