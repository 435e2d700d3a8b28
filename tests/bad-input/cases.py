"""Every fault of the list, for every tool that it can meet and that no test of the tool's own covers."""

from machine import Case

NODE = ["--node", "node1"]
DISK = "/dev/disk/by-id/virtio-A"

# What reads the cluster file: not what takes its arguments from the command line (`pc-brick wipe`), or the file in force
# (`pc-trust token`). Answers (`check`, `status` of a machine that is no member) are not refusals.
READERS = {
    "pc-borg": [["backup"], ["status"], ["list"], ["restore", "mail"], ["prune"], ["check"], ["init", "daily"], ["recover"]],
    "pc-brick": [["plan"], ["apply"], ["status"]],
    "pc-config": [["put", "cluster.toml"], ["push"], ["show"], ["nodes"]],
    "pc-exporter": [["serve"], ["targets"]],
    "pc-gluster": [["plan"], ["apply"], ["status"], ["gate"], ["heal", "vms"]],
    "pc-ha": [["plan"], ["apply"], ["status"], ["enable"], ["drain", "node2"], ["start", "mail"], ["stop", "mail"]],
    "pc-ovs": [["plan"], ["apply"], ["status"]],
    "pc-trust": [["init", "cluster.toml"]],
    "pc-unlock": [["open"], ["check"], ["status"], ["rotate"], ["seal", "x"]],
    "pc-vm": [["plan"], ["apply"], ["status"], ["list"], ["start", "mail"], ["stop", "mail"]],
}
# What asks for no node: any machine that has the file may answer.
ANYWHERE = [["pc-config", "show"], ["pc-config", "nodes"], ["pc-vm", "list"], ["pc-unlock", "seal"], ["pc-exporter", "targets"]]
MEMBERS = [["plan"], ["apply"], ["renew"]]

IN_PLACE = "cp etc/personal-cluster/cluster.toml ."
BAD_FILES = {
    "malformed file": (f"echo 'schema = ' > etc/personal-cluster/cluster.toml; {IN_PLACE}", ":1:10: is not TOML"),
    "contradictory file": (
        f"""printf '[[node]]\\nname = "node1"\\naddress = "192.0.2.9/24"\\nnics.lan = ["eth7"]\\n' >> etc/personal-cluster/cluster.toml; {IN_PLACE}""",
        "already the name of node\\[0\\]",
    ),
    "file of 10 MB": (
        f"yes '# filler' | head -c 10000000 >> etc/personal-cluster/cluster.toml; {IN_PLACE}",
        "is larger than 1 MiB",
    ),
    "file that is no UTF-8": (
        f"printf 'name = \"\\377\"\\n' > etc/personal-cluster/cluster.toml; {IN_PLACE}",
        ":1:9: byte 0xff is not UTF-8 text",
    ),
    "no file": ("rm etc/personal-cluster/cluster.toml cluster.toml", "(?i)no such file"),
}
# Well-formed, and deeper than any stack.
NESTED = r"""python3 -c 'print("{\"name\":" + "{\"a\":" * 100000 + "1" + "}" * 100001)' | tee cluster.toml > etc/personal-cluster/cluster.toml"""
BAD_APPLIED = {
    "malformed applied.json": "echo '{' > var/lib/personal-cluster/applied.json",
    "applied.json that is no UTF-8": "printf '{\"name\": \"\\377\"}' > var/lib/personal-cluster/applied.json",
    "applied.json of 10 MB": "yes '{' | head -c 10000000 > var/lib/personal-cluster/applied.json",
}


def bad_files() -> list[Case]:
    cases = []
    for fault, (prepare, says) in BAD_FILES.items():
        for tool, verbs in READERS.items():
            cases += [Case(fault, tool, verb, 2, says, prepare) for verb in verbs]
        cases += [Case(fault, "pc-trust", verb, 2, says, prepare, member=True) for verb in MEMBERS]
    for tool, verb in (("pc-config", ["put", "cluster.toml"]), *((tool, ["plan"]) for tool in ("pc-brick", "pc-gluster", "pc-ovs", "pc-vm"))):
        cases.append(Case("100,000 objects in each other", tool, verb, 2, "recursion: .*more than 64 brackets", NESTED))
    for fault, prepare in BAD_APPLIED.items():
        for tool in ("pc-brick", "pc-gluster", "pc-ha", "pc-ovs", "pc-vm"):
            cases.append(Case(fault, tool, ["apply", "--applied"], 2, "applied.json", prepare))
        cases.append(Case(fault, "pc-borg", ["backup", "--applied", "--due"], 2, "applied.json", prepare))
        cases.append(Case(fault, "pc-exporter", ["serve", "--applied"], 2, "applied.json", prepare))
        cases.append(Case(fault, "pc-unlock", ["open", "--applied"], 2, "applied.json", prepare))
        cases.append(Case(fault, "pc-trust", ["apply", "--applied"], 2, "applied.json", prepare, member=True))
        # The one that must never fail the boot.
        cases.append(Case(fault, "pc-generator", ["units"], 0, "applied.json", prepare, lines=1))
    return cases


