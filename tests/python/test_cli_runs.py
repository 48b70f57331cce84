"""Runs from a configuration to the tables: what is printed, what the results tree holds, what is repeated and what is
not, interruptions, damage, cells without a fix."""

import json
import pathlib
import re
import shutil
import signal
import subprocess
import time

import numpy as np
from toy import AR, ATTACK, BINARY, CELLS, CONFIG, ENVIRONMENT, FOLDER, MAIN, SUBJECT, CliTest, cell, files_of, main
from toy import numbers, predict, record, run_harness, table, text_of, write_json

ROOT = pathlib.Path(__file__).resolve().parents[2]
UNCHANGED = "note: the original, unchanged on purpose"
LONG = "subject,model,approach,name,level,metric,unit,better,mean,std,min,max,runs,status,reason"
HEADERS = {
    "rq1": "subject,model,approach,name,level,status,reason,runs,ok_runs",
    "rq2": LONG,
    "rq3": LONG,
    "rq4": LONG + ",device,threads,concurrent_workers,interruptions",
    "rq1_wide": "approach,name,level,toy,notes",
    "rq2_wide": "approach,name,level,toy ACC,toy ACC_REL_IMPROVEMENT,toy RR,notes",
    "rq3_wide": "approach,name,level,toy ASR,toy ASR_REL_IMPROVEMENT,toy AAOD,toy AAOD_REL_IMPROVEMENT,toy NFR,notes",
    "rq4_wide": "approach,name,level,toy TIME,notes",
    "runs": "subject,approach,run,seed,metric,unit,value,status,reason,device",
    "summary": "subject,model,approach,name,level,status,reason,runs,ok_runs,RR,NFR,ACC_REL_IMPROVEMENT,"
               "ASR_REL_IMPROVEMENT,AAOD_REL_IMPROVEMENT,TIME,pareto_optimal,basis",
}
WITHOUT_TIME = ("rq1", "rq2", "rq3", "rq1_wide", "rq2_wide", "rq3_wide")
REMEDY = "the results are damaged there; harness run computes the cell again\n"
CHECKSUM = '/checksum: found text "[0-9a-f]{32}", expected the checksum of this content, [0-9a-f]{32}'
# What a fix, its evaluation and its log leave beside the record.
STAGES = {"fix.json", "predict.json", "attack.json", "log.txt"}


def setUpModule():
    setUpModule.check = run_harness("check", "config.json").stdout
    setUpModule.plan = run_harness("plan", "config.json", "--results", MAIN, "--format", "json").stdout
    setUpModule.run = run_harness("config.json", "--results", MAIN)


