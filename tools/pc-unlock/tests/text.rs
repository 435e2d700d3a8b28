//! The verbs that pipe: the contract of `clevis encrypt` and `clevis decrypt`, no cluster file anywhere.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says what it expects")]

mod support;

use support::{Machine, PASSPHRASE, Tang, device, run, text, unlock};

#[test]
fn encrypt_and_decrypt_as_clevis_does() {
    let tang = Tang::start("P-521");
    let sealed = unlock(&["encrypt", "tang", &tang.config()], b"hello\n");
    assert_eq!(sealed.code, 0, "{}", sealed.err);
    assert_eq!(run("clevis", &["decrypt"], &sealed.out), b"hello\n");
    let theirs = run("clevis", &["encrypt", "tang", &tang.config()], b"hello\n");
    assert_eq!(unlock(&["decrypt"], &theirs).out, b"hello\n");
    let bare = format!(r#"{{"url":"{}"}}"#, tang.url);
    assert_eq!(unlock(&["encrypt", "tang", &bare], b"x").code, 2);
    assert_eq!(unlock(&["encrypt", "-y", "tang", &bare], b"x").code, 0);
    let adv = unlock(&["adv", &tang.url], b"");
    assert!(text(&adv.out).contains(&tang.thumbprint()), "{}", text(&adv.out));
    let down = unlock(&["decrypt"], &unlock(&["encrypt", "-y", "tang", &bare], b"x").out);
    assert_eq!(down.out, b"x");
}

#[test]
fn a_token_is_decrypted_as_cryptsetup_exports_it() {
    let (tang, machine) = (Tang::start("P-521"), Machine::new());
    let path = machine.disk("ata-A");
    let path = path.to_str().unwrap();
    machine.file(1, &[&tang], &["ata-A"]);
    machine.ok(&["bind", &device("ata-A")], PASSPHRASE.as_bytes());
    let token = run("cryptsetup", &["token", "export", "--token-id", "0", path], b"");
    let passphrase = unlock(&["decrypt"], &token);
    assert_eq!(passphrase.code, 0, "{}", passphrase.err);
    run("cryptsetup", &["open", "--test-passphrase", "--key-file", "-", path], &passphrase.out);
    // Two readers could each believe another one of the two.
    let twice = text(&token).replacen("\"jwe\":", "\"jwe\":{},\"jwe\":", 1);
    let answer = unlock(&["decrypt"], twice.as_bytes());
    assert_eq!((answer.code, answer.out.is_empty()), (2, true), "{}", answer.err);
    assert!(answer.err.contains("the token names the key \"jwe\" twice"), "{}", answer.err);
}

#[test]
fn secrets_are_sealed_once_and_opened_privately() {
    use std::os::unix::fs::PermissionsExt;
    let (tang, machine) = (Tang::start("P-521"), Machine::new());
    machine.file(1, &[&tang], &[]);
    machine.ok(&["seal", "node.key"], b"-----BEGIN");
    let sealed = machine.root.path().join("etc/personal-cluster/sealed/node.key.jwe");
    let before = std::fs::read(&sealed).unwrap();
    assert_eq!(run("clevis", &["decrypt"], &before), b"-----BEGIN");
    assert_eq!(machine.ok(&["seal", "node.key"], b"-----BEGIN").err, "");
    assert_eq!(std::fs::read(&sealed).unwrap(), before);
    machine.ok(&["unseal"], b"");
    let open = machine.root.path().join("run/personal-cluster/secrets/node.key");
    assert_eq!(std::fs::read(&open).unwrap(), b"-----BEGIN");
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(&open), mode(open.parent().unwrap()), mode(&sealed)), (0o600, 0o700, 0o600));
    assert_eq!(machine.ok(&["unseal"], b"").err, "");
    for bad in ["../x", "", ".x", "a/b", "-x"] {
        assert_eq!(machine.unlock(&["seal", "--", bad], b"x").code, 2, "{bad}");
    }
}

