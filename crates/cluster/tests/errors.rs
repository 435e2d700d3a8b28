//! Error texts are part of the interface: every file in tests/errors with what is told about it.

use std::path::Path;

/// `NAME.toml` or `NAME.json` and `NAME.expected`: every error and warning, in the order of the file.
#[test]
fn faulty_files_are_told_as_recorded() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/errors");
    let mut count = 0;
    let mut wrong = Vec::new();
    for entry in std::fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "expected") {
            continue;
        }
        count += 1;
        let name = path.file_name().unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let report = cluster::parse_report(name, &text);
        let expected = std::fs::read_to_string(path.with_extension("expected")).unwrap_or_default();
        if report.to_string().trim_end() != expected.trim_end() || expected.is_empty() {
            wrong.push(format!("{name} tells:\n{report}\nrecorded is:\n{expected}"));
        }
        let is_warning = name.starts_with("warn-");
        assert_eq!(report.cluster.is_some(), is_warning, "{name}");
        assert_eq!(cluster::parse(name, &text).is_ok(), is_warning, "{name}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= 30, "only {count} recorded files");
}
