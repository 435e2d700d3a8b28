"""Fault drills: one fault after another, drawn at random, each on a fresh copy of an armed cluster whose guest writes.

A fault is a file of tests/drills. It defines `strike()`, and `mend()` when it leaves something to put right. It finds what
a scenario finds, and `host` (runs the VM), `others`, `chance` (random, seeded). `RESTARTS = True | False` says whether the
guest has to boot again; without it both are right. `MEND_FIRST = True`: the VM cannot come back before `mend()`.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import look, observer, places, records, report, scenario, steps, tally
from lab.cluster import Cluster
from lab.machine import Machine

FAULTS = places.REPOSITORY / "tests" / "drills"
ARMING = places.SCENARIOS / "with" / "ha.py"
PAGE = 4096
# Of the computed worst case: emulated nodes boot and answer some ten times slower than any that people buy.
PATIENCE = 10
# As long as the nodes need to decide, of that too: until then a guest may be heard that is about to lose its node.
DECIDED = 1.5


def faults(names: list[str]) -> list[Path]:
    """The named ones, or all."""
    known = {path.stem: path for path in sorted(FAULTS.glob("*.py"))}
    wrong = [name for name in names if name not in known]
    if wrong:
        raise report.Failure(f"no drill is called {', '.join(wrong)}: there are {', '.join(known)}")
    return [known[name] for name in names] if names else list(known.values())


def draw(seed: int, index: int, among: list[Path]) -> tuple[Path, random.Random]:
    """The same seed and index always give the same fault and the same chances in it; a new fault takes its share of the draws, and
    leaves the others as they were."""
    chance = random.Random(f"{seed}/{index}")
    return min(among, key=lambda fault: places.digest(f"{seed}/{index}/{fault.stem}")), chance


def run(seed: int, count: int, names: list[str]) -> bool:
    """Drills 0 to count-1 of a seed; those that the tally has already are left out."""
    among = faults(names)
    done = {(one.seed, one.index) for one in tally.read()}
    green = True
    for index in range(count):
        if (seed, index) in done:
            continue
        fault, chance = draw(seed, index, among)
        report.say(f"drill {seed}/{index}: {fault.stem}")
        verdict = _one(seed, index, fault, chance)
        tally.add(verdict)
        tally.publish()
        report.say(f"drill {seed}/{index}: {fault.stem}: {verdict.told()}")
        green = green and not verdict.faults
    return green


def _armed() -> Cluster:
    """The cluster after the evening, with pacemaker in charge: from a snapshot where one fits."""
    name = f"armed-{places.digest(steps.Names.now().ready, ARMING)}"
    cluster = Cluster.prepare()
    if cluster.has(name):
        with report.stage(f"restore {name}"):
            cluster.restore(name)
        return cluster
    cluster = steps.up()
    names = scenario.namespace(cluster)
    scenario.play(ARMING, names)
    with report.stage("pacemaker takes over on every node"):
        names["arm"]()
    with report.stage("snapshot"):
        cluster.save(name)
    return cluster


@dataclass
class Drill:
    """One under way."""

    names: dict[str, Any]  # what the fault's file sees
    host: Machine
    watch: observer.Observer
    struck_at: float = 0.0
    worst_s: float = 0.0
    boot: str = ""  # the guest's, before the strike

    def heard(self, moment: float) -> None:
        """The guest beats, after that moment."""
        self.watch.since(moment, self.worst_s * PATIENCE + steps.BOOT_S)


def _one(seed: int, index: int, fault: Path, chance: random.Random) -> tally.Verdict:
    verdict = tally.Verdict(seed, index, fault.stem, places.digest(steps.repository()))
    try:
        cluster = _armed()
    except Exception:
        # Says nothing about any fault: it ends the run, and is no verdict.
        look.left("drill-arm")
        raise
    try:
        drill = _ready(cluster, fault, chance)
        verdict.victim = drill.host.name
        _strike(drill, verdict)
        _judge(drill, verdict)
    except Exception as error:
        verdict.faults.append(scenario.told(error, fault))
    finally:
        cluster.close()
    if verdict.faults:
        # The next drill begins from the snapshot.
        look.left(f"drill-{seed}-{index}-{fault.stem}")
    return verdict


def _ready(cluster: Cluster, fault: Path, chance: random.Random) -> Drill:
    names = scenario.namespace(cluster)
    scenario.play(ARMING, names)
    witness: Machine = names["node1"]
    names["all_here"](witness)
    host: Machine = names["named"](names["place"](witness))
    names |= {"host": host, "others": [node for node in names["nodes"] if node is not host], "chance": chance}
    names |= {"mend": lambda: None, "RESTARTS": None, "MEND_FIRST": False}
    scenario.play(fault, names)
    drill = Drill(names, host, observer.Observer(cluster))
    drill.worst_s = float(names["status"](witness)["timing"]["worst_case_seconds"])
    return drill


def _strike(drill: Drill, verdict: tally.Verdict) -> None:
    names, watch = drill.names, drill.watch
    watch.begin()
    # Some heartbeats later: not always at the same moment of the guest, of corosync and of sbd.
    drill.boot = watch.beats(names["chance"].randint(2, 12), steps.HEARTBEAT_S).boot
    drill.struck_at = time.time()
    with report.stage("  strike"):
        names["strike"]()
    if names["MEND_FIRST"]:
        with report.stage("  mend"):
            names["mend"]()
    with report.stage("  the VM's heart beats"):
        drill.heard(drill.struck_at)
    with report.stage("  whatever is decided is decided"):
        time.sleep(max(0.0, drill.struck_at + DECIDED * drill.worst_s - time.time()))
        _disk(drill, verdict)
    if not names["MEND_FIRST"]:
        with report.stage("  mend"):
            names["mend"]()


def _judge(drill: Drill, verdict: tally.Verdict) -> None:
    names, watch = drill.names, drill.watch
    with report.stage("  whole again"):
        # All of them first: each looks for all.
        for node in names["nodes"]:
            node.start()
        for node in names["nodes"]:
            names["all_here"](node)
            _disk(drill, verdict)
        names["healed"](names["node1"])
    with report.stage("  the VM's heart goes on beating") as stage:
        drill.heard(time.time())
        verdict.gap_s = round(watch.gap(drill.struck_at), 1)
        stage.note(f"silent for {verdict.gap_s} s")
    verdict.restarted = watch.boots(drill.struck_at) != [drill.boot]
    if names["RESTARTS"] is not None and names["RESTARTS"] != verdict.restarted:
        verdict.faults.append("the guest " + ("was" if verdict.restarted else "was not") + " restarted")
    running = _disk(drill, verdict, last_time=True)
    if len(running) != 1:
        verdict.faults.append(f"runs on {running}")
    verdict.ended_on = ", ".join(running)
    verdict.shown = len(watch.end())
    if any("disk=failed" in text for text in watch.texts):
        verdict.faults.append("the guest has seen an I/O error of its disk")
    verdict.fences = watch.fences(drill.struck_at, drill.host.name)
    watchdog_s = float(names["status"](names["node1"])["timing"]["watchdog_seconds"])
    for fence in verdict.fences:
        if fence.margin_s is not None and fence.margin_s < watchdog_s:
            verdict.faults.append(f"{fence.node}: declared dead {fence.margin_s} s after its reset, a watchdog is {watchdog_s} s")


def _disk(drill: Drill, verdict: tally.Verdict, last_time: bool = False) -> list[str]:
    """What the guest has written, judged by what it has shown until now; gives the nodes that run it.

    The ring goes round within ten minutes, and a cluster takes longer to be whole again: it is looked at on the way too, where that
    can be done.
    """
    shown = [one.record for one in drill.watch.seen()]
    # One that has no power cannot be asked, and one that restarts is not waited for.
    there: list[Machine] = [node for node in drill.names["nodes"] if node.is_up()]
    running = [node for node in there if node.execute("pc-vm --applied probe --exit-code mail", timeout=120)[0] == 0]
    if len(running) == 1:
        # In whole pages, as disks with large sectors want for direct reads.
        first, last = (sector * records.SECTOR // PAGE for sector in records.SPAN)
        read = f"dd if={steps.VM_DISK} bs={PAGE} skip={first} count={last - first} iflag=direct status=none | base64 -w0"
        status, text = running[0].execute(read, timeout=300)
        if status == 0:
            judged = records.judge(observer.unbase64(text), shown)
            verdict.faults += [fault for fault in judged.faults if fault not in verdict.faults]
        elif last_time:
            verdict.faults.append(f"the VM's disk cannot be read on {running[0].name}")
    return [node.name for node in running]
