//! What happens before sbd opens a watchdog.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod stage;

use std::path::Path;

use stage::{Stage, said};

const ENVIRONMENT: &str = "var/lib/personal-cluster/ha/sbd.env";

/// A chip that resets, and one that only tells a management controller (`mei_wdt`), by the numbers of one boot.
fn numbered(stage: &Stage, devices: [&str; 2]) {
    drop(std::fs::remove_dir_all(stage.at("sys/class/watchdog")));
    for (number, identity) in devices.iter().enumerate() {
        let options = if *identity == "iamt_wdt" { "0x8480" } else { "0x8180" };
        let at = format!("sys/class/watchdog/watchdog{number}");
        for (name, text) in [("identity", *identity), ("state", "inactive"), ("options", options)] {
            stage.write(&format!("{at}/{name}"), &format!("{text}\n"));
        }
    }
}

#[test]
fn the_watchdog_is_chosen_at_each_boot_by_what_it_is() {
    let stage = Stage::new();
    numbered(&stage, ["iTCO_wdt", "iamt_wdt"]);
    stage.pc_ha(&["apply"]);
    let device = || {
        let text = stage.read(ENVIRONMENT);
        text.lines().find_map(|line| line.strip_prefix("SBD_WATCHDOG_DEV=")).unwrap().to_string()
    };
    assert_eq!(device(), "/dev/watchdog0");
    // Their drivers came in another order.
    numbered(&stage, ["iamt_wdt", "iTCO_wdt"]);
    let before = stage.read(ENVIRONMENT);
    let output = stage.pc_ha(&["watchdog"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(device(), "/dev/watchdog1");
    assert_eq!(stage.read(ENVIRONMENT), before.replace("watchdog0", "watchdog1"));
    assert!(!stage.steps().contains(&"sbd".to_string()), "{:?}", stage.steps());
    let output = stage.pc_ha(&["watchdog"]);
    assert_eq!((output.status.code(), said(&output)), (Some(0), String::new()), "it is so already");
    // The time is not this verb's matter: others may wait by the longer one.
    stage.write(ENVIRONMENT, &before.replace("TIMEOUT=5", "TIMEOUT=15"));
    assert_eq!(stage.pc_ha(&["watchdog"]).status.code(), Some(0));
    assert!(stage.read(ENVIRONMENT).contains("SBD_WATCHDOG_TIMEOUT=15\n"));
}

#[test]
fn sbd_does_not_start_on_what_resets_nothing() {
    let stage = Stage::new();
    let refused = |says: &str| {
        let output = stage.pc_ha(&["watchdog"]);
        let told = said(&output);
        assert_eq!((output.status.code(), told.contains(says)), (Some(2), true), "{told}");
    };
    refused("sbd.env says no time\n  pc-ha enable");
    stage.pc_ha(&["apply"]);
    numbered(&stage, ["iamt_wdt", "iamt_wdt"]);
    refused("this node has no watchdog that resets it");
    // The file names a number, which is another one's by now.
    numbered(&stage, ["iamt_wdt", "iTCO_wdt"]);
    stage.write("cluster.toml", &stage::FILE.replace("[ha]", "[ha]\nwatchdog = \"/dev/watchdog0\""));
    refused("iamt_wdt resets nothing");
    // Whatever it ends with, sbd waits for it.
    let drop_in =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../units/sbd.service.d/50-personal-cluster.conf");
    let drop_in = std::fs::read_to_string(drop_in).unwrap();
    assert!(drop_in.contains("\nExecStartPre=/usr/bin/pc-ha watchdog --applied\n"), "{drop_in}");
}
