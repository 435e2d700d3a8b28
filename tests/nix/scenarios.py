"""Scenarios run in the lab and in NixOS tests: what they call must be there, with that name and those arguments."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

# The first lines of a scenario that has no meaning on NixOS say why.
DEBIAN = re.compile(r"^# nixos: no, \S.*$", re.MULTILINE)
# What the lab alone has (tests/lab/scenario.py): tests/vm/prelude.py knows the others.
LAB_ONLY = {"disturb"}
# Of a test's machines; other objects have methods of Python.
METHODS = {"crash", "execute", "fail", "reboot", "send_monitor_command", "shutdown", "start", "succeed", "wait_for_unit",
           "wait_until_fails", "wait_until_succeeds", "block", "unblock", "is_up", "log", "wait_for_file", "systemctl",
           "get_unit_info", "copy_from_host", "wait_for_open_port", "wait_for_closed_port", "require_unit_state"}  # fmt: skip


def both(repository: Path) -> Iterator[tuple[Path, ast.Module]]:
    """The scenarios that run on NixOS too."""
    for file in sorted((repository / "tests/scenarios").glob("*.py")):
        text = file.read_text()
        if not DEBIAN.search(text):
            yield file, ast.parse(text)


def sources(repository: Path) -> Iterator[tuple[Path, ast.Module]]:
    """Those, and what they are run with."""
    yield from both(repository)
    for file in sorted((repository / "tests/scenarios/with").glob("*.py")):
        yield file, ast.parse(file.read_text())


def parameters(source: Path) -> dict[str, tuple[set[str], int, bool]]:
    """Of every method of class Machine: names, how many by position, and whether any number."""
    found = {}
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.ClassDef) and node.name in ("Machine", "BaseMachine", "QemuMachine"):
            for method in node.body:
                if isinstance(method, ast.FunctionDef):
                    named = [argument.arg for argument in method.args.args][1:]
                    names = set(named) | {argument.arg for argument in method.args.kwonlyargs}
                    found[method.name] = (names, len(named), method.args.vararg is not None)
    return found


def calls(module: ast.Module) -> Iterator[tuple[int, str, int, set[str]]]:
    """Calls of machine methods: line, name, positional arguments, keywords."""
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
            named = {keyword.arg for keyword in node.keywords if keyword.arg}
            yield node.lineno, node.func.attr, len(node.args), named


def compare(repository: Path, driver: Path, called: str) -> Iterator[str]:
    """Every call fits the driver."""
    known = parameters(driver)
    for file, module in sources(repository):
        for line, method, count, named in calls(module):
            if method not in known:
                yield f"{file.name}:{line}: {called} has no {method}()"
                continue
            names, most, any_number = known[method]
            if named - names:
                yield f"{file.name}:{line}: {called}'s {method}() has no {', '.join(sorted(named - names))}"
            if count > most and not any_number:
                yield f"{file.name}:{line}: {called}'s {method}() takes {most} arguments"


def faults(repository: Path) -> Iterator[str]:
    """Against the lab's machines; and nothing of the lab's own."""
    yield from compare(repository, repository / "tests/lab/machine.py", "the lab")
    for file, module in sources(repository):
        for node in ast.walk(module):
            if isinstance(node, ast.Name) and node.id in LAB_ONLY:
                yield (
                    f"{file.name}:{node.lineno}: {node.id}() is the lab's alone\n"
                    "  find another way, or say in its first lines: # nixos: no, and why"
                )


def signatures(repository: Path, tree: Path) -> Iterator[str]:
    """Against the NixOS test driver's own."""
    driver = tree / "nixos/lib/test-driver"
    sources = [*driver.rglob("test_driver/machine.py"), *driver.rglob("test_driver/machine/__init__.py")]
    if not sources:
        yield f"{driver}: no test driver there"
        return
    yield from compare(repository, sources[0], "the NixOS driver")
