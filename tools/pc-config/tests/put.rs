//! put: a directory in, a directory out; and every bad input, after which nothing has changed.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod machine;

use std::process::Command;

use machine::{Machine, PROGRAM, file, run};

const TOML: &str = "etc/personal-cluster/cluster.toml";
const APPLIED: &str = "var/lib/personal-cluster/applied.json";
const GENERATION: &str = "var/lib/personal-cluster/generation.json";

#[test]
fn a_file_is_put_in_force_and_the_second_put_does_nothing() {
    let machine = Machine::new();
    let first = file(2, "# by hand\n");
    let ended = machine.put(&first);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (0, "generation 1 is in force on node1\n"),
        "{}",
        ended.stderr
    );
    assert_eq!(machine.read(TOML), first);
    assert!(machine.read("etc/hosts").contains("10.0.0.2 node2.home.arpa node2\n"));
    assert!(machine.read("etc/hosts").ends_with("127.0.0.1 localhost\n"));
    let applied = cluster::load_applied(&machine.root.join(APPLIED)).unwrap();
    assert_eq!(applied, cluster::parse("x", &first).unwrap());
    let before = machine.everything();
    let again = machine.put(&first);
    assert_eq!((again.code, again.stdout.as_str(), again.stderr.as_str()), (0, "", ""));
    assert_eq!(machine.everything(), before);
    let second = file(3, "");
    assert_eq!(machine.put(&second).stdout, "generation 2 is in force on node1\n");
    assert_eq!(machine.read("etc/personal-cluster/cluster.toml.previous"), first);
    let status = machine.run(&["--node", "node1", "status", "--exit-code"], "");
    assert_eq!((status.code, status.stdout.as_str()), (0, "generation 2 is in force on node1, not signed\n"));
}

#[test]
fn an_edited_file_is_noticed_and_put() {
    let machine = Machine::new();
    machine.put(&file(1, ""));
    std::fs::write(machine.root.join(TOML), file(1, "# edited\n")).unwrap();
    let status = machine.run(&["--node", "node1", "status", "--exit-code"], "");
    assert_eq!(status.code, 3);
    assert!(status.stdout.contains("has been edited since"));
    let path = machine.root.join(TOML);
    assert_eq!(machine.run(&["--node", "node1", "put", path.to_str().unwrap()], "").code, 0);
    assert_eq!(machine.read("etc/personal-cluster/cluster.toml.previous"), file(1, ""));
    assert_eq!(machine.run(&["--node", "node1", "status", "--exit-code"], "").code, 0);
}

/// The UUIDs of its VMs are derived from it: a running VM would look like one that was never started.
#[test]
fn a_cluster_with_vms_keeps_its_name() {
    let machine = Machine::new();
    let renamed = |text: &str| text.replacen("\"home\"", "\"office\"", 1);
    let vm = "[volume.v]\nuse = \"local\"\n[image.i]\nsource = \"/i.qcow2\"\n\
              [vm.mail]\ncpus = 1\nmemory = \"1GiB\"\ndisk = \"1GiB\"\nvolume = \"v\"\nimage = \"i\"\nhome = \"node1\"\n";
    let nodes = file(1, "disks.v = [\"/dev/disk/by-id/ata-A\"]\n");
    // Without VMs a name is only a name.
    assert_eq!(machine.put(&renamed(&file(1, ""))).code, 0);
    let with_vm = nodes + vm;
    let put = machine.put(&with_vm);
    assert_eq!(put.code, 0, "{}", put.stderr);
    let before = machine.everything();
    let ended = machine.put(&renamed(&with_vm));
    assert_eq!(ended.code, 2);
    assert!(
        ended.stderr.contains(
            "name = \"office\": this cluster is called home and has VMs, mail for one, which would be others under another name\n  name = \"home\""
        ),
        "{}",
        ended.stderr
    );
    assert_eq!(machine.everything(), before);
}

#[test]
fn json_becomes_the_toml_that_nodes_have() {
    let machine = Machine::new();
    let cluster = cluster::parse("x", &file(2, "")).unwrap();
    assert_eq!(machine.put(&serde_json::to_string(&cluster).unwrap()).code, 0);
    assert!(machine.read(TOML).starts_with("schema = "));
    assert_eq!(cluster::load(&machine.root.join(TOML)).unwrap(), cluster);
}

