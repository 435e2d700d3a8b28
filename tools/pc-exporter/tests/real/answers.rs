//! The siblings' recorded answers, as metrics: whoever changes an answer sees here what it does to the metrics.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

/// One recorded answer per tool.
const ANSWERS: &[&str] = &[
    "pc-unlock/tests/golden/status.json",
    "pc-brick/tests/golden/status.json",
    "pc-gluster/tests/golden/status-degraded.json",
    "pc-gluster/tests/golden/storage.json",
    "pc-ovs/tests/golden/status.json",
    "pc-vm/tests/golden/status.json",
    "pc-vm/tests/golden/list.json",
    "pc-trust/tests/golden/status.json",
    "pc-ha/tests/golden/status.json",
    "pc-borg/tests/golden/status.json",
    "pc-config/tests/golden/status.json",
];

#[test]
fn every_siblings_answer_is_read() {
    let directory = format!("{}/..", env!("CARGO_MANIFEST_DIR"));
    let input: String =
        ANSWERS.iter().map(|path| fs::read_to_string(format!("{directory}/{path}")).unwrap()).collect();
    let mut child = Command::new(env!("CARGO_BIN_EXE_pc-exporter"))
        .arg("format")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let expected = fs::read_to_string("tests/golden/format.prom").unwrap();
    let got = String::from_utf8(output.stdout).unwrap();
    let differs = got.lines().zip(expected.lines()).find(|(got, expected)| got != expected);
    assert!(got == expected, "tests/golden/format.prom differs: {differs:?}");
}
