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
