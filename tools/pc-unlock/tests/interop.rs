//! Both ways with clevis on LUKS2 files, for every shape of pin: what clevis binds we open, what we bind clevis opens,
//! also after the servers have rotated their keys.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says what it expects")]

mod support;

use support::{Machine, PASSPHRASE, Tang, device, run};

/// Pins over three servers of different curves.
fn pins(servers: &[Tang; 3]) -> [(&'static str, String); 6] {
    let [a, b, c] = servers.each_ref().map(Tang::config);
    [
        ("tang", a.clone()),
        ("tang", b.clone()),
        ("tang", c.clone()),
        ("sss", format!(r#"{{"t":1,"pins":{{"tang":[{a},{b}]}}}}"#)),
        ("sss", format!(r#"{{"t":2,"pins":{{"tang":[{a},{b},{c}]}}}}"#)),
        ("sss", format!(r#"{{"t":2,"pins":{{"tang":{a},"sss":{{"t":1,"pins":{{"tang":[{b},{c}]}}}}}}}}"#)),
    ]
}

/// The passphrase as clevis gets it out of the token, shown to cryptsetup.
fn clevis_opens(path: &str, slot: &str) {
    let passphrase = run("clevis", &["luks", "pass", "-d", path, "-s", slot], b"");
    let passphrase = passphrase.strip_suffix(b"\n").unwrap_or(&passphrase);
    let test = ["open", "--test-passphrase", "--key-slot", slot, "--key-file", "-", path];
    run("cryptsetup", &test, passphrase);
}

#[test]
fn every_pin_both_ways_before_and_after_a_rotation() {
    let servers = [Tang::start("P-521"), Tang::start("P-256"), Tang::start("P-384")];
    // More than one key that signs.
    servers[0].add_keys("P-256");
    let machine = Machine::new();
    let mut bound = Vec::new();
    for (number, (pin, config)) in pins(&servers).into_iter().enumerate() {
        let (ours, theirs) = (format!("ata-ours{number}"), format!("ata-theirs{number}"));
        machine.disk(&ours);
        let path = machine.disk(&theirs);
        let bind = ["luks", "bind", "-y", "-k", "-", "-d", path.to_str().unwrap(), pin, &config];
        run("clevis", &bind, PASSPHRASE.as_bytes());
        let pin = format!(r#"{{"{pin}":{config}}}"#);
        machine.ok(&["bind", &device(&ours), "--pin", &pin], PASSPHRASE.as_bytes());
        bound.push((ours, theirs));
    }
    let open_all = || {
        for (ours, theirs) in &bound {
            machine.ok(&["open", "--test", &device(theirs)], b"");
            clevis_opens(machine.path(ours).to_str().unwrap(), "1");
        }
    };
    open_all();
    for (server, curve) in servers.iter().zip(["P-521", "P-256", "P-384"]) {
        server.rotate(curve);
    }
    open_all();
    // What clevis made, rebound by us to the new keys, is clevis's to open again.
    for ((_, theirs), now) in bound.iter().zip(pins(&servers)) {
        let before = machine.dump(theirs);
        let answer = machine.unlock(&["rotate", &device(theirs)], b"");
        if answer.code == 1 {
            // The largest sharings fit only once into the 12 KiB of metadata that cryptsetup usually makes: said before
            // anything is changed, and there is a way.
            assert!(answer.err.contains("bytes of metadata"), "{}", answer.err);
            assert_eq!(machine.dump(theirs), before);
            let pin = format!(r#"{{"{}":{}}}"#, now.0, now.1);
            machine.ok(&["unbind", &device(theirs)], b"");
            machine.ok(&["bind", &device(theirs), "--pin", &pin], PASSPHRASE.as_bytes());
        }
        let path = machine.path(theirs);
        let (slots, _) = machine.shape(theirs);
        clevis_opens(path.to_str().unwrap(), slots.last().unwrap());
    }
}
