"""The Ethernet segments between the machines: one hub process each, and the rules it follows."""

from __future__ import annotations

import os
import time

from lab import boxes, places, processes, report

Pair = tuple[str, str]


def start(segment: str) -> processes.Process:
    """Start the hub of a segment and wait until its sockets are there."""
    directory = places.run() / segment
    directory.mkdir(exist_ok=True)
    for stale in directory.iterdir():
        stale.unlink()
    names = [box.name for box in boxes.ALL]
    longest = str(directory / f"hub.{max(names, key=len)}")
    if len(longest) > 100:
        raise report.Failure(f"{longest}: too long for a unix socket; set XDG_CACHE_HOME to a shorter path")
    argv = [os.environ["LAB_XTASK"], "lab", "hub", str(directory), *names]
    hub = processes.start(argv, places.run() / f"{segment}.log")
    deadline = time.monotonic() + 10
    while not all((directory / f"hub.{name}").exists() for name in names):
        if time.monotonic() > deadline or not processes.alive(hub):
            raise report.Failure(f"the hub of {segment} does not start: see {places.run()}/{segment}.log")
        time.sleep(0.02)
    return hub


def rules(segment: str) -> list[str]:
    """The rules in force."""
    path = places.run() / segment / "rules"
    return path.read_text().splitlines() if path.exists() else []


def set_rules(segment: str, lines: list[str]) -> None:
    """Replace the rules; the hub follows within half a second (waited for here)."""
    path = places.run() / segment / "rules"
    new = path.with_suffix(".new")
    new.write_text("".join(f"{line}\n" for line in lines))
    new.rename(path)
    time.sleep(0.5)


def cut(name: str, other: str = "*") -> None:
    """Nothing passes between the two (`*`: all others), on no segment; the link stays up, as behind a switch."""
    for segment in boxes.SEGMENTS:
        set_rules(segment, [*rules(segment), f"cut {name} {other}"])


def disturb(rule: str) -> None:
    """Add a `loss A B PERCENT`, `delay A B MS` or `pcap FILE` rule on the cluster's segment."""
    set_rules("lan", [*rules("lan"), rule])


def join(name: str) -> None:
    """Drop every rule that names the machine."""
    for segment in boxes.SEGMENTS:
        kept = [line for line in rules(segment) if name not in line.split()[1:3]]
        if kept != rules(segment):
            set_rules(segment, kept)
