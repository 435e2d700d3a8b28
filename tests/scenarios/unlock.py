"""How fast a node's disks open by themselves, against cryptsetup with the passphrase at hand; that dead Tang servers cost
nothing while one answers; that a server with other keys than the pinned ones gets nothing."""

import json
import statistics
import time

RUNS = 5
DISKS = "/dev/disk/by-id/virtio-node3-d?"
SERVER = "http://10.10.0.9"
# Two more addresses of the tang box: a server that loses its own is a server that is off.
OTHERS = ("10.10.0.19", "10.10.0.29")
INTERFACE = "ip route get 10.10.0.1 | sed --quiet 's/.* dev \\([^ ]*\\).*/\\1/p'"
IMAGE = "/var/tmp/unlock-scenario.img"

# The passphrase of each disk's token, as clevis decrypts it, in a tmpfs.
PASSPHRASES = f"""
umask 077
for disk in {DISKS}; do
    token=$(cryptsetup luksDump --dump-json-metadata $disk | jq -c '[.tokens[] | select(.type == "clevis")][0]')
    jq -r '.keyslots[0]' <<< "$token" > /run/$(basename $disk).slot
    jwe=$(jq -j '.jwe | .protected + "." + .encrypted_key + "." + .iv + "." + .ciphertext + "." + .tag' <<< "$token")
    printf %s "$jwe" | clevis decrypt > /run/$(basename $disk).key
done
"""
# All at once, as pc-unlock does it.
CRYPTSETUP = f"""
waits=
for disk in {DISKS}; do
    key=/run/$(basename $disk)
    cryptsetup open --test-passphrase --key-slot $(cat $key.slot) --key-file $key.key $disk &
    waits="$waits $!"
done
for one in $waits; do wait $one || exit; done
"""


def seconds(node, command):
    """Median over some runs, measured on the node itself."""
    timed = f"( {command}\n) > /run/timed 2>&1 || {{ cat /run/timed; exit 1; }}"
    timed = f"begin=$(date +%s%N); {timed}; echo $(( $(date +%s%N) - begin ))"
    return statistics.median(int(node.succeed(timed, timeout=300)) / 1e9 for _ in range(RUNS))


def entered(node, unit):
    """When a unit became active, in seconds since the kernel began."""
    return int(node.succeed(f"systemctl show --value --property ActiveEnterTimestampMonotonic {unit}")) / 1e6


with subtest("four disks at once, against cryptsetup with the passphrases at hand"):
    node3.succeed(f"bash -euo pipefail <<'END'\n{PASSPHRASES}\nEND", timeout=300)
    alone = seconds(node3, CRYPTSETUP)
    ours = seconds(node3, f"pc-unlock open --test {DISKS}")
    log(f"    pc-unlock {ours:.2f} s, cryptsetup alone {alone:.2f} s, ratio {ours / alone:.2f} (medians of {RUNS})")
    node3.succeed("rm -f /run/virtio-node3-d?.key /run/virtio-node3-d?.slot")

with subtest("two of three servers are off, threshold 1"):
    for other in OTHERS:
        tang.succeed(f"ip address add {other}/24 dev $({INTERFACE})")
    servers = [SERVER, *(f"http://{other}" for other in OTHERS)]
    thumbprint = json.loads(node3.succeed(f"pc-unlock adv {SERVER} --json"))["signing"][0]["thumbprint"]
    pins = [{"url": url, "thp": thumbprint} for url in servers]
    pin = json.dumps({"sss": {"t": 1, "pins": {"tang": pins}}})
    node3.succeed(
        f"truncate --size 64M {IMAGE} && printf secret | cryptsetup luksFormat --batch-mode --luks2-metadata-size 64k"
        f" --pbkdf pbkdf2 --pbkdf-force-iterations 1000 {IMAGE} -",
        f"printf secret | pc-unlock bind {IMAGE} --pin '{pin}'",
        timeout=300,
    )
    healthy = seconds(node3, f"pc-unlock open --test {IMAGE}")
    for other in OTHERS:
        tang.succeed(f"ip address delete {other}/24 dev $({INTERFACE})")
    node3.succeed("ip neighbour flush all")
    dead = seconds(node3, f"pc-unlock open --test {IMAGE}")
    log(f"    all three answer: {healthy:.2f} s; two are off: {dead:.2f} s; ratio {dead / healthy:.2f} (medians of {RUNS})")

with subtest("a server with other keys than the pinned ones: refused, said so, nothing to try again"):
    wrong = json.dumps({"tang": {"url": SERVER, "thp": "A" * 43}})
    before = node3.succeed(f"sha256sum < {IMAGE}")
    since = time.time()
    status, _ = node3.execute(f"printf secret | pc-unlock bind {IMAGE} --pin '{wrong}' 2> /run/said")
    said = node3.succeed("cat /run/said")
    assert status == 1 and f"thumbprint {'A' * 43} is pinned, the server signs with" in said, (status, said)
    log(f"    {said.strip().splitlines()[0]} ({time.time() - since:.1f} s)")
    assert node3.succeed(f"sha256sum < {IMAGE}") == before
    node3.succeed(f"rm {IMAGE} /run/said /run/timed")

with subtest("a reboot: the disks open by themselves"):
    node3.reboot()
    # Told when cryptsetup has ended: the device is there a little earlier.
    told = "journalctl --quiet --boot --unit pc-unlock.service --grep ': opened as /dev/mapper/pc-' --output json --output-fields MESSAGE"
    node3.wait_until_succeeds(f"[ $({told} | wc -l) = 4 ]", timeout=1200)
    opened = [int(json.loads(line)["__MONOTONIC_TIMESTAMP"]) / 1e6 for line in node3.succeed(told).splitlines()]
    network, unlock = entered(node3, "pc-ovs.service"), entered(node3, "pc-unlock.service")
    log(f"    network up at {network:.1f} s, pc-unlock begun at {unlock:.1f} s, four disks open at {max(opened):.1f} s")
