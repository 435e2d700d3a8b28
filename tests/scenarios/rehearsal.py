"""`pc-ha drill`: the node that runs the VM resets itself, another one measures, and all is whole again with no hands; then
a node without a VM. Nothing is reset without the flag that says so."""
# with: ha

import json

with subtest("[ha]: every node is armed, the VM is handed over as it runs"):
    host = arm()

beat = heartbeat(host)
witness = next(node for node in nodes if node.name != host.name)


def boot_id(node):
    return node.succeed("cat /proc/sys/kernel/random/boot_id").strip()


def drill(node, by):
    """What `by` measures of `node`, which has restarted once."""
    missable(by)
    before = boot_id(node)
    # 1: slower than computed, which counts for computers; an emulated one may take one and a half times as long.
    code, told = by.execute(f"pc-ha --applied drill {node.name} --power-cut --json", timeout=3600)
    answer = json.loads(told)
    log(f"    {answer}")
    slowest = max([vm["seconds"] for vm in answer["vms"]], default=0)
    assert code == (0 if slowest <= answer["worst_case_seconds"] else 1), (code, answer)
    assert slowest <= 1.5 * answer["worst_case_seconds"], answer
    assert boot_id(node) != before
    kept = json.loads(by.succeed("cat /var/lib/personal-cluster/ha/drill.json"))
    assert kept == answer, kept
    # Dead for longer than its watchdog would have needed, had it lived.
    fenced = answer["fenced_seconds"] - answer["lost_seconds"]
    assert fenced >= status(by)["timing"]["watchdog_seconds"], answer
    return answer


with subtest("nothing is reset without a word for it"):
    missable(witness)
    before = boot_id(host)
    code, told = witness.execute(f"pc-ha --applied drill {host.name} 2>&1")
    assert code == 2 and "mail restarts on another node" in told, (code, told)
    plan = json.loads(witness.succeed(f"pc-ha --applied drill {host.name} --plan --json"))
    assert plan["restarts"] == ["mail"] and plan["in_the_way"] == [], plan
    assert boot_id(host) == before

with subtest(f"{host.name}, which runs the VM, resets itself"):
    answer = drill(host, witness)
    new = named(answer["vms"][0]["node"])
    assert place(witness) == new.name and runs_on() == [new.name], answer
    record = heartbeat(new)
    assert boot_of(record) != boot_of(beat) and count_of(record) > count_of(beat), (beat, record)

with subtest("a node without a VM resets itself: the VM does not notice"):
    other = next(node for node in nodes if node.name not in (new.name, witness.name))
    answer = drill(other, witness)
    assert answer["vms"] == [] and answer["within"] is None, answer
    assert boot_of(heartbeat(new)) == boot_of(record), "it was restarted once more"
