"""What the first evening promises: a VM whose heart beats, disks that clevis itself can open, replicated volumes
with TLS and quorum, tools that have nothing left to do, and a node that comes back from a reboot by itself."""

import json

DISKS = 4
TOOLS = ["pc-trust", "pc-ovs", "pc-brick", "pc-gluster", "pc-vm"]

# The token's own keyslot, the passphrase as clevis decrypts it, and cryptsetup to say that it fits.
CLEVIS_OPENS = """
for disk in /dev/disk/by-id/virtio-$(hostname)-d?; do
    token=$(cryptsetup luksDump --dump-json-metadata $disk | jq -c '[.tokens[] | select(.type == "clevis")][0]')
    jwe=$(jq -j '.jwe | .protected + "." + .encrypted_key + "." + .iv + "." + .ciphertext + "." + .tag' <<< "$token")
    slot=$(jq -r '.keyslots[0]' <<< "$token")
    printf %s "$jwe" | clevis decrypt | cryptsetup open --test-passphrase --key-slot $slot --key-file - $disk
    cryptsetup isLuks --type luks2 $disk
    echo $disk
done
"""


def back(node):
    """Wait until a node is whole again: unlocked, mounted, its peers connected, nothing left to heal."""
    node.wait_until_succeeds("systemctl is-active pc-storage.target", timeout=1200)
    node.wait_until_succeeds("[ $(lsblk -rno TYPE | grep -c ^crypt) = 4 ]", timeout=300)
    node.wait_until_succeeds("[ $(findmnt -rn -o TARGET | grep -c ^/srv/bricks/) = 3 ] && mountpoint -q /mnt/local")
    node.wait_until_succeeds("[ $(gluster pool list | grep -c Connected) = 3 ]", timeout=300)
    node.wait_until_succeeds("pc-gluster status --json | jq -e '[.volumes[].heal_pending] | add == 0'", timeout=900)
    # A unit that was tried too early is tried again: none of them gives up.
    node.wait_until_succeeds('[ -z "$(systemctl list-units --failed --no-legend --plain)" ]', timeout=600)
    node.succeed("systemctl is-active pc-brick.service pc-unlock.service")
    node.fail("journalctl -b | grep -i 'ordering cycle'")


with subtest("the VM's heart beats"):
    log(f"    {heartbeat(node1)}")

with subtest("it beats on the console, and over its VLAN to another node"):
    node1.succeed("tail -n 3 /var/log/libvirt/qemu/mail-serial.log | grep -a '^hb '")
    node2.succeed(
        "ovs-vsctl --timeout=20 --may-exist add-port br-lan smoke0 tag=20 -- set Interface smoke0 type=internal",
        "ip address replace 10.0.20.250/24 dev smoke0 && ip link set smoke0 up",
    )
    log(f"    {node2.wait_until_succeeds('curl --silent --fail --max-time 10 http://10.0.20.5/hb', timeout=60).strip()}")
    node2.succeed("ovs-vsctl --timeout=20 del-port br-lan smoke0")
    # Open vSwitch takes a port without a tag for a trunk.
    cards = node1.succeed("ovs-vsctl --timeout=20 --bare --columns=name,tag find Port | paste -sd ' ' | grep -o 'vnet[0-9]* [0-9]*'")
    assert cards.split()[1::2] == ["20"], cards

with subtest("every data disk is LUKS2 and clevis itself opens it; the system's disk is untouched"):
    for told in in_parallel(lambda node: node.succeed(CLEVIS_OPENS), nodes):
        assert len(told.split()) == DISKS, told
    node1.succeed("[ $(blkid -o value -s TYPE /dev/disk/by-id/virtio-node1-root) = ext4 ]")

with subtest("volume vms: three replicas, virt profile, TLS, quorum"):
    info = node1.succeed("gluster volume info vms")
    for line in (
        "Type: Replicate", "Number of Bricks: 1 x 3 = 3", "Status: Started", "features.shard: on", "client.ssl: on",
        "server.ssl: on", "cluster.quorum-type: auto", "cluster.server-quorum-type: server",
    ):  # fmt: skip
        assert line in info, f"{line} is not in:\n{info}"
    node1.succeed("test -e /var/lib/glusterd/secure-access")

with subtest("a file written through node1 is read through node3"):
    node1.succeed("head -c 1M /dev/urandom > /mnt/backup/smoke && sync -f /mnt/backup/smoke")
    wanted = node1.succeed("sha256sum < /mnt/backup/smoke")
    assert node3.succeed("sha256sum < /mnt/backup/smoke") == wanted
    node1.succeed("rm /mnt/backup/smoke")

with subtest("a second plan and apply of every tool: no action, exit 0"):

    def nothing_left(node):
        for tool in TOOLS:
            plan = json.loads(node.succeed(f"{tool} --applied plan --json --exit-code"))
            assert plan["steps"] == [], f"{node.name}: {tool} plan: {plan['steps']}"
            node.succeed(f"{tool} --applied apply")

    in_parallel(nothing_left, nodes)

with subtest("no unit failed, no ordering cycle"):
    for node in nodes:
        failed = node.succeed("systemctl list-units --failed --no-legend --plain")
        assert failed == "", f"{node.name}: {failed}"
        node.fail("journalctl -b | grep -i 'ordering cycle'")

with subtest("a network card that goes away and comes back carries the node again"):
    node3.succeed("card=$(dirname $(readlink -f /sys/class/net/eth1/device)) && echo 1 > $card/remove")
    node3.fail("ping -c 1 -W 5 10.10.0.1")
    node3.succeed("echo 1 > /sys/bus/pci/rescan")
    node3.wait_until_succeeds("ping -c 1 -W 5 10.10.0.1", timeout=300)

with subtest("reboot of node3: back with no hands"):
    node3.reboot()
    back(node3)

with subtest("the VM has not noticed"):
    log(f"    {heartbeat(node1)}")
