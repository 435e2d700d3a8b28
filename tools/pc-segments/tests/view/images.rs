//! Images of every size and kind are shown byte for byte.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::lab::{Lab, Random, SEGMENT, cat, mounted, ok, signal, wait};

#[test]
fn disks_of_any_size_are_their_segments() {
    let mut random = Random(1);
    let mut sizes = vec![0, 1, 511, SEGMENT - 1, SEGMENT, SEGMENT + 1, 3 * SEGMENT];
    sizes.extend((0..8).map(|_| random.below(6 * SEGMENT)));
    for size in sizes {
        let lab = Lab::new();
        let content = random.bytes(size);
        lab.image(&content);
        let child = mounted(lab.segments());
        assert_eq!(cat(&lab.view().join("vda")), content, "{size} bytes");
        assert_eq!(std::fs::read_dir(lab.view().join("vda")).unwrap().count(), size.div_ceil(SEGMENT));
        let mut check = Command::new("sha256sum");
        check.args(["--quiet", "--check", "vda.sha256"]).current_dir(lab.view());
        // sha256sum refuses a list without a line.
        if size > 0 {
            ok(&check.output().unwrap());
        }
        assert!(std::fs::write(lab.view().join("vda/0000000000"), "x").is_err(), "read-only");
        signal(&child, nix::sys::signal::Signal::SIGTERM);
        ok(&wait(child));
    }
}

#[test]
fn holes_cost_nothing() {
    let lab = Lab::new();
    let file = std::fs::File::create(lab.path("vda.img")).unwrap();
    file.set_len(256 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"data", 100 << 20).unwrap();
    let mut command = lab.segments();
    command.args(["--", "sh", "-c", "cat \"$0\"/vda/* > \"$1\""]).arg(lab.view()).arg(lab.path("copy"));
    ok(&command.output().unwrap());
    let report = lab.report();
    assert_eq!(report["read_bytes"], SEGMENT);
    assert_eq!(report["served_bytes"], 256 << 20);
    ok(&Command::new("cmp").arg(lab.path("copy")).arg(lab.path("vda.img")).output().unwrap());
}

#[test]
fn several_disks_in_one_view_have_inodes_that_stay() {
    let lab = Lab::new();
    std::fs::write(lab.path("a.img"), [1; 100]).unwrap();
    std::fs::write(lab.path("b.img"), vec![2; SEGMENT + 1]).unwrap();
    let inodes = |images: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pc-segments"));
        command.args(images.iter().map(|name| lab.path(name))).arg(lab.view()).args(["--segment", "64KiB"]);
        command.stdin(Stdio::null());
        let child = mounted(command);
        let inode = |name: &str| std::fs::metadata(lab.view().join(name)).unwrap().ino();
        let found = (inode("a/0000000000"), inode("b/0000000001"));
        signal(&child, nix::sys::signal::Signal::SIGINT);
        ok(&wait(child));
        found
    };
    assert_eq!(inodes(&["a.img", "b.img"]), inodes(&["b.img", "a.img"]));
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serve(image: &Path, socket: &Path) -> Server {
    let mut command = Command::new("qemu-nbd");
    command.args([
        "--read-only",
        "--format=raw",
        "--persistent",
        "--shared=4",
        "--export-name=disk one",
        "--socket",
    ]);
    let server = Server(command.arg(socket).arg(image).spawn().unwrap());
    let until = Instant::now() + Duration::from_secs(20);
    while !socket.exists() {
        assert!(Instant::now() < until, "qemu-nbd does not start");
        std::thread::sleep(Duration::from_millis(5));
    }
    server
}

#[test]
fn an_nbd_export_is_read_without_its_holes() {
    let lab = Lab::new();
    // qemu-nbd rounds up to 512 bytes.
    let mut content = vec![0; 20 * SEGMENT + 512];
    content[3 * SEGMENT..4 * SEGMENT].fill(7);
    content[20 * SEGMENT + 511] = 9;
    let file = std::fs::File::create(lab.path("raw")).unwrap();
    file.set_len(content.len() as u64).unwrap();
    for (at, part) in content.chunks(512).enumerate().filter(|(_, part)| part.iter().any(|byte| *byte != 0)) {
        std::os::unix::fs::FileExt::write_all_at(&file, part, at as u64 * 512).unwrap();
    }
    let socket = lab.path("a b,c");
    let _server = serve(&lab.path("raw"), &socket);
    let mut command = Command::new(env!("CARGO_BIN_EXE_pc-segments"));
    let encoded = socket.display().to_string().replace(' ', "%20");
    command.arg(format!("vda=nbd+unix:///disk%20one?socket={encoded}")).arg(lab.view());
    command.arg("--report").arg(lab.path("report")).args(["--segment", "64KiB"]).stdin(Stdio::null());
    let child = mounted(command);
    assert_eq!(cat(&lab.view().join("vda")), content);
    signal(&child, nix::sys::signal::Signal::SIGTERM);
    ok(&wait(child));
    assert_eq!(lab.report()["read_bytes"], SEGMENT + 512);
}

#[test]
fn qcow2_is_what_its_guest_sees_and_is_never_guessed() {
    let lab = Lab::new();
    let content = Random(3).bytes(5 * SEGMENT);
    let raw = lab.image(&content);
    let qcow2 = lab.path("disk.qcow2");
    ok(&Command::new("qemu-img")
        .args(["convert", "-O", "qcow2", "-c"])
        .arg(&raw)
        .arg(&qcow2)
        .output()
        .unwrap());
    let shown = |image: String| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pc-segments"));
        command.arg(format!("vda={image}")).arg(lab.view()).stdin(Stdio::null());
        let child = mounted(command);
        let shown = cat(&lab.view().join("vda"));
        let socket = std::env::temp_dir().join(format!("pc-nbd-{}-0", child.id()));
        assert!(!socket.exists(), "nothing that a kill could leave");
        signal(&child, nix::sys::signal::Signal::SIGKILL);
        wait(child);
        let until = Instant::now() + Duration::from_secs(20);
        while is_served(&qcow2) {
            assert!(Instant::now() < until, "qemu-nbd outlives its only client");
            std::thread::sleep(Duration::from_millis(5));
        }
        shown
    };
    assert_eq!(shown(format!("qcow2:{}", qcow2.display())), content);
    assert_eq!(shown(qcow2.display().to_string()), std::fs::read(&qcow2).unwrap());
}

/// Some qemu-nbd has this image.
fn is_served(image: &Path) -> bool {
    let processes = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok());
    let name = image.to_str().unwrap();
    processes
        .into_iter()
        .any(|line| line.starts_with(b"qemu-nbd") && String::from_utf8_lossy(&line).contains(name))
}