#[test]
fn check_tells_and_changes_nothing() {
    let machine = Machine::new();
    let before = machine.everything();
    let ended = machine.run(&["--node", "node1", "put", "--check", "-"], &file(1, ""));
    assert_eq!((ended.code, ended.stdout.as_str()), (0, "generation 1 would be accepted by node1\n"));
    assert_eq!(machine.everything(), before);
}

/// Each of these ends with 2 and one line (and its remedy), and changes nothing.
#[test]
fn bad_input_changes_nothing() {
    let machine = Machine::new();
    machine.put(&file(1, ""));
    let before = machine.everything();
    let generation = machine.read(GENERATION);
    let other = generation.replace("10.0.0.1", "10.0.0.9");
    let huge = format!("{}# {}", file(1, ""), "x".repeat(10 << 20));
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", b"".to_vec(), "stdin: is empty"),
        ("malformed", b"schema = \n".to_vec(), "stdin:1:10: is not TOML"),
        (
            "contradictory",
            file(1, "[[node]]\nname = \"node1\"\naddress = \"10.0.0.7\"\n").into(),
            "already the name",
        ),
        ("huge", huge.into_bytes(), "stdin: is larger than 1 MiB"),
        ("not UTF-8", b"schema = \"\xff\"".to_vec(), "stdin:1:11: byte 0xff is not UTF-8 text"),
        ("UTF-16", b"\xff\xfes\0c\0".to_vec(), "stdin: is UTF-16 text"),
        ("NUL", b"schema\0".to_vec(), "stdin:1:7: a NUL byte"),
        (
            "another machine",
            file(0, "[[node]]\nname = \"node9\"\naddress = \"10.0.0.9\"\n").into(),
            "no [[node]] is called \"node1\"",
        ),
        ("tampered generation", other.into_bytes(), "do not belong together"),
        ("another document", b"{\"schema\": \"pc.brick.plan/1\"}".to_vec(), "is not a cluster file"),
        ("signed by a stranger", b"{\"schema\": \"pc.trust.envelope/1\"}".to_vec(), "belongs to no cluster"),
    ];
    for (name, input, told) in cases {
        let ended = run(&mut machine.command(&["--node", "node1", "put", "-"]), &input);
        assert_eq!(ended.code, 2, "{name}: {}", ended.stderr);
        assert!(
            ended.stderr.starts_with("error: ") && ended.stderr.contains(told),
            "{name}: {}",
            ended.stderr
        );
        assert!(ended.stderr.lines().count() <= 2, "{name}: {}", ended.stderr);
        assert_eq!(ended.stdout, "", "{name}");
        assert_eq!(machine.everything(), before, "{name}");
    }
    let missing = machine.run(&["--node", "node1", "put", "/nonexistent/x.toml"], "");
    assert_eq!(missing.code, 2);
    assert!(missing.stderr.contains("/nonexistent/x.toml: no such file or directory"), "{}", missing.stderr);
}

#[test]
fn an_older_generation_is_refused() {
    let machine = Machine::new();
    machine.put(&file(1, ""));
    let old = machine.read(GENERATION);
    machine.put(&file(1, "# new\n"));
    let before = machine.everything();
    let ended = machine.put(&old);
    assert_eq!(ended.code, 2);
    assert!(ended.stderr.contains("generation 1 is older than 2"), "{}", ended.stderr);
    assert_eq!(machine.everything(), before);
    let fresh = Machine::new();
    assert_eq!(fresh.put(&machine.read(GENERATION)).stdout, "generation 2 is in force on node1\n");
}

#[test]
fn a_number_that_nobody_counted_to_is_refused() {
    let machine = Machine::new();
    machine.put(&file(1, ""));
    let first = machine.read(GENERATION);
    let numbered = |number: u64| first.replace("\"generation\": 1,", &format!("\"generation\": {number},"));
    let fresh = Machine::new();
    let before = fresh.everything();
    let ended = fresh.put(&numbered(u64::MAX));
    assert_eq!(ended.code, 2, "{}", ended.stderr);
    let told = "generation 18446744073709551615 is above 9007199254740992, the largest\n  put the cluster file itself";
    assert!(ended.stderr.contains(told), "{}", ended.stderr);
    assert_eq!(fresh.everything(), before);
    // A node that took one before this was refused.
    std::fs::write(machine.root.join(GENERATION), numbered(u64::MAX)).unwrap();
    let ended = machine.put(&file(1, "# new\n"));
    assert_eq!(ended.code, 2, "{}", ended.stderr);
    assert!(ended.stderr.contains("no number follows generation 18446744073709551615"), "{}", ended.stderr);
    std::fs::remove_file(machine.root.join(GENERATION)).unwrap();
    assert_eq!(machine.put(&file(1, "# new\n")).stdout, "generation 1 is in force on node1\n");
}

