"""The tang box watches, with Prometheus and Alertmanager as personal-cluster-monitor sets them up. Nothing is said of a healthy
cluster; of each fault its own alert is, within its time, and no critical one of anything else; after the repair there is silence."""
# with: ha
# nixos: no, Debian's packages are installed in it

import json
import time

# What an alert may take on top of its own `for`: a tool's facts are read each minute, scraped each 15 s, judged each 15 s.
SLACK = 240
# The lab has no time server and no backup: both are said, and are true.
OF_THE_LAB = {"PersonalClusterClockNotSynchronised"}
API = "curl --silent --show-error --fail http://127.0.0.1:9090/api/v1"


def firing():
    """Name and labels of what fires."""
    told = json.loads(tang.succeed(f"{API}/alerts"))["data"]["alerts"]
    return [one["labels"] for one in told if one["state"] == "firing" and one["labels"]["alertname"] not in OF_THE_LAB]


def waits():
    """How long each alert's condition has to hold, by name."""
    groups = json.loads(tang.succeed(f"{API}/rules"))["data"]["groups"]
    return {rule["name"]: rule["duration"] for group in groups for rule in group["rules"] if rule["type"] == "alerting"}


def is_of(labels, wanted):
    """Whether these are an alert of that name with those labels."""
    name, where = wanted
    return labels["alertname"] == name and where.items() <= labels.items()


def watch(faults, follows=()):
    """Waits for the alert of every fault, each (name, labels) with the moment it was made; `follows` are what may come with them."""
    missing = {index: fault for index, fault in enumerate(faults)}
    while missing:
        now = firing()
        for index, (wanted, begun) in list(missing.items()):
            allowed = waits()[wanted[0]] + SLACK
            if any(is_of(labels, wanted) for labels in now):
                log(f"    {wanted[0]} {wanted[1]}: {time.monotonic() - begun:.0f} s (at most {allowed:.0f})")
                del missing[index]
            else:
                assert time.monotonic() - begun < allowed, f"{wanted}: not within {allowed:.0f} s; fires: {now}"
        expected = [wanted for wanted, _ in faults] + [(name, {}) for name in follows]
        for labels in now:
            if labels["severity"] == "critical":
                assert any(is_of(labels, wanted) for wanted in expected), f"nobody made that: {labels}"
        tang.succeed("sleep 5")


def silence(timeout=1800):
    """Waits until nothing fires; says how long each took."""
    begun = time.monotonic()
    left = {one["alertname"] for one in firing()}
    while left:
        assert time.monotonic() - begun < timeout, f"still there after {timeout} s: {firing()}"
        tang.succeed("sleep 5")
        now = {one["alertname"] for one in firing()}
        for name in left - now:
            log(f"    {name} is over after {time.monotonic() - begun:.0f} s")
        left = now


with subtest("[ha]: every node is armed, the VM is handed over as it runs"):
    host = arm()
    first, second = [node for node in nodes if node.name != host.name]

with subtest("node-exporter on every node, the machine that watches as its page says"):
    install = "apt-get install -y --no-install-recommends /srv/lab-packages"
    in_parallel(lambda node: node.succeed(f"{install}/prometheus-node-exporter_*.deb", timeout=1800), nodes)
    tang.succeed(f"{install}/*.deb personal-cluster-monitor", timeout=1800)
    file = node1.succeed("base64 -w0 /etc/personal-cluster/cluster.toml")
    tang.succeed(
        f"mkdir -p /etc/personal-cluster && echo {file} | base64 -d > /etc/personal-cluster/cluster.toml",
        "systemctl enable --now personal-cluster-monitor.service",
    )
    tang.wait_until_succeeds(f"{API}/targets | jq -e '[.data.activeTargets[].health] | length > 6 and all(. == \"up\")'", timeout=900)

with subtest("of a healthy cluster nothing is said"):
    # Longer than most alerts wait.
    begun = time.monotonic()
    silence(900)
    while time.monotonic() - begun < 660:
        assert firing() == [], firing()
        tang.succeed("sleep 10")

with subtest(f"{first.name} loses its power"):
    first.crash()
    begun = time.monotonic()
    watch([(("PersonalClusterNodeDown", {"instance": first.name}), begun), (("PersonalClusterQuorumAtRisk", {}), begun)])

with subtest("it comes back"):
    first.start()
    all_here(host)
    healed(host)
    silence()

with subtest("many at once, each somewhere else"):
    faults = []
    mended = []

    def strike(node, command, mend, name, **labels):
        """Does it, and notes what is to be said of it and how it is put right."""
        node.succeed(command)
        faults.append(((name, labels), time.monotonic()))
        mended.append((node, mend))

    BRICK = f"/srv/bricks/backup/virtio-{first.name}-d2"
    FAIL = "/run/systemd/system/pc-unlock-headers.service.d"
    strike(
        first,
        f"mkdir -p {FAIL}; printf '[Service]\\nExecStart=\\nExecStart=/bin/false\\n' > {FAIL}/fail.conf; systemctl daemon-reload;"
        " ! systemctl start pc-unlock-headers.service",
        f"rm -r {FAIL}; systemctl daemon-reload; systemctl start pc-unlock-headers.service",
        "PersonalClusterUnitFailed", instance=first.name, name="pc-unlock-headers.service",
    )  # fmt: skip
    strike(
        second, "date --set=@$(($(date +%s) + 40))", "date --set=@$(($(date +%s) - 40))",
        "PersonalClusterClockDrift", instance=second.name,
    )  # fmt: skip
    strike(host, "virsh suspend mail", "virsh resume mail", "PersonalClusterVmPaused", vm="mail")
    strike(
        first,
        # Its brick goes with it: nothing is written beneath a mount point.
        f"umount --lazy {BRICK}; pkill -KILL -f 'glusterfsd.*--brick-name {BRICK}/'",
        f"systemctl start $(systemd-escape --path --suffix=mount {BRICK})",
        "PersonalClusterBrickGone", instance=first.name,
    )  # fmt: skip
    strike(tang, "systemctl stop tangd.socket", "systemctl start tangd.socket", "PersonalClusterWouldStayLocked", instance=host.name)
    faults.append((("PersonalClusterTangUnreachable", {"instance": second.name}), time.monotonic()))
    watch(faults, follows=["PersonalClusterStorageNotReady", "PersonalClusterWouldStayLocked"])

with subtest("all put right"):
    for node, mend in mended:
        node.succeed(mend)
    all_here(host)
    healed(host)
    silence()