class LifecycleTest(CliTest):
    def test_check_prints_every_default(self):
        defaults = {"alpha": 10.0, "compat_softmax": False, "conv_front": "reference", "crossover": 0.7,
                    "keep_original": True, "mutation_high": 1.0, "mutation_low": 0.5, "negative_fraction": 0.1,
                    "negatives": "fraction", "pair_rank": 1, "patience": None, "positives": 0, "update": "asynchronous"}
        expected = {
            "name": "tiny", "runs": 2, "seed": 42, "corrupted_below": 0.5, "device": "cpu", "keep": "all",
            "deterministic": True, "tf32": False, "batch": 50, "resident_megabytes": 1024, "budget": None, "checkpoint_seconds": 30.0,
            "approaches": [{"key": key, "as": key, "budget": None, "parameters": parameters} for key, parameters in
                           (("NONE", {}), ("AR", {**defaults, **AR["parameters"]}),
                            ("CT", {"steps": 20, "learning_rate": None}))],
            "subjects": [{**SUBJECT, "groups": None, "training": None, "history": [], "budget": None, "attack": {
                **ATTACK, "epsilon_unit": "input", "relative_step": None, "random_start": True, "bounds": "sample",
                "output": "as_is", "margin": True}}]}
        self.assertEqual(json.loads(setUpModule.check), expected)
        # what it prints is a configuration, and the same one
        (FOLDER / "effective.json").write_text(setUpModule.check)
        self.assertEqual(run_harness("check", "effective.json").stdout, setUpModule.check)

    def test_check_of_the_study_settings(self):
        config = ROOT / "configs" / "study.json"
        checked = json.loads(run_harness("check", config, "--set", f"/subjects={json.dumps([str(FOLDER / 'subject.json')])}")
                             .stdout)
        found = {approach["as"]: approach["parameters"] for approach in checked["approaches"]}
        written = {approach["key"]: approach.get("parameters", {})
                   for approach in json.loads(config.read_text())["approaches"]}
        self.assertEqual(set(found), set(written))
        for key, parameters in written.items():
            self.assertEqual({name: found[key][name] for name in parameters}, parameters, key)

    def test_check_says_how_a_results_tree_stands(self):
        result = run_harness("check", "config.json", "--results", MAIN)
        self.assertEqual((result.stdout, result.stderr), (setUpModule.check, f"{MAIN}: 8 cells: 8 done\n"))
        self.assertEqual(run_harness("check", "config.json", "--results", "nowhere").stderr,
                         "nowhere: 8 cells: 8 missing\n")
        self.assertFalse((FOLDER / "nowhere").exists())
        lines = run_harness("check", "config.json", "--results", MAIN, "--set",
                            "/subjects/0/attack/steps=9").stderr.splitlines()
        self.assertEqual(lines, [f"{MAIN}: 8 cells: 8 stale"] + [
            f"  {one} stale: subject/attack/steps: 5, now 9" for one in CELLS])
        damaged = FOLDER / "check_damaged"
        shutil.copytree(MAIN / "cells", damaged / "cells")
        bad = cell("toy/AR/1", damaged) / "record.json"
        bad.write_text("{")
        result = run_harness("check", "config.json", "--results", damaged, code=4)
        self.assertEqual(result.stderr.splitlines()[0], f"{damaged}: 8 cells: 1 damaged, 7 done")
        self.assertTrue(result.stderr.splitlines()[1].startswith(f"  toy/AR/1 damaged: {bad}: line 1"), result.stderr)

    def test_published_models_need_no_approaches(self):
        write_json("published.json", {**CONFIG, "name": "published", "approaches": []})
        results = FOLDER / "published"
        planned = json.loads(run_harness("plan", "published.json", "--results", results, "--format", "json").stdout)
        self.assertEqual([one["id"] for one in planned["cells"]], ["toy/published:AP/1", "toy/published:AP/2"])
        run_harness("published.json", "--results", results)
        rows = [row for row in table("rq2") if row["approach"] == "published:AP"]
        self.assertEqual(table("rq2", results), rows)
        self.refused(["published.json", "--set", "/subjects/0/published={}"],
                     'published.json: /approaches: found an empty list, and no subject with published models, expected '
                     '"all", "study", or a list of approaches; it may be empty where a subject names published models\n')

    def test_plan(self):
        cells = json.loads(setUpModule.plan)["cells"]
        self.assertEqual(cells, [{"id": identity, "subject": "toy", "approach": identity.split("/")[1],
                                  "run": int(identity[-1]), "state": "missing", "because": "", "status": None, "reason": "",
                                  "estimate_s": None}
                                 for identity in CELLS])
        written = json.loads((MAIN / "plan.json").read_text())["cells"]
        self.assertEqual([(one["id"], one["seed"], one["digest"]) for one in written],
                         [(identity, record(identity)["cell"]["seed"], record(identity)["cell"]["digest"])
                          for identity in CELLS])
        self.assertEqual(len({one["seed"] for one in written}), len(CELLS))

    def test_run(self):
        lines = setUpModule.run.stderr.splitlines()
        self.assertEqual(lines[0], "8 cells, 8 to do")
        for number, identity in enumerate(CELLS):
            note = rf" \({UNCHANGED}\)" if "NONE" in identity else ""
            self.assertRegex(lines[1 + number], rf"\A\[{number + 1}/8\] {identity} ok in \d+\.\d s{note}\Z")
        self.assertEqual(lines[9:], [f"tables: {MAIN}/tables", "8 cells: 8 ok"])
        self.assertTrue(setUpModule.run.stdout.startswith(
            "RQ1 applicability: status, ok runs of planned runs\n\n"
            "approach      level      toy\n"
            "-----------------------------------\n"
            "AR            neuron     ok 2/2\n"
            "published:AP  published  ok 2/2\n"
            "CT            control    ok 2/2\n"
            "NONE          control    ok 2/2 [1]\n\n"
            "RQ2 effectiveness: toy, Toy\n\n"), setUpModule.run.stdout)
        self.assertTrue(setUpModule.run.stdout.endswith(
            "\nApproaches\n\n"
            "AR            Arachne                       neuron     reference code\n"
            "published:AP  AP, published models          published\n"
            "CT            Continued training (control)  control\n"
            "NONE          No fix (control)              control\n\n"
            "Coverage: 8 of 8 cells have a record\n"), setUpModule.run.stdout)

    def test_status(self):
        before = files_of(MAIN)
        cells = json.loads(run_harness("status", "config.json", "--results", MAIN, "--format", "json").stdout)["cells"]
        self.assertEqual([(one["id"], one["state"], one["status"]) for one in cells],
                         [(identity, "done", "ok") for identity in CELLS])
        self.assertTrue(all(one["estimate_s"] > 0 for one in cells))
        lines = run_harness("status", "config.json", "--results", MAIN).stdout.splitlines()
        self.assertEqual(lines[0].split(), ["id", "state", "status", "estimate_s", "reason", "because"])
        self.assertEqual([line.split()[:3] for line in lines[2:10]],
                         [[identity, "done", "ok"] for identity in CELLS])
        self.assertEqual(lines[11:13], ["8 cells: 8 done", "time to go: 0.00 hours on one device"])
        rows = run_harness("plan", "config.json", "--results", "nowhere", "--format", "csv", "--missing").stdout
        self.assertEqual(rows, "id,state,status,estimate_s,reason,because\n" +
                         "".join(f"{one},missing,,,,\n" for one in CELLS))
        self.assertEqual(files_of(MAIN), before)

    def test_a_second_run_does_nothing(self):
        before = files_of(MAIN / "cells") | files_of(MAIN / "subjects")
        again = run_harness("run", "config.json", "--results", MAIN)
        self.assertEqual(again.stderr, f"8 cells, 0 to do\ntables: {MAIN}/tables\n8 cells: 8 ok\n")
        self.assertEqual(again.stdout, setUpModule.run.stdout)
        self.assertEqual(files_of(MAIN / "cells") | files_of(MAIN / "subjects"), before)

    def test_tables_are_a_function_of_the_records(self):
        results = FOLDER / "records_only"
        shutil.copytree(MAIN / "cells", results / "cells")
        made = run_harness("tables", "config.json", "--results", results)
        self.assertEqual((made.stdout, made.stderr), (setUpModule.run.stdout, "coverage: 8 of 8 cells have a record\n"))
        self.assertEqual({name: content for name, (content, _) in files_of(results / "tables").items()},
                         {name: content for name, (content, _) in files_of(MAIN / "tables").items()})
        rq2 = run_harness("tables", "config.json", "--results", results, "--table", "rq2", "--format", "csv").stdout
        self.assertEqual(rq2, text_of("rq2"))
        everything = json.loads(run_harness("tables", "config.json", "--results", results, "--format", "json").stdout)
        self.assertEqual(everything.pop("coverage"), "8 of 8 cells have a record")
        self.assertEqual(everything, {name: table(name) for name in HEADERS})

    def test_files_and_headers(self):
        self.assertEqual(set(files_of(MAIN / "tables")), {f"{name}.csv" for name in HEADERS} | {"sources.json"})
        for name, header in HEADERS.items():
            self.assertEqual(text_of(name).splitlines()[0], header, name)
        expected = {"record.json", "predictions.csv", "predictions_repair.csv", "attack.csv"} | STAGES
        for identity in CELLS:
            of_cell = expected if "published" in identity else expected | {"fixed.pt"}
            self.assertEqual({path.name for path in cell(identity).iterdir()}, of_cell, identity)
            found = record(identity)
            self.assertEqual(set(found), {"schema", "cell", "status", "reason", "metrics", "phases", "counters",
                                          "scalars", "series", "invariants", "data", "machine", "provenance", "checksum"})
            self.assertEqual((found["schema"], found["status"]), (2, "ok"))
            self.assertTrue(all(check["holds"] for check in found["invariants"]), identity)
            self.assertNotIn(str(FOLDER), (cell(identity) / "record.json").read_text())  # no absolute paths

    def test_where_results_go_and_what_quiet_leaves(self):
        result = run_harness("config.json", "--only", "toy/NONE/1", "--quiet", "--set", "/name=called")
        self.assertEqual(result.stderr, "")
        self.assertTrue(result.stdout.startswith("RQ1 applicability"))
        self.assertTrue((cell("toy/NONE/1", FOLDER / "results" / "called") / "record.json").is_file())