/// As kill -9 between the renames leaves it: the new file stands there, its record is still under its first name.
#[test]
fn what_a_killed_put_left_is_no_edit_and_goes() {
    let machine = Machine::new();
    machine.put(&file(1, ""));
    let (first, second) = (machine.read(GENERATION), file(1, "# second\n"));
    machine.put(&second);
    let left = [
        "var/lib/personal-cluster/.pc-config.aB3dE6",
        "etc/personal-cluster/.pc-config.x",
        "etc/.pc-config.y",
    ];
    for path in left {
        std::fs::write(machine.root.join(path), machine.read(GENERATION)).unwrap();
    }
    std::fs::write(machine.root.join(GENERATION), first).unwrap();
    let ended = machine.put(&file(1, "# third\n"));
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(
        ended.stderr.contains("cluster.toml: is of a put that was cut short; kept as "),
        "{}",
        ended.stderr
    );
    assert!(!ended.stderr.contains("edited and never put"), "{}", ended.stderr);
    assert_eq!(machine.read("etc/personal-cluster/cluster.toml.edited"), second);
    for path in left {
        assert!(!machine.root.join(path).exists(), "{path}");
    }
}

#[test]
fn nixos_is_told_how() {
    let machine = Machine::new();
    std::fs::write(machine.root.join("etc/NIXOS"), "").unwrap();
    let ended = machine.put(&file(1, ""));
    assert_eq!(ended.code, 2);
    assert!(ended.stderr.contains("nixos-rebuild switch"));
    assert_eq!(machine.read(TOML), "");
}

#[test]
fn on_nixos_the_file_of_the_configuration_gets_its_number_and_nothing_else() {
    let machine = Machine::new();
    std::fs::create_dir_all(machine.root.join("etc/personal-cluster")).unwrap();
    std::fs::write(machine.root.join("etc/NIXOS"), "").unwrap();
    let declared = r#"{"schema":"personal-cluster/1","name":"home","node":[{"name":"node1","address":"10.0.0.1"},{"name":"node2","address":"10.0.0.2"}]}"#;
    std::fs::write(machine.root.join("etc/personal-cluster/cluster.json"), declared).unwrap();
    // What `pc-trust init` and `join` do: the same cluster, written by whoever.
    let hosts = machine.read("etc/hosts");
    let ended = machine.put(&file(2, "# from a node with Debian\n"));
    assert_eq!(
        (ended.code, ended.stderr.as_str()),
        (0, "/var/lib/personal-cluster/generation.json: replaced\n")
    );
    assert_eq!(ended.stdout, "generation 1 is in force on node1\n");
    assert!(machine.read("var/lib/personal-cluster/generation.json").contains("from a node with Debian"));
    assert_eq!(machine.read(TOML), "");
    assert_eq!(machine.read("var/lib/personal-cluster/applied.json"), "");
    assert_eq!(machine.read("etc/hosts"), hosts);
    assert_eq!(machine.put(&file(2, "# from a node with Debian\n")).stdout, "");
    // Another one is refused, and so is handing out this one from here.
    let other = machine.put(&file(3, ""));
    assert_eq!(other.code, 2);
    assert!(other.stderr.contains("nixos-rebuild switch"), "{}", other.stderr);
    assert_eq!(machine.run(&["--node", "node1", "push"], "").code, 2);
    assert!(machine.read("var/lib/personal-cluster/generation.json").contains("from a node with Debian"));
}

/// Runs put within a mount namespace of its own, after `prepare`.
fn put_after(machine: &Machine, prepare: &str) -> machine::Ended {
    let root = machine.root.display();
    let script = format!("cd {root} && {prepare} && exec {PROGRAM} --root {root} --node node1 put -");
    run(Command::new("unshare").args(["-rm", "sh", "-ec", &script]), file(2, "# new\n").as_bytes())
}

#[test]
fn a_read_only_etc_or_a_full_disk_changes_nothing() {
    let machine = Machine::new();
    machine.put(&file(1, ""));
    let before = machine.everything();
    let ended = put_after(&machine, "mount --bind etc etc && mount -o remount,bind,ro etc");
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("read-only file system"), "{}", ended.stderr);
    assert_eq!(machine.everything(), before);
    // The state directory is on a file system of 16 KiB that is full: /etc must not run ahead of it.
    let fill = "cp -a var/lib/personal-cluster kept && mount -t tmpfs -o size=16k tmpfs var/lib/personal-cluster && \
                cp kept/* var/lib/personal-cluster && rm -r kept && \
                (cat /dev/zero > var/lib/personal-cluster/filler 2>/dev/null || true)";
    let ended = put_after(&machine, fill);
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("No space left on device"), "{}", ended.stderr);
    assert!(ended.stderr.contains("nothing was changed"), "{}", ended.stderr);
    assert_eq!(machine.everything(), before);
}

