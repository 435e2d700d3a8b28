"""A node is booted without one of its data disks. Its other bricks serve, nothing is written beneath the empty mount
point, and the status names the disk. Given back, the disk is taken in again and healed."""

import json

DISK = "virtio-node3-d2"
POINT = f"/srv/bricks/backup/{DISK}"

with subtest("node3 loses power; when it is back, disk d2 is gone"):
    boot = node3.succeed("cat /proc/sys/kernel/random/boot_id")
    # An unplugged disk leaves at the latest when the machine is reset.
    node3.send_monitor_command("device_del d2")
    node3.send_monitor_command("system_reset")
    node3.wait_until_succeeds(f"test $(cat /proc/sys/kernel/random/boot_id) != {boot}", timeout=900)
    node3.fail(f"test -e /dev/disk/by-id/{DISK}")

with subtest("its other bricks are mounted and serve"):
    for point in ("vms/virtio-node3-d1", "backup/virtio-node3-d3"):
        node3.wait_until_succeeds(f"mountpoint -q /srv/bricks/{point}", timeout=900)
        node3.wait_until_succeeds(f"pgrep -f 'glusterfs[d].*brick-name /srv/bricks/{point}/brick'", timeout=600)
    node3.wait_until_succeeds("mountpoint -q /mnt/vms && mountpoint -q /mnt/backup && mountpoint -q /mnt/local", timeout=600)

with subtest("the status names the disk"):
    status = json.loads(node3.succeed("pc-brick --applied status --json"))
    states = {brick["disk"]: brick["state"] for brick in status["bricks"]}
    assert states.pop(DISK) == "missing", status
    assert set(states.values()) == {"mounted"}, states
    assert not status["healthy"]
    assert DISK in node3.fail("pc-brick --applied status --exit-code")

with subtest("nothing is written beneath the empty mount point"):
    node1.succeed("for i in $(seq 20); do echo $i > /mnt/backup/dead-disk-$i; done")
    node3.fail(f"mountpoint -q {POINT}")
    node3.succeed(f"[ -z \"$(ls -A {POINT})\" ]")
    node3.fail(f"touch {POINT}/x")

with subtest("the VM has not noticed"):
    log(f"    {heartbeat(node1)}")

with subtest("the disk is back: unlocked, mounted, serving, healed, with no hands"):
    node3.crash()
    node3.start()
    node3.wait_until_succeeds(f"mountpoint -q {POINT}", timeout=900)
    node3.wait_until_succeeds(f"pgrep -f 'glusterfs[d].*brick-name {POINT}/brick'", timeout=600)
    node1.wait_until_succeeds("pc-gluster status --json | jq -e '[.volumes[].heal_pending] | add == 0'", timeout=900)
    status = json.loads(node3.succeed("pc-brick --applied status --json"))
    assert status["healthy"], status
    node1.succeed("rm /mnt/backup/dead-disk-*")
