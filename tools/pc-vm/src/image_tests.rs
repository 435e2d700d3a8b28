use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use pc_cli::{Refused, TryAgain};
use xshell::{Shell, cmd};

use super::*;

const MIB: u64 = 1 << 20;

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let place = Place { directory: tempfile::tempdir().unwrap() };
        std::fs::create_dir(place.path("vm")).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// 3 MiB of which the middle one is data.
    fn raw(&self) -> PathBuf {
        let path = self.path("base.raw");
        let mut file = File::create(&path).unwrap();
        file.set_len(3 * MIB).unwrap();
        std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(MIB)).unwrap();
        file.write_all(&vec![7; 1 << 20]).unwrap();
        path
    }

    fn make(&self, image: Option<&Image>, mib: u64) -> Result<bool> {
        let cache = self.path("cache");
        let source =
            Source { image: image.map(|image| ("base", image)), size: Bytes(mib * MIB), cache: &cache };
        create_disk(source, &self.path("vm/disk.img"))
    }

    fn files(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.path("vm"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn assert_is_copy(&self, mib: u64) {
        assert_eq!(self.files(), ["disk.img"]);
        let disk = std::fs::read(self.path("vm/disk.img")).unwrap();
        let base = std::fs::read(self.path("base.raw")).unwrap();
        assert_eq!(disk.len() as u64, mib * MIB);
        assert_eq!(disk[..base.len()], base);
        assert!(disk[base.len()..].iter().all(|byte| *byte == 0));
        let meta = std::fs::metadata(self.path("vm/disk.img")).unwrap();
        assert!(meta.blocks() * 512 < 2 * MIB, "{} blocks: not sparse", meta.blocks());
        assert_eq!(meta.permissions().mode() & 0o777, 0o600);
        assert_eq!(meta.nlink(), 1);
    }
}

fn image(source: &Path, digest: Option<String>) -> Image {
    Image { source: source.display().to_string(), digest }
}

fn sum(program: &str, path: &Path) -> String {
    let sh = Shell::new().unwrap();
    let line = cmd!(sh, "{program} {path}").read().unwrap();
    format!("{}:{}", program.trim_end_matches("sum"), line.split(' ').next().unwrap())
}

#[test]
fn a_raw_image_is_copied_and_grown() {
    let place = Place::new();
    let base = place.raw();
    let digest = Some(sum("sha512sum", &base));
    assert!(place.make(Some(&image(&base, digest)), 8).unwrap());
    place.assert_is_copy(8);
}

#[test]
fn a_qcow2_image_becomes_raw() {
    let place = Place::new();
    let (base, qcow2) = (place.raw(), place.path("base.qcow2"));
    let sh = Shell::new().unwrap();
    cmd!(sh, "qemu-img convert -c -f raw -O qcow2 {base} {qcow2}").run().unwrap();
    assert!(place.make(Some(&image(&qcow2, Some(sum("sha256sum", &qcow2)))), 3).unwrap());
    place.assert_is_copy(3);
}

#[test]
fn no_image_gives_an_empty_disk() {
    let place = Place::new();
    assert!(place.make(None, 5).unwrap());
    let meta = std::fs::metadata(place.path("vm/disk.img")).unwrap();
    assert_eq!((meta.len(), meta.blocks()), (5 * MIB, 0));
}

#[test]
fn an_existing_disk_is_never_touched() {
    let place = Place::new();
    std::fs::write(place.path("vm/disk.img"), "precious").unwrap();
    let base = place.raw();
    assert!(!place.make(Some(&image(&base, None)), 8).unwrap());
    assert_eq!(std::fs::read(place.path("vm/disk.img")).unwrap(), b"precious");
    // Not even a dangling link is replaced.
    std::fs::remove_file(place.path("vm/disk.img")).unwrap();
    std::os::unix::fs::symlink("/nonexistent", place.path("vm/disk.img")).unwrap();
    assert!(!place.make(Some(&image(&base, None)), 8).unwrap());
}

#[test]
fn refuses_what_is_not_the_image_meant() {
    let place = Place::new();
    let base = place.raw();
    let refused = |image: &Image, mib: u64, words: &str| {
        let error = place.make(Some(image), mib).unwrap_err();
        assert!(error.chain().any(<dyn std::error::Error>::is::<Refused>), "{error:#}");
        assert!(format!("{error:#}").contains(words), "{error:#}");
        assert_eq!(place.files(), Vec::<String>::new());
    };
    refused(&image(&base, Some(format!("sha256:{}", "0".repeat(64)))), 8, "digest is");
    refused(&image(&base, Some("md5:00".into())), 8, "neither sha256:HEX nor sha512:HEX");
    refused(&image(&base, None), 2, "image.base: is 3MiB, larger than the VM's disk of 2MiB");
    refused(&image(&place.path("nothing"), None), 8, "is not a file on this node");
    let sh = Shell::new().unwrap();
    let overlay = place.path("overlay.qcow2");
    cmd!(sh, "qemu-img create -q -f qcow2 -F raw -b {base} {overlay}").run().unwrap();
    refused(&image(&overlay, None), 8, "refers to another file");
    let vdi = place.path("base.vdi");
    cmd!(sh, "qemu-img convert -f raw -O vdi {base} {vdi}").run().unwrap();
    refused(&image(&vdi, None), 8, "is a VirtualBox disk (VDI), not raw, qcow2, VMDK or an OVA");
}

/// What a power cut in the middle of a copy leaves: no disk, and the next attempt begins anew.
#[test]
fn an_interrupted_copy_is_not_a_disk() {
    let place = Place::new();
    std::fs::write(place.path("vm/.disk.img.4711"), "half a copy").unwrap();
    let base = place.raw();
    assert!(place.make(Some(&image(&base, None)), 8).unwrap());
    place.assert_is_copy(8);
}

/// Answers each connection with the next of `bodies`, and claims `length` bytes.
fn serve(length: usize, bodies: Vec<Vec<u8>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/base.img", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for body in bodies {
            let (mut connection, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let _ = connection.read(&mut request).unwrap();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            connection.write_all(head.as_bytes()).unwrap();
            connection.write_all(&body).unwrap();
        }
    });
    url
}

