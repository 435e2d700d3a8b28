//! push: three directories that stand for nodes, with an `ssh` that goes to them and a `pc-trust` that signs
//! by wrapping.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod machine;

use std::path::{Path, PathBuf};
use std::process::Command;

use machine::{Ended, PROGRAM, as_recorded, file, run};
use tempfile::TempDir;

const SSH: &str = r#"#!/bin/sh
# ssh -F CONFIG -- NODE VERB
echo "$4 $5" >> "$LAB/log"
[ -e "$LAB/down-$4" ] && { echo "ssh: connect to host $4 port 22: No route to host" >&2; exit 255; }
case "$5" in "pc-config put --signed -") [ -e "$LAB/dies-$4" ] && { echo "Connection closed" >&2; exit 255; } ;; esac
exec "$PROGRAM" --root "$LAB/$4" --node "$4" ${5#pc-config }
"#;

const TRUST: &str = r#"#!/bin/sh
# pc-trust --root ROOT [--json] VERB
for verb; do :; done
ca=$(cat "$2/etc/personal-cluster/trust/ca.crt")
case "$verb" in
sign) exec jq -Rs --arg ca "$ca" --arg node "${2##*/}" '{schema: "pc.trust.envelope/1", signer: $node, certificate: $ca, content: .}' ;;
verify) envelope=$(cat)
    case "$envelope" in *forged*) echo "error: the signature does not fit the text" >&2; exit 2 ;; esac
    [ "$3" = --json ] || exit 1
    printf %s "$envelope" | jq -e --arg ca "$ca" \
        'select(.certificate == $ca) | {schema: "pc.trust.verified/1", signer, content}' && exit
    echo "error: the certificate is not of this cluster's CA" >&2; exit 2 ;;
esac
"#;

struct Lab {
    kept: TempDir,
}

impl Lab {
    fn new() -> Lab {
        let lab = Lab { kept: tempfile::tempdir().unwrap() };
        for node in ["node1", "node2", "node3"] {
            let trust = lab.at(node).join("etc/personal-cluster/trust");
            std::fs::create_dir_all(&trust).unwrap();
            std::fs::write(trust.join("ca.crt"), "").unwrap();
            std::fs::write(trust.join("ssh_config"), "").unwrap();
            let secrets = lab.at(node).join("run/personal-cluster/secrets");
            std::fs::create_dir_all(&secrets).unwrap();
            std::fs::write(secrets.join("ssh-user.key"), "").unwrap();
        }
        for (name, script) in [("ssh", SSH), ("pc-trust", TRUST)] {
            use std::os::unix::fs::PermissionsExt;
            let path = lab.at("bin").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, script).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        lab
    }

    fn at(&self, name: &str) -> PathBuf {
        self.kept.path().join(name)
    }

    fn run(&self, node: &str, arguments: &[&str], stdin: &str) -> Ended {
        let path = format!("{}:{}", self.at("bin").display(), std::env::var("PATH").unwrap());
        let mut command = Command::new(PROGRAM);
        command.env("PATH", path).env("LAB", self.kept.path()).env("PROGRAM", PROGRAM);
        command.arg("--root").arg(self.at(node)).args(["--node", node]).args(arguments);
        run(&mut command, stdin.as_bytes())
    }

    fn in_force(&self) -> Vec<String> {
        let read =
            |node| std::fs::read_to_string(self.at(node).join("var/lib/personal-cluster/generation.json"));
        let number = |node| {
            let text = read(node).unwrap_or_default();
            let number = |number: &u32| text.contains(&format!("generation\\\": {number},"));
            let number = (1..9).find(number).map_or("none".into(), |number| number.to_string());
            format!("{node} {number}")
        };
        ["node1", "node2", "node3"].into_iter().map(number).collect()
    }

    fn touch(&self, name: &str) {
        std::fs::write(self.at(name), "").unwrap();
    }

    /// All three have the first generation, as after `init` and `join`.
    fn joined() -> Lab {
        let lab = Lab::new();
        assert_eq!(lab.run("node1", &["put", "-"], &file(3, "")).code, 0);
        let record = lab.at("node1").join("var/lib/personal-cluster/generation.json");
        let signed = std::fs::read_to_string(record).unwrap();
        for node in ["node2", "node3"] {
            let ended = lab.run(node, &["put", "-"], &signed);
            assert_eq!(ended.code, 0, "{}", ended.stderr);
        }
        assert_eq!(lab.in_force(), ["node1 1", "node2 1", "node3 1"]);
        lab
    }

