"""A translator that is marked is still the same library, and stays in memory."""

import ctypes
import subprocess
import tempfile
import unittest
from pathlib import Path

from lab import translators

XLATORS = sorted(Path("/usr/lib").glob("*/glusterfs/*/xlator/performance/*.so"))


class Marked(unittest.TestCase):
    def test_one_bit_differs_and_it_is_the_right_one(self) -> None:
        self.assertTrue(XLATORS, "glusterfs-server is not installed")
        for path in XLATORS:
            before = path.read_bytes()
            after = translators.marked(before)
            self.assertEqual(sum(one != two for one, two in zip(before, after)), 1, path)
            self.assertEqual(translators.marked(after), after)
            with tempfile.NamedTemporaryFile(suffix=".so") as file:
                file.write(after)
                file.flush()
                told = subprocess.run(
                    ["readelf", "--wide", "--dynamic", file.name], check=True, capture_output=True, text=True, timeout=20
                ).stdout
                flags = next(line for line in told.splitlines() if "(FLAGS_1)" in line)
                self.assertIn("NODELETE", flags)
                ctypes.CDLL(file.name)

    def test_what_is_no_library_is_refused(self) -> None:
        with tempfile.TemporaryDirectory() as root, self.assertRaises(FileNotFoundError):
            translators.keep(Path(root))


if __name__ == "__main__":
    unittest.main()
