"""Words, options, messages and exit codes of the program, and the commands that take a model and no configuration."""

import concurrent.futures
import csv
import io
import json
import os
import subprocess

import numpy as np
import torch
from toy import ATTACK, CLASSES, CONFIG, FOLDER, SIZES, SUBJECT, CliTest, labels_of, main, measures, predict
from toy import run_harness, state_of, write_json

NO_CUDA = '--device or /device: found "cuda", expected cpu or auto: LibTorch finds no CUDA device here\n'
ON_CPU = "no CUDA device here: on the CPU\n"
EVALUATE = ["evaluate", "--data", "toy.h5", "--model", "toy.pt", "--fixed"]
FIX = ["fix", "--model", "toy.pt", "--data", "toy.h5", "--approach"]
MISTAKES = {  # what follows "command line: "
    "chekc config.json": 'found "chekc", expected a command or a configuration file; did you mean check?',
    "xyzzy": 'found "xyzzy", expected a command or a configuration file',
    "help runn": 'found "runn", expected a command; did you mean run?',
    "run": "harness run: found nothing, expected CONFIG",
    "run config.json more": 'harness run: found "more", expected no further word',
    "run config.json --resluts x":
        "--resluts: found an option that harness run does not have, expected one that harness help run lists; did you "
        "mean --results?",
    "config.json --seed 1":
        "--seed: found an option that harness run does not have, expected one that harness help run lists",
    "config.json --results": "--results: found no value, expected DIR",
    "config.json --results --quiet": "--results: found no value, expected DIR",
    "config.json --results=": "--results: found an empty value, expected DIR",
    "config.json --results a --results b": "--results: found the option twice, expected it once",
    "config.json --quiet=False": "--quiet=False: found a value, expected --quiet alone, or not at all",
    "config.json -q": "-q: found one dash, expected an option, with two dashes",
    "config.json --threads two": '--threads: found "two", expected a whole number from 1 to 4096',
    "config.json --threads 99999999": '--threads: found "99999999", expected a whole number from 1 to 4096',
    "inspect toy.pt --shape 1,3,100000,100000": '--shape: found "1,3,100000,100000", expected N,C,H,W with at most 10^9 '
                                                "values in all",
    "evaluate --data toy.h5 --model toy.pt --fixed one.pt --epsilon 1e39": "--epsilon: found 1e39, expected a number of at "
                                                                           "most 1e+30",
    "config.json --only toy/XX/*":
        '--only: found "toy/XX/*", expected a pattern of subject/approach/run that fits a cell of the plan',
    "config.json --redo XX":
        '--redo: found "XX", expected a pattern of subject/approach/run that fits a cell of the plan',
    "config.json --retry timout":
        '--retry: found "timout", expected codes of FAILURE: crashed, timeout, out_of_memory, no_fix; did you mean '
        "timeout?",
    "config.json --limit tset=9":
        '--limit: found "tset", expected train, validation, repair or test; did you mean test?',
    "config.json --limit test=none": '--limit: found "none", expected a whole number above 0',
    "config.json --shard 3/2": '--shard: found "3/2", expected part/parts, from 1/4 to 4/4',
    "config.json --set /runs": '--set: found "/runs", expected NAME=VALUE',
    "list approach": 'harness list: found "approach", expected approaches, metrics or schema; did you mean approaches?',
    "list metrics --format xml": '--format: found "xml", expected one of text, csv, json',
    "tables config.json --table rq5":
        '--table: found "rq5", expected one of rq1, rq2, rq3, rq4, rq1_wide, rq2_wide, rq3_wide, rq4_wide, runs, '
        "summary; did you mean rq1?",
    "inspect toy.pt":
        "harness inspect: found neither --data nor --shape, expected one of --shape N,C,H,W and --data FILE",
    "inspect toy.pt --shape 1,8,8": '--shape: found "1,8,8", expected N,C,H,W',
    "inspect /dev/null --shape 1,1,8,8":
        "MODEL: found a device in place of a file, /dev/null, expected a file that can be read; name the file itself",
    "inspect toy.pt --data .":
        "--data: found a folder, ., expected a file that can be read; to make it: scripts/prepare images --source . "
        "--out FILE.h5 (a folder of arrays: scripts/prepare npz)",
    "inspect tou.pt --shape 1,1,8,8":
        "MODEL: found no file tou.pt, expected a file that can be read; did you mean toy.pt?",
    "evaluate --data toy.h5 --model toy.pt":
        "--fixed: found nothing, expected --fixed with its value (see --help)",
    "evaluate --data toy.h5 --model toy.pt --fixed": "--fixed: found no value, expected FILE",
    "evaluate --data toy.h5 --model toy.pt --fixed one.pt twoo.pt":
        "--fixed: found no file twoo.pt, expected a file that can be read; did you mean two.pt?",
    "evaluate --data toy.h5 --model toy.pt --fixed one.pt --epsilon inf":
        '--epsilon: found "inf", expected a number, 0 or more',
    "evaluate --data toy.h5 --model toy.pt --fixed one.pt --sample all":
        "--sample: found it without --epsilon, expected --epsilon E: without it nothing is attacked",
    "fix --model toy.pt --data toy.h5 --out x.pt":
        "--approach: found nothing, expected --approach with its value (see --help)",
    "fix --model toy.pt --data toy.h5 --approach AR --out ./toy.pt":
        "--out: found the model to fix, ./toy.pt, expected another file",
    "fix --model toy.pt --data toy.h5 --approach CT --set stepz=9 --out x.pt":
        "--set stepz: found an unknown key, expected one of learning_rate, steps; did you mean "
        "steps?",
}


