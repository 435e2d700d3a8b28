"""What a person sees: one line per stage with its seconds, tables, and where to look after a failure."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence

BEGAN = time.monotonic()


class Failure(Exception):
    """Something the person running the lab can read; no traceback is shown."""


class Interrupted(BaseException):
    """The job was ended: as ctrl-C no failure of whatever was under way, and nothing that catches failures may go on."""


def say(text: str) -> None:
    """One line, at once."""
    print(text, flush=True)


class Stage:
    """A stage under way; `note` is added to its line."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """Say one more thing on the stage's line."""
        self.notes.append(text)


@contextlib.contextmanager
def stage(name: str) -> Iterator[Stage]:
    """Time what happens inside; the line is printed at its end, or said to have failed."""
    begun = time.monotonic()
    terminal = sys.stdout.isatty()
    if terminal:
        print(f"  ...    {name}", end="\r", flush=True)
    doing = Stage(name)
    try:
        yield doing
    except BaseException:
        say(f"\r{time.monotonic() - begun:7.1f} s  {name}: FAILED")
        raise
    notes = f"  ({'; '.join(doing.notes)})" if doing.notes else ""
    say(f"{time.monotonic() - begun:7.1f} s  {name}{notes}")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)
