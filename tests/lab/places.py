"""Where the lab keeps things: below the user's cache directory, never in the repository."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
SCENARIOS = REPOSITORY / "tests" / "scenarios"


def cache() -> Path:
    """The lab's directory: $XDG_CACHE_HOME/personal-cluster/lab."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = base / "personal-cluster" / "lab"
    path.mkdir(parents=True, exist_ok=True)
    return path


def run() -> Path:
    """What belongs to the lab that runs now: sockets, logs, state. Nobody else may read it."""
    path = cache() / "run"
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def key() -> Path:
    """The SSH key of this user's labs; its public half is in the node image."""
    return cache() / "id_ed25519"


def digest(*parts: str | bytes | Path) -> str:
    """Twelve hex digits over texts, and over the contents and modes of files and trees of files."""
    hash_ = hashlib.sha256()
    for part in parts:
        for piece in _pieces(part):
            hash_.update(len(piece).to_bytes(8, "big") + piece)
    return hash_.hexdigest()[:12]


def _pieces(part: str | bytes | Path) -> Iterable[bytes]:
    if isinstance(part, Path):
        files = [part] if part.is_file() else sorted(path for path in part.rglob("*") if path.is_file())
        for file in files:
            if "__pycache__" not in file.parts:
                yield f"{file.relative_to(part.parent)} {file.stat().st_mode & 0o111:o}".encode()
                yield file.read_bytes()
    else:
        yield part.encode() if isinstance(part, str) else part


def forget_older(directory: Path, current: Path, keep: int = 1) -> None:
    """Delete all but `current` and the `keep` entries that were used last beside it."""
    os.utime(current, (time.time(), time.time()))
    others = sorted((path for path in directory.iterdir() if path != current), key=lambda path: path.stat().st_mtime)
    for path in others[: max(0, len(others) - keep)]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
