use super::*;

fn listed(name: &str, state: &str, node: Option<&str>) -> ListedVm {
    ListedVm {
        name: name.into(),
        uuid: "32bb3f29-f1f3-8955-8093-5b31b9c88b6c".into(),
        state: state.into(),
        reason: (state == "unknown").then(|| "no answer from node3".into()),
        node: node.map(Into::into),
        should_run_on: Some("node2".into()),
        home: "node2".into(),
        cpus: 2,
        memory_bytes: 2 << 30,
        volume: "vms".into(),
        disk_bytes: 20 << 30,
        disk_allocated_bytes: Some(1_103_527_936),
        uptime_seconds: (node == Some("node1")).then_some(4711),
    }
}

fn list() -> List {
    let node = |name: &str, reason: Option<&str>| ListedNode {
        name: name.into(),
        reachable: reason.is_none(),
        reason: reason.map(Into::into),
    };
    List {
        schema: "pc.vm.list/1",
        node: "node1".into(),
        vms: vec![listed("db", "unknown", None), listed("mail", "running", Some("node1"))],
        nodes: vec![node("node1", None), node("node2", None), node("node3", Some("connection refused"))],
    }
}

fn status() -> Status {
    Status {
        schema: "pc.vm.status/1",
        node: "node1".into(),
        measured_at: "2026-01-01T00:00:00Z".into(),
        healthy: false,
        reachable_by_peers: true,
        problems: vec!["vm mail is paused: I/O error on its disk".into()],
        misfits: vec![Misfit { node: "node2".into(), vms: vec!["db".into(), "web".into()] }],
        together: vec![Together { group: "dns".into(), vms: vec!["ns1".into(), "ns2".into()] }],
        vms: vec![StatusVm {
            name: "mail".into(),
            defined: true,
            current: true,
            pending: true,
            state: "paused".into(),
            reason: Some("I/O error on its disk".into()),
            here: true,
            should_run_here: Some(false),
            owner: Some("node1".into()),
            disk_locked: None,
        }],
    }
}

/// Compared with samples that docs/json/ describes; xtask checks them against it.
fn golden(file: &str, value: &impl Serialize) {
    let path = format!("{}/tests/golden/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = serde_json::to_string_pretty(value).unwrap() + "\n";
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap(), "{file}");
}

#[test]
fn samples_of_every_output() {
    golden("list.json", &list());
    golden("status.json", &status());
    golden(
        "migration.json",
        &crate::migrate::Migration {
            schema: "pc.vm.migration/1",
            vm: "mail".into(),
            from: "node1".into(),
            to: "node2".into(),
            seconds: 3.214,
            downtime_ms: Some(87),
            data_bytes: Some(98_566_144),
        },
    );
    golden(
        "reboot.json",
        &crate::reboot::Reboot {
            schema: "pc.vm.reboot/1",
            vm: "mail".into(),
            node: "node1".into(),
            by: "guest",
            seconds: 4.021,
        },
    );
    golden(
        "baseline.json",
        &crate::baseline::Baseline {
            schema: "pc.vm.baseline/1",
            levels: vec!["x86-64-v2".into(), "x86-64-v2-aes".into()],
            model: None,
            reason: Some("internal error: CPU vendors do not match".into()),
            nodes: vec![crate::baseline::NodeCpu { name: "node1".into(), model: "Westmere".into() }],
        },
    );
    let cost = pc_run::Cost { seconds: 41.5, external_calls: 4, external_seconds: 41.25 };
    golden(
        "disk.json",
        &crate::disk::Answer {
            schema: "pc.vm.disk/1",
            vm: "mail".into(),
            did: crate::disk::Did::Imported,
            disk: "/mnt/vms/vms/mail/disk.img".into(),
            size_bytes: 20 << 30,
            was_bytes: None,
            from: Some("/root/mail.ova".into()),
            to: None,
            running: false,
            cost,
        },
    );
    golden("snapshots.json", &crate::disk::sample());
    golden("plan.json", &crate::plan::tests::sample());
    let cost = pc_run::Cost { seconds: 1.25, external_calls: 5, external_seconds: 1.125 };
    let done = vec!["mail/render".into(), "mail/define".into()];
    golden("apply.json", &pc_plan::Applied::new(crate::APPLIED, "node1", done, cost));
    golden(
        "owner.json",
        &crate::owner::Owner::new(
            "mail",
            "node1",
            Some("8da54712-537e-413f-88b0-a16827a40fd2".into()),
            "2026-01-01T00:00:00Z".into(),
        ),
    );
}

#[test]
fn people_read_a_table() {
    assert_eq!(
        list().to_string(),
        "\
VM    STATE    NODE   HOME   CPUS  MEMORY  DISK   VOLUME
db    unknown  -      node2  2     2GiB    20GiB  vms
mail  running  node1  node2  2     2GiB    20GiB  vms
db: no answer from node3
node3 does not answer: connection refused
"
    );
    assert_eq!(
        status().to_string(),
        "node1: not healthy\nvm mail: paused (I/O error on its disk), by an older definition: the file's takes effect at its \
         next start\nproblem: vm mail is paused: I/O error on its disk\n\
         note: were node2 lost, no other node would have the memory for db, web\n\
         note: ns1 and ns2 run here together, group dns keeps them apart\n"
    );
}