class Scaled(torch.nn.Module):
    """A number that is a parameter decides how strong the scores are."""

    def __init__(self, model):
        super().__init__()
        self.model, self.strength = model, torch.nn.Parameter(torch.tensor(0.5))

    def forward(self, x):
        return self.model(x) * float(self.strength)


class Joined(torch.nn.Module):
    """A concatenation, of a layer with zeros or with the layer itself, behind a batch norm."""

    def __init__(self, padded):
        super().__init__()
        self.conv, self.norm, self.fc = torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(8, CLASSES)
        self.padded: bool = padded

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.conv(x)))
        x = torch.cat([x, torch.zeros_like(x) if self.padded else x], 1)
        return self.fc(x.mean([2, 3]))


class WordsTest(CliTest):
    def test_mistakes_of_the_command_line(self):
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(lambda item: self.refused(item[0].split(), f"command line: {item[1]}\n"), MISTAKES.items()))
        self.refused([*FIX, "AR", "--out", "no/x.pt"],
                     "no/x.pt: found No such file or directory, expected a place that can be written to\n")
        self.refused(["nosuch.json"], "nosuch.json: found no file nosuch.json, expected a config file\n")
        self.refused(["config.json", "--results", "toy.pt/x"],
                     "toy.pt/x: found Not a directory, expected a place where a folder can be made\n")
        self.refused([], run_harness("help").stdout)
        self.assertFalse((FOLDER / "results").exists())

    def test_help_and_version(self):
        overview = run_harness("help")
        self.assertEqual(overview.stderr, "")
        self.assertEqual(run_harness("--help").stdout, overview.stdout)
        for command in ("run", "check", "plan", "status", "tables", "list", "inspect", "evaluate", "fix"):
            self.assertRegex(overview.stdout, f"(?m)^  {command} ")
            text = run_harness("help", command).stdout
            self.assertIn(f"\n\nUsage: harness {command} ", text)
            self.assertEqual(run_harness(command, "--help").stdout, text)
        self.assertRegex(run_harness("version").stdout, r"\Aharness \d+\.\d+\.\d+( \(commit .*\))?\n\Z")
        self.assertEqual(run_harness("--version").stdout, run_harness("version").stdout)

    def test_a_device_that_is_not_there(self):
        results = FOLDER / "no_device"
        self.refused(["run", "config.json", "--device", "cuda", "--results", results], NO_CUDA)
        # a login node plans for others
        run_harness("status", "config.json", "--device", "cuda", "--results", results)
        self.refused(["config.json", "--set", "/device=cuda", "--results", results], NO_CUDA)
        self.refused(["inspect", "toy.pt", "--shape", "1,1,8,8", "--device", "cuda"], NO_CUDA)
        self.refused(["config.json", "--device", "cuda:1", "--results", results], NO_CUDA.replace("cuda", "cuda:1", 1))
        self.refused(["config.json", "--device", "gpu", "--results", results],
                     '--device or /device: found "gpu", expected auto, cpu, cuda, or cuda:0,2\n')
        self.assertFalse(results.exists())  # no cell got a status
        self.assertEqual(run_harness("status", "config.json", "--device", "auto", "--results", results).stderr, "")
        words = ["config.json", "--device", "auto", "--results", results, "--only", "toy/NONE/1"]
        self.assertEqual(run_harness(*words).stderr.splitlines()[0], "no CUDA device here: on the CPU")

    def test_output_that_cannot_be_written_is_no_success(self):
        with open("/dev/full", "w") as full:
            result = run_harness("list", "metrics", code=1, capture_output=False, stdout=full, stderr=subprocess.PIPE)
        self.assertEqual(result.stderr, "standard output: found a place that takes no more, expected one that can be "
                                        "written to\n")

    def test_lists(self):
        listed = json.loads(run_harness("list", "approaches", "--format", "json").stdout)
        approaches = {one["key"]: one for one in listed}
        self.assertLessEqual({"AR", "CT", "NONE", "RAND"}, set(approaches))
        self.assertEqual((approaches["AR"]["name"], approaches["AR"]["level"], approaches["AR"]["needs"]),
                         ("Arachne", "neuron", ["repair"]))
        population = [one for one in approaches["AR"]["parameters"] if one["name"] == "population"]
        self.assertEqual(population, [{
            "name": "population", "type": "integer", "default": 100, "unit": "candidates", "minimum": 4.0,
            "meaning": "size of the population", "source": "public code, coinse/arachne (Sohn et al., TOSEM 2023)",
            "maximum": None, "choices": [], "nullable": False}])
        rows = list(csv.DictReader(io.StringIO(run_harness("list", "approaches", "--format", "csv").stdout)))
        self.assertEqual(next(row for row in rows if row["key"] == "CT"), {
            "key": "CT", "name": "Continued training (control)", "level": "control", "publication": "this project",
            "basis": "", "version": "2", "in_study": "no", "needs": "train", "uses": "repair validation",
            "imitates": "IN IR"})
        self.assertIn("RAND:KEY", {row["key"] for row in rows})
        self.assertEqual({row["key"]: row["basis"] for row in rows if not row["key"].endswith(":KEY")},
                         {one["key"]: one["basis"] for one in listed if one["alone"]})
        self.assertEqual(approaches["AR"]["basis"], "reference code")
        self.assertEqual([approaches[key]["imitates"] for key in ("CT", "AR")], [["IN", "IR"], []])
        self.assertIn("\nParameters of AR\n\n", run_harness("list", "approaches").stdout)
        text = run_harness("list", "metrics", "--format", "csv").stdout
        self.assertEqual(text.splitlines()[0], "name,unit,better,table,joint")
        for row in ("ACC,percent,higher,rq2,no", "RR,percent,higher,rq2,no", "REPAIRED,count,higher,rq2,no",
                    "NFR,percent,lower,rq3,no", "BROKEN,count,lower,rq3,no", "ASR,percent,lower,rq3,yes",
                    "ASR_REL_IMPROVEMENT,percent,higher,rq3,yes", "ZERO_GRADIENT,percent,,rq3,yes",
                    "AAOD,fraction,lower,rq3,no", "RR_REPAIR,percent,higher,rq2,no"):
            self.assertIn(f"\n{row}\n", text)
        rows = list(csv.DictReader(io.StringIO(text)))
        self.assertEqual(json.loads(run_harness("list", "metrics", "--format", "json").stdout), rows)


