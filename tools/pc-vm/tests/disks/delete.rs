use std::fs;
use std::path::Path;
use std::process::Command;

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
    let lock = "import fcntl,struct,sys,time\nf=open(sys.argv[1],'r+')\n\
                l=struct.pack('hhqqhh',fcntl.F_RDLCK,0,101,1,0,0)\nfcntl.fcntl(f,37,l)\n\
                l=struct.pack('hhqqhh',fcntl.F_RDLCK,0,201,1,0,0)\nfcntl.fcntl(f,37,l)\n\
                print('held',flush=True); time.sleep(60)";
    let mut holder = Command::new("python3")
        .args(["-c", lock])
        .arg(directory.join("disk.img"))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(holder.stdout.as_mut().unwrap()), &mut line)
        .unwrap();
    assert_eq!(line, "held\n");
    let (exit, said) = scene.pc_vm("n1", &root, &DESTROY);
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert_eq!((exit, said.contains("a QEMU has it open, whatever libvirt says")), (2, true), "{said}");
    assert_eq!(names(&directory), before);
    // Cut off after the disk went, it is carried to its end.
    fs::remove_file(directory.join("disk.img")).unwrap();
    let (exit, said) = scene.pc_vm("n1", &root, &DESTROY);
    assert_eq!((exit, directory.exists()), (0, false), "{said}");
}