    fn edit(&self, text: &str) {
        std::fs::write(self.at("node1").join("etc/personal-cluster/cluster.toml"), text).unwrap();
    }
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn all_nodes_get_it_and_a_second_push_does_nothing() {
    let lab = Lab::joined();
    lab.edit(&file(3, "# edited\n"));
    let ended = lab.run("node1", &["push"], "");
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_eq!(ended.stdout, "generation 2 is in force on node1, node2, node3\n");
    assert_eq!(lab.in_force(), ["node1 2", "node2 2", "node3 2"]);
    assert_eq!(text(&lab.at("node3").join("etc/personal-cluster/cluster.toml")), file(3, "# edited\n"));
    let again = lab.run("node1", &["push"], "");
    assert_eq!((again.code, again.stdout.as_str(), again.stderr.as_str()), (0, "", ""));
    lab.edit(&file(3, "# edited again\n"));
    as_recorded("push.json", &lab.run("node1", &["push", "--json"], ""));
}

#[test]
fn another_network_is_told_before_a_boot_tries_it() {
    let lab = Lab::joined();
    let with = |nic: &str| file(3, &format!("nics.lan = [\"{nic}\"]\n"));
    lab.edit(&with("eth0"));
    let ended = lab.run("node1", &["push"], "");
    let told = |node| {
        format!(
            "the network of {node} changes, and would first be tried at the next boot, which has no way back\n  before any reboot, on every node: pc-ovs apply --confirm 60s\n"
        )
    };
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stderr.contains(&told("node3")), "{}", ended.stderr);
    let again = lab.run("node1", &["push"], "");
    assert_eq!((again.code, again.stderr.as_str()), (0, ""));
    // On the node itself, of itself alone.
    for (node, says) in [("node3", true), ("node2", false)] {
        let ended = lab.run(node, &["put", "-"], &with("eth9"));
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        assert_eq!(ended.stderr.contains(&told("node3")), says, "{}", ended.stderr);
    }
}

#[test]
fn a_node_that_is_down_means_nothing_anywhere() {
    let lab = Lab::joined();
    lab.edit(&file(3, "# edited\n"));
    lab.touch("down-node3");
    let ended = lab.run("node1", &["push"], "");
    assert_eq!(ended.code, 75);
    assert!(ended.stderr.contains("node3 cannot be reached: ssh: connect to host node3"), "{}", ended.stderr);
    assert!(ended.stderr.ends_with("\n  nothing was changed on any node\n"), "{}", ended.stderr);
    assert_eq!(lab.in_force(), ["node1 1", "node2 1", "node3 1"]);
}

#[test]
fn a_node_that_refuses_means_nothing_anywhere() {
    let lab = Lab::joined();
    lab.edit(&file(3, "# edited\n"));
    lab.touch("node2/etc/NIXOS");
    let ended = lab.run("node1", &["push"], "");
    assert_eq!(ended.code, 2);
    assert!(ended.stderr.contains("node2 refuses: on NixOS"), "{}", ended.stderr);
    assert_eq!(lab.in_force(), ["node1 1", "node2 1", "node3 1"]);
    let asked = text(&lab.at("log"));
    lab.edit(&file(3, "[power]\n"));
    assert_eq!(lab.run("node1", &["push"], "").code, 2);
    assert_eq!(text(&lab.at("log")), asked, "a faulty file asks no node");
}

