//! A VM has one disk: a start makes no second one while the file looks past the first.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod scene;

use std::fs;

use scene::{NODES, Scene, UUID, running};

/// Its `home` was edited: on the new one a second disk would be made, and both would run one day.
#[test]
fn no_second_disk_is_made_on_another_nodes_volume() {
    let scene = Scene::new("use = \"local\"");
    let root = scene.root("n1");
    let disk = "<devices><disk type='file' device='disk'><source file='/mnt/vms/vms/mail/disk.img'/>\
                <target dev='vda' bus='virtio'/></disk></devices>";
    let stopped = running("mail", UUID)
        .replace(
            "<domain type='test'>",
            "<domain type='test' xmlns:t='http://libvirt.org/schemas/domain/test/1.0'>",
        )
        .replace("</domain>", &format!("{disk}<t:runstate>5</t:runstate></domain>"));
    scene.libvirt("n1", Some(""));
    scene.libvirt("n2", Some(&stopped));
    scene.libvirt("n3", Some(""));
    let (exit, said) = scene.pc_vm("n1", &root, &["start", "mail"]);
    assert_eq!(exit, 2, "{said}");
    let says = "vm mail: its disk is on n2, for every node has a volume vms of its own, and this is n1\n  \
                once it is stopped: rsync -aS root@n2:/mnt/vms/vms/mail/ /mnt/vms/vms/mail/\n";
    assert!(said.ends_with(says), "{said}");
    assert!(!root.join("mnt/vms/vms/mail/disk.img").exists());
    // Moved here.
    fs::write(root.join("mnt/vms/vms/mail/disk.img"), vec![0; 8 << 20]).unwrap();
    let (exit, said) = scene.pc_vm("n1", &root, &["start", "mail"]);
    assert_eq!((exit, said.contains("started vm mail\n")), (0, true), "{said}");
}

/// Another disk has taken the place of the one that its disk was on: its volume is empty, and the VM is not new.
#[test]
fn no_second_disk_is_made_where_the_first_was_lost() {
    let scene = Scene::new("use = \"local\"");
    let root = scene.root("n1");
    for node in NODES {
        scene.libvirt(node, Some(""));
    }
    let (exit, said) = scene.pc_vm("n1", &root, &["start", "mail"]);
    assert_eq!((exit, said.contains("started vm mail\n")), (0, true), "{said}");
    let here = root.join("mnt/vms/vms/mail");
    fs::remove_dir_all(&here).unwrap();
    let (exit, said) = scene.pc_vm("n1", &root, &["start", "mail"]);
    assert_eq!(exit, 2, "{said}");
    let says =
        "vm mail: had a disk on volume vms of this node, and /mnt/vms/vms/mail/disk.img is not there: ";
    let note = "var/lib/personal-cluster/vm/mail.had-disk";
    assert!(said.contains(says) && said.ends_with(&format!("on purpose: rm /{note}\n")), "{said}");
    assert!(!here.join("disk.img").exists() && !here.join("owner.json").exists());
    // Brought back, or given up on purpose.
    fs::write(here.join("disk.img"), vec![0; 8 << 20]).unwrap();
    let (exit, said) = scene.pc_vm("n1", &root, &["start", "mail"]);
    assert_eq!((exit, said.contains("started vm mail\n")), (0, true), "{said}");
    fs::remove_dir_all(&here).unwrap();
    fs::remove_file(root.join(note)).unwrap();
    let (exit, said) = scene.pc_vm("n1", &root, &["start", "mail"]);
    assert_eq!((exit, said.contains("made the disk of vm mail")), (0, true), "{said}");
}

/// Its `volume` was edited: it would go on with an empty disk, and its backups too.
#[test]
fn no_second_disk_is_made_on_another_volume() {
    let scene = Scene::new("use = \"local\"\n[volume.old]\nuse = \"vm\"\nreplicas = 3");
    let file = std::fs::read_to_string(scene.path("cluster.toml")).unwrap();
    let disks = |node| {
        format!(
            "disks.old = [\"/dev/disk/by-id/nvme-{node}\"]\ndisks.vms = [\"/dev/disk/by-id/virtio-{node}\"]"
        )
    };
    let with_both = NODES.iter().fold(file, |file, node| {
        file.replace(&format!("disks.vms = [\"/dev/disk/by-id/virtio-{node}\"]"), &disks(*node))
    });
    fs::write(scene.path("cluster.toml"), with_both).unwrap();
    let root = scene.root("n1");
    for node in NODES {
        scene.libvirt(node, Some(""));
    }
    let old = root.join("mnt/old/vms/mail");
    fs::create_dir_all(&old).unwrap();
    fs::write(old.join("disk.img"), vec![0; 8 << 20]).unwrap();
    let (exit, said) = scene.pc_vm("n1", &root, &["start", "mail"]);
    assert_eq!(exit, 2, "{said}");
    let says = "vm mail: has no disk on volume vms, and one on old\n  mv /mnt/old/vms/mail/* /mnt/vms/vms/mail/    (or ";
    assert!(said.contains(says), "{said}");
    assert!(
        !root.join("mnt/vms/vms/mail/disk.img").exists()
            && !root.join("mnt/vms/vms/mail/owner.json").exists()
    );
    fs::rename(old.join("disk.img"), root.join("mnt/vms/vms/mail/disk.img")).unwrap();
    let (exit, said) = scene.pc_vm("n1", &root, &["start", "mail"]);
    assert_eq!((exit, said.contains("started vm mail\n")), (0, true), "{said}");
}

/// The `use` of its volume was edited: what lay on it is still on this node's disk, beside what is mounted now.
#[test]
fn no_second_disk_is_made_where_a_volume_had_another_use() {
    for (volume, before, old) in [
        ("use = \"local\"", "vm", "/mnt/vms/brick/vms/mail"),
        ("use = \"vm\"\nreplicas = 3", "local", "/srv/bricks/vms/virtio-n1/vms/mail"),
    ] {
        let scene = Scene::new(volume);
        let root = scene.root("n1");
        for node in NODES {
            scene.libvirt(node, Some(""));
        }
        let there = root.join(old.trim_start_matches('/'));
        fs::create_dir_all(&there).unwrap();
        fs::write(there.join("disk.img"), vec![0; 8 << 20]).unwrap();
        let (exit, said) = scene.pc_vm("n1", &root, &["start", "mail"]);
        assert_eq!(exit, 2, "{said}");
        let says = format!(
            "vm mail: has no disk on volume vms, and one of the time when that had use = \"{before}\": {old}/disk.img\n  \
             take [vm.mail] out, push, write use = \"{before}\" in [volume.vms], put it in again and push    (or "
        );
        assert!(said.contains(&says), "{said}");
        let here = root.join("mnt/vms/vms/mail");
        assert!(!here.join("disk.img").exists() && !here.join("owner.json").exists());
        fs::remove_dir_all(&there).unwrap();
        let (exit, said) = scene.pc_vm("n1", &root, &["start", "mail"]);
        assert_eq!((exit, said.contains("started vm mail\n")), (0, true), "{said}");
    }
}
