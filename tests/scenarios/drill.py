"""The restore of a VM is rehearsed beside it while it runs: the copy comes up, reaches nobody, and is gone. A drill that is
killed at its worst moment leaves nothing running."""
# with: backup
# nixos: no, it adds a policy with pc-config push, which on NixOS is the configuration's business

import json

SCRATCH = "/mnt/vms/pc-drill/node1/mail"

with subtest("a policy, its repository, a copy of its key, and a backup"):
    policy('heartbeat = "console:guest up name="')
    before = heartbeat(node1)
    whole()
    node1.succeed("pc-borg backup mail --lock-wait 900", timeout=1800)

with subtest("a copy is restored, booted, and gone; the VM has not noticed"):
    whole()
    # An emulated node has two guests to carry now.
    answer = json.loads(node1.succeed("pc-borg drill mail --json --lock-wait 900 --wait 1800", timeout=3600))
    (entry,) = answer["drills"]
    assert entry["outcome"] == "done", entry
    proof = entry["proof"]
    log(
        f"    up {proof['rto_seconds']:.1f} s after the beginning: {proof['restore_seconds']:.1f} s restore, "
        f"{proof['boot_seconds']:.1f} s boot; the archive was {proof['rpo_seconds']} s old"
    )
    assert boot_of(heartbeat(node1)) == boot_of(before), "the VM was restarted"
    assert "pc-drill" not in node1.succeed("virsh list --all --name")
    node1.fail(f"ls {SCRATCH}")
    status = json.loads(node1.succeed("pc-borg status --json"))
    assert status["backups"][0]["drilled_at"], status

with subtest("killed while the copy boots: libvirt ends it, and recover takes its disk away"):
    # Their services recover what was left behind before anybody here has looked.
    node1.succeed("systemctl stop pc-borg.timer pc-borg-drill.timer")
    # While such a service is at work it is activating, which is-active calls a failure.
    node1.wait_until_fails("systemctl show -P ActiveState pc-borg.service pc-borg-drill.service | grep activ | grep -v inactive")
    whole()
    # A text that never comes, so that it boots for long.
    node1.succeed(f"sed -i 's/console:guest up name=/console:never/' {FILE}")
    node1.succeed("systemd-run --unit=lab-drill --property=KillMode=process pc-borg drill mail --lock-wait 900")
    node1.wait_until_succeeds("virsh list --name | grep -x pc-drill.mail", timeout=900)
    assert "<interface" not in node1.succeed("virsh dumpxml pc-drill.mail")
    node1.succeed("systemctl kill --kill-whom=main --signal=KILL lab-drill.service")
    node1.wait_until_fails("virsh list --all --name | grep -x pc-drill.mail", timeout=300)
    node1.succeed(f"ls {SCRATCH}/disk.img", "pc-borg recover")
    node1.fail(f"ls {SCRATCH}")
    assert boot_of(heartbeat(node1)) == boot_of(before), "the VM was restarted"
