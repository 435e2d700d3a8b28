//! The JSON that others read, against golden files, to the byte: order of fields included.

use crate::machine::Machine;

/// The text with what differs from run to run settled: the digest of a plan, numbers of ports.
fn settled(text: &str) -> String {
    let line = |line: &str| {
        let key = line.trim_start();
        let indent = &line[..line.len() - key.len()];
        if key.starts_with("\"digest\": ") {
            assert_eq!(key.len(), "\"digest\": ".len() + 64 + 3);
            return format!("{indent}\"digest\": \"{}\",\n", "0".repeat(64));
        }
        if key.starts_with("\"ofport\": ") && !key.contains("65534") {
            return format!("{indent}\"ofport\": 1,\n");
        }
        let measured = ["\"seconds\": ", "\"external_calls\": ", "\"external_seconds\": "];
        if let Some(key) = measured.into_iter().find(|name| key.starts_with(name)) {
            let comma = if line.ends_with(',') { "," } else { "" };
            return format!("{indent}{key}1{comma}\n");
        }
        format!("{line}\n")
    };
    text.lines().map(line).collect()
}

#[track_caller]
fn compare(name: &str, text: &str) {
    let path = format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    let found = settled(text);
    assert!(found == golden, "{path} differs; found:\n{found}");
}

#[test]
fn golden() {
    let machine = Machine::configured();
    compare("plan-take-over.json", &machine.pc(&["plan", "--take-over", "--json"]).with(0).out);
    machine.pc(&["apply", "--take-over", "--confirm", "30s"]).with(0);
    compare("status.json", &machine.pc(&["status", "--json"]).with(0).out);
    compare("status.json", &machine.read("run/personal-cluster/ovs.json"));

    let machine = Machine::blank();
    compare("plan.json", &machine.pc(&["plan", "--json"]).with(0).out);
    machine.write("etc/network/interfaces", crate::machine::INTERFACES);
    compare("status-refused.json", &machine.pc(&["status", "--json"]).with(0).out);
    machine.write("etc/network/interfaces", "");
    compare("apply.json", &machine.pc(&["apply", "--json"]).with(0).out);
}
