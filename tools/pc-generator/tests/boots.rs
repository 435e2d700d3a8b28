//! A directory in, a `diff -r` out; what comes out is also read by the real systemd-analyze.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn generator(root: &Path, out: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pc-generator"));
    let early = out.with_extension("early");
    command.args([out, &early, &early]).arg("--root").arg(root).args(["--node", "node1.home.arpa"]);
    command.output().unwrap()
}

fn cases() -> Vec<PathBuf> {
    let boots = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/boots");
    let mut cases: Vec<PathBuf> = fs::read_dir(boots).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() >= 6);
    cases
}

/// Every file and link below a directory, with its text or its target. What is expected names a link by a file that
/// says `-> TARGET`: not every copy of a tree keeps links.
fn tree(directory: &Path) -> BTreeMap<String, String> {
    fn walk(top: &Path, directory: &Path, found: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(top).unwrap().to_str().unwrap().to_string();
            if path.is_symlink() {
                found.insert(name, format!("-> {}", fs::read_link(&path).unwrap().display()));
            } else if path.is_dir() {
                walk(top, &path, found);
            } else {
                found.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(directory, directory, &mut found);
    found
}

#[test]
fn each_boot_makes_the_units_it_should() {
    for case in cases() {
        let out = tempfile::tempdir().unwrap();
        let answer = generator(&case.join("root"), out.path());
        assert!(answer.status.success(), "{}", case.display());
        assert_eq!(String::from_utf8_lossy(&answer.stdout), "", "{}", case.display());
        assert_eq!(tree(out.path()), tree(&case.join("units")), "{}", case.display());
        let said = fs::read_to_string(case.join("log")).unwrap_or_default();
        assert_eq!(String::from_utf8_lossy(&answer.stderr), said, "{}", case.display());
    }
}

#[test]
fn systemd_accepts_every_unit() {
    for case in cases() {
        let out = tempfile::tempdir().unwrap();
        generator(&case.join("root"), out.path());
        let names = tree(out.path()).into_keys();
        // systemd-analyze takes what follows a colon for an alias.
        let units: Vec<PathBuf> =
            names.filter(|name| !name.contains(['/', ':'])).map(|name| out.path().join(name)).collect();
        if units.is_empty() {
            continue;
        }
        let verdict = Command::new("systemd-analyze")
            .args(["verify", "--man=no", "--recursive-errors=one"])
            .args(&units)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&verdict.stderr);
        assert!(verdict.status.success() && said.is_empty(), "{}: {said}", case.display());
    }
}

#[test]
fn what_is_there_already_is_left_alone() {
    let root = cases().into_iter().find(|case| case.ends_with("alone")).unwrap().join("root");
    let out = tempfile::tempdir().unwrap();
    fs::write(out.path().join("mnt-vms.mount"), "from fstab").unwrap();
    let answer = generator(&root, out.path());
    assert!(answer.status.success());
    assert!(String::from_utf8_lossy(&answer.stderr).contains("mnt-vms.mount: File exists"));
    assert_eq!(fs::read_to_string(out.path().join("mnt-vms.mount")).unwrap(), "from fstab");
    assert!(tree(out.path()).len() > 1, "the other units are written all the same");
}

/// Nobody ever writes into it: a boot that waited for that would wait for ever.
#[test]
fn a_named_pipe_does_not_hold_the_boot() {
    let root = tempfile::tempdir().unwrap();
    let state = root.path().join("var/lib/personal-cluster");
    fs::create_dir_all(&state).unwrap();
    let pipe = state.join("applied.json");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let out = tempfile::tempdir().unwrap();
    let mut command = Command::new("timeout");
    command
        .args(["20", env!("CARGO_BIN_EXE_pc-generator")])
        .args([out.path(); 3])
        .arg("--root")
        .arg(root.path());
    let answer = command.args(["--node", "node1"]).output().unwrap();
    assert_eq!(answer.status.code(), Some(0), "124 is the time-out");
    let said = String::from_utf8_lossy(&answer.stderr);
    assert!(said.contains(&format!("reading {}: is not a regular file", pipe.display())), "{said}");
    assert_eq!(tree(out.path()).len(), 0);
}

#[test]
fn nothing_fails_the_boot() {
    let root = tempfile::tempdir().unwrap();
    let state = root.path().join("var/lib/personal-cluster");
    fs::create_dir_all(&state).unwrap();
    let out = tempfile::tempdir().unwrap();
    let deep = "[".repeat(100_000);
    for text in [&b"\xff\xfe"[..], b"", b"{", deep.as_bytes(), b"{\"node\":[{}]}"] {
        fs::write(state.join("applied.json"), text).unwrap();
        assert!(generator(root.path(), out.path()).status.success());
    }
    fs::remove_file(state.join("applied.json")).unwrap();
    fs::create_dir(state.join("applied.json")).unwrap();
    assert!(generator(root.path(), out.path()).status.success());
    let full = Path::new("/proc/personal-cluster");
    let case = cases().into_iter().find(|case| case.ends_with("alone")).unwrap();
    assert!(generator(&case.join("root"), full).status.success());
}
