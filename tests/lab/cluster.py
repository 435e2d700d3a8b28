"""The machines of one lab together: boot, stop, save, restore."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from lab import accelerator, boxes, emulator, monitor, node_image, places, processes, report, segment, state
from lab.boxes import Box
from lab.remote import Remote, free_port
from lab.state import BoxState, Snapshot, State

T = TypeVar("T")
KEEP_SNAPSHOTS = 3  # of each kind
CONTINUE_PATIENCE_S = 120


def together(work: Callable[[Box], T], on: Iterable[Box] = boxes.ALL) -> list[T]:
    """Do the same on several machines at once; the first failure is raised after all have ended."""
    with ThreadPoolExecutor(max_workers=len(boxes.ALL)) as pool:
        futures = [pool.submit(work, box) for box in on]
    return [future.result() for future in futures]


class Cluster:
    """The lab that runs, or is about to."""

    def __init__(self, current: State) -> None:
        self.state = current
        self.remotes: dict[str, Remote] = {}

    @property
    def instance(self) -> Path:
        """The directory with the disks."""
        return Path(self.state.instance)

    @staticmethod
    def prepare() -> Cluster:
        """End what a former lab left, make what is missing, start nothing yet."""
        Cluster.recover()
        image = node_image.directory()
        chosen = accelerator.choose(image)
        hardware = (Path(boxes.__file__), emulator.version(image), chosen)
        instance = places.cache() / "instance" / places.digest(image.name, *hardware)
        if not (instance / "complete").exists():
            shutil.rmtree(instance, ignore_errors=True)
            instance.mkdir(parents=True)
            for box in boxes.ALL:
                boxes.create_disks(box, instance, image / "node.img")
            (instance / "complete").touch()
        places.forget_older(instance.parent, instance, keep=0)
        return Cluster(State(str(instance), str(image), chosen))

    @staticmethod
    def recover() -> None:
        """End what the recorded lab still runs, after a crash too."""
        recorded = state.load()
        if recorded is not None:
            Cluster(recorded).stop()

    @staticmethod
    def running() -> Cluster:
        """The lab that runs; a failure when none does."""
        recorded = state.load()
        if recorded is None:
            raise report.Failure("no lab is up\n  cargo xtask lab up")
        return Cluster(recorded)

    def remote(self, box: Box) -> Remote:
        """The way into a machine."""
        known = self.state.boxes.get(box.name)
        if known is None:
            raise report.Failure(f"{box.name} is off\n  cargo xtask lab join {box.name}")
        if box.name not in self.remotes or self.remotes[box.name].port != known.ssh_port:
            self.remotes[box.name] = Remote(box.name, known.ssh_port)
        return self.remotes[box.name]

    def on(self, box: Box) -> bool:
        """Whether the machine has power."""
        known = self.state.boxes.get(box.name)
        return known is not None and processes.alive(known.process)

    def _begin(self) -> None:
        """The segments, without rules, and empty consoles: what an earlier run left is over."""
        for box in boxes.ALL:
            (places.run() / f"{box.name}.console").unlink(missing_ok=True)
        for name in boxes.SEGMENTS:
            if name not in self.state.hubs or not processes.alive(self.state.hubs[name]):
                self.state.hubs[name] = segment.start(name)
        self.state.save()

    def power_on(self, box: Box, snapshot: str | None = None) -> None:
        """Start QEMU; from a snapshot it stays paused."""
        run = places.run()
        for socket in ("qmp", "hmp", "agent"):
            (run / f"{box.name}.{socket}").unlink(missing_ok=True)
        for name in boxes.SEGMENTS:
            (run / name / f"vm.{box.name}").unlink(missing_ok=True)
        port = free_port()
        start = boxes.Start(
            self.instance, Path(self.state.image), self.state.accelerator, port, self.state.clock_utc(), snapshot
        )
        process = processes.start(boxes.arguments(box, start), run / f"{box.name}.qemu.log")
        self.state.boxes[box.name] = BoxState(process, port)
        self.state.save()

    def power_off(self, box: Box) -> None:
        """Pull the plug: QEMU is killed, nothing is flushed that the machine had not flushed itself."""
        self.disconnect(box)
        known = self.state.boxes.pop(box.name, None)
        if known is not None:
            processes.end(known.process, signal.SIGKILL)
        self.state.save()

    def signal(self, box: Box, number: signal.Signals) -> None:
        """A signal to a machine's QEMU."""
        known = self.state.boxes.get(box.name)
        if known is None or not processes.alive(known.process):
            raise report.Failure(f"{box.name} is off")
        os.kill(known.process.pid, number)

    def disconnect(self, box: Box) -> None:
        """Close the kept ssh connection."""
        if box.name in self.remotes:
            self.remotes.pop(box.name).disconnect()

    def close(self) -> None:
        """Close the connections; the machines go on."""
        for box in boxes.ALL:
            self.disconnect(box)

    def boot(self, timeout_s: float = 600) -> None:
        """Switch everything on and wait for logins; no more at a time than there are cores, as all want one each."""
        self._begin()
        cores = threading.Semaphore(os.cpu_count() or 1)

        def one(box: Box) -> None:
            with cores:
                self.power_on(box)
                self.remote(box).connect(timeout_s)

        together(one)

    def stop(self) -> None:
        """End every process of this lab, and what is written down of it."""
        self.close()
        for box in boxes.ALL:
            self.power_off(box)
        for hub in self.state.hubs.values():
            processes.end(hub)
        for stale in places.run().glob("*.ssh"):
            stale.unlink()
        state.forget()

    def save(self, name: str) -> None:
        """Keep this moment of all machines at once, under a name. All stop first, so that no packet is lost between."""
        known = state.snapshots(self.instance)
        known.pop(name, None)
        state.set_snapshots(self.instance, known)
        self._guests("STOP")
        together(lambda box: monitor.must(box.name, "stop"))
        lab_time = time.time() - self.state.clock_behind_s
        begun = time.monotonic()
        try:
            together(lambda box: monitor.must(box.name, f"savevm {name}", timeout_s=600))
        finally:
            together(lambda box: monitor.must(box.name, "cont"))
            self._guests("CONT")
        self.state.clock_behind_s += time.monotonic() - begun
        self.state.stage = name
        self.state.save()
        known[name] = Snapshot(name, lab_time, time.time())
        for old in self._surplus(name, known):
            together(lambda box, old=old: monitor.command(box.name, f"delvm {old}", timeout_s=300))  # type: ignore[misc]
            del known[old]
        state.set_snapshots(self.instance, known)

    def _guests(self, signal_name: str) -> None:
        """The nodes' own VMs stand still while a moment is kept. An emulated processor that runs a nested guest just then can be
        saved, but not loaded: "vCPU set in guest-mode inconsistent with migrated kernel nested state"."""
        command = f"pkill -{signal_name} -x qemu-system-x86 || test $? -eq 1"
        # Who does not answer is saved as it is.
        together(lambda box: self.remote(box).run(command, 60), [box for box in boxes.NODES if self.on(box)])

    def _surplus(self, name: str, known: dict[str, Snapshot]) -> list[str]:
        """Older snapshots of the same kind (`ready-HASH`: kind `ready`); a person's own are kept."""
        kind, dash, _ = name.partition("-")
        same = [one for one in known.values() if dash and one.name.startswith(f"{kind}-")]
        return [one.name for one in sorted(same, key=lambda one: one.used, reverse=True)[KEEP_SNAPSHOTS:]]

    def has(self, name: str) -> bool:
        """Whether all machines have that snapshot."""
        return name in state.snapshots(self.instance)

    def restore(self, name: str) -> None:
        """Back to a saved moment: disks, memory, and the lab's clock."""
        known = state.snapshots(self.instance)
        if name not in known:
            raise report.Failure(f"no snapshot {name}: there are {', '.join(known) or 'none'}")
        self.stop()
        self.state.boxes.clear()
        self.state.hubs.clear()
        self.state.clock_behind_s = time.time() - known[name].lab_time
        self._begin()
        together(lambda box: self.power_on(box, name))
        together(self._wait_paused)
        self.state.clock_behind_s = time.time() - known[name].lab_time
        together(lambda box: monitor.must(box.name, "cont"))
        self._guests("CONT")
        self.state.stage = name
        self.state.save()
        known[name] = Snapshot(name, known[name].lab_time, time.time())
        state.set_snapshots(self.instance, known)

    def _wait_paused(self, box: Box) -> None:
        deadline = time.monotonic() + CONTINUE_PATIENCE_S
        while time.monotonic() < deadline:
            if not self.on(box):
                log = (places.run() / f"{box.name}.qemu.log").read_text(errors="replace")[-2000:]
                raise report.Failure(f"{box.name}: QEMU ended:\n{log}")
            try:
                # QEMU reads the snapshot before it answers; with -S it then calls itself either of these.
                if monitor.query(box.name, "query-status")["status"] in ("paused", "prelaunch"):
                    return
            except (OSError, ValueError):
                pass
            time.sleep(0.2)
        raise report.Failure(f"{box.name}: does not come back from its snapshot")
