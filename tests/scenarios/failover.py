"""The node that runs the VM loses its power. The VM beats on a survivor within one and a half of the computed worst case;
what it had written is there, and the node that comes back takes nothing away."""
# with: ha

import json
import re
import time


# What a survivor's journal says at the end of each part of a fail-over.
PARTS = {
    "detection": r"TOTEM.*A new membership",
    "fencing": r"targeting {host} .*: OK|Peer {host} was terminated",
    "placement": r"Requesting local execution of start operation for pc-vm-mail",
    "start": r"Result of start operation for pc-vm-mail.*: OK",
}


def told(since, pattern):
    """Seconds from `since` to the first line that says so in any survivor's journal."""
    at = []
    for node in survivors:
        lines = node.succeed(
            f"journalctl --no-pager -o short-unix --since @{since:.0f} -t pacemaker-controld -t pacemaker-fenced -t corosync"
        )
        at += [float(line.split()[0]) for line in lines.splitlines() if re.search(pattern, line)]
    at = [moment for moment in at if moment >= since]
    assert at, f"no survivor says {pattern}"
    return min(at) - since


with subtest("[ha]: every node is armed, the VM is handed over as it runs"):
    host = arm()

with subtest("a second plan of pc-ha: nothing to do, on every node"):
    for node in nodes:
        plan = json.loads(node.succeed("pc-ha --applied plan --json"))
        assert plan["steps"] == [] and plan["faults"] == [], plan

worst = status(node1)["timing"]["worst_case_seconds"]
beat = heartbeat(host)
survivors = [node for node in nodes if node.name != host.name]
witness = survivors[0]

with subtest(f"{host.name} loses its power: the VM runs on a survivor within 1.5 x {worst} s"):
    clock = float(witness.succeed("date +%s.%N"))
    cut_at = time.monotonic()
    host.crash()
    witness.wait_until_succeeds(f"pc-ha --applied status --json | jq -e '{elsewhere(host)}'", timeout=3 * worst)
    seconds = time.monotonic() - cut_at
    new = named(place(witness))
    at = 0.0
    for part, pattern in PARTS.items():
        before, at = at, told(clock, pattern.format(host=host.name))
        log(f"    {part}: {at - before:.1f} s, until {at:.1f}")
        assert at >= before, f"{part} ended before what it follows"
    log(f"    started on {new.name}: {seconds:.1f} s; computed worst case {worst} s")
    assert seconds <= 1.5 * worst, f"{seconds:.1f} s"

with subtest("its heart beats there, and what it had written is there"):
    record = heartbeat(new)
    log(f"    guest boot: it beats {time.monotonic() - cut_at:.1f} s after the cut: {record}")
    assert boot_of(record) != boot_of(beat) and count_of(record) > count_of(beat), (beat, record)

with subtest(f"{host.name} comes back: the VM stays, and runs once"):
    host.start()
    all_here(host)
    assert place(host) == new.name
    assert runs_on() == [new.name]
    assert boot_of(heartbeat(new)) == boot_of(record), "it was restarted once more"
    healed(node1)
