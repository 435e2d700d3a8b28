"""docs/nixos-options.md: the options as the modules declare them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

HEAD = """\
# Options of services.personal-cluster
Made from nixos-modules/ by `PC_NIXOS_TREE=... tests/nix/check.py --write`; a test compares it. docs/nixos.md shows how they are used, and
docs/cluster-file.md describes the keys of `settings`, of which only those with a type of their own are listed here.
"""


def _text(value: Any) -> str:
    return " ".join(str(value).split())


def page(options: dict[str, Any]) -> str:
    """One section per option, in the order of their names."""
    parts = [HEAD]
    for name, option in sorted(options.items()):
        lines = [f"## {name}", _text(option["description"]), "", f"- type: {_text(option['type'])}"]
        if option["default"] is not None:
            lines.append(f"- default: `{_text(option['default'])}`")
        if option["example"] is not None:
            lines.append(f"- example: `{_text(option['example'])}`")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def faults(repository: Path, options: dict[str, Any], write: bool) -> Iterator[str]:
    """The committed page is the present one."""
    file = repository / "docs" / "nixos-options.md"
    now = page(options)
    if write:
        file.write_text(now)
    elif not file.exists() or file.read_text() != now:
        yield "docs/nixos-options.md is not what the modules declare: PC_NIXOS_TREE=... tests/nix/check.py --write"
    for name, option in sorted(options.items()):
        if not option["description"]:
            yield f"{name} has no description"
