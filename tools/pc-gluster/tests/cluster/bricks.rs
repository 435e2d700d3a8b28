//! Daemons of a node that fail: bricks, and what heals them.

use std::time::Duration;

use crate::nodes::{Nodes, until};
use crate::{converge, file, opens};

/// The self-heal daemon dies on a node: nobody else starts it again, and what is started for one volume heals no other one.
pub fn dead_healer(nodes: &Nodes) {
    let more = "[volume.backup]\nuse = \"backup\"\nreplicas = 3\n";
    let disks = |text: String, n| {
        let vms = format!("disks.vms = [\"/dev/disk/by-id/ata-{n}\"]\n");
        text.replace(&vms, &format!("{vms}disks.backup = [\"/dev/disk/by-id/ata-b{n}\"]\n"))
    };
    nodes.write_file(&((1..=3).fold(file(3, 3), disks) + more));
    (1..=3).for_each(|n| nodes.mount_brick(n, "backup", &format!("ata-b{n}")));
    (1..=3).for_each(|n| converge(nodes, n, Duration::from_secs(60)));
    let status = "for volume in backup vms; do gluster volume status $volume shd; done";
    let healed = || {
        let said = nodes.shell(3, status);
        let own = said.lines().filter(|line| line.starts_with("Self-heal Daemon on localhost"));
        own.filter(|line| line.split_whitespace().rev().nth(1) == Some("Y")).count()
    };
    assert_eq!(healed(), 2);

    // The pattern is also in the command lines of the shell, and of who waits for it: they must not match.
    let alive = "pgrep -f -- '[-]-process-name glustershd'";
    nodes.shell(3, &format!("kill -9 $({alive}); while {alive}; do sleep 0.1; done"));
    // Those of the new volume have to be a minute old.
    let steps = || {
        let plan = nodes.json(3, &["plan"], 0);
        plan["steps"].as_array().unwrap().iter().map(|step| step["id"].clone()).collect::<Vec<_>>()
    };
    let both = || (steps().len() == 2).then(steps);
    let steps = until(Duration::from_secs(100), both).unwrap_or_else(steps);
    assert_eq!(steps, ["healer-start/backup", "healer-start/vms"]);
    assert_eq!(nodes.json(2, &["plan"], 0)["steps"], serde_json::json!([]));
    nodes.expect(3, &["apply"], 0);
    nodes.expect(3, &["plan", "--exit-code"], 0);
    assert_eq!(healed(), 2);

    (1..=3).for_each(|n| drop(nodes.shell(n, "umount /mnt/backup")));
    nodes.shell(1, "for verb in stop delete; do gluster --mode=script volume $verb backup; done");
    nodes.write_file(&file(3, 3));
}

/// glusterd takes the start of a brick for a failed one and finds its process afterwards: it calls it online and tells nobody
/// its port. Its own node starts it anew.
pub fn lost_port(nodes: &Nodes) {
    let real = "/usr/sbin/glusterfsd";
    nodes.shell(
        3,
        &format!(
            "mkdir /run/late; cp {real} /run/late/glusterfsd
             printf '#!/bin/sh\n/run/late/glusterfsd \"$@\"; exit 1\n' > /run/late/start; chmod +x /run/late/start
             pid=$(cat /run/gluster/vols/vms/*.pid); kill -9 $pid; while kill -0 $pid 2> /dev/null; do sleep 0.1; done
             mount --bind /run/late/start {real}
             gluster --mode=script volume start vms force || true
             umount {real}; gluster --mode=script volume start vms force"
        ),
    );
    let shown = || nodes.shell(3, "gluster volume status vms | grep '^Brick node3:'");
    let is_lost = || {
        let words = shown();
        let words: Vec<&str> = words.split_whitespace().collect();
        (words.get(2) == Some(&"N/A") && words.contains(&"Y")).then_some(())
    };
    until(Duration::from_secs(60), is_lost).unwrap_or_else(|| panic!("{}", shown()));
    let online = || nodes.json(3, &["status"], 0)["volumes"][0]["sets"][0][2]["online"].clone();
    assert_eq!(online(), false);
    let (_, said) = nodes.expect(3, &["apply"], 0);
    assert!(said.contains("lost their ports: node3:/srv/bricks/vms/ata-3/brick"), "{said}");
    until(Duration::from_secs(60), || (online() == true).then_some(()))
        .unwrap_or_else(|| panic!("{}", shown()));
    nodes.expect(3, &["plan", "--exit-code"], 0);
    nodes.expect(1, &["heal", "--wait", "120"], 0);
}

/// A brick process dies, data is written meanwhile: seen, gated, restarted by its own node, healed.
pub fn dead_brick(nodes: &Nodes) {
    nodes.shell(3, "kill -9 $(cat /run/gluster/vols/vms/*.pid)");
    nodes.shell(1, "for i in 1 2 3 4; do echo $i > /mnt/vms/file$i; done");
    let status = nodes.json(1, &["status"], 0);
    let volume = &status["volumes"][0];
    assert_eq!((&status["healthy"], &volume["quorum"]), (&false.into(), &true.into()), "{status:#}");
    assert_eq!(volume["sets"][0][2]["online"], false, "{status:#}");
    assert!(volume["heal_pending"].as_u64() > Some(0), "{status:#}");
    let gate = nodes.json(2, &["gate"], 75);
    assert!(gate["reasons"][0].as_str().unwrap().contains("loses its quorum without node2"), "{gate:#}");
    let (_, said) = nodes.expect(3, &["apply"], 0);
    assert!(said.contains("start the offline bricks node3:"), "{said}");
    let (stdout, _) = nodes.expect(1, &["heal", "--wait", "300"], 0);
    assert!(stdout.contains("node3:/srv/bricks/vms/ata-3/brick: 0 entries"), "{stdout}");
    opens(nodes, 2);
    let damaged = nodes.shell(3, "cat /srv/bricks/vms/ata-3/brick/file4");
    assert_eq!(damaged, "4\n");
}
