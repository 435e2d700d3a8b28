//! Whose rows are whose: a second apply does nothing, rows of others stay, what is not there is told.

use crate::common::compare;
use crate::ovn::{FILE, Ovn};

/// The file with every network plain.
fn plain() -> String {
    let of_zones = ["gateway = ", "subnet6 = ", "addresses = { shop = "];
    let kept = FILE.lines().filter(|line| !of_zones.iter().any(|start| line.starts_with(start)));
    kept.map(|line| [line, "\n"].concat()).collect::<Vec<_>>().concat()
}

#[test]
fn the_second_apply_does_nothing() {
    let ovn = Ovn::start(FILE);
    ovn.pc(&["zones", "plan", "--exit-code"]).with(3);
    compare("zones-plan.json", &ovn.pc(&["zones", "plan", "--json"]).with(0).out);
    compare("zones-apply.json", &ovn.pc(&["zones", "apply", "--json"]).with(0).out);
    compare("zones-status.json", &ovn.pc(&["zones", "status", "--json", "--exit-code"]).with(0).out);
    compare(
        "explain.json",
        &ovn.pc(&["explain", "vm:www1", "vm:mx", "tcp/25", "--json"])
            .with(0)
            .out
            .replace(ovn.path("").to_str().unwrap(), "/"),
    );
    let (dump, count) = (ovn.dump(), ovn.nbctl(&["get", "NB_Global", ".", "nb_cfg"]));
    let again = ovn.pc(&["zones", "apply"]).with(0);
    assert_eq!((again.out.as_str(), again.err.as_str()), ("", ""));
    assert_eq!(ovn.pc(&["zones", "plan", "--exit-code"]).with(0).out, "nothing to do\n");
    assert_eq!((ovn.dump(), ovn.nbctl(&["get", "NB_Global", ".", "nb_cfg"])), (dump, count));
}

#[test]
fn rows_of_others_stay() {
    let ovn = Ovn::start(FILE);
    ovn.nbctl(&[
        "ls-add",
        "theirs",
        "--",
        "lsp-add",
        "theirs",
        "their-port",
        "--",
        "pg-add",
        "their_group",
        "their-port",
    ]);
    ovn.nbctl(&["acl-add", "their_group", "to-lport", "7", "outport == @their_group", "drop"]);
    let before = ovn.dump();
    ovn.pc(&["zones", "apply"]).with(0);
    for line in before.lines().filter(|line| !line.is_empty()) {
        assert!(ovn.dump().contains(line), "{line} has gone");
    }
    // Things of others that hang on ours.
    ovn.nbctl(&["lsp-add", "pc-mail", "guest-of-mail", "--", "pg-set-ports", "their_group", "guest-of-mail"]);
    ovn.nbctl(&["acl-add", "pc_web", "from-lport", "7", "inport == @pc_web", "allow"]);
    assert_eq!(ovn.pc(&["zones", "plan"]).with(0).out, "nothing to do\n");
    // Nothing is a zone any more: ours go, but not what would take theirs along.
    ovn.write(&plain());
    let gone = ovn.pc(&["zones", "apply"]).with(0);
    for told in ["Logical_Switch pc-mail stays", "Port_Group pc_web stays"] {
        assert!(gone.err.contains(told), "{}", gone.err);
    }
    assert_eq!(
        ovn.nbctl(&["--bare", "--columns=name", "list", "Logical_Switch"]).split_whitespace().count(),
        2
    );
    assert_eq!(ovn.nbctl(&["lsp-list", "pc-mail"]).lines().count(), 1);
    assert_eq!(ovn.nbctl(&["acl-list", "pc_web"]).lines().count(), 1);
    assert_eq!(ovn.nbctl(&["acl-list", "their_group"]).lines().count(), 1);
    assert_eq!(ovn.nbctl(&["lr-list"]), "");
    assert_eq!(ovn.pc(&["zones", "plan"]).with(0).out, "nothing to do\n");
}

