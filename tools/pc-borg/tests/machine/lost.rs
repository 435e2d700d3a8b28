//! A VM that has lost everything but its archives, and the block layer of the real QEMU for what its guest does.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::{DISK, Machine, disk, wait_for};

/// Backed up, and then everything of it is lost.
pub fn lost() -> Machine {
    let machine = Machine::ready();
    machine.ok(&["backup", "mail"]);
    fs::remove_dir_all(directory(&machine)).unwrap();
    machine
}

pub fn directory(machine: &Machine) -> PathBuf {
    machine.disk_of("mail").parent().unwrap().to_path_buf()
}

pub fn names(machine: &Machine) -> Vec<String> {
    let entries = fs::read_dir(directory(machine)).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// What the guest does with its drive.
pub fn guest(machine: &Machine, commands: &[&str]) -> String {
    let mut command = Command::new("qemu-io");
    command.args(["-f", "raw"]);
    for asked in commands {
        command.args(["-c", asked]);
    }
    let drive = format!("nbd+unix:///vda?socket={}", machine.at("guest.nbd").display());
    let output = command.arg(drive).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8(said).unwrap()
}

pub fn pid(machine: &Machine) -> Option<String> {
    let pid = fs::read_to_string(machine.at("guest.pid")).ok()?.trim().to_string();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    (!stat.rsplit_once(')')?.1.trim_start().starts_with(['Z', 'X'])).then_some(pid)
}

/// Its plug is pulled at the end of a test, however that ends.
pub struct Plug<'a>(pub &'a Machine);

impl Drop for Plug<'_> {
    fn drop(&mut self) {
        if let Some(pid) = pid(self.0) {
            let _ = Command::new("kill").args(["-KILL", &pid]).status();
        }
    }
}

/// The guest runs, and its disk is being copied.
pub fn begun(machine: &Machine) -> Child {
    begun_with(machine, &[])
}

pub fn begun_with(machine: &Machine, more: &[&str]) -> Child {
    let _ = fs::remove_file(machine.at("virsh.log"));
    let mut command = machine.command(&[&["instant", "mail", "--json"], more].concat());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("the copy", || {
        assert!(child.try_wait().unwrap().is_none(), "ended before it copied anything");
        machine.virsh().contains(&"blockcopy".to_string())
            && directory(machine).join("disk.img.restoring").exists()
    });
    child
}

pub fn no_one_shows_anything(machine: &Machine) -> bool {
    !machine.root().join("run/personal-cluster/instant/mail").exists()
}

/// What was backed up, and what the guest has written since.
pub fn expected(written: &[(usize, u8)]) -> Vec<u8> {
    let mut content = disk(1, DISK);
    for (at, byte) in written {
        content[*at..*at + 4096].fill(*byte);
    }
    content
}

pub fn is_whole(machine: &Machine, written: &[(usize, u8)]) {
    assert!(fs::read(machine.disk_of("mail")).unwrap() == expected(written), "another disk");
    assert_eq!(names(machine), ["disk.img", "nvram.fd"]);
    assert!(no_one_shows_anything(machine));
}
