"""Gluster's translators stay loaded. glusterd checks each option of `volume set` against each graph of the volume, and loads and
unloads all translators of the graph for it: hundreds of times, a minute of an emulated machine for our volumes' options."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

# elf(5), and <elf.h>.
PT_DYNAMIC, DT_FLAGS_1, DF_1_NODELETE = 2, 0x6FFFFFFB, 8
HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SEGMENT = struct.Struct("<IIQQQQQQ")
ENTRY = struct.Struct("<QQ")


def keep(root: Path) -> None:
    """Mark every translator of a Debian root so that dlclose(3) does not unload it (`ld -z nodelete`)."""
    files = sorted(root.glob("usr/lib/*/glusterfs/*/xlator/**/*.so"))
    if not files:
        raise FileNotFoundError(f"{root}: no translators of Gluster")
    for file in files:
        if not file.is_symlink():
            file.write_bytes(marked(file.read_bytes()))


def marked(library: bytes) -> bytes:
    """The library with DF_1_NODELETE set; as it was when it has no DT_FLAGS_1 to set it in."""
    out = bytearray(library)
    for offset in _entries(library):
        tag, value = ENTRY.unpack_from(library, offset)
        if tag == DT_FLAGS_1:
            ENTRY.pack_into(out, offset, tag, value | DF_1_NODELETE)
    return bytes(out)


def _entries(library: bytes) -> Iterator[int]:
    """Where the entries of the dynamic section stand."""
    fields = HEADER.unpack_from(library)
    start, size, count = fields[5], fields[9], fields[10]
    for number in range(count):
        kind, _, offset, _, _, length, _, _ = SEGMENT.unpack_from(library, start + number * size)
        if kind == PT_DYNAMIC:
            yield from range(offset, offset + length, ENTRY.size)
