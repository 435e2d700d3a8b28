"""One network card, the administrator connected through it: taken over from ifupdown on node1, from systemd-networkd
on node2. With nobody to answer it is rolled back by itself; with somebody it stays, and survives a reboot."""
# lab: from installed
# nixos: no, it takes cards over from ifupdown and from files of networkd; on NixOS pc-ovs refuses, as only the configuration can

KEY = "/root/take-over-key"
FILE = """
schema = "personal-cluster/1"
name = "one-nic"
[[node]]
name = "node1"
address = "10.10.0.1"
nics.lan = ["eth1"]
[[node]]
name = "node2"
address = "10.10.0.2"
nics.lan = ["eth1"]
[[node]]
name = "node3"
address = "10.10.0.3"
nics.lan = ["eth1"]
[network.lan]
uplink = "lan"
subnet = "10.10.0.0/24"
"""
NETWORKD = """
printf '[Match]\\nName=eth0\\n[Network]\\nAddress=10.0.2.15/24\\n' > /etc/systemd/network/10-eth0.network
printf '[Match]\\nName=eth1\\n[Network]\\nAddress=10.10.0.2/24\\n' > /etc/systemd/network/20-eth1.network
printf '' > /etc/network/interfaces
rm -f /etc/network/interfaces.d/*
systemctl disable networking.service
systemctl enable systemd-networkd.service
"""


def address_is_on(node, interface):
    """The node's address is on that interface and on no other."""
    told = node.succeed("ip -o -4 address show | awk '$4 ~ /^10[.]10[.]/ { print $2 }'").split()
    assert told == [interface], f"{node.name}: the address is on {told}, not on {interface}"


def take_over(node, address):
    """From node3, over the card that is taken over: the only way in, as long as the other card has no cable."""
    # Both machines know a key pair that this scenario made.
    node.send_monitor_command("set_link nic-management off")
    try:
        node3.succeed(
            f"ssh -i {KEY} -o StrictHostKeyChecking=no -o ServerAliveInterval=10 root@{address} "
            "pc-ovs apply --take-over --confirm 60s",
            timeout=300,
        )
    finally:
        node.send_monitor_command("set_link nic-management on")


node3.succeed(f"ssh-keygen -q -t ed25519 -N '' -f {KEY}")
public = node3.succeed(f"cat {KEY}.pub").strip()
for node in (node1, node2):
    node.succeed(f"echo '{public}' >> /root/.ssh/authorized_keys")
    node.succeed(f"pc-config put - <<'END'\n{FILE}\nEND")

with subtest("node2 is one of systemd-networkd"):
    node2.succeed(NETWORKD)
    node2.reboot()
    node2.wait_until_succeeds("ip -o -4 address show eth1 | grep -q 10.10.0.2")

for node, address in ((node1, "10.10.0.1"), (node2, "10.10.0.2")):
    with subtest(f"{node.name}: without --take-over it is refused, and nothing changes"):
        status, _ = node.execute("pc-ovs apply")
        assert status == 2, status
        address_is_on(node, "eth1")

    with subtest(f"{node.name}: nobody answers: rolled back by itself"):
        cut(node)
        node.fail("pc-ovs apply --take-over --confirm 20s", timeout=300)
        node.wait_until_succeeds("ip -o -4 address show eth1 | grep -q 10.10.0.", timeout=120)
        join_network(node)
        address_is_on(node, "eth1")
        node3.wait_until_succeeds(f"ping -c 1 -W 2 {address}", timeout=60)

    with subtest(f"{node.name}: taken over through the card itself"):
        take_over(node, address)
        address_is_on(node, "br-lan")
        assert "steps\":[]" in node.succeed("pc-ovs plan --json").replace(" ", "").replace("\n", "")
        node3.succeed(f"ping -c 1 -W 5 {address}")

    with subtest(f"{node.name}: and after a reboot"):
        node.succeed("systemctl enable pc-ovs.service")
        node.reboot()
        node.wait_for_unit("pc-ovs.service", timeout=300)
        address_is_on(node, "br-lan")
        node3.wait_until_succeeds(f"ping -c 1 -W 5 {address}", timeout=60)
        node.fail("journalctl -b | grep -i 'ordering cycle'")
