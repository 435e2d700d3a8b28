//! Private keys that others could read: told, closed by a step of its own, and told again what closing does not undo.

#![allow(clippy::unwrap_used, reason = "a test says what it expects")]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use common::Lab;

/// A member without `[unlock]`, and its two directories of secrets.
fn member() -> (Lab, [PathBuf; 2]) {
    let lab = Lab::new();
    let (unlock, rest) = common::FILE.split_at(common::FILE.find("[[node]]").unwrap());
    let without = format!("{}{rest}", &unlock[..unlock.find("[unlock]").unwrap()]);
    fs::write(lab.file(), without).unwrap();
    lab.init();
    let root = lab.root("node1");
    let directories = ["etc/personal-cluster/secrets-clear", "run/personal-cluster/secrets"];
    (lab, directories.map(|directory| root.join(directory)))
}

fn set(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn keys_that_others_could_read_are_closed_and_the_exposure_is_told() {
    for directory_mode in [0o700, 0o755] {
        let (lab, directories) = member();
        for directory in &directories {
            set(&directory.join("node.key"), 0o644);
            set(&directory.join("recovery-key"), 0o640);
            set(directory, directory_mode);
        }
        let plan = lab.run("node1", &["plan", "--exit-code"]);
        assert_eq!(plan.code, Some(3));
        let step = "close /etc/personal-cluster/secrets-clear/node.key to all but root, mode 0644 now\n";
        assert!(plan.stdout.contains(step), "{plan:?}");
        let status = lab.run("node1", &["status", "--exit-code"]);
        assert_eq!(status.code, Some(3));
        assert!(status.stdout.contains(&format!("to do: {step}")), "{status:?}");
        let apply = lab.run("node1", &["apply"]);
        assert_eq!(apply.code, Some(0), "{apply:?}");
        // Below a directory that nobody enters, nobody has read them.
        let warned = |text: &str| text.matches("others than root could read this key").count();
        let expected = if directory_mode == 0o755 { 4 } else { 0 };
        let told = [&plan.stderr, &status.stdout, &apply.stderr].map(|text| warned(text));
        assert_eq!(told, [expected; 3], "{apply:?}");
        for directory in &directories {
            assert_eq!(mode(directory), 0o700);
            assert_eq!(
                [mode(&directory.join("node.key")), mode(&directory.join("recovery-key"))],
                [0o600; 2]
            );
        }
        assert_eq!(lab.run("node1", &["status", "--exit-code"]).code, Some(0));
    }
}

#[test]
fn a_key_of_another_user_and_the_wrapped_keys_are_roots_again() {
    let (lab, [clear, _]) = member();
    let (key, wrapped) = (clear.join("node.key"), lab.trust("node1", "ca.key.jwe"));
    let owner = fs::metadata(&key).unwrap().uid();
    // Only root gives files away.
    if owner == 0 {
        chown(&key, Some(65534), Some(65534)).unwrap();
    }
    set(&wrapped, 0o644);
    // Somebody's link is left as it is.
    common::link(Path::new("/etc/passwd"), &clear.join("link"));
    assert_eq!(lab.run("node1", &["apply"]).code, Some(0));
    assert_eq!((fs::metadata(&key).unwrap().uid(), mode(&key), mode(&wrapped)), (owner, 0o600, 0o600));
    assert_eq!(mode(Path::new("/etc/passwd")) & 0o004, 0o004);
    assert_eq!(lab.run("node1", &["plan"]).stdout, "nothing to do\n");
}

#[test]
fn qemus_copy_is_closed_to_everybody_else() {
    let (lab, _) = member();
    let copy = lab.root("node1").join("run/personal-cluster/qemu/node.key");
    set(&copy, 0o644);
    assert_eq!(lab.run("node1", &["apply"]).code, Some(0));
    assert_eq!(mode(&copy), 0o640);
}
