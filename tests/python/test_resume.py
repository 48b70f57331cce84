"""Runs that are killed at any moment and started again end with the same tables; fixes that are killed go on bit for
bit; two processes may work on one tree. HARNESS_KILLS sets how many kills each test makes (default 4 and 2);
HARNESS_KILL_FIXES names a configuration of one subject whose approaches are killed instead of the toy's."""

import json
import os
import pathlib
import random
import signal
import subprocess
import time

from toy import AR, BINARY, CONFIG, ENVIRONMENT, FOLDER, SUBJECT, CliTest, cell, main, record, run_harness, table
from toy import text_of, write_json

KILLS = int(os.environ.get("HARNESS_KILLS", "0"))
TABLES = ("rq1", "rq2", "rq3", "rq1_wide", "rq2_wide", "rq3_wide")
SEARCH = {"population": 40, "generations": 1500, "patience": 1500, "negatives": "all"}


def start(*words):
    """The program in a process group of its own, as a terminal or a batch system starts it."""
    return subprocess.Popen([BINARY, *map(str, words)], cwd=FOLDER, env=ENVIRONMENT, stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL, start_new_session=True)


def kill_after(seconds, *words):
    """Kills the whole group; whether it was still running."""
    process = start(*words)
    try:
        process.wait(seconds)
        return False
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True


def without_times(name, results):
    return [{key: value for key, value in row.items() if key not in ("TIME", "pareto_optimal")}
            for row in table(name, results) if not row.get("metric", "").startswith("TIME")]


