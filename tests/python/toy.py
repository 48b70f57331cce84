"""For the tests of the program: a subject made in a second (data, a network with faults, models "fixed" elsewhere, a
configuration) in a temporary folder, the program run there, and the study's metrics computed again with numpy."""

import csv
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import h5py
import numpy as np
import torch

BINARY = os.environ.get("HARNESS_BINARY", "")
CLASSES, SIZES = 4, {"train": 240, "validation": 20, "repair": 100, "test": 120}
AR = {"key": "AR", "parameters": {"population": 12, "generations": 8}}
ATTACK = {"epsilon": 0.4, "steps": 5, "sample": 40}  # fewer images than there are: runs then attack different ones
SUBJECT = {"name": "toy", "model_name": "Toy", "model": "toy.pt", "data": "toy.h5", "attack": ATTACK,
           "published": {"AP": ["one.pt", "two.pt"]}}
CONFIG = {"name": "tiny", "subjects": ["subject.json"],
          "approaches": ["NONE", AR, {"key": "CT", "parameters": {"steps": 20}}], "runs": 2, "device": "cpu",
          "batch": 50}
# One thread: on a busy machine small parallel regions take a hundred times as long. No GPU, no Slurm array.
ENVIRONMENT = {**{name: value for name, value in os.environ.items() if not name.startswith("SLURM_")},
               "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
CELLS = [f"toy/{approach}/{run}" for approach in ("AR", "CT", "NONE", "published:AP") for run in (1, 2)]
NAMES = {"AR": ("Arachne", "neuron"), "published:AP": ("AP, published models", "published"),
         "CT": ("Continued training (control)", "control"), "NONE": ("No fix (control)", "control")}  # as tables order
HOLDER = tempfile.TemporaryDirectory()
FOLDER = pathlib.Path(HOLDER.name).resolve()
MAIN = FOLDER / "main"  # results of the whole configuration, where a test makes them
torch.set_num_threads(1)


class Toy(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 4, 3, padding=1)
        self.fc = torch.nn.Linear(64, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.nn.functional.max_pool2d(torch.relu(self.conv(x)), 2)
        return self.fc(torch.flatten(x, 1))


def draw_split(rng, count):
    """Noise with one bright quarter; one label in ten is wrong, so that no model is without faults."""
    labels = rng.integers(0, CLASSES, count)
    images = rng.integers(0, 160, (count, 1, 8, 8))
    for i, label in enumerate(labels):
        row, column = 4 * (label // 2), 4 * (label % 2)
        images[i, 0, row:row + 4, column:column + 4] += 60
    labels = np.where(rng.random(count) < 0.1, (labels + 1) % CLASSES, labels)
    return images.clip(0, 255).astype(np.uint8), labels


def groups_of(count):
    return (np.arange(count) % 3 == 0).astype(np.uint8)


def write_data(name, splits):
    with h5py.File(FOLDER / name, "w") as file:
        file.attrs.update({"classes": CLASSES, "divisor": 255.0, "mean": [0.25], "std": [0.5],
                           "group_names": ["light", "dark"]})
        for split, (images, labels) in splits.items():
            group = file.create_group(split)
            group["images"], group["labels"], group["group"] = images, labels, groups_of(len(labels))


def inputs_of(split):
    with h5py.File(FOLDER / "toy.h5", "r") as file:
        return (torch.from_numpy(file[split]["images"][:]).float() / 255 - 0.25) / 0.5


def labels_of(split):
    with h5py.File(FOLDER / "toy.h5", "r") as file:
        return file[split]["labels"][:]


def predict(model, split):
    with torch.no_grad():
        return torch.jit.load(str(FOLDER / model))(inputs_of(split)).argmax(1).numpy()


def state_of(model):
    return torch.jit.load(str(FOLDER / model)).state_dict()


def save_model(name, state):
    model = Toy()
    model.load_state_dict(state)
    torch.jit.script(model.eval()).save(str(FOLDER / name))


def write_json(name, value):
    (FOLDER / name).write_text(json.dumps(value, indent=1))
    return name


def make_subject():
    rng = np.random.default_rng(5)
    splits = {name: draw_split(rng, count) for name, count in SIZES.items()}
    write_data("toy.h5", splits)
    torch.manual_seed(5)
    model, inputs, labels = Toy(), inputs_of("train"), torch.from_numpy(splits["train"][1])
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(12):
        for batch in torch.arange(len(labels)).split(40):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(inputs[batch]), labels[batch]).backward()
            optimizer.step()
    state = model.state_dict()
    save_model("toy.pt", state)
    for name, strength in (("one.pt", 0.2), ("two.pt", 0.1)):
        save_model(name, {key: value + strength * torch.randn_like(value) for key, value in state.items()})
    save_model("zero.pt", {key: 0 * value for key, value in state.items()})
    save_model("nan.pt", {key: value * np.nan if key == "fc.bias" else value for key, value in state.items()})
    write_data("untrained.h5", {name: split for name, split in splits.items() if name != "train"})
    write_data("faultless.h5", {name: (split[0], predict("toy.pt", name)) for name, split in splits.items()})
    write_json("subject.json", SUBJECT)
    write_json("config.json", CONFIG)


def run_harness(*words, code=0, **options):
    options = {"env": ENVIRONMENT, "capture_output": True, **options}
    result = subprocess.run([BINARY, *map(str, words)], cwd=FOLDER, text=True, timeout=120, **options)
    if result.returncode != code:
        raise AssertionError(f"harness {' '.join(map(str, words))}: exit code {result.returncode}, expected {code}\n"
                             f"{result.stdout}{result.stderr}")
    return result


def cell(identity, results=MAIN):
    return results / "cells" / identity.replace(":", ".")


def record(identity, results=MAIN):
    return json.loads((cell(identity, results) / "record.json").read_text())


def table(name, results=MAIN):
    with open(results / "tables" / f"{name}.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def text_of(name, results=MAIN):
    return (results / "tables" / f"{name}.csv").read_text()


def files_of(results, pattern="*"):
    """{path: (content, time of the last change)}"""
    return {str(path.relative_to(results)): (path.read_bytes(), path.stat().st_mtime_ns)
            for path in sorted(results.rglob(pattern)) if path.is_file()}


def numbers(path):
    """A CSV file of whole numbers as {column: array}."""
    with open(path, newline="") as stream:
        rows = list(csv.reader(stream))
    return dict(zip(rows[0], np.array(rows[1:], dtype=int).reshape(-1, len(rows[0])).T))


def rate_gaps(labels, predicted, groups):
    """Mean over the classes of the groups' difference in true, and in false positive rate."""
    gaps = [0.0, 0.0]
    for index in range(CLASSES):
        for kind, of in enumerate((labels == index, labels != index)):
            rates = [np.mean(predicted[of & (groups == g)] == index) if (of & (groups == g)).any() else 0.0
                     for g in (0, 1)]
            gaps[kind] += abs(rates[0] - rates[1]) / CLASSES
    return gaps


def measures(label, before, after, suffix=""):
    """The study's metrics of one fixed model on one split (harness/docs/metrics.md)."""
    was, now = before == label, after == label
    values = {
        "ACC": 100 * now.mean(),
        "ACC_REL_IMPROVEMENT": 100 * (int(now.sum()) - int(was.sum())) / was.sum(),
        "RR": 100 * (~was & now).sum() / (~was).sum(),
        "REPAIRED": (~was & now).sum(),
        "NFR": 100 * (was & ~now).sum() / len(label),
        "BROKEN": (was & ~now).sum(),
    }
    if not suffix:
        groups = groups_of(len(label))
        for of, suffix_of in ((after, ""), (before, "_ORIGINAL")):
            gaps = rate_gaps(label, of, groups)
            values["TPR_GAP" + suffix_of], values["FPR_GAP" + suffix_of] = gaps
            values["AAOD" + suffix_of] = sum(gaps) / 2
        values |= {f"GROUP_{group}_IMAGES": (groups == group).sum() for group in (0, 1)}
        values["AAOD_REL_IMPROVEMENT"] = 100 * (1 - values["AAOD"] / values["AAOD_ORIGINAL"])
    return {name + suffix: float(value) for name, value in values.items()}


def attack_measures(flags):
    """Those of the attack, from the columns of attack.csv."""
    rate = {name: 100 * values.mean() for name, values in flags.items()}
    return {"ASR": rate["fixed"], "ASR_ORIGINAL": rate["original"],
            "ASR_REL_IMPROVEMENT": 100 * (rate["original"] - rate["fixed"]) / rate["original"],
            "ASR_MARGIN": rate["fixed_margin"], "ASR_MARGIN_ORIGINAL": rate["original_margin"],
            "ZERO_GRADIENT": rate["zero_gradient"], "ATTACKED": float(len(flags["image"]))}


class CliTest(unittest.TestCase):
    maxDiff = None

    def refused(self, words, message, code=2):
        """Exit code, whole standard error, and nothing on standard output."""
        result = run_harness(*words, code=code)
        self.assertEqual((result.stdout, result.stderr), ("", message), words)

    def assert_close(self, found, expected, what):
        """`found` as text of a table or a number; both may be missing."""
        if expected is None or found in ("", None):
            self.assertEqual((found in ("", None), expected is None), (True, True), f"{what}: {found}, {expected}")
        else:
            self.assertTrue(np.isclose(float(found), expected, rtol=1e-12, atol=1e-12), f"{what}: {found}, {expected}")


def main():
    if not os.access(BINARY, os.X_OK):
        print("HARNESS_BINARY names no program: skipped", file=sys.stderr)
        sys.exit(77)
    try:
        make_subject()
        unittest.main(module="__main__", warnings="ignore")
    finally:
        HOLDER.cleanup()
