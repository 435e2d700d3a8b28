use super::*;

const FILE: &str = r#"{"schema": "personal-cluster/1", "name": "home",
  "volume": {"archive": {"use": "backup"}, "vms": {"use": "vm"}, "scratch": {"use": "local"}},
  "vm": {
    "mail": {"memory": "1GiB", "disk": "2GiB", "volume": "vms", "backup": ["daily", "offsite"]},
    "web": {"memory": "1GiB", "disk": "2GiB", "volume": "vms", "backup": ["daily"]},
    "toy": {"memory": "1GiB", "disk": "2GiB", "volume": "vms"}},
  "backup": {
    "daily": {"repository": "/mnt/archive/borg/daily", "schedule": "daily"},
    "offsite": {"repository": "ssh://borg@backup.example/./home", "schedule": "weekly"},
    "cold": {"repository": "disk:LABEL=pc-cold", "schedule": "on-plug"},
    "here": {"repository": "/srv/borg", "schedule": "daily"}}}"#;

fn cluster(change: impl FnOnce(&mut serde_json::Value)) -> Cluster {
    let mut file: serde_json::Value = serde_json::from_str(FILE).unwrap();
    change(&mut file);
    serde_json::from_value(file).unwrap()
}

fn shown(cluster: &Cluster) -> Vec<String> {
    let shown =
        |policy: &Policy| format!("{} {} {}", policy.name, policy.repository(), policy.state.directory);
    policies(cluster).unwrap().iter().map(shown).collect()
}

#[test]
fn a_policys_own_files_lie_where_every_node_finds_them() {
    let file = cluster(|_| ());
    assert_eq!(
        shown(&file),
        [
            "cold /run/personal-cluster/borg-disks/pc-cold/borg /mnt/archive/pc-borg/cold",
            "daily /mnt/archive/borg/daily /mnt/archive/pc-borg/daily",
            "here /srv/borg /mnt/archive/pc-borg/here",
            "offsite ssh://borg@backup.example/./home /mnt/archive/pc-borg/offsite",
        ]
    );
    let volumes = |name: &str| {
        let policies = policies(&file).unwrap();
        let policy = policies.iter().find(|policy| policy.name.as_str() == name).unwrap();
        policy.volumes().into_iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(volumes("daily"), ["archive"], "once, though it is needed twice");
    assert_eq!(volumes("offsite"), ["archive"]);
    let none = cluster(|file| file["volume"] = serde_json::json!({"scratch": {"use": "local"}}));
    assert_eq!(
        shown(&none)[3],
        "offsite ssh://borg@backup.example/./home /var/lib/personal-cluster/borg/offsite"
    );
}

#[test]
fn a_volume_is_not_found_by_half_of_its_name() {
    let file = cluster(|file| file["backup"]["here"]["repository"] = "/mnt/archives/borg".into());
    let policies = policies(&file).unwrap();
    let Target::Path { volume, .. } = &policies[2].target else { panic!("{policies:?}") };
    assert_eq!(*volume, None);
}

#[test]
fn one_repository_has_one_policy() {
    let file = cluster(|file| file["backup"]["here"]["repository"] = "/mnt/archive/borg/daily".into());
    let error = policies(&file).unwrap_err();
    assert!(error.is::<pc_cli::Refused>());
    assert_eq!(
        error.to_string(),
        "backup.daily and backup.here have the same repository \"/mnt/archive/borg/daily\"\n  give each its own"
    );
}

#[test]
fn pairs_are_those_that_were_asked_for() {
    let file = cluster(|_| ());
    let of = |vms: &[&str], policy: Option<&str>| {
        let vms: Vec<String> = vms.iter().map(ToString::to_string).collect();
        match pairs(&file, &vms, policy) {
            Ok(pairs) => pairs.iter().map(|pair| format!("{}/{}", pair.policy, pair.vm)).collect::<Vec<_>>(),
            Err(error) => {
                assert!(error.is::<pc_cli::Refused>());
                vec![error.to_string()]
            }
        }
    };
    assert_eq!(of(&[], None), ["daily/mail", "daily/web", "offsite/mail"]);
    assert_eq!(of(&["mail"], None), ["daily/mail", "offsite/mail"]);
    assert_eq!(of(&[], Some("offsite")), ["offsite/mail"]);
    assert_eq!(of(&[], Some("cold")), Vec::<String>::new());
    assert_eq!(of(&["nail"], None), ["no [vm] is called \"nail\": the file has mail, toy, web"]);
    assert_eq!(
        of(&[], Some("dayly")),
        ["no [backup] is called \"dayly\": the file has cold, daily, here, offsite"]
    );
    assert_eq!(
        of(&["toy"], None),
        ["vm.toy names no backup\n  write in the file under [vm.toy]: backup = [\"cold\"]"]
    );
    assert_eq!(of(&["web"], Some("offsite")), ["web is not in backup.offsite\n  pc-borg status"]);
}
