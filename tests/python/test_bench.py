"""scripts/bench without measuring: its rows, its table, what it says where data or foolbox is missing."""

import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "python"))

from bench import __main__ as bench  # noqa: E402
from bench import tasks  # noqa: E402


class RowsTest(unittest.TestCase):
    def test_medians_decide(self):
        samples = {"ours": [1.0, 9.0, 2.0], "foolbox": [5.0, 4.0, 100.0]}
        row = tasks.faster("a", "what", samples, "foolbox", 2.5)
        self.assertEqual((row.ours, row.theirs, row.ratio, row.asked, row.met), (2.0, 5.0, 2.5, ">= 2.5 x", True))
        self.assertIs(tasks.faster("a", "what", samples, "foolbox", 2.6).met, False)
        self.assertIsNone(tasks.faster("a", "what", samples, "foolbox", None).met)

    def test_without_foolbox(self):
        row = tasks.faster("a", "what", {"ours": [1.0]}, "foolbox", 2.5)
        self.assertEqual((row.ours, row.theirs, row.met, row.note), (1.0, None, None, tasks.NO_FOOLBOX))

    def test_search_keeps_the_kinds_of_candidates_apart(self):
        search = tasks.Search(None)
        search.fixes = [[{"last_layer": True, "evaluations": 100, "search": 2.0, "fix": 3.0},
                         {"last_layer": True, "evaluations": 200, "search": 1.0, "fix": 1.0},
                         {"last_layer": False, "evaluations": 50, "search": 5.0, "fix": 6.0}]]
        self.assertEqual([(row.what, row.ours, row.unit) for row in search.rows({})],
                         [(tasks.Search.title, 100.0, "/s"), (tasks.Search.others, 10.0, "/s")])

    def test_missing_data_is_named(self):
        with tempfile.TemporaryDirectory() as folder:
            setting = tasks.Setting(pathlib.Path(folder), pathlib.Path(folder), 1, pathlib.Path(folder))
            self.assertEqual(tasks.AttackResNet20(setting).missing(), "not there (scripts/test-data makes them): "
                             "data/cifar10/resnet20.pt, data/cifar10/cifar10.h5")
            self.assertEqual(sorted(task.name for task in tasks.TASKS if task(setting).missing()), sorted(bench.NAMES))

    def test_table(self):
        rows = [tasks.Row("a", "first", 1.5, "s", "other", 3.0, 2.0, ">= 2.5 x", False, "a remark"),
                tasks.Row("b", "second", 12345.6, "/s")]
        self.assertEqual(bench.text_of(rows),
                         "figure  ours       against  theirs  ratio   asked             remarks\n"
                         "first   1.5 s      other    3 s     2.00 x  >= 2.5 x  MISSED  a remark\n"
                         "second  12,346 /s")


class CommandTest(unittest.TestCase):
    def check(self, arguments, expected):
        done = subprocess.run([sys.executable, "-m", "bench", *arguments], cwd=ROOT / "scripts" / "python",
                              capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (2, "", expected))

    def test_errors(self):
        self.check(["--only", "overhed"], 'error: scripts/bench: --only: found "overhed", expected one of evaluation, '
                   "attack-lenet5, attack-resnet20, overhead, search, evaluator, predict; did you mean overhead?\n")
        self.check(["--repeat", "0"], "error: scripts/bench: --repeat: found 0, expected 1 or more\n")


if __name__ == "__main__":
    unittest.main()
