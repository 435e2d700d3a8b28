use std::fs;

use crate::scene::owner;
use crate::{MIB, SHARED, answer, image, names, needs_an_idle_vm, qemu_img, quiet};

#[test]
fn an_image_becomes_a_disk_once() {
    let scene = quiet(SHARED);
    let base = image(&scene);
    qemu_img(&["convert", "-f", "raw", "-O", "qcow2", "base.raw", "base.qcow2"], &scene.path(""));
    let root = scene.root("shared");
    let directory = root.join("mnt/vms/vms/mail");
    // What an interrupted import leaves has no name that anybody takes for a disk.
    fs::write(directory.join(".disk.img.1"), "half").unwrap();
    let file = scene.path("base.qcow2").display().to_string();
    let (exit, said) = scene.pc_vm("n2", &root, &["import", "mail", &file, "--json"]);
    assert_eq!(exit, 0, "{said}");
    let disk = fs::read(directory.join("disk.img")).unwrap();
    assert!(
        disk.len() == 8 * MIB
            && disk[..base.len()] == base
            && disk[base.len()..].iter().all(|byte| *byte == 0)
    );
    assert_eq!(names(&directory), ["disk.img", "lock"]);
    let said = answer(&said);
    assert_eq!(
        [&said["schema"], &said["did"], &said["vm"], &said["size_bytes"], &said["from"], &said["running"]],
        [
            &serde_json::json!("pc.vm.disk/1"),
            &"imported".into(),
            &"mail".into(),
            &(8 * MIB).into(),
            &file.as_str().into(),
            &false.into()
        ]
    );
    let (exit, said) = scene.pc_vm("n1", &root, &["import", "mail", &file]);
    assert_eq!((exit, said.contains("disk.img is there, and is never written over")), (2, true), "{said}");
    // Its first start takes it as it is.
    let (exit, said) = scene.pc_vm("n1", &root, &["start", "mail"]);
    assert_eq!((exit, said.contains("made the disk")), (0, false), "{said}");
    assert_eq!(owner(&root)["node"], "n1");
}

#[test]
fn nothing_is_imported_that_is_not_what_was_meant() {
    let scene = quiet(SHARED);
    image(&scene);
    let root = scene.root("shared");
    let directory = root.join("mnt/vms/vms/mail");
    qemu_img(&["create", "-q", "-f", "qcow2", "large.qcow2", "9M"], &scene.path(""));
    qemu_img(&["create", "-q", "-f", "qcow2", "-F", "raw", "-b", "base.raw", "over.qcow2"], &scene.path(""));
    let zero = format!("sha256:{}", "0".repeat(64));
    for (file, more, says) in [
        (
            "large.qcow2",
            &[][..],
            "large.qcow2: holds 9MiB, and the file gives vm mail a disk of 8MiB\n  disk = \"9MiB\" in [vm.mail]\n",
        ),
        ("over.qcow2", &[], "over.qcow2: refers to another file (backing file or data file)\n"),
        (
            "none.raw",
            &[],
            "none.raw: No such file or directory (os error 2)\n  the file has to be on this node\n",
        ),
        ("bin", &[], "bin: is no regular file\n"),
        ("base.raw", &["--digest", "md5:00"], "is neither sha256:HEX nor sha512:HEX"),
        ("base.raw", &["--digest", &zero], "base.raw: digest is "),
    ] {
        fs::create_dir_all(scene.path("bin")).unwrap();
        let path = scene.path(file).display().to_string();
        let (exit, said) = scene.pc_vm("n1", &root, &[&["import", "mail", &path], more].concat());
        assert_eq!((exit, said.contains(says)), (2, true), "{file}: {said}");
        assert_eq!(names(&directory), [] as [&str; 0], "{file}");
    }
    let path = scene.path("base.raw").display().to_string();
    let (exit, said) = scene.pc_vm("n1", &root, &["import", "web", &path]);
    assert_eq!((exit, said.contains("no [vm] is called \"web\": the file has mail")), (2, true), "{said}");
}

#[test]
fn nothing_is_imported_beside_a_guest_that_may_run() {
    needs_an_idle_vm(&["import", "mail", "FILE"], "pc-vm import mail FILE", |_| {});
}

/// Where every node has a volume of its own, the disk is made at home, and only when no other node has one.
#[test]
fn a_disk_on_a_local_volume_is_imported_at_home() {
    let scene = quiet("use = \"local\"");
    image(&scene);
    let path = scene.path("base.raw").display().to_string();
    let (exit, said) = scene.pc_vm("n2", &scene.root("n2"), &["import", "mail", &path]);
    assert_eq!(exit, 2, "{said}");
    let says = format!("of its own, and this is n2\n  on n1: pc-vm import mail {path}\n");
    assert!(said.ends_with(&says), "{said}");
    let (exit, said) = scene.pc_vm("n1", &scene.root("n1"), &["import", "mail", &path]);
    assert_eq!((exit, said.contains("made its disk of 8MiB out of")), (0, true), "{said}");
}
