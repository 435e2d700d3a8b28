use std::fs;

use crate::scene::{UUID, running, set_owner};
use crate::{MIB, SHARED, answer, quiet, wanted};

#[test]
fn a_disk_grows_to_the_file_and_never_shrinks() {
    let scene = quiet(SHARED);
    let root = scene.root("shared");
    let disk = root.join("mnt/vms/vms/mail/disk.img");
    fs::write(&disk, vec![7; 8 * MIB]).unwrap();
    let (exit, said) = scene.pc_vm("n2", &root, &["resize", "mail"]);
    assert_eq!((exit, said.as_str()), (0, "vm mail: its disk has 8MiB already\n"));
    wanted(&scene, "9MiB");
    let (exit, said) = scene.pc_vm("n1", &root, &["status"]);
    assert_eq!(exit, 0, "{said}");
    let says = "problem: vm mail: its disk has 8MiB, the file gives it 9MiB\n  pc-vm resize mail\n";
    assert!(said.contains(says), "{said}");
    let (exit, said) = scene.pc_vm("n2", &root, &["resize", "mail", "--json"]);
    assert_eq!(exit, 0, "{said}");
    let grown = answer(&said);
    assert_eq!(
        (&grown["did"], &grown["was_bytes"], &grown["size_bytes"]),
        (&"grown".into(), &(8 * MIB).into(), &(9 * MIB).into())
    );
    let bytes = fs::read(&disk).unwrap();
    assert!(bytes.len() == 9 * MIB && bytes[..8 * MIB].iter().all(|byte| *byte == 7));
    // What a start finds too small it grows as well.
    wanted(&scene, "10MiB");
    let (exit, said) = scene.pc_vm("n1", &root, &["start", "mail"]);
    assert_eq!((exit, said.contains("grew the disk of vm mail from 9MiB to 10MiB\n")), (0, true), "{said}");
    assert_eq!(fs::metadata(&disk).unwrap().len(), 10 << 20);
    // Smaller in the file: refused by name, and no reason not to start.
    wanted(&scene, "8MiB");
    let (exit, said) = scene.pc_vm("n1", &root, &["resize", "mail"]);
    assert_eq!(exit, 2, "{said}");
    let says = "vm mail: its disk has 10MiB, the file gives it 8MiB, and no disk is made smaller\n  disk = \"10MiB\" in [vm.mail]\n";
    assert!(said.ends_with(says), "{said}");
    let (exit, said) = scene.pc_vm("n1", &root, &["start", "mail"]);
    assert_eq!((exit, said.contains("and no disk is made smaller")), (0, true), "{said}");
    assert_eq!(fs::metadata(&disk).unwrap().len(), 10 << 20);
    let (_, said) = scene.pc_vm("n1", &root, &["status"]);
    assert!(said.contains("problem: vm mail: its disk has 10MiB, the file gives it 8MiB, and no"), "{said}");
}

#[test]
fn a_disk_that_is_not_made_yet_is_not_grown() {
    let scene = quiet(SHARED);
    let root = scene.root("shared");
    let (exit, said) = scene.pc_vm("n1", &root, &["resize", "mail"]);
    assert_eq!(exit, 2, "{said}");
    let says = "disk.img is missing\n  its first start makes it, or: pc-vm import mail FILE\n";
    assert!(said.ends_with(says), "{said}");
}

/// A guest that runs sees its disk grow; where it runs is asked first, and silence is no answer.
#[test]
fn a_disk_is_grown_through_the_qemu_that_has_it() {
    let scene = quiet(SHARED);
    let root = scene.root("shared");
    let disk = root.join("mnt/vms/vms/mail/disk.img");
    fs::write(&disk, vec![7; 8 * MIB]).unwrap();
    wanted(&scene, "9MiB");
    scene.libvirt("n2", Some(&running("mail", UUID)));
    // The test driver grows no disk: the order has reached it, and nobody else touched the image.
    let (exit, said) = scene.pc_vm("n1", &root, &["resize", "mail"]);
    assert_eq!(exit, 1, "{said}");
    assert!(said.contains("growing the disk of vm mail on n2: libvirt of n2: "), "{said}");
    assert_eq!(fs::metadata(&disk).unwrap().len(), 8 << 20);
    scene.libvirt("n2", Some(""));
    scene.libvirt("n3", None);
    set_owner(&root, &serde_json::json!({"node": "n3"}));
    let (exit, said) = scene.pc_vm("n1", &root, &["resize", "mail"]);
    assert_eq!(exit, 75, "{said}");
    assert!(said.ends_with("certain: pc-vm resize mail --owner-is-dead n3\n"), "{said}");
    assert_eq!(fs::metadata(&disk).unwrap().len(), 8 << 20);
    let (exit, said) = scene.pc_vm("n1", &root, &["resize", "mail", "--owner-is-dead", "n3"]);
    assert_eq!((exit, fs::metadata(&disk).unwrap().len()), (0, 9 << 20), "{said}");
}