def wrong_host_name() -> list[Case]:
    cases = []
    for tool, verbs in READERS.items():
        for verb in verbs:
            if [tool, *verb[:1]] not in ANYWHERE:
                says = 'no \\[\\[node\\]\\] is called "debian"'
                cases.append(Case("wrong host name", tool, verb, 2, says, env={"HOST_NAME": "debian"}))
    return cases


# A real Tang server that the file pins.
TANG = """ip link set lo up; mkdir /run/tang; /usr/libexec/tangd-keygen /run/tang > /dev/null
socat TCP-LISTEN:7,bind=127.0.0.1,reuseaddr,fork 'EXEC:/usr/libexec/tangd /run/tang' 2> /dev/null &
timeout 20 sh -c 'until curl -sf -m 2 -o /dev/null http://127.0.0.1:7/adv; do :; done'
thp=$(jose jwk thp -a S256 -i "$(grep -l '"verify"' /run/tang/*.jwk)")
sed -i "s/XYZvQfX_8d0-pBHs7hNkEZdcKxLNhyEMMZrDTdpZsPg/$thp/" etc/personal-cluster/cluster.toml cluster.toml
"""

NOBODY = {"AS": "setpriv --reuid=nobody --regid=nogroup --clear-groups"}
# At real paths: below another root anybody may do anything.
AS_MACHINE = """mount -t tmpfs none /var/lib; cp -a var/lib/personal-cluster /var/lib/
mkdir -p -m 755 /run/etc /run/work; mount -t tmpfs none /run/etc; mkdir /run/etc/upper /run/etc/work
mount -t overlay none -o lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work /etc
rm -rf /etc/personal-cluster; cp -a etc/personal-cluster /etc/; chmod 755 "$ROOT"
mkdir -p /run/dev/disk/by-id; cp -a --sparse=always dev/disk/by-id/. /run/dev/disk/by-id/; chmod 600 /run/dev/disk/by-id/*
cp -a /dev/null /dev/urandom /run/dev/; mount --bind /run/dev /dev
"""
FOR_ROOT = {
    "pc-borg": [verb for verb in READERS["pc-borg"] if verb != ["status"]],
    "pc-brick": READERS["pc-brick"] + [["wipe", DISK, "--yes-destroy-all-data-on-it"], ["forget", "virtio-A"], ["adopt", DISK]],
    "pc-config": [["put", "cluster.toml"], ["push"]],
    "pc-gluster": READERS["pc-gluster"],
    "pc-ha": [verb for verb in READERS["pc-ha"] if verb not in (["plan"], ["status"])],
    "pc-ovs": [["apply"], ["confirm"]],
    "pc-trust": [["init", "cluster.toml"], ["join", "192.0.2.1", "x"], ["apply"], ["plan"], ["token", "node2"], ["renew"]],
    "pc-unlock": [["open"], ["bind", DISK], ["unbind", DISK], ["rotate"], ["seal", "x"], ["unseal"]],
    "pc-vm": [["apply"], ["start", "mail"], ["stop", "mail"], ["migrate", "mail", "node2"], ["reboot", "mail"], ["import", "mail", "x.qcow2"], ["delete", "mail"], ["resize", "mail"], ["export", "mail", "x.qcow2"], ["clone", "mail", "web"], ["snapshot", "list", "mail"]],
}


def not_root() -> list[Case]:
    cases = []
    for tool, verbs in FOR_ROOT.items():
        for verb in verbs:
            asked = "printf '\n[ha]\n' >> etc/personal-cluster/cluster.toml\n" if tool == "pc-ha" else ""
            prepare = asked + TANG + AS_MACHINE
            cases.append(Case("not root", tool, NODE + verb, 2, f"\n  sudo {tool} ", prepare, env=NOBODY, root=False))
    return cases


# No block and no inode to spare.
FULL = """mkdir kept; for d in etc var; do cp -a $d kept/; mount -t tmpfs -o size=256k none $d; cp -a kept/$d/. $d/
cat /dev/zero > $d/filler 2> /dev/null || true; done; rm -r kept"""
READ_ONLY = "mount --bind etc etc; mount -o remount,bind,ro etc"
CLEAR = "sed -i '/unlock/,/tang/d' cluster.toml"
CLEAR_OF_NODE = "sed -i '/unlock/,/tang/d' etc/personal-cluster/cluster.toml"