#[test]
fn what_somebody_broke_is_mended() {
    let ovn = Ovn::start(FILE);
    ovn.pc(&["zones", "apply"]).with(0);
    let (dump, mail) = (ovn.dump(), ovn.nbctl(&["acl-list", "pc_mail"]));
    let port = ovn.cards().into_iter().find(|card| card.vm == "mx").unwrap();
    ovn.nbctl(&["acl-del", "pc_mail"]);
    ovn.nbctl(&["lsp-set-port-security", &port.port]);
    ovn.nbctl(&["clear", "port_group", "pc_mail", "ports"]);
    ovn.nbctl(&["clear", "logical_switch_port", "pc-web-uplink", "tag"]);
    ovn.nbctl(&["set", "logical_switch_port", "pc-shop-uplink", "tag=99"]);
    ovn.nbctl(&["lr-policy-del", "pc"]);
    ovn.pc(&["zones", "status", "--exit-code"]).with(3);
    ovn.pc(&["zones", "apply"]).with(0);
    assert_eq!(ovn.nbctl(&["acl-list", "pc_mail"]), mail);
    // New rows have new UUIDs; everything else is as it was.
    assert_eq!(ovn.dump().lines().count(), dump.lines().count());
    assert_eq!(
        ovn.nbctl(&["get", "logical_switch_port", &port.port, "port_security"]).matches("10.0.20.5").count(),
        1
    );
    assert_eq!(ovn.nbctl(&["get", "logical_switch_port", "pc-shop-uplink", "tag"]).trim(), "30");
    assert_eq!(ovn.pc(&["zones", "plan"]).with(0).out, "nothing to do\n");
}

#[test]
fn a_name_of_somebody_else_is_refused() {
    let ovn = Ovn::start(FILE);
    ovn.nbctl(&["ls-add", "theirs", "--", "lsp-add", "theirs", "pc-web-uplink"]);
    let before = ovn.dump();
    let refused = ovn.pc(&["zones", "apply"]).with(2);
    assert_eq!(
        refused.err,
        "error: Logical_Switch_Port pc-web-uplink exists and is not ours\n  \
         look at it: ovn-nbctl find Logical_Switch_Port name=pc-web-uplink\n"
    );
    assert_eq!(ovn.dump(), before);
}

#[test]
fn without_ovn_a_file_without_zones_has_nothing_to_do() {
    let ovn = Ovn::none(FILE);
    let refused = ovn.pc(&["zones", "apply"]).with(2);
    assert_eq!(
        refused.err,
        "error: the file has zones, and OVN's databases are not on this machine\n  \
         run it where they are, or: apt-get install ovn-central\n"
    );
    ovn.pc(&["zones", "status", "--exit-code"]).with(3);
    ovn.write(&plain());
    assert_eq!(ovn.pc(&["zones", "plan"]).with(0).out, "nothing to do\n");
    assert_eq!(ovn.pc(&["zones", "apply"]).with(0).out, "");
    ovn.pc(&["zones", "status", "--exit-code"]).with(0);
    // Installed, but not running.
    std::fs::create_dir_all(ovn.path("usr/bin")).unwrap();
    std::fs::write(ovn.path("usr/bin/ovn-northd"), "").unwrap();
    let later = ovn.pc(&["zones", "apply"]).with(75);
    assert!(later.err.ends_with("systemctl restart ovn-central\n"), "{}", later.err);
}

#[test]
fn a_lease_stays_when_others_come() {
    let ovn = Ovn::start(FILE);
    ovn.pc(&["zones", "apply"]).with(0);
    let before = ovn.cards();
    let card = "memory = \"1GiB\"\ndisk = \"1GiB\"\nvolume = \"vms\"\nnetworks = [\"web\", \"mail\"]\n";
    let more: Vec<String> = (0..40).map(|number| format!("[vm.a{number}]\n{card}")).collect();
    let more = more.concat();
    ovn.write(&format!("{FILE}{more}"));
    ovn.pc(&["zones", "apply"]).with(0);
    let after = ovn.cards();
    assert_eq!(after.len(), before.len() + 80);
    for card in before {
        let now = after.iter().find(|now| now.port == card.port).unwrap();
        assert_eq!((&now.v4, &now.v6), (&card.v4, &card.v6), "{}", card.vm);
    }
    let mut all: Vec<&str> = after.iter().map(|card| card.v4.as_str()).collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), after.len());
}

#[test]
fn a_northd_that_is_behind_is_told() {
    let mut ovn = Ovn::start(FILE);
    ovn.pc(&["zones", "apply"]).with(0);
    ovn.pc(&["zones", "status", "--exit-code"]).with(0);
    ovn.stop_northd();
    ovn.nbctl(&["set", "NB_Global", ".", "nb_cfg=1000"]);
    let behind = ovn.pc(&["zones", "status", "--exit-code"]).with(3);
    assert!(behind.out.contains("wrong: ovn-northd has translated change"), "{}", behind.out);
    ovn.start_northd();
    ovn.nbctl(&["--wait=sb", "sync"]);
    ovn.pc(&["zones", "status", "--exit-code"]).with(0);
}
