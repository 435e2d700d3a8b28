//! The tool against real glusterds: three nodes with TLS, and one node that grows to three.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "cluster/bricks.rs"]
mod bricks;
mod nodes;

use std::time::{Duration, Instant};

use nodes::{Nodes, until};

fn file(nodes: usize, replicas: usize) -> String {
    let head = format!(
        "schema = \"personal-cluster/1\"\nname = \"test\"\n[volume.vms]\nuse = \"vm\"\nreplicas = {replicas}\n"
    );
    let node = |number| {
        format!(
            "[[node]]\nname = \"node{number}\"\naddress = \"10.77.0.{number}/24\"\n\
             disks.vms = [\"/dev/disk/by-id/ata-{number}\"]\n"
        )
    };
    (1..=nodes).map(node).fold(head, |text, node| text + &node)
}

fn mount_bricks(nodes: &Nodes, numbers: &[usize]) {
    for number in numbers {
        nodes.mount_brick(*number, "vms", &format!("ata-{number}"));
    }
}

/// Applies until the tool has nothing to wait for, as its unit does.
fn converge(nodes: &Nodes, number: usize, deadline: Duration) {
    let mut last = (0, String::new(), String::new());
    let done = until(deadline, || {
        last = nodes.run(number, &["apply"]);
        (last.0 == 0).then_some(())
    });
    assert!(done.is_some(), "node{number}: {last:?}");
}

/// Waits until the gate lets a node go: a brick that cannot be asked on a busy machine is a reason to ask again.
fn opens(nodes: &Nodes, number: usize) {
    let mut last = (0, String::new(), String::new());
    let open = until(Duration::from_secs(60), || {
        last = nodes.run(number, &["gate"]);
        (last.0 == 0).then_some(())
    });
    assert!(open.is_some(), "node{number}: {last:?}");
}

fn panic_unless_passing(said: &str) -> Option<()> {
    assert!(said.contains("already part of a volume") || said.contains("refused moments ago"), "{said}");
    None
}

#[test]
fn three_nodes_with_tls_form_serve_lose_and_heal() {
    let nodes = Nodes::new(3, true, true);
    nodes.write_file(&file(3, 3));

    // Nobody but the first node founds anything.
    let (_, said) = nodes.expect(2, &["apply"], 75);
    assert!(said.contains("waiting for node1 to create it"), "{said}");

    // A brick that is missing on another node makes Gluster refuse, and leaves marks on the bricks that were
    // there. Nothing is created, and all of it converges when the brick comes.
    mount_bricks(&nodes, &[1, 2]);
    let (_, said) = nodes.expect(1, &["apply"], 75);
    assert!(said.contains("Staging failed on node3"), "{said}");
    mount_bricks(&nodes, &[3]);
    until(Duration::from_secs(100), || {
        // On real machines the three units retry like this.
        for number in [2, 3] {
            nodes.run(number, &["apply"]);
        }
        let (code, _, said) = nodes.run(1, &["apply"]);
        (code == 0).then_some(()).or_else(|| panic_unless_passing(&said))
    })
    .expect("the volume was never created");
    converge(&nodes, 2, Duration::from_secs(60));
    converge(&nodes, 3, Duration::from_secs(60));
    assert_eq!(nodes.started(3), ["mnt-vms.mount", "pc-storage.target"]);

    // A file written through one node is read through another, encrypted, with the options that were asked for.
    nodes.shell(1, "echo hello > /mnt/vms/greeting");
    assert_eq!(nodes.shell(3, "cat /mnt/vms/greeting"), "hello\n");
    let info = nodes.shell(2, "gluster volume info vms");
    for line in ["Type: Replicate", "client.ssl: on", "server.ssl: on", "auth.ssl-allow: node1,node2,node3"] {
        assert!(info.contains(line), "{line}: {info}");
    }
    for line in ["features.shard: on", "cluster.quorum-type: auto", "cluster.server-quorum-type: server"] {
        assert!(info.contains(line), "{line}: {info}");
    }

    // A second time there is nothing to do, nothing to say, and nothing takes long.
    for number in 1..=3 {
        let started = Instant::now();
        assert_eq!(nodes.expect(number, &["apply"], 0), (String::new(), String::new()));
        // As long as glusterd may take for one answer; a busy machine has its time.
        assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
        nodes.expect(number, &["plan", "--exit-code"], 0);
        nodes.expect(number, &["status", "--full", "--exit-code"], 0);
    }
    // Nothing to do costs two calls of gluster, one question to systemd and two to the mounted client.
    let (_, said) = nodes.expect(1, &["apply", "-v"], 0);
    assert!(said.contains("5 external calls took "), "{said}");
    let storage = nodes.read(1, "run/personal-cluster/storage.json");
    assert_eq!((&storage["healthy"], &storage["heal_pending"]), (&true.into(), &0.into()));
    opens(&nodes, 1);

    bricks::lost_port(&nodes);
    bricks::dead_healer(&nodes);
    bricks::dead_brick(&nodes);
    dead_node(&nodes);
    printed_plans(&nodes);
    clean_stop(&nodes);
}

