//! What makes, copies, grows and removes disks, with real images: never over a disk that exists, never beside a guest that
//! may run.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod copies;
mod delete;
mod import;
#[path = "../scene/mod.rs"]
mod scene;
mod size;
mod snapshots;

use std::fs;
use std::path::Path;
use std::process::Command;

use scene::{NODES, Scene, UUID, running, set_owner};

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
    let named = |text: &str| text.replace("FILE", &file);
    let arguments: Vec<String> = verb.iter().map(|word| named(word)).collect();
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
    let remedy = format!("switched off for certain: {} --owner-is-dead n3\n", named(command));
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

/// The file gives `mail` a disk of this size from now on.
fn wanted(scene: &Scene, size: &str) {
    let file = fs::read_to_string(scene.path("cluster.toml")).unwrap();
    let (before, after) = file.split_once("disk = \"").unwrap();
    let rest = after.split_once('"').unwrap().1;
    fs::write(scene.path("cluster.toml"), format!("{before}disk = \"{size}\"{rest}")).unwrap();
}
