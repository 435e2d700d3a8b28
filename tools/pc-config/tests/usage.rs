//! How a wrong command line, or one without input, ends, whatever can be told about it.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pc-config");

fn full() -> Stdio {
    OpenOptions::new().write(true).open("/dev/full").unwrap().into()
}

#[test]
fn an_argument_that_is_no_text_is_a_usage_error() {
    for arguments in [vec![OsStr::from_bytes(b"\xff")], vec![OsStr::new("put"), OsStr::from_bytes(b"\xff")]] {
        let ended = Command::new(PROGRAM).args(&arguments).output().unwrap();
        assert_eq!(ended.status.code(), Some(2), "{arguments:?}: {ended:?}");
        assert!(!String::from_utf8_lossy(&ended.stderr).contains("panicked"), "{ended:?}");
    }
}

#[test]
fn a_usage_error_that_nobody_can_be_told_is_one_still() {
    let ended = Command::new(PROGRAM).arg("--bogus").stderr(full()).status().unwrap();
    assert_eq!(ended.code(), Some(2));
}

#[test]
fn help_that_cannot_be_written_has_failed() {
    let ended = Command::new(PROGRAM).arg("--help").stdout(full()).output().unwrap();
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(String::from_utf8_lossy(&ended.stderr).contains("writing to standard output"), "{ended:?}");
    let (reader, writer) = UnixStream::pair().unwrap();
    drop(reader);
    assert_eq!(
        Command::new(PROGRAM).arg("--help").stdout(OwnedFd::from(writer)).status().unwrap().code(),
        Some(0)
    );
}

#[test]
fn nothing_to_merge_is_refused() {
    let empty = tempfile::NamedTempFile::new().unwrap();
    let draft = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/draft/node1.toml");
    let path = empty.path().to_str().unwrap();
    let ended = Command::new(PROGRAM).args(["merge", draft, path]).output().unwrap();
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
    for input in ["", "\n# nothing but a comment\n", "{}"] {
        std::fs::write(empty.path(), input).unwrap();
        let stdin = std::fs::File::open(empty.path()).unwrap();
        let ended = Command::new(PROGRAM).args(["merge", "-"]).stdin(stdin).output().unwrap();
        assert_eq!((ended.status.code(), ended.stdout.as_slice()), (Some(2), &b""[..]), "{ended:?}");
        let told = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(told, "error: stdin: holds no draft\n  pc-config draft prints one\n", "{input}");
    }
}

/// Opening one without a writer would wait for ever; the pipes of a shell have theirs.
#[test]
fn a_named_pipe_is_refused_and_a_shells_pipe_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let script = format!(
        "cd {} || exit; printf 'schema = \"personal-cluster/1\"\\nname = \"home\"\\n[[node]]\\nname = \"node1\"\\naddress = \"10.0.0.1\"\\n' > file
         {PROGRAM} check <(cat file) && cat file | {PROGRAM} check /dev/stdin && cat file | {PROGRAM} check - || exit 9
         mkfifo pipe && exec {PROGRAM} check ./pipe",
        directory.path().display()
    );
    let ended = Command::new("bash").args(["-c", &script]).output().unwrap();
    let told = String::from_utf8_lossy(&ended.stdout) + String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(2), "{told}");
    assert!(told.contains("./pipe: is a named pipe, which may never be written to\n  write into"), "{told}");
}
