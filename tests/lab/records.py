"""What the guest wrote to its own disk, judged: nothing lost that it had shown, nothing torn, never two of it.

guest/init writes one record of 512 bytes a second, with fsync, to the next of RING_SLOTS places and then to the place
of the last one, and shows it only after that. `hb N boot=ID up=SECONDS sum=MD5`: the sum is that of the text before it.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

SECTOR = 512
LAST_SECTOR = 1024
RING_SECTOR = 1032  # at a page's boundary, as direct reads want
RING_SLOTS = 512
# From here to there, in sectors: what a node reads to judge.
SPAN = (LAST_SECTOR, RING_SECTOR + RING_SLOTS)

RECORD = re.compile(r"hb (\d+) boot=([0-9a-f-]{36}) up=([0-9.]+)")


@dataclass(frozen=True)
class Record:
    """One heartbeat."""

    count: int
    boot: str
    up_s: float


def parse(text: str) -> Record | None:
    """A record as shown on the console, over the network or found on the disk, without its sum."""
    found = RECORD.match(text)
    return Record(int(found[1]), found[2], float(found[3])) if found else None


@dataclass(frozen=True)
class Judged:
    """What the disk says."""

    records: list[Record]  # by count
    faults: list[str]


def judge(disk: bytes, shown: list[Record]) -> Judged:
    """`disk` is SPAN of the VM's disk, `shown` what anybody has seen of the guest, each after its own fsync."""
    faults = []
    found: dict[int, Record] = {}
    for slot in range(RING_SLOTS):
        at = (RING_SECTOR - LAST_SECTOR + slot) * SECTOR
        text = disk[at : at + SECTOR].rstrip(b"\0").decode(errors="replace")
        if not text:
            continue
        body, mark, sum_ = text.strip().rpartition(" sum=")
        record = parse(body)
        if not mark or record is None or hashlib.md5(body.encode()).hexdigest() != sum_:
            faults.append(f"slot {slot}: torn or not a record: {text[:80]!r}")
        elif record.count % RING_SLOTS != slot:
            faults.append(f"slot {slot}: holds record {record.count}, whose slot is {record.count % RING_SLOTS}")
        else:
            found[record.count] = record
    records = [found[count] for count in sorted(found)]
    faults += _gaps(records)
    faults += _twice(records)
    faults += _lost(found, shown)
    return Judged(records, faults)


def _gaps(records: list[Record]) -> list[str]:
    """Counts go up by one: a hole is a write that was lost though a later one was made after it."""
    return [
        f"after record {before.count} comes {after.count}"
        for before, after in zip(records, records[1:])
        if after.count != before.count + 1
    ]


def _twice(records: list[Record]) -> list[str]:
    """A boot that comes again after another one wrote: both ran at once."""
    faults, over = [], set()
    for before, after in zip(records, records[1:]):
        if after.boot != before.boot:
            over.add(before.boot)
            if after.boot in over:
                faults.append(f"record {after.count} is of boot {after.boot}, after record {before.count} of {before.boot}")
        elif after.up_s < before.up_s:
            faults.append(f"record {after.count}: its boot is {after.up_s} s old, after {before.up_s} s")
    return faults


def _lost(found: dict[int, Record], shown: list[Record]) -> list[str]:
    """What was shown is on the disk, of that boot, unless the ring has come round."""
    last = max(found, default=0)
    faults = []
    for record in sorted(set(shown), key=lambda one: one.count):
        if record.count <= last - RING_SLOTS:
            continue
        kept = found.get(record.count)
        if kept is None:
            faults.append(f"record {record.count} of boot {record.boot} was shown, and is not on the disk")
        elif kept.boot != record.boot:
            faults.append(f"record {record.count} was shown by boot {record.boot}; on the disk it is of {kept.boot}")
    return faults
