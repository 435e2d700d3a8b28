"""A node without the VM goes: how long its guest's writes wait, by the guest's own clock. Not at all when it is rebooted;
until Gluster takes it for dead, once or twice its ping-timeout, when it loses its power."""
# with: ha
# with: pace

# docs/decisions/timings.md: every write may wait for twice Gluster's ping-timeout.
PING_TIMEOUT = 10


def settled(node):
    """Waits until all nodes are here and all copies whole, and the guest goes on; gives the number of a record from now."""
    all_here(node)
    healed(node)
    missable(node)
    return count_of(heartbeat(host))


with subtest("[ha]: every node is armed, the VM is handed over as it runs"):
    host = arm()

beat = heartbeat(host)
bystander, witness = [node for node in nodes if node.name != host.name]

with subtest("nothing happens: what a write takes anyway"):
    first = settled(host)
    while count_of(heartbeat(host)) < first + 30:
        pass
    quiet = longest_write(host, first)
    log(f"    at most {quiet:.2f} s from one to the next, of which 1 s is the guest's own rest")

with subtest(f"{bystander.name} is rebooted: no write waits for it"):
    first = settled(host)
    bystander.reboot()
    rebooted = longest_write(host, first)
    log(f"    {rebooted:.2f} s")
    assert rebooted < PING_TIMEOUT, f"{rebooted:.2f} s: a clean reboot was taken for a death"

with subtest(f"{bystander.name} loses its power: writes go on after once or twice {PING_TIMEOUT} s"):
    first = settled(host)
    bystander.crash()
    host.wait_until_succeeds("pc-ha --applied status --json | jq -e '.quorum.votes == 2'", timeout=600)
    moved = count_of(heartbeat(host))
    while count_of(heartbeat(host)) < moved + 3:
        pass
    frozen = longest_write(host, first)
    log(f"    {frozen:.2f} s")
    assert moved > first and frozen <= 2 * PING_TIMEOUT + 1 + quiet, f"{frozen:.2f} s"
    assert boot_of(heartbeat(host)) == boot_of(beat), "the guest was restarted"

with subtest("it comes back, and everything is whole"):
    bystander.start()
    settled(host)
    assert runs_on() == [host.name]