class SelectionTest(CliTest):
    def results(self):
        """A copy of the finished results, of this test alone."""
        results = FOLDER / self.id().split(".")[-1]
        shutil.copytree(MAIN, results)
        return results

    def to_do(self, result):
        return [line.split()[1] for line in result.stderr.splitlines() if line.startswith("[") and " % " not in line]

    def test_only(self):
        results = FOLDER / "only"
        result = run_harness("config.json", "--results", results, "--only", "toy/*/1")
        self.assertEqual(self.to_do(result), CELLS[::2])
        self.assertEqual([path.parent.name for path in results.rglob("record.json")], ["1"] * 4)
        self.assertIn("\nCoverage: 4 of 8 cells have a record, 4 missing\n", result.stdout)
        self.assertEqual([(row["status"], row["runs"], row["ok_runs"]) for row in table("rq1", results)],
                         [("ok", "1", "1")] * 4)
        self.assertEqual(table("rq1", results)[0]["reason"], "1 of 2 missing")
        self.assertEqual({row["std"] for row in table("rq2", results)}, {""})  # of one run there is none
        parts = [self.to_do(run_harness("config.json", "--results", results, "--shard", f"{part}/3", "--set",
                                        "/approaches=[\"NONE\"]", "--redo", "*")) for part in (1, 2, 3)]
        self.assertEqual(parts, [["toy/NONE/1"], ["toy/NONE/2"], ["toy/published:AP/1", "toy/published:AP/2"]])

    def test_redo(self):
        results = self.results()
        before = files_of(results / "cells")
        result = run_harness("config.json", "--results", results, "--redo", "toy/AR/*")
        self.assertEqual(self.to_do(result), ["toy/AR/1", "toy/AR/2"])
        after = files_of(results / "cells")
        for name, (content, when) in after.items():
            self.assertEqual(when != before[name][1], name.startswith("toy/AR/"), name)
            if not name.endswith((".json", "log.txt")):  # these hold times
                self.assertEqual(content, before[name][0], name)
        for name in WITHOUT_TIME:
            self.assertEqual(text_of(name, results), text_of(name), name)

    def test_a_timeout_is_no_answer_once_its_budget_grew(self):
        results = FOLDER / "timeout"
        words = ["config.json", "--results", results, "--only", "toy/AR/*", "--set"]
        result = run_harness(*words, '/budget={"seconds":1e-6}', code=1)
        self.assertEqual(self.to_do(result), ["toy/AR/1", "toy/AR/2"])
        self.assertEqual({key: record("toy/AR/1", results)[key] for key in ("status", "reason")},
                         {"status": "FAILURE", "reason": "timeout: no fix within 1e-06 s"})
        row = next(row for row in table("rq2", results) if (row["approach"], row["metric"]) == ("AR", "RR"))
        self.assertEqual([row[key] for key in ("mean", "runs", "status", "reason")],
                         ["", "0", "FAILURE", "timeout: no fix within 1e-06 s"])
        self.assertFalse((cell("toy/AR/1", results) / "fixed.pt").exists())
        self.assertEqual(self.to_do(run_harness(*words, '/budget={"seconds":1e-6}', code=1)), [])
        self.assertEqual(self.to_do(run_harness(*words, '/budget={"seconds":1e-7}', code=1)), [])
        self.assertEqual(self.to_do(run_harness(*words, '/budget={"seconds":1e-6}', "--retry", "crashed", code=1)), [])
        self.assertEqual(self.to_do(run_harness(*words, '/budget={"seconds":1e-6}', "--retry", "crashed,timeout",
                                                code=1)), ["toy/AR/1", "toy/AR/2"])
        self.assertEqual(self.to_do(run_harness(*words, '/budget={"seconds":100}')), ["toy/AR/1", "toy/AR/2"])
        self.assertEqual(self.to_do(run_harness(*words, "/budget=null")), [])
        self.assertEqual((cell("toy/AR/1", results) / "predictions.csv").read_bytes(),
                         (cell("toy/AR/1") / "predictions.csv").read_bytes())

    def test_a_fix_that_a_budget_ended_is_marked(self):
        results = FOLDER / "cut_short"
        endless = {"key": "AR", "parameters": {"population": 12, "generations": 10 ** 9, "patience": 10 ** 9}}
        result = run_harness("config.json", "--results", results, "--set", '/budget={"seconds":3}', "--set", "/runs=1",
                             "--set", f"/approaches={json.dumps([endless, 'NONE'])}")
        self.assertEqual([record(f"toy/{key}/1", results)["provenance"]["cut_short"] for key in ("AR", "NONE")],
                         ["3 s", ""])
        for name in ("rq1", "rq2", "rq2_wide", "rq3", "rq4", "runs", "summary"):
            for row in table(name, results):
                said = row.get("reason", row.get("notes"))
                self.assertEqual("cut_short: 3 s" in said, row["approach"] == "AR", (name, row))
        lines = result.stdout.splitlines()
        self.assertTrue(all("†" in line for line in lines if re.match(r"AR +(neuron +)?ok ", line)), result.stdout)
        self.assertTrue(any(line.startswith("† cut short: ") for line in lines), result.stdout)
        self.assertFalse([line for line in lines if line.startswith("NONE ") and "†" in line])

    def test_limit(self):
        results = FOLDER / "limited"
        words = ["config.json", "--results", results, "--limit", "test=30,repair=50"]
        result = run_harness(*words)
        self.assertEqual(result.stdout.splitlines()[0], "LIMITED: these tables come from part of the data (--limit)")
        self.assertTrue(result.stdout.endswith("\nCoverage: 8 of 8 cells have a record; LIMITED: made from part of the "
                                               "data\n"))
        self.assertEqual([row["reason"] for row in table("rq1", results)],
                         ["LIMITED: part of the data"] * 3 + [f"{UNCHANGED}; LIMITED: part of the data"])
        self.assertTrue(all("LIMITED" in row["reason"] for name in ("rq2", "rq3", "rq4", "runs", "summary")
                            for row in table(name, results)))
        for file, count in (("predictions.csv", 30), ("predictions_repair.csv", 50)):
            of = numbers(cell("toy/published:AP/1", results) / file)
            whole = numbers(cell("toy/published:AP/1") / file)
            self.assertEqual({name: values.tolist() for name, values in of.items()},
                             {name: values[:count].tolist() for name, values in whole.items()})
        self.assertEqual(self.to_do(run_harness(*words)), [])
        # part of the data is no result of all of it, nor of another part
        for limit in ((), ("--limit", "test=20,repair=50")):
            other = run_harness("tables", *words[:3], *limit)
            self.assertEqual(other.stderr, "coverage: 0 of 8 cells have a record, 8 outdated (made with another --limit, "
                                           "or without)\n")
            self.assertEqual({(row["status"], row["reason"]) for row in table("rq1", results)},
                             {("missing", "2 of 2 outdated: made with another --limit")})
            states = run_harness("status", *words[:3], *limit, "--format", "json")
            self.assertEqual({one["state"] for one in json.loads(states.stdout)["cells"]}, {"stale"})
        self.assertEqual(run_harness("tables", *words).stdout, result.stdout)
        self.assertEqual(self.to_do(run_harness(*words[:3])), CELLS)  # the whole data takes its place
        for name in WITHOUT_TIME:
            self.assertEqual(text_of(name, results), text_of(name), name)
        before = files_of(results)
        self.refused(words, f"command line: --limit: found results of all the data in {results} (8 cells), expected "
                            "--results with another folder for a run on part of the data\n")
        self.assertEqual(files_of(results), before)

    def test_set_and_threads(self):
        results = FOLDER / "set"
        run_harness("config.json", "--results", results, "--only", "toy/NONE/1", "--threads", 2, "--set",
                    "/subjects/0/attack/bounds=[-1,2]", "--set", "/subjects/0/attack/steps=3", "--set", "/keep=none")
        of = record("toy/NONE/1", results)["provenance"]
        self.assertEqual(record("toy/NONE/1", results)["machine"]["threads"], 2)
        self.assertEqual((of["attack"]["bounds"], of["attack"]["steps"], of["threads"]), ([-1, 2], 3, 2))
        self.assertEqual(record("toy/NONE/1")["provenance"]["threads"], 1)
        self.assertFalse((cell("toy/NONE/1", results) / "fixed.pt").exists())
        config = json.loads(run_harness("check", "config.json", "--set", "/approaches=[\"NONE\",\"RAND:AR\"]", "--set",
                                        "/name=other").stdout)
        self.assertEqual(([one["as"] for one in config["approaches"]], config["name"]), (["NONE", "RAND:AR"], "other"))
        for value, message in (
            ("/subjects/0/attack/stpes=1",
             "--set /subjects/0/attack/stpes: found an unknown key, expected one of bounds, epsilon, epsilon_unit, "
             "margin, output, random_start, relative_step, sample, steps; did you mean steps?"),
            ("/runs=0", "--set /runs: found 0, expected a whole number from 1 to 1000000"),
            ("/subjects/1/name=x",
             '--set /subjects/1/name: found index "1" in /subjects, expected a whole number from 0 to 0'),
            ("runs=1", '--set runs: found "runs", expected a JSON pointer such as /runs or /subjects/0/attack/epsilon'),
        ):
            self.refused(["config.json", "--set", value], f"command line: {message}\n")

    def test_another_configuration_is_another_result(self):
        results = self.results()
        status = run_harness("status", "config.json", "--results", results, "--set", "/seed=43").stdout
        self.assertIn("\n8 cells: 8 stale\n", status)
        tables = run_harness("tables", "config.json", "--results", results, "--set", "/seed=43")
        self.assertEqual(tables.stderr, "coverage: 0 of 8 cells have a record, 8 outdated (the configuration changed "
                                        "since)\n")
        self.assertEqual({row["status"] for row in table("rq1", results)}, {"missing"})
        result = run_harness("config.json", "--results", results, "--set", "/subjects/0/attack/steps=4", "--only",
                             "toy/NONE/*")
        self.assertEqual(self.to_do(result), ["toy/NONE/1", "toy/NONE/2"])


