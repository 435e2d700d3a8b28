"""What a move costs the guest: ten by plain `virsh migrate`, ten by pacemaker, which is what drains and reboots do, then a reboot.
Nothing of the guest's memory is readable on the wire."""
# with: ha
# with: pace
# nixos: no, the tang box has no leg in the guest's VLAN there

import statistics

RUNS = 10
ADDRESS = {"node1": "10.10.0.1", "node2": "10.10.0.2"}
# libvirt's ports for the memory of guests that arrive.
STREAM = "portrange 49152-49215"
CAPTURE = "/run/lab-stream.pcap"


def capture(node):
    """Begins to record what that node sends as memory."""
    node.succeed(
        "systemd-run --quiet --collect --unit=lab-stream --service-type=exec"
        f" tcpdump -i any -s 0 -U -w {CAPTURE} --immediate-mode -Z root 'tcp and {STREAM}'"
    )
    node.wait_until_succeeds(f"test -s {CAPTURE}")


def captured(node):
    """Ends it; gives the bytes sent, and how many of the guest's records can be read in them."""
    node.succeed("systemctl stop lab-stream.service")
    size = int(node.succeed(f"stat -c %s {CAPTURE}"))
    readable = int(node.succeed(f"grep -a -c 'hb [0-9]* boot=[0-9a-f-]*' {CAPTURE} || true"))
    node.succeed(f"rm {CAPTURE}")
    return size, readable


def timed(move):
    """One move; gives how long the guest did not answer."""
    begun = now_there()
    move()
    return gap(begun, now_there())


def told(gaps):
    """A line of figures."""
    return f"min {min(gaps):.2f}, median {statistics.median(gaps):.2f}, max {max(gaps):.2f} s"


beat = heartbeat(node1)
ping_the_guest()

with subtest("how long no answer comes while nothing moves"):
    begun = now_there()
    tang.wait_until_succeeds(f"test $(date +%s) -gt {begun + 20:.0f}")
    log(f"    {gap(begun, now_there()):.2f} s")

with subtest(f"{RUNS} moves by plain virsh migrate, which encrypts nothing: it can be read"):
    plain = []
    here, there = node1, node2
    for number in range(RUNS):
        if number == 0:
            capture(here)
        to = ADDRESS[there.name]
        command = f"virsh migrate --live --p2p --persistent mail qemu+tls://{to}/system tcp://{to}"
        plain.append(timed(lambda: here.succeed(command, timeout=1800)))
        if number == 0:
            size, readable = captured(here)
            log(f"    {size} bytes, {readable} lines with a record of the guest")
            assert readable > 0, "the look at the wire sees nothing, and would see nothing in what is encrypted"
        here, there = there, here
    log(f"    {told(plain)}")
    assert here.name == "node1"

with subtest("[ha]: every node is armed, the VM is handed over as it runs"):
    host = arm()
    assert host.name == "node1", host.name

with subtest(f"{RUNS} moves by pacemaker"):
    ours = []
    here, there = node1, node2
    missable(node1)
    for number in range(RUNS):
        if number == 0:
            capture(here)
        ours.append(timed(lambda: node3.succeed(f"pc-ha --applied move mail {there.name}", timeout=1800)))
        if number == 0:
            size, readable = captured(here)
            log(f"    {size} bytes, {readable} lines with a record of the guest")
            assert size > 10_000_000, f"only {size} bytes: this is not where the memory went"
            assert readable == 0, f"{readable} lines of the guest's memory can be read on the wire"
        assert runs_on() == [there.name]
        here, there = there, here
    log(f"    {told(ours)}")
    assert statistics.median(ours) <= 2 * statistics.median(plain), f"plain {plain}, ours {ours}"

with subtest("a plain reboot of the node that has it: a move like those"):
    at = named(place(node3))
    last = count_of(heartbeat(at))
    begun = now_there()
    at.reboot()
    all_here(at)
    silent = gap(begun, now_there())
    now = named(place(node3))
    wrote = longest_write(now, last)
    log(f"    without an answer {silent:.2f} s, between two writes of its disk {wrote:.2f} s")
    assert boot_of(heartbeat(now)) == boot_of(beat), "the guest was restarted"
    assert silent <= 2 * max(plain), f"{silent:.2f} s; plain moves {told(plain)}"
