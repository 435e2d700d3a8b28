"""The disk image all machines begin from: the base with the lab's few files, and the guest's image in it; and their QEMU.

`python3 -m lab.node_image BASE OUT` is run as root, or as root of a user namespace, so that owners come out right;
it mounts nothing.
"""

from __future__ import annotations

import gzip
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

from lab import base, emulator, guest_image, initramfs, places, report, translators

SIZE = "8G"
# Each only costs time in an emulated machine that lives for an hour. Daemons of the product stay as Debian has them.
MASKED = (
    "apt-daily.timer", "apt-daily-upgrade.timer", "console-setup.service", "dpkg-db-backup.timer", "e2scrub_all.timer",
    "e2scrub_reap.service", "fstrim.timer", "getty-static.service", "getty@tty1.service", "keyboard-setup.service",
    "logrotate.timer", "man-db.timer", "serial-getty@ttyS0.service", "sshd-keygen.service", "systemd-binfmt.service",
    "systemd-pstore.service", "systemd-update-utmp.service", "uuidd.socket", "xfs_scrub_all.timer",
)  # fmt: skip
# Run at each boot and each reload of the manager, for things these machines do not have.
MASKED_GENERATORS = (
    "systemd-debug-generator", "systemd-gpt-auto-generator", "systemd-hibernate-resume-generator",
    "systemd-import-generator", "systemd-rc-local-generator", "systemd-run-generator", "systemd-ssh-generator",
    "systemd-system-update-generator", "systemd-tpm2-generator",
)  # fmt: skip


def key() -> str:
    """Changes with everything that goes into the image."""
    modules = (Path(str(one.__file__)) for one in (emulator, guest_image, initramfs, translators))
    code = (Path(__file__), *modules, places.HERE / "node-init")
    return places.digest(base.key(), places.HERE / "node", places.HERE / "guest", *code, _public_key())


def _public_key() -> str:
    if not places.key().exists():
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", str(places.key())]
        subprocess.run(argv, check=True, timeout=30)
    return places.key().with_suffix(".pub").read_text()


def directory() -> Path:
    """The directory with `node.img`, `vmlinuz`, `initrd`, the emulator and the guest's files; made when missing."""
    out = places.cache() / "image" / key()
    if out.exists():
        return out
    out.parent.mkdir(exist_ok=True)
    tarball = base.tarball()
    with report.stage("image: nodes and guest"):
        part = out.with_name(out.name + ".part")
        argv = [sys.executable, "-m", "lab.node_image", str(tarball), str(part)]
        if os.getuid() != 0:
            argv = ["unshare", "--user", "--map-auto", "--map-root-user", *argv]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=900)
        if done.returncode != 0:
            raise report.Failure(f"making the image failed:\n{done.stderr[-3000:]}")
        part.rename(out)
    places.forget_older(out.parent, out)
    return out


def _build(tarball: Path, out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    root = out / "root"
    root.mkdir(parents=True)
    tar = ["tar", "--extract", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--exclude=./dev/*"]
    subprocess.run([*tar, f"--file={tarball}", f"--directory={root}"], check=True, timeout=300)
    kernels = sorted(path.name for path in (root / "usr/lib/modules").iterdir())
    cloud = next(name for name in kernels if "cloud" in name)
    generic = next(name for name in kernels if "cloud" not in name)
    images = root / "srv" / "images"
    images.mkdir()
    guest_image.build(root, cloud, out, images / "lab-guest.raw")
    shutil.copyfile(root / "boot" / f"vmlinuz-{generic}", out / "vmlinuz")
    (out / "initrd").write_bytes(_initramfs(root, generic))
    emulator.copy(root, out)
    _drop_kernel(root, cloud)
    _configure(root)
    image = out / "node.img"
    subprocess.run(["truncate", "-s", SIZE, image], check=True, timeout=10)
    options = ["-q", "-F", "-L", "lab-root", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1"]
    subprocess.run(["mkfs.ext4", *options, "-d", root, image], check=True, timeout=300)
    shutil.rmtree(root)


def _initramfs(root: Path, kernel: str) -> bytes:
    """Not Debian's: that one takes a quarter of an emulated machine's boot, to find a disk that we know."""
    archive = initramfs.Archive()
    archive.busybox(root)
    archive.add("init", stat.S_IFREG | 0o755, (places.HERE / "node-init").read_bytes())
    archive.modules(root, kernel, "first", ("virtio_blk", "crc32c_generic", "ext4"))
    return gzip.compress(archive.end(), 9, mtime=0)


def _drop_kernel(root: Path, kernel: str) -> None:
    shutil.rmtree(root / "usr/lib/modules" / kernel)
    for file in (root / "boot").glob(f"*-{kernel}"):
        file.unlink()


def _configure(root: Path) -> None:
    for source in sorted((places.HERE / "node").rglob("*")):
        if source.is_file():
            target = root / source.relative_to(places.HERE / "node")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            target.chmod(0o755 if os.access(source, os.X_OK) else 0o644)
    units = root / "etc/systemd/system"
    for unit in MASKED:
        (units / unit).unlink(missing_ok=True)
        (units / unit).symlink_to("/dev/null")
    generators = root / "etc/systemd/system-generators"
    generators.mkdir(exist_ok=True)
    for generator in MASKED_GENERATORS:
        (generators / generator).symlink_to("/dev/null")
    (units / "multi-user.target.wants/lab-identity.service").symlink_to("/etc/systemd/system/lab-identity.service")
    (units / "default.target").symlink_to("/usr/lib/systemd/system/multi-user.target")
    # glusterd runs it a dozen times at each start, for a minute when emulated; geo-replication is not used here, and
    # without the program glusterd takes it for not installed.
    (root / "usr/lib/x86_64-linux-gnu/glusterfs/gsyncd").unlink()
    translators.keep(root)
    # A blank machine has no cluster: their packages enable them, corosync with an example of a cluster that pulls sbd in,
    # which arms the watchdog. pc-ha needs no such links: pc-ha.service wants pacemaker.
    for unit in ("corosync", "pacemaker"):
        (units / f"multi-user.target.wants/{unit}.service").unlink(missing_ok=True)
    # Not what an installer leaves, but what this project's README asks for: no second bridge, no second DHCP server.
    (root / "etc/libvirt/qemu/networks/autostart/default.xml").unlink(missing_ok=True)
    for key_file in (root / "etc/ssh").glob("ssh_host_*"):
        key_file.unlink()
    ssh = root / "root/.ssh"
    ssh.mkdir(mode=0o700, exist_ok=True)
    (ssh / "authorized_keys").write_text(_public_key())
    (root / "srv/personal-cluster-apt").mkdir()
    (root / "etc/apt/sources.list").unlink(missing_ok=True)
    for file in (root / "etc/apt/sources.list.d").glob("*.sources"):
        file.unlink()
    (root / "etc/machine-id").write_text("")
    (root / "etc/resolv.conf").unlink(missing_ok=True)
    (root / "etc/resolv.conf").write_text("# no name server in the lab\n")
    (root / "etc/fstab").write_text("# the initial root file system has mounted /\n")
    # Caches of /usr are as Debian's packages left them: no rebuilding at the first boot (systemd-update-done(8)).
    newer = (root / "usr").stat().st_mtime + 3600
    for done in (root / "etc/.updated", root / "var/.updated"):
        done.touch()
        os.utime(done, (newer, newer))


if __name__ == "__main__":
    _build(Path(sys.argv[1]), Path(sys.argv[2]))