def disks_that_take_nothing() -> list[Case]:
    cases = []
    for fault, place, says in (("full disk", FULL, "No space left"), ("read-only /etc", READ_ONLY, "(?i)read-only file system")):
        cases.append(Case(fault, "pc-config", ["put", "cluster.toml"], 1, says, f"echo '# new' >> cluster.toml; {place}"))
        cases.append(Case(fault, "pc-trust", ["init", "cluster.toml"], 1, says, f"{CLEAR}; {place}"))
        cases.append(Case(fault, "pc-trust", ["renew", "--force"], 1, says, place, member=True))
        cases.append(Case(fault, "pc-unlock", ["seal", "x"], 1, says, TANG + place, b"secret"))
    cases.append(Case("full disk", "pc-brick", ["apply"], 1, "No space left", f"{CLEAR_OF_NODE}; {FULL}"))
    there = ["--connect", "test:///default"]
    # A VM without a record: every other node has to say that it does not run there, its kernel as well, or is called dead.
    idle = [*there, "--connect-peer", "test:///default"]
    cases.append(Case("full disk", "pc-vm", [*there, "apply"], 1, "No space left", FULL))
    dead = ["--here", "--owner-is-dead", "node2", "--owner-is-dead", "node3"]
    cases.append(Case("full volume", "pc-vm", [*idle, "start", "mail", *dead], 1, "No space left", FULL_VOLUME))
    cases.append(Case("full disk", "pc-generator", ["units"], 0, "No space left", FULL_UNITS, changes=True, never="mount 644"))
    return cases


FULL_VOLUME = """mkdir -p proc/self mnt/vms; mount -t tmpfs -o size=64k none mnt/vms
echo '36 35 98:0 / /mnt/vms rw - fuse.glusterfs node1:/vms rw' > proc/self/mountinfo
cat /dev/zero > mnt/vms/filler 2> /dev/null || true"""
FULL_UNITS = "mount -t tmpfs -o size=4k none units; cat /dev/zero > units/filler 2> /dev/null || true"

# Accepts everybody, answers nobody.
SILENT = """python3 -c "
import socket
server = socket.socket(socket.%s); server.bind(%s); server.listen(50); open('/run/silent', 'w').close(); kept = []
while True: kept.append(server.accept())" &
until [ -e /run/silent ]; do sleep 0.1; done
"""


HANGING_GLUSTERD = """printf '#!/bin/sh\\necho Error : Request timed out\\nexit 1\\n' > /run/gluster; chmod 755 /run/gluster
mount --bind /run/gluster "$(command -v gluster)"
"""


def daemons() -> list[Case]:
    lo = "ip link set lo up; "
    tang = lo + SILENT % ("AF_INET", "('127.0.0.1', 7)")
    ovsdb = "mkdir run/openvswitch; " + SILENT % ("AF_UNIX", "'run/openvswitch/db.sock'")
    return [
        Case("tang is off", "pc-unlock", ["seal", "x"], 75, "connection refused", lo, b"secret"),
        Case("tang is off", "pc-trust", ["init", "cluster.toml"], 75, "connection refused", lo),
        Case("tang is off", "pc-brick", ["apply"], 75, "connection refused", lo),
        Case("tang hangs", "pc-brick", ["apply"], 75, "timed out", tang),
        Case("tang hangs", "pc-unlock", ["seal", "x"], 75, "timed out", tang, b"secret"),
        Case("tang hangs", "pc-unlock", ["adv", "http://127.0.0.1:7"], 75, "timed out", tang),
        Case("tang hangs", "pc-trust", ["init", "cluster.toml"], 75, "timed out", tang),
        Case("glusterd is off", "pc-gluster", ["plan"], 75, "glusterd does not answer"),
        Case("glusterd is off", "pc-gluster", ["apply"], 75, "glusterd does not answer", lines=3),  # the brick that is not mounted is a line of its own
        # What the program says once it has waited as long as it was told.
        Case("glusterd hangs", "pc-gluster", ["plan"], 75, "no answer from glusterd within", HANGING_GLUSTERD),
        Case("ovsdb is off", "pc-ovs", ["plan"], 75, "db.sock: No such file"),
        Case("ovsdb is off", "pc-ovs", ["apply"], 75, "db.sock: No such file"),
        Case("ovsdb hangs", "pc-ovs", ["plan"], 75, "no answer within", ovsdb),
        Case("ovsdb hangs", "pc-ovs", ["apply"], 75, "no answer within", ovsdb),
        Case("libvirtd is off", "pc-vm", ["plan"], 75, "libvirt does not answer"),
        Case("libvirtd is off", "pc-vm", ["apply"], 75, "libvirt does not answer"),
    ]


def clocks() -> list[Case]:
    cases = []
    for fault, years in (("clock in the past", -26), ("clock in the future", 30)):
        env = {"CLOCK_OFFSET": str(years * 365 * 86400)}
        for tool, verb, prepare, member in (
            ("pc-config", ["put", "cluster.toml"], "", False),
            ("pc-trust", ["init", "cluster.toml"], CLEAR, False),
            ("pc-trust", ["apply"], "", True),
            ("pc-trust", ["token", "node2"], "", True),
            ("pc-unlock", ["seal", "x"], TANG, False),
            ("pc-brick", ["plan"], "", False),
        ):
            cases.append(Case(
                fault, tool, verb, 0, "", prepare, b"secret", lines=40, changes=True, env=dict(env), member=member
            ))
    return cases


def all_cases() -> list[Case]:
    return bad_files() + wrong_host_name() + not_root() + disks_that_take_nothing() + daemons() + clocks()
