"""Running commands on a machine, as root over ssh on loopback, each with a deadline."""

from __future__ import annotations

import atexit
import contextlib
import os
import shlex
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from lab import places, processes, report


@dataclass(frozen=True)
class Result:
    """How a command ended. 124: its deadline passed; 255: ssh itself failed."""

    status: int
    output: str
    errors: str


class Remote:
    """One machine's ssh. A connection is kept open between commands: a login costs seconds under emulation."""

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.port = port
        self.master: processes.Process | None = None
        # However this driver ends, its connections end with it.
        atexit.register(self.disconnect)

    @property
    def _control(self) -> Path:
        # One per driver: `lab status` beside a running `lab up` must not close its connections.
        return places.run() / f"{self.name}.{os.getpid()}.ssh"

    def arguments(self, shared: bool = True) -> list[str]:
        """ssh's command line up to the remote command."""
        options = {
            "BatchMode": "yes", "ConnectTimeout": "60", "ControlMaster": "no", "IdentitiesOnly": "yes",
            "LogLevel": "ERROR", "ServerAliveInterval": "15", "ServerAliveCountMax": "8",
            "StrictHostKeyChecking": "no", "UserKnownHostsFile": "/dev/null",
            "ControlPath": str(self._control) if shared else "none",
        }  # fmt: skip
        argv = ["ssh", "-F", "none", "-i", str(places.key()), "-p", str(self.port)]
        for name, value in options.items():
            argv += ["-o", f"{name}={value}"]
        return [*argv, "root@127.0.0.1"]

    def answers(self) -> bool:
        """Whether an SSH server greets. Patient: each connection costs a busy machine a new process."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 2) as channel:
            channel.settimeout(60)
            return channel.recv(4) == b"SSH-"
        return False

    def connect(self, timeout_s: float) -> None:
        """Wait until the machine lets us in, and keep that connection."""
        if self.master is not None and processes.alive(self.master) and self._control.exists():
            return
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.answers() and self._open():
                return
            time.sleep(1)
        raise TimeoutError(f"{self.name}: no ssh within {timeout_s:.0f} s; its console: {places.run()}/{self.name}.console")

    def _open(self) -> bool:
        self.disconnect()
        argv = self.arguments()
        argv[argv.index("ControlMaster=no")] = "ControlMaster=yes"
        self.master = processes.start([*argv[:-1], "-N", argv[-1]], places.run() / f"{self.name}.ssh.log")
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and processes.alive(self.master):
            if self._control.exists():
                return True
            time.sleep(0.1)
        self.disconnect()
        return False

    def disconnect(self) -> None:
        """Close the kept connection: the machine is about to go away, or has gone."""
        if self.master is not None:
            processes.end(self.master)
        self.master = None
        self._control.unlink(missing_ok=True)

    def run(self, command: str, timeout_s: float = 900, stdin: bytes | None = None) -> Result:
        """Run a shell command (bash, `set -euo pipefail`), give its status and output."""
        try:
            self.connect(min(timeout_s, 60))
        except TimeoutError as error:
            return Result(255, "", str(error))
        script = shlex.quote(f"set -euo pipefail; {command}")
        wrapped = f"timeout --kill-after=10 {timeout_s:.0f} bash -c {script}"
        argv = [*self.arguments(), wrapped]
        try:
            done = subprocess.run(
                argv, input=stdin if stdin is not None else b"", capture_output=True, timeout=timeout_s + 30
            )
        except subprocess.TimeoutExpired:
            self.disconnect()
            return Result(124, "", f"no answer within {timeout_s:.0f} s")
        return Result(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    def must(self, command: str, timeout_s: float = 900, stdin: bytes | None = None) -> str:
        """Run a command that has to succeed; gives what it printed."""
        result = self.run(command, timeout_s, stdin)
        if result.status != 0:
            told = "\n".join(part for part in (result.output[-3000:].strip(), result.errors[-3000:].strip()) if part)
            raise report.Failure(f"{self.name}: `{command}` ended with {result.status}:\n{told}")
        return result.output


def looking(word: str, command: str) -> str:
    """A shell loop, `until` or `while`, that leaves the machine four fifths of the time between two looks: an emulated
    one has other work. The command's output is in $output."""
    return (
        f"began=$EPOCHSECONDS; {word} output=$({command}); do pause=$(( 4 * (EPOCHSECONDS - began) )); "
        "sleep $(( pause < 2 ? 2 : pause > 20 ? 20 : pause )); began=$EPOCHSECONDS; done"
    )


def free_port() -> int:
    """A port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
