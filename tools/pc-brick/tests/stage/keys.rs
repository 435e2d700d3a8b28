//! Which recovery key a disk gets.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::machine::{Stage, blkid, said};
use crate::{filtered, needs_no_dm};

const CREDENTIAL: &str = "credentials/recovery-key";
const KEPT: &str = "run/personal-cluster/secrets/recovery-key";

/// A key of the form, another for each letter.
fn key(letter: char) -> String {
    [letter.to_string().repeat(8).as_str(); 8].join("-")
}

/// A machine with a blank disk and keys at these places.
fn stage(keys: &[(&str, &str)]) -> Stage {
    let stage = Stage::new(&["a"]);
    stage.blank("a");
    for (place, key) in keys {
        let path = stage.root.path().join(place);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, key).unwrap();
    }
    stage
}

/// Applies the steps that need no device-mapper, with the credential that the stage has.
fn apply(stage: &Stage, arguments: &[&str]) -> Output {
    let plan = filtered(stage.json(&["plan"]), needs_no_dm);
    let mut child = stage
        .command(&[&["apply", "-"], arguments].concat())
        .env("CREDENTIALS_DIRECTORY", stage.root.path().join("credentials"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), plan.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn opens(disk: &Path, key: &str) -> bool {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), key).unwrap();
    let mut command = Command::new("cryptsetup");
    command.args(["open", "--test-passphrase", "--key-file"]).arg(file.path()).arg(disk);
    command.status().unwrap().success()
}

/// The disk is as blank as it was, and nobody remembers it.
fn untouched(stage: &Stage) -> bool {
    blkid(&stage.disk("a"), "TYPE").is_empty()
        && !stage.root.path().join("var/lib/personal-cluster/brick/a.json").exists()
}

/// The key on the cluster's sheet of paper would not open the disk.
#[test]
fn two_keys_that_differ_format_nothing() {
    let (one, other) = (key('c'), key('d'));
    let stage = stage(&[(CREDENTIAL, &one), (KEPT, &other)]);
    let output = apply(&stage, &[]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    let root = stage.root.path().display();
    let told =
        format!("{root}/{CREDENTIAL}: is another recovery key than that in {root}/{KEPT}\n  take it out of ");
    assert!(said(&output).contains(&told), "{}", said(&output));
    assert!(!said(&output).contains(&one) && !said(&output).contains(&other), "{}", said(&output));
    assert!(untouched(&stage));
    // The same key, written otherwise, is the same key.
    let stage = self::stage(&[(CREDENTIAL, &format!(" {}\r\n", one.to_uppercase())), (KEPT, &one)]);
    let output = apply(&stage, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(opens(&stage.disk("a"), &one));
}

/// pc-unlock reads the same file so, and so does whoever types what is on the paper.
#[test]
fn capitals_and_blanks_around_a_key_do_not_matter() {
    let text = key('k');
    let stage = stage(&[("typed", &format!("  {} \n", text.to_uppercase()))]);
    let typed = stage.root.path().join("typed");
    let output = apply(&stage, &["--recovery-key-file", typed.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(opens(&stage.disk("a"), &text));
}

#[test]
fn a_key_that_can_be_guessed_formats_nothing() {
    for phrase in ["hunter2", "correct horse battery staple, or whatever", "CBDEFGHI-CBDEFGHI"] {
        let stage = stage(&[("typed", phrase)]);
        let typed = stage.root.path().join("typed");
        let output = apply(&stage, &["--recovery-key-file", typed.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(2), "{phrase}: {}", said(&output));
        assert!(said(&output).contains("is not 8 groups of 8 letters"), "{}", said(&output));
        assert!(said(&output).contains("\n  leave --recovery-key-file out\n"), "{}", said(&output));
        assert!(!said(&output).contains(phrase), "{}", said(&output));
        assert!(untouched(&stage), "{phrase}");
    }
}

/// It was formatted before such keys were refused: only what would make a new keyslot is.
#[test]
fn a_disk_that_has_such_a_key_keeps_it() {
    let stage = stage(&[(KEPT, &key('c'))]);
    let plan = filtered(stage.json(&["plan"]), |step| step["action"] == "claim");
    assert!(stage.run_with(&["apply", "-"], &plan).status.success());
    let uuid = stage.record("a")["luks_uuid"].as_str().unwrap().to_string();
    let phrase = stage.root.path().join(KEPT);
    std::fs::write(&phrase, "hunter2").unwrap();
    let mut format = Command::new("cryptsetup");
    format.args([
        "luksFormat",
        "-q",
        "--type",
        "luks2",
        "--pbkdf",
        "pbkdf2",
        "--pbkdf-force-iterations",
        "1000",
    ]);
    format.args(["--uuid", &uuid, "--key-file"]).args([&phrase, &stage.disk("a")]);
    assert!(format.status().unwrap().success());
    let output = apply(&stage, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(stage.record("a")["state"], "formatted");
    assert!(opens(&stage.disk("a"), "hunter2"));
}
