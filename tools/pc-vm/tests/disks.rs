//! What makes, copies, grows and removes disks, with real images: never over a disk that exists, never beside a guest that
//! may run.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod scene;

use std::fs;
use std::path::Path;
use std::process::Command;

use scene::{NODES, Scene, UUID, owner, running, set_owner};

const SHARED: &str = "use = \"vm\"\nreplicas = 3";
const MIB: usize = 1 << 20;

/// All nodes answer that nothing runs there.
fn quiet(volume: &str) -> Scene {
    let scene = Scene::new(volume);
    for node in NODES {
        scene.libvirt(node, Some(""));
    }
    scene
}

/// 3 MiB of which the second one is sevens.
fn image(scene: &Scene) -> Vec<u8> {
    let mut bytes = vec![0; 3 * MIB];
    bytes[MIB..2 * MIB].fill(7);
    fs::write(scene.path("base.raw"), &bytes).unwrap();
    bytes
}

fn qemu_img(arguments: &[&str], place: &Path) {
    assert!(Command::new("qemu-img").args(arguments).current_dir(place).status().unwrap().success());
}

fn names(directory: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> = fs::read_dir(directory).unwrap().map(name).collect();
    names.sort();
    names
}

/// The one JSON object among what was said.
fn answer(said: &str) -> serde_json::Value {
    serde_json::from_str(&said[said.find("\n{").map_or(0, |at| at + 1)..]).unwrap()
}

/// What `start` would refuse is refused here, with what to type next.
fn needs_an_idle_vm(verb: &[&str], command: &str, prepare: impl Fn(&Path)) {
    let scene = quiet(SHARED);
    image(&scene);
    let root = scene.root("shared");
    prepare(&root);
    let file = scene.path("base.raw").display().to_string();
    let fill = |text: &str| text.replace("FILE", &file);
    let arguments: Vec<String> = verb.iter().map(|word| fill(word)).collect();
    let run = |more: &[&str]| {
        let mut all: Vec<&str> = arguments.iter().map(String::as_str).collect();
        all.extend(more);
        scene.pc_vm("n1", &root, &all)
    };
    let mail = running("mail", UUID);
    for node in ["n1", "n2"] {
        scene.libvirt(node, Some(&mail));
        let (exit, said) = run(&[]);
        let says = format!("vm mail: runs on {node}\n  pc-vm stop mail\n");
        assert_eq!((exit, said.ends_with(&says)), (2, true), "{said}");
        scene.libvirt(node, Some(""));
    }
    // libvirt has forgotten it, and the kernel has not.
    fs::create_dir_all(root.join("proc/4711/task/4711")).unwrap();
    let qemu = format!("/usr/bin/qemu-system-x86_64\0-name\0guest=mail\0-uuid\0{UUID}\0");
    fs::write(root.join("proc/4711/cmdline"), qemu).unwrap();
    assert_eq!(run(&[]).0, 2);
    fs::remove_dir_all(root.join("proc/4711")).unwrap();
    // Its owner is silent.
    set_owner(&root, &serde_json::json!({"node": "n3"}));
    scene.libvirt("n3", None);
    let (exit, said) = run(&[]);
    assert_eq!((exit, said.contains("vm mail: n3 owns it and does not answer")), (75, true), "{said}");
    let remedy = format!("switched off for certain: {} --owner-is-dead n3\n", fill(command));
    assert!(said.ends_with(&remedy), "{said}");
    let (exit, said) = run(&["--owner-is-dead", "n1"]);
    assert_eq!((exit, said.contains("this is n1, and it is alive")), (2, true), "{said}");
    // Whoever says that it runs there is believed more.
    scene.libvirt("n2", Some(&mail));
    assert_eq!(run(&["--owner-is-dead", "n3"]).0, 2);
    // The volume is not there: nothing is written below an empty mount point.
    fs::write(root.join("proc/self/mountinfo"), "").unwrap();
    let (exit, said) = run(&[]);
    assert_eq!((exit, said.contains("/mnt/vms is not mounted")), (75, true), "{said}");
}

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
        ".disk.img.4711",
        "disk.img.restoring",
        "backup-scratch.daily.img",
    ] {
        fs::write(directory.join(name), name).unwrap();
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
    fs::write(directory.join("notes"), "mine").unwrap();
    let (exit, said) = scene.pc_vm("n1", &root, &DESTROY);
    assert_eq!(
        (exit, said.contains("notes: was not made by pc-vm or pc-borg\n  move it away\n")),
        (2, true),
        "{said}"
    );
    fs::remove_file(directory.join("notes")).unwrap();
    assert_eq!(names(&directory), before);
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

/// The file gives `mail` a disk of this size from now on.
fn wanted(scene: &Scene, size: &str) {
    let file = fs::read_to_string(scene.path("cluster.toml")).unwrap();
    let (before, after) = file.split_once("disk = \"").unwrap();
    let rest = after.split_once('"').unwrap().1;
    fs::write(scene.path("cluster.toml"), format!("{before}disk = \"{size}\"{rest}")).unwrap();
}

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
    assert_eq!(fs::metadata(&disk).unwrap().len() as usize, 10 * MIB);
    // Smaller in the file: refused by name, and no reason not to start.
    wanted(&scene, "8MiB");
    let (exit, said) = scene.pc_vm("n1", &root, &["resize", "mail"]);
    assert_eq!(exit, 2, "{said}");
    let says = "vm mail: its disk has 10MiB, the file gives it 8MiB, and no disk is made smaller\n  disk = \"10MiB\" in [vm.mail]\n";
    assert!(said.ends_with(says), "{said}");
    let (exit, said) = scene.pc_vm("n1", &root, &["start", "mail"]);
    assert_eq!((exit, said.contains("and no disk is made smaller")), (0, true), "{said}");
    assert_eq!(fs::metadata(&disk).unwrap().len() as usize, 10 * MIB);
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
    assert_eq!(fs::metadata(&disk).unwrap().len() as usize, 8 * MIB);
    scene.libvirt("n2", Some(""));
    scene.libvirt("n3", None);
    set_owner(&root, &serde_json::json!({"node": "n3"}));
    let (exit, said) = scene.pc_vm("n1", &root, &["resize", "mail"]);
    assert_eq!(exit, 75, "{said}");
    assert!(said.ends_with("certain: pc-vm resize mail --owner-is-dead n3\n"), "{said}");
    assert_eq!(fs::metadata(&disk).unwrap().len() as usize, 8 * MIB);
    let (exit, said) = scene.pc_vm("n1", &root, &["resize", "mail", "--owner-is-dead", "n3"]);
    assert_eq!((exit, fs::metadata(&disk).unwrap().len() as usize), (0, 9 * MIB), "{said}");
}

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
