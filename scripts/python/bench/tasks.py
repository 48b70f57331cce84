"""What scripts/bench measures: each task has variants, which are run in turn, and makes rows of their medians."""

import functools
import json
import pathlib
import shutil
import statistics
import sys
from dataclasses import dataclass, field

from bench import programs, reference


@dataclass
class Setting:
    root: pathlib.Path
    folder: pathlib.Path  # for what may be thrown away
    threads: int
    foolbox: pathlib.Path

    @property
    def build(self):
        return self.root / "build"

    @property
    def data(self):
        return self.root / "data"

    @functools.cached_property
    def foolbox_package(self):
        return reference.load_foolbox(self.foolbox) if reference.has_foolbox(self.foolbox) else None


@dataclass
class Row:
    task: str
    what: str
    ours: float | None = None
    unit: str = ""
    against: str = ""
    theirs: float | None = None
    ratio: float | None = None
    asked: str = ""
    met: bool | None = None
    note: str = ""
    samples: dict = field(default_factory=dict)


NO_FOOLBOX = "foolbox is not there: scripts/bench --install-foolbox"


def faster(task, what, samples, against, least, note=""):
    """A row of seconds: ours against `against`, at least `least` times faster (None: nothing is asked)."""
    ours = statistics.median(samples["ours"])
    row = Row(task, what, ours, "s", against, note=note, samples={"ours": samples["ours"]})
    if least is not None:
        row.asked = f">= {least} x"
    if against not in samples:
        row.note = NO_FOOLBOX
        return row
    row.samples[against] = samples[against]
    row.theirs = statistics.median(samples[against])
    row.ratio = row.theirs / ours
    if least is not None:
        row.met = row.ratio >= least
    return row


class Task:
    name, title = "", ""
    files = ()  # below data/

    def __init__(self, setting):
        self.setting = setting

    def missing(self):
        absent = [file for file in self.files if not (self.setting.data / file).is_file()]
        if not absent:
            return ""
        return "not there (scripts/test-data makes them): " + ", ".join(f"data/{file}" for file in absent)

    def variants(self):
        raise NotImplementedError

    def rows(self, samples):
        raise NotImplementedError


class Evaluation(Task):
    name, title = "evaluation", "evaluation job: LeNet5 + 3 fixed, ACC, flips, PGD on 1,000"
    fixed = tuple(f"mnist/arachne{run}.pt" for run in (1, 2, 3))
    files = ("mnist/mnist.h5", "mnist/lenet5.pt", *fixed)
    found = None

    def _files(self):
        data = self.setting.data
        return ["--data", data / self.files[0], "--model", data / self.files[1], "--fixed",
                *(data / file for file in self.fixed), "--epsilon", 0.15, "--threads", self.setting.threads]

    def _ours(self):
        out, seconds = programs.run([self.setting.build / "harness", "evaluate", *self._files(), "--no-margin",
                                     "--device", "cpu", "--quiet", "--format", "json"], self.setting.threads)
        value = json.loads(out)
        self.found = {"right": [value["original"]["right"], *(model["right"] for model in value["models"])],
                      "asr": value["mean"]["ASR"]}
        return seconds

    def _baseline(self):
        out, seconds = programs.run([sys.executable, "-m", "bench.baseline", "--architecture", "lenet5",
                                     "--foolbox", self.setting.foolbox, *self._files()], self.setting.threads)
        value = json.loads(out)
        self.expected = {"right": value["right"], "asr": statistics.mean(value["asr"])}
        return seconds

    def variants(self):
        result = {"ours": self._ours}
        if self.setting.foolbox_package:
            result["PyTorch + foolbox"] = self._baseline
        return result

    def rows(self, samples):
        note = ""
        if "PyTorch + foolbox" in samples:
            same = "same" if self.found["right"] == self.expected["right"] else "OTHER"
            note = f"{same} predictions; mean ASR {self.found['asr']:.1f} and {self.expected['asr']:.1f} %"
        return [faster(self.name, self.title, samples, "PyTorch + foolbox", 2.5, note)]


