"""Every node and the tang box lose power at once; the tang box comes back last. The VM is back with no hands."""

import re
import time

before = int(re.match(r"hb (\d+)", heartbeat(node1))[1])

with subtest("the plug of everything is pulled"):
    for machine in machines:
        machine.crash()

with subtest("the nodes have power again, the tang box does not: they wait, locked"):
    for node in nodes:
        node.start()
    for node in nodes:
        node.wait_until_succeeds("systemctl is-active pc-unlock.service", timeout=900)
        node.fail("lsblk -rno TYPE | grep ^crypt")
        node.fail("ls /run/personal-cluster/secrets/node.key")
        node.fail("systemctl is-active glusterd.service")

begun = time.monotonic()
with subtest("the tang box has power again: everything comes by itself"):
    tang.start()
    record = heartbeat(node1, timeout=1800)
    log(f"    {time.monotonic() - begun:.0f} s from the tang box's power to the VM's heartbeat: {record}")

with subtest("what the VM had written is there"):
    after = int(re.match(r"hb (\d+)", record)[1])
    assert after > before, f"the record went from {before} to {after}"

with subtest("everything is whole again"):
    for node in nodes:
        node.wait_until_succeeds("systemctl is-active pc-storage.target", timeout=900)
        node.wait_until_succeeds("[ $(findmnt -rn -o TARGET | grep -c ^/srv/bricks/) = 3 ]", timeout=600)
        node.fail("journalctl -b | grep -i 'ordering cycle'")
    node1.wait_until_succeeds("pc-gluster status --json | jq -e '[.volumes[].heal_pending] | add == 0'", timeout=900)
