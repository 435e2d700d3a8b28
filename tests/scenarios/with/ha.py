"""What scenarios with a line `# with: ha` find beside the global names: pacemaker in charge, and what it and the guest say."""

import json
import re

ALL_HERE = '([.nodes[] | select(.online)] | length == 3) and .vms[0].state == "started"'
# What pc-ha asks of the storage before a node may leave; a report of five minutes ago counts for none.
WHOLE = '.healthy and .quorum and .heal_pending == 0 and now - (.measured_at | fromdate) < 200'


def status(node):
    """pc-ha's, as that node sees it."""
    return json.loads(node.succeed("pc-ha --applied status --json"))


def place(node):
    """Where pacemaker has the VM."""
    (where,) = next(vm["nodes"] for vm in status(node)["vms"] if vm["name"] == "mail")
    return where


def named(name):
    """The machine of that name."""
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
    """Waits until every copy is whole again."""
    node.wait_until_succeeds("pc-gluster status --json | jq -e '[.volumes[].heal_pending] | add == 0'", timeout=1800)


def missable(node):
    """Waits until that node's last report of the storage lets any node leave: `healed` counts now, a report is made each minute."""
    node.wait_until_succeeds(f"jq -e '{WHOLE}' /run/personal-cluster/storage.json", timeout=1800)


def all_here(node):
    """Waits until three nodes are online and the VM is started."""
    # An emulated node is kept busy by each look.
    node.wait_until_succeeds(f"pc-ha --applied status --json | jq -e '{ALL_HERE}' || {{ sleep 10; false; }}", timeout=1800)


def moved_on(witness, gone):
    """Waits until the VM runs on another node than this, as `witness` sees it, and its heart beats there; gives the record."""
    witness.wait_until_succeeds(f"pc-ha --applied status --json | jq -e '{elsewhere(gone)}'", timeout=1800)
    return heartbeat(named(place(witness)), 900)


def arm():
    """pacemaker takes over on every node, while the VM runs. Gives the node that has it."""
    before = heartbeat(node1)
    # On Debian a package that is asked for by name.
    in_parallel(lambda node: node.succeed("command -v pc-ha || apt-get install -y pc-ha", timeout=1200), nodes)
    # On NixOS the file is made with it.
    if node1.execute("jq -e .ha /var/lib/personal-cluster/applied.json")[0] != 0:
        node1.succeed("printf '\\n[ha]\\nprofile = \"patient\"\\n' >> /etc/personal-cluster/cluster.toml")
        node1.succeed("pc-config push")
    # The first one has no quorum yet, and says so with 75.
    in_parallel(lambda node: node.execute("pc-ha --applied enable"), nodes)
    for node in nodes:
        all_here(node)
        # Done once everything is in force and noted; asks again until then.
        node.wait_for_unit("pc-ha.service", timeout=900)
        node.fail("systemctl is-active pc-vm@mail.service")
    host = named(place(node1))
    # From now on a fence is an answer: its record says so once the node can be fenced.
    host.wait_until_succeeds("jq -e .pacemaker /mnt/vms/vms/mail/owner.json", timeout=600)
    assert boot_of(heartbeat(host)) == boot_of(before), "the guest was restarted"
    return host
