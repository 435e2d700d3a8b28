"""Processes that outlive the command that started them. A process is ended only when it is provably ours: its
id, the moment it was started and this boot of the computer all agree with what was written down."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """What was written down when it was started."""

    pid: int
    started_ticks: int
    boot: str


def start(argv: list[str], log: Path) -> Process:
    """Start in a session of its own, so that ctrl-C at the terminal does not reach it."""
    with log.open("ab") as out:
        child = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    ticks = _started(child.pid)
    return Process(child.pid, ticks if ticks is not None else 0, boot_id())


def boot_id() -> str:
    """This boot of this computer."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _started(pid: int) -> int | None:
    """Field 22 of proc(5) stat; nothing when the process is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def alive(process: Process) -> bool:
    """Whether it still runs."""
    try:
        os.waitpid(process.pid, os.WNOHANG)
    except ChildProcessError:
        pass
    return process.boot == boot_id() and _started(process.pid) == process.started_ticks


def end(process: Process, how: signal.Signals = signal.SIGTERM, patience_s: float = 10) -> None:
    """End it and wait until it is gone; SIGKILL when it does not go."""
    for sig in (how, signal.SIGKILL):
        if not alive(process):
            return
        try:
            os.kill(process.pid, sig)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + patience_s
        while alive(process) and time.monotonic() < deadline:
            time.sleep(0.02)
    if alive(process):
        raise TimeoutError(f"process {process.pid} does not end")
