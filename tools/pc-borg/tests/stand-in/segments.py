"""What the stand-ins of pc-dirty and pc-segments share."""

import hashlib
import json
import os
import pathlib

STAND_IN = pathlib.Path(os.environ["STAND_IN"])


def read(source: str) -> bytes:
    """The disk; an export of a running VM is the file `frozen.img`, of the second one `frozen-web.img`."""
    if source.startswith("nbd+unix:"):
        name = "frozen-web.img" if source.endswith(".web.sock") else "frozen.img"
        return (STAND_IN / name).read_bytes()
    return pathlib.Path(source).read_bytes()


def cut(disk: bytes, size: int) -> list[bytes]:
    return [disk[at : at + size] for at in range(0, len(disk), size)]


def digest(segment: bytes) -> str:
    return hashlib.sha256(segment).hexdigest()


def state(path: str) -> dict:
    """Digests and times of the last commit; nothing before the first."""
    try:
        return json.loads(pathlib.Path(path).read_text())
    except FileNotFoundError:
        return {"digests": [], "times": []}


def halt(step: str) -> None:
    """A place to stop at for ever."""
    if (STAND_IN / f"hang-{step}").exists():
        (STAND_IN / f"at-{step}").touch()
        (STAND_IN / "never").open().read()
