use std::fs;
use std::path::Path;

use crate::scene::{Scene, UUID, running};
use crate::{MIB, SHARED, answer, image, names, needs_an_idle_vm, qemu_img, quiet};

#[test]
fn a_disk_is_copied_into_a_file() {
    let scene = quiet(SHARED);
    let base = image(&scene);
    let root = scene.root("shared");
    let disk = root.join("mnt/vms/vms/mail/disk.img");
    fs::write(&disk, &base).unwrap();
    let to = scene.path("mail.qcow2").display().to_string();
    let (exit, said) = scene.pc_vm("n2", &root, &["export", "mail", &to, "--json"]);
    assert_eq!(exit, 0, "{said}");
    let said = answer(&said);
    assert_eq!((&said["did"], &said["to"]), (&"exported".into(), &to.as_str().into()));
    assert_eq!(&fs::read(&to).unwrap()[..4], b"QFI\xfb");
    qemu_img(&["convert", "-f", "qcow2", "-O", "raw", "mail.qcow2", "back"], &scene.path(""));
    assert!(fs::read(scene.path("back")).unwrap() == base);
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&to).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let before = fs::read(&to).unwrap();
    let (exit, said) = scene.pc_vm("n1", &root, &["export", "mail", &to]);
    assert_eq!((exit, said.contains("mail.qcow2: is there, and is never written over")), (2, true), "{said}");
    assert!(fs::read(&to).unwrap() == before);
    let to = scene.path("mail.raw").display().to_string();
    let (exit, said) = scene.pc_vm("n1", &root, &["export", "mail", &to, "--format", "raw"]);
    assert_eq!((exit, fs::read(&to).unwrap() == base), (0, true), "{said}");
    let to = scene.path("nowhere/mail").display().to_string();
    assert_eq!(scene.pc_vm("n1", &root, &["export", "mail", &to]).0, 2);
    // What a guest wrote to its raw disk is never taken for an image that refers to other files.
    let place = scene.path("");
    qemu_img(&["create", "-q", "-f", "qcow2", "-F", "raw", "-b", "base.raw", "lure"], &place);
    fs::copy(scene.path("lure"), &disk).unwrap();
    fs::OpenOptions::new().write(true).open(&disk).unwrap().set_len(8 << 20).unwrap();
    let to = scene.path("lured").display().to_string();
    let (exit, said) = scene.pc_vm("n1", &root, &["export", "mail", &to, "--format", "raw"]);
    assert_eq!((exit, fs::read(&to).unwrap() == fs::read(&disk).unwrap()), (0, true), "{said}");
}

#[test]
fn nothing_is_copied_of_a_guest_that_may_run() {
    let disk = |root: &Path| fs::write(root.join("mnt/vms/vms/mail/disk.img"), vec![0; 8 * MIB]).unwrap();
    needs_an_idle_vm(&["export", "mail", "FILE.copy"], "pc-vm export mail FILE.copy", disk);
}

/// A second VM of the file, of this size.
fn with_copy(scene: &Scene, size: &str, more: &str) {
    let file = fs::read_to_string(scene.path("cluster.toml")).unwrap();
    let copy =
        format!("[vm.copy]\nmemory = \"64MiB\"\ndisk = \"{size}\"\nvolume = \"vms\"\nhome = \"n1\"\n{more}");
    fs::write(
        scene.path("cluster.toml"),
        file.replace("[[node]]\nname = \"n1\"", &format!("{copy}[[node]]\nname = \"n1\"")),
    )
    .unwrap();
}

#[test]
fn a_disk_is_cloned_for_another_vm() {
    let scene = quiet(SHARED);
    let base = image(&scene);
    with_copy(&scene, "4MiB", "");
    let root = scene.root("shared");
    let (mail, copy) = (root.join("mnt/vms/vms/mail"), root.join("mnt/vms/vms/copy"));
    fs::write(mail.join("disk.img"), &base).unwrap();
    fs::write(mail.join("nvram.fd"), "variables").unwrap();
    let (exit, said) = scene.pc_vm("n2", &root, &["clone", "mail", "copy", "--json"]);
    assert_eq!(exit, 0, "{said}");
    let said = answer(&said);
    assert_eq!(
        (&said["did"], &said["vm"], &said["from"]),
        (&"cloned".into(), &"copy".into(), &"mail".into())
    );
    let disk = fs::read(copy.join("disk.img")).unwrap();
    assert!(
        disk.len() == 4 * MIB
            && disk[..base.len()] == base
            && fs::read(mail.join("disk.img")).unwrap() == base
    );
    assert_eq!(names(&copy), ["disk.img", "lock", "nvram.fd"]);
    let (exit, said) = scene.pc_vm("n1", &root, &["clone", "mail", "copy"]);
    assert_eq!(
        (exit, said.contains("copy/disk.img is there, and is never written over")),
        (2, true),
        "{said}"
    );
    let (exit, said) = scene.pc_vm("n1", &root, &["clone", "mail", "mail"]);
    assert_eq!((exit, said.contains("vm mail: cannot be its own copy")), (2, true), "{said}");
}

#[test]
fn a_clone_that_would_not_fit_or_boot_is_refused() {
    let scene = quiet(SHARED);
    let root = scene.root("shared");
    with_copy(&scene, "4MiB", "");
    fs::write(root.join("mnt/vms/vms/mail/disk.img"), vec![0; 8 * MIB]).unwrap();
    let (exit, said) = scene.pc_vm("n1", &root, &["clone", "mail", "copy"]);
    assert_eq!(exit, 2, "{said}");
    let says = "vm copy: the file gives it a disk of 4MiB, and that of vm mail has 8MiB\n  disk = \"8MiB\" in [vm.copy]\n";
    assert!(said.ends_with(says), "{said}");
    let scene = quiet(SHARED);
    with_copy(&scene, "8MiB", "firmware = \"uefi\"\n");
    let root = scene.root("shared");
    fs::write(root.join("mnt/vms/vms/mail/disk.img"), vec![0; 8 * MIB]).unwrap();
    let (exit, said) = scene.pc_vm("n1", &root, &["clone", "mail", "copy"]);
    assert_eq!(
        (exit, said.ends_with("another firmware\n  firmware = \"bios\" in [vm.copy]\n")),
        (2, true),
        "{said}"
    );
    assert!(!root.join("mnt/vms/vms/copy/disk.img").exists());
}

#[test]
fn nothing_is_cloned_of_a_guest_that_may_run() {
    let scene = quiet(SHARED);
    let root = scene.root("shared");
    with_copy(&scene, "8MiB", "");
    fs::write(root.join("mnt/vms/vms/mail/disk.img"), vec![0; 8 * MIB]).unwrap();
    scene.libvirt("n2", Some(&running("mail", UUID)));
    let (exit, said) = scene.pc_vm("n1", &root, &["clone", "mail", "copy"]);
    assert_eq!((exit, said.ends_with("vm mail: runs on n2\n  pc-vm stop mail\n")), (2, true), "{said}");
    scene.libvirt("n2", None);
    let (exit, said) = scene.pc_vm("n1", &root, &["clone", "mail", "copy"]);
    assert_eq!(exit, 75, "{said}");
    assert!(said.ends_with("certain: pc-vm clone mail copy --owner-is-dead n2\n"), "{said}");
    assert!(!root.join("mnt/vms/vms/copy/disk.img").exists());
}
