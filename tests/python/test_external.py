"""Approaches that are programs of their own: the example of scripts/, one that crashes, one that hangs, one that writes
a broken model. Statuses and reasons are right, and nothing else is harmed."""

import json
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
from toy import BINARY, CONFIG, ENVIRONMENT, FOLDER, CliTest, cell, files_of, main, numbers, record
from toy import run_harness, state_of, table, write_json

EXAMPLE = pathlib.Path(__file__).resolve().parents[2] / "scripts" / "examples" / "continue_training.py"
RESULTS = FOLDER / "external"
PROGRAMS = {  # $1 is the request; the working directory is the cell's own
    "crash": "echo a line for the log\necho gave up in $PWD/deep >&2\nexit 3\n",
    "hang": "sleep 1000\n",
    "broken": "echo no model > fixed.pt\necho '{\"status\": \"ok\"}' > report.json\n",
    "refuse": "echo '{\"status\": \"UNADAPTABLE\", \"reason\": \"too_small: eight by eight pixels\"}' > report.json\n",
}
REASONS = {
    "CRASH": ("FAILURE", "crashed: exit code 3: gave up in deep"),
    "HANG": ("FAILURE", "timeout: no fix within 0.5 s"),
    "BROKEN": ("FAILURE", "crashed: broken model: fixed.pt: found "),
    "REFUSE": ("UNADAPTABLE", "too_small: eight by eight pixels"),
}


def program(key, **more):
    return {"key": key, "command": ["sh", f"{key.lower()}.sh"], "needs": ["repair"], **more}


def example(**more):
    return {"key": "MINE", "command": [sys.executable, str(EXAMPLE)], "needs": ["train"], "name": "My own training",
            "level": "layer", "parameters": {"steps": 20}, **more}


def write_program(name, text):
    (FOLDER / f"{name}.sh").write_text(text)


def setUpModule():
    for name, text in PROGRAMS.items():
        write_program(name, text)
    write_json("external.json", {**CONFIG, "name": "external", "approaches": [
        "NONE", example(), program("CRASH"), program("HANG", budget={"seconds": 0.5}), program("BROKEN"),
        program("REFUSE")]})
    setUpModule.run = run_harness("external.json", "--results", RESULTS, code=1)


