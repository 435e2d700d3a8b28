"""Units on NixOS: the text is Debian's apart from paths, the order is the one of docs/ARCHITECTURE.md, and systemd reads them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# What NixOS may add to a unit of ours: environment, its own notes for a switch of generations, secrets by path, and
# what a unit's [Install] says.
ADDED = re.compile(r"^(Environment|X-\w+|LoadCredential|WantedBy)=")
# Newer than the systemd of Debian 12, which may be the one that reads them here: it takes them for an error.
NEWER = re.compile(r"^(RestartSteps|RestartMaxDelaySec|RestartForceExitStatus|ImportCredential)=.*\n", re.MULTILINE)
NEWER_SINCE = 254
OURS = re.compile(r"^(pc-|personal-cluster\.)")
BY_ITSELF = ("pc-ovs.service", "personal-cluster.target")


@dataclass
class Unit:
    """What others have to do with it."""

    after: set[str] = field(default_factory=set)
    before: set[str] = field(default_factory=set)
    wants: set[str] = field(default_factory=set)
    requires: set[str] = field(default_factory=set)
    wanted_by: set[str] = field(default_factory=set)

    def read(self, text: str) -> None:
        """Adds a unit file's, or a drop-in's, dependencies."""
        keys = {"After": self.after, "Before": self.before, "Wants": self.wants, "WantedBy": self.wanted_by}
        keys |= dict.fromkeys(("Requires", "BindsTo", "Requisite"), self.requires)
        for key, value in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE):
            if key in keys:
                keys[key].update(value.split())


Units = dict[str, Unit]


def table(repository: Path) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Of docs/ARCHITECTURE.md: after, and pulled in by."""
    after, by = {}, {}
    rows = re.findall(r"^\| ([\w@.-]+\.\w+) \| ?([^|]*?) \| ?([^|]*?) ?\|$", (repository / "docs/ARCHITECTURE.md").read_text(), re.MULTILINE)
    for name, first, second in rows:
        after[name] = set(first.replace(",", " ").split())
        by[name] = set(second.replace(",", " ").split())
    return after, by


def texts(repository: Path) -> Iterator[str]:
    """Substituting, and back again, is the same text; nothing of /usr is run."""
    expression = f'import {repository}/nix/units.nix {{ out = "/nix/store/pc"; procps = "/nix/store/procps"; }}'
    answer = subprocess.run(
        ["nix-instantiate", "--eval", "--strict", "--json", "-E", expression], capture_output=True, text=True, timeout=60, check=True
    )
    table: dict[str, str] = json.loads(answer.stdout)
    for file in sorted((repository / "units").rglob("*")):
        if not file.is_file() or file.is_symlink():
            continue
        text = file.read_text()
        there = substituted(text, table)
        back = substituted(there, {value: key for key, value in table.items()})
        if back != text:
            yield f"{file.name}: is another text on NixOS, and not by its paths alone"
        for line in re.findall(r"^Exec\w*=[-@:+!|]*/(?:usr|bin|sbin)/.*$", there, re.MULTILINE):
            yield f"{file.name}: {line}: no such path on NixOS: name it in nix/units.nix"


def substituted(text: str, table: dict[str, str]) -> str:
    """As nix/package.nix does it."""
    for old, new in table.items():
        text = text.replace(old, new)
    return text


def debian(repository: Path) -> Units:
    """units/, every one of them enabled."""
    units: Units = {}
    for file in (repository / "units").rglob("*"):
        if file.is_file():
            name = file.parent.name.removesuffix(".d") if file.parent.name.endswith(".d") else file.name
            units.setdefault(name, Unit()).read(file.read_text())
    return units


def lay(repository: Path, node: dict[str, Any], table: dict[str, str], etc: Path) -> Iterator[str]:
    """The merged /etc/systemd/system of a node, as generateUnits of NixOS makes it."""
    for file in (repository / "units").rglob("*"):
        if file.is_file():
            target = etc / file.relative_to(repository / "units")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(substituted(file.read_text(), table))
    for name, unit in node["units"].items():
        packaged = (etc / name).exists()
        if not unit["enable"]:
            (etc / name).unlink(missing_ok=True)
            (etc / name).symlink_to("/dev/null")
            continue
        target = etc / f"{name}.d" / "overrides.conf" if packaged else etc / name
        target.parent.mkdir(exist_ok=True)
        target.write_text(unit["text"])
        if packaged:
            lines = [line for line in unit["text"].splitlines() if line and not line.startswith("[")]
            for line in lines:
                if not ADDED.match(line):
                    yield f"{name}: NixOS adds {line!r} to the unit of units/"
        for kind, others in (("wants", unit["wantedBy"]), ("requires", unit["requiredBy"])):
            for other in others:
                link = etc / f"{other}.{kind}" / name
                link.parent.mkdir(exist_ok=True)
                link.symlink_to(f"../{name}")