/// A node disappears without a word: status answers in time and the others keep quorum.
fn dead_node(nodes: &Nodes) {
    nodes.link(3, false);
    let started = Instant::now();
    let status = nodes.json(1, &["status"], 0);
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
    assert_eq!(status["volumes"][0]["name"], "vms");
    let gone = until(Duration::from_secs(300), || {
        let status = nodes.json(1, &["status"], 0);
        let offline = status["volumes"][0]["sets"][0][2]["online"] == false;
        (offline && status["peers"][2]["connected"] == false).then_some(status)
    })
    .expect("node3 is never seen as gone");
    assert_eq!(gone["volumes"][0]["quorum"], true, "{gone:#}");
    // The node that is cut off has no quorum: it waits, and does not pull the mount from under its guests.
    let (_, said) = nodes.expect(3, &["apply"], 75);
    assert!(!said.contains("mount again") && said.contains("waiting for its bricks"), "{said}");
    let cut = nodes.json(3, &["status"], 0);
    assert_eq!(
        (&cut["server_quorum"], &cut["volumes"][0]["quorum"]),
        (&false.into(), &false.into()),
        "{cut:#}"
    );
    assert_eq!(nodes.read(3, "run/personal-cluster/storage.json")["quorum"], false);
    nodes.shell(1, "echo alone > /mnt/vms/while-away");
    let gate = nodes.json(1, &["gate"], 75);
    assert!(gate["reasons"].as_array().unwrap().len() >= 2, "{gate:#}");
    // What is left to do does not wait for the dead node.
    nodes.expect(1, &["apply"], 0);
    nodes.link(3, true);
    let healed = until(Duration::from_secs(600), || {
        // pc-gluster.timer does this every minute.
        for number in 1..=3 {
            nodes.run(number, &["apply"]);
        }
        (nodes.run(1, &["gate"]).0 == 0).then_some(())
    });
    if healed.is_none() {
        let gate = nodes.run(1, &["gate"]).2;
        panic!(
            "never healed: {gate}\n{}",
            nodes.shell(1, "gluster volume status; gluster volume heal vms info")
        );
    }
    converge(nodes, 3, Duration::from_secs(300));
    assert_eq!(nodes.shell(3, "cat /mnt/vms/while-away"), "alone\n");
}

/// A drift is planned, the plan filtered, applied, and refused the second time.
fn printed_plans(nodes: &Nodes) {
    nodes.shell(1, "gluster --mode=script volume set vms network.ping-timeout 42");
    nodes.shell(1, "gluster --mode=script volume set vms user.somebody else");
    let plan = nodes.json(1, &["plan"], 0);
    assert_eq!(plan["steps"][0]["options"], serde_json::json!({"network.ping-timeout": "10"}), "{plan:#}");
    assert_eq!(plan["steps"].as_array().unwrap().len(), 1);
    assert_eq!(nodes.json(2, &["plan"], 0)["steps"], serde_json::json!([]), "only the leader sets options");
    nodes.expect(1, &["apply"], 0);
    let info = nodes.shell(1, "gluster volume info vms");
    assert!(info.contains("network.ping-timeout: 10") && info.contains("user.somebody: else"), "{info}");
    nodes.expect(1, &["plan", "--exit-code"], 0);
}

/// Bricks end cleanly; the next apply brings them back.
fn clean_stop(nodes: &Nodes) {
    nodes.expect(2, &["stop-bricks", "--at-shutdown"], 0);
    nodes.shell(2, "kill -0 $(cat /run/gluster/vols/vms/*.pid)");
    let (_, said) = nodes.expect(2, &["stop-bricks"], 0);
    assert!(said.contains("ata-2/brick: stopping"), "{said}");
    nodes.shell(1, "echo on > /mnt/vms/still-writable");
    nodes.expect(2, &["apply"], 0);
    nodes.shell(2, "kill $(cat /run/glusterd.pid)");
    let (_, said) = nodes.expect(2, &["apply"], 75);
    assert!(said.contains("glusterd does not answer") && said.contains("systemctl start glusterd"), "{said}");
    let status = nodes.json(2, &["status"], 0);
    assert_eq!((&status["glusterd"], &status["healthy"]), (&false.into(), &false.into()));
}

