"""nix/package.nix without Nix' builders: its script is run on programs and pages that stand for the built ones."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# What nixpkgs' setup hooks give a builder: makeWrapper writes its arguments down, one a line.
HOOKS = r"""
set -euo pipefail
makeWrapper() { printf '%s\n' "$@" > "$2"; chmod 0755 "$2"; }
substituteInPlace() {
    local file=$1 from to; shift
    while [ $# -gt 0 ]; do
        [ "$1" = --replace-quiet ] || { echo "substituteInPlace: $1" >&2; return 1; }
        from=$2 to=$3; shift 3
        FROM=$from TO=$to perl -pi -e 's/\Q$ENV{FROM}\E/$ENV{TO}/g' "$file"
    done
}
"""


def build(repository: Path, work: Path, seen: dict[str, Any], script: str) -> tuple[Path, str]:
    """Runs the script; gives the output and what went wrong."""
    out = work / "out"
    built = work / "built"
    text = script.replace("/nix/store/built", str(built)).replace(seen["store"], str(repository / "units"))
    text = text.replace(seen["out"], str(out))
    command = ["bash", "-c", f"{HOOKS}\nout={out}\n{text}"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=work)
    return out, "" if ended.returncode == 0 else ended.stdout + ended.stderr


def stand_ins(repository: Path, built: Path, tools: list[str]) -> None:
    """What `make install` leaves."""
    pages = ("share/man/man8/{}.8", "share/bash-completion/completions/{}", "share/zsh/site-functions/_{}", "share/fish/vendor_completions.d/{}.fish")
    for tool in tools:
        for name in ("bin/{}", *pages):
            file = built / name.format(tool)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(tool)
    for rules in (repository / "udev").glob("*.rules"):
        (built / "lib/udev/rules.d").mkdir(parents=True, exist_ok=True)
        shutil.copy(rules, built / "lib/udev/rules.d")
    agents = built / "lib/ocf/resource.d/personal-cluster"
    shutil.copytree(repository / "tools/pc-ha/ocf", agents, dirs_exist_ok=True)
    for name in ("share/man/man7/personal-cluster.7", "share/doc/personal-cluster/examples/home.toml"):
        (built / name).parent.mkdir(parents=True, exist_ok=True)
        (built / name).write_text("")


def path_of(wrapper: Path) -> list[str]:
    """The directories that a wrapper puts before PATH."""
    lines = wrapper.read_text().splitlines()
    return lines[lines.index("--prefix") + 3].split(":")


def wrapped(what: str, out: Path, tool: str, directory: str, wanted: list[str]) -> Iterator[str]:
    """One program: real beside, wrapper where people look, PATH with what it runs and no more."""
    wrapper = out / directory / tool
    if not wrapper.exists() or (out / "libexec/personal-cluster" / tool).read_text() != tool:
        yield f"{what}: {directory}/{tool} is missing"
        return
    own = [f"{out}/bin", f"{out}/libexec/personal-cluster/siblings"]
    got = path_of(wrapper)
    if got != [*dict.fromkeys(wanted), *own]:
        yield f"{what}: {tool} has {got} on its PATH"
    if "--inherit-argv0" not in wrapper.read_text():
        yield f"{what}: {tool} would not know its own name"


def faults(repository: Path, seen: dict[str, Any], runtime: dict[str, Any]) -> Iterator[str]:
    """All tools together, and each alone."""
    packages = [("personal-cluster", list(runtime), seen["whole"]), *((tool, [tool], seen["alone"][tool]) for tool in runtime)]
    for what, tools, package in packages:
        with tempfile.TemporaryDirectory() as directory:
            work = Path(directory)
            stand_ins(repository, work / "built", list(runtime))
            out, said = build(repository, work, seen, package["script"])
            if said:
                yield f"{what}: building it: {said[-2000:]}"
                continue
            needed = {sibling for tool in tools for sibling in runtime[tool]["closure"]} - set(tools)
            for tool in tools:
                if tool == "pc-generator":
                    if not (out / "libexec/personal-cluster/pc-generator").exists():
                        yield f"{what}: no generator"
                    continue
                yield from wrapped(what, out, tool, "bin", seen["paths"][tool])
                if not (out / f"share/man/man8/{tool}.8").exists():
                    yield f"{what}: no man page of {tool}"
            for tool in needed:
                yield from wrapped(what, out, tool, "libexec/personal-cluster/siblings", seen["paths"][tool])
            got = {file.name for file in (out / "bin").iterdir()}
            if got != set(tools) - {"pc-generator"}:
                yield f"{what}: bin has {sorted(got)}"
            yield from units(repository, what, tools, out, runtime)


def units(repository: Path, what: str, tools: list[str], out: Path, runtime: dict[str, Any]) -> Iterator[str]:
    """Its own units, all of them, and none that runs a program of /usr."""
    at = out / "lib/systemd/system"
    got = {str(file.relative_to(at)) for file in at.rglob("*") if file.is_file()}
    root = repository / "units"
    globs = [glob for tool in tools for glob in runtime[tool]["units"]]
    want = {str(file.relative_to(root)) for glob in globs for match in root.glob(glob) for file in [match, *match.rglob("*")] if file.is_file()}
    if what == "personal-cluster":
        want = {str(file.relative_to(root)) for file in root.rglob("*") if file.is_file()}
    if got != want:
        yield f"{what}: units {sorted(got ^ want)} are missing, or belong to no package"
    for name in sorted(got):
        text = (at / name).read_text()
        if "/usr/bin/" in text:
            yield f"{what}: {name} names /usr/bin"
        for line in text.splitlines():
            if f"={out}/bin/pc-" in line and not Path(line.split("=", 1)[1].split()[0]).exists():
                yield f"{what}: {name}: {line}: is not in the package"