#[test]
fn foreign_bytes_and_a_link_stay() {
    let machine = Machine::new();
    let hosts = machine.root.join("etc/hosts");
    let elsewhere = machine.root.join("srv/hosts");
    let foreign = b"10.0.0.9 printer # B\xfcro\n";
    std::fs::create_dir(machine.root.join("srv")).unwrap();
    // Absolute as below the root, relative as beside the link, and one link to another.
    for link in ["/srv/hosts", "../srv/hosts", "/etc/hosts.link"] {
        std::fs::write(&elsewhere, foreign).unwrap();
        let _ = std::fs::remove_file(&hosts);
        std::os::unix::fs::symlink(link, &hosts).unwrap();
        let _ = std::os::unix::fs::symlink("../srv/hosts", machine.root.join("etc/hosts.link"));
        assert_eq!(machine.put(&file(1, &format!("# {link}\n"))).code, 0, "{link}");
        assert_eq!(std::fs::read_link(&hosts).unwrap().to_str(), Some(link));
        let now = std::fs::read(&elsewhere).unwrap();
        assert!(now.starts_with(b"# personal-cluster: begin") && now.ends_with(foreign), "{link}");
    }
    std::fs::remove_file(&hosts).unwrap();
    std::os::unix::fs::symlink("hosts", &hosts).unwrap();
    let before = machine.read(GENERATION);
    let ended = machine.put(&file(2, ""));
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("etc/hosts: a link that leads to itself"), "{}", ended.stderr);
    assert_eq!(machine.read(GENERATION), before);
}

/// As in containers: the file itself is mounted, and no rename can replace it.
#[test]
fn a_mounted_hosts_file_is_rewritten_and_another_mounted_file_is_refused() {
    let machine = Machine::new();
    machine.put(&file(3, ""));
    let outside = machine.root.join("outside");
    let long = format!("{}10.0.0.9 printer\n", machine.read("etc/hosts"));
    std::fs::write(&outside, &long).unwrap();
    let ended = put_after(&machine, "mount --bind outside etc/hosts");
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("/etc/hosts: rewritten in place"), "{}", ended.stderr);
    let now = std::fs::read_to_string(&outside).unwrap();
    assert!(now.len() < long.len() && now.ends_with("127.0.0.1 localhost\n10.0.0.9 printer\n"), "{now}");
    assert!(!now.contains("node3") && now.contains("node2"), "{now}");
    machine.put(&file(1, ""));
    let before = machine.everything();
    for place in ["etc/personal-cluster/cluster.toml", "var/lib/personal-cluster/generation.json"] {
        let ended = put_after(&machine, &format!("mount --bind {place} {place}"));
        assert_eq!(ended.code, 1, "{}", ended.stderr);
        assert!(ended.stderr.contains(&format!("{place}: is a mount point")), "{}", ended.stderr);
        assert!(ended.stderr.contains("nothing was changed"), "{}", ended.stderr);
    }
    let ended = put_after(&machine, "mount --bind etc/hosts etc/hosts && mount -o remount,bind,ro etc/hosts");
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("etc/hosts: read-only file system"), "{}", ended.stderr);
    assert_eq!(machine.everything(), before);
}

#[test]
fn somebody_without_the_right_is_told() {
    use std::os::unix::fs::PermissionsExt;
    let machine = Machine::new();
    machine.put(&file(1, ""));
    let before = machine.everything();
    let etc = machine.root.join("etc/personal-cluster");
    std::fs::set_permissions(&etc, std::fs::Permissions::from_mode(0o555)).unwrap();
    let mut command = Command::new("unshare");
    command.args(["-U", PROGRAM, "--root"]).arg(&machine.root).args(["--node", "node1", "put", "-"]);
    let ended = run(&mut command, file(2, "").as_bytes());
    assert_eq!(ended.code, 2, "{}", ended.stderr);
    assert!(ended.stderr.contains("permission denied\n  sudo pc-config --root "), "{}", ended.stderr);
    assert_eq!(machine.everything(), before);
}
