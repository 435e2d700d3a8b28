"""From blank machines to a running VM: the lines that README.md tells its readers to type, and nothing else."""

from __future__ import annotations

import io
import os
import re
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path

from lab import boxes, evening, places, report
from lab.boxes import NODES, TANG, Box
from lab.cluster import Cluster, together
from lab.evening import Evening
from lab.remote import looking

REPOSITORY_IN_NODES = "/srv/personal-cluster-apt"
FILE = places.HERE / "cluster.toml"
FIRST = NODES[0]
# Where guest/init keeps its record on the VM's disk, in sectors.
RECORD_SECTOR = 1024
VM_DISK = "/mnt/vms/vms/mail/disk.img"

# Generous: emulated machines on a busy computer are some ten times slower than any that people buy.
INSTALL_S, JOIN_S, TAKE_OVER_S, BRICKS_S, STORAGE_S, HEARTBEAT_S = 1200, 600, 600, 2700, 1800, 900
BOOT_S = 900
# The snapshot of machines that know nothing of us.
BLANK = "blank"


@dataclass(frozen=True)
class Names:
    """Snapshots are named by what they were made from."""

    installed: str
    ready: str

    @staticmethod
    def now() -> Names:
        """For the present packages, cluster file and lab."""
        packages = places.digest(repository())
        ready = places.digest(packages, FILE, Path(__file__), evening.DOCUMENT)
        installed = places.digest(packages, evening.DOCUMENT)
        return Names(f"installed-{installed}", f"ready-{ready}")


def repository() -> Path:
    """The flat apt repository with our packages."""
    return Path(os.environ["LAB_REPOSITORY"])


def up(until: str = "ready") -> Cluster:
    """The lab after the first evening; or before it, `installed`; or before that, `blank`: our packages can be installed,
    and nobody has. From a snapshot where one fits."""
    cluster = Cluster.prepare()
    names = Names.now()
    if until == "blank":
        _blank(cluster)
        return cluster
    if until == "ready" and cluster.has(names.ready):
        with report.stage(f"restore {names.ready}"):
            cluster.restore(names.ready)
        with report.stage("the VM's heart beats") as stage:
            stage.note(heartbeat(cluster))
        return cluster
    if cluster.has(names.installed):
        with report.stage(f"restore {names.installed}"):
            cluster.restore(names.installed)
    else:
        _installed(cluster, names)
    if until == "ready":
        first_evening(cluster)
        with report.stage("snapshot"):
            cluster.save(names.ready)
        look_around(cluster)
    return cluster


def prepare() -> None:
    """The image and four blank machines, booted once: what can be made while packages are still being built."""
    cluster = Cluster.prepare()
    if not cluster.has(BLANK):
        _booted(cluster)
    cluster.stop()


def _booted(cluster: Cluster) -> None:
    with report.stage("boot four blank machines"):
        cluster.boot()
        together(lambda box: cluster.remote(box).run("systemctl is-system-running --wait", BOOT_S))
    with report.stage("snapshot"):
        cluster.save(BLANK)


def _blank(cluster: Cluster) -> None:
    if cluster.has(BLANK):
        with report.stage("restore blank machines"):
            cluster.restore(BLANK)
    else:
        _booted(cluster)
    with report.stage("copy the packages"):
        packed = _packed(repository())
        # A restored machine's clock stands at the moment of its snapshot: newer packages are from its future.
        undated = "echo 'Acquire::Check-Date \"false\";' > /etc/apt/apt.conf.d/90lab-clock"
        unpack = f"tar -C {REPOSITORY_IN_NODES} -xmf - && {undated}"
        together(lambda box: cluster.remote(box).must(unpack, INSTALL_S, stdin=packed))
        together(lambda box: cluster.remote(box).must(Evening.read().add_repository, 60))


def _installed(cluster: Cluster, names: Names) -> None:
    _blank(cluster)
    lines = Evening.read()
    with report.stage("apt-get install"):
        on_tang, on_node = lines.install_tang, lines.install
        together(lambda box: cluster.remote(box).must(on_tang if box is TANG else on_node, INSTALL_S))
    with report.stage("snapshot"):
        cluster.save(names.installed)