class LimitTest(CliTest):
    def test_a_split_that_no_data_file_has(self):
        subject = {key: SUBJECT[key] for key in ("name", "model")}
        write_json("untrained.json", {"subjects": [{**subject, "data": "untrained.h5"}], "approaches": ["NONE"]})
        write_json("both.json", {"subjects": [{**subject, "data": "untrained.h5"},
                                              {**subject, "name": "whole", "data": "toy.h5"}], "approaches": ["NONE"]})
        for command in ("run", "check", "plan"):
            self.refused([command, "untrained.json", "--limit", "test=9,train=3"],
                         'command line: --limit: found "train=3", expected a split that a data file of the subjects '
                         "has: validation, repair, test\n")
        run_harness("plan", "both.json", "--limit", "train=3", "--results", FOLDER / "limited")  # one of them has it


class InspectTest(CliTest):
    def test_layers_count_what_the_model_has(self):
        """Buffers of a batch norm and zeros that a shortcut joins are no parameters of any layer."""
        for padded in (False, True):
            torch.jit.script(Joined(padded).eval()).save(str(FOLDER / "joined.pt"))
            found = json.loads(run_harness("inspect", "joined.pt", "--shape", "1,1,8,8", "--format", "json").stdout)
            self.assertTrue(found["importable"])
            self.assertEqual(found["parameters"], sum(one.numel() for one in Joined(padded).parameters()))
            self.assertEqual(sum(node["parameters"] for node in found["nodes"]), found["parameters"])
            self.assertEqual({node["parameters"] for node in found["nodes"] if node["kind"] == "concat"}, {0})

    def test_shape(self):
        found = json.loads(run_harness("inspect", "toy.pt", "--shape", "1,1,8,8", "--format", "json").stdout)
        self.assertEqual([found[key] for key in ("importable", "unknown_operator", "parameters", "classes")],
                         [True, None, 40 + 260, 4])
        self.assertLess(found["max_abs_difference"], 1e-5)
        self.assertRegex(found["digest"], r"\A[0-9a-f]{32}\Z")
        self.assertEqual([(node["name"], node["kind"], node["output_shape"], node["parameters"])
                          for node in found["nodes"]],
                         [("input", "input", [1, 8, 8], 0), ("conv", "conv", [4, 8, 8], 40),
                          ("relu_1", "relu", [4, 8, 8], 0), ("max_pool_1", "max_pool", [4, 4, 4], 0),
                          ("reshape_1", "reshape", [64], 0), ("fc", "linear", [4], 260)])
        text = run_harness("inspect", "toy.pt", "--shape", "1,1,8,8").stdout
        self.assertTrue(text.startswith("importable: yes\ngreatest difference to TorchScript: "), text)
        self.assertIn(f"\nparameters: 300\nclasses: 4\ndigest: {found['digest']}\n\n", text)

    def test_data(self):
        result = run_harness("inspect", "toy.pt", "--data", "toy.h5", "--format", "json", "--device", "cpu")
        found = json.loads(result.stdout)
        self.assertEqual(result.stderr, "")
        expected = {}
        for split, images in SIZES.items():
            faults = int((predict("toy.pt", split) != labels_of(split)).sum())
            expected[split] = {"images": images, "faults": faults, "accuracy": 100 * (images - faults) / images,
                               "groups": True}
        self.assertEqual(found["data"], {"classes": 4, "splits": expected})
        answers = {one["key"]: (one["applies"], one["reason"]) for one in found["approaches"]}
        for key in ("AR", "CT", "CT:IR", "NONE", "RAND:AR"):
            self.assertEqual(answers[key], (True, ""), key)
        listed = json.loads(run_harness("list", "approaches", "--format", "json").stdout)
        self.assertEqual({key for key in answers if ":" in key},
                         {f"{one['key']}:{other}" for one in listed for other in one["imitates"]})
        text = run_harness("inspect", "toy.pt", "--data", "untrained.h5", "--device", "cpu").stdout
        self.assertRegex(text, r"\nCT +UNADAPTABLE +Continued training \(control\) +missing_split: the approach needs "
                               r"the split train, which the data does not have\n")
        self.assertRegex(text, rf"\ntest +120 +{expected['test']['accuracy']:.2f} +{expected['test']['faults']}\n")
        text = run_harness("inspect", "toy.pt", "--data", "faultless.h5", "--device", "cpu").stdout
        self.assertRegex(text, r"\nAR +UNADAPTABLE +Arachne +no_faults: the repair split has no misclassified input\n")