class Attack(Task):
    model, data, architecture, images, epsilon, bounds, least = "", "", "", 0, 0.0, None, None

    @property
    def files(self):
        return (self.model, self.data)

    def _ours(self):
        result = programs.attack(self.setting.build, self.setting.data / self.model, self.inputs, self.epsilon,
                                 self.limits, self.setting.threads)
        self.asr["ours"] = programs.share(result["success"])
        return result["seconds"][0]

    def _theirs(self, label, attack, model):
        flags, seconds = attack(model, self.limits, self.epsilon, self.inputs.x, self.inputs.y)
        self.asr[label] = 100 * float(flags.mean())
        return seconds

    def variants(self):
        file = self.setting.data / self.model
        model, frozen = (reference.eager_model(self.architecture, file) for _ in range(2))
        x, y = reference.read_test_split(self.setting.data / self.data)
        self.limits = self.bounds or (float(x.min()), float(x.max()))
        some = slice(0, 2 * self.images)  # enough, as most of them are right
        x, y = x[some], y[some]
        right = reference.both_correct([model], x, y)
        self.inputs = programs.Inputs(self.setting.folder, self.name, x[right][:self.images].contiguous(),
                                      y[right][:self.images].contiguous())
        self.asr = {}
        result = {"ours": self._ours}
        if self.setting.foolbox_package:
            run = functools.partial(reference.foolbox_attack, self.setting.foolbox_package)
            result["foolbox"] = functools.partial(self._theirs, "foolbox", run, model)
        result["eager loop"] = functools.partial(self._theirs, "eager loop", reference.eager_attack, frozen)
        return result

    def rows(self, samples):
        note = "ASR " + ", ".join(f"{label} {value:.1f} %" for label, value in self.asr.items())
        return [faster(self.name, self.title, samples, "foolbox", self.least, note),
                faster(self.name, "", samples, "eager loop", None, "pieces of 100, no parameter gradients")]


class AttackLeNet5(Attack):
    name, title = "attack-lenet5", "PGD alone: LeNet5, 1,000 images"
    model, data, architecture = "mnist/lenet5.pt", "mnist/mnist.h5", "lenet5"
    images, epsilon, bounds, least = 1000, 0.15, (0.0, 1.0), 2.5


class AttackResNet20(Attack):
    name, title = "attack-resnet20", "PGD alone: ResNet20, 100 images"
    model, data, architecture = "cifar10/resnet20.pt", "cifar10/cifar10.h5", "resnet20"
    images, epsilon, least = 100, 0.031, 1.4


class Overhead(Task):
    """The MNIST run as a whole process. Plain work is what its records say of fixing, predicting and attacking; the
    rest of the process's time is overhead: start, import, checking and saving models, records, tables."""

    name, title = "overhead", "MNIST run: time that is not fix, predict or attack"
    files = ("mnist/mnist.h5", "mnist/lenet5.pt",
             *(f"mnist/{name}{run}.pt" for name in ("apricot", "arachne") for run in (1, 2, 3)))
    work = ("fix", "predict", "predict_original", "attack", "attack_original")

    def _run(self):
        results = self.setting.folder / "overhead"
        shutil.rmtree(results, ignore_errors=True)
        _, seconds = programs.run([self.setting.build / "harness", self.setting.root / "configs" / "mnist.json",
                                   "--results", results, "--threads", self.setting.threads, "--device", "cpu"],
                                  self.setting.threads)
        phases = {}
        for file in (results / "cells").rglob("record.json"):
            for phase, value in json.loads(file.read_text())["phases"].items():
                phases[phase] = phases.get(phase, 0.0) + value
        plain = sum(phases.get(phase, 0.0) for phase in self.work)
        self.parts.append({"process": seconds, "work": plain, **phases})
        return 100 * (seconds - plain) / seconds

    def variants(self):
        self.parts = []
        return {"ours": self._run}

    def rows(self, samples):
        def median(*names):
            return statistics.median(sum(part.get(name, 0.0) for name in names) for part in self.parts)
        percent = statistics.median(samples["ours"])
        named = {"save": median("save"), "reload": median("reload"), "metrics": median("measure")}
        rest = median("process") - median("work") - sum(named.values())
        note = (f"{median('process'):.1f} s, of it plain work {median('work'):.1f}; start, import, records, tables "
                f"{rest:.2f}, " + ", ".join(f"{name} {value:.2f}" for name, value in named.items()))
        return [Row(self.name, self.title, percent, "%", asked="<= 3 %", met=percent <= 3, note=note,
                    samples={"ours": samples["ours"], "parts": self.parts})]


class Search(Task):
    """Candidate evaluations of AR. Where only weights of the last layer change, few products say everything about a
    candidate; else it is a pass through the rest of the network."""

    name, title = "search", "AR on LeNet5: evaluations of last-layer candidates"
    others = "AR on LeNet5: evaluations of other candidates"
    files = ("mnist/mnist.h5", "mnist/lenet5.pt")
    seeds = 10

    def _run(self):
        fixes = programs.fixes(self.setting.build, self.setting.data / self.files[1], self.setting.data / self.files[0],
                               "AR", self.seeds, self.setting.threads)
        self.fixes.append([{"seed": fix["seed"], "last_layer": fix["scalars"]["touched_logits"] == 1,
                            "evaluations": fix["counters"]["evaluations"], "search": fix["phases"]["search"],
                            "fix": fix["seconds"]} for fix in fixes])
        return sum(fix["seconds"] for fix in fixes)

    def variants(self):
        self.fixes = []
        return {"ours": self._run}

    def rows(self, samples):
        rows = []
        for title, last_layer in ((self.title, True), (self.others, False)):
            turns = [[fix for fix in turn if fix["last_layer"] == last_layer] for turn in self.fixes]
            if not turns[0]:
                continue
            rate = statistics.median(sum(fix["evaluations"] for fix in turn) / sum(fix["search"] for fix in turn)
                                     for turn in turns)
            seconds = statistics.median(fix["fix"] for turn in turns for fix in turn)
            note = f"{len(turns[0])} of {self.seeds} seeds; a fix takes {seconds:.2f} s (median)"
            rows.append(Row(self.name, title, rate, "/s", note=note, samples={"fixes": self.fixes}))
        return rows