class ExternalTest(CliTest):
    def test_every_end_has_its_status_and_reason(self):
        for key, (status, reason) in REASONS.items():
            for run in (1, 2):
                found = record(f"toy/{key}/{run}", RESULTS)
                self.assertEqual((found["status"], found["reason"][:len(reason)]), (status, reason))
                self.assertFalse((cell(f"toy/{key}/{run}", RESULTS) / "fixed.pt").exists())
                self.assertNotIn(str(FOLDER), (cell(f"toy/{key}/{run}", RESULTS) / "record.json").read_text())
        self.assertLess(record("toy/HANG/1", RESULTS)["phases"]["fix"], 20)
        rows = {row["approach"]: row for row in table("rq1", RESULTS)}
        self.assertEqual([rows["MINE"][name] for name in ("name", "level", "status", "ok_runs")],
                         ["My own training", "layer", "ok", "2"])
        self.assertEqual([rows["HANG"][name] for name in ("name", "level", "status", "ok_runs")],
                         ["HANG", "model", "FAILURE", "0"])

    def test_the_example_trains(self):
        for run in (1, 2):
            found = record(f"toy/MINE/{run}", RESULTS)
            self.assertEqual((found["status"], found["reason"], found["counters"]["steps"]), ("ok", "", 20))
            self.assertTrue(all(check["holds"] for check in found["invariants"]), found["invariants"])
            self.assertGreater(found["counters"]["changed_weights"], 0)
            self.assertGreater(found["phases"]["fix"], found["phases"]["fix_train"])
        fixed = [state_of(cell(f"toy/MINE/{run}", RESULTS) / "fixed.pt") for run in (1, 2)]
        self.assertFalse(all(np.array_equal(fixed[0][name], fixed[1][name]) for name in fixed[0]))  # other seeds

    def test_equal_seeds_give_equal_fixes(self):
        results = FOLDER / "again"
        run_harness("external.json", "--results", results, "--only", "toy/MINE/1")
        fixed = [state_of(cell("toy/MINE/1", folder) / "fixed.pt") for folder in (results, RESULTS)]
        for name in fixed[0]:
            self.assertTrue(np.array_equal(fixed[0][name], fixed[1][name]), name)

    def test_nothing_else_is_harmed(self):
        alone = FOLDER / "alone"
        for approach in ("NONE", "published:AP"):
            run_harness("external.json", "--results", alone, "--only", f"toy/{approach}/*")
        for identity in ("toy/NONE/1", "toy/NONE/2", "toy/published:AP/1", "toy/published:AP/2"):
            for file in ("predictions.csv", "predictions_repair.csv", "attack.csv"):
                self.assertEqual((cell(identity, RESULTS) / file).read_bytes(),
                                 (cell(identity, alone) / file).read_bytes())

    def test_splits_that_were_not_declared_are_not_handed_over(self):
        seen = FOLDER / "seen"
        seen.mkdir()
        write_program("spy", f"cp data.h5 request.json {seen}\nexit 1\n")
        write_json("spy.json", {**CONFIG, "name": "spy", "runs": 1, "approaches": [
            program("SPY", uses=["validation"])]})
        run_harness("spy.json", "--results", FOLDER / "spied", "--only", "toy/SPY/*", code=1)
        self.assertEqual(json.loads((seen / "request.json").read_text())["splits"], ["validation", "repair"])
        content = (seen / "data.h5").read_bytes()
        with h5py.File(FOLDER / "toy.h5", "r") as file:
            found = {split: file[split]["images"][7].tobytes() in content for split in file}
        self.assertEqual(found, {"train": False, "validation": True, "repair": True, "test": False})

    def test_what_a_program_prints_is_in_the_log(self):
        folder = cell("toy/CRASH/1", RESULTS)
        texts = [path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "record.json"]
        self.assertTrue(any(b"a line for the log" in text for text in texts), sorted(folder.rglob("*")))

    def test_another_program_is_another_result(self):
        results = FOLDER / "changed"
        shutil.copytree(RESULTS, results)
        write_program("refuse", PROGRAMS["refuse"] + "# another version\n")
        try:
            before = files_of(results / "cells", "record.json")
            run_harness("external.json", "--results", results, code=1)
            changed = [name for name, content in files_of(results / "cells", "record.json").items()
                       if content != before[name]]
            self.assertEqual(changed, ["toy/REFUSE/1/record.json", "toy/REFUSE/2/record.json"])
        finally:
            write_program("refuse", PROGRAMS["refuse"])

    def test_a_stop_signal_and_the_same_command_again(self):
        started = FOLDER / "started"
        write_program("slow", f"""trap 'echo half > state/half; exit 0' TERM
            if [ -e state/half ]; then
                cp {FOLDER}/one.pt fixed.pt
                echo '{{"status": "ok", "reason": "the second half"}}' > report.json
                exit 0
            fi
            echo $$ > {started}
            while :; do sleep 0.05; done
            """)
        write_json("slow.json", {**CONFIG, "name": "slow", "runs": 1, "approaches": [program("SLOW")],
                                 "subjects": [{"name": "toy", "model": "toy.pt", "data": "toy.h5"}]})
        words = ["slow.json", "--results", FOLDER / "slow"]
        process = subprocess.Popen([BINARY, *map(str, words)], cwd=FOLDER, env=ENVIRONMENT, text=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        limit = time.monotonic() + 60
        while not (started.exists() and started.read_text().endswith("\n")):
            self.assertLess(time.monotonic(), limit, "not started")
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        errors = process.communicate(timeout=60)[1]
        self.assertEqual(process.returncode, 3, errors)
        self.assertFalse(pathlib.Path(f"/proc/{started.read_text().strip()}").exists())
        run_harness(*words)
        found = record("toy/SLOW/1", FOLDER / "slow")
        self.assertEqual((found["status"], found["reason"]), ("ok", "note: the second half"))
        right = numbers(cell("toy/SLOW/1", FOLDER / "slow") / "predictions.csv")
        self.assertEqual(set(right), {"index", "label", "original", "fixed"})


if __name__ == "__main__":
    main()
