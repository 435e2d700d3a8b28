"""A fresh Debian 13 as its installer leaves it, with the Debian packages that ours depend on. Not ours."""

from __future__ import annotations

import subprocess
from pathlib import Path

from lab import places, report

SUITE = "trixie"

# The machine itself, as an installer would set it up.
SYSTEM = (
    "linux-image-amd64", "systemd-sysv", "dbus", "ifupdown", "openssh-server", "iproute2", "iputils-ping",
    "e2fsprogs", "python3", "zstd",
)  # fmt: skip
# What the .debs depend on: here so that `apt-get install` needs no network inside the lab.
DEPENDED_ON = (
    "borgbackup", "cryptsetup", "curl", "glusterfs-server", "jq", "libvirt-clients", "libvirt-daemon-system", "lvm2",
    "openvswitch-switch", "qemu-system-x86", "qemu-utils", "tang", "thin-provisioning-tools", "xfsprogs",
    "dosfstools", "mtools", "genisoimage", "gnutls-bin", "fuse3",
    # Of pc-ha, which a scenario installs when it needs it.
    "corosync", "pacemaker", "pacemaker-cli-utils", "sbd",
)  # fmt: skip
# What only the lab uses: the guest's kernel and shell, a second opinion on LUKS tokens, a look at the wire.
LAB = (
    "linux-image-cloud-amd64", "busybox-static", "clevis", "clevis-luks", "tcpdump", "socat", "netcat-openbsd",
    "ethtool", "qemu-guest-agent",
)  # fmt: skip
# What only one scenario installs, and no machine should run meanwhile: with what they need, as files in KEPT of the image.
LATER = ("prometheus", "prometheus-alertmanager", "prometheus-node-exporter")
KEPT = "/srv/lab-packages"
KEEP = (
    f'APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get --yes --download-only --no-install-recommends install {" ".join(LATER)}'
    f' && mkdir "$1{KEPT}" && mv "$1"/var/cache/apt/archives/*.deb "$1{KEPT}/"'
)

NO_DOCS = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")


def key() -> str:
    """Changes when the list of packages does."""
    return places.digest(SUITE, " ".join(SYSTEM + DEPENDED_ON + LAB), KEEP)


def tarball() -> Path:
    """The root as a tar, made when missing. Works without being root where uidmap allows."""
    path = places.cache() / "base" / f"{key()}.tar"
    if path.exists():
        return path
    path.parent.mkdir(exist_ok=True)
    with report.stage("base: Debian 13 and the packages ours depend on (once)"):
        part = path.with_suffix(".part.tar")
        # No mirror is named: Debian's own, through whatever proxy this computer's apt is told to use.
        argv = ["mmdebstrap", "--quiet", "--variant=important", f"--include={','.join(SYSTEM + DEPENDED_ON + LAB)}"]
        argv += [f"--dpkgopt=path-exclude={glob}" for glob in NO_DOCS]
        argv += [f"--customize-hook={KEEP}", SUITE, str(part)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=1800)
        if done.returncode != 0:
            raise report.Failure(f"mmdebstrap failed:\n{done.stderr[-3000:]}")
        part.rename(path)
    places.forget_older(path.parent, path, keep=0)
    return path
