"""KVM or emulation: decided by booting something, once per boot of this computer."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from lab import emulator, places, processes, report

PATIENCE_S = 12


def choose(image: Path) -> str:
    """ "kvm" when a probe boots with it, else "tcg". LAB_ACCELERATOR overrides."""
    given = os.environ.get("LAB_ACCELERATOR")
    if given in ("kvm", "tcg"):
        return given
    memo = places.cache() / "accelerator"
    if memo.exists():
        boot, _, verdict = memo.read_text().strip().partition(" ")
        if boot == processes.boot_id() and verdict in ("kvm", "tcg"):
            return verdict
    with report.stage("KVM: probe boot") as stage:
        told = _probe(image)
        verdict = "kvm" if told is None else "tcg"
        stage.note("works" if told is None else f"{told}: emulating instead")
    memo.write_text(f"{processes.boot_id()} {verdict}\n")
    return verdict


def _probe(image: Path) -> str | None:
    """Boot the guest's kernel. /dev/kvm can be there, be writable, and still hang a kernel without a word."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "/dev/kvm is not there or not ours"
    console = places.run() / "probe.console"
    console.unlink(missing_ok=True)
    argv = [*emulator.command(image), "-machine", "pc", "-accel", "kvm", "-cpu", "host", "-m", "256", "-nodefaults"]
    argv += ["-no-user-config", "-display", "none", "-serial", f"file:{console}"]
    argv += ["-kernel", str(image / "guest-vmlinuz"), "-initrd", str(image / "guest-initrd")]
    argv += ["-append", "console=ttyS0 quiet panic=1"]
    probe = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and probe.poll() is None:
            if console.exists() and b"guest up" in console.read_bytes():
                return None
            time.sleep(0.1)
        return f"a kernel says nothing within {PATIENCE_S} s of /dev/kvm" if probe.poll() is None else "QEMU refuses /dev/kvm"
    finally:
        probe.kill()
        probe.wait()
