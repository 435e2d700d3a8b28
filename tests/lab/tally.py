"""The tally of all drills ever run: one line of JSON each, and the page made from it."""

from __future__ import annotations

import dataclasses
import json
import statistics
import time
from dataclasses import dataclass, field

from lab import places, report
from lab.observer import Fence

LINES = places.REPOSITORY / "docs" / "drills.jsonl"
PAGE = places.REPOSITORY / "docs" / "drills.md"

HEAD = """# Drills

Made by `cargo xtask drill --seed S --count N` from docs/drills.jsonl; what a drill is says [the lab](lab.md#drills). All of them ran in
the lab, on emulated machines some ten times slower than any that people buy: read the seconds as upper limits.

"""


@dataclass
class Verdict:
    """What came of one drill."""

    seed: int
    index: int
    fault: str
    packages: str
    day: str = field(default_factory=lambda: time.strftime("%Y-%m-%d", time.gmtime()))
    victim: str = ""
    ended_on: str = ""
    restarted: bool = False
    gap_s: float = 0.0
    shown: int = 0
    fences: list[Fence] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def told(self) -> str:
        """One line for a person."""
        if self.faults:
            return "FAILED\n    " + "\n    ".join(self.faults)
        how = f"restarted on {self.ended_on}" if self.restarted else f"went on, on {self.ended_on}"
        fences = [f", {one.node} reset after {one.reset_s} s, declared dead after {one.declared_s} s" for one in self.fences]
        return f"ok: {how}, silent for {self.gap_s} s, {self.shown} records, none lost{''.join(fences)}"


def read() -> list[Verdict]:
    """All there are."""
    if not LINES.exists():
        return []
    found = []
    for number, line in enumerate(LINES.read_text().splitlines(), 1):
        try:
            raw = json.loads(line)
            found.append(Verdict(**(raw | {"fences": [Fence(**one) for one in raw["fences"]]})))
        except (ValueError, KeyError, TypeError) as error:
            raise report.Failure(f"{LINES}:{number}: not a drill's verdict ({error}): mend or delete the line") from error
    return found


def add(verdict: Verdict) -> None:
    """One more. A line is written at once, or not at all."""
    with LINES.open("a") as file:
        file.write(json.dumps(dataclasses.asdict(verdict)) + "\n")


def publish() -> None:
    """The page."""
    PAGE.write_text(page(read()))


def page(all_: list[Verdict]) -> str:
    """As Markdown: the sums, a row per kind of fault, then what failed, word for word."""
    bad = [one for one in all_ if one.faults]
    margins = [fence.margin_s for one in all_ for fence in one.fences if fence.margin_s is not None]
    told = [
        f"**{len(all_)} drills, {len(all_) - len(bad)} green, {len(bad)} not.** {sum(one.shown for one in all_)} records of the guest were",
        "seen over the network and looked for on its disk afterwards.",
    ]
    if margins:
        told.append(f"Between a node's reset and its being declared dead: at least {min(margins)} s.")
    rows = []
    for name in sorted({one.fault for one in all_}):
        of = [one for one in all_ if one.fault == name]
        gaps = sorted(one.gap_s for one in of if not one.faults)
        seconds = f"{gaps[0]} / {statistics.median(gaps):.1f} / {gaps[-1]}" if gaps else "-"
        restarts = sum(one.restarted for one in of)
        rows.append(f"| {name} | {len(of)} | {sum(not one.faults for one in of)} | {restarts} | {seconds} |")
    table = ["| fault | drills | green | guest restarted | silent for, s: min / median / max |", "|---|---|---|---|---|", *rows]
    parts = [HEAD + "\n".join(told), "\n".join(table)]
    if bad:
        parts.append("## Not green\n" + "\n".join(_failed(one) for one in bad))
    return "\n\n".join(parts) + "\n"


def _failed(one: Verdict) -> str:
    faults = "\n".join(f"    {line}" for fault in one.faults for line in fault.splitlines())
    return f"- {one.day}, seed {one.seed}, number {one.index}, `{one.fault}`, packages {one.packages}:\n\n{faults}\n"
