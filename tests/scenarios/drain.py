"""A node is drained: its VM moves while it runs. It is rebooted, undrained, and gets its VM back. Then a plain reboot,
without a drain: the guest moves as well. Through all of it the guest boots once."""

import json
import re
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

beat = heartbeat(host)
first, second = [node for node in nodes if node.name != host.name]

with subtest(f"drain {host.name}: the VM moves while it runs"):
    answer = json.loads(host.succeed(f"pc-ha --applied drain {host.name} --json", timeout=3600))
    assert answer["drained"] and answer["moved"] == ["mail"], answer
    away = named(place(host))
    record = heartbeat(away)
    log(f"    {answer['seconds']} s, to {away.name}: {record}")
    assert runs_on() == [away.name]
    assert boot_of(record) == boot_of(beat) and count_of(record) > count_of(beat), (beat, record)

with subtest("while it is away no other node can be drained: the quorum would go"):
    host.succeed("systemctl stop pacemaker.service corosync.service")
    first.wait_until_succeeds("pc-ha --applied status --json | jq -e '.quorum.votes == 2'", timeout=600)
    code, told = first.execute(f"pc-ha --applied drain {second.name} 2>&1")
    assert code == 75 and "would lose its quorum" in told, (code, told)

with subtest(f"{host.name} is rebooted and undrained: the VM comes home, if it was at home there"):
    host.reboot()
    host.wait_until_succeeds(f"pc-ha --applied status --json | jq -e '{ALL_HERE}'", timeout=1800)
    healed(host)
    answer = json.loads(host.succeed(f"pc-ha --applied undrain {host.name} --json", timeout=3600))
    log(f"    {answer['seconds']} s, back: {answer['moved']}")
    if answer["moved"]:
        assert place(host) == host.name
    assert boot_of(heartbeat(named(place(host)))) == boot_of(beat)

with subtest("a plain reboot moves the guest away first"):
    at = named(place(node1))
    witness = next(node for node in nodes if node.name != at.name)
    begun = time.monotonic()
    at.reboot()
    witness.wait_until_succeeds(f"pc-ha --applied status --json | jq -e '{elsewhere(at)}'", timeout=1800)
    now = named(place(witness))
    record = heartbeat(now)
    log(f"    on {now.name}, {time.monotonic() - begun:.1f} s after the reboot began: {record}")
    assert boot_of(record) == boot_of(beat), "it was restarted instead of moved"
    at.wait_until_succeeds(f"pc-ha --applied status --json | jq -e '{ALL_HERE}'", timeout=1800)
    assert runs_on() == [now.name]
