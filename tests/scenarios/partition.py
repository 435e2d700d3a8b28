"""The node that runs the VM is cut off from both others. Its watchdog resets it before they start the VM: at no moment do
two nodes run it. Then a cut between two nodes that both see the third: nobody runs it twice either."""

import json
import re
import threading
import time

ALL_HERE = '([.nodes[] | select(.online)] | length == 3) and .vms[0].state == "started"'


def status(node):
    return json.loads(node.succeed("pc-ha --applied status --json"))


def place(node):
    """Where pacemaker has the VM."""
    (where,) = next(vm["nodes"] for vm in status(node)["vms"] if vm["name"] == "mail")
    return where


def named(name):
    return next(machine for machine in nodes if machine.name == name)


def boot_of(record):
    """The guest's boot: another one after a restart, the same after a move."""
    return re.search(r"boot=(\S+)", record)[1]


def count_of(record):
    """The number that goes on where the disk's last record stopped: it never goes back, or a write was lost."""
    return int(re.match(r"hb (\d+)", record)[1])


def runs_on():
    """Nodes whose kernel shows the VM's QEMU."""
    return [node.name for node in nodes if node.execute("pc-vm --applied probe --exit-code mail")[0] == 0]


def elsewhere(node):
    """A jq filter: the VM is started on one node, another than this."""
    return f'.vms[0] | .state == "started" and (.nodes | length == 1 and .[0] != "{node.name}")'


def healed(node):
    node.wait_until_succeeds("pc-gluster status --json | jq -e '[.volumes[].heal_pending] | add == 0'", timeout=1800)


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
    before = heartbeat(node1)
    if node1.execute("grep -q '^\\[ha\\]' /etc/personal-cluster/cluster.toml")[0] != 0:
        node1.succeed("printf '\\n[ha]\\nprofile = \"patient\"\\n' >> /etc/personal-cluster/cluster.toml")
        node1.succeed("pc-config push")
    # The first one has no quorum yet, and says so with 75.
    in_parallel(lambda node: node.execute("pc-ha --applied enable"), nodes)
    for node in nodes:
        node.wait_until_succeeds(f"pc-ha --applied status --json | jq -e '{ALL_HERE}'", timeout=900)
    host = named(place(node1))
    assert boot_of(heartbeat(host)) == boot_of(before), "the guest was restarted"
    for node in nodes:
        node.fail("systemctl is-active pc-vm@mail.service")

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
    host.wait_until_succeeds(f"pc-ha --applied status --json | jq -e '{ALL_HERE}'", timeout=1800)
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
    third.wait_until_succeeds(f"pc-ha --applied status --json | jq -e '{ALL_HERE}'", timeout=1800)
    (running,) = runs_on()
    record = heartbeat(named(running))
    log(f"    on {running}: {record}")
    assert count_of(record) > count_of(beat), (beat, record)
