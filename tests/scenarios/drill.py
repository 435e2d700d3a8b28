"""The restore of a VM is rehearsed beside it while it runs: the copy comes up, reaches nobody, and is gone. A drill that is
killed at its worst moment leaves nothing running."""
# nixos: no, it adds a policy with pc-config push, which on NixOS is the configuration's business

import json
import re

FILE = "/etc/personal-cluster/cluster.toml"
POLICY = '[backup.daily]\\nrepository = "/mnt/backup/borg/daily"\\nschedule = "daily"\\n'
SCRATCH = "/mnt/vms/pc-drill/node1/mail"
# A backup waits for a heal, with 75; so does a drill.
WHOLE = "jq -e '[.volumes[].heal_pending] | all(. == 0)' /run/personal-cluster/storage.json"


def boot_of(record):
    """The guest's boot: another one after a restart."""
    return re.search(r"boot=(\S+)", record)[1]


with subtest("a policy, its repository, a copy of its key, and a backup"):
    node1.succeed(
        f"grep -q '^\\[backup.daily\\]' {FILE} || "
        "{ sed -i '/^\\[vm.mail\\]/a backup = [\"daily\"]\\nheartbeat = \"console:guest up name=\"' "
        f"{FILE} && printf '\\n{POLICY}' >> {FILE}; }}",
        "pc-config push",
        "pc-borg init daily --lock-wait 900",
    )
    code = json.loads(node1.succeed("pc-borg key export daily --json --lock-wait 900"))["code"]
    node1.succeed(f"pc-borg key acknowledge daily {code} --lock-wait 900")
    before = heartbeat(node1)
    node1.wait_until_succeeds(WHOLE, timeout=1800)
    node1.succeed("pc-borg backup mail --lock-wait 900", timeout=1800)

with subtest("a copy is restored, booted, and gone; the VM has not noticed"):
    node1.wait_until_succeeds(WHOLE, timeout=1800)
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
    node1.wait_until_fails("systemctl is-active pc-borg.service pc-borg-drill.service")
    node1.wait_until_succeeds(WHOLE, timeout=1800)
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
