"""Disks as the guest would have left them, and as it must never leave them."""

from __future__ import annotations

import hashlib
import unittest

from lab import records
from lab.records import Record

A, B = "a" * 8 + "-0000-4000-8000-" + "a" * 12, "b" * 8 + "-0000-4000-8000-" + "b" * 12


def disk(*written: Record) -> bytearray:
    """Written in that order."""
    first, last = records.SPAN
    sectors = bytearray((last - first) * records.SECTOR)
    for record in written:
        body = f"hb {record.count} boot={record.boot} up={record.up_s}"
        text = f"{body} sum={hashlib.md5(body.encode()).hexdigest()}\n".encode().ljust(records.SECTOR, b"\0")
        at = (records.RING_SECTOR - first + record.count % records.RING_SLOTS) * records.SECTOR
        sectors[at : at + records.SECTOR] = text
    return sectors


def boot(name: str, first: int, last: int) -> list[Record]:
    """What one boot writes."""
    return [Record(count, name, float(count - first)) for count in range(first, last + 1)]


class Judge(unittest.TestCase):
    """`records.judge`."""

    def faults(self, written: list[Record], shown: list[Record] | None = None) -> list[str]:
        """What is wrong with a disk."""
        return records.judge(bytes(disk(*written)), written if shown is None else shown).faults

    def test_one_boot_then_another(self) -> None:
        self.assertEqual(self.faults(boot(A, 1, 40) + boot(B, 41, 80)), [])

    def test_the_ring_comes_round(self) -> None:
        self.assertEqual(self.faults(boot(A, 1, 1400)), [])

    def test_a_record_that_was_never_shown_may_be_written_again(self) -> None:
        written = boot(A, 1, 40) + boot(B, 40, 60)
        self.assertEqual(self.faults(written, boot(A, 1, 39) + boot(B, 40, 60)), [])

    def test_a_shown_record_is_lost(self) -> None:
        (fault,) = self.faults(boot(A, 1, 39), boot(A, 1, 40))
        self.assertIn("record 40", fault)

    def test_a_shown_record_is_overwritten_by_another_boot(self) -> None:
        (fault,) = self.faults(boot(A, 1, 40) + boot(B, 38, 60), [Record(39, A, 38.0)])
        self.assertIn("record 39 was shown by boot aaaa", fault)

    def test_two_at_once(self) -> None:
        mixed = [Record(count, A if count % 2 else B, float(count)) for count in range(50, 60)]
        self.assertTrue(any(f"of boot {A}, after record" in fault for fault in self.faults(boot(A, 1, 49) + mixed, [])))

    def test_a_hole(self) -> None:
        self.assertEqual(self.faults(boot(A, 1, 10) + boot(A, 1, 20)[11:], []), ["after record 10 comes 12"])

    def test_torn(self) -> None:
        bytes_ = disk(*boot(A, 1, 10))
        at = (records.RING_SECTOR - records.SPAN[0] + 4) * records.SECTOR
        bytes_[at + 3 : at + 4] = b"9"
        self.assertIn("slot 4: torn", " ".join(records.judge(bytes(bytes_), []).faults))


if __name__ == "__main__":
    unittest.main()