class KillTest(CliTest):
    def assert_same_tables(self, results, whole):
        for name in TABLES:
            self.assertEqual(text_of(name, results), text_of(name, whole), name)
        for name in ("runs", "summary"):
            self.assertEqual(without_times(name, results), without_times(name, whole), name)

    def test_a_grid_killed_at_random_moments(self):
        config = os.environ.get("HARNESS_KILL_CONFIG") or write_json("grid.json", {
            **CONFIG, "name": "grid", "checkpoint_seconds": 0, "approaches": ["NONE", AR, "RAND:AR", {
                "key": "CT", "parameters": {"steps": 300}}]})
        whole = FOLDER / "grid_whole"
        begin = time.monotonic()
        run_harness(config, "--results", whole)
        seconds = time.monotonic() - begin
        rng = random.Random(11)
        kills = hits = 0
        while kills < (KILLS or 4):
            results = FOLDER / f"grid_{kills}"
            for _ in range(rng.choice((1, 1, 2, 3))):  # and sometimes again, while it continues
                kills += 1
                hits += kill_after(rng.uniform(0, 1.05 * seconds), config, "--results", results)
            run_harness(config, "--results", results)
            self.assert_same_tables(results, whole)
            self.assertEqual([path for path in (results / "cells").rglob(".*")], [], "half written")
            self.assertEqual([path for path in results.rglob("*") if path.name in ("lease.json", "checkpoint.bin")],
                             [])
        print(f"{kills} kills, {hits} while running; the grid takes {seconds:.1f} s")

    def test_fixes_killed_at_random_moments(self):
        rng = random.Random(12)
        interruptions = 0
        subject, entries = {**SUBJECT, "attack": None, "published": {}}, [
            {"key": "AR", "parameters": SEARCH}, {"key": "RAND:AR", "parameters": SEARCH},
            {"key": "CT", "parameters": {"steps": 1000}},
            {"key": "CARE", "parameters": {"iterations": 2000, "ftol": 0}},
            {"key": "GM", "parameters": {"generations": 300, "stall": 300}}]
        if "HARNESS_KILL_FIXES" in os.environ:
            given = json.loads(pathlib.Path(os.environ["HARNESS_KILL_FIXES"]).read_text(encoding="utf-8"))
            subject, entries = given["subjects"][0], given["approaches"]
        for entry in entries:
            key = entry.get("as", entry["key"])
            config = write_json("fix.json", {**CONFIG, "name": "fix", "checkpoint_seconds": 0, "approaches": [entry],
                                             "runs": 1, "subjects": [subject]})
            identity = f"{subject['name']}/{key}/1"
            whole = FOLDER / f"fix_{key.replace(':', '_')}"
            run_harness(config, "--results", whole)
            expected, seconds = record(identity, whole), record(identity, whole)["phases"]["fix"]
            for number in range(KILLS or 2):
                results = FOLDER / f"{whole.name}_{number}"
                for _ in range(2):
                    process = start(config, "--results", results)
                    log, before = cell(identity, results) / "log.txt", 0
                    if log.exists():
                        before = log.read_text().count(" fix")
                    while process.poll() is None and not (log.exists() and log.read_text().count(" fix") > before):
                        time.sleep(0.01)
                    try:
                        process.wait(rng.uniform(0, 0.8 * seconds))  # it may end: what is left gets less each time
                    except subprocess.TimeoutExpired:
                        os.killpg(process.pid, signal.SIGKILL)
                        process.wait()
                run_harness(config, "--results", results)
                found = record(identity, results)
                for part in ("status", "reason", "metrics", "counters", "scalars", "series", "invariants"):
                    self.assertEqual(found[part], expected[part], f"{key} {number} {part}")
                self.assertEqual((cell(identity, results) / "fixed.pt").read_bytes(),
                                 (cell(identity, whole) / "fixed.pt").read_bytes(), f"{key} {number}")
                interruptions += found["machine"]["interruptions"]
        self.assertGreater(interruptions, 0)
        print(f"{len(entries) * (KILLS or 2)} fixes, {interruptions} times gone on from a checkpoint")

    def test_two_processes_on_one_tree(self):
        config = write_json("shared.json", {**CONFIG, "name": "shared", "approaches": ["NONE", {
            "key": "CT", "parameters": {"steps": 1000}}], "runs": 3})
        results, whole = FOLDER / "shared", FOLDER / "shared_whole"
        run_harness(config, "--results", whole)
        first = start(config, "--results", results)
        second = run_harness(config, "--results", results)
        self.assertEqual(first.wait(60), 0)
        self.assert_same_tables(results, whole)
        # which of the two depends on how far the first was
        self.assertRegex(second.stderr, "another process computes|by another process")
        logs = [path.read_text().count("begins;") for path in results.rglob("log.txt")]
        self.assertEqual(sorted(set(logs)), [1])  # no work was done twice

    def test_jobs(self):
        config = write_json("jobs.json", {**CONFIG, "name": "jobs"})
        one, two = FOLDER / "jobs_1", FOLDER / "jobs_2"
        run_harness(config, "--results", one)
        run_harness(config, "--results", two, "--jobs", 2)
        self.assert_same_tables(two, one)
        self.assertEqual({row["concurrent_workers"] for row in table("rq4", two)}, {"2"})

    def test_a_second_signal_ends_at_once(self):
        config = write_json("deaf.json", {**CONFIG, "name": "deaf", "approaches": ["NONE", {
            "key": "AR", "parameters": {**SEARCH, "generations": 200000}}], "runs": 1,
                                          "checkpoint_seconds": 0})
        results = FOLDER / "deaf"
        checkpoint = cell("toy/AR/1", results) / "checkpoint.bin"
        for signals in (1, 2):
            process = subprocess.Popen([BINARY, config, "--results", str(results)], cwd=FOLDER, env=ENVIRONMENT,
                                       text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            log = cell("toy/AR/1", results) / "log.txt"
            while not (log.exists() and log.read_text().count(" fix") >= signals and checkpoint.exists()):
                time.sleep(0.02)
            for _ in range(signals):
                process.send_signal(signal.SIGUSR2)
                time.sleep(0.05)
            _, errors = process.communicate(timeout=60)
            self.assertEqual(process.returncode, 3, errors)
            self.assertIn("interrupted; the same command continues", errors)
            self.assertTrue(checkpoint.exists())
        status = json.loads(run_harness("status", config, "--results", results, "--format", "json").stdout)
        self.assertEqual([one["state"] for one in status["cells"]], ["missing", "missing", "missing", "missing"])


class RedoTest(CliTest):
    def begun(self, results):
        """How often each cell was computed."""
        return {name: (cell(f"toy/{name}/1", results) / "log.txt").read_text().count("begins;")
                for name in ("AR", "CT")}

    def test_a_redo_that_is_killed_goes_on_and_the_next_one_begins_anew(self):
        approaches = [{"key": "AR", "parameters": {**SEARCH, "generations": 400}},
                      {"key": "CT", "parameters": {"steps": 1500}}]
        config = write_json("redone.json", {**CONFIG, "name": "redone", "checkpoint_seconds": 0, "runs": 1,
                                            "approaches": approaches,
                                            "subjects": [{**SUBJECT, "attack": None, "published": {}}]})
        results = FOLDER / "redone"
        words = [config, "--results", results, "--redo", "*"]
        run_harness(*words[:3])
        before = {name: record(f"toy/{name}/1", results) for name in ("AR", "CT")}
        checkpoint = cell("toy/CT/1", results) / "checkpoint.bin"
        for _ in range(2):  # killed twice in the second cell, each time after a checkpoint of its own
            before_it = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
            process = start(*words)
            while process.poll() is None and not (checkpoint.exists() and checkpoint.stat().st_mtime_ns > before_it):
                time.sleep(0.005)
            self.assertIsNone(process.poll(), "it ended before it could be killed")
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        result = run_harness(*words)
        self.assertIn("goes on with the redo that was begun before", result.stderr)
        after = {name: record(f"toy/{name}/1", results) for name in ("AR", "CT")}
        self.assertEqual(self.begun(results), {"AR": 2, "CT": 4})  # AR was through, and is not done again
        self.assertEqual([after[name]["machine"]["interruptions"] for name in ("AR", "CT")], [0, 2])
        self.assertEqual(len({one["provenance"]["redo"] for one in after.values()}), 1)
        for name, one in after.items():
            for part in ("status", "reason", "metrics", "counters", "series"):
                self.assertEqual(one[part], before[name][part], f"{name} {part}")
        self.assertFalse((results / "redo").exists())
        run_harness(*words)
        self.assertEqual(self.begun(results), {"AR": 3, "CT": 5})


class StageTest(CliTest):
    def stages(self, result_folder):
        """{cell: stages computed the last time}, from the logs."""
        return {str(path.parent.relative_to(result_folder / "cells")): [
            line.split(" ", 1)[1].split(",")[0] for line in path.read_text().split("begins;")[-1].splitlines()[1:-1]
            if line.split(" ", 1)[1].split(",")[0] in ("fix", "predict", "attack")]
            for path in result_folder.rglob("log.txt")}

    def test_only_the_affected_stages_run_again(self):
        config = write_json("stages.json", {**CONFIG, "name": "stages"})
        results = FOLDER / "stages"
        run_harness(config, "--results", results)
        everything = {name: ["predict", "attack"] if "published" in name else ["fix", "predict", "attack"]
                      for name in self.stages(results)}
        self.assertEqual(self.stages(results), everything)
        words = [config, "--results", results, "--set", "/subjects/0/attack/epsilon=0.2"]
        status = json.loads(run_harness("status", *words, "--format", "json").stdout)["cells"]
        self.assertEqual({one["state"] for one in status}, {"stale"})
        self.assertEqual({one["because"] for one in status}, {"subject/attack/epsilon: 0.4, now 0.2"})
        run_harness(*words)
        self.assertEqual(set(map(tuple, self.stages(results).values())), {("attack",)})
        fresh = FOLDER / "stages_fresh"
        run_harness(config, "--results", fresh, *words[3:])
        for name in TABLES:
            self.assertEqual(text_of(name, results), text_of(name, fresh), name)
        run_harness(*words, "--set", "/subjects/0/groups=[\"a\",\"b\"]")
        self.assertEqual(set(map(tuple, self.stages(results).values())), {()})  # measured again alone
        run_harness(*words, "--set", "/approaches/2/parameters/steps=21")
        again = {name: stages for name, stages in self.stages(results).items() if stages}
        self.assertEqual(again, {f"toy/CT/{run}": ["fix", "predict", "attack"] for run in (1, 2)})

    def test_models_that_were_not_kept_are_made_again_for_a_new_attack(self):
        config = write_json("unkept.json", {**CONFIG, "name": "unkept", "keep": "none", "runs": 1})
        results = FOLDER / "unkept"
        run_harness(config, "--results", results)
        run_harness(config, "--results", results, "--set", "/subjects/0/attack/epsilon=0.2")
        self.assertEqual(self.stages(results)["toy/CT/1"], ["fix", "predict", "attack"])
        run_harness(config, "--results", results, "--set", "/subjects/0/attack=null")
        self.assertEqual(self.stages(results)["toy/CT/1"], [])


class AuditTest(CliTest):
    def test_audit(self):
        config = write_json("audited.json", {**CONFIG, "name": "audited"})
        results = FOLDER / "audited"
        run_harness(config, "--results", results)
        before = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
        words = ["audit", config, "--results", results, "--sample", 5, "--format", "csv"]
        rows = run_harness(*words).stdout.splitlines()
        self.assertEqual(rows[0], "id,same,differences")
        self.assertEqual([row.split(",", 1)[1] for row in rows[1:]], ["yes,"] * 5)
        self.assertEqual(run_harness(*words).stdout.splitlines(), rows)  # the same cells
        self.assertNotEqual(run_harness(*words, "--seed", 2).stdout.splitlines(), rows)
        self.assertEqual({path: path.read_bytes() for path in results.rglob("*") if path.is_file()}, before)
        identity = next(row.split(",")[0] for row in rows[1:] if "published" not in row)
        with open(cell(identity, results) / "fixed.pt", "ab") as stream:
            stream.write(b"x")
        rows = run_harness(*words, code=1).stdout.splitlines()
        self.assertIn(f"{identity},NO,fixed.pt: other content", rows)

    def test_audit_leaves_out_what_a_budget_ended(self):
        endless = {**SEARCH, "generations": 200000, "patience": 200000}
        config = write_json("budgeted.json", {**CONFIG, "name": "budgeted", "runs": 1, "approaches": [
            "NONE", {"key": "AR", "parameters": endless, "budget": {"seconds": 0.5}},
            {"key": "AR", "as": "hurried", "parameters": endless, "budget": {"seconds": 1e-6}}]})
        results = FOLDER / "budgeted"
        run_harness(config, "--results", results, code=1)
        rows = run_harness("audit", config, "--results", results, "--sample", 9, "--format", "csv").stdout.splitlines()
        self.assertIn("toy/AR/1,-,not computed again: its budget of 0.5 s ended the fix", rows)
        self.assertIn("toy/hurried/1,-,not computed again: its budget of 1e-06 s ended the fix", rows)
        self.assertIn("toy/NONE/1,yes,", rows)
        self.assertFalse([row for row in rows if ",NO," in row])


if __name__ == "__main__":
    main()
