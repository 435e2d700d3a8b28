//! Interoperation, both ways, with the real clevis against the real tangd.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says what it expects")]

mod support;

use support::{Tang, run, text, try_run};
use tang_client::adv::Trust;
use tang_client::{Client, Error, Jwe, Pin, Policy};

const SECRET: &[u8] = b"a passphrase, not ended by a newline";

fn ours_opens(jwe: &[u8]) -> Vec<u8> {
    Client::default().decrypt(&Policy::read(Jwe::parse(jwe).unwrap()).unwrap()).unwrap().to_vec()
}

fn ours_seals(pin: &str, config: &str) -> String {
    let pin = Pin::parse(pin, config.as_bytes()).unwrap();
    let jwe = Client::default().encrypt(&pin, SECRET, false, &[]).unwrap();
    assert!(Policy::read(jwe.clone()).unwrap().is_of(&pin));
    jwe.to_compact()
}

/// clevis seals and we open; we seal and both open.
fn both_ways(pin: &str, config: &str) {
    let theirs = run("clevis", &["encrypt", pin, config], SECRET);
    assert_eq!(ours_opens(&theirs), SECRET, "sealed by clevis: {pin} {config}");
    let ours = ours_seals(pin, config);
    assert_eq!(ours_opens(ours.as_bytes()), SECRET, "sealed by us: {pin} {config}");
    assert_eq!(run("clevis", &["decrypt"], ours.as_bytes()), SECRET, "sealed by us, opened by clevis: {pin}");
    // The JSON form of LUKS2 tokens, converted by jose.
    let json = run("jose", &["jwe", "fmt", "-i-"], &theirs);
    assert_eq!(ours_opens(&json), SECRET);
    let read = Jwe::parse(&json).unwrap();
    assert_eq!(read.to_compact(), text(&theirs));
    assert_eq!(Jwe::parse(read.to_json().to_string().as_bytes()).unwrap(), read);
}

#[test]
fn tang_on_all_three_curves() {
    for curve in ["P-256", "P-384", "P-521"] {
        both_ways("tang", &Tang::start(curve).config());
    }
}

