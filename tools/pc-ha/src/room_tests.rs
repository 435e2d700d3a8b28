use super::*;

const FILE: &str = "schema = \"personal-cluster/1\"\nname = \"home\"\n\
    [[node]]\nname = \"n1\"\naddress = \"192.0.2.51/24\"\nmemory = \"8GiB\"\ndisks.vms = [\"/dev/disk/by-id/a\"]\n\
    [[node]]\nname = \"n2\"\naddress = \"192.0.2.52/24\"\ndisks.vms = [\"/dev/disk/by-id/b\"]\n\
    [[node]]\nname = \"n3\"\naddress = \"192.0.2.53/24\"\nmemory = \"4GiB\"\ndisks.vms = [\"/dev/disk/by-id/c\"]\n\
    [volume.vms]\nuse = \"vm\"\nreplicas = 3\n\
    [vm.mail]\nmemory = \"3GiB\"\ndisk = \"9GiB\"\nvolume = \"vms\"\nhome = \"n1\"\n\
    [vm.web]\nmemory = \"1GiB\"\ndisk = \"9GiB\"\nvolume = \"vms\"\nhome = \"n1\"\n\
    [ha]\n";

fn want(node: &str) -> Want {
    let cluster = cluster::parse("test", FILE).unwrap();
    crate::want::want(&cluster.view(node).unwrap()).unwrap()
}

/// What pacemaker was told, and a resource of somebody else.
const CIB: &str = r#"<cib><configuration><crm_config/>
<nodes><node id="1" uname="n1"><utilization id="u"><nvpair id="u-m" name="memory" value="7000"/></utilization></node>
<node id="2" uname="n2"><utilization id="nodes-2-utilization"><nvpair id="nodes-2-utilization-memory" name="memory" value="2048"/></utilization></node>
<node id="3" uname="n3"/></nodes>
<resources><primitive id="theirs"><utilization id="t"><nvpair id="t-m" name="memory" value="512"/></utilization></primitive></resources>
<constraints/></configuration></cib>"#;

fn counted(cib: &str) -> Counted {
    let document = Document::parse(cib).unwrap();
    read(&document.descendants().find(|node| node.has_tag_name("configuration")).unwrap())
}

fn have(active: &[(&str, &str)], memory_bytes: Option<u64>) -> Have {
    Have {
        corosync: None,
        corosync_runs: true,
        running: None,
        shuts_down: false,
        quorum_device: None,
        quorum_device_votes: false,
        sbd: None,
        watchdogs: Vec::new(),
        boot_modules: std::collections::BTreeSet::new(),
        cib: None,
        active: active.iter().map(|(vm, node)| (vm_resource(vm), vec![(*node).to_string()])).collect(),
        memory_bytes,
    }
}

