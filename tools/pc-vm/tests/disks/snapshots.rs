use std::fs;
use std::path::Path;

use crate::{MIB, SHARED, answer, image, names, needs_an_idle_vm, quiet, wanted};

#[test]
fn a_disk_comes_back_to_a_state_that_was_kept() {
    let scene = quiet(SHARED);
    let base = image(&scene);
    let root = scene.root("shared");
    let directory = root.join("mnt/vms/vms/mail");
    let disk = directory.join("disk.img");
    let size = 8 * MIB;
    let mut before = base;
    before.resize(size, 0);
    fs::write(&disk, &before).unwrap();
    fs::write(directory.join("nvram.fd"), "one").unwrap();
    let snapshot = |arguments: &[&str]| scene.pc_vm("n1", &root, &[&["snapshot"], arguments].concat());
    assert_eq!(snapshot(&["list", "mail"]), (0, "vm mail: no snapshot\n".into()));
    // What an interrupted one has left is no state.
    fs::create_dir(directory.join("snapshots")).unwrap();
    fs::write(directory.join("snapshots/.half.qcow2.1"), "half").unwrap();
    assert_eq!(snapshot(&["list", "mail"]), (0, "vm mail: no snapshot\n".into()));
    let (exit, said) = snapshot(&["create", "mail", "before-upgrade", "--json"]);
    assert_eq!(exit, 0, "{said}");
    let kept = answer(&said);
    assert_eq!(
        (&kept["schema"], &kept["snapshots"][0]["name"]),
        (&"pc.vm.snapshots/1".into(), &"before-upgrade".into())
    );
    assert_eq!(names(&directory.join("snapshots")), ["before-upgrade.nvram.fd", "before-upgrade.qcow2"]);
    let (exit, said) = snapshot(&["create", "mail", "before-upgrade"]);
    assert_eq!((exit, said.contains("vm mail: has a snapshot before-upgrade")), (2, true), "{said}");
    // The guest wrote, and a larger disk is wanted since.
    fs::write(&disk, vec![9; size]).unwrap();
    fs::write(directory.join("nvram.fd"), "two").unwrap();
    wanted(&scene, "9MiB");
    let (exit, said) = snapshot(&["revert", "mail", "before-upgrade"]);
    assert_eq!(exit, 2, "{said}");
    assert!(said.contains("vm mail: what it has written since 2"), "{said}");
    let remedy =
        "would be lost\n  pc-vm snapshot revert mail before-upgrade --yes-lose-what-was-written-since\n";
    assert!(said.ends_with(remedy), "{said}");
    assert!(fs::read(&disk).unwrap() == vec![9; size]);
    let (exit, said) = snapshot(&["revert", "mail", "before-upgrade", "--yes-lose-what-was-written-since"]);
    assert_eq!(exit, 0, "{said}");
    let back = fs::read(&disk).unwrap();
    assert!(back.len() == 9 * MIB && back[..size] == before && back[size..].iter().all(|byte| *byte == 0));
    assert_eq!(fs::read(directory.join("nvram.fd")).unwrap(), b"one");
    let (exit, said) = snapshot(&["delete", "mail", "before-upgrade"]);
    assert_eq!(exit, 2, "{said}");
    assert!(
        said.ends_with("\n  pc-vm snapshot delete mail before-upgrade --yes-destroy-this-snapshot\n"),
        "{said}"
    );
    let (exit, said) = snapshot(&["delete", "mail", "before-upgrade", "--yes-destroy-this-snapshot"]);
    assert_eq!((exit, said.ends_with("vm mail: no snapshot\n")), (0, true), "{said}");
    assert_eq!(names(&directory.join("snapshots")), [] as [&str; 0]);
    for (arguments, says) in [
        (
            &["revert", "mail", "before-upgrade"][..],
            "vm mail: has no snapshot \"before-upgrade\": there is none\n",
        ),
        (
            &["delete", "mail", "x", "--yes-destroy-this-snapshot"],
            "vm mail: has no snapshot \"x\": there is none\n",
        ),
        (&["create", "mail", "../x"], "no snapshot can be called \"../x\": "),
        (&["create", "web", "x"], "no [vm] is called \"web\""),
    ] {
        let (exit, said) = snapshot(arguments);
        assert_eq!((exit, said.contains(says)), (2, true), "{said}");
    }
}

/// A power cut while a disk is copied, and one after it has its name.
#[test]
fn a_revert_that_is_cut_off_is_typed_again() {
    let scene = quiet(SHARED);
    let root = scene.root("shared");
    let directory = root.join("mnt/vms/vms/mail");
    let (disk, nvram) = (directory.join("disk.img"), directory.join("nvram.fd"));
    let write = |byte: u8| {
        fs::write(&disk, vec![byte; 8 * MIB]).unwrap();
        fs::write(&nvram, [byte]).unwrap();
    };
    let has = |byte: u8| fs::read(&disk).unwrap() == vec![byte; 8 * MIB];
    let snapshot = |arguments: &[&str]| scene.pc_vm("n1", &root, &[&["snapshot"], arguments].concat());
    let revert = || snapshot(&["revert", "mail", "one", "--yes-lose-what-was-written-since"]);
    write(1);
    assert_eq!(snapshot(&["create", "mail", "one"]).0, 0);
    write(2);
    scene.program(
        "qemu-img",
        "[ \"$1\" != convert ] || { echo cut off >&2; exit 1; }\nPATH=${PATH#*:}\nexec qemu-img \"$@\"\n",
    );
    let (exit, said) = revert();
    assert_eq!((exit, said.contains("cut off")), (1, true), "{said}");
    assert!(has(2) && fs::read(&nvram).unwrap() == [2]);
    fs::remove_file(scene.path("bin/qemu-img")).unwrap();
    // The variables cannot be replaced.
    fs::remove_file(&nvram).unwrap();
    fs::create_dir_all(nvram.join("in the way")).unwrap();
    let (exit, said) = revert();
    let says =
        "vm mail: its disk is that of snapshot one, its UEFI variables only when this is typed again: ";
    assert_eq!((exit, said.contains(says)), (1, true), "{said}");
    assert!(has(1));
    fs::remove_dir_all(&nvram).unwrap();
    assert_eq!(revert().0, 0);
    assert!(has(1) && fs::read(&nvram).unwrap() == [1]);
}

#[test]
fn no_state_is_kept_or_brought_back_of_a_guest_that_may_run() {
    let disk = |root: &Path| fs::write(root.join("mnt/vms/vms/mail/disk.img"), vec![0; 8 * MIB]).unwrap();
    let create = "pc-vm snapshot create mail now";
    needs_an_idle_vm(&["snapshot", "create", "mail", "now"], create, disk);
    let revert = "pc-vm snapshot revert mail now --yes-lose-what-was-written-since";
    needs_an_idle_vm(&["snapshot", "revert", "mail", "now"], revert, disk);
}
