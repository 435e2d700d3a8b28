"""SIGKILL pc-brick after every step of its plan, and within the long ones: applied again, the brick is complete,
and neither LUKS nor the file system was made a second time. Works on node1's disk of the local volume, which no
VM of the tests uses, and leaves it as it was: a mounted brick."""

import json
import time

BRICK = "pc-brick --applied"


def own():
    """This disk's part of the status."""
    bricks = json.loads(node1.succeed(f"{BRICK} status --json"))["bricks"]
    return next(brick for brick in bricks if brick["volume"] == "local")


def plan():
    """Ids of the steps that are left; other disks are done and have none."""
    return [step["id"] for step in json.loads(node1.succeed(f"{BRICK} plan --json"))["steps"]]


def made():
    """What only a second format changes: the salt of the LUKS digest, the birth of the file system's root."""
    return node1.succeed(
        f"cryptsetup luksDump --dump-json-metadata {disk} 2> /dev/null | jq -r '.digests.\"0\".salt // empty' || true;"
        f" test ! -e /dev/pc-{name}/brick"
        f" || xfs_db -r -c 'inode root' -c 'print v3.crtime.sec v3.crtime.nsec' /dev/pc-{name}/brick 2> /dev/null || true"
    ).split()


def blank():
    """Whatever is there is unmounted and wiped: the disk is blank and forgotten."""
    node1.succeed(f"umount {point} 2> /dev/null || true; pc-brick wipe {disk} --yes-destroy-all-data-on-it")
    node1.fail(f"blkid -p {disk}")


def check(title, before):
    """Applies until nothing is left: 75 while a program that outlived its parent is still at work."""
    started = time.monotonic()
    node1.wait_until_succeeds(f"{BRICK} apply > /dev/null 2>> /tmp/brick-kill.log")
    seconds = time.monotonic() - started
    state = own()
    assert state["state"] == "mounted" and state["problems"] == [], state
    assert plan() == []
    after = made()
    assert after[: len(before)] == before, f"{title}: formatted twice: {before} became {after}"
    node1.succeed(f"findmnt --types xfs {point}")
    print(f"{title}: complete {seconds:.1f} s after the second start")


disk, point = own()["device"], own()["mount_point"]
name = disk.removeprefix("/dev/disk/by-id/")
node1.succeed("systemctl stop pc-brick.service")
blank()
steps = plan()
assert steps[0] == f"{name}/claim" and f"{name}/record" in steps, steps

for step in steps:
    node1.fail(f"{BRICK} apply --stop-after {step} > /dev/null 2>&1")
    check(f"killed after {step}", made())
    node1.succeed(f"date > {point}/witness && {BRICK} apply && test -s {point}/witness")
    blank()

# Within a step: alone, and with everything that it had started (as systemd kills a unit).
group = "systemd-run --quiet --wait --collect --property=KillMode=control-group "
for verb, millis, unit in [
    ("luks-format", 200, ""),
    ("luks-format", 200, group),
    ("bind", 500, group),
    ("vg", 300, group),
    ("pool", 800, group),
    ("lv", 800, group),
    ("mkfs", 200, ""),
    ("mkfs", 200, group),
]:
    step = f"{name}/{verb}"
    if step not in steps:
        continue  # bind: only with [unlock]
    node1.succeed(f"{unit}{BRICK} apply --stop-within {step}={millis} > /dev/null 2>&1 || true")
    check(f"killed {millis} ms into {step}{' with all it had started' if unit else ''}", [])
    blank()

# A disk that holds something is named, and left as it is.
for make, word in [
    (f"mkfs.ext4 -q {disk}", "ext4"),
    (f"mkfs.xfs -q {disk}", "xfs"),
    (f"pvcreate --quiet --yes {disk}", "LVM2_member"),
    (f"printf secret | cryptsetup luksFormat --batch-mode --pbkdf-memory 65536 {disk} -", "crypto_LUKS"),
]:
    node1.succeed(make)
    node1.succeed(f"head -c 64M {disk} | sha256sum > /tmp/before")
    node1.fail(f"{BRICK} apply > /dev/null 2> /tmp/brick-kill.log")
    node1.succeed(f"grep -q {word} /tmp/brick-kill.log && head -c 64M {disk} | sha256sum | cmp - /tmp/before")
    blank()

check("blank once more", [])

# A brick that looks blank all of a sudden is refused, until somebody says that it is gone for good.
node1.succeed(f"mv /var/lib/personal-cluster/brick/{name}.json /tmp/record.json")
blank()
node1.succeed(f"mv /tmp/record.json /var/lib/personal-cluster/brick/{name}.json")
node1.fail(f"{BRICK} apply > /dev/null 2> /tmp/brick-kill.log")
node1.succeed("grep -q 'has no LUKS header any more' /tmp/brick-kill.log")
node1.fail(f"blkid -p {disk}")
node1.succeed(f"pc-brick forget {disk}")
check("forgotten and made again", [])
node1.succeed("rm -f /tmp/before /tmp/brick-kill.log")
print(f"{len(steps)} steps, each killed: every brick complete, none formatted twice")
