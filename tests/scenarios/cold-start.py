"""Everything is switched off at once, with pacemaker in charge, and one node never comes back. The two others start what they have to
start by themselves: the tang box, disks, volumes, pacemaker, then the VMs in the order of the file."""
# with: ha

import json
import time

WEB = """
[vm.web]
image = "lab-guest"
memory = "96MiB"
disk = "64MiB"
volume = "vms"
networks = ["mail"]
addresses.mail = "10.0.20.6/24"
home = "node2"
after = ["mail"]
"""


def started(node, name):
    """When QEMU of that VM was started on that node, by its clock; None when it does not run there."""
    code, told = node.execute(f"pc-vm --applied probe --exit-code {name} --json")
    if code != 0:
        return None
    pid = json.loads(told)["pid"]
    return float(node.succeed("date +%s.%N")) - float(node.succeed(f"ps -o etimes= -p {pid}"))


with subtest("[ha]: every node is armed, the VM is handed over as it runs"):
    host = arm()

with subtest("a second VM, which is started after the first"):
    node1.succeed(f"cat >> /etc/personal-cluster/cluster.toml << 'END'\n{WEB}END", "pc-config push")
    node1.wait_until_succeeds(
        "pc-ha --applied status --json | jq -e '[.vms[] | select(.state == \"started\")] | length == 2'", timeout=1800
    )
    healed(node1)
    beat = heartbeat(host)

missing = next(node for node in nodes if node.name != host.name)
there = [node for node in nodes if node is not missing]

with subtest(f"the plug of everything is pulled; {missing.name} stays without"):
    for machine in machines:
        machine.crash()
    begun = time.monotonic()
    tang.start()
    for node in there:
        node.start()

with subtest("without a hand: both VMs run, on two nodes of three"):
    there[0].wait_until_succeeds(
        "pc-ha --applied status --json | jq -e '.quorum.votes == 2 and ([.vms[] | select(.state == \"started\")] | length == 2)'",
        timeout=2400,
    )
    at = named(next(vm["nodes"] for vm in status(there[0])["vms"] if vm["name"] == "mail")[0])
    record = heartbeat(at, 900)
    log(f"    {time.monotonic() - begun:.0f} s from the plug to the heartbeat: {record}")
    assert boot_of(record) != boot_of(beat) and count_of(record) > count_of(beat), (beat, record)

with subtest("in order: the second VM after the first, no unit in a circle"):
    times = {name: [at for at in (started(node, name) for node in there) if at is not None] for name in ("mail", "web")}
    log(f"    {times}")
    assert [len(at) for at in times.values()] == [1, 1], times
    assert times["web"][0] > times["mail"][0], times
    for node in there:
        code, told = node.execute("journalctl -b --no-pager | grep -i 'ordering cycle'")
        assert code == 1, told
        shown = node.succeed("systemctl show -P ActiveEnterTimestampMonotonic pc-storage.target pacemaker.service").split()
        log(f"    {node.name}: storage after {int(shown[0]) / 1e6:.0f} s, pacemaker after {int(shown[1]) / 1e6:.0f} s")

with subtest(f"{missing.name} comes back: all is whole, each VM runs once"):
    missing.start()
    missing.wait_until_succeeds(
        "pc-ha --applied status --json | jq -e '([.nodes[] | select(.online)] | length == 3)"
        " and ([.vms[] | select(.state == \"started\")] | length == 2)'",
        timeout=1800,
    )
    healed(missing)
    for name in ("mail", "web"):
        running = [node.name for node in nodes if node.execute(f"pc-vm --applied probe --exit-code {name}")[0] == 0]
        assert len(running) == 1, (name, running)
