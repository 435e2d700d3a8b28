"""Who watches a drill: the tang box asks the guest over its VLAN, this computer listens to the emulators' own events.

Neither needs anything of the nodes. All times given are this computer's; a machine's clock is compared with it first.
"""

from __future__ import annotations

import base64
import re
import shlex
import threading
import time
from dataclasses import dataclass

from lab import boxes, monitor, records, report
from lab.boxes import NODES, TANG
from lab.cluster import Cluster
from lab.records import Record

GUEST = "http://10.0.20.5/hb"
SEEN = "/run/lab-observer"
# One process: two programs started for each question kept a quarter of a core busy, emulated.
ASK = f"""
import http.client, time, urllib.request
with open('{SEEN}', 'a', buffering=1) as seen:
    while True:
        begun = time.monotonic()
        try:
            with urllib.request.urlopen('{GUEST}', timeout=2) as answer:
                seen.write(f'{{time.time():.6f}} {{answer.read().decode().strip()}}\\n')
        except (OSError, ValueError, http.client.HTTPException):
            pass  # silence is what the others measure
        time.sleep(max(0, 0.5 - (time.monotonic() - begun)))
"""
# The box has no other use for that VLAN.
BEGIN = f"""
ip link show lab20 > /dev/null 2>&1 || ip link add link eth1 name lab20 type vlan id 20
ip address replace 10.0.20.9/24 dev lab20; ip link set lab20 up
systemctl stop lab-observer.service 2> /dev/null || true; : > {SEEN}
systemd-run --quiet --collect --unit lab-observer python3 -c {shlex.quote(ASK)}
"""
# What pacemaker says when it takes a node for dead. With a watchdog it says so after stonith-watchdog-timeout.
DECLARED = re.compile(r"targeting (\w+) .*: OK|Peer (\w+) was terminated \(\w+\)")
JOURNAL = "journalctl --no-pager -o short-unix -t pacemaker-controld -t pacemaker-fenced --since @{since:.0f}"
CAUSES = ("WATCHDOG", "RESET", "GONE")


@dataclass(frozen=True)
class Fence:
    """A node that the others declared dead."""

    node: str
    reset_s: float | None  # since the strike; None: it went on running until after it was declared dead
    declared_s: float
    margin_s: float | None


@dataclass(frozen=True)
class Seen:
    """One answer of the guest."""

    at: float
    record: Record


def unbase64(text: str) -> bytes:
    """What a machine printed as base64."""
    return base64.b64decode(text)


class Observer:
    """From the first look to the last."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.remote = cluster.remote(TANG)
        self.events: list[tuple[float, str, str]] = []
        self.texts: list[str] = []
        self.ahead_s = 0.0

    def begin(self) -> None:
        """Start watching."""
        self.remote.must(BEGIN, 120)
        self.ahead_s = self._ahead(boxes.TANG)
        for box in NODES:
            threading.Thread(target=self._listen, args=(box.name,), daemon=True).start()

    def _listen(self, name: str) -> None:
        try:
            for event in monitor.events(name, 24 * 3600):
                stamp = event["timestamp"]
                self.events.append((stamp["seconds"] + stamp["microseconds"] / 1e6, name, event["event"]))
        except (OSError, ValueError, report.Failure):
            pass
        self.events.append((time.time(), name, "GONE"))

    def _ahead(self, box: boxes.Box) -> float:
        """How much a machine's clock is ahead of ours: of three looks the quickest."""
        looks = []
        for _ in range(3):
            before = time.time()
            theirs = float(self.cluster.remote(box).must("date +%s.%N", 60))
            after = time.time()
            looks.append((after - before, theirs - (before + after) / 2))
        return min(looks)[1]

    def seen(self) -> list[Seen]:
        """All answers until now."""
        self.texts = self.remote.must(f"cat {SEEN}", 120).splitlines()
        found = []
        for line in self.texts:
            at, _, text = line.partition(" ")
            record = records.parse(text)
            if record is not None and "disk=failed" not in text:
                found.append(Seen(float(at) - self.ahead_s, record))
        return found

    def beats(self, count: int, timeout_s: float) -> Record:
        """Wait for so many different records; gives the last."""
        return self._until(lambda seen: len({one.record for one in seen}) >= count, f"{count} heartbeats", timeout_s)

    def since(self, moment: float, timeout_s: float) -> Record:
        """Wait for three records that the guest made after that moment and that go on from each other."""

        def going_on(seen: list[Seen]) -> bool:
            before = max((one.record.count for one in seen if one.at <= moment), default=0)
            return len({one.record.count for one in seen if one.at > moment and one.record.count > before + 1}) >= 3

        return self._until(going_on, "the guest's heart does not beat", timeout_s)

    def _until(self, enough, what: str, timeout_s: float) -> Record:  # type: ignore[no-untyped-def]
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            seen = self.seen()
            if enough(seen):
                return seen[-1].record
            time.sleep(2)
        last = self.texts[-1] if self.texts else "nothing"
        raise report.Failure(f"as seen from the tang box: {what} within {timeout_s:.0f} s; last {last}")

    def boots(self, moment: float) -> list[str]:
        """The guest's boots that were heard after that moment, in their order."""
        return list(dict.fromkeys(one.record.boot for one in self.seen() if one.at > moment))

    def gap(self, moment: float) -> float:
        """The longest silence from just before that moment on."""
        at = [one.at for one in self.seen()]
        at = [*[one for one in at if one <= moment][-1:], *[one for one in at if one > moment]]
        return max((after - before for before, after in zip(at, at[1:])), default=0.0)

    def end(self) -> list[Record]:
        """Stop asking; everything the guest has shown."""
        shown = [one.record for one in self.seen()]
        self.remote.must("systemctl stop lab-observer.service", 60)
        return shown

    def fences(self, struck_at: float, first: str) -> list[Fence]:
        """Whom the others declared dead since the strike, and when each had been reset. `first` is looked at first."""
        declared: dict[str, float] = {}
        for box in NODES:
            ahead = self._ahead(box)
            told = self.cluster.remote(box).run(JOURNAL.format(since=struck_at + ahead), 120).output
            for line in told.splitlines():
                found = DECLARED.search(line)
                if found:
                    at = float(line.split()[0]) - ahead
                    name = found[1] or found[2]
                    declared[name] = min(at, declared.get(name, at))
        return [self._fence(node, struck_at, at) for node, at in sorted(declared.items(), key=lambda one: one[0] != first)]

    def _fence(self, node: str, struck_at: float, declared_at: float) -> Fence:
        resets = [at for at, name, what in self.events if name == node and what in CAUSES and struck_at - 1 <= at <= declared_at]
        reset = min(resets, default=None)
        return Fence(
            node,
            None if reset is None else round(reset - struck_at, 1),
            round(declared_at - struck_at, 1),
            None if reset is None else round(declared_at - reset, 1),
        )
