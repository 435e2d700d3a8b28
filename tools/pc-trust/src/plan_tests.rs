use super::*;

fn want() -> Want {
    Want {
        links: vec![
            ("/usr/lib/ssl/glusterfs.pem".into(), "/etc/personal-cluster/trust/node.crt".into()),
            ("/etc/pki/CA/cacert.pem".into(), "/etc/personal-cluster/trust/ca.crt".into()),
        ],
        files: vec![("/etc/ssh/sshd_config.d/50-personal-cluster.conf".into(), format!("{HEADER}\nx\n"))],
        sealed: true,
        gluster: true,
        qemu_group: Some("libvirt-qemu".into()),
        ..Want::default()
    }
}

/// What the machine looks like after the steps.
fn carry_out(plan: &Plan<Action>, have: &Have) -> Have {
    let mut have = have.clone();
    for step in &plan.steps {
        match step.action.clone() {
            Action::Open { secret } => drop(have.open.insert(secret)),
            Action::Seal { secret } => drop(have.clear.remove(&secret)),
            Action::Unseal { secret } => {
                have.unseal.remove(&secret);
                have.open.insert(secret);
            }
            Action::Private { path, .. } => have.exposed.retain(|exposed| exposed.path != path),
            Action::Renew { .. } => have.renew = None,
            Action::Link { path, target } => drop(have.at.insert(path, At::Link(target))),
            Action::Write { path, content } => drop(have.at.insert(path, At::File(content))),
            Action::QemuKey { .. } => have.qemu_key = true,
            Action::SecureAccess => have.secure_access = true,
            Action::RestartGlusterd => have.glusterd_without_tls = false,
            Action::ReloadSshd => {}
        }
    }
    have
}

fn ids(plan: &Plan<Action>) -> Vec<&str> {
    plan.steps.iter().map(|step| step.id.as_str()).collect()
}

#[test]
fn everything_in_the_order_of_the_design() {
    let clear = SECRETS.iter().map(ToString::to_string).collect();
    let have = Have {
        clear,
        renew: Some("half of its life is over".into()),
        glusterd_without_tls: true,
        ..Have::default()
    };
    let plan = plan("node1", &want(), &have);
    assert_eq!(
        ids(&plan),
        [
            "open/node.key",
            "open/ssh-user.key",
            "open/corosync.authkey",
            "open/recovery-key",
            "link/usr/lib/ssl/glusterfs.pem",
            "link/etc/pki/CA/cacert.pem",
            "write/etc/ssh/sshd_config.d/50-personal-cluster.conf",
            "qemu-key",
            "secure-access",
            "restart-glusterd",
            "renew",
            "reload-sshd",
            "seal/node.key",
            "seal/ssh-user.key",
            "seal/corosync.authkey",
            "seal/recovery-key"
        ]
    );
    let needs = |id: &str| plan.steps.iter().find(|step| step.id == id).unwrap().needs.clone();
    assert_eq!(needs("secure-access"), ["link/usr/lib/ssl/glusterfs.pem"]);
    assert_eq!(needs("restart-glusterd"), ["secure-access", "open/node.key"]);
    assert_eq!(needs("renew"), ["open/node.key", "open/recovery-key"]);
}

/// All 1024 combinations of ten facts: whatever the start, the second plan is empty.
#[test]
fn the_second_plan_is_empty() {
    let paths: Vec<String> = want().links.iter().chain(&want().files).map(|(path, _)| path.clone()).collect();
    for bits in 0..1024_u32 {
        let bit = |n: u32| bits >> n & 1 == 1;
        let mut have = Have { secure_access: bit(0), qemu_key: bit(1), ..Have::default() };
        have.glusterd_without_tls = bit(2);
        have.gluster_serves = bits % 7 == 0;
        have.renew = bit(3).then(|| "due".into());
        if bit(4) {
            have.clear.insert("node.key".into());
        }
        if bit(5) {
            have.open.insert("node.key".into());
        }
        if bit(6) {
            have.at.insert(paths[0].clone(), At::Link("/etc/personal-cluster/trust/old.crt".into()));
        }
        if bit(7) {
            have.at.insert(paths[1].clone(), At::File("foreign".into()));
        }
        if bit(8) {
            have.at.insert(paths[2].clone(), At::File(format!("{HEADER}\nold\n")));
        }
        if bit(9) {
            have.at.insert(paths[0].clone(), At::Link("/root/mine.pem".into()));
        }
        let after = carry_out(&plan("node1", &want(), &have), &have);
        let again = plan("node1", &want(), &after);
        assert!(again.steps.is_empty(), "{bits:b}: {again:?}");
        assert_eq!(foreign(&want(), &have), foreign(&want(), &after), "foreign files stay");
    }
}

#[test]
fn foreign_files_are_named_and_left() {
    let mut have = Have::default();
    have.at.insert("/usr/lib/ssl/glusterfs.pem".into(), At::File("-----BEGIN".into()));
    have.at.insert("/etc/pki/CA/cacert.pem".into(), At::Link("/root/ca.pem".into()));
    have.at.insert("/etc/ssh/sshd_config.d/50-personal-cluster.conf".into(), At::Other);
    assert_eq!(foreign(&want(), &have).len(), 3);
    let plan = plan("node1", &want(), &have);
    assert_eq!(ids(&plan), ["secure-access"]);
}

#[test]
fn a_node_that_cannot_open_its_key_restarts_nothing() {
    let have = Have { glusterd_without_tls: true, secure_access: true, ..Have::default() };
    let plan = plan("node1", &want(), &have);
    assert!(!ids(&plan).contains(&"restart-glusterd") && !ids(&plan).contains(&"qemu-key"));
}

#[test]
fn a_gluster_from_before_is_named_and_left() {
    let open = ["node.key".to_string()].into();
    let have = Have { gluster_serves: true, glusterd_without_tls: true, open, ..Have::default() };
    let planned = plan("node1", &want(), &have);
    assert!(!ids(&planned).contains(&"secure-access") && !ids(&planned).contains(&"restart-glusterd"));
    assert!(problems(&want(), &have)[0].contains("its management is not encrypted"));
    assert!(problems(&want(), &Have { secure_access: true, ..have }).is_empty());
}

#[test]
fn what_is_open_to_others_is_closed_first_and_a_spoilt_copy_is_opened_before_it_is_used() {
    let path = "/run/personal-cluster/secrets/node.key".to_string();
    let exposed = |readable| Exposed { path: path.clone(), mode: 0o644, readable };
    let have = Have {
        exposed: vec![exposed(true)],
        unseal: ["node.key".to_string()].into(),
        renew: Some("due".into()),
        secure_access: true,
        ..Have::default()
    };
    let planned = plan("node1", &Want { qemu_group: want().qemu_group, ..Want::default() }, &have);
    let expected = [
        "private/run/personal-cluster/secrets/node.key",
        "unseal/node.key",
        "qemu-key",
        "renew",
        "reload-sshd",
    ];
    assert_eq!(ids(&planned), expected);
    assert_eq!(planned.steps[2].needs, ["unseal/node.key"]);
    assert_eq!(planned.steps[3].needs, ["unseal/node.key"]);
    assert!(problems(&want(), &have)[0].starts_with(&format!("{path} (mode 0644): others than root")));
    assert!(problems(&want(), &Have { exposed: vec![exposed(false)], ..have }).is_empty());
}
