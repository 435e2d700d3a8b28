"""The lab's guest: a raw disk that SeaBIOS boots to a heartbeat in seconds. Made without mounting anything."""

from __future__ import annotations

import gzip
import stat
import struct
import subprocess
from pathlib import Path

from lab import initramfs, places

SECTOR = 512
# MBR, then a gap that holds the heartbeat's record (guest/init says where), then one FAT partition.
PARTITION_START = 2048
PARTITION_SECTORS = 40 * 2048
FAT16_LBA = 0x0E
MBR = Path("/usr/lib/SYSLINUX/mbr.bin")

MODULES = {
    "first": ("virtio_net", "virtio_blk", "nls_cp437", "nls_iso8859-1", "nls_ascii", "nls_utf8", "vfat", "isofs"),
    "cdrom": ("ahci", "ata_piix", "sr_mod", "virtio_scsi"),
}


def build(root: Path, kernel: str, work: Path, disk: Path) -> None:
    """Make `disk` out of a Debian root's kernel and busybox. Leaves kernel and initrd in `work` for the KVM probe."""
    initrd = work / "guest-initrd"
    initrd.write_bytes(gzip.compress(_initramfs(root, kernel), 9, mtime=0))
    vmlinuz = work / "guest-vmlinuz"
    vmlinuz.write_bytes((root / "boot" / f"vmlinuz-{kernel}").read_bytes())
    partition = work / "guest-partition"
    with partition.open("wb") as file:
        file.truncate(PARTITION_SECTORS * SECTOR)
    _run("mkfs.fat", "-F", "16", "-h", str(PARTITION_START), "-n", "LAB-GUEST", str(partition))
    _run("mcopy", "-i", str(partition), str(vmlinuz), "::vmlinuz")
    _run("mcopy", "-i", str(partition), str(initrd), "::initrd")
    _run("mcopy", "-i", str(partition), str(places.HERE / "guest" / "syslinux.cfg"), "::syslinux.cfg")
    _run("syslinux", "--install", str(partition))
    table = struct.pack("<B3sB3sII", 0x80, b"\xfe\xff\xff", FAT16_LBA, b"\xfe\xff\xff", PARTITION_START, PARTITION_SECTORS)
    master = MBR.read_bytes()[:440].ljust(446, b"\0") + table.ljust(64, b"\0") + b"\x55\xaa"
    with disk.open("wb") as out:
        out.write(master)
        out.truncate(PARTITION_START * SECTOR)
        out.seek(PARTITION_START * SECTOR)
        out.write(partition.read_bytes())
    partition.unlink()


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True, timeout=60)


def _initramfs(root: Path, kernel: str) -> bytes:
    archive = initramfs.Archive()
    archive.busybox(root)
    archive.add("init", stat.S_IFREG | 0o755, (places.HERE / "guest" / "init").read_bytes())
    for group, names in MODULES.items():
        archive.modules(root, kernel, group, names)
    return archive.end()
