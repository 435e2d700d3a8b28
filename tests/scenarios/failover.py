"""The node that runs the VM loses its power. The VM beats on a survivor within one and a half of the computed worst case;
what it had written is there, and the node that comes back takes nothing away."""
# with: ha

import json
import re
import time


def told(node, since, pattern):
    """Seconds from `since` to the first line of a node's journal that says so, by the node's clock; None without one."""
    lines = node.succeed(
        f"journalctl --no-pager -o short-unix --since @{since:.0f} -t pacemaker-controld -t pacemaker-fenced"
        " -t pacemaker-schedulerd -t corosync -t pc-vm"
    )
    at = [float(line.split()[0]) for line in lines.splitlines() if re.search(pattern, line)]
    return min((moment for moment in at if moment >= since), default=None)


with subtest("[ha]: every node is armed, the VM is handed over as it runs"):
    host = arm()

with subtest("a second plan of pc-ha: nothing to do, on every node"):
    for node in nodes:
        plan = json.loads(node.succeed("pc-ha --applied plan --json"))
        assert plan["steps"] == [] and plan["faults"] == [], plan

worst = status(node1)["timing"]["worst_case_seconds"]
beat = heartbeat(host)
witness = next(node for node in nodes if node.name != host.name)

with subtest(f"{host.name} loses its power: the VM runs on a survivor within 1.5 x {worst} s"):
    clock = float(witness.succeed("date +%s.%N"))
    cut_at = time.monotonic()
    host.crash()
    witness.wait_until_succeeds(f"pc-ha --applied status --json | jq -e '{elsewhere(host)}'", timeout=3 * worst)
    seconds = time.monotonic() - cut_at
    new = named(place(witness))
    for what, pattern in (
        ("lost", r"TOTEM.*A new membership|state is now lost"),
        ("fencing asked for", r"[Rr]equesting fencing|Scheduling node .* for fencing"),
        ("fenced", r"[Oo]peration .*(reboot|off).* OK|was (terminated|fenced)|Peer .* was (terminated|not terminated)"),
    ):
        at = told(witness, clock, pattern)
        log(f"    {what}: " + ("not told here" if at is None else f"{at - clock:.1f} s"))
    log(f"    started on {new.name}: {seconds:.1f} s; computed worst case {worst} s")
    assert seconds <= 1.5 * worst, f"{seconds:.1f} s"

with subtest("its heart beats there, and what it had written is there"):
    record = heartbeat(new)
    log(f"    {record}: {time.monotonic() - cut_at:.1f} s")
    assert boot_of(record) != boot_of(beat) and count_of(record) > count_of(beat), (beat, record)

with subtest(f"{host.name} comes back: the VM stays, and runs once"):
    host.start()
    all_here(host)
    assert place(host) == new.name
    assert runs_on() == [new.name]
    assert boot_of(heartbeat(new)) == boot_of(record), "it was restarted once more"
    healed(node1)
