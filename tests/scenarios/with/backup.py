"""What scenarios with a line `# with: backup` find beside the global names: a policy for the VM, and what the guest says."""

import json
import re

FILE = "/etc/personal-cluster/cluster.toml"
POLICY = '[backup.daily]\\nrepository = "/mnt/backup/borg/daily"\\nschedule = "daily"\\n'
# A backup waits for a heal, with 75; so does a drill.
WHOLE = "jq -e '[.volumes[].heal_pending] | all(. == 0)' /run/personal-cluster/storage.json"


def boot_of(record):
    """The guest's boot: another one after a restart."""
    return re.search(r"boot=(\S+)", record)[1]


def count_of(record):
    """The number that goes on where the disk's last record stopped."""
    return int(re.match(r"hb (\d+)", record)[1])


def whole():
    """Waits until nothing is left to heal, as the last report says."""
    node1.wait_until_succeeds(WHOLE, timeout=1800)


def policy(*lines):
    """A policy for the VM, its repository, and a copy of its key; further lines for the VM's section."""
    section = "\\n".join(['backup = ["daily"]', *lines])
    node1.succeed(
        f"grep -q '^\\[backup.daily\\]' {FILE} || "
        f"{{ sed -i '/^\\[vm.mail\\]/a {section}' {FILE} && printf '\\n{POLICY}' >> {FILE}; }}",
        "pc-config push",
        "pc-borg init daily --lock-wait 900",
    )
    node1.fail("pc-borg backup mail")
    code = json.loads(node1.succeed("pc-borg key export daily --json --lock-wait 900"))["code"]
    node1.succeed(f"pc-borg key acknowledge daily {code} --lock-wait 900")
