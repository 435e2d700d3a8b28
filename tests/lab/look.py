"""Looking at a lab: the table that `up` ends with, and what to show when something failed."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab import boxes, places, report, segment, state, steps
from lab.boxes import NODES, Box
from lab.cluster import Cluster, together

AROUND = """look around:
  cargo xtask lab ssh node1                  a shell on a node (or `-- COMMAND`)
  cargo xtask lab console mail               the VM's console; leave with ctrl-]
  cargo xtask lab kill node2                 pull its plug; `lab join node2` puts it back
  cargo xtask lab cut node3                  pull its cable; `lab join node3` puts it back
  cargo xtask lab restore                    everything as it is now
  cargo xtask lab run smoke                  a scenario of tests/scenarios
  cargo xtask lab down"""

NODE_FACTS = (
    "echo \"$(systemctl is-active pc-storage.target) $(cut -d' ' -f1 /proc/uptime | cut -d. -f1) "
    "$(lsblk -rno TYPE | grep -c ^crypt) $(findmnt -rn -o TARGET | grep -c -e ^/srv/bricks/ -e ^/mnt/local) "
    "$(systemctl list-units --failed --no-legend --plain | cut -d' ' -f1 | tr '\\n' ',')\""
)


def table(cluster: Cluster) -> str:
    """Nodes, volumes, VM."""
    on = steps.boxes_on(cluster)
    facts = dict(together(lambda box: (box.name, cluster.remote(box).run(NODE_FACTS, 60).output.split()), on))
    rows = []
    for box in boxes.ALL:
        storage, up_s, crypt, mounts, *failed = [*facts.get(box.name, []), *["-"] * 4][:5]
        power = f"up {up_s} s" if box.name in facts else "off"
        cut = "cut" if any(box.name in rule for rule in segment.rules("lan")) else ""
        disks = f"{crypt} open, {mounts} mounted" if box in NODES else "-"
        rows.append([box.name, box.address, power, cut, disks, storage, "".join(failed).strip("-,")])
    parts = [report.table(["node", "address", "power", "net", "disks", "storage", "failed"], rows)]
    volumes = _volumes(cluster, on)
    if volumes:
        parts.append(report.table(["volume", "mounted", "quorum", "to heal"], volumes))
    if NODES[0] in on:
        parts.append(f"vm mail: {steps.record(cluster) or 'no heartbeat'}")
    return "\n\n".join(parts)


def _volumes(cluster: Cluster, on: list[Box]) -> list[list[str]]:
    for box in on:
        if box in NODES:
            told = cluster.remote(box).run("cat /run/personal-cluster/storage.json", 60)
            if told.status == 0:
                seam: Mapping[str, Any] = json.loads(told.output)
                return [
                    [str(one.get(key, "")) for key in ("name", "mounted", "quorum", "heal_pending")]
                    for one in seam.get("volumes", [])
                ]
    return []


# Units of ours that are neither done nor idle, and everything that failed.
TROUBLED = (
    "systemctl list-units --all --no-legend --plain --state=failed,activating,auto-restart | cut -d' ' -f1 | head -6"
)


def failure(cluster: Cluster, name: str) -> Path:
    """Pull every machine's logs; print the last lines of the units that are in trouble. Gives the directory."""
    directory = places.cache() / "logs" / f"{time.strftime('%Y%m%d-%H%M%S')}-{name}"
    directory.mkdir(parents=True)
    for file in places.run().glob("*.*"):
        if file.suffix in (".log", ".console"):
            shutil.copyfile(file, directory / file.name)
    for box, excerpt in zip(boxes.ALL, together(lambda box: _pull(cluster, box, directory))):
        if excerpt:
            report.say(f"---- {box.name}\n{excerpt}")
    places.forget_older(directory.parent, directory, keep=9)
    report.say(f"full logs: {directory}")
    return directory


def left(name: str) -> None:
    """As `failure`, of whatever runs: a lab that did not come up is nobody's yet."""
    recorded = state.load()
    if recorded is not None:
        cluster = Cluster(recorded)
        failure(cluster, name)
        cluster.close()


def _pull(cluster: Cluster, box: Box, directory: Path) -> str:
    if not cluster.on(box):
        return ""
    remote = cluster.remote(box)
    journal = remote.run("journalctl --no-pager -o short-precise", 300)
    (directory / f"{box.name}.journal").write_text(journal.output + journal.errors)
    files = "find /var/log/glusterfs /var/log/libvirt /run/personal-cluster -name secrets -prune -o -type f -size -2M "
    show = "-exec sh -c 'for f; do echo \"==== $f\"; tail -n 200 \"$f\"; done' sh {} + 2>/dev/null || true"
    (directory / f"{box.name}.files").write_text(remote.run(files + show, 300).output)
    excerpts = []
    for unit in remote.run(TROUBLED, 60).output.split():
        told = remote.run(f"journalctl --no-pager -o cat -n 12 -u {unit}", 60).output.rstrip()
        excerpts.append(f"{unit}:\n" + "\n".join(f"    {line}" for line in told.splitlines()))
    return "\n".join(excerpts)
