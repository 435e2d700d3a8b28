//! What a call of pc-ovs gave, and golden files to hold it against.

use std::process::Output;

/// What a call of pc-ovs gave.
#[derive(Debug)]
pub struct Answer {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl From<Output> for Answer {
    fn from(output: Output) -> Answer {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Answer { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Answer {
    /// Demands an exit code, and shows everything when it is another.
    #[track_caller]
    pub fn with(self, code: i32) -> Answer {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.out, self.err);
        self
    }
}

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

/// Against a golden file, to the byte: order of fields included.
#[track_caller]
pub fn compare(name: &str, text: &str) {
    let path = format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    let found = settled(text);
    if std::env::var_os("PC_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, &found).unwrap();
        return;
    }
    assert!(found == golden, "{path} differs; found:\n{found}");
}
