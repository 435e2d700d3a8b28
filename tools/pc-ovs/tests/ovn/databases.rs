//! The databases: made once, joined by the others, alive without one of three, closed to strangers.

use crate::common::compare;
use crate::nodes::{Nodes, file, text, wait};

#[test]
fn three_nodes_hold_the_databases_and_one_of_them_may_die() {
    let mut nodes = Nodes::new(3);
    for node in ["node1", "node2", "node3"] {
        nodes.start_switch(node);
    }
    // Nobody has them, and no node makes them by itself.
    let alone = nodes.pc("node1", &["ovn", "run", "nb"]).with(75);
    assert_eq!(
        alone.err,
        "error: no node gives OVN_Northbound: node2 has none; node3 has none\n  \
         once for the whole cluster, on one of node1, node2, node3: pc-ovs ovn create\n"
    );
    let made = nodes.pc("node1", &["ovn", "create"]).with(0);
    assert_eq!(made.err, "make OVN_Northbound\nmake OVN_Southbound\n");
    assert_eq!(nodes.pc("node1", &["ovn", "create"]).with(0).err, "");
    nodes.start_all("node1");
    nodes.settle("node1");
    // A second one is not made, whoever asks for it.
    let second = nodes.pc("node2", &["ovn", "create"]).with(2);
    assert_eq!(
        second.err,
        "error: node1 has OVN_Northbound already: this node joins it by itself\n  pc-ovs ovn apply\n"
    );
    for node in ["node2", "node3"] {
        nodes.start_all(node);
        nodes.settle(node);
        nodes.pc(node, &["ovn", "apply"]).with(0);
    }
    nodes.pc("node1", &["ovn", "apply"]).with(0);
    compare("ovn-status.json", &nodes.pc("node1", &["ovn", "status", "--json"]).with(0).out);

    // Whatever is written on one is on all of them.
    wait("ovn-northd", || nodes.pc("node2", &["zones", "apply"]).code == Some(0));
    assert_eq!(nodes.ctl("node3", "nb", &["--bare", "--columns=name", "list", "Logical_Switch"]), "pc-web\n");

    // The leader dies, and with it one ovn-northd: the others go on, in both databases.
    nodes.kill("node1");
    let more = file(3).replace(
        "[network.web]",
        "[network.mail]\nuplink = \"lan\"\nvlan = 20\n\
        subnet = \"10.0.20.0/24\"\nrouter = \"10.0.20.1\"\ngateway = \"cluster\"\n\n[network.web]",
    );
    nodes.write("node2", "etc/personal-cluster/cluster.toml", &more);
    wait("a new leader", || nodes.pc("node2", &["zones", "apply"]).code == Some(0));
    nodes.settle("node3");
    let switches =
        nodes.ctl("node3", "sb", &["--bare", "--columns=external_ids", "list", "Datapath_Binding"]);
    assert!(switches.contains("name=pc-mail"), "{switches}");

    // It comes back with its own file, and has what it missed.
    nodes.write("node1", "etc/personal-cluster/cluster.toml", &more);
    nodes.start("node1", "nb");
    nodes.start("node1", "sb");
    nodes.settle("node1");
    wait("node1", || nodes.pc("node1", &["zones", "plan"]).out == "nothing to do\n");
    assert_eq!(nodes.pc("node1", &["ovn", "status", "--exit-code"]).with(0).err, "");

    // A holder that has lost everything: put out by the others, it joins anew.
    nodes.kill("node3");
    for (side, database, port) in [("nb", "OVN_Northbound", 6643), ("sb", "OVN_Southbound", 6644)] {
        let gone = format!("ssl:10.66.0.3:{port}");
        // It may have been the leader: until there is another one, nobody takes the request.
        wait("a leader", || nodes.try_appctl("node1", side, &["cluster/kick", database, &gone]).is_ok());
        wait("the kick", || !nodes.appctl("node1", side, &["cluster/status", database]).contains(&gone));
        std::fs::remove_file(nodes.path("node3", &format!("var/lib/personal-cluster/ovn/{side}.db")))
            .unwrap();
        nodes.start("node3", side);
    }
    nodes.settle("node3");
    let status = nodes.appctl("node1", "nb", &["cluster/status", "OVN_Northbound"]);
    assert_eq!(status.matches(" at ssl:10.66.0.").count(), 3, "{status}");

    // Without a majority nothing is written, and that is told.
    nodes.kill("node2");
    nodes.kill("node3");
    wait("the loss", || nodes.pc("node1", &["ovn", "status"]).out.matches("without a majority").count() == 2);
    nodes.pc("node1", &["ovn", "status", "--exit-code"]).with(3);
}