#[test]
fn one_node_serves_alone_and_grows_to_three() {
    let nodes = Nodes::new(3, false, false);
    mount_bricks(&nodes, &[1, 2, 3]);
    nodes.write_file(&file(1, 1));
    nodes.expect(1, &["apply"], 0);
    nodes.expect(1, &["plan", "--exit-code"], 0);
    nodes.expect(1, &["status", "--exit-code"], 0);
    nodes.shell(1, "echo before > /mnt/vms/old");
    let gate = nodes.json(1, &["gate"], 0);
    assert!(gate["stops"][0].as_str().unwrap().contains("one copy"), "{gate:#}");

    nodes.write_file(&file(3, 3));
    // 75 while the new peers do not see each other yet: its unit asks again, too.
    converge(&nodes, 1, Duration::from_secs(60));
    converge(&nodes, 2, Duration::from_secs(60));
    converge(&nodes, 3, Duration::from_secs(60));
    nodes.expect(2, &["heal", "--wait", "120"], 0);
    assert_eq!(nodes.shell(3, "cat /srv/bricks/vms/ata-3/brick/old /mnt/vms/old"), "before\nbefore\n");
    opens(&nodes, 3);

    // The client dies under its mount: seen, and mounted again.
    nodes.shell(1, "kill -9 $(ps -eo pid,args | awk '/process-name fuse.*[m]nt.vms/ {print $1}')");
    let status = nodes.json(1, &["status"], 0);
    assert_eq!(status["volumes"][0]["mounted"], false, "{status:#}");
    let (_, said) = nodes.expect(1, &["apply"], 0);
    assert!(said.contains("mount again"), "{said}");
    assert_eq!(nodes.shell(1, "cat /mnt/vms/old"), "before\n");
    dead_disk(&nodes);
}

/// A disk dies for good: named, served without, and another one takes its place when somebody says so.
fn dead_disk(nodes: &Nodes) {
    let point = "/srv/bricks/vms/ata-3";
    nodes.shell(3, &format!("kill -9 $(cat /run/gluster/vols/vms/*.pid); sleep 1; umount {point}"));
    nodes.shell(1, "echo meanwhile > /mnt/vms/new");
    let (_, said) = nodes.expect(3, &["apply"], 0);
    assert!(said.contains("is not mounted (disk ata-3)"), "{said}");
    assert_eq!(nodes.shell(3, &format!("ls -A {point}")), "", "nothing is written beneath a missing brick");

    nodes.write_file(&file(3, 3).replace("ata-3", "ata-9"));
    nodes.mount_brick(3, "vms", "ata-9");
    let brick = |disk: &str| format!("node3:/srv/bricks/vms/{disk}/brick");
    let line = format!("pc-gluster replace-brick vms {} {}", brick("ata-3"), brick("ata-9"));
    let (_, said) = nodes.expect(3, &["apply"], 0);
    assert!(said.contains(&line), "{said}");
    nodes.expect(1, &["replace-brick", "vms", &brick("ata-3"), &brick("ata-9")], 2);
    nodes.shell(3, "touch /srv/bricks/vms/ata-9/brick/stray");
    let (_, said) = nodes.expect(3, &["replace-brick", "vms", &brick("ata-3"), &brick("ata-9")], 2);
    assert!(said.contains("is not empty, it holds stray"), "{said}");
    nodes.shell(3, "rm /srv/bricks/vms/ata-9/brick/stray");
    nodes.expect(3, &["replace-brick", "vms", &brick("ata-3"), &brick("ata-9")], 0);
    nodes.expect(3, &["heal", "--wait", "120"], 0);
    let healed = nodes.shell(3, "cat /srv/bricks/vms/ata-9/brick/old /srv/bricks/vms/ata-9/brick/new");
    assert_eq!(healed, "before\nmeanwhile\n");
    nodes.expect(3, &["plan", "--exit-code"], 0);
    until(Duration::from_secs(60), || {
        (nodes.run(3, &["status", "--full", "--exit-code"]).0 == 0).then_some(())
    })
    .expect("not healthy again");
}

/// Ends a node's glusterd, runs a line and starts it again; waits until it answers.
fn restart(nodes: &Nodes, number: usize, between: &str) {
    let line = format!(
        "if [ -e /run/glusterd.pid ]; then pid=$(cat /run/glusterd.pid); kill $pid; fi
         for i in $(seq 600); do kill -0 $pid 2> /dev/null || break; sleep 0.1; done
         {between}
         timeout 100 glusterd -p /run/glusterd.pid || {{ tail -n 20 /var/log/glusterfs/glusterd.log >&2; exit 1; }}"
    );
    nodes.shell(number, &line);
    let answers = || nodes.shell(number, "gluster pool list || true").contains("localhost").then_some(());
    until(Duration::from_secs(30), answers).unwrap_or_else(|| panic!("node{number}: no glusterd"));
}