def _packed(directory: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for file in sorted(directory.iterdir()):
            if file.suffix == ".deb" or file.name.startswith(("Packages", "Release", "InRelease")):
                archive.add(file, file.name)
    return buffer.getvalue()


def first_evening(cluster: Cluster) -> None:
    """docs/first-evening.md, from the file to the VM."""
    lines = Evening.read()
    first = cluster.remote(FIRST)
    with report.stage("the cluster file"):
        _file(cluster, lines)
    with report.stage(f"node1: {lines.init}"):
        told = first.must(lines.init, JOIN_S)
        # The recovery key is in here: what a person would write on paper.
        paper = places.run() / "init.txt"
        paper.touch(mode=0o600)
        paper.write_text(told)
        joins = lines.joining(told)
    others = [box for box in NODES if box is not FIRST]
    with report.stage(f"node2, node3: {lines.join}"):
        together(lambda box: cluster.remote(box).must(joins[box.name], JOIN_S), others)
    on_every_node(cluster, lines.take_over, TAKE_OVER_S)
    on_every_node(cluster, lines.enable, BRICKS_S)
    # What costs least is looked at first.
    wait(cluster, "bricks", BRICKS_S, "[ $(grep -c ' /srv/bricks/' /proc/mounts) = 3 ] && mountpoint -q /mnt/local && "
         "systemctl is-active --quiet pc-brick.service")
    wait(cluster, "volumes: pc-storage.target", STORAGE_S, "grep -q ' /mnt/vms ' /proc/mounts && "
         "grep -q ' /mnt/backup ' /proc/mounts && systemctl is-active --quiet pc-storage.target")
    with report.stage("the VM's heart beats") as stage:
        stage.note(heartbeat(cluster))


def look_around(cluster: Cluster) -> None:
    """The last section of docs/first-evening.md."""
    lines = Evening.read()
    first = cluster.remote(FIRST)
    with report.stage("look around"):
        for line in (lines.brick_status, lines.volume_status, lines.list_vms):
            first.must(line, 300)
        # A console wants a terminal, and is left when the VM was heard: a person types ctrl-].
        first.must(
            f"script --quiet --flush --command '{lines.console}' /run/lab-console > /dev/null & "
            "until grep --text --quiet 'hb ' /run/lab-console; do sleep 1; done; kill $!",
            300,
        )


def _file(cluster: Cluster, lines: Evening) -> None:
    """Drafted on every node, merged on the first, and what a person makes of it put in its place."""
    first = cluster.remote(FIRST)

    def draft(box: Box) -> None:
        text = cluster.remote(box).must(f"{lines.drafting(box.name)} && cat {box.name}.toml", JOIN_S)
        first.must(f"cat > {box.name}.toml", 60, stdin=text.encode())

    together(draft, NODES)
    merged = first.must(f"{lines.merge} && cat cluster.toml", 60)
    told = first.must(lines.adv, JOIN_S)
    thumbprint = re.search(r"[\w-]{43}", told)
    if thumbprint is None:
        raise report.Failure(f"{lines.adv} names no thumbprint:\n{told}")
    text = FILE.read_text().replace("THUMBPRINT", thumbprint[0])
    for stable in re.findall(r"/dev/disk/by-id/[\w-]+", text):
        if stable not in merged:
            raise report.Failure(f"the drafts do not name {stable}:\n{merged}")
    first.must("cat > cluster.toml", 60, stdin=text.encode())
    first.must(lines.check, 60)


def on_every_node(cluster: Cluster, line: str, timeout_s: float) -> None:
    """One of README's lines, on the three nodes at once."""
    with report.stage(f"every node: {line}"):
        together(lambda box: cluster.remote(box).must(line, timeout_s), NODES)


def wait(cluster: Cluster, what: str, timeout_s: float, command: str, on: tuple[Box, ...] = NODES) -> None:
    """Wait on several nodes at once until a command succeeds; says how long each took."""

    def one(box: Box) -> str:
        begun = time.monotonic()
        # The loop runs in the machine: a login for each look would keep an emulated one busy.
        if cluster.remote(box).run(looking("until", command), timeout_s).status != 0:
            raise report.Failure(f"{box.name}: {what}: not within {timeout_s:.0f} s: `{command}`")
        return f"{box.name} {time.monotonic() - begun:.0f} s"

    with report.stage(what) as stage:
        for note in together(one, on):
            stage.note(note)


# One record as the node reads it from the VM's disk, past its own cache.
READ = f"dd if={VM_DISK} bs=4096 skip={RECORD_SECTOR * 512 // 4096} count=1 iflag=direct status=none | tr -d '\\0'"
BEATS = f"""exec 2> /dev/null; last=; while :; do
    now=$({READ}) || now=
    case $now in
    hb\\ *) if [ -n "$last" ] && [ "$now" != "$last" ]; then echo "$now"; exit 0; fi; last=$now ;;
    esac
    sleep 2
done"""


def record(cluster: Cluster, box: Box = FIRST) -> str:
    """The heartbeat's last record, as that node sees it."""
    return cluster.remote(box).run(READ, 60).output.strip()


def heartbeat(cluster: Cluster, box: Box = FIRST, timeout_s: float = HEARTBEAT_S) -> str:
    """Wait until the VM's record moves; gives it."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        result = cluster.remote(box).run(BEATS, deadline - time.monotonic() + 1)
        if result.status == 0:
            return result.output.strip()
        time.sleep(1)
    last = record(cluster, box) or "none"
    raise report.Failure(f"vm mail: no heartbeat on {VM_DISK} within {timeout_s:.0f} s (last: {last})")


def boxes_on(cluster: Cluster) -> list[Box]:
    """The machines that have power."""
    return [box for box in boxes.ALL if cluster.on(box)]
