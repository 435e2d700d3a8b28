//! Disks that hold something, made by the programs that make such disks; where those need a kernel driver,
//! by the bytes of their format.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// One kind of content.
pub struct Image {
    /// Name of the disk.
    pub name: &'static str,
    /// What a refusal has to say.
    pub word: &'static str,
    /// Makes it.
    pub make: fn(&Path),
}

/// Every kind that people have lost data of.
pub fn all() -> Vec<Image> {
    let image = |name, word, make| Image { name, word, make };
    vec![
        image("ext4", "ext4 file system \"family photos\"", |path| {
            file(path, 64);
            run("mkfs.ext4", &["-q", "-F", "-L", "family photos"], path);
        }),
        image("xfs", "xfs file system", |path| {
            file(path, 320);
            run("mkfs.xfs", &["-q", "-L", "data"], path);
        }),
        image("gluster", "GlusterFS data", gluster),
        image("swap", "swap", |path| {
            file(path, 64);
            run("mkswap", &[], path);
        }),
        image("gpt", "gpt partition table", |path| {
            file(path, 64);
            sfdisk(path, "label: gpt\n,\n");
        }),
        image("gpt-backup-only", "gpt", |path| {
            file(path, 64);
            sfdisk(path, "label: gpt\n,\n");
            // Somebody zeroed the start; the second table is still at the end.
            write(path, 0, &vec![0; 1 << 20]);
        }),
        image("dos", "dos partition table", |path| {
            file(path, 64);
            sfdisk(path, "label: dos\n,\n");
        }),
        // Their table is lost, and blkid sees nothing of them on the whole disk.
        image("partition-ext4", "data without a signature", |path| {
            file(path, 64);
            run("mkfs.ext4", &["-q", "-F", "-E", "offset=1048576"], path);
        }),
        image("partition-luks", "data without a signature", |path| {
            luks(path, "luks2");
            let inside = std::fs::read(path).unwrap();
            file(path, 96);
            write(path, 1 << 20, &inside);
        }),
        // Behind a Microsoft reserved partition, and at a place of nobody's choice.
        image("late-ext4", "data without a signature", |path| {
            file(path, 256);
            run("mkfs.ext4", &["-q", "-F", "-E", "offset=16777216"], path);
        }),
        image("later-xfs", "data without a signature", |path| {
            file(path, 512);
            let inside = tempfile::NamedTempFile::new().unwrap();
            inside.as_file().set_len(320 << 20).unwrap();
            run("mkfs.xfs", &["-q", "-f"], inside.path());
            write(path, 64 << 20, &std::fs::read(inside.path()).unwrap());
        }),
        image("luks1", "crypto_LUKS version 1", |path| luks(path, "luks1")),
        image("luks2", "crypto_LUKS version 2", |path| luks(path, "luks2")),
        image("luks2-second-header", "crypto_LUKS", |path| {
            luks(path, "luks2");
            write(path, 0, &[0; 4096]);
        }),
        image("lvm", "LVM2_member", lvm),
        image("raid", "linux_raid_member", raid),
        image("zfs", "zfs_member", zfs),
        image("random", "data without a signature", |path| {
            file(path, 64);
            // A plain dm-crypt volume looks like this: an arithmetic generator is random enough.
            let noise: Vec<u8> =
                (1_u32..65536).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
            write(path, 4096, &noise);
        }),
        image("tail", "data without a signature", |path| {
            file(path, 64);
            write(path, (64 << 20) - 9, b"something");
        }),
    ]
}

fn file(path: &Path, mebibytes: u64) {
    File::create(path).unwrap().set_len(mebibytes << 20).unwrap();
}

fn write(path: &Path, offset: u64, bytes: &[u8]) {
    File::options().write(true).open(path).unwrap().write_all_at(bytes, offset).unwrap();
}

fn run(program: &str, arguments: &[&str], path: &Path) {
    let output = Command::new(program).args(arguments).arg(path).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

fn with_stdin(program: &str, arguments: &[&str], path: &Path, stdin: &str) {
    use std::io::Write;
    let mut command = Command::new(program);
    command.args(arguments).arg(path).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"));
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{program}");
}

fn sfdisk(path: &Path, script: &str) {
    with_stdin("sfdisk", &["--quiet"], path, script);
}

fn luks(path: &Path, kind: &str) {
    file(path, 64);
    let cheap =
        ["luksFormat", "-q", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--key-file", "-"];
    with_stdin("cryptsetup", &[&cheap[..], &["--type", kind]].concat(), path, "secret");
}

/// A file system with `.glusterfs` at its top, by a prototype file (mkfs.xfs(8)).
fn gluster(path: &Path) {
    file(path, 320);
    let prototype = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(prototype.path(), "dummy\n0 0\nd--755 0 0\n.glusterfs d--700 0 0\n$\n$\n").unwrap();
    run("mkfs.xfs", &["-q", "-p", prototype.path().to_str().unwrap()], path);
}

/// The label sector that `pvcreate` of lvm2 2.03.16 wrote, at sector 1.
fn lvm(path: &Path) {
    file(path, 64);
    let mut sector = vec![0; 512];
    sector[..8].copy_from_slice(b"LABELONE");
    sector[8] = 1;
    sector[16..24].copy_from_slice(&[0x66, 0xb7, 0x22, 0xf6, 0x20, 0, 0, 0]);
    sector[24..64].copy_from_slice(b"LVM2 001ilTgtmQJuz4mtv9cb1x7iq62ZeKA4HSb");
    for (offset, byte) in [(67, 0x19), (74, 0x10), (105, 0x10), (113, 0xf0), (114, 0x0f), (136, 0x02)] {
        sector[offset] = byte;
    }
    write(path, 512, &sector);
}

/// A version 1.2 super block of md, at 4 KiB (Linux, `include/uapi/linux/raid/md_p.h`).
fn raid(path: &Path) {
    file(path, 64);
    let mut block = [0_u8; 256];
    block[..8].copy_from_slice(&[0xfc, 0x4e, 0x2b, 0xa9, 1, 0, 0, 0]);
    block[16..32].copy_from_slice(b"0123456789abcdef");
    block[32..38].copy_from_slice(b"node:0");
    block[72] = 1;
    block[80..88].copy_from_slice(&100_000_u64.to_le_bytes());
    block[92] = 2;
    block[144] = 8;
    let sum: u64 = block.chunks(4).map(|word| u64::from(u32::from_le_bytes(word.try_into().unwrap()))).sum();
    let folded = u32::try_from((sum & 0xffff_ffff) + (sum >> 32)).unwrap();
    block[216..220].copy_from_slice(&folded.to_le_bytes());
    write(path, 4096, &block);
}

/// Uberblocks of the first two labels (ZFS On-Disk Specification, chapter 1).
fn zfs(path: &Path) {
    file(path, 64);
    for label in [0_u64, 256 << 10] {
        for number in 0..8_u64 {
            let words = [0x00ba_b10c_u64, 5000, number + 1, 0];
            let bytes: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
            write(path, label + (128 << 10) + number * 1024, &bytes);
        }
    }
}
