"""All nodes are upgraded, one after the other, by one command: each is drained, upgraded, rebooted, and takes its VM again.
Whoever walks is killed in the middle, and restarted by its own turn. Through all of it the guest boots once."""
# with: ha
# nixos: no, nodes restart when it is their turn and not when the driver says so, which its shell does not survive

import json

WALK = "/var/lib/personal-cluster/ha/upgrade.json"
MARK = "/var/lib/personal-cluster/upgraded-in"
# While it is there an upgrade does not end.
HOLD = "/run/upgrade-held"
COMMAND = f"cat /proc/sys/kernel/random/boot_id >> {MARK}; while test -e {HOLD}; do sleep 1; done"


def plan(node):
    """What would be done."""
    return json.loads(node.succeed("pc-ha --applied upgrade --plan --json", timeout=1800))


def boots(node):
    """The kernel's name for its boot."""
    return node.succeed("cat /proc/sys/kernel/random/boot_id").strip()


with subtest("[ha]: every node is armed, the VM is handed over as it runs"):
    host = arm()

beat = heartbeat(host)
walker = next(node for node in nodes if node.name != host.name)
before = {node.name: boots(node) for node in nodes}

with subtest("what an upgrade runs here: there is nothing newer, so it leaves a mark"):
    in_parallel(
        lambda node: node.succeed(f"printf '%s\\n' sh -c '{COMMAND}' > /etc/personal-cluster/upgrade-command"), nodes
    )

with subtest("--plan: the one that walks comes last, nothing is in the way"):
    missable(walker)
    told = plan(walker)
    assert told["nodes"][-1]["node"] == walker.name and len(told["nodes"]) == 3, told
    assert told["in_the_way"] == [], told
    assert next(node for node in told["nodes"] if node["node"] == host.name)["moved"] == ["mail"], told

with subtest("while one node is drained no upgrade begins"):
    other = next(node for node in nodes if node.name not in (host.name, walker.name))
    missable(walker)
    walker.succeed(f"pc-ha --applied drain {other.name}", timeout=3600)
    code, said = walker.execute("pc-ha --applied upgrade 2>&1")
    assert code == 75 and f"{other.name} is drained: one node at a time" in said, (code, said)
    walker.succeed(f"pc-ha --applied undrain {other.name} --stay", timeout=3600)

with subtest("it begins, and whoever walks is killed while the first node upgrades itself"):
    first = named(told["nodes"][0]["node"])
    first.succeed(f"touch {HOLD}")
    missable(walker)
    # The driver's own shell would hang up on it.
    walker.succeed("systemd-run --collect --unit=walk pc-ha --applied upgrade --timeout 7200")
    first.wait_until_succeeds(f"test -s {MARK}", timeout=2400)
    walker.succeed(f"jq -e '.current.phase == \"upgrade\"' {WALK}")
    code, said = walker.execute("pc-ha --applied upgrade 2>&1")
    assert code == 75 and "another pc-ha upgrade is at work" in said, (code, said)
    code, said = host.execute("pc-ha --applied upgrade 2>&1")
    assert code != 0, (code, said)
    walker.succeed("systemctl kill --signal=KILL walk.service")
    walker.wait_until_fails("systemctl is-active walk.service")
    walker.succeed(f"test -e {WALK}")

with subtest("it goes on, through every node and its own reboot, without a hand"):
    walker.succeed("systemctl start pc-ha-upgrade.service")
    first.succeed(f"rm {HOLD}")
    walker.wait_until_succeeds(
        f"test \"$(cat /proc/sys/kernel/random/boot_id)\" != {before[walker.name]} && test ! -e {WALK}", timeout=4 * 3600
    )

with subtest("each node was upgraded once, in the boot before this one"):
    for node in nodes:
        assert boots(node) != before[node.name], f"{node.name} was not rebooted"
        assert node.succeed(f"cat {MARK}").split() == [before[node.name]], node.name
    all_here(walker)
    record = heartbeat(named(place(walker)))
    log(f"    {record}")
    assert boot_of(record) == boot_of(beat) and count_of(record) > count_of(beat), (beat, record)
    assert len(runs_on()) == 1
    missable(walker)

with subtest("nothing is left of it"):
    status_now = status(walker)
    assert not any(node["drained"] for node in status_now["nodes"]), status_now
    assert plan(walker)["in_the_way"] == []
