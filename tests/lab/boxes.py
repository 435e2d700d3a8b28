"""The machines: what hardware each has, as QEMU's arguments."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from lab import emulator, places

# Network interfaces beside eth0, the driver's own: eth1 carries the cluster, eth2 is a second segment.
SEGMENTS = ("lan", "wan")
DISK_SIZE = "4G"
# Drivers of an old PC's parts that QEMU's has too: seconds each under emulation.
NOT_LOADED = ("floppy", "psmouse", "pcspkr", "snd_pcsp", "i2c_piix4", "parport_pc", "joydev")


@dataclass(frozen=True)
class Box:
    """One machine. Its number is the last byte of its addresses."""

    name: str
    number: int
    memory_mib: int
    cpus: int
    data_disks: int
    watchdog: bool

    @property
    def address(self) -> str:
        """On the cluster's segment."""
        return f"10.10.0.{self.number}"

    @property
    def disks(self) -> list[str]:
        """Serial numbers of all disks, the one with the system first; /dev/disk/by-id/virtio-SERIAL in the machine."""
        return [f"{self.name}-root", *(f"{self.name}-d{number}" for number in range(1, self.data_disks + 1))]

    def mac(self, interface: int) -> str:
        """Of ethN; fixed, so that a snapshot fits."""
        return f"52:54:00:00:{interface:02x}:{self.number:02x}"


NODES = tuple(Box(f"node{number}", number, memory_mib=2304, cpus=1, data_disks=4, watchdog=True) for number in (1, 2, 3))
TANG = Box("tang", 9, memory_mib=512, cpus=1, data_disks=0, watchdog=False)
ALL = (*NODES, TANG)


def named(name: str) -> Box:
    """The box of that name."""
    for box in ALL:
        if box.name == name:
            return box
    raise KeyError(f"no machine is called {name}: there are {', '.join(box.name for box in ALL)}")


@dataclass(frozen=True)
class Start:
    """What differs from one start to the next."""

    disks: Path  # directory of NAME.qcow2
    image: Path  # directory of vmlinuz, initrd and the emulator
    accelerator: str  # "kvm" or "tcg"
    ssh_port: int
    clock_utc: str  # of the machine's hardware clock, ISO 8601
    snapshot: str | None = None  # to begin from, paused


def create_disks(box: Box, disks: Path, image: Path) -> None:
    """A thin copy of the image, and blank disks."""
    for disk in box.disks:
        path = disks / f"{disk}.qcow2"
        if disk.endswith("-root"):
            argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(image), "-F", "raw", str(path)]
        else:
            argv = ["qemu-img", "create", "-q", "-f", "qcow2", str(path), DISK_SIZE]
        subprocess.run(argv, check=True, timeout=60)


def arguments(box: Box, start: Start) -> list[str]:
    """QEMU's command line."""
    run = places.run()
    command_line = (
        "console=ttyS0 quiet panic=1 net.ifnames=0 mitigations=off 8250.nr_uarts=1 systemd.show_status=false "
        f"module_blacklist={','.join(NOT_LOADED)} "
        f"systemd.hostname={box.name} lab.address={box.address}"
    )
    # Five-level page tables make every emulated memory access dearer and serve nobody here.
    cpu = "host" if start.accelerator == "kvm" else "max,la57=off"
    argv = [*emulator.command(start.image), "-name", box.name, "-machine", "pc", "-cpu", cpu, "-smp", str(box.cpus)]
    argv += ["-accel", "kvm" if start.accelerator == "kvm" else "tcg,thread=multi", "-m", str(box.memory_mib)]
    argv += ["-nodefaults", "-no-user-config", "-display", "none", "-rtc", f"base={start.clock_utc},clock=vm"]
    argv += ["-kernel", str(start.image / "vmlinuz"), "-initrd", str(start.image / "initrd"), "-append", command_line]
    for disk in box.disks:
        short = disk.removeprefix(f"{box.name}-")
        file = start.disks / f"{disk}.qcow2"
        # The host's page cache outlives a killed QEMU: only the host's own crash could lose what a guest flushed.
        argv += ["-drive", f"if=none,id=file-{short},format=qcow2,file={file},cache=unsafe,discard=unmap"]
        argv += ["-device", f"virtio-blk-pci,id={short},drive=file-{short},serial={disk}"]
    argv += _network(box, start, run)
    argv += ["-chardev", f"file,id=serial,path={run}/{box.name}.console,append=on", "-serial", "chardev:serial"]
    for socket, mode in (("qmp", "control"), ("hmp", "readline")):
        argv += ["-chardev", f"socket,id={socket},path={run}/{box.name}.{socket},server=on,wait=off"]
        argv += ["-mon", f"chardev={socket},mode={mode}"]
    argv += ["-device", "virtio-serial-pci", "-device", "virtio-rng-pci"]
    argv += ["-chardev", f"socket,id=agent,path={run}/{box.name}.agent,server=on,wait=off"]
    argv += ["-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"]
    if box.watchdog:
        argv += ["-device", "i6300esb", "-action", "watchdog=reset"]
    if start.snapshot is not None:
        argv += ["-loadvm", start.snapshot, "-S"]
    return argv


def _network(box: Box, start: Start, run: Path) -> list[str]:
    forward = f"hostfwd=tcp:127.0.0.1:{start.ssh_port}-:22"
    argv = ["-netdev", f"user,id=management,restrict=on,{forward}"]
    argv += ["-device", f"virtio-net-pci,id=nic-management,netdev=management,mac={box.mac(0)},romfile="]
    for number, segment in enumerate(SEGMENTS, 1):
        local = run / segment / f"vm.{box.name}"
        remote = run / segment / f"hub.{box.name}"
        ends = f"local.type=unix,local.path={local},remote.type=unix,remote.path={remote}"
        argv += ["-netdev", f"dgram,id={segment},{ends}"]
        argv += ["-device", f"virtio-net-pci,id=nic-{segment},netdev={segment},mac={box.mac(number)},romfile="]
    return argv