#[test]
fn a_legacy_thumbprint_is_trusted_too() {
    let tang = Tang::start("P-521");
    both_ways("tang", &format!(r#"{{"url":"{}","thp":"{}"}}"#, tang.url, tang.thumbprint_by("S1")));
}

#[test]
fn rotated_keys_still_open_and_are_noticed() {
    let tang = Tang::start("P-521");
    let old = Policy::read(Jwe::parse(ours_seals("tang", &tang.config()).as_bytes()).unwrap()).unwrap();
    let old_pin = tang.thumbprint();
    assert_eq!(Client::default().is_current(&old), Ok(true));
    tang.rotate("P-521");
    assert_eq!(Client::default().decrypt(&old).unwrap().as_slice(), SECRET);
    assert_eq!(Client::default().is_current(&old), Ok(false));
    // The old pin alone no longer vouches, the key that was known before does.
    let pinned = Client::default().advertisement(&tang.url, &Trust::Pinned(&old_pin)).unwrap_err();
    assert!(matches!(&pinned, Error::Server { reason, .. } if matches!(**reason, Error::NotTrusted { .. })));
    assert!(!pinned.is_temporary());
    let known = &old.servers()[0].keys;
    let now = Client::default().advertisement(&tang.url, &Trust::PinnedOrKnown(&old_pin, known)).unwrap();
    assert!(now.signing_keys().all(|key| !key.is(&old_pin)));
    both_ways("tang", &tang.config());
}

#[test]
fn several_signing_keys() {
    let tang = Tang::start("P-521");
    tang.add_keys("P-521");
    tang.add_keys("P-256");
    both_ways("tang", &tang.config());
    let adv = Client::default().advertisement(&tang.url, &Trust::FirstUse).unwrap();
    assert_eq!(adv.signing_keys().count(), 3);
}

#[test]
fn sharings() {
    let (a, b, c) = (Tang::start("P-521"), Tang::start("P-256"), Tang::start("P-384"));
    let (a, b, c) = (a.config(), b.config(), c.config());
    both_ways("sss", &format!(r#"{{"t":1,"pins":{{"tang":[{a},{b}]}}}}"#));
    both_ways("sss", &format!(r#"{{"t":2,"pins":{{"tang":[{a},{b},{c}]}}}}"#));
    both_ways(
        "sss",
        &format!(r#"{{"t":2,"pins":{{"tang":{a},"sss":{{"t":1,"pins":{{"tang":[{b},{c}]}}}}}}}}"#),
    );
}

/// Of a nested sharing each server is asked by itself, whatever the thresholds are.
#[test]
fn servers_that_a_threshold_hides_are_found() {
    let (a, b, c) = (Tang::start("P-521"), Tang::start("P-256"), Tang::start("P-384"));
    let inner = format!(r#"{{"t":1,"pins":{{"tang":[{},{}]}}}}"#, b.config(), c.config());
    let jwe = ours_seals("sss", &format!(r#"{{"t":1,"pins":{{"tang":{},"sss":{inner}}}}}"#, a.config()));
    let policy = Policy::read(Jwe::parse(jwe.as_bytes()).unwrap()).unwrap();
    let faults = || Client::default().faults(&policy);
    assert_eq!(faults(), []);
    for tang in [&a, &c] {
        for key in std::fs::read_dir(tang.keys.path()).unwrap() {
            std::fs::remove_file(key.unwrap().path()).unwrap();
        }
    }
    let gone = |tang: &Tang| Error::Status(404).at(&tang.url);
    let mut found: Vec<String> = faults().iter().map(ToString::to_string).collect();
    found.sort();
    let mut said = [gone(&a).to_string(), gone(&c).to_string()];
    said.sort();
    assert_eq!(found, said);
    assert_eq!(ours_opens(jwe.as_bytes()), SECRET);
}

#[test]
fn an_offline_advertisement_needs_no_server() {
    let tang = Tang::start("P-521");
    let adv = text(&run("curl", &["-s", &format!("{}/adv", tang.url)], b""));
    let before = tang.requests.load(std::sync::atomic::Ordering::SeqCst);
    let jwe = ours_seals("tang", &format!(r#"{{"url":"{}","adv":{adv}}}"#, tang.url));
    assert_eq!(tang.requests.load(std::sync::atomic::Ordering::SeqCst), before);
    assert_eq!(ours_opens(jwe.as_bytes()), SECRET);
    // Other keys at the same place are another pin, with a thumbprint or without.
    let policy = Policy::read(Jwe::parse(jwe.as_bytes()).unwrap()).unwrap();
    let first = tang.thumbprint();
    tang.rotate("P-521");
    let now = text(&run("curl", &["-s", &format!("{}/adv", tang.url)], b""));
    let is_of = |rest: &str| {
        let pin = format!(r#"{{"url":"{}"{rest}}}"#, tang.url);
        policy.is_of(&Pin::parse("tang", pin.as_bytes()).unwrap())
    };
    assert!(is_of("") && is_of(&format!(r#","adv":{adv}"#)));
    assert!(is_of(&format!(r#","thp":"{first}","adv":{adv}"#)));
    assert!(!is_of(&format!(r#","adv":{now}"#)) && !is_of(r#","adv":{}"#));
    assert!(!is_of(&format!(r#","thp":"{first}","adv":{now}"#)));
}

#[test]
fn what_clevis_refuses_is_refused() {
    let (tang, other) = (Tang::start("P-521"), Tang::start("P-521"));
    let config = format!(r#"{{"url":"{}","thp":"{}"}}"#, tang.url, other.thumbprint());
    let error = Client::default().encrypt(&Pin::parse("tang", config.as_bytes()).unwrap(), SECRET, true, &[]);
    assert!(error.unwrap_err().to_string().contains("is pinned, the server signs with"));
    assert!(!try_run("clevis", &["encrypt", "tang", &config], SECRET).0);
    let bare = Pin::parse("tang", format!(r#"{{"url":"{}"}}"#, tang.url).as_bytes()).unwrap();
    assert!(matches!(Client::default().encrypt(&bare, SECRET, false, &[]), Err(Error::NotPinned(_))));
    assert!(Client::default().encrypt(&bare, SECRET, true, &[]).is_ok());
}
