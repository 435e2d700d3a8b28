"""The node that runs the VM is cut off from both others. Its watchdog resets it before they start the VM: at no moment do
two nodes run it. Then a cut between two nodes that both see the third: nobody runs it twice either."""
# with: ha
# nixos: no, it judges by the emulator's own events, and cuts two nodes from each other: only the lab can

import json
import threading
import time


def watch(node, seconds, seen):
    """Notes the emulator's own events, stamped by this machine's clock: they need nothing of the node."""

    def listen():
        try:
            for event in node.events(seconds):
                stamp = event["timestamp"]
                seen.append((stamp["seconds"] + stamp["microseconds"] / 1e6, event["event"]))
        except OSError:
            pass  # the deadline of the listening

    threading.Thread(target=listen, daemon=True).start()


with subtest("[ha]: every node is armed, the VM is handed over as it runs"):
    host = arm()

timing = status(node1)["timing"]
others = [node for node in nodes if node.name != host.name]
beat = heartbeat(host)

with subtest(f"{host.name} is cut off: it resets itself, and only then the VM starts elsewhere"):
    seen = []
    watch(host, 900, seen)
    cut_at = time.time()
    cut(host)
    others[0].wait_until_succeeds(
        f"pc-ha --applied status --json | jq -e '{elsewhere(host)}'", timeout=3 * timing["worst_case_seconds"]
    )
    new = named(place(others[0]))
    pid = json.loads(new.succeed("pc-vm --applied probe mail --json"))["pid"]
    # The age of its QEMU, in the survivor's own seconds, back from now.
    began = time.time() - float(new.succeed(f"ps -o etimes= -p {pid}"))
    resets = [at for at, event in seen if event in ("WATCHDOG", "RESET") and at > cut_at]
    assert resets, f"{host.name} was not reset by its watchdog: {seen}"
    log(
        f"    reset {resets[0] - cut_at:.1f} s after the cut (computed: within {timing['self_reset_seconds']} s),"
        f" QEMU on {new.name} after {began - cut_at:.1f} s"
    )
    margin = began - resets[0]
    assert margin >= timing["watchdog_seconds"], f"{margin:.1f} s between the reset and the start"

with subtest("its heart beats there, and what it had written is there"):
    record = heartbeat(new)
    log(f"    {record}")
    assert boot_of(record) != boot_of(beat) and count_of(record) > count_of(beat), (beat, record)

with subtest(f"{host.name} is joined again: a member that runs nothing of it"):
    join_network(host)
    all_here(host)
    assert runs_on() == [new.name]
    healed(node1)

with subtest("two nodes cannot see each other, the third sees both: the VM runs at most once, and then once"):
    at = named(place(node1))
    other, third = [node for node in nodes if node.name != at.name]
    beat = heartbeat(at)
    cut(at, other)
    deadline = time.monotonic() + 3 * timing["worst_case_seconds"]
    while time.monotonic() < deadline:
        # Over the management network, which is not cut: a node that is being reset counts as none.
        running = runs_on()
        assert len(running) <= 1, running
    join_network(at)
    join_network(other)
    all_here(third)
    (running,) = runs_on()
    record = heartbeat(named(running))
    log(f"    on {running}: {record}")
    assert count_of(record) > count_of(beat), (beat, record)
