"""The study's MNIST evaluation through the program itself: the published AP and AR models, prepared and exported by
scripts/test-data, give the study's counts and percentages exactly, and every one of the 70,000 golden predictions.
Leaves with code 77 where the study's folder or the prepared data is absent."""

import csv
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

BINARY = os.environ.get("HARNESS_BINARY", "")
ROOT = pathlib.Path(__file__).resolve().parents[2]
STUDY = pathlib.Path(os.environ.get("HARNESS_SHARED", ROOT.parent / "shared")) / "study"
DATA = ROOT / "data" / "mnist"
FILES = {"AP": [DATA / f"apricot{run}.pt" for run in (1, 2, 3)], "AR": [DATA / f"arachne{run}.pt" for run in (1, 2, 3)]}
NEEDED = [STUDY / "mnist_split.csv", STUDY / "mnist_golden_predictions.csv", DATA / "mnist.h5", DATA / "lenet5.pt",
          *FILES["AP"], *FILES["AR"]]
COLUMNS = {"AP": "apricot", "AR": "arachne"}  # of the golden predictions

# Section 5, per run: on the test split right of 5,000, fixed of 105, broken; on the repair split fixed of 135, broken.
ORIGINAL = 4895
TEST = {"AP": [(4956, 81, 20), (4954, 76, 17), (4949, 76, 22)], "AR": [(4873, 7, 29), (4897, 19, 17), (4893, 14, 16)]}
REPAIR = {"AP": [(98, 22), (100, 23), (99, 17)], "AR": [(11, 14), (17, 21), (16, 17)]}
# The published cells, means over the three models; the improvements are those of acc_rr.csv.
PUBLISHED = {"AP": {"ACC": "99.06", "RR": "73.97", "NFR": "0.39", "ACC_REL_IMPROVEMENT": "1.18"},
             "AR": {"ACC": "97.75", "RR": "12.70", "NFR": "0.41", "ACC_REL_IMPROVEMENT": "-0.15"}}


def rows_of(path):
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


class GoldenMnistTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        holder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(holder.cleanup)
        folder = pathlib.Path(holder.name)
        subject = {"name": "MNIST", "model_name": "LeNet5", "model": str(DATA / "lenet5.pt"),
                   "data": str(DATA / "mnist.h5"),
                   "published": {key: [str(file) for file in files] for key, files in FILES.items()}}
        (folder / "config.json").write_text(json.dumps(
            {"name": "golden", "subjects": [subject], "approaches": ["NONE"], "runs": 1, "device": "cpu"}))
        cls.results = folder / "results"
        run = subprocess.run([BINARY, str(folder / "config.json"), "--results", str(cls.results)], capture_output=True,
                             text=True, timeout=600, env={**os.environ, "OMP_WAIT_POLICY": "passive"})
        if run.returncode != 0:
            raise AssertionError(f"exit code {run.returncode}:\n{run.stderr}")

    def cell(self, approach, run):
        return self.results / "cells" / "MNIST" / approach / str(run)

    def metrics(self, approach, run):
        record = json.loads((self.cell(approach, run) / "record.json").read_text())
        self.assertEqual((record["status"], record["reason"]), ("ok", ""))
        self.assertTrue(all(check["holds"] for check in record["invariants"]))
        return {one["name"]: one["value"] for one in record["metrics"]}

    def test_counts_of_every_model(self):
        for approach, runs in TEST.items():
            for run, (right, repaired, broken) in enumerate(runs, 1):
                found = self.metrics(f"published.{approach}", run)
                self.assertEqual({name: found[name] for name in ("ACC", "RR", "NFR", "REPAIRED", "BROKEN")},
                                 {"ACC": 100 * right / 5000, "RR": 100 * repaired / 105, "NFR": 100 * broken / 5000,
                                  "REPAIRED": repaired, "BROKEN": broken}, f"{approach} {run}")
                self.assertEqual(right, ORIGINAL + repaired - broken)
                repaired, broken = REPAIR[approach][run - 1]
                self.assertEqual({name: found[f"{name}_REPAIR"] for name in ("ACC", "RR", "NFR", "REPAIRED", "BROKEN")},
                                 {"ACC": 100 * (4865 + repaired - broken) / 5000, "RR": 100 * repaired / 135,
                                  "NFR": 100 * broken / 5000, "REPAIRED": repaired, "BROKEN": broken})

    def test_published_digits_in_the_tables(self):
        rows = {(row["approach"], row["metric"]): row for name in ("rq2", "rq3")
                for row in rows_of(self.results / "tables" / f"{name}.csv")}
        for approach, cells in PUBLISHED.items():
            for metric, text in cells.items():
                row = rows[f"published:{approach}", metric]
                self.assertEqual((f"{float(row['mean']):.2f}", row["runs"], row["status"]), (text, "3", "ok"),
                                 f"{approach} {metric}")
            for position, metric in enumerate(("REPAIRED", "BROKEN"), 1):
                row = rows[f"published:{approach}", metric]
                counts = [run[position] for run in TEST[approach]]
                self.assertAlmostEqual(float(row["mean"]), sum(counts) / 3, 12)
                self.assertEqual((float(row["min"]), float(row["max"])), (min(counts), max(counts)))
        self.assertEqual([rows["NONE", metric]["mean"] for metric in ("ACC", "RR", "NFR")], ["97.9", "0", "0"])
        self.assertEqual((rows["NONE", "ASR"]["mean"], rows["NONE", "ASR"]["runs"]), ("", "0"))  # no attack asked for

    def test_every_golden_prediction(self):
        golden = {int(row["t10k_index"]): row for row in rows_of(STUDY / "mnist_golden_predictions.csv")}
        split = rows_of(STUDY / "mnist_split.csv")
        compared = 0
        for name, file in (("test", "predictions.csv"), ("repair", "predictions_repair.csv")):
            place = {int(row["position"]): int(row["t10k_index"]) for row in split if row["split"] == name}
            expected = [golden[place[position]] for position in range(5000)]
            for approach, column in COLUMNS.items():
                for run in (1, 2, 3):
                    found = rows_of(self.cell(f"published.{approach}", run) / file)
                    self.assertEqual([int(row["index"]) for row in found], list(range(5000)))
                    for ours, theirs in (("label", "label"), ("original", "original"), ("fixed", f"{column}_{run}")):
                        self.assertEqual([row[ours] for row in found], [row[theirs] for row in expected],
                                         f"{approach} {run} {ours} on {name}")
                    compared += len(found)
            found = rows_of(self.cell("NONE", 1) / file)
            self.assertEqual([row["fixed"] for row in found], [row["original"] for row in expected])
            compared += len(found)
        self.assertEqual(compared, 70000)


if __name__ == "__main__":
    missing = [str(path) for path in NEEDED if not path.is_file()]
    if not os.access(BINARY, os.X_OK):
        missing.append("the program that HARNESS_BINARY names")
    if missing:
        print(f"skipped: scripts/test-data makes what is missing here: {', '.join(missing)}", file=sys.stderr)
        sys.exit(77)
    unittest.main()
