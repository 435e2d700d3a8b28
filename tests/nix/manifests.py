"""What tools say of themselves, compared with what they do; and the flake's lock."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

# A call of a program: `cmd!(sh, "name ...`, `Command::new("name")`; the name may stand on the next line.
CALL = re.compile(r'(?:cmd!\(\s*\w+,|Command::new\()\s*"([A-Za-z][\w.-]*)')


def _sources(tool: Path) -> str:
    """Its own and those of the crates it is made of, without tests: in files of their own, or at the end of one."""
    manifest = (tool / "Cargo.toml").read_text()
    crates = re.findall(r"^([\w-]+)\.workspace = true$", manifest, flags=re.MULTILINE)
    places = [tool, *(tool.parents[1] / "crates" / name for name in crates)]
    text = ""
    for file in sorted(file for place in places for file in (place / "src").rglob("*.rs")):
        if "tests" in file.parts or file.stem.endswith("tests"):
            continue
        text += re.split(r"^#\[cfg\(test\)\]\n(?:#.*\n)*mod \w+ \{", file.read_text(), maxsplit=1, flags=re.MULTILINE)[0]
    return text


def programs(repository: Path) -> Iterator[str]:
    """`[package.metadata.runtime]` of each tool names exactly what it runs."""
    tools = [path.parent for path in sorted((repository / "tools").glob("*/Cargo.toml"))]
    ours = {tool.name for tool in tools}
    for tool in tools:
        text = _sources(tool)
        called = set(CALL.findall(text))
        table = tomllib.loads((tool / "Cargo.toml").read_text())["package"].get("metadata", {}).get("runtime")
        if table is None:
            wanted = ", ".join(f'"{name}"' for name in sorted(called - ours))
            siblings = ", ".join(f'"{name}"' for name in sorted(called & ours))
            yield (
                f"{tool.name}: its Cargo.toml does not say what it runs, so the Nix package puts nothing on its PATH\n"
                f"  add [package.metadata.runtime] with programs = [{wanted}] and siblings = [{siblings}]"
            )
            continue
        named = set(table.get("programs", [])) | set(table.get("siblings", [])) | set(table.get("elsewhere", []))
        for name in sorted(called - named - {tool.name}):
            yield f"{tool.name}: runs {name}, which [package.metadata.runtime] of its Cargo.toml does not name"
        for name in sorted(named - called):
            if f'"{name}"' not in text and f'"{name} ' not in text:
                yield f"{tool.name}: [package.metadata.runtime] names {name}, which it does not run"
        for name in sorted(set(table.get("siblings", [])) - ours):
            yield f"{tool.name}: the sibling {name} is no tool"


def lock(repository: Path) -> Iterator[str]:
    """flake.lock locks the one input that flake.nix names, to a commit and its hash."""
    flake = (repository / "flake.nix").read_text()
    named = re.search(r'inputs\.nixpkgs\.url = "github:(\w+)/(\w+)/([\w.-]+)"', flake)
    locked = json.loads((repository / "flake.lock").read_text())
    nodes = locked["nodes"]
    if named is None or set(nodes) != {"nixpkgs", "root"}:
        yield f"flake.lock: has {sorted(nodes)}, flake.nix names nixpkgs alone"
        return
    original, pinned = nodes["nixpkgs"]["original"], nodes["nixpkgs"]["locked"]
    if (original["owner"], original["repo"], original.get("ref")) != named.groups():
        yield f"flake.lock: locks {original}, flake.nix names {'/'.join(named.groups())}"
    if not re.fullmatch(r"[0-9a-f]{40}", pinned["rev"]) or not re.fullmatch(r"sha256-[\w+/]{43}=", pinned["narHash"]):
        yield f"flake.lock: not a commit with its hash: {pinned}"


def faults(repository: Path) -> Iterator[str]:
    """Both."""
    yield from programs(repository)
    yield from lock(repository)
