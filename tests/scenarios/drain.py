"""A node is drained: its VM moves while it runs. It is rebooted, undrained, and gets its VM back. Then a plain reboot,
without a drain: the guest moves as well. Through all of it the guest boots once."""
# with: ha

import json
import time

with subtest("[ha]: every node is armed, the VM is handed over as it runs"):
    host = arm()

beat = heartbeat(host)
first, second = [node for node in nodes if node.name != host.name]

with subtest(f"drain {host.name}: the VM moves while it runs"):
    missable(host)
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
    all_here(host)
    driver = status(host)["watchdog"]["module"]
    host.succeed(f"grep -Rx {driver} /etc/modules-load.d")
    # A VM comes to no node whose volume is not there yet.
    missable(host)
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
    all_here(at)
    assert runs_on() == [now.name]
