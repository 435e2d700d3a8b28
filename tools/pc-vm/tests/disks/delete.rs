use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command};

use crate::scene::{Scene, UUID, running};
use crate::{MIB, SHARED, answer, names, quiet};

/// Out of the file, and not in force any more.
fn without_mail(scene: &Scene) {
    let file = fs::read_to_string(scene.path("cluster.toml")).unwrap();
    let (before, after) = file.split_once("[vm.mail]").unwrap();
    let rest = &after[after.find("[[node]]").unwrap()..];
    fs::write(scene.path("cluster.toml"), format!("{before}{rest}")).unwrap();
}

/// What `pc-vm start` and pc-borg leave in a directory.
fn furnish(directory: &Path) {
    fs::create_dir_all(directory).unwrap();
    for name in [
        "seed.img",
        "nvram.fd",
        "domain.xml",
        "lock",
        "restored.json",
        "backup-frozen.json",
        ".nvram.fd.4711.0",
        ".backup-frozen.json.4711.0",
        ".disk.img.4711",
        "disk.img.restoring",
        "instant.qcow2",
        "instant.json",
        "instant.lock",
        "backup-scratch.daily.img",
    ] {
        fs::write(directory.join(name), name).unwrap();
    }
    fs::create_dir(directory.join("snapshots")).unwrap();
    for name in ["before.qcow2", "before.nvram.fd", ".later.qcow2.4711"] {
        fs::write(directory.join("snapshots").join(name), "QFI").unwrap();
    }
    fs::write(directory.join("disk.img"), vec![7; 8 * MIB]).unwrap();
}

/// As QEMU does (`image_lock.rs`), and as whoever copies a disk out of an archive.
const QEMU: &str = "for n in (101, 201): fcntl.fcntl(f,37,struct.pack('hhqqhh',fcntl.F_RDLCK,0,n,1,0,0))";
const COPIER: &str = "fcntl.lockf(f,fcntl.LOCK_EX)";

/// Another process that holds a lock on a file.
struct Holder(Child);

