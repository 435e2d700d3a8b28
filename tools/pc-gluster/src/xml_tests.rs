use super::*;

fn fixture(name: &str) -> String {
    let path = format!("{}/fixtures/{name}.xml", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn names(peer: &Peer) -> Vec<&str> {
    peer.names.iter().map(String::as_str).collect()
}

#[test]
fn peers_by_every_name_they_have() {
    assert_eq!(peers(&fixture("11.1/peer-status-alone")).unwrap(), []);
    let known = peers(&fixture("11.1/peer-status")).unwrap();
    assert_eq!(known.iter().map(names).collect::<Vec<_>>(), [vec!["node2"], vec!["node3", "10.77.0.3"]]);
    assert!(known.iter().all(|peer| peer.connected && peer.member));
    let by_address = peers(&fixture("11.1/peer-status-by-address")).unwrap();
    assert_eq!(names(&by_address[0]), ["10.77.0.3"]);
    let one_gone = peers(&fixture("10.3/peer-status-one-disconnected")).unwrap();
    let connected: Vec<(&str, bool)> = one_gone.iter().map(|p| (p.names[0].as_str(), p.connected)).collect();
    assert_eq!(connected, [("node2", true), ("node3", false)]);
    let rejected = peers(&fixture("10.3/peer-status-rejected")).unwrap();
    let states: Vec<_> = rejected.iter().map(|p| (names(p)[0], p.connected, p.member, p.rejected)).collect();
    assert_eq!(states, [("node2", true, true, false), ("node3", true, false, true)]);
}

#[test]
fn volumes_with_their_sets_and_options() {
    assert!(volumes(&fixture("11.1/volume-info-none")).unwrap().is_empty());
    let all = volumes(&fixture("11.1/volume-info")).unwrap();
    let arb = &all["arb"];
    assert_eq!((arb.started, arb.replica, arb.arbiter), (false, 3, 1));
    let vms = &all["vms"];
    assert_eq!((vms.started, vms.replica, vms.arbiter), (true, 3, 0));
    assert_eq!(vms.id, "548aa4c8-f48a-4ab7-8e1f-4bfa41f7b0e9");
    assert_eq!(vms.bricks[1], "node2:/srv/bricks/vms/a2/brick");
    assert_eq!(vms.options["auth.ssl-allow"], "node1,node2,node3");
    assert_eq!(vms.options.len(), 31);
    let older = volumes(&fixture("10.3/volume-info")).unwrap();
    assert_eq!(older["one"].replica, 3, "a single brick that was grown to three copies");
    assert_eq!(older["two"].replica, 2);
}

#[test]
fn bricks_that_run_and_bricks_that_do_not() {
    let online = bricks_online(&fixture("10.3/volume-status-brick-offline")).unwrap();
    let shown: Vec<(&str, bool)> = online.iter().map(|(brick, up)| (brick.as_str(), *up)).collect();
    assert_eq!(
        shown,
        [
            ("node1:/srv/bricks/vms/ata-1/brick", true),
            ("node2:/srv/bricks/vms/ata-2/brick", true),
            ("node3:/srv/bricks/vms/ata-3/brick", false),
        ]
    );
    assert_eq!(bricks_online(&fixture("11.1/volume-status-brick-offline")).unwrap().len(), 3);
    let gone = bricks_online(&fixture("10.3/volume-status-node-gone")).unwrap();
    assert_eq!(gone.len(), 2, "bricks of a node without glusterd are not in the list at all");
}

#[test]
fn heal_backlog_with_a_brick_that_cannot_be_asked() {
    let bricks = heal(&fixture("11.1/heal-brick-offline")).unwrap();
    let shown: Vec<_> = bricks.iter().map(|b| (b.connected, b.pending, b.split_brain)).collect();
    assert_eq!(shown, [(true, Some(8), Some(0)), (false, None, None), (true, Some(8), Some(0))]);
    assert_eq!(heal(&fixture("10.3/heal-brick-unreachable")).unwrap().len(), 3);
}

#[test]
fn refusals_are_errors_although_the_program_exits_with_0() {
    let said = |name: &str| done(&fixture(name)).unwrap_err().to_string();
    let leftover = "gluster refuses: /srv/bricks/vms/a1/brick is already part of a volume";
    assert_eq!(said("11.1/refused-brick-leftover"), leftover);
    assert!(said("11.1/refused-peer-probe").contains("Transport endpoint is not connected"));
    assert!(said("11.1/refused-volume-create").contains("Staging failed on node3"));
    assert!(said("11.1/refused-option").contains("granular-entry-heal"));
    assert!(done(&fixture("11.1/peer-probe")).is_ok());
    assert!(done(&fixture("11.1/volume-create")).is_ok());
}

#[test]
fn anything_else_is_malformed_and_never_a_panic() {
    const ODD: &[u8] = b"<>/&;\"'= a0-\n\xff\0";
    for text in
        ["", "<", "Connection failed.", "<cliOutput/>", "<?xml version=\"1.0\"?><a><opRet>x</opRet></a>"]
    {
        assert!(matches!(done(text), Err(Fault::Malformed(_))), "{text}");
    }
    // Every answer with bytes changed at random (a fixed sequence, so that a failure comes back).
    let mut state = 1_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    for name in ["volume-info", "peer-status", "volume-status-brick-offline", "heal-brick-offline"] {
        let whole = fixture(&format!("11.1/{name}")).into_bytes();
        for _ in 0..300 {
            let mut bytes = whole.clone();
            for _ in 0..=random(8) {
                let at = random(bytes.len());
                bytes[at] = ODD[random(ODD.len())];
            }
            let text = String::from_utf8_lossy(&bytes);
            let _ = (volumes(&text), peers(&text), bricks_online(&text), heal(&text), done(&text));
        }
    }
    let whole = fixture("11.1/volume-info");
    for end in (0..whole.len()).step_by(97) {
        let _ = volumes(&whole[..end]);
    }
    assert!(matches!(peers(&whole), Err(Fault::Malformed(_))));
}

/// From a machine under load: glusterd took the start of a brick for a failed one and found its process afterwards.
#[test]
fn a_brick_that_runs_without_a_port_is_lost() {
    let text = fixture("11.1/volume-status").replacen("<port>", "<port>N/A</port><old>", 1).replacen(
        "</port>\n",
        "</old>\n",
        1,
    );
    let lost = bricks_lost(&text).unwrap();
    let online = bricks_online(&text).unwrap();
    assert_eq!(
        (lost.len(), online.values().filter(|up| **up).count()),
        (1, online.len() - 1),
        "{lost:?} {online:?}"
    );
    assert!(lost.iter().all(|brick| !online[brick]));
    assert_eq!(
        bricks_lost(&fixture("11.1/volume-status-brick-offline")).unwrap().len(),
        0,
        "one that does not run"
    );
}
