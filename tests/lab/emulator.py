"""The QEMU that runs the machines: the one of the base that the machines are made from, whatever this computer has.
Emulated machines take two thirds of the processor time that they take with Debian 12's (docs/decisions/lab.md)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

PROGRAM = Path("usr/bin/qemu-system-x86_64")
LIBRARIES = Path("usr/lib/x86_64-linux-gnu")
LOADER = Path("usr/lib64/ld-linux-x86-64.so.2")
# What a machine without display and without boot ROMs loads.
FIRMWARE = (
    Path("usr/share/seabios/bios-256k.bin"), Path("usr/share/qemu/kvmvapic.bin"),
    Path("usr/share/qemu/linuxboot_dma.bin"),
)  # fmt: skip


def copy(root: Path, image: Path) -> None:
    """Take QEMU, and the libraries it is linked with, out of a Debian root."""
    out = image / "emulator"
    out.mkdir()
    told = subprocess.run(
        [root / LOADER, "--library-path", root / LIBRARIES, "--list", root / PROGRAM],
        check=True, capture_output=True, text=True, timeout=60,
    ).stdout  # fmt: skip
    # `libz.so.1 => PATH (0x...)`; the kernel's own and the loader have no path to take.
    libraries = [Path(line.split()[2]) for line in told.splitlines() if " => " in line]
    for file in (root / PROGRAM, root / LOADER, *libraries, *(root / one for one in FIRMWARE)):
        shutil.copy(file, out / file.name)


def command(image: Path) -> list[str]:
    """How to start it; no file outside the image's directory is read."""
    directory = image / "emulator"
    loader = [str(directory / LOADER.name), "--library-path", str(directory)]
    return [*loader, str(directory / PROGRAM.name), "-L", str(directory)]


def version(image: Path) -> str:
    """Snapshots fit only the QEMU that made them."""
    argv = [*command(image), "--version"]
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=20).stdout.splitlines()[0]