/// The procedure of docs/runbooks/nodes.md, "A new machine for a dead one", command by command.
#[test]
fn a_new_machine_takes_a_dead_ones_place() {
    let nodes = Nodes::new(3, true, false);
    nodes.write_file(&file(3, 3));
    mount_bricks(&nodes, &[1, 2, 3]);
    nodes.expect(1, &["apply"], 0);
    converge(&nodes, 2, Duration::from_secs(60));
    converge(&nodes, 3, Duration::from_secs(60));
    nodes.shell(1, "echo before > /mnt/vms/old");
    nodes.shell(
        3,
        "kill -9 $(ps -eo pid,comm | awk '/gluster/ {print $1}'); rm /run/glusterd.pid
         umount -l /mnt/vms /srv/bricks/vms/ata-3
         cd /var/lib/glusterd && ls -A | grep -v -x -e groups -e secure-access | xargs rm -rf",
    );
    nodes.shell(1, "echo meanwhile > /mnt/vms/new");

    // A machine that only has the name is another one to the pool, and the leader says so.
    restart(&nodes, 3, "");
    let rejected = |number| {
        let plan = nodes.json(number, &["plan"], 0);
        let faults: Vec<_> = plan["faults"].as_array().unwrap().iter().filter_map(|f| f.as_str()).collect();
        faults
            .iter()
            .any(|fault| fault.contains("peer node3: the pool rejects it") && fault.contains("nodes.md"))
    };
    until(Duration::from_secs(60), || rejected(1).then_some(())).expect("never rejected");
    assert!(!rejected(2), "only the leader minds the pool");
    let status = nodes.json(2, &["status"], 0);
    assert_eq!(
        (&status["healthy"], &status["peers"][2]["member"]),
        (&false.into(), &false.into()),
        "{status:#}"
    );
    nodes.expect(2, &["gate"], 75);

    let identity = nodes.shell(
        1,
        r#"cd /var/lib/glusterd; place=$(mktemp -d)
           uuid=$(gluster peer status | sed -n '/^Hostname: node3$/,/^Uuid: /s/^Uuid: //p')
           own=$(sed -n 's/^UUID=//p' glusterd.info)
           cp -r peers $place; rm $place/peers/$uuid
           printf 'uuid=%s\nstate=3\nhostname1=node1\n' $own > $place/peers/$own
           sed -i 's/^state=.*/state=3/' $place/peers/*
           sed "s/^UUID=.*/UUID=$uuid/" glusterd.info > $place/glusterd.info
           tar -C $place -cz glusterd.info peers | base64"#,
    );
    let write = format!(
        "rm -rf /var/lib/glusterd/peers /var/lib/glusterd/vols
         echo '{identity}' | base64 -d | tar -C /var/lib/glusterd -xz --no-same-owner"
    );
    restart(&nodes, 3, &write);
    // Where the pool had met it as somebody else before, a node may stay with that.
    let said = |node: usize| nodes.shell(node, "gluster peer status");
    let agrees = |node: usize| said(node).matches("Peer in Cluster (Connected)").count() == 2;
    let whole = || until(Duration::from_secs(60), || (1..=3).all(agrees).then_some(())).is_some();
    let taken_back = whole() || {
        for node in (1..=3).filter(|node| !agrees(*node)) {
            restart(&nodes, node, "sed -i 's/^state=.*/state=3/' /var/lib/glusterd/peers/*");
        }
        whole()
    };
    assert!(taken_back, "node3 is no member again: {:#?}", [said(1), said(2), said(3)]);
    until(Duration::from_secs(60), || (!rejected(1)).then_some(())).expect("still rejected");

    nodes.write_file(&file(3, 3).replace("ata-3", "ata-9"));
    nodes.mount_brick(3, "vms", "ata-9");
    let brick = |disk: &str| format!("node3:/srv/bricks/vms/{disk}/brick");
    let line = format!("pc-gluster replace-brick vms {} {}", brick("ata-3"), brick("ata-9"));
    let (_, said) = nodes.expect(3, &["apply"], 0);
    assert!(said.contains(&line), "{said}");
    nodes.expect(3, &["replace-brick", "vms", &brick("ata-3"), &brick("ata-9")], 0);
    nodes.expect(3, &["heal", "--wait", "120"], 0);
    let healed = nodes.shell(3, "cat /srv/bricks/vms/ata-9/brick/old /srv/bricks/vms/ata-9/brick/new");
    assert_eq!(healed, "before\nmeanwhile\n");
    opens(&nodes, 1);
}
