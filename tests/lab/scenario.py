"""Running scenarios: each is one Python file that finds the machines as global names, as in a NixOS test."""

from __future__ import annotations

import contextlib
import re
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lab import boxes, look, places, report, segment, steps
from lab.cluster import Cluster
from lab.machine import Machine

# A scenario that begins before the first evening says so: `# lab: from installed`, or `blank`.
FROM = re.compile(r"^# lab: from (ready|installed|blank)$", re.MULTILINE)
# What several scenarios share stands in a file of its own: `# with: ha` is tests/scenarios/with/ha.py. It is run before, in
# the same names, as NixOS's driver (tests/vm) puts it before the scenario's own text.
WITH = re.compile(r"^# with: ([a-z]+)$", re.MULTILINE)


def find(names: list[str]) -> list[Path]:
    """The files of the named scenarios; all when none is named."""
    known = {path.stem: path for path in sorted(places.SCENARIOS.glob("*.py"))}
    wrong = [name for name in names if name not in known]
    if wrong:
        raise report.Failure(f"no scenario is called {', '.join(wrong)}: there are {', '.join(known)}")
    return [known[name] for name in names] if names else list(known.values())


def run(files: list[Path]) -> bool:
    """Each from its own fresh copy of the cluster. True when all passed."""
    passed = 0
    for file in files:
        report.say(f"scenario {file.stem}")
        begun = time.monotonic()
        cluster = None
        try:
            source = file.read_text()
            wanted = FROM.search(source)
            cluster = steps.up(wanted[1] if wanted else "ready")
            names = namespace(cluster)
            for part in [*shared(source), file]:
                play(part, names)
            passed += 1
            verdict = "ok"
        except Exception as error:
            verdict = "FAILED"
            report.say(told(error, file))
            look.left(file.stem)
        finally:
            if cluster is not None:
                cluster.close()
        report.say(f"scenario {file.stem}: {verdict}, {time.monotonic() - begun:.0f} s")
    report.say(f"{passed} passed, {len(files) - passed} failed")
    return passed == len(files)


def play(file: Path, names: dict[str, Any]) -> None:
    """Run a scenario's file in its global names."""
    exec(compile(file.read_text(), str(file), "exec"), names)  # noqa: S102  the point of this file


def shared(source: str) -> list[Path]:
    """The files that a scenario is run with."""
    files = [places.SCENARIOS / "with" / f"{name}.py" for name in WITH.findall(source)]
    for file in files:
        if not file.exists():
            raise report.Failure(f"# with: {file.stem}: there is no {file}")
    return files


def told(error: BaseException, file: Path) -> str:
    """An error as a person wants it: with the scenario's own lines, and no others."""
    written = (places.SCENARIOS, places.SCENARIOS.parent / "drills")
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if any(Path(frame.filename).is_relative_to(directory) for directory in written)
    ]
    where = "".join(f"\n    {Path(frame.filename).name}:{frame.lineno}: {frame.line or ''}" for frame in frames)
    if isinstance(error, (report.Failure, TimeoutError)):
        return f"{error}{where}"
    if isinstance(error, AssertionError):
        return f"assertion failed: {error}{where}"
    return "".join(traceback.format_exception(error))


def namespace(cluster: Cluster) -> dict[str, Any]:
    """The global names of a scenario. `cut`, `join_network` and `disturb` exist only in the lab."""
    machines = [Machine(cluster, box) for box in boxes.ALL]
    names: dict[str, Any] = {machine.name: machine for machine in machines}

    def start_all() -> None:
        for machine in machines:
            machine.start()

    def in_parallel(work: Callable[[Machine], Any], on: list[Machine]) -> list[Any]:
        with ThreadPoolExecutor(max_workers=len(on)) as pool:
            return [future.result() for future in [pool.submit(work, machine) for machine in on]]

    names |= {
        "machines": machines,
        "nodes": [machine for machine in machines if machine.name != "tang"],
        "start_all": start_all,
        "subtest": subtest,
        "log": report.say,
        "in_parallel": in_parallel,
        "heartbeat": lambda node, timeout=600: steps.heartbeat(cluster, boxes.named(node.name), timeout),
        "cut": lambda machine, other=None: segment.cut(machine.name, other.name if other else "*"),
        "join_network": lambda machine: segment.join(machine.name),
        "disturb": segment.disturb,
    }
    return names


@contextlib.contextmanager
def subtest(name: str) -> Iterator[None]:
    """A named and timed part of a scenario."""
    with report.stage(f"  {name}"):
        yield