class EvaluateTest(CliTest):
    def setUp(self):
        self.label = {split: labels_of(split) for split in ("test", "repair")}
        self.before = {split: predict("toy.pt", split) for split in ("test", "repair")}

    def expected(self, model):
        values = {}
        for split, suffix in (("test", ""), ("repair", "_REPAIR")):
            values |= measures(self.label[split], self.before[split], predict(model, split), suffix)
        return values

    def test_text(self):
        result = run_harness(*EVALUATE, "one.pt", "two.pt")
        self.assertEqual(result.stderr, ON_CPU + "evaluating one.pt\nevaluating two.pt\n")
        right = int((self.before["test"] == self.label["test"]).sum())
        lines = [f"original: {right} of 120 right ({100 * right / 120:.2f} %)"]
        values = {model: self.expected(model) for model in ("one.pt", "two.pt")}
        for model, of in values.items():
            lines.append(f"{model}: {round(1.2 * of['ACC'])} of 120 right, {of['REPAIRED']:.0f} repaired, "
                         f"{of['BROKEN']:.0f} broken")
        found = result.stdout.splitlines()
        self.assertEqual(found[:4], [*lines, ""])
        self.assertEqual(found[4].split(), ["metric", "unit", "one.pt", "two.pt", "mean", "std", "reason"])
        rows = {line.split()[0]: line.split()[1:] for line in found[6:]}
        self.assertEqual(set(rows), set(values["one.pt"]))  # without --epsilon no row of the attack
        for name, unit, digits in (("ACC", "percent", 2), ("RR_REPAIR", "percent", 2), ("AAOD", "fraction", 4)):
            pair = [of[name] for of in values.values()]
            self.assertEqual(rows[name], [unit] + [f"{value:.{digits}f}" for value in
                                                   (*pair, np.mean(pair), np.std(pair, ddof=1))])

    def test_json_and_csv(self):
        words = [*EVALUATE, "one.pt", "two.pt", "--device", "cpu", "--quiet"]
        result = run_harness(*words, "--format", "json")
        found = json.loads(result.stdout)
        self.assertEqual(result.stderr, "")
        self.assertEqual(set(found), {"images", "original", "models", "mean", "reasons"})
        self.assertEqual([one["file"] for one in found["models"]], ["one.pt", "two.pt"])
        for one in found["models"]:
            for name, value in self.expected(one["file"]).items():
                self.assert_close(one["metrics"][name], value, f"{one['file']} {name}")
            self.assertIsNone(one["metrics"]["ASR"])
        self.assertEqual(found["reasons"]["ASR"], "no_attack: the subject configures none")
        rows = list(csv.DictReader(io.StringIO(run_harness(*words, "--format", "csv").stdout)))
        self.assertEqual(list(rows[0]), ["metric", "unit", "one.pt", "two.pt", "mean", "std", "reason"])
        for row in rows:
            self.assert_close(row["mean"], found["mean"][row["metric"]], row["metric"])

    def test_the_attack_is_that_of_a_run(self):
        """The same subject, seed and options in a configuration give the same numbers."""
        found = json.loads(run_harness(*EVALUATE, "one.pt", "two.pt", "--batch", 50, "--epsilon", ATTACK["epsilon"],
                                       "--steps", ATTACK["steps"], "--sample", ATTACK["sample"], "--quiet", "--format",
                                       "json").stdout)
        run_harness(write_json("published.json", {**CONFIG, "approaches": ["NONE"]}), "--results", "of_run", "--only",
                    "toy/published:AP/*")
        with open(FOLDER / "of_run" / "tables" / "rq3.csv", newline="") as stream:
            rows = {row["metric"]: row["mean"] for row in csv.DictReader(stream) if row["approach"] == "published:AP"}
        self.assertGreater(float(rows["ASR_ORIGINAL"]), 0)
        for metric, mean in rows.items():
            self.assert_close(mean, found["mean"][metric], metric)


