"""A directory that stands for a machine, and one run of a tool on it, in namespaces of its own."""

import atexit
import functools
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

BIN = Path(os.environ.get("PC_BIN", Path(__file__).resolve().parents[2] / "target/debug"))

FILE = """schema = "personal-cluster/1"
name = "home"

[unlock]
tang = [{ url = "http://127.0.0.1:7", thumbprint = "XYZvQfX_8d0-pBHs7hNkEZdcKxLNhyEMMZrDTdpZsPg" }]

[[node]]
name = "node1"
address = "192.0.2.1/24"
disks.vms = ["/dev/disk/by-id/virtio-A"]
nics.lan = ["eth7"]

[[node]]
name = "node2"
address = "192.0.2.2/24"
disks.vms = ["/dev/disk/by-id/virtio-B"]
nics.lan = ["eth7"]

[[node]]
name = "node3"
address = "192.0.2.3/24"
disks.vms = ["/dev/disk/by-id/virtio-C"]
nics.lan = ["eth7"]

[volume.vms]
use = "vm"
replicas = 3

[network.lan]
uplink = "lan"

[vm.mail]
memory = "64MiB"
disk = "8MiB"
volume = "vms"
networks = ["lan"]
"""

# Every file of the machine with its mode, links and content. /run is left out, where tools leave their last status and
# which is gone at the next boot; a directory without a file and a lock are no change, nor is the public key of a pinned
# server that answered. A disk that is blank takes no block; reading all of it would take longer than everything else here.
TREE = """tree() { cd "$ROOT"
  skip="-path ./run -prune -o -path ./var/lib/personal-cluster/tang-keys -prune -o -name lock -o"
  find . $skip -type d -o -printf '%p %m %l\\n' | sort
  find . $skip -type f -size +10M -printf '%p %b\\n' -o -type f -exec sha256sum {} + | sort; }"""

# The machine's own daemons and network are out of sight: no tool of a test may find them.
SPACE = """set -eu
mount --make-rprivate /
mount -t tmpfs none /run
[ ! -d /var/lib/glusterd ] || mount -t tmpfs none /var/lib/glusterd
hostname "${HOST_NAME:-node1}"
%(tree)s
cd "$ROOT"
%(prepare)s
tree > "$OUT/before"
cd "$ROOT"; set +e
${AS:-} "$@" < "$OUT/stdin" > "$OUT/stdout" 2> "$OUT/stderr"
echo $? > "$OUT/code"
tree > "$OUT/after"
"""


@dataclass
class Case:
    """One fault for one verb: what must come of it."""

    fault: str
    tool: str
    argv: list[str]
    code: int = 2
    says: str = ""
    prepare: str = ""
    stdin: bytes = b""
    lines: int = 2
    changes: bool = False
    # What the list of files must not show afterwards.
    never: str = ""
    env: dict[str, str] = field(default_factory=dict)
    root: bool = True
    member: bool = False
    seconds: int = 60

    @property
    def name(self) -> str:
        return f"{self.fault}: {self.tool} {' '.join(self.argv)}"


def faults_of(case: Case) -> list[str]:
    """Runs it; gives what is not as it must be."""
    with tempfile.TemporaryDirectory(prefix="bad-input-") as work:
        place = Path(work)
        place.chmod(0o755)
        root, out, fakes = place / "root", place / "out", place / "bin"
        for directory in (out, fakes):
            directory.mkdir()
        subprocess.run(["cp", "-a", "--sparse=always", template(case.member), root], check=True)
        for tool in BIN.glob("pc-*"):
            if tool.suffix == "" and os.access(tool, os.X_OK):
                (fakes / tool.name).symlink_to(tool)
        if "AS" in case.env:
            # A target directory below somebody's home is closed to others.
            (fakes / case.tool).unlink()
            shutil.copy2(BIN / case.tool, fakes)
        (out / "stdin").write_bytes(case.stdin)
        argv = [str(fakes / case.tool)] + (["--root", str(root)] if case.root else []) + case.argv
        env = {"PATH": f"{fakes}:{os.environ['PATH']}", "ROOT": str(root), "OUT": str(out), "LC_ALL": "C.UTF-8"}
        script = SPACE % {"tree": TREE, "prepare": case.prepare}
        command = ["unshare", "--net", "--uts", "--ipc", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        try:
            ran = subprocess.run(
                [*command, "sh", "-c", script, "sh", *argv],
                env=env | case.env,
                capture_output=True,
                timeout=case.seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return [f"not over after {case.seconds} s"]
        if not (out / "after").exists():
            return [f"the case itself failed: {ran.stderr.decode()}"]
        text = {name: (out / name).read_bytes().decode(errors="replace") for name in ("stdout", "stderr", "code", "before", "after")}
        return judged(case, text)


def judged(case: Case, text: dict[str, str]) -> list[str]:
    faults = []
    code, stderr = int(text["code"]), text["stderr"]
    if code != case.code:
        faults.append(f"exit code {code}, not {case.code}")
    if not re.search(case.says, stderr):
        faults.append(f"does not say {case.says!r}")
    if code not in (0, 3) and not re.search(r"^(error: |<3>)", stderr, re.M):
        faults.append("no line begins with error:")
    if len(stderr.splitlines()) > case.lines:
        faults.append(f"{len(stderr.splitlines())} lines, not {case.lines}")
    if case.never and re.search(case.never, text["after"], re.M):
        faults.append(f"leaves {case.never!r}")
    if "panicked" in stderr:
        faults.append("panics")
    if text["before"] != text["after"] and not case.changes:
        changed = set(text["before"].splitlines()) ^ set(text["after"].splitlines())
        faults.append("changes " + "; ".join(sorted(changed)[:6]))
    if faults and stderr:
        faults.append("it says:\n      " + "\n      ".join(stderr.splitlines()[:8]))
    return faults


@functools.cache
def template(member: bool) -> Path:
    """node1 with its file put in force and one blank disk, copied for every case; a member has keys, in clear."""
    place = Path(tempfile.mkdtemp(prefix="bad-input-machine-"))
    atexit.register(shutil.rmtree, place)
    root = place / "root"
    for directory in ("etc/personal-cluster", "var/lib", "run", "dev/disk/by-id", "proc", "sys", "etc/ssh", "units"):
        (root / directory).mkdir(parents=True)
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
    (root / "etc/fstab").write_text("")
    text = re.sub(r"\[unlock\]\n.*\n", "", FILE) if member else FILE
    (root / "cluster.toml").write_text(text)
    with open(root / "dev/disk/by-id/virtio-A", "wb") as disk:
        disk.truncate(1 << 30)
    verb = ["pc-trust", "init"] if member else ["pc-config", "put"]
    argv = [str(BIN / verb[0]), "--root", str(root), "--node", "node1", verb[1], str(root / "cluster.toml")]
    made = subprocess.run(argv, capture_output=True, env=os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"}, check=False)
    assert made.returncode == 0, made.stderr.decode()
    return root
