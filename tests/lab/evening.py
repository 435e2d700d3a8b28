"""docs/first-evening.md, read: the lab types the lines that stand there, so that they cannot become untrue."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lab import places, report

DOCUMENT = places.REPOSITORY / "docs" / "first-evening.md"
README = places.REPOSITORY / "README.md"


@dataclass(frozen=True)
class Evening:
    """The document's lines, in its order."""

    add_repository: str
    install_tang: str
    install: str
    draft: str
    merge: str
    adv: str
    check: str
    init: str
    join: str
    take_over: str
    enable: str
    brick_status: str
    volume_status: str
    list_vms: str
    console: str

    @staticmethod
    def read() -> Evening:
        """A line more or less than the lab knows how to type is a failure, and so is one in README that is not here."""
        lines = [line[4:] for line in DOCUMENT.read_text().splitlines() if line.startswith("    ")]
        known = len(Evening.__dataclass_fields__)
        if len(lines) != known:
            raise report.Failure(f"{DOCUMENT.name} has {len(lines)} lines to type, the lab knows {known}: {lines}")
        for line in readme():
            if line not in lines:
                raise report.Failure(f"README.md tells to type `{line}`, which {DOCUMENT.name} does not")
        return Evening(*lines)

    def drafting(self, node: str) -> str:
        """The line for drafting, on that node."""
        return self.draft.replace("node1", node)

    def joining(self, told: str) -> dict[str, str]:
        """What `init` printed for each other node to type; it has to look as the document says."""
        shape = re.escape(self.join).replace("ADDRESS", r"\S+").replace("TOKEN", r"\S+")
        return dict(re.findall(rf"on (\w+), within .*\n\s*({shape})", told))


def readme() -> list[str]:
    """The lines of README's table."""
    return re.findall(r"^\| [^|]+ \| `([^`]+)`", README.read_text(), re.MULTILINE)
