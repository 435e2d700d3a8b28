"""What is written down about the lab that runs: read by the next command, and by the next after a crash."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lab import places, report
from lab.processes import Process

_WRITING = threading.Lock()


@dataclass
class BoxState:
    """One machine that was started."""

    process: Process
    ssh_port: int


@dataclass
class State:
    """Everything that runs, and what it was made from."""

    instance: str  # directory with the disks
    image: str  # directory with kernel and initrd
    accelerator: str
    # The lab's clock stands still while nothing runs: seconds it is behind this computer's.
    clock_behind_s: float = 0.0
    # What the machines are: a snapshot's name, or one with "then ..." when something was done since.
    stage: str = "blank"
    boxes: dict[str, BoxState] = field(default_factory=dict)
    hubs: dict[str, Process] = field(default_factory=dict)

    def clock_utc(self) -> str:
        """What a machine's hardware clock has to say now."""
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() - self.clock_behind_s))

    def save(self) -> None:
        """Write it down."""
        path = places.run() / "state.json"
        new = path.with_suffix(".new")
        with _WRITING:
            new.write_text(json.dumps(dataclasses.asdict(self), indent=1))
            new.rename(path)


def load() -> State | None:
    """What was written down last, if anything."""
    path = places.run() / "state.json"
    if not path.exists():
        return None
    try:
        raw = json.loads(path.read_text())
        raw["boxes"] = {
            name: BoxState(Process(**box["process"]), box["ssh_port"]) for name, box in raw["boxes"].items()
        }
        raw["hubs"] = {name: Process(**process) for name, process in raw["hubs"].items()}
        return State(**raw)
    except (ValueError, KeyError, TypeError) as error:
        raise report.Failure(f"{path} is not readable ({error}): end its QEMU processes by hand and delete it") from error


def forget() -> None:
    """Nothing runs any more."""
    (places.run() / "state.json").unlink(missing_ok=True)


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """One command at a time changes the lab; a crashed one's lock is gone with it."""
    with (places.run() / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise report.Failure("another lab command is at work: wait for it, or end it") from None
        yield


@dataclass(frozen=True)
class Snapshot:
    """A moment of the whole cluster, kept inside its disks."""

    name: str
    lab_time: float
    used: float


def snapshots(instance: Path) -> dict[str, Snapshot]:
    """The complete snapshots of an instance, by name."""
    path = instance / "snapshots.json"
    if not path.exists():
        return {}
    return {name: Snapshot(**raw) for name, raw in json.loads(path.read_text()).items()}


def set_snapshots(instance: Path, known: dict[str, Snapshot]) -> None:
    """Write them down: only after all machines have saved."""
    path = instance / "snapshots.json"
    new = path.with_suffix(".new")
    new.write_text(json.dumps({name: dataclasses.asdict(snapshot) for name, snapshot in known.items()}, indent=1))
    new.rename(path)