#[test]
fn what_no_server_could_make_right_is_a_usage_error() {
    let machine = Machine::new();
    let tang = |thp: &str| format!(r#"{{"url":"http://127.0.0.1:1","thp":"{thp}"}}"#);
    let refusals: [(&[&str], &str); 13] = [
        (&["encrypt", "foo", "{}"], "pin \"foo\" is not supported here"),
        (&["encrypt", "tang", &tang("short")], "\"short\" is not a thumbprint"),
        (&["encrypt", "tang", r#"{"url":"http://127.0.0.1:1"}"#], "no thumbprint is pinned"),
        (&["encrypt", "sss", r#"{"t":1,"pins":{"foo":[{}]}}"#], "pin \"foo\" is not supported here"),
        (&["encrypt", "-y", "tang", r#"{"url":"https://x"}"#], "is not a usable URL"),
        (&["adv", "https://x"], "is not a usable URL"),
        (&["adv", "http://[::1"], "is not a usable URL"),
        (&["adv", "http://127.0.0.1:1", "--thumbprint", "a/b"], "is not a thumbprint"),
        (&["adv", "http://127.0.0.1:1", "--thumbprint", "-H"], "is not a thumbprint"),
        (&["seal", "x", "--pin", r#"{"tang":{"url":"http://127.0.0.1:1"}}"#], "no thumbprint is pinned"),
        (
            &["seal", "x", "--pin", r#"{"tang":{"url":"http://a","url":"http://b"}}"#],
            "--pin names the key \"url\" twice",
        ),
        (
            &["--server-time", "2", "--attempt-time", "0.3", "adv", "http://a"],
            "an attempt of 0.3 s ends before the 2 s",
        ),
        (&["open", ""], "the name of a device is empty"),
    ];
    for (arguments, said) in refusals {
        let answer = machine.unlock(arguments, b"x");
        assert_eq!(answer.code, 2, "{arguments:?}: {}", answer.err);
        assert!(answer.err.contains(said), "{arguments:?}: {}", answer.err);
    }
}

#[test]
fn the_order_of_the_arguments_does_not_matter() {
    let (tang, machine) = (Tang::start("P-521"), Machine::new());
    machine.file(1, &[&tang], &[]);
    machine.ok(&["seal", "waits"], b"x");
    let sealed = machine.root.path().join("etc/personal-cluster/sealed");
    std::fs::write(sealed.join("garbage.jwe"), "cut off").unwrap();
    drop(tang);
    for names in [["waits", "garbage"], ["garbage", "waits"]] {
        let answer = machine.unlock(&["unseal", names[0], names[1]], b"");
        assert_eq!(answer.code, 75, "{}", answer.err);
        assert!(answer.err.contains("garbage.jwe") && answer.err.contains("opening waits"), "{}", answer.err);
    }
    assert_eq!(machine.unlock(&["unseal", "garbage"], b"").code, 1);
}

#[test]
fn a_disk_that_is_not_plugged_in_may_come_later() {
    let (tang, machine) = (Tang::start("P-521"), Machine::new());
    machine.file(1, &[&tang], &["ata-A"]);
    let recover = &["recover", "--recovery-key-file", "-"][..];
    for verb in [recover, &["open"], &["check"], &["rotate"], &["bind"], &["unbind"]] {
        let answer = machine.unlock(&[verb, &[&device("ata-A")]].concat(), PASSPHRASE.as_bytes());
        assert_eq!(answer.code, 75, "{verb:?}: {}", answer.err);
        assert!(answer.err.contains("is not plugged in"), "{verb:?}: {}", answer.err);
    }
}

/// `{"alg":"dir","clevis":{"pin":"yubikey","yubikey":{}},"enc":"A256GCM"}`: a pin of somebody else's Clevis.
const STRANGE: &str =
    "eyJhbGciOiJkaXIiLCJjbGV2aXMiOnsicGluIjoieXViaWtleSIsInl1YmlrZXkiOnt9fSwiZW5jIjoiQTI1NkdDTSJ9";

#[test]
fn a_pin_that_nobody_here_knows_stays_unknown() {
    let jwe = format!("{STRANGE}..AAAAAAAAAAAAAAAA.AAAA.AAAAAAAAAAAAAAAAAAAAAA");
    let answer = support::unlock(&["decrypt"], jwe.as_bytes());
    assert_eq!(answer.code, 1, "{}", answer.err);
    assert!(answer.err.contains("pin \"yubikey\" is not supported here"), "{}", answer.err);
}

#[test]
fn an_advertisement_may_come_from_a_file() {
    let (tang, machine) = (Tang::start("P-256"), Machine::new());
    let file = machine.root.path().join("adv.jws");
    let adv = run("curl", &["-s", &format!("{}/adv", tang.url)], b"");
    std::fs::write(&file, &adv).unwrap();
    let config = format!(r#"{{"url":"{}","adv":"{}"}}"#, tang.url, file.display());
    let pin = format!(r#"{{"tang":{config}}}"#);
    machine.ok(&["seal", "x", "--pin", &pin], b"secret");
    machine.ok(&["unseal", "x"], b"");
    // Two readers could each believe another one of the two.
    let twice = text(&adv).replacen("\"payload\":", "\"payload\":\"AAAA\",\"payload\":", 1);
    std::fs::write(&file, twice).unwrap();
    for arguments in [["encrypt", "tang", &config, "-y"], ["seal", "y", "--pin", &pin]] {
        let answer = machine.unlock(&arguments, b"secret");
        assert_eq!((answer.code, answer.out.is_empty()), (2, true), "{}", answer.err);
        assert!(answer.err.contains("the advertisement names the key \"payload\" twice"), "{}", answer.err);
    }
}

#[test]
fn a_short_attempt_shortens_its_servers_too() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let answer = unlock(&["--attempt-time", "0.3", "adv", &url], b"");
    assert_eq!(answer.code, 75, "{}", answer.err);
    assert!(answer.err.contains("timed out after 0.3 s"), "{}", answer.err);
}

#[test]
fn a_time_in_the_environment_that_is_none_is_refused() {
    for (name, bad) in [("PC_UNLOCK_SERVER_TIME", "2s"), ("PC_UNLOCK_ATTEMPT_TIME", "-1")] {
        let mut run = std::process::Command::new(env!("CARGO_BIN_EXE_pc-unlock"));
        let output = run.args(["adv", "http://127.0.0.1:9"]).env(name, bad).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(
            said.contains(name) && said.contains(&format!("{bad:?}")) && said.contains("unset"),
            "{said}"
        );
    }
}

#[test]
fn no_device_is_no_device_that_may_come_later() {
    let (tang, machine) = (Tang::start("P-256"), Machine::new());
    machine.file(1, &[&tang], &["ata-A"]);
    for verb in [&["open", ""][..], &["bind", ""], &["unbind", ""], &["header", "restore", ""]] {
        let answer = machine.unlock(verb, b"x");
        assert_eq!(answer.code, 2, "{verb:?}: {}", answer.err);
    }
    for (pin, config) in [("tang", r#"{"url":"http://127.0.0.1:9","adv":5}"#), ("tpm2", r#"{"hash":"; rm"}"#)]
    {
        let answer = unlock(&["encrypt", pin, config], b"x");
        assert_eq!((answer.code, answer.out.is_empty()), (2, true), "{}", answer.err);
        assert!(answer.err.contains(&format!("pin {pin}: ")), "{}", answer.err);
    }
}

#[test]
fn a_server_is_shown_as_the_file_wants_it() {
    let tang = Tang::start("P-256");
    let authority = tang.url.trim_start_matches("http://");
    for given in [authority, &format!("HTTP://{authority}"), &format!("hTtP://{authority}//")] {
        let shown = unlock(&["adv", given], b"");
        assert!(text(&shown.out).contains(&format!("url = \"{}\"", tang.url)), "{}", text(&shown.out));
    }
}

#[test]
fn a_name_is_said_once_and_what_is_damaged_is_told() {
    let (tang, machine) = (Tang::start("P-256"), Machine::new());
    let name = device("ata-A");
    machine.file(1, &[&tang], &["ata-A"]);
    let path = machine.disk("ata-A");
    let bound = machine.ok(&["bind", &name], PASSPHRASE.as_bytes());
    assert!(bound.err.contains("no backup of its header is kept yet"), "{}", bound.err);
    let again = machine.ok(&["bind", &name], b"no passphrase of it");
    assert!(again.err.contains("is bound to tang("), "{}", again.err);
    let whole = std::fs::read(&path).unwrap();
    // The second copy stands behind the first, of 16 KiB.
    for (place, which) in [(4096, "first"), (0x4000 + 4096, "second")] {
        let mut damaged = whole.clone();
        damaged[place] ^= 1;
        std::fs::write(&path, damaged).unwrap();
        let answer = machine.ok(&["open", "--test"], b"");
        assert!(answer.err.contains(&format!("the {which} of the two copies")), "{}", answer.err);
    }
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(machine.ok(&["open", "--test"], b"").err, "");
    std::fs::write(&path, &whole[..0x3000]).unwrap();
    let short = machine.unlock(&["open", "--test"], b"");
    assert_eq!(short.code, 1, "{}", short.err);
    assert!(short.err.contains("the device ends before its header does"), "{}", short.err);
    std::fs::write(&path, "no header at all").unwrap();
    for verb in [&["open", "--test"][..], &["rotate"]] {
        let answer = machine.unlock(verb, b"");
        assert_eq!((answer.code, answer.err.matches("ata-A").count()), (1, 1), "{}", answer.err);
    }
    let pin = r#"{"file":{"name":"/tmp"}}"#;
    let directory = machine.unlock(&["seal", "x", "--pin", pin], b"secret");
    assert_eq!(directory.code, 1, "{}", directory.err);
}

#[test]
fn a_key_that_the_server_has_deleted_is_gone_for_good() {
    let tang = Tang::start("P-256");
    let sealed = unlock(&["encrypt", "tang", &tang.config()], b"x");
    for entry in std::fs::read_dir(tang.keys.path()).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    tang.add_keys("P-256");
    let answer = unlock(&["decrypt"], &sealed.out);
    assert_eq!(answer.code, 1, "{}", answer.err);
    assert!(answer.err.contains("status 404, so it does not have this key"), "{}", answer.err);
}
