"""The switch is replaced: in maintenance all nodes lose sight of each other for longer than any fail-over takes, and nobody is reset,
nothing is started twice, the guest is not restarted. Then a node dies in maintenance: nothing happens, until somebody says that it is dead."""
# with: ha
# nixos: no, it cuts nodes from each other: only the lab can

import json
import time

OWNER = "/mnt/vms/vms/mail/owner.json"


def boots():
    """Each node's kernel's name for its boot."""
    return {node.name: node.succeed("cat /proc/sys/kernel/random/boot_id").strip() for node in nodes}


def begin(node):
    """Maintenance begins on that node, and is in force on all."""
    node.succeed("pc-ha --applied maintenance on", timeout=3600)
    for one in nodes:
        one.fail("systemctl is-active pacemaker.service")
        one.succeed("systemctl is-active corosync.service sbd.service")
    assert json.loads(host.succeed(f"cat {OWNER}")).get("pacemaker") in (None, False), "its record relies on fencing"


with subtest("[ha]: every node is armed, the VM is handed over as it runs"):
    host = arm()

worst = status(node1)["timing"]["worst_case_seconds"]
beat = heartbeat(host)
before = boots()
witness, third = [node for node in nodes if node.name != host.name]

with subtest("maintenance begins: pacemaker is away on every node, the guest runs on"):
    begin(witness)
    assert runs_on() == [host.name]
    assert boot_of(heartbeat(host)) == boot_of(beat)

with subtest(f"nobody sees anybody for {1.5 * worst:.0f} s: no node is reset, no QEMU is started or ended"):
    began = time.monotonic()
    for node in nodes:
        cut(node)
    for node in nodes:
        # It ends with 2 where there is none.
        node.wait_until_succeeds("{ corosync-quorumtool -s || true; } | grep -E '^Quorate: +No'", timeout=600)
    host.wait_until_succeeds("virsh domstate --reason mail | grep -q 'paused (I/O error)'", timeout=600)
    while time.monotonic() < began + 1.5 * worst:
        assert runs_on() == [host.name]
    for node in nodes:
        join_network(node)
    for node in nodes:
        node.wait_until_succeeds("corosync-quorumtool -s | grep -E '^Total votes: +3'", timeout=600)
    assert boots() == before

with subtest("maintenance ends: the guest goes on where it stopped, and was not restarted"):
    witness.wait_until_succeeds("pc-ha --applied maintenance off", timeout=1800)
    all_here(witness)
    record = heartbeat(host, 900)
    log(f"    {record}")
    assert boot_of(record) == boot_of(beat) and count_of(record) > count_of(beat), (beat, record)
    assert boots() == before and runs_on() == [host.name]
    host.wait_until_succeeds(f"jq -e .pacemaker {OWNER}", timeout=900)
    healed(witness)

with subtest("who is alive cannot be called dead"):
    code, told = witness.execute(f"pc-ha --applied maintenance on --dead {third.name} 2>&1")
    assert code == 2 and f"{third.name} is alive" in told, (code, told)
    assert status(witness)["vms"][0]["state"] == "started"

with subtest(f"{host.name} dies in maintenance: nobody starts its VM"):
    begin(witness)
    last = heartbeat(host)
    began = time.monotonic()
    host.crash()
    while time.monotonic() < began + 1.5 * worst:
        for node in (witness, third):
            code, told = node.execute("pc-vm --applied probe --exit-code mail")
            assert code != 0, f"{node.name} runs it: {told}"

with subtest("the end of maintenance is refused while it is away, and begun by the word that it is dead"):
    code, told = witness.execute("pc-ha --applied maintenance off 2>&1", timeout=1800)
    assert code != 0 and host.name in told, (code, told)
    assert [node.name for node in (witness, third) if node.execute("pc-vm --applied probe --exit-code mail")[0] == 0] == []
    witness.succeed(f"pc-ha --applied maintenance off --dead {host.name}", timeout=1800)
    record = moved_on(witness, host)
    log(f"    {record}")
    assert boot_of(record) != boot_of(last) and count_of(record) >= count_of(last), (last, record)

with subtest(f"{host.name} comes back: the VM stays, and runs once"):
    new = place(witness)
    host.start()
    all_here(witness)
    assert runs_on() == [new]
    assert boot_of(heartbeat(named(new))) == boot_of(record), "it was restarted once more"
    healed(witness)
