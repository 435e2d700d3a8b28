"""The NixOS test driver's machine API, on the lab's machines: a scenario runs unchanged in both.

Names, arguments and meaning follow nixos/lib/test-driver (`succeed` runs under `set -euo pipefail`, time-outs in
seconds, 900 by default). What only the lab has is marked so.
"""

from __future__ import annotations

import re
import shlex
import signal
import time
from pathlib import Path
from typing import Any

from lab import boxes, monitor, places, report
from lab.cluster import Cluster
from lab.remote import Remote, looking

BOOT_ID = "cat /proc/sys/kernel/random/boot_id"
# A quarter of an hour in which guests may move away (pc-ha's logind.conf), five minutes in which units may stop, and a boot.
REBOOT_S = 900 + 300 + 900


class Machine:
    """One machine, as scenarios see it."""

    def __init__(self, cluster: Cluster, box: boxes.Box) -> None:
        self._cluster = cluster
        self._box = box
        self.name = box.name

    @property
    def _remote(self) -> Remote:
        return self._cluster.remote(self._box)

    def log(self, text: str) -> None:
        """Say something about this machine."""
        report.say(f"    {self.name}: {text}")

    def is_up(self) -> bool:
        """Whether it has power."""
        return self._cluster.on(self._box)

    # ---- commands

    def execute(self, command: str, check_return: bool = True, timeout: float | None = 900) -> tuple[int, str]:
        """Status and standard output of a shell command."""
        result = self._remote.run(command, timeout or 900)
        return (result.status if check_return else -1), result.output

    def succeed(self, *commands: str, timeout: float | None = None) -> str:
        """Run commands that have to succeed; their output joined."""
        return "".join(self._remote.must(command, timeout or 900) for command in commands)

    def fail(self, *commands: str, timeout: float | None = None) -> str:
        """Run commands that have to fail; their output joined."""
        output = ""
        for command in commands:
            result = self._remote.run(command, timeout or 900)
            if result.status == 0:
                raise report.Failure(f"{self.name}: `{command}` succeeded, and should not have:\n{result.output}")
            output += result.output
        return output

    def wait_until_succeeds(self, command: str, timeout: float = 900) -> str:
        """Repeat a command until it succeeds; its output."""
        return self._repeat("until", command, "does not succeed", timeout)

    def wait_until_fails(self, command: str, timeout: float = 900) -> str:
        """Repeat a command until it fails; its output."""
        return self._repeat("while", command, "does not fail", timeout)

    def _repeat(self, word: str, command: str, how: str, timeout: float) -> str:
        """The loop runs in the machine: a login for each look would keep an emulated one busy."""
        inner = f"bash -euo pipefail -c {shlex.quote(command)} 2> /run/lab-wait.$$"
        loop = f"{looking(word, inner)}; printf '%s\\n' \"$output\""
        deadline = time.monotonic() + timeout
        while True:
            result = self._remote.run(loop, max(5, deadline - time.monotonic()))
            if result.status == 0:
                return result.output
            if time.monotonic() > deadline:
                told = (result.errors + self.execute("tail -n 5 /run/lab-wait.*", timeout=60)[1])[-1500:]
                raise report.Failure(f"{self.name}: `{command}` {how} within {timeout:.0f} s\n{told}")
            # Not reachable: switched off, or on its way up.
            time.sleep(1)

    def sleep(self, secs: float) -> None:
        """Let time pass in the machine."""
        time.sleep(secs)

    # ---- systemd

    def systemctl(self, query: str, user: str | None = None) -> tuple[int, str]:
        """`systemctl QUERY`."""
        who = f"--user --machine={user}@ " if user else ""
        return self.execute(f"systemctl {who}{query}")

    def get_unit_info(self, unit: str, user: str | None = None) -> dict[str, str]:
        """All properties of a unit."""
        status, lines = self.systemctl(f"--no-pager show {shlex.quote(unit)}", user)
        if status != 0:
            raise report.Failure(f"{self.name}: systemctl show {unit} ended with {status}")
        return dict(line.split("=", 1) for line in lines.splitlines() if "=" in line)

    def get_unit_property(self, unit: str, property: str, user: str | None = None) -> str:
        """One property of a unit."""
        return self.get_unit_info(unit, user)[property]

    def wait_for_unit(self, unit: str, user: str | None = None, timeout: float = 900) -> None:
        """Wait until a unit is active; a failed one, or one with nothing left to wait for, ends it at once."""
        show = f"systemctl show -P ActiveState {shlex.quote(unit)}"
        self.wait_until_succeeds(f"case $({show}) in active|failed) ;; *) exit 1 ;; esac", timeout)
        self.require_unit_state(unit)

    def require_unit_state(self, unit: str, require_state: str = "active") -> None:
        """A unit has to be in a state right now."""
        state = self.get_unit_property(unit, "ActiveState")
        if state != require_state:
            raise report.Failure(f"{self.name}: {unit} is {state}, expected {require_state}")

    def start_job(self, jobname: str, user: str | None = None) -> tuple[int, str]:
        """`systemctl start`."""
        return self.systemctl(f"start {jobname}", user)

    def stop_job(self, jobname: str, user: str | None = None) -> tuple[int, str]:
        """`systemctl stop`."""
        return self.systemctl(f"stop {jobname}", user)

    # ---- files, ports, console

    def wait_for_file(self, filename: str, timeout: float = 900) -> None:
        """Wait until a path exists."""
        self.wait_until_succeeds(f"test -e {filename}", timeout)

    def wait_for_open_port(self, port: int, addr: str = "localhost", timeout: float = 900) -> None:
        """Wait until somebody listens on a TCP port."""
        self.wait_until_succeeds(f"nc -z {addr} {port}", timeout)

    def wait_for_closed_port(self, port: int, addr: str = "localhost", timeout: float = 900) -> None:
        """Wait until nobody listens on a TCP port."""
        self.wait_until_fails(f"nc -z {addr} {port}", timeout)

    def copy_from_host(self, source: str, target: str) -> None:
        """Copy a file of this computer into the machine."""
        where = shlex.quote(str(Path(target).parent))
        self._remote.must(f"mkdir -p {where} && cat > {shlex.quote(target)}", stdin=Path(source).read_bytes())

    def get_console_log(self) -> str:
        """What the console has shown since its last power-on from a snapshot."""
        return (places.run() / f"{self.name}.console").read_text(errors="replace")

    def wait_for_console_text(self, regex: str, timeout: float | None = None) -> None:
        """Wait for a line on the machine's console."""
        deadline = time.monotonic() + (timeout or 900)
        while not re.search(regex, self.get_console_log()):
            if time.monotonic() > deadline:
                raise report.Failure(f"{self.name}: nothing like {regex!r} on the console")
            time.sleep(0.5)

    # ---- power and cables

    def start(self, allow_reboot: bool = False) -> None:
        """Switch it on; does not wait. (The lab's machines may always reboot.)"""
        if not self.is_up():
            self._cluster.power_on(self._box)

    def wait_for_login(self, timeout: float = 900) -> None:
        """Only in the lab: wait until commands can be run. Every command waits a minute by itself."""
        self._remote.connect(timeout)

    def crash(self) -> None:
        """Pull the plug."""
        self._cluster.power_off(self._box)

    def freeze(self) -> None:
        """Only in the lab: it stands still, and does not know; its watchdog's clock goes on."""
        self._cluster.signal(self._box, signal.SIGSTOP)

    def thaw(self) -> None:
        """Only in the lab: it goes on."""
        self._cluster.signal(self._box, signal.SIGCONT)

    def shutdown(self) -> None:
        """`poweroff`, and wait until it is off."""
        self.execute("systemctl --no-block poweroff", timeout=60)
        self.wait_for_shutdown()

    def wait_for_shutdown(self, timeout: float = 300) -> None:
        """Wait until it is off."""
        self._cluster.disconnect(self._box)
        deadline = time.monotonic() + timeout
        while self.is_up():
            if time.monotonic() > deadline:
                raise report.Failure(f"{self.name}: still on after {timeout:.0f} s")
            time.sleep(0.5)
        self.crash()

    def reboot(self, timeout: float = REBOOT_S) -> None:
        """`reboot` from within, and wait for the next login."""
        before = self.succeed(BOOT_ID)
        self.execute("systemctl --no-block reboot", timeout=60)
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            status, boot = self.execute(BOOT_ID, timeout=30)
            if status == 0 and boot != before:
                return
            if status != 0:
                # It is on its way down, or up: a kept connection would wait for a machine that has forgotten it.
                self._cluster.disconnect(self._box)
            time.sleep(2)
        raise report.Failure(f"{self.name}: is not back {timeout:.0f} s after `reboot`: {self._stuck()}")

    def _stuck(self) -> str:
        """What a machine that was told to restart waits for."""
        if not self.is_up():
            return "its emulator has ended"
        status, told = self.execute("systemd-inhibit --list --no-pager; systemctl list-jobs --no-pager", timeout=60)
        if status == 0:
            return f"it answers, from the same boot\n{told}"
        return f"it does not answer; last on its console:\n{self.get_console_log()[-1500:]}"

    def send_monitor_command(self, command: str) -> str:
        """A command of QEMU's monitor: `device_del d2`, `system_reset`, `watchdog_action none`, ..."""
        told = monitor.command(self.name, command)
        if command in ("system_reset", "quit"):
            # The kept connection would wait for a machine that has forgotten it.
            self._cluster.disconnect(self._box)
        return told

    def block(self) -> None:
        """Pull its network cables."""
        self._links("off")

    def unblock(self) -> None:
        """Put its network cables back."""
        self._links("on")

    def _links(self, to: str) -> None:
        for segment in boxes.SEGMENTS:
            monitor.must(self.name, f"set_link nic-{segment} {to}")

    def events(self, timeout_s: float) -> Any:
        """Only in the lab: QEMU's events by the host's clock."""
        return monitor.events(self.name, timeout_s)