#[test]
fn a_download_is_checked_and_kept() {
    let place = Place::new();
    let base = std::fs::read(place.raw()).unwrap();
    let url = serve(base.len(), vec![base]);
    let image = Image { source: url, digest: Some(sum("sha256sum", &place.path("base.raw"))) };
    assert!(place.make(Some(&image), 8).unwrap());
    place.assert_is_copy(8);
    // The server has gone; the copy is still here.
    std::fs::remove_file(place.path("vm/disk.img")).unwrap();
    assert!(place.make(Some(&image), 8).unwrap());
    place.assert_is_copy(8);
    assert_eq!(std::fs::read_dir(place.path("cache")).unwrap().count(), 1);
}

#[test]
fn a_truncated_download_may_succeed_later() {
    let place = Place::new();
    let base = std::fs::read(place.raw()).unwrap();
    let url = serve(base.len(), vec![base[..base.len() / 2].to_vec(), base.clone()]);
    let image = Image { source: url, digest: Some(sum("sha256sum", &place.path("base.raw"))) };
    let error = place.make(Some(&image), 8).unwrap_err();
    assert!(error.chain().any(<dyn std::error::Error>::is::<TryAgain>), "{error:#}");
    assert_eq!(place.files(), Vec::<String>::new());
    assert_eq!(std::fs::read_dir(place.path("cache")).unwrap().count(), 0);
    assert!(place.make(Some(&image), 8).unwrap());
    place.assert_is_copy(8);
}

#[test]
fn a_download_of_something_else_is_refused_and_thrown_away() {
    let place = Place::new();
    place.raw();
    let url = serve(4, vec![b"evil".to_vec()]);
    let image = Image { source: url, digest: Some(sum("sha256sum", &place.path("base.raw"))) };
    let error = place.make(Some(&image), 8).unwrap_err();
    assert!(error.chain().any(<dyn std::error::Error>::is::<Refused>), "{error:#}");
    assert_eq!(std::fs::read_dir(place.path("cache")).unwrap().count(), 0);
    assert_eq!(place.files(), Vec::<String>::new());
}

#[test]
fn a_cached_copy_that_rotted_is_fetched_again() {
    let place = Place::new();
    let base = std::fs::read(place.raw()).unwrap();
    let digest = sum("sha256sum", &place.path("base.raw"));
    std::fs::create_dir(place.path("cache")).unwrap();
    std::fs::write(place.path("cache").join(digest.replace(':', "-")), "rotten").unwrap();
    let image = Image { source: serve(base.len(), vec![base]), digest: Some(digest) };
    assert!(place.make(Some(&image), 8).unwrap());
    place.assert_is_copy(8);
}

#[test]
fn a_url_without_digest_and_a_dead_server() {
    let place = Place::new();
    let source = "http://127.0.0.1:1/base.img".to_string();
    let error = place.make(Some(&Image { source: source.clone(), digest: None }), 8).unwrap_err();
    assert!(error.chain().any(<dyn std::error::Error>::is::<Refused>), "{error:#}");
    let digest = Some(format!("sha256:{}", "0".repeat(64)));
    let error = place.make(Some(&Image { source, digest }), 8).unwrap_err();
    assert!(error.chain().any(<dyn std::error::Error>::is::<TryAgain>), "{error:#}");
}
