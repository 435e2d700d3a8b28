"""The drawing of drills, their tally, and every fault's file."""

from __future__ import annotations

import ast
import unittest

from lab import drill, tally
from lab.observer import Fence, Observer

AMONG = drill.faults([])


class Draw(unittest.TestCase):
    """What a seed gives."""

    def test_a_seed_gives_the_same_again(self) -> None:
        once = [drill.draw(7, index, AMONG)[0] for index in range(50)]
        self.assertEqual(once, [drill.draw(7, index, AMONG)[0] for index in range(50)])
        self.assertNotEqual(once, [drill.draw(8, index, AMONG)[0] for index in range(50)])

    def test_a_new_fault_leaves_the_other_draws_as_they_were(self) -> None:
        before = [drill.draw(1, index, AMONG[1:])[0] for index in range(200)]
        after = [drill.draw(1, index, AMONG)[0] for index in range(200)]
        changed = [new for old, new in zip(before, after) if old != new]
        self.assertEqual(set(changed), {AMONG[0]})

    def test_many_draws_miss_no_fault(self) -> None:
        self.assertEqual({drill.draw(1, index, AMONG)[0] for index in range(500)}, set(AMONG))


class Files(unittest.TestCase):
    """tests/drills."""

    def test_each_strikes_and_says_what_it_is(self) -> None:
        known = {"RESTARTS", "MEND_FIRST"}
        for path in AMONG:
            with self.subTest(path.name):
                tree = ast.parse(path.read_text())
                self.assertTrue(ast.get_docstring(tree))
                functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
                self.assertIn("strike", functions)
                self.assertLessEqual(functions, {"strike", "mend"})
                targets = [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
                names = {target.id for target in targets if isinstance(target, ast.Name)}
                self.assertLessEqual({name for name in names if name.isupper()}, known)


class TangBox:
    """Stands for the cluster and for its box: what it has heard of the guest."""

    heard = "".join(
        f"{at}.5 hb {count} boot={boot * 8}-0000-0000-0000-000000000000 up=1.0 sum=0\n"
        for at, count, boot in [(10, 1, "a"), (11, 2, "a"), (13, 3, "a"), (14, 4, "a"), (90, 5, "b"), (91, 6, "b")]
    )

    def remote(self, _box: object) -> TangBox:
        """Itself."""
        return self

    def must(self, _command: str, _timeout_s: float) -> str:
        """What was heard."""
        return self.heard


class Heard(unittest.TestCase):
    """What a drill is judged by."""

    def test_a_guest_that_beats_on_and_boots_later_was_restarted(self) -> None:
        watch = Observer(TangBox())  # type: ignore[arg-type]
        self.assertEqual([boot[0] for boot in watch.boots(11.6)], ["a", "b"])
        self.assertEqual([boot[0] for boot in watch.boots(20)], ["b"])
        self.assertEqual(watch.gap(11.6), 76)
        self.assertEqual(watch.since(11.6, 0.1).count, 6)


class Page(unittest.TestCase):
    """What is published of a tally."""

    def test_sums_margin_and_what_failed(self) -> None:
        green = tally.Verdict(1, 0, "power-cut", "0" * 12, gap_s=80.5, shown=30, restarted=True)
        green.fences = [Fence("node1", 12.0, 40.0, 28.0)]
        red = tally.Verdict(1, 1, "cut-off", "0" * 12, shown=12, faults=["runs on ['node1', 'node2']"])
        text = tally.page([green, red])
        self.assertIn("**2 drills, 1 green, 1 not.** 42 records", text)
        self.assertIn("at least 28.0 s", text)
        self.assertIn("| power-cut | 1 | 1 | 1 | 80.5 / 80.5 / 80.5 |", text)
        self.assertIn("| cut-off | 1 | 0 | 0 | - |", text)
        self.assertIn("    runs on ['node1', 'node2']", text)


if __name__ == "__main__":
    unittest.main()
