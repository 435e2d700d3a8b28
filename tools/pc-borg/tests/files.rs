//! Files out of archives: the real borg, and a guestfish that looks into a directory.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod machine;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use machine::{Machine, wait_for};

fn backed_up() -> Machine {
    let machine = Machine::ready();
    machine.ok(&["backup", "mail"]);
    fs::create_dir_all(machine.at("guest/etc/postfix")).unwrap();
    fs::write(machine.at("guest/etc/postfix/main.cf"), "myhostname = mail\n").unwrap();
    fs::write(machine.at("guest/etc/a \"b\" \\c"), "odd\n").unwrap();
    machine
}

fn scratch(machine: &Machine) -> std::path::PathBuf {
    machine.root().join("mnt/vms/pc-files/node1/mail")
}

#[test]
fn a_file_comes_out_as_it_is_and_a_directory_as_tar() {
    let machine = backed_up();
    let out = machine.at("main.cf");
    let ask = |path: &str, out: &Path| {
        let out = out.display().to_string();
        machine.ok(&["restore-file", "mail", path, "--output", &out, "--json"])
    };
    let text = ask("/etc/postfix/main.cf", &out);
    assert_eq!(fs::read_to_string(&out).unwrap(), "myhostname = mail\n");
    let here = machine.directory.path().display().to_string();
    let settled: String = text.lines().map(|line| settled(line, &here) + "\n").collect();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/restore-file.json");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&golden, &settled).unwrap();
    }
    assert_eq!(settled, fs::read_to_string(&golden).unwrap());
    // What was looked into is what was backed up; said to be raw, and by a machine of libvirt's.
    assert_eq!(fs::read(machine.at("looked-into.img")).unwrap(), fs::read(machine.disk_of("mail")).unwrap());
    let log = fs::read_to_string(machine.at("guestfish.log")).unwrap();
    let place = scratch(&machine);
    let called = format!(
        "--ro --format=raw --add {0}/disk.img --inspector libvirt:qemu:///system {0}\n",
        place.display()
    );
    assert_eq!(log, called.repeat(2), "what it is, and then it");
    assert!(!place.exists());

    let tar = machine.at("postfix.tar");
    assert!(ask("/etc/postfix", &tar).contains("\"kind\": \"directory\""));
    let listed = Command::new("tar").arg("--list").arg("--file").arg(&tar).output().unwrap();
    assert_eq!(String::from_utf8(listed.stdout).unwrap(), "./\n./main.cf\n");
    let odd = machine.at("odd");
    ask("/etc/a \"b\" \\c", &odd);
    assert_eq!(fs::read_to_string(&odd).unwrap(), "odd\n");
}

fn settled(line: &str, here: &str) -> String {
    let Some((name, value)) = line.split_once(": ") else { return line.into() };
    let comma = if value.ends_with(',') { "," } else { "" };
    let fixed = match name.trim().trim_matches('"') {
        "seconds" | "external_seconds" => "0.5",
        "external_calls" => "9",
        "archive" => "\"mail.2026-01-02T03:04:05Z\"",
        "taken_at" => "\"2026-01-02T03:04:05Z\"",
        _ => return line.replace(here, ""),
    };
    format!("{name}: {fixed}{comma}")
}

#[test]
fn what_cannot_be_taken_out_leaves_nothing_and_says_why() {
    let machine = backed_up();
    let out = machine.at("out").display().to_string();
    let fails = |path: &str| machine.fails(&["restore-file", "mail", path, "--output", &out]);
    let (code, said) = fails("/etc/nothing");
    assert!(code == 2 && said.contains("no file or directory is called \"/etc/nothing\" there"), "{said}");
    let (code, said) = fails("etc/hostname");
    assert!(code == 2 && said.contains("\"etc/hostname\": is no path from the guest's root on"), "{said}");
    fs::rename(machine.at("guest"), machine.at("none")).unwrap();
    let (code, said) = fails("/etc/hostname");
    assert!(code == 1 && said.contains("guestfish: no operating system was found on this disk"), "{said}");
    assert!(!Path::new(&out).exists() && !scratch(&machine).exists());
    let beside = fs::read_dir(Path::new(&out).parent().unwrap()).unwrap().flatten();
    let parts = beside.filter(|entry| entry.file_name().to_string_lossy().contains("pc-borg-part"));
    assert_eq!(parts.count(), 0);
    fs::write(&out, "mine").unwrap();
    let (code, said) = fails("/etc/hostname");
    assert!(code == 2 && said.contains("is there, and is not written over"), "{said}");
    assert_eq!(fs::read_to_string(&out).unwrap(), "mine");
}

/// guestfish would ask for a passphrase at the terminal, and be stopped there, in the background, for ever.
#[test]
fn a_disk_that_is_encrypted_is_refused_also_at_a_terminal() {
    let machine = backed_up();
    fs::write(machine.at("luks"), "").unwrap();
    let out = machine.at("out").display().to_string();
    let asked = machine.command(&["restore-file", "mail", "/etc/hostname", "--output", &out]);
    let words = std::iter::once(asked.get_program()).chain(asked.get_args());
    let words: Vec<String> = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
    let mut at_a_terminal = Command::new("script");
    at_a_terminal.args(["--quiet", "--return", "--command", &words.join(" "), "/dev/null"]);
    at_a_terminal.stdin(Stdio::null()).env_remove("JOURNAL_STREAM");
    at_a_terminal.envs(asked.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = at_a_terminal.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("/dev/sda2 is encrypted (LUKS), and its passphrase is asked for nowhere"),
        "{said}"
    );
    assert!(!machine.at("asked").exists() && !Path::new(&out).exists() && !scratch(&machine).exists());
}

/// The copy of a VM's disk is all its secrets: it does not lie there because somebody was killed.
#[test]
fn a_copy_that_was_left_behind_is_removed() {
    let machine = backed_up();
    let out = machine.at("out").display().to_string();
    let mut child =
        machine.start_until(&["restore-file", "mail", "/etc/hostname", "--output", &out], "guestfish");
    machine.ok(&["recover"]);
    assert!(scratch(&machine).exists(), "one that is at work is let alone");
    child.kill().unwrap();
    child.wait().unwrap();
    machine.go_on("guestfish");
    machine.ok(&["recover"]);
    wait_for("the copy's end", || !scratch(&machine).exists());
}