#[test]
fn the_file_counts_then_the_kernel_then_what_was_said() {
    let seen = counted(CIB);
    let changed = |node: &str, kernel| changed(&want(node), &have(&[], kernel), &seen);
    let of_file = [("n1".to_string(), 7680), ("n3".to_string(), 3584)];
    assert_eq!(
        changed("n1", Some(64 << 30)),
        of_file,
        "of n2 the file says nothing, and it has said so much"
    );
    // n2 itself has more by now.
    assert_eq!(changed("n2", Some(4 << 30)), [of_file[0].clone(), ("n2".into(), 3584), of_file[1].clone()]);
    assert_eq!(changed("n2", None), of_file);
    // In the place of what is there, else under the ids of pacemaker's own tool.
    assert_eq!(
        row(&seen, "n1", 7680).unwrap(),
        r#"<node id="1" uname="n1"><utilization id="u"><nvpair id="u-m" name="memory" value="7680"/></utilization></node>"#
    );
    assert!(
        row(&seen, "n3", 3584).unwrap().contains(r#"<nvpair id="nodes-3-utilization-memory" name="memory""#)
    );
    assert_eq!(row(&seen, "n4", 1), None);
}

#[test]
fn memory_is_counted_once_nothing_would_stop_for_it() {
    let of = |active: &[(&str, &str)], cib: &str| {
        let read = crate::cib::read(cib).unwrap();
        let Placement { strategy, note } = placement(&want("n1"), &have(active, None), &read);
        (strategy, note.unwrap_or_default())
    };
    let fits = (Some("balanced"), String::new());
    assert_eq!(of(&[("mail", "n1"), ("web", "n1")], CIB), fits);
    assert_eq!(of(&[], CIB), fits);
    // 512 MiB of somebody else may come to n3 as well.
    assert_eq!(of(&[("mail", "n3")], CIB), fits);
    let (strategy, note) = of(&[("mail", "n3"), ("web", "n3")], CIB);
    assert_eq!(strategy, None, "it was never switched on");
    assert!(note.contains("what runs on n3 needs 4608 MiB and may have 3584"), "{note}");
    assert!(note.ends_with("pc-ha move VM NODE, or less memory in the file, then: pc-ha apply"), "{note}");
    let on = CIB.replace(
        "<crm_config/>",
        r#"<crm_config><cluster_property_set id="cib-bootstrap-options"><nvpair id="p" name="placement-strategy" value="balanced"/></cluster_property_set></crm_config>"#,
    );
    assert_eq!(of(&[("mail", "n2")], &on).0, Some("default"), "a VM that grew while it runs is not stopped");
    // On its way to a node that both it and what gives way to it do not fit on.
    let moving = |cib: &str| {
        let read = crate::cib::read(cib).unwrap();
        let mut have = have(&[("web", "n3")], None);
        have.active.insert(vm_resource("mail"), vec!["n1".into(), "n3".into()]);
        placement(&want("n1"), &have, &read).strategy
    };
    assert_eq!((moving(&on), moving(CIB)), (Some("balanced"), None));
    // Nobody has told the memory of n2.
    let unsaid = CIB.replace("name=\"memory\" value=\"2048\"", "name=\"cpu\" value=\"4\"");
    assert!(of(&[], &unsaid).1.contains("nobody has said how much n2 has\n  on n2: pc-ha apply"));
    // What somebody noted beside a resource of theirs counts from then on, too.
    let cpu = CIB.replace("name=\"memory\" value=\"512\"", "name=\"cpu\" value=\"2\"");
    let (strategy, note) = of(&[], &cpu);
    assert_eq!(strategy, None);
    assert!(note.contains("theirs would stop, for its utilization cpu is more than n1 has"), "{note}");
    // A node that has left the file, with a VM and without.
    let left = CIB.replace("<node id=\"3\"", "<node id=\"4\" uname=\"n4\"/><node id=\"3\"");
    assert_eq!(of(&[], &left), fits);
    assert!(of(&[("mail", "n4")], &left).1.contains("nobody has said how much n4 has"));
    assert_eq!(of(&[], "<cib><configuration/></cib>"), (None, String::new()), "no node is known yet");
}

#[test]
fn who_would_run_nowhere_is_named() {
    let engine = |active: &[(&str, &[&str])]| Engine {
        vms: active
            .iter()
            .map(|(vm, nodes)| Resource {
                id: vm_resource(vm),
                role: "Started".into(),
                managed: true,
                failed: false,
                told_to_stop: false,
                nodes: nodes.iter().map(ToString::to_string).collect(),
            })
            .collect(),
        ..Engine::default()
    };
    let now = engine(&[("mail", &["n1"]), ("web", &["n2"])]);
    let of = |mail: &[&str], web: &[&str]| {
        no_room(&want("n1"), "n1", &now, &engine(&[("mail", mail), ("web", web)]))
    };
    assert_eq!(of(&["n2"], &["n2"]), None);
    let both = "without n1 there is no room for vm mail (3072 MiB), web (1024 MiB)\n  pc-ha stop mail";
    assert_eq!(of(&[], &[]).as_deref(), Some(both));
    // The less important one of another node has to give way.
    let other = "without n1 there is no room for vm web (1024 MiB)\n  pc-ha stop web";
    assert_eq!(of(&["n2"], &[]).as_deref(), Some(other));
}