def nixos(etc: Path) -> Units:
    """Back from that directory. [Install] counts for nothing there."""
    units: Units = {}
    for file in etc.rglob("*"):
        parent = file.parent.name
        if parent.endswith((".wants", ".requires")):
            by, _, kind = parent.rpartition(".")
            unit = units.setdefault(file.name, Unit())
            (unit.wanted_by if kind == "wants" else unit.requires).add(by)
        elif file.is_file() and not file.is_symlink():
            name = parent.removesuffix(".d") if parent.endswith(".d") else file.name
            text = file.read_text().split("\n[Install]\n")[0]
            units.setdefault(name, Unit()).read(text)
    return units


def order(where: str, units: Units, repository: Path, by_target_alone: bool) -> Iterator[str]:
    """Every edge between a unit of ours and another one of the table, from either side."""
    after, by = table(repository)
    known = set(after)
    found_after: dict[str, set[str]] = {name: set() for name in known}
    found_by: dict[str, set[str]] = {name: set() for name in known}
    for name, unit in units.items():
        for other in unit.after:
            found_after.get(name, set()).add(other)
        for other in unit.before:
            found_after.get(other, set()).add(name)
        for other in unit.wants:
            found_by.get(other, set()).add(name)
        found_by.get(name, set()).update(unit.wanted_by)
        for other in unit.requires & known:
            if OURS.match(name) or OURS.match(other):
                yield f"{where}: {name} requires {other}: a slow or failed part must darken only itself"
    for name in sorted(known):
        def ours(others: set[str], one: str = name) -> set[str]:
            return {other for other in others if OURS.match(one) or OURS.match(other)}

        got = ours(found_after[name] & known)
        if got != after[name]:
            yield f"{where}: {name} starts after {sorted(got)}, docs/ARCHITECTURE.md says {sorted(after[name])}"
        wanted = by[name] - ({"multi-user.target"} if by_target_alone and name not in BY_ITSELF else set())
        got = ours(found_by[name] & (known | {"multi-user.target"}))
        if got != wanted:
            yield f"{where}: {name} is pulled in by {sorted(got)}, docs/ARCHITECTURE.md says {sorted(wanted)}"


def read_by_systemd(root: Path, etc: Path) -> Iterator[str]:
    """systemd-analyze verify, on a root where every program that a unit names is a file that can be run."""
    # NixOS keeps systemd's own units beside the program.
    program = Path(shutil.which("systemd-analyze") or "/usr/bin/systemd-analyze").resolve()
    stock = [Path("/usr/lib/systemd/system"), program.parents[1] / "example/systemd/system"]
    shutil.copytree(next(path for path in stock if path.is_dir()), root / "usr/lib/systemd/system", symlinks=True, dirs_exist_ok=True)
    version = re.search(r"systemd (\d+)", subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout)
    old = version is not None and int(version[1]) < NEWER_SINCE
    for file in etc.rglob("*"):
        if file.is_file() and not file.is_symlink():
            if old:
                file.write_text(NEWER.sub("", file.read_text()))
            for named in re.findall(r"^Exec\w*=[-@:+!|]*(/\S+)", file.read_text(), re.MULTILINE):
                target = root / named.lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text("#!/bin/sh\n")
                target.chmod(0o755)
    checked = sorted(file.name for file in etc.iterdir() if OURS.match(file.name) and file.is_file())
    checked = [name.replace("@.", "@mail.") for name in checked]
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=yes", f"--root={root}", *checked]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    for line in (ended.stdout + ended.stderr).splitlines():
        if re.search(r"\b(pc-|personal-cluster|glusterd|cycle)", line):
            yield f"systemd-analyze verify: {line.replace(str(root), '')}"


def faults(repository: Path, node: dict[str, Any], table: dict[str, str]) -> Iterator[str]:
    """One node's merged units."""
    yield from order("units/", debian(repository), repository, by_target_alone=False)
    with tempfile.TemporaryDirectory() as work:
        root = Path(work)
        etc = root / "etc/systemd/system"
        etc.mkdir(parents=True)
        yield from lay(repository, node, table, etc)
        yield from order("NixOS", nixos(etc), repository, by_target_alone=True)
        yield from read_by_systemd(root, etc)
