"""What scenarios with a line `# with: pace` find beside the global names: how long the guest was silent, and how long its disk was."""

import base64
import re

GUEST = "10.0.20.5"
PINGS = "/run/lab-pings"
DISK = "/mnt/vms/vms/mail/disk.img"
# Twenty a second: ten would not see the shortest gaps, a hundred keep emulated nodes busy.
PERIOD = 0.05


def ping_the_guest():
    """The tang box begins to ask the guest over its VLAN; all answers are kept with their time."""
    tang.succeed(
        "ip link show lab20 > /dev/null 2>&1 || ip link add link eth1 name lab20 type vlan id 20",
        "ip address replace 10.0.20.9/24 dev lab20; ip link set lab20 up",
        f"systemd-run --quiet --collect --unit=lab-pings --property=StandardOutput=truncate:{PINGS}"
        f" ping -D -n -i {PERIOD} {GUEST}",
    )
    tang.wait_until_succeeds(f"grep -q 'bytes from {GUEST}' {PINGS}")


def now_there():
    """The time of the tang box, which the answers are stamped with."""
    return float(tang.succeed("date +%s.%N"))


def gap(since, until):
    """The longest time without an answer between two moments of the tang box, in seconds."""
    told = tang.succeed(f"grep -o '^\\[[0-9.]*\\] .* bytes from {GUEST}' {PINGS} | grep -o '^.[0-9.]*' | tr -d '['")
    at = [float(line) for line in told.split()]
    inside = [since, *[one for one in at if since < one < until], until]
    assert len(inside) > 3, f"the guest answered {len(inside) - 2} times in {until - since:.0f} s"
    return max(after - before for before, after in zip(inside, inside[1:]))


def records_of(node):
    """What the guest wrote, by its number: (boot, seconds since that boot). Each second one, with fsync, before the next."""
    # The ring of tests/lab/guest/init: 512 sectors from 1032 on, in whole pages.
    text = node.succeed(f"dd if={DISK} bs=4096 skip=129 count=64 iflag=direct status=none | base64 -w0", timeout=300)
    found = re.findall(r"hb (\d+) boot=([0-9a-f-]{36}) up=([0-9.]+) sum=", base64.b64decode(text).decode(errors="replace"))
    return {int(number): (boot, float(up)) for number, boot, up in found}


def longest_write(node, since):
    """The longest time between two writes of one boot after that record, in the guest's own seconds: a second and the write itself."""
    kept = records_of(node)
    assert since in kept, f"record {since} is no longer in the ring, which begins at {min(kept)}"
    numbers = sorted(number for number in kept if number >= since)
    assert len(numbers) > 3 and numbers[-1] - numbers[0] == len(numbers) - 1, numbers
    return max(kept[after][1] - kept[before][1] for before, after in zip(numbers, numbers[1:]))
