"""A node without the VM goes: how long its guest's writes wait, by the guest's own clock. Not at all when it is rebooted;
until Gluster takes it for dead, once or twice its ping-timeout, when it loses its power."""
# with: ha
# with: pace

# docs/decisions/timings.md: every write may wait for twice Gluster's ping-timeout.
PING_TIMEOUT = 10


def settled():
    """Waits until all nodes are here and all copies whole, and the guest goes on; gives the number of a record from now."""
    all_here(host)
    healed(host)
    missable(host)
    return count_of(heartbeat(host))


def beyond(number):
    """Waits until the guest has written more than that record."""
    while count_of(heartbeat(host)) <= number:
        pass


with subtest("[ha]: every node is armed, the VM is handed over as it runs"):
    host = arm()

beat = heartbeat(host)
bystander = next(node for node in nodes if node.name != host.name)

with subtest("nothing happens: what a write takes anyway"):
    first = settled()
    beyond(first + 30)
    quiet = longest_write(host, first)
    log(f"    at most {quiet:.2f} s from one to the next, of which 1 s is the guest's own rest")

with subtest(f"{bystander.name} is rebooted: no write waits for it"):
    first = settled()
    bystander.reboot()
    rebooted = longest_write(host, first)
    log(f"    {rebooted:.2f} s")
    assert rebooted < PING_TIMEOUT, f"{rebooted:.2f} s: a clean reboot was taken for a death"

with subtest(f"{bystander.name} loses its power: writes go on after once or twice {PING_TIMEOUT} s"):
    first = settled()
    bystander.crash()
    host.wait_until_succeeds("pc-ha --applied status --json | jq -e '.quorum.votes == 2'", timeout=600)
    moved = count_of(heartbeat(host))
    beyond(moved + 3)
    frozen = longest_write(host, first)
    log(f"    {frozen:.2f} s")
    assert moved > first and frozen <= 2 * PING_TIMEOUT + 1 + quiet, f"{frozen:.2f} s"
    assert boot_of(heartbeat(host)) == boot_of(beat), "the guest was restarted"

with subtest("it comes back, and everything is whole"):
    bystander.start()
    settled()
    assert runs_on() == [host.name]
