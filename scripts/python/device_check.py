"""The same work on the CPU and on another device, with the differences: what scripts/gpu-check runs after building.

Every part says what it lacks and leaves the rest to go on. Code 1: some difference is larger than it may be, or a
program failed.
"""

import argparse
import csv
import json
import os
import pathlib
import shutil
import statistics
import tempfile

from bench import programs
from common.errors import UserError, run_main

ROOT = pathlib.Path(__file__).resolve().parents[2]
DATA = ROOT / "data"
# Of the study's published models on its test split: right of 5,000, repaired of 105, broken.
PUBLISHED = {("AP", 1): (4956, 81, 20), ("AP", 2): (4954, 76, 17), ("AP", 3): (4949, 76, 22),
             ("AR", 1): (4873, 7, 29), ("AR", 2): (4897, 19, 17), ("AR", 3): (4893, 14, 16)}
# Attack success on all images that are right in the original and the three models: original, fixed, and how far
# the fixed may be off (the original: 0.6 points).
SUCCESS = {"AP": (81.24, 26.37, 1.0), "AR": (81.38, 82.73, 0.6)}
# Arachne on LeNet5: RR in percent, change of accuracy in points, each from and to.
RANGES = {"fraction": ((2, 25), (-0.41, 0.35)), "all": ((16, 37), (-0.95, 0.05))}
SEEDS = 3
# The study's architectures by what their files are called, and what they read.
SHAPES = {"lenet5": "64,1,28,28", "apricot": "64,1,28,28", "arachne": "64,1,28,28", "digits": "64,1,8,8",
          "facenet": "16,3,64,64", "densenet121": "4,3,224,224", "": "16,3,32,32"}
IMPORT_MOST, LOGITS_MOST = 1e-5, 1e-4  # relative to the largest logit


class Check:
    def __init__(self, build, device, threads, folder):
        self.build, self.device, self.threads, self.folder = build, device, threads, folder
        self.problems = []

    def sides(self):
        return (("CPU", "cpu"), ("CPU again" if self.device == "cpu" else "GPU", self.device))

    def part(self, number, title, work, *files):
        print(f"\n{number}. {title}", flush=True)
        absent = [str(file.relative_to(ROOT)) for file in (*files, self.build / "harness") if not file.is_file()]
        if absent:
            print("   left out, not there: " + ", ".join(absent))
            return
        try:
            work()
        except (UserError, ImportError, OSError) as error:
            self.problem(str(error))

    def say(self, text):
        print("   " + text, flush=True)

    def problem(self, text):
        self.problems.append(text)
        self.say("PROBLEM: " + text)

    def expect(self, good, what):
        if not good:
            self.problem(what)