#[test]
fn who_has_no_certificate_of_the_cluster_reads_nothing() {
    let mut nodes = Nodes::new(1);
    nodes.stranger();
    nodes.start("node1", "nb");
    let ask = |node: &str, remote: &str| {
        let mut client = nodes.command("ovsdb-client");
        let file = |path: &str| text(&nodes.path(node, path)).to_string();
        client
            .arg("--timeout=5")
            .arg(format!("--private-key={}", file("run/personal-cluster/secrets/node.key")));
        client.arg(format!("--certificate={}", file("etc/personal-cluster/trust/node.crt")));
        // It believes the server: that is not what is asked here.
        client.arg(format!("--ca-cert={}", text(&nodes.path("node1", "etc/personal-cluster/trust/ca.crt"))));
        client.args(["list-dbs", remote]).output().unwrap()
    };
    let known = ask("node1", "ssl:10.66.0.1:6641");
    assert!(known.status.success(), "{}", String::from_utf8_lossy(&known.stderr));
    assert!(String::from_utf8_lossy(&known.stdout).contains("OVN_Northbound"));
    for remote in ["ssl:10.66.0.1:6641", "tcp:10.66.0.1:6641"] {
        let unknown = ask("stranger", remote);
        assert!(!unknown.status.success() && unknown.stdout.is_empty(), "{remote}: {unknown:?}");
    }
}

#[test]
fn a_database_that_is_not_this_nodes_is_left_alone() {
    let nodes = Nodes::new(1);
    let path = "var/lib/personal-cluster/ovn/nb.db";
    nodes.write("node1", path, "OVSDB JSON 15 0123\n{}\n");
    let foreign = nodes.pc("node1", &["ovn", "run", "nb"]).with(2);
    assert!(
        foreign
            .err
            .starts_with("error: /var/lib/personal-cluster/ovn/nb.db is not a database of a cluster\n")
    );
    assert_eq!(std::fs::read_to_string(nodes.path("node1", path)).unwrap(), "OVSDB JSON 15 0123\n{}\n");
    std::fs::remove_file(nodes.path("node1", path)).unwrap();
    // The node has got another address since.
    nodes.pc("node1", &["ovn", "create"]).with(0);
    nodes.write("node1", "etc/personal-cluster/cluster.toml", &file(1).replace("10.66.0.1\"", "10.66.0.9\""));
    let moved = nodes.pc("node1", &["ovn", "run", "nb"]).with(2);
    assert!(moved.err.contains("belongs to a holder at ssl:10.66.0.1:6643"), "{}", moved.err);
}

#[test]
fn before_the_node_can_prove_who_it_is_it_waits() {
    let nodes = Nodes::new(1);
    std::fs::remove_file(nodes.path("node1", "run/personal-cluster/secrets/node.key")).unwrap();
    let early = nodes.pc("node1", &["ovn", "run", "nb"]).with(75);
    assert_eq!(
        early.err,
        "error: /run/personal-cluster/secrets/node.key is not there: this node is not a member yet, or the unlock \
         servers have not answered\n  pc-trust status\n"
    );
    assert!(!nodes.path("node1", "var/lib/personal-cluster/ovn/nb.db").exists());
}

#[test]
fn where_there_is_nothing_to_run_nothing_runs() {
    let nodes = Nodes::new(1);
    let mut four = file(4);
    four =
        four.replace("name = \"node4\"", "name = \"spare\"").replace("name = \"node1\"", "name = \"node4\"");
    four = four.replace("name = \"spare\"", "name = \"node1\"");
    nodes.write("node1", "etc/personal-cluster/cluster.toml", &four);
    let elsewhere = nodes.pc("node1", &["ovn", "run", "sb"]).with(0);
    assert_eq!(elsewhere.err, "OVN's databases are on node4, node2, node3: there is nothing to run here\n");
    nodes.write(
        "node1",
        "etc/personal-cluster/cluster.toml",
        &file(1).replace("gateway = \"cluster\"\n", ""),
    );
    let plain = nodes.pc("node1", &["ovn", "run", "northd"]).with(0);
    assert_eq!(plain.err, "the file has no zone: there is nothing to run\n");
}