impl Holder {
    fn of(file: &Path, lock: &str) -> Holder {
        let script = format!(
            "import fcntl,struct,sys,time\nf=open(sys.argv[1],'r+')\n{lock}\nprint('held',flush=True); time.sleep(60)"
        );
        let mut holder = Command::new("python3")
            .args(["-c", &script])
            .arg(file)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "held\n");
        Holder(holder)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

const DESTROY: [&str; 5] = ["delete", "mail", "--volume", "vms", "--yes-destroy-its-disk"];

#[test]
fn a_disk_is_destroyed_only_when_its_vm_has_left_and_the_loss_is_named() {
    let scene = quiet(SHARED);
    let root = scene.root("shared");
    let directory = root.join("mnt/vms/vms/mail");
    furnish(&directory);
    let before = names(&directory);
    let (exit, said) = scene.pc_vm("n1", &root, &DESTROY);
    assert_eq!(exit, 2, "{said}");
    assert!(
        said.ends_with("vm mail: is in the file\n  take [vm.mail] out of it, then: pc-config push\n"),
        "{said}"
    );
    // Edited, and not pushed yet: its unit may start it any moment.
    let applied = root.join("var/lib/personal-cluster/applied.json");
    fs::create_dir_all(applied.parent().unwrap()).unwrap();
    let config = serde_json::json!({
        "schema": "personal-cluster/1", "name": "home", "vm": {"mail": {"memory": "64MiB", "disk": "8MiB", "volume": "vms"}}
    });
    fs::write(&applied, config.to_string()).unwrap();
    without_mail(&scene);
    let (exit, said) = scene.pc_vm("n1", &root, &DESTROY);
    assert_eq!(
        (exit, said.contains("vm mail: is in the file that was applied last\n  pc-config push\n")),
        (2, true),
        "{said}"
    );
    fs::remove_file(applied).unwrap();
    // Without the flag: what would be lost, and the whole command.
    let (exit, said) = scene.pc_vm("n1", &root, &["delete", "mail"]);
    assert_eq!(exit, 2, "{said}");
    assert!(said.contains("/disk.img, 8MiB of which 8 MiB are in use, last written to 2"), "{said}");
    assert!(
        said.ends_with(", would be lost\n  pc-vm delete mail --volume vms --yes-destroy-its-disk\n"),
        "{said}"
    );
    // Something that none of us put there.
    for place in ["notes", "snapshots/notes", "snapshots/before.img"] {
        fs::write(directory.join(place), "mine").unwrap();
        let (exit, said) = scene.pc_vm("n1", &root, &DESTROY);
        let says = format!("{place}: was not made by pc-vm or pc-borg\n  move it away\n");
        assert_eq!((exit, said.contains(&says)), (2, true), "{said}");
        fs::remove_file(directory.join(place)).unwrap();
    }
    // A directory is nobody's, whatever it is called.
    fs::create_dir(directory.join("snapshots/mine.qcow2")).unwrap();
    assert_eq!(scene.pc_vm("n1", &root, &DESTROY).0, 2);
    fs::remove_dir(directory.join("snapshots/mine.qcow2")).unwrap();
    // Nor is what a link leads to.
    let elsewhere = scene.path("elsewhere");
    fs::rename(directory.join("snapshots"), &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, directory.join("snapshots")).unwrap();
    assert_eq!(scene.pc_vm("n1", &root, &DESTROY).0, 2);
    fs::remove_file(directory.join("snapshots")).unwrap();
    fs::rename(&elsewhere, directory.join("snapshots")).unwrap();
    assert_eq!(names(&directory), before);
    assert_eq!(names(&directory.join("snapshots")).len(), 3);
    let (exit, said) = scene.pc_vm("n1", &root, &[&DESTROY[..], &["--json"]].concat());
    assert_eq!(exit, 0, "{said}");
    assert!(said.contains("removed vm mail: "), "{said}");
    let answer = answer(&said);
    assert_eq!((&answer["did"], &answer["size_bytes"]), (&"deleted".into(), &(8 * MIB).into()));
    assert!(!directory.exists() && directory.parent().unwrap().exists());
    let (exit, said) = scene.pc_vm("n1", &root, &DESTROY);
    assert_eq!((exit, said.contains("vm mail: has no directory on a volume")), (2, true), "{said}");
}

/// Its definition has left the file while it ran: `apply` leaves it alone, and so does this.
#[test]
fn a_disk_is_not_destroyed_under_a_guest_that_may_run() {
    let prepare = |root: &Path| furnish(&root.join("mnt/vms/vms/mail"));
    let scene = quiet(SHARED);
    let root = scene.root("shared");
    prepare(&root);
    without_mail(&scene);
    let directory = root.join("mnt/vms/vms/mail");
    let before = names(&directory);
    for node in ["n1", "n2"] {
        scene.libvirt(node, Some(&running("mail", UUID)));
        let (exit, said) = scene.pc_vm("n1", &root, &DESTROY);
        assert_eq!((exit, said.contains(&format!("vm mail: runs on {node}\n"))), (2, true), "{said}");
        scene.libvirt(node, Some(""));
    }
    // No record: every node has to answer.
    scene.libvirt("n3", None);
    let (exit, said) = scene.pc_vm("n1", &root, &DESTROY);
    assert_eq!(exit, 75, "{said}");
    let remedy = "certain: pc-vm delete mail --volume vms --yes-destroy-its-disk --owner-is-dead n3\n";
    assert!(said.ends_with(remedy), "{said}");
    assert_eq!(names(&directory), before);
    // What was started around us: QEMU locks its image, which any QEMU respects.
    scene.libvirt("n3", Some(""));
    for image in ["disk.img", "instant.qcow2"] {
        let _qemu = Holder::of(&directory.join(image), QEMU);
        let (exit, said) = scene.pc_vm("n1", &root, &DESTROY);
        let says = "a QEMU has it open, whatever libvirt says";
        assert_eq!((exit, said.contains(&format!("{image}: {says}"))), (2, true), "{said}");
        assert_eq!(names(&directory), before);
    }
    // Cut off after the disk went, it is carried to its end.
    fs::remove_file(directory.join("disk.img")).unwrap();
    let (exit, said) = scene.pc_vm("n1", &root, &DESTROY);
    assert_eq!((exit, directory.exists()), (0, false), "{said}");
}

/// What pc-borg instant has left: until the disk is whole the overlay is all that there is.
#[test]
fn what_a_guest_wrote_over_an_archive_is_named_before_it_is_lost() {
    let scene = quiet(SHARED);
    let root = scene.root("shared");
    without_mail(&scene);
    let directory = root.join("mnt/vms/vms/mail");
    let note = |whole: bool| {
        let note = serde_json::json!({
            "schema": "pc.borg.instant/1", "vm": "mail", "node": "n2", "archive": "mail.2026-01-01T00:00:00Z", "whole": whole
        });
        fs::write(directory.join("instant.json"), note.to_string()).unwrap();
    };
    fs::create_dir_all(&directory).unwrap();
    note(false);
    fs::write(directory.join("instant.qcow2"), vec![7; 3 * MIB]).unwrap();
    for name in ["instant.lock", "lock"] {
        fs::write(directory.join(name), "").unwrap();
    }
    let before = names(&directory);
    let (exit, said) = scene.pc_vm("n1", &root, &["delete", "mail"]);
    let lost = "vm mail: all that its guest has written since it runs out of mail.2026-01-01T00:00:00Z: ";
    assert!(exit == 2 && said.contains(lost), "{said}");
    assert!(said.contains("/instant.qcow2, of which 3 MiB are in use, last written to 2"), "{said}");
    assert!(!said.contains("without a disk") && said.contains(", would be lost\n"), "{said}");
    {
        let _copier = Holder::of(&directory.join("instant.lock"), COPIER);
        let (exit, said) = scene.pc_vm("n1", &root, &DESTROY);
        assert_eq!(
            (exit, said.contains("vm mail: pc-borg instant is copying its disk\n")),
            (75, true),
            "{said}"
        );
    }
    assert_eq!(names(&directory), before);
    // Whole: what lies beside it is of no use any more.
    note(true);
    fs::write(directory.join("disk.img"), vec![7; 8 * MIB]).unwrap();
    let (exit, said) = scene.pc_vm("n1", &root, &["delete", "mail"]);
    assert!(exit == 2 && said.contains("/disk.img, 8MiB of which") && !said.contains("its guest"), "{said}");
    let (exit, said) = scene.pc_vm("n1", &root, &DESTROY);
    assert_eq!((exit, directory.exists()), (0, false), "{said}");
}
