use super::*;
use xshell::{Shell, cmd};

const FILE: &str = r#"
schema = "personal-cluster/1"
name = "home"

[[node]]
name = "node1"
address = "192.168.0.50"
nics.lan = ["enp1s0"]
disks.vms = ["/dev/disk/by-id/virtio-a"]

[volume.vms]
use = "local"

[network.lan]
uplink = "lan"
subnet = "192.168.0.0/24"
router = "192.168.0.1"
[network.mail]
uplink = "lan"
vlan = 20

[vm.mail]
memory = "1GiB"
disk = "20GiB"
volume = "vms"
networks = ["lan", "mail"]
addresses = { lan = "192.168.0.80/24" }
ssh_keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPCTest someone"]
"#;

fn with_guest<T>(test: impl FnOnce(&Guest) -> T) -> T {
    let cluster = cluster::parse("test", FILE).unwrap();
    let (name, vm) = cluster.vms.get_key_value("mail").unwrap();
    test(&Guest { cluster: &cluster, name, vm })
}

#[test]
fn documents_say_who_and_where() {
    let (documents, lan, mail, uuid) = with_guest(|guest| {
        let mac = |network: &str| guest.mac(&cluster::Name::try_from(network.to_string()).unwrap());
        (documents(guest, None), mac("lan"), mac("mail"), guest.uuid())
    });
    let meta: Value = serde_json::from_str(&documents.meta_data).unwrap();
    assert_eq!(meta, json!({ "instance-id": uuid, "local-hostname": "mail" }));
    let user_data = String::from_utf8(documents.user_data).unwrap();
    let (first, rest) = user_data.split_once('\n').unwrap();
    assert_eq!(first, "#cloud-config");
    let user: Value = serde_json::from_str(rest).unwrap();
    assert_eq!(user["fqdn"], "mail.home.arpa");
    assert_eq!(user["ssh_authorized_keys"][0], "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPCTest someone");
    let network: Value = serde_json::from_str(&documents.network_config).unwrap();
    assert_eq!(
        network,
        json!({ "version": 2, "ethernets": {
            "lan": {
                "match": { "macaddress": lan },
                "addresses": ["192.168.0.80/24"],
                "routes": [{ "to": "0.0.0.0/0", "via": "192.168.0.1" }],
                "nameservers": { "addresses": ["192.168.0.1"], "search": ["home.arpa"] },
            },
            "mail": { "match": { "macaddress": mail }, "dhcp4": true },
        }})
    );
}

#[test]
fn an_administrators_own_user_data_stays_as_it_is() {
    let own = b"\x1f\x8b\x08 compressed, no text";
    assert_eq!(with_guest(|guest| documents(guest, Some(own.to_vec()))).user_data, own);
}

#[test]
fn same_file_same_bytes() {
    let one = with_guest(|guest| render(guest, false)).unwrap().unwrap();
    assert_eq!(one, with_guest(|guest| render(guest, true)).unwrap().unwrap());
    assert_eq!(one.len() % MIB, 0);
}

#[test]
fn a_node_without_the_administrators_file_starts_with_the_seed_that_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("user-data");
    let file = FILE.replace("ssh_keys", &format!("user_data = {path:?}\nssh_keys"));
    let cluster = cluster::parse("test", &file).unwrap();
    let (name, vm) = cluster.vms.get_key_value("mail").unwrap();
    let guest = Guest { cluster: &cluster, name, vm };
    assert_eq!(render(&guest, true).unwrap(), None);
    let error = format!("{:#}", render(&guest, false).unwrap_err());
    assert!(error.contains("vm mail: reading user_data") && error.contains("No such file"), "{error}");
    std::fs::create_dir(&path).unwrap();
    assert!(render(&guest, true).is_err(), "there, and no file");
}

/// Read back with mtools and blkid, which share no code with fatfs.
#[test]
fn others_can_read_the_image() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("seed.img");
    std::fs::write(&path, with_guest(|guest| render(guest, false)).unwrap().unwrap()).unwrap();
    let sh = Shell::new().unwrap();
    let blkid = cmd!(sh, "blkid -p -o export {path}").read().unwrap();
    assert!(blkid.lines().any(|line| line == "LABEL=CIDATA"), "{blkid}");
    assert!(blkid.lines().any(|line| line == "TYPE=vfat"), "{blkid}");
    let documents = with_guest(|guest| documents(guest, None));
    for (name, bytes) in [
        ("meta-data", documents.meta_data.as_bytes()),
        ("user-data", &documents.user_data),
        ("network-config", documents.network_config.as_bytes()),
    ] {
        let read = cmd!(sh, "mtype -i {path} ::{name}").output().unwrap().stdout;
        assert_eq!(read, bytes, "{name}");
    }
    let checked = cmd!(sh, "fsck.fat -n {path}").ignore_status().output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}

#[test]
fn large_user_data_fits() {
    let long = format!("#cloud-config\n# {}\n", "x".repeat(3 * MIB));
    let image = with_guest(|guest| image(&documents(guest, Some(long.clone().into_bytes())), 1)).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("seed.img");
    std::fs::write(&path, image).unwrap();
    let sh = Shell::new().unwrap();
    assert_eq!(cmd!(sh, "mtype -i {path} ::user-data").output().unwrap().stdout, long.as_bytes());
}