class InterruptionTest(CliTest):
    def test_a_signal_and_the_same_command_again(self):
        write_json("long.json", {**CONFIG, "name": "long", "approaches": [
            "NONE", {"key": "CT", "parameters": {"steps": 2000}}]})
        whole, results = FOLDER / "whole", FOLDER / "interrupted"
        run_harness("long.json", "--results", whole)
        words = [BINARY, "long.json", "--results", str(results)]
        process = subprocess.Popen(words, cwd=FOLDER, env=ENVIRONMENT, text=True, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
        line = ""
        while "toy/CT/1 ok" not in line:
            line = process.stderr.readline()
            self.assertNotEqual(line, "", "ended before its first cell")
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 3, errors)
        self.assertEqual(errors, "stopping at the next good place; a second signal ends at once\n"
                                 f"tables: {results}/tables\n6 cells: 5 missing, 1 ok\n"
                                 "interrupted; the same command continues\n")
        self.assertTrue(output.endswith("\nCoverage: 1 of 6 cells have a record, 5 missing\n"), output)
        self.assertEqual([path for path in results.rglob("*") if path.name.startswith(".")], [])  # nothing half written
        kept = files_of(cell("toy/CT/1", results))
        again = run_harness(*words[1:])
        self.assertEqual(again.stderr.splitlines()[0], "6 cells, 5 to do")
        self.assertEqual(files_of(cell("toy/CT/1", results)), kept)
        for name in WITHOUT_TIME:
            self.assertEqual(text_of(name, results), text_of(name, whole), name)
        timeless = [[[row[key] for key in row if key not in ("TIME", "pareto_optimal")] for row in table(name, folder)
                     if not row.get("metric", "").startswith("TIME")]
                    for folder in (results, whole) for name in ("runs", "summary")]
        self.assertEqual(timeless[:2], timeless[2:])
        for identity in ("toy/CT/2", "toy/NONE/1", "toy/published:AP/2"):
            for file in ("predictions.csv", "predictions_repair.csv", "attack.csv"):
                self.assertEqual((cell(identity, results) / file).read_bytes(),
                                 (cell(identity, whole) / file).read_bytes())


    def test_a_damaged_record_does_not_hide_that_the_run_goes_on(self):
        """Exit code 3 with a record that cannot be read elsewhere in the tree; 4 where nothing is left to do."""
        write_json("long.json", {**CONFIG, "name": "long", "approaches": [
            "NONE", {"key": "CT", "parameters": {"steps": 200000}}]})
        results = FOLDER / "interrupted_and_damaged"
        words = ["long.json", "--results", results, "--only"]
        run_harness(*words, "toy/NONE/1")
        bad = cell("toy/NONE/1", results) / "record.json"
        bad.write_text(bad.read_text()[:100])
        process = subprocess.Popen([BINARY, *map(str, words), "toy/CT/*"], cwd=FOLDER, env=ENVIRONMENT, text=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while not (cell("toy/CT/1", results) / "lease.json").exists():
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        errors = process.communicate(timeout=60)[1]
        self.assertEqual(process.returncode, 3, errors)
        self.assertIn(f"{bad}: line ", errors)
        self.assertIn(REMEDY, errors)
        self.assertTrue(errors.endswith("interrupted; the same command continues\n"), errors)
        result = run_harness(*words, "toy/NONE/2", code=4)
        self.assertIn(f"{bad}: line ", result.stderr)
        run_harness(*words, "toy/NONE/*")


class DamageTest(CliTest):
    def damaged(self, path, change, message):
        """`change` of one file's text: tables say so and touch nothing; so does status, for a record."""
        results = FOLDER / "damaged"
        shutil.rmtree(results, ignore_errors=True)
        shutil.copytree(MAIN, results)
        file = results / "cells" / path
        text = file.read_text()
        file.write_text(change(text))
        self.assertNotEqual(file.read_text(), text)
        before = files_of(results)
        result = run_harness("tables", "config.json", "--results", results, code=4)
        pattern = rf"\A{re.escape(str(file))}: {message}\n{re.escape(REMEDY)}\Z"
        self.assertRegex(result.stderr, pattern)
        self.assertEqual(result.stdout, "")
        if file.name == "record.json":
            identity = "/".join(path.split("/")[:3])
            status = run_harness("status", "config.json", "--results", results, "--format", "json", code=4)
            state = {one["id"]: (one["state"], one["because"]) for one in json.loads(status.stdout)["cells"]}
            self.assertEqual(state[identity][0], "damaged")
            self.assertRegex(state[identity][1], rf"\A{re.escape(str(file))}: {message}\Z")
        self.assertEqual(files_of(results), before)
        return results

    def assert_mended(self, results, identity):
        """A run computes that cell again, keeps what was there under another name, and loses nothing."""
        bad = (cell(identity, results) / "record.json").read_bytes()
        result = run_harness("config.json", "--results", results)
        lines = result.stderr.splitlines()
        self.assertEqual(lines[0], "8 cells, 1 to do")
        self.assertTrue(lines[1].startswith(f"{identity} is computed again: {cell(identity, results)}"), lines[1])
        self.assertEqual((cell(identity, results) / "record.damaged").read_bytes(), bad)
        for name in WITHOUT_TIME:
            self.assertEqual(text_of(name, results), text_of(name), name)

    def test_a_truncated_record(self):
        results = self.damaged(
            "toy/AR/1/record.json", lambda text: text[:text.index('"digest"')],
            re.escape('line 4, column 3: found "\\"AR\\",<U+000A>  ", expected valid JSON (expected string literal)'))
        self.assert_mended(results, "toy/AR/1")

    def test_flipped_values(self):
        for path, old, new, message in (
            ("toy/AR/1/record.json", '"status": "ok"', '"status": "okay"', CHECKSUM),
            ("toy/AR/1/record.json", '\n "schema": 2', '\n "schema": 9', "/schema: found 9, expected 2"),
            ("toy/AR/1/record.json", '"run": 1,', '"run": 2,', CHECKSUM),
            ("toy/AR/1/record.json", '"limited": false', '"limited": 0',
             CHECKSUM),
            ("toy/AR/1/attack.csv", "image,", "images,",
             'line 1: found "images,original,fixed,zero_gradient_original,zero_gradient,original_margin,fixed_margin", '
             "expected the header image,original,fixed,zero_gradient_original,zero_gradient"),
            ("toy/AR/2/predictions.csv", "\n0,", "\nzero,", None),
        ):
            if message is None:
                rest = (cell("toy/AR/2") / "predictions.csv").read_text().splitlines()[1].removeprefix("0,")
                message = f'line 2: found "zero,{rest}", expected 4 whole numbers'
            message = message if message == CHECKSUM else re.escape(message)
            self.damaged(path, lambda text: text.replace(old, new, 1), message)

    def test_flags_of_another_attack(self):
        def flip(text):
            head, first, *rest = text.split("\n")
            image, original, *flags = first.split(",")
            return "\n".join([head, ",".join([image, str(1 - int(original)), *flags]), *rest])

        before = numbers(cell("toy/AR/1") / "attack.csv")["original"]
        after = np.concatenate([[1 - before[0]], before[1:]])
        self.damaged("toy/AR/1/attack.csv", flip,
                     re.escape(f"ASR_ORIGINAL: found {100 * after.mean():g}, expected {100 * before.mean():g}, as "
                               "record.json beside it says"))

    def test_trouble_of_the_machine_is_no_status(self):
        results = FOLDER / "trouble"
        (results / "cells" / "toy" / "CT").mkdir(parents=True)
        blocked = results / "cells" / "toy" / "CT" / "1"
        blocked.write_text("")  # where a folder should be
        why = f"{blocked}: found Not a directory, expected a place where a folder can be made"
        result = run_harness("config.json", "--results", results, "--quiet", code=1)
        self.assertEqual(result.stderr, f"toy/CT/1 no result: {why}\n")
        self.assertIn("\nCoverage: 7 of 8 cells have a record, 1 missing\n", result.stdout)
        blocked.unlink()
        self.assertEqual(run_harness("config.json", "--results", results).stderr.splitlines()[0], "8 cells, 1 to do")
        shutil.rmtree(blocked.parent)
        blocked.parent.write_text("")
        result = run_harness("config.json", "--results", results, "--redo", "*", code=1)
        lines, other = result.stderr.splitlines(), why.replace("CT/1", "CT/2")
        self.assertEqual([line for line in lines if "/CT/" in line], [  # the others come between
            f"toy/CT/1 is tried again after the others: {why}", f"toy/CT/2 is tried again after the others: {other}",
            f"[7/8] toy/CT/1 no result: {why}", f"[8/8] toy/CT/2 no result: {other}"])
        self.assertEqual(lines[-2:], [f"tables: {results}/tables", "8 cells: 2 missing, 6 ok"])
        row = next(row for row in table("rq1", results) if row["approach"] == "CT")
        self.assertEqual((row["status"], row["reason"]), ("missing", "2 of 2 missing"))


class StatusTest(CliTest):
    def run_subject(self, name, changes, approaches):
        write_json(f"{name}.json", {**CONFIG, "name": name, "runs": 1, "approaches": approaches,
                                    "subjects": [{**SUBJECT, "attack": None, "published": {}, **changes}]})
        run_harness(f"{name}.json")
        results = FOLDER / "results" / name
        return results, {row["approach"]: (row["status"], row["reason"]) for row in table("rq1", results)}

    def test_what_cannot_be_applied(self):
        no_train = ("UNADAPTABLE", "missing_split: the approach needs the split train, which the data does not have")
        results, found = self.run_subject("untrained", {"data": "untrained.h5"}, ["CT", "NONE", AR])
        self.assertEqual(found, {"AR": ("ok", ""), "CT": no_train, "NONE": ("ok", UNCHANGED)})
        self.assertEqual({path.name for path in cell("toy/CT/1", results).iterdir()},
                         {"record.json", "fix.json", "log.txt"})
        row = next(row for row in table("rq2", results) if (row["approach"], row["metric"]) == ("CT", "RR"))
        self.assertEqual([row[key] for key in ("mean", "std", "min", "max", "runs", "status", "reason")],
                         ["", "", "", "", "0", *no_train])
        wide = next(row for row in table("rq2_wide", results) if row["approach"] == "CT")
        self.assertEqual((wide["toy ACC"], wide["notes"]), ("UNADAPTABLE", f"toy: {no_train[1]}"))

        no_faults = ("UNADAPTABLE", "no_faults: the repair split has no misclassified input")
        results, found = self.run_subject("faultless", {"data": "faultless.h5"}, ["NONE", AR, "RAND:AR"])
        self.assertEqual(found, {"AR": no_faults, "NONE": ("ok", UNCHANGED), "RAND:AR": no_faults})
        row = next(row for row in table("rq2", results) if (row["approach"], row["metric"]) == ("NONE", "RR"))
        self.assertEqual((row["mean"], row["reason"]),
                         ("", f"no_faults: the original classifies every image correctly; {UNCHANGED}"))

    def test_corrupted_models(self):
        results, found = self.run_subject(
            "corrupted", {"attack": ATTACK, "published": {"BAD": ["one.pt", "zero.pt"], "NAN": ["nan.pt"]}}, ["NONE"])
        of = numbers(cell("toy/NONE/1", results) / "predictions.csv")
        label, before = of["label"], of["original"]
        zero = f"accuracy: {100 * (label == 0).sum() / 120:.15g} percent on the test split, below 0.5 x the " \
               f"original's {100 * int((label == before).sum()) / 120!r}"
        self.assertEqual(found["published:BAD"], ("ok", f"1 of 2 CORRUPTED ({zero})"))
        self.assertEqual(found["published:NAN"],
                         ("CORRUPTED", "not_finite: parameter fc.bias holds NaN or an infinite value"))
        self.assertEqual([(record(f"toy/published:BAD/{run}", results)["status"],
                           (cell(f"toy/published:BAD/{run}", results) / "attack.csv").exists()) for run in (1, 2)],
                         [("ok", True), ("CORRUPTED", False)])
        row = next(row for row in table("rq2", results) if (row["approach"], row["metric"]) == ("published:BAD", "ACC"))
        self.assertEqual((row["runs"], row["std"]), ("1", ""))
        self.assert_close(row["mean"], 100 * (label == predict("one.pt", "test")).mean(), "mean of the ok run alone")


if __name__ == "__main__":
    main()
