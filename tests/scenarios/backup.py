"""A VM is backed up while it runs, and again when little has changed. Then it is lost with its disk and all that lay beside
it, restored by another node, and started: its heart beats on from where the backup was."""
# with: backup
# nixos: no, it adds a policy with pc-config push, which on NixOS is the configuration's business

import json
import time

DIRECTORY = "/mnt/vms/vms/mail"


def back_up():
    """On the node where the VM runs; the timer may be at work there, too."""
    whole()
    answer = json.loads(node1.succeed("pc-borg backup mail --json --lock-wait 900", timeout=1800))
    (entry,) = answer["backups"]
    assert entry["outcome"] == "done", entry
    made = entry["archive"]
    log(
        f"    {made['consistency']}: {made['changed_bytes']} of {made['disk_bytes']} bytes changed, "
        f"{made['read_bytes']} read, {made['added_bytes']} added, {made['seconds']:.1f} s"
    )
    return made


with subtest("a policy, its repository, and a copy of its key"):
    policy()

with subtest("it is backed up while it runs, and goes on running"):
    before = heartbeat(node1)
    made = back_up()
    assert made["consistency"] in ("frozen", "crash"), made
    assert boot_of(heartbeat(node1)) == boot_of(before), "the guest was restarted"
    # libvirt has no job left, and nothing of ours lies beside the disk.
    node1.wait_until_succeeds("virsh domjobinfo mail | grep '^Job type: *None'", timeout=120)
    node1.wait_until_fails(f"ls {DIRECTORY}/backup-*", timeout=120)

with subtest("a second backup costs what has changed"):
    kept = heartbeat(node1)
    again = back_up()
    assert again["method"] == "digest", again
    assert again["changed_bytes"] <= again["disk_bytes"] / 4, again
    time.sleep(5)
    lost = heartbeat(node1)
    assert boot_of(lost) == boot_of(before), "the guest was restarted"

with subtest("it is lost, with its disk and all that lay beside it"):
    node1.succeed("systemctl stop pc-vm@mail.service", timeout=600)
    node1.succeed(f"rm -rf {DIRECTORY}")
    begun = time.monotonic()

with subtest("another node restores it, and every segment is what was saved"):
    answer = json.loads(node2.succeed("pc-borg restore mail --json --lock-wait 900", timeout=1800))
    assert answer["archive"] == again["name"], answer
    assert answer["disk_bytes"] == again["disk_bytes"], answer
    log(f"    {answer['written_bytes']} of {answer['disk_bytes']} bytes written in {answer['seconds']:.1f} s")

with subtest("started, its heart beats on from where the backup was"):
    # Its unit tries again by itself; what counts is the guest.
    node1.succeed("systemctl start --no-block pc-vm@mail.service")
    record = heartbeat(node1, 1200)
    log(f"    {record}; {time.monotonic() - begun:.0f} s after it was lost")
    assert boot_of(record) != boot_of(lost), "this is no restart"
    assert count_of(record) > count_of(kept), f"{record} is older than the backup: {kept}"

with subtest("the archive is whole, and every node tells the same: nothing is overdue"):
    (entry,) = json.loads(node3.succeed("pc-borg verify mail --json --lock-wait 900", timeout=1800))["archives"]
    assert entry["outcome"] == "done" and entry["archive"]["name"] == again["name"], entry
    for node in nodes:
        status = json.loads(node.succeed("pc-borg status --json"))
        assert status["healthy"], status["problems"]
        assert [backup["overdue"] for backup in status["backups"]] == [False], status
    # An archive that was never finished is in no list.
    listed = json.loads(node3.succeed("pc-borg list mail --json --lock-wait 900"))["archives"]
    assert again["name"] in [archive["name"] for archive in listed], listed
    assert all(".checkpoint" not in archive["name"] for archive in listed), listed
