"""scripts/gpu-check without a GPU and without running it: what it packs, how it compares, what its table says. The
whole of it, the CPU in the GPU's place, is tests/long/gpu_check."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "python"))

from common.errors import UserError  # noqa: E402
from gpu_check import brief, checks, node, pack, table, trees  # noqa: E402
from gpu_check.table import DIFFERS, FAILED, INFO, LEFT_OUT, OK, Row  # noqa: E402

LDD = """
	linux-vdso.so.1 (0x00007ffd)
	libhdf5.so.103 => /usr/lib/libhdf5.so.103 (0x00007f01)
	libtorch_cuda.so => /venv/lib/site-packages/torch/lib/libtorch_cuda.so (0x00007f02)
	libcublas.so.13 => /venv/lib/site-packages/nvidia/cu13/lib/libcublas.so.13 (0x00007f03)
	libcuda.so.1 => not found
	libstdc++.so.6 => /usr/lib/libstdc++.so.6 (0x00007f04)
	libc.so.6 => /usr/lib/libc.so.6 (0x00007f05)
	/lib64/ld-linux-x86-64.so.2 (0x00007f06)
"""


def record(status="ok", reason="", seconds=2.0, broken=()):
    invariants = [{"name": name, "holds": name not in broken, "detail": ""} for name in ("finite", "untouched")]
    return {"status": status, "reason": reason, "invariants": invariants, "phases": {"fix": seconds}}


class TreeTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def write(self, tree, approach, content, predictions=()):
        cell = self.folder / tree / "cells" / "digits" / approach / "1"
        cell.mkdir(parents=True)
        (cell / "record.json").write_text(json.dumps(content), encoding="utf-8")
        if predictions:
            rows = "".join(f"{index},0,0,{value}\n" for index, value in enumerate(predictions))
            (cell / "predictions.csv").write_text("index,label,original,fixed\n" + rows, encoding="utf-8")

    def compare(self, expected=()):
        return trees.compare("grid", self.folder / "cpu", self.folder / "gpu", expected)

    def test_equal_cells_give_their_times_and_what_parts(self):
        self.write("cpu", "RAND.AR", record(), [1, 2, 3])
        self.write("gpu", "RAND.AR", record(seconds=5.0), [1, 2, 4])
        row, time = self.compare()
        self.assertEqual((row.what, row.verdict, row.note), ("digits RAND:AR", OK, "1 of 3 predictions part"))
        self.assertEqual((time.check, time.verdict, time.ratio), ("TIME", INFO, 2.5))

    def test_another_status_differs(self):
        self.write("cpu", "AR", record())
        self.write("gpu", "AR", record("FAILURE", "crashed: expected all tensors on one device"))
        row, = self.compare()
        self.assertEqual((row.cpu, row.device, row.verdict), ("ok", "FAILURE crashed", DIFFERS))
        self.assertIn("expected all tensors on one device", row.note)

    def test_the_same_code_with_another_text_is_equal(self):
        for tree, text in (("cpu", "no_fix: after 3 steps"), ("gpu", "no_fix: after 4 steps")):
            self.write(tree, "AR", record("FAILURE", text))
        self.assertEqual([row.verdict for row in self.compare()], [OK])

    def test_a_crash_on_both_is_no_success(self):
        for tree in ("cpu", "gpu"):
            self.write(tree, "AR", record("FAILURE", "crashed: signal 11"))
        self.assertEqual([row.verdict for row in self.compare()], [DIFFERS])

    def test_broken_invariants_and_missing_cells_are_named(self):
        self.write("cpu", "AR", record())
        self.write("gpu", "AR", record(broken=("untouched",)))
        self.write("cpu", "IR", record())
        rows = {row.what: row for row in self.compare([("digits", "CT", "1")]) if row.check == "grid"}
        self.assertIn("untouched", rows["digits AR"].note)
        self.assertEqual((rows["digits IR"].verdict, rows["digits IR"].note), (FAILED, "no record on the device"))
        self.assertEqual(rows["digits CT"].note, "no record on the CPU and the device")

    def test_two_empty_trees_are_a_failure(self):
        self.assertEqual([row.verdict for row in self.compare()], [FAILED])


class TableTest(unittest.TestCase):
    def test_worst_first(self):
        rows = [Row("a", "fine", OK), Row("b", "slow", INFO, ratio=3.0), Row("c", "slower", INFO, ratio=9.0),
                table.judged("d", "a little off", 2e-4, 1e-4), table.judged("e", "far off", 1.0, 1e-4),
                table.judged("f", "not a number", float("nan"), 1e-4), Row("g", "absent", LEFT_OUT),
                Row("h", "broken", FAILED), table.judged("i", "near", 1e-4, 1e-4)]
        self.assertEqual([row.check for row in table.worst_first(rows)], list("hfedgcbai"))
        self.assertEqual(table.summary(rows), "1 FAILED, 3 DIFFERS, 1 left out, 2 figure, 2 ok")
        text = table.text_of(rows).splitlines()
        self.assertEqual(len(text), len(rows) + 2)
        self.assertTrue(text[2].startswith("h "))
        self.assertEqual(table.markdown_of(rows).count("\n"), len(rows) + 1)

    def test_success_needs_rows_and_no_trouble(self):
        self.assertFalse(table.succeeded([]))
        self.assertTrue(table.succeeded([Row("a", "", OK), Row("b", "", LEFT_OUT), Row("c", "", INFO)]))
        self.assertFalse(table.succeeded([Row("a", "", OK), Row("b", "", DIFFERS)]))

    def test_one_model(self):
        line = {"importable": True, "unknown_operator": "", "logits_difference": 2e-3, "import_difference": 0.0,
                "gradient_differences": {"training": 1e-6, "attack": float("nan")}}
        verdicts = {(row.check, row.what): row.verdict for row in checks.of_one_model("net", line)}
        self.assertEqual(verdicts, {("logits", "net"): DIFFERS, ("import", "net"): OK,
                                    ("first gradients", "net, of training"): OK,
                                    ("first gradients", "net, of attack"): DIFFERS})


class BriefTest(unittest.TestCase):
    @staticmethod
    def parameter(name, default, kind="integer", minimum=None, maximum=None):
        return {"name": name, "default": default, "type": kind, "minimum": minimum, "maximum": maximum}

    def test_only_what_makes_it_shorter(self):
        approach = {"key": "NEW", "shadows": False, "parameters": [
            self.parameter("iterations", 100), self.parameter("epochs", 1), self.parameter("faults", 0),
            self.parameter("population", 100, minimum=50), self.parameter("steps", 1.0, "number"),
            self.parameter("unheard_of", 1000)]}
        self.assertEqual(brief.approaches([approach, {"key": "NONE", "shadows": False, "parameters": []}]),
                         [{"key": "NEW", "parameters": {"iterations": 6, "faults": 4, "population": 50}}, "NONE"])

    def test_controls_imitate(self):
        searching = {"key": "AR", "shadows": False, "parameters": [self.parameter("generations", 100)]}
        control = {"key": "RAND", "shadows": True, "parameters": []}
        self.assertEqual(brief.approaches([searching, control])[1],
                         {"key": "RAND:AR", "parameters": {"generations": 6}})


class PackTest(unittest.TestCase):
    def test_libraries(self):
        chosen = pack.needed_libraries(pack.parse_ldd(LDD), pathlib.Path("/venv/lib/site-packages/torch"))
        self.assertEqual([(one.name, one.kind) for one in chosen],
                         [("libhdf5.so.103", "pack"), ("libstdc++.so.6", "runtime")])
        with self.assertRaises(UserError):
            pack.needed_libraries([("libhdf5.so.103", None)], pathlib.Path("/venv/lib/site-packages/torch"))

    def test_a_foreign_folder_is_left_alone(self):
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(folder) / "out"
            out.mkdir()
            (out / "thesis.tex").touch()
            build = pathlib.Path(folder) / "build"
            with self.assertRaises(UserError):
                pack.pack(build, pathlib.Path(folder), pathlib.Path(folder), out)
            self.assertTrue((out / "thesis.tex").is_file())

    def test_the_packed_modules_need_nothing_but_python(self):
        with tempfile.TemporaryDirectory() as folder:
            for module in pack.MODULES:
                target = pathlib.Path(folder) / "python" / module
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / "scripts" / "python" / module, target)
            environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(folder) / "python")}
            empty = pathlib.Path(folder) / "empty"
            empty.mkdir()

            def run(*words):  # -S: without the packages that are installed
                return subprocess.run([sys.executable, "-S", "-m", "gpu_check", *words], cwd=folder, env=environment,
                                      capture_output=True, text=True, check=False)
            done = run("run", "--help")
            self.assertEqual(done.returncode, 0, done.stderr)
            done = run("run", str(empty))
            self.assertEqual((done.returncode, done.stderr.count("\n")), (2, 1), done.stderr)
            self.assertIn("found no pack.json", done.stderr)
            (empty / "pack.json").write_text('{"torch": "2.11.0", "cuda": true}', encoding="utf-8")
            done = run("run", str(empty), "--device", "cuda")
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn("a Python without torch", done.stderr)

    def test_the_torch_of_the_node_must_be_the_packed_one(self):
        with tempfile.TemporaryDirectory() as folder:
            (pathlib.Path(folder) / "pack.json").write_text('{"torch": "0.0.1", "cuda": false}', encoding="utf-8")
            with self.assertRaises(UserError) as caught:
                node.Node(pathlib.Path(folder), "cpu", 1)
            self.assertIn("expected 0.0.1", str(caught.exception))

    def test_dry_run(self):
        build = pathlib.Path(os.environ.get("HARNESS_BINARY", "")).resolve().parent
        built = tuple(name for name in pack.PROGRAMS if (build / name).is_file())
        self.assertIn("harness", built)  # the others are built on demand
        with mock.patch.object(pack, "PROGRAMS", built), tempfile.TemporaryDirectory() as folder:
            for name in ("digits.h5", "digits_cnn.pt"):
                (pathlib.Path(folder) / name).touch()
            copied = pack.files_to_copy(build, node.torch_folder(), pathlib.Path(folder))
            libraries = sum(source.resolve().stat().st_size for source, place, _ in copied if place.startswith("lib/"))
        places = [place for _, place, _ in copied]
        self.assertEqual(len(places), len(set(places)))
        some = {"bin/harness", "data/digits.h5", "subjects/digits.pt", "python/gpu_check/checks.py"}
        self.assertTrue(some <= set(places), places)
        self.assertTrue(any(place.startswith("lib/libhdf5") for place in places), places)
        self.assertTrue(any(place.startswith("lib/libClp") for place in places), places)
        of_the_node = ("torch", "libc10", "libcud", "libc.so")
        self.assertFalse([place for place in places if any(name in place for name in of_the_node)])
        self.assertLess(libraries / 1e6, pack.MOST_MEGABYTES)


class CommandTest(unittest.TestCase):
    def run_script(self, *words, device="cpu"):
        done = subprocess.run([ROOT / "scripts" / "gpu-check", *words], capture_output=True, text=True, check=False,
                              env={**os.environ, "HARNESS_GPU_CHECK_DEVICE": device})
        return done.returncode, done.stderr.strip().splitlines()[-1:]

    def test_errors_are_one_line(self):
        self.assertEqual(self.run_script("pakc"),
                         (2, ['error: scripts/gpu-check: found "pakc", expected pack, run, data or nothing']))
        self.assertEqual(self.run_script("run"),
                         (2, ["error: scripts/gpu-check run: found 0 arguments, expected one folder"]))
        self.assertEqual(self.run_script(device="tpu"),
                         (2, ['error: HARNESS_GPU_CHECK_DEVICE: found "tpu", expected cpu, cuda or cuda:N']))
        with tempfile.TemporaryDirectory() as folder:
            code, (error,) = self.run_script("run", folder)
        self.assertEqual(code, 2)
        self.assertIn("found no program gpu-check, expected a folder of scripts/gpu-check pack", error)


if __name__ == "__main__":
    unittest.main()
