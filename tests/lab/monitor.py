"""Talking to a running QEMU over its QMP socket."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from typing import Any, TextIO

from lab import places, report


@contextlib.contextmanager
def _connected(name: str, timeout_s: float) -> Iterator[TextIO]:
    with socket.socket(socket.AF_UNIX) as channel:
        channel.settimeout(timeout_s)
        channel.connect(str(places.run() / f"{name}.qmp"))
        with channel.makefile("rw") as stream:
            stream.readline()
            _ask(stream, "qmp_capabilities", {})
            yield stream


def _ask(stream: TextIO, execute: str, arguments: dict[str, Any]) -> Any:
    stream.write(json.dumps({"execute": execute, "arguments": arguments}) + "\n")
    stream.flush()
    for line in stream:
        answer = json.loads(line)
        if "error" in answer:
            raise report.Failure(f"QEMU: {execute}: {answer['error'].get('desc')}")
        if "return" in answer:
            return answer["return"]
    raise report.Failure(f"QEMU: {execute}: the machine went away")


def query(name: str, execute: str, timeout_s: float = 30, **arguments: Any) -> Any:
    """One QMP command and its answer."""
    with _connected(name, timeout_s) as stream:
        return _ask(stream, execute, arguments)


def command(name: str, line: str, timeout_s: float = 30) -> str:
    """One command of the human monitor (the only way to savevm and loadvm in one step), and what it printed."""
    answer = query(name, "human-monitor-command", timeout_s, **{"command-line": line})
    return str(answer).replace("\r", "").strip()


def must(name: str, line: str, timeout_s: float = 30) -> None:
    """A command of the human monitor that prints only when it fails."""
    told = command(name, line, timeout_s)
    if told:
        raise report.Failure(f"{name}: {line}: {told}")


def events(name: str, timeout_s: float) -> Iterator[dict[str, Any]]:
    """QEMU's events (WATCHDOG, RESET, SHUTDOWN, ...) as they come, stamped with the host's clock."""
    with _connected(name, timeout_s) as stream:
        for line in stream:
            answer = json.loads(line)
            if "event" in answer:
                yield answer