class Evaluator(Task):
    """Candidates a second that the shared evaluator judges, 20 in a call, against writing their weights into the
    network and running it whole."""

    name, title = "evaluator", "candidates judged"
    subjects = {  # architecture -> (model, data, inputs)
        "lenet5": ("mnist/lenet5.pt", "mnist/mnist.h5", 5000),
        "vgg16": ("cifar10/vgg16.pt", "cifar10/cifar10.h5", 250),
    }

    @property
    def files(self):
        return tuple(file for model, data, _ in self.subjects.values() for file in (model, data))

    def _run(self, architecture):
        model, data, images = self.subjects[architecture]
        self.turns[architecture].append(
            programs.candidates(self.setting.build, self.setting.data / model, self.setting.data / data, images,
                                self.setting.threads))
        return sum(1 / line["many_per_second"] for line in self.turns[architecture][-1])

    def variants(self):
        self.turns = {architecture: [] for architecture in self.subjects}
        return {(architecture, "all edits"): functools.partial(self._run, architecture)
                for architecture in self.subjects}

    def rows(self, samples):
        rows = []
        for architecture, (_, _, images) in self.subjects.items():
            for lines in zip(*self.turns[architecture]):
                def median(key, lines=lines):
                    return statistics.median(line[key] for line in lines)
                note = (f"{lines[0]['way']}; one at a time {median('one_per_second'):,.3g} /s; fitness differs by "
                        f"{max(line['fitness_difference'] for line in lines):.0e}")
                rows.append(Row(self.name, f"{self.title}: {architecture}, {lines[0]['edit']}, {images} inputs",
                                median("many_per_second"), "/s", "write and run whole", median("whole_per_second"),
                                median("many_ratio"), note=note, samples={"turns": lines}))
        return rows


class Predict(Task):
    """Prediction of the first images of a test split: ours reads, normalises and classifies them, PyTorch is given
    normalised batches; torch.compile is warmed up before."""

    name, title = "predict", "prediction"
    least = {"vgg16": 1.15, "resnet18": 1.3}
    subjects = {  # architecture -> (model, data, images)
        "lenet5": ("mnist/lenet5.pt", "mnist/mnist.h5", 5000),
        "facenet": ("utkface/facenet.pt", "utkface/utkface.h5", 1000),
        "vgg16": ("cifar10/vgg16.pt", "cifar10/cifar10.h5", 500),
        "resnet18": ("cifar10s/resnet18.pt", "cifar10s/cifar10s.h5", 500),
        "resnet20": ("cifar10/resnet20.pt", "cifar10/cifar10.h5", 1000),
        "efficientnet_lite0": ("imagenet/efficientnet_lite0.pt", "imagenet/imagenet_lite.h5", 100),
    }

    @property
    def files(self):
        return tuple(file for model, data, _ in self.subjects.values() for file in (model, data))

    def _ours(self, architecture):
        model, data, images = self.subjects[architecture]
        found = programs.predict(self.setting.build, self.setting.data / model, self.setting.data / data, images,
                                 self.setting.threads)
        self.found[architecture] = found
        return statistics.median(found["seconds"])

    def variants(self):
        self.found = {}
        result = {}
        for architecture, (file, data, images) in self.subjects.items():
            model = reference.eager_model(architecture, self.setting.data / file)
            x = reference.read_test_split(self.setting.data / data, images)[0]
            compiled = reference.compiled_model(model, x)
            result[architecture, "ours"] = functools.partial(self._ours, architecture)
            result[architecture, "eager"] = functools.partial(reference.timed_prediction, model, x)
            result[architecture, "torch.compile"] = functools.partial(reference.timed_prediction, compiled, x)
        return result

    def rows(self, samples):
        rows = []
        for architecture, (_, _, images) in self.subjects.items():
            own = {label: samples[architecture, label] for label in ("ours", "eager", "torch.compile")}
            found = self.found[architecture]
            note = f"batch {found['batch']}, {found['other_classes']} of {found['images']} classes differ from unfused"
            rows += [faster(self.name, f"{self.title}: {architecture}, {images} images", own, "eager",
                            self.least.get(architecture), note),
                     faster(self.name, "", own, "torch.compile", None)]
        return rows


TASKS = (Evaluation, AttackLeNet5, AttackResNet20, Overhead, Search, Evaluator, Predict)