def rows_of(file):
    with open(file, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def predictions(results):
    """{(approach, run, file): [class]}"""
    return {(file.parts[-3], file.parts[-2], file.name): [row["fixed"] for row in rows_of(file)]
            for file in sorted((results / "cells").rglob("predictions*.csv"))}


def published(check):
    results, seconds = {}, {}
    for label, device in check.sides():
        results[label] = check.folder / f"results {label}"
        _, seconds[label] = programs.run(
            [check.build / "harness", ROOT / "configs" / "mnist.json", "--results", results[label], "--quiet",
             "--device", device, "--threads", check.threads, "--set", '/approaches=["NONE"]', "--set", "/runs=1",
             "--set", '/subjects/0/attack/sample="all"', "--set", "/subjects/0/attack/bounds=[0,1]"], check.threads)
    first, second = (predictions(folder) for folder in results.values())
    total = sum(map(len, first.values()))
    different = sum(a != b for key, values in first.items() for a, b in zip(values, second.get(key, [])))
    check.say(f"predictions: {different} of {total} differ")
    check.expect(total == 70000 and first.keys() == second.keys(), "not 7 models on 10,000 images on both devices")
    check.expect(different == 0, "predictions differ")
    for label, folder in results.items():
        values = {(row["approach"], row["run"], row["metric"]): float(row["value"])
                  for row in rows_of(folder / "tables" / "runs.csv") if row["value"]}
        for (name, run), counts in PUBLISHED.items():
            found = tuple(round(values[f"published:{name}", str(run), metric] * factor)
                          for metric, factor in (("ACC", 50), ("REPAIRED", 1), ("BROKEN", 1)))
            check.expect(found == counts, f"{label}: {name} {run}: right, repaired, broken {found}, published {counts}")
        check.say(f"{label}: right, repaired and broken of the six models compared with the published ones; "
                  f"whole run {seconds[label]:.1f} s")
    return results


def success(check, results):
    if len(results) < 2:
        check.say("left out: part 1 has no results")
        return
    metrics = ("ASR_ORIGINAL", "ASR", "ASR_MARGIN", "ZERO_GRADIENT")
    found = {label: {(row["approach"], row["metric"]): float(row["mean"])
                     for row in rows_of(folder / "tables" / "rq3.csv") if row["metric"] in metrics and row["mean"]}
             for label, folder in results.items()}
    first, second = found.values()
    for name, (original, fixed, most) in SUCCESS.items():
        key = f"published:{name}"
        for metric in metrics:
            a, b = first[key, metric], second[key, metric]
            check.say(f"{name} {metric:<13} {a:6.2f} {b:6.2f}  difference {b - a:+.2f}")
        for label, values in found.items():
            for metric, value, margin in (("ASR_ORIGINAL", original, 0.6), ("ASR", fixed, most)):
                off = values[key, metric] - value
                check.expect(abs(off) <= margin, f"{label}: {name} {metric} is {off:+.2f} off {value}, at most {margin}")


def imports(check):
    files = [DATA / "digits" / "digits_cnn.pt", *sorted((DATA / "random").glob("*.pt")),
             *sorted((DATA / "mnist").glob("*.pt")), *sorted((DATA / "cifar10").glob("*.pt"))]
    files = [file for file in files if file.is_file()]
    if not files:
        check.say("left out, not there: models in data/ (scripts/test-data)")
    else:
        check.say(f"{'':<30} {'import':>8} {'logits':>8}  other classes  seconds CPU, device")
    for file in files:
        shape = next(shape for name, shape in SHAPES.items() if name in file.name)
        out, _ = programs.run([check.build / "bench_import", "--model", file, "--shape", shape, "--device", check.device,
                               "--threads", check.threads], check.threads)
        value = json.loads(out)
        name = str(file.relative_to(DATA))
        if "importable" not in value:
            check.problem(f"{name}: {value.get('refused') or value['error']}")
            continue
        classes = f"{value['other_classes']} of {value['images']}"
        check.say(f"{name:<30} {value['import_difference']:8.1e} {value['logits_difference']:8.1e}  {classes:<13}  "
                  f"{value['seconds_cpu']:.4f} {value['seconds_device']:.4f}")
        check.expect(value["importable"], f"{name}: cannot be imported: {value['unknown_operator']}")
        check.expect(value["import_difference"] <= IMPORT_MOST, f"{name}: import differs by more than {IMPORT_MOST}")
        check.expect(value["logits_difference"] <= LOGITS_MOST, f"{name}: logits differ by more than {LOGITS_MOST}")


def accuracies(check):
    asked = {"resnet20": 91.7, "resnet56": 93.4}
    models = [DATA / "cifar10" / f"{name}.pt" for name in asked]
    for label, device in check.sides():
        out, seconds = programs.run([check.build / "harness", "evaluate", "--data", DATA / "cifar10" / "cifar10.h5",
                                     "--model", models[0], "--fixed", *models, "--device", device, "--quiet",
                                     "--format", "json"], check.threads)
        # the public test images are our test and repair splits, 5,000 each
        values = [(model["metrics"]["ACC"] + model["metrics"]["ACC_REPAIR"]) / 2 for model in json.loads(out)["models"]]
        check.say(f"{label}: " + ", ".join(f"{name} {value:.2f} %" for name, value in zip(asked, values)) +
                  f" of the CIFAR-10 test images; {seconds:.1f} s")
        for (name, expected), value in zip(asked.items(), values):
            check.expect(abs(value - expected) <= 0.2, f"{label}: {name} has {value:.2f} %, asked {expected} +- 0.2")


def fix(check):
    for negatives, ((rr_low, rr_high), (acc_low, acc_high)) in RANGES.items():
        for label, device in check.sides():
            runs = programs.fixes(check.build, DATA / "mnist" / "lenet5.pt", DATA / "mnist" / "mnist.h5", "AR", SEEDS,
                                  check.threads, "--device", device, "--parameters",
                                  json.dumps({"negatives": negatives}))
            failed = [run["failure"] for run in runs if "failure" in run]
            if failed:
                check.problem(f"{label}: {failed[0]}")
                continue
            rr, change, seconds = (statistics.mean(run[key] for run in runs)
                                   for key in ("rr", "accuracy_change", "seconds"))
            rate = sum(run["counters"]["evaluations"] for run in runs) / sum(run["phases"]["search"] for run in runs)
            check.say(f"AR, negatives {negatives:<8} {label:<9} RR {rr:5.2f} %, accuracy {change:+.2f} points, "
                      f"fix {seconds:.2f} s, {rate:,.0f} evaluations/s")
            check.expect(rr_low <= rr <= rr_high, f"{label}: RR {rr:.2f} is outside {rr_low} to {rr_high}")
            check.expect(acc_low <= change <= acc_high,
                         f"{label}: accuracy {change:+.2f} is outside {acc_low} to {acc_high}")


def attacks(check):
    from bench import reference  # torch takes seconds, and may be missing
    for name, data, images, epsilon, bounds in (("lenet5", "mnist", 1000, 0.15, (0.0, 1.0)),
                                                ("resnet20", "cifar10", 100, 0.031, None)):
        model, file = DATA / data / f"{name}.pt", DATA / data / f"{data}.h5"
        if not model.is_file() or not file.is_file():
            check.say(f"{name}: left out, not there: {model.relative_to(ROOT)} or {file.relative_to(ROOT)}")
            continue
        x, y = reference.read_test_split(file)
        limits = bounds or (float(x.min()), float(x.max()))
        x, y = x[:2 * images], y[:2 * images]
        right = reference.both_correct([reference.eager_model(name, model)], x, y)
        inputs = programs.Inputs(check.folder, name, x[right][:images].contiguous(), y[right][:images].contiguous())
        results = {label: programs.attack(check.build, model, inputs, epsilon, limits, check.threads,
                                          "--device", device, "--repeat", 4) for label, device in check.sides()}
        seconds = {label: statistics.median(result["seconds"][1:]) for label, result in results.items()}  # 1 to warm up
        first, second = results.values()
        different = sum(a != b for a, b in zip(first["success"], second["success"]))
        times = list(seconds.values())
        check.say(f"{name}, {images} images: " + ", ".join(f"{label} {value:.3f} s" for label, value in seconds.items()) +
                  f" ({times[0] / times[1]:.1f} x); ASR {programs.share(first['success']):.1f} and "
                  f"{programs.share(second['success']):.1f} %, {different} flags differ")
        check.expect(different <= 0.02 * images, f"{name}: {different} of {images} flags differ, more than 2 %")


def main():
    parser = argparse.ArgumentParser(prog="device_check", description=__doc__)
    parser.add_argument("--build", type=pathlib.Path, required=True, metavar="DIR")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--threads", type=int, default=0, help="0: as many as there are cores")
    given = parser.parse_args()
    threads = given.threads or os.cpu_count()
    mnist = [DATA / "mnist" / "mnist.h5", DATA / "mnist" / "lenet5.pt"]
    six = [DATA / "mnist" / f"{name}{run}.pt" for name in ("apricot", "arachne") for run in (1, 2, 3)]
    folder = pathlib.Path(tempfile.mkdtemp(prefix="device-check-"))
    try:
        check = Check(given.build.resolve(), given.device, threads, folder)
        results = {}
        check.part(1, "published models on MNIST: predictions and counts",
                   lambda: results.update(published(check)), *mnist, *six)
        check.part(2, "attack success on all both-correct images", lambda: success(check, results), *mnist, *six)
        check.part(4, "import against TorchScript, logits against the CPU's (relative)", lambda: imports(check))
        check.part(4, "accuracy on CIFAR-10", lambda: accuracies(check), DATA / "cifar10" / "cifar10.h5",
                   *(DATA / "cifar10" / f"{name}.pt" for name in ("resnet20", "resnet56")))
        check.part(5, f"Arachne on LeNet5, mean of {SEEDS} seeds", lambda: fix(check), *mnist)
        check.part(8, "speed of PGD", lambda: attacks(check))
    finally:
        shutil.rmtree(folder)
    print("\n" + (f"{len(check.problems)} problems:\n" + "\n".join("  " + text for text in check.problems)
                  if check.problems else "no problems"))
    return 1 if check.problems else 0


if __name__ == "__main__":
    run_main(main)