#[test]
fn a_node_that_dies_while_it_is_written_gets_it_by_the_next_push() {
    let lab = Lab::joined();
    lab.edit(&file(3, "# edited\n"));
    lab.touch("dies-node3");
    let ended = lab.run("node1", &["push"], "");
    assert_eq!(ended.code, 75);
    assert!(ended.stderr.contains("repeat `pc-config push`"), "{}", ended.stderr);
    assert_eq!(lab.in_force(), ["node1 2", "node2 2", "node3 1"]);
    std::fs::remove_file(lab.at("dies-node3")).unwrap();
    let ended = lab.run("node1", &["push"], "");
    assert_eq!(
        (ended.code, lab.in_force().join(" ").as_str()),
        (0, "node1 2 node2 2 node3 2"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_new_node_gets_it_when_it_joins() {
    let lab = Lab::joined();
    lab.touch("down-node4");
    lab.edit(&file(4, ""));
    let ended =
        lab.run("node2", &["push", lab.at("node1/etc/personal-cluster/cluster.toml").to_str().unwrap()], "");
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("node4 is new and gets the file when it joins"), "{}", ended.stderr);
    assert_eq!(lab.in_force(), ["node1 2", "node2 2", "node3 2"]);
}

/// Its certificate and its key are still good; what it signs is not.
#[test]
fn a_node_that_was_taken_out_has_no_say() {
    let lab = Lab::joined();
    lab.edit(&file(2, ""));
    let ended = lab.run("node1", &["push"], "");
    assert_eq!(
        (ended.code, lab.in_force().join(" ").as_str()),
        (0, "node1 2 node2 2 node3 1"),
        "{}",
        ended.stderr
    );
    for edit in ["# once\n", "# back\n"] {
        assert_eq!(lab.run("node3", &["put", "-"], &file(3, edit)).code, 0);
    }
    let record = text(&lab.at("node3").join("var/lib/personal-cluster/generation.json"));
    assert!(record.contains("\"signer\": \"node3\"") && lab.in_force()[2] == "node3 3");
    for arguments in [&["put", "--signed", "-"][..], &["put", "--check", "--signed", "-"]] {
        let ended = lab.run("node2", arguments, &record);
        let told = "error: signed by node3, which is no node of generation 2, the one in force here\n  \
                    pc-config push on one that is: node1, node2\n";
        assert_eq!((ended.code, ended.stderr.as_str()), (2, told));
    }
    let ended = lab.run("node3", &["push"], "");
    assert!(ended.code == 2 && ended.stderr.contains("node1 refuses: signed by node3"), "{}", ended.stderr);
    assert_eq!(lab.in_force(), ["node1 2", "node2 2", "node3 3"]);
    // The administrator may take it in again; a machine that has no file yet takes the first it is given.
    assert_eq!(lab.run("node2", &["put", "-"], &record).code, 0);
    let fresh = Lab::new();
    assert_eq!(fresh.run("node2", &["put", "--signed", "-"], &record).code, 0);
}

/// As after a break-in: the file is the same, and the record of it says nothing to those who know the new CA alone.
#[test]
fn a_record_of_another_ca_is_signed_anew() {
    let lab = Lab::joined();
    let record = |node: &str| text(&lab.at(node).join("var/lib/personal-cluster/generation.json"));
    let new_ca =
        |node: &str| std::fs::write(lab.at(node).join("etc/personal-cluster/trust/ca.crt"), "new").unwrap();
    let is_new = |node: &str| record(node).contains("\"certificate\": \"new\"");
    new_ca("node1");
    // What init does, then join on node2, then a push that node3 is there for.
    let ended = lab.run("node1", &["put", "-"], &file(3, ""));
    assert!(ended.code == 0 && is_new("node1"), "{}", ended.stderr);
    assert_eq!(lab.run("node2", &["put", "-"], &record("node1")).code, 2, "of another CA");
    new_ca("node2");
    let ended = lab.run("node2", &["put", "-"], &record("node1"));
    assert!(ended.code == 0 && is_new("node2"), "{}", ended.stderr);
    new_ca("node3");
    assert!(!is_new("node3"));
    let ended = lab.run("node3", &["push"], "");
    assert!(ended.code == 0 && is_new("node3"), "{}", ended.stderr);
    assert!(record("node3").contains("\"signer\": \"node3\""));
    assert_eq!(lab.in_force(), ["node1 1", "node2 1", "node3 1"]);
    let before = record("node2");
    assert_eq!(lab.run("node2", &["put", "-"], &record("node3")).code, 0);
    assert_eq!(record("node2"), before, "a second signature over the same says nothing new");
}

/// The largest file, of bytes that grow most within strings: what one node signs the others take.
#[test]
fn the_largest_file_travels() {
    let lab = Lab::new();
    let start = file(3, "# ");
    let largest = format!("{start}{}", "\"".repeat((1 << 20) - start.len()));
    assert_eq!(lab.run("node1", &["put", "-"], &largest).code, 0);
    let record = text(&lab.at("node1").join("var/lib/personal-cluster/generation.json"));
    assert!(record.len() > 4_000_000);
    let ended = lab.run("node2", &["put", "--signed", "-"], &record);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (0, "generation 1 is in force on node2\n"),
        "{}",
        ended.stderr
    );
    assert!(text(&lab.at("node2").join("etc/personal-cluster/cluster.toml")) == largest);
    let ended = lab.run("node2", &["put", "-"], &(largest + "\n"));
    assert_eq!(ended.code, 2);
    assert!(ended.stderr.starts_with("error: stdin: is larger than 1 MiB"), "{}", ended.stderr);
    let ended = lab.run("node2", &["put", "-"], &"x".repeat((16 << 20) + 1));
    assert_eq!(ended.code, 2);
    assert!(ended.stderr.starts_with("error: stdin: is larger than 16 MiB"), "{}", ended.stderr);
}

/// A VM on a local volume of node1, and a disk for that volume on node2 as well.
fn with_vm() -> String {
    let disk = |node: usize| format!("disks.v = [\"/dev/disk/by-id/ata-{node}\"]\n");
    let vm = "[volume.v]\nuse = \"local\"\n[vm.mail]\nmemory = \"1GiB\"\ndisk = \"1GiB\"\nvolume = \"v\"\nhome = \"node1\"\n";
    let text = [1, 2].into_iter().fold(file(3, vm), |text, node| {
        let address = format!("address = \"10.0.0.{node}\"\n");
        text.replace(&address, &(address.clone() + &disk(node)))
    });
    assert!(text.contains("ata-1") && text.contains("ata-2"));
    text
}

/// Under another name, or with another home of a local disk, a VM that runs would be started a second time.
#[test]
fn vms_that_exist_stay_who_and_where_they_are() {
    let lab = Lab::joined();
    lab.edit(&with_vm());
    assert_eq!(lab.run("node1", &["push"], "").code, 0);
    let asked = text(&lab.at("log"));
    for (from, to, told) in [
        (
            "name = \"home\"",
            "name = \"office\"",
            "name = \"office\": this cluster is called home and has VMs",
        ),
        (
            "home = \"node1\"",
            "home = \"node2\"",
            "vm.mail: its home would be node2, and its disk is on node1 alone",
        ),
    ] {
        let edited = with_vm().replacen(from, to, 1);
        lab.edit(&edited);
        for (arguments, stdin) in [(&["push"][..], ""), (&["put", "-"], &edited)] {
            let ended = lab.run("node1", arguments, stdin);
            assert_eq!(ended.code, 2, "{arguments:?}: {}", ended.stderr);
            assert!(
                ended.stderr.contains(told) && ended.stderr.contains(&format!("\n  {from}")),
                "{}",
                ended.stderr
            );
        }
    }
    assert_eq!(text(&lab.at("log")), asked, "no node was asked");
    assert_eq!(lab.in_force(), ["node1 2", "node2 2", "node3 2"]);
}

#[test]
fn what_no_node_signed_is_refused() {
    let lab = Lab::joined();
    let record = text(&lab.at("node1").join("var/lib/personal-cluster/generation.json"));
    lab.edit(&file(3, "# edited\n"));
    lab.run("node1", &["push"], "");
    let replayed = lab.run("node2", &["put", "-"], &record);
    assert_eq!(replayed.code, 2);
    assert!(replayed.stderr.contains("generation 1 is older than 2"), "{}", replayed.stderr);
    let forged = lab.run("node2", &["put", "-"], &record.replace("node1", "forged"));
    assert_eq!(forged.code, 2);
    assert!(forged.stderr.contains("the signature does not fit"), "{}", forged.stderr);
    let envelope: serde_json::Value = serde_json::from_str(&record).unwrap();
    let unsigned = envelope["content"].as_str().unwrap().to_string();
    let ended = lab.run("node2", &["put", "-"], &unsigned);
    assert_eq!(ended.code, 2);
    assert!(ended.stderr.contains("not signed"), "{}", ended.stderr);
    // What a stolen SSH key could ask for, a plain file above all, old or new.
    for input in [unsigned.as_str(), &file(3, "# raw\n"), &file(3, ""), ""] {
        for arguments in [&["put", "--signed", "-"][..], &["put", "--check", "--signed", "-"]] {
            let ended = lab.run("node2", arguments, input);
            assert_eq!(ended.code, 2, "{input}");
        }
    }
    let ended = lab.run("node2", &["put", "--signed", "-"], &file(3, "# raw\n"));
    let told = "error: stdin: is not signed\n  push it from a node that is unlocked: pc-config push\n";
    assert_eq!(ended.stderr, told);
    assert_eq!(lab.in_force(), ["node1 2", "node2 2", "node3 2"]);
}

#[test]
fn a_machine_outside_a_cluster_is_told() {
    let lab = Lab::new();
    std::fs::remove_file(lab.at("node1/etc/personal-cluster/trust/ssh_config")).unwrap();
    lab.edit(&file(3, ""));
    let ended = lab.run("node1", &["push"], "");
    assert_eq!(ended.code, 2);
    assert!(ended.stderr.contains("belongs to no cluster"), "{}", ended.stderr);
}