class FixTest(CliTest):
    def test_a_fixed_model_that_python_loads(self):
        words = [*FIX, "AR", "--set", "population=12", "--set", "generations=8", "--batch", 50, "--device", "cpu"]
        result = run_harness(*words, "--out", "fixed.pt")
        self.assertEqual(result.stderr, "")
        before, after = state_of("toy.pt"), state_of("fixed.pt")
        self.assertEqual({name: tuple(value.shape) for name, value in after.items()},
                         {name: tuple(value.shape) for name, value in before.items()})
        self.assertGreater(sum(int((before[name] != after[name]).sum()) for name in before), 0)
        lines = ["status: ok", "fixed model: fixed.pt"]
        for split in ("repair", "test"):
            label, was, now = labels_of(split), predict("toy.pt", split), predict("fixed.pt", split)
            of = measures(label, was, now)
            lines.append(f"{split}: {(was == label).sum()} -> {(now == label).sum()} of {len(label)} right, "
                         f"{of['REPAIRED']:.0f} repaired, {of['BROKEN']:.0f} broken")
        found = result.stdout.splitlines()
        self.assertRegex(found.pop(2), r"\Atime: \d+\.\d s\Z")
        self.assertEqual(found, lines)
        # the same cell of a configuration gives the same weights, bit by bit
        run_harness("config.json", "--results", "of_fix", "--only", "toy/AR/1")
        self.assertTrue(all(value.equal(after[name])
                            for name, value in state_of("of_fix/cells/toy/AR/1/fixed.pt").items()))
        self.assertFalse(list(FOLDER.glob(".fixed*")))

    def test_json(self):
        found = json.loads(run_harness(*FIX, "CT", "--set", "steps=3", "--out", "trained.pt", "--quiet", "--format",
                                       "json").stdout)
        self.assertEqual((found["status"], found["reason"], found["failed_checks"], found["out"]),
                         ("ok", "", [], "trained.pt"))
        self.assertEqual((found["counters"]["optimiser_steps"], found["counters"]["added_weights"]), (3, 0))
        self.assertEqual(found["effect"]["repair"]["images"], SIZES["repair"])

    def test_continued_training_makes_the_steps_of_another_approach(self):
        # seven are too few to repair anything, and so all that IR makes
        words = ["--set", "max_iters=7", "--out", "steps.pt", "--quiet", "--format", "json"]
        found = json.loads(run_harness(*FIX, "CT:IR", *words).stdout)
        self.assertEqual((found["status"], found["counters"]["optimiser_steps"]), ("ok", 7))
        found = json.loads(run_harness(*FIX, "CT:AR", "--out", "none.pt", "--quiet", "--format", "json", code=1).stdout)
        self.assertEqual((found["status"], found["reason"]),
                         ("UNADAPTABLE", "structure: AR makes no optimiser steps on images that training could make as "
                                         "well"))

    def test_the_model_is_called_what_it_is(self):
        """`fix` says what `inspect` says: of a black box, of a frozen model, of a file that is no model."""
        model = torch.jit.load(str(FOLDER / "toy.pt"))
        torch.jit.freeze(model).save(str(FOLDER / "frozen.pt"))
        torch.jit.script(Scaled(model)).save(str(FOLDER / "scaled.pt"))
        torch.save(model.state_dict(), FOLDER / "state_dict.pt")
        for name, text in (("frozen.pt", "before torch.jit.freeze"), ("scaled.pt", "would not be followed")):
            inspected = json.loads(run_harness("inspect", name, "--data", "toy.h5", "--format", "json", "--device",
                                               "cpu").stdout)
            self.assertIn(text, inspected["detail"])
            self.assertIn(text, run_harness("inspect", name, "--shape", "1,1,8,8").stdout)
            words = [*FIX, "CT", "--out", "none.pt", "--quiet", "--device", "cpu"]
            words[words.index("toy.pt")] = name
            result = run_harness(*words, code=1).stdout
            self.assertIn("status: UNADAPTABLE\n", result)
            self.assertEqual(result.count(inspected["detail"]), 1)
            if name == "scaled.pt":
                words = f"weights computed in forward(): strength ({inspected['detail']})\n"
                self.assertIn(f"reason: operator: {words}", result)
                self.assertIn(f"what cannot be imported: {words}", run_harness("inspect", name, "--shape", "1,1,8,8").stdout)
        self.refused(["inspect", "state_dict.pt", "--shape", "1,1,8,8"],
                     "state_dict.pt: found a state dict: weights by name, without the model, expected TorchScript, as "
                     "torch.jit.save writes it; to make it: scripts/export ARCHITECTURE --weights FILE, or "
                     "scripts/export --factory FILE.py:FUNCTION --weights FILE\n")

    def test_no_fix_no_file(self):
        words = [*FIX, "AR", "--out", "none.pt", "--quiet"]
        words[words.index("toy.h5")] = "faultless.h5"
        self.assertEqual(run_harness(*words, code=1).stdout,
                         "status: UNADAPTABLE\nreason: no_faults: the repair split has no misclassified input\n")
        self.assertFalse((FOLDER / "none.pt").exists())


if __name__ == "__main__":
    main()
