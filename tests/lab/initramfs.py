"""Small initial root file systems: busybox, a few kernel modules, one script."""

from __future__ import annotations

import lzma
import stat
import subprocess
from pathlib import Path


def dependencies(modules_at: Path, name: str) -> list[Path]:
    """Files to load for a module, in order, from modules.dep; none when it is built in."""
    for line in (modules_at / "modules.dep").read_text().splitlines():
        path, _, needs = line.partition(":")
        if Path(path).name.split(".")[0].replace("-", "_") == name.replace("-", "_"):
            return [modules_at / need for need in reversed(needs.split())] + [modules_at / path]
    return []


class Archive:
    """cpio's newc format, as the kernel reads it (Documentation/driver-api/early-userspace/buffer-format.rst)."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.inode = 0
        self.sent: set[str] = set()

    def add(self, name: str, mode: int, content: bytes = b"") -> None:
        """One entry; a link's content is its target."""
        self.inode += 1
        fields = (self.inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
        self.data += b"070701" + "".join(f"{field:08x}" for field in fields).encode()
        self.data += name.encode() + b"\0"
        self._pad()
        self.data += content
        self._pad()

    def _pad(self) -> None:
        self.data += b"\0" * (-len(self.data) % 4)

    def busybox(self, root: Path) -> None:
        """Busybox with all its applets, and the directories that an init expects."""
        for directory in ("bin", "dev", "modules", "proc", "root", "seed", "sys", "www", "tmp"):
            self.add(directory, stat.S_IFDIR | 0o755)
        busybox = root / "usr" / "bin" / "busybox"
        self.add("bin/busybox", stat.S_IFREG | 0o755, busybox.read_bytes())
        applets = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True, timeout=10).stdout
        for applet in applets.split():
            if applet != "busybox":
                self.add(f"bin/{applet}", stat.S_IFLNK | 0o777, b"busybox")

    def modules(self, root: Path, kernel: str, group: str, names: tuple[str, ...]) -> None:
        """Kernel modules and what they need, unpacked; `modules/GROUP` lists them in the order to load."""
        modules_at = root / "usr" / "lib" / "modules" / kernel
        order = []
        for path in dict.fromkeys(path for name in names for path in dependencies(modules_at, name)):
            flat = path.name.removesuffix(".xz")
            if flat not in self.sent:
                self.sent.add(flat)
                data = path.read_bytes()
                unpacked = lzma.decompress(data) if path.suffix == ".xz" else data
                self.add(f"modules/{flat}", stat.S_IFREG | 0o644, unpacked)
                order.append(flat)
        self.add(f"modules/{group}", stat.S_IFREG | 0o644, " ".join(order).encode())

    def end(self) -> bytes:
        """The whole archive."""
        self.add("TRAILER!!!", 0)
        return bytes(self.data)
