"""Development only: the linear programs of approaches/lp against an independent solver, SciPy's HiGHS. Random programs
(feasible, infeasible, unbounded), least changes of random last layers against the textbook form of the program
in approaches/docs/3M.md, Formulas, and of a subject's last layer for all faults of its repair split.

Needs SciPy, a compiler and a build. Leaves with code 1 where an outcome or an optimum (relatively by 1e-6) differs.

    .venv/bin/python tests/dev/lp_compare.py [--instances 200] [--architecture lenet5 --model data/mnist/lenet5.pt \\
        --data data/mnist/mnist.h5]
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import h5py
import numpy
import torch
from scipy.optimize import linprog
from scipy.sparse import coo_matrix

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "python"))
from common.errors import run_main  # noqa: E402  pylint: disable=wrong-import-position
from export.architectures import ARCHITECTURES  # noqa: E402  pylint: disable=wrong-import-position

TOLERANCE = 1e-6
OUTCOMES = {0: "optimal", 2: "infeasible", 3: "unbounded"}


def build_solver(build, folder):
    program = folder / "lp_solve"
    libraries = ["Cbc", "Cgl", "OsiClp", "Osi", "Clp", "CoinUtils"]
    subprocess.run(["c++", "-std=c++20", "-O2", f"-I{ROOT}", str(ROOT / "tests/dev/lp_solve.cpp"), "-o", str(program),
                    f"{build}/layers/libharness_lp.a", f"{build}/layers/libharness_core.a"]
                   + [f"-l{name}" for name in libraries], check=True)
    return program


def ask(program, texts):
    answer = subprocess.run([program], input="\n".join(texts), capture_output=True, text=True, check=True)
    return [json.loads(line) for line in answer.stdout.splitlines()]


def text_of(*arrays):
    return " ".join(" ".join(repr(float(v)) for v in numpy.ravel(a)) for a in arrays)


def random_program(rng):
    columns, rows = int(rng.integers(2, 40)), int(rng.integers(2, 60))
    sense = float(rng.choice([1, -1]))
    matrix = rng.normal(size=(rows, columns)) * (rng.random((rows, columns)) < rng.choice([0.2, 1.0]))
    inside = rng.normal(size=columns)
    low = numpy.where(rng.random(columns) < 0.3, -numpy.inf, inside - rng.random(columns))
    high = numpy.where(rng.random(columns) < 0.3, numpy.inf, inside + rng.random(columns))
    at = matrix @ inside + (rng.normal(size=rows) * 2 if rng.random() < 0.3 else 0)  # else feasible
    row_low = numpy.where(rng.random(rows) < 0.3, -numpy.inf, at - rng.random(rows))
    row_high = numpy.where(rng.random(rows) < 0.5, numpy.inf, at + rng.random(rows))
    return sense, rng.normal(size=columns), low, high, row_low, row_high, matrix


def reference(sense, cost, low, high, row_low, row_high, matrix):
    """HiGHS: outcome and optimum. It may say "infeasible or unbounded"; then the zero objective decides."""
    with_high, with_low = numpy.isfinite(row_high), numpy.isfinite(row_low)
    a = numpy.vstack([matrix[with_high], -matrix[with_low]])
    b = numpy.concatenate([row_high[with_high], -row_low[with_low]])
    bounds = list(zip(low, high))
    found = linprog(sense * cost, A_ub=a, b_ub=b, bounds=bounds, method="highs")
    if found.status not in OUTCOMES or found.status == 2:
        feasible = linprog(0 * cost, A_ub=a, b_ub=b, bounds=bounds, method="highs").status == 0
        return ("unbounded" if feasible else "infeasible"), None
    return OUTCOMES[found.status], sense * found.fun if found.status == 0 else None


def textbook_change(phi, logits, labels, margin, norm, method="highs"):
    """min eps, |D| <= eps (or sum |D|), every other class at least `margin` below the label: no homogenising, no
    row generation, no leaving out of features or classes."""
    points, features = phi.shape
    classes = logits.shape[1]
    weights = classes * features
    rows, columns, values, bound = [], [], [], []
    for k in range(points):
        for j in range(classes):
            if j == labels[k]:
                continue
            row = len(bound)
            for c, sign in ((labels[k], -1), (j, 1)):
                rows += [row] * features
                columns += range(c * features, (c + 1) * features)
                values += list(sign * phi[k])
            bound.append(logits[k, labels[k]] - logits[k, j] - margin)
    first = len(bound)
    for w in range(weights):  # |D| below its size: the common eps, or one of its own
        size = weights if norm == "linf" else weights + w
        for sign in (1, -1):
            rows += [first, first]
            columns += [w, size]
            values += [sign, -1]
            bound.append(0)
            first += 1
    sizes = 1 if norm == "linf" else weights
    matrix = coo_matrix((values, (rows, columns)), shape=(len(bound), weights + sizes)).tocsr()
    cost = numpy.concatenate([numpy.zeros(weights), numpy.ones(sizes)])
    start = time.process_time()
    found = linprog(cost, A_ub=matrix, b_ub=bound, bounds=[(None, None)] * (weights + sizes), method=method)
    return OUTCOMES.get(found.status, found.message), found.fun, time.process_time() - start


def change_text(phi, logits, labels, margin, norm):
    points, features = phi.shape
    return "change " + text_of([0 if norm == "linf" else 1, features, logits.shape[1], points, margin], phi, logits,
                               labels)


def last_layer(architecture, model, data):
    """Inputs, logits (double) and labels of the last layer at all faults of the repair split."""
    network = ARCHITECTURES[architecture][0]().eval()
    network.load_state_dict(torch.jit.load(model, map_location="cpu").state_dict())
    head = [layer for layer in network.modules() if isinstance(layer, torch.nn.Linear)][-1]
    seen = []
    head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with h5py.File(data) as file:
        shape = (1, -1, 1, 1)
        images = torch.tensor(file["repair/images"][:]).float() / float(file.attrs["divisor"])
        images -= torch.tensor(numpy.array(file.attrs["mean"], "float32")).view(shape)
        images /= torch.tensor(numpy.array(file.attrs["std"], "float32")).view(shape)
        labels = file["repair/labels"][:].astype(int)
    with torch.no_grad():
        said = torch.cat([network(part).argmax(1) for part in images.split(500)]).numpy()
        phi = torch.cat(seen).double()[said != labels]
        logits = torch.nn.functional.linear(phi, head.weight.double(), head.bias.double())
    return phi.numpy(), logits.numpy(), labels[said != labels]


def random_layer(rng):
    features, classes, points = int(rng.integers(4, 60)), int(rng.integers(2, 8)), int(rng.integers(1, 12))
    phi = numpy.maximum(0, rng.normal(size=(points, features)))
    logits = phi @ rng.normal(size=(classes, features)).T
    return phi, logits, rng.integers(0, classes, points)


class Comparison:
    def __init__(self):
        self.count, self.doubtful, self.worst, self.wrong = {}, 0, 0.0, []

    def add(self, name, expected, optimum, answer):
        self.count[expected] = self.count.get(expected, 0) + 1
        if answer["outcome"] == "numerically doubtful":
            self.doubtful += 1
        elif answer["outcome"] != expected:
            self.wrong.append(f"{name}: {answer['outcome']}, HiGHS {expected}")
        elif expected == "optimal":
            difference = abs(answer["value"] - optimum) / max(1e-3, abs(optimum))
            self.worst = max(self.worst, difference)
            if difference > TOLERANCE:
                self.wrong.append(f"{name}: {answer['value']!r}, HiGHS {optimum!r}")

    def print(self, title):
        print(f"{title}: {self.count}, doubtful {self.doubtful}, greatest relative difference {self.worst:.1e}, "
              f"disagreeing {len(self.wrong)}", flush=True)
        for line in self.wrong:
            print(f"  {line}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--instances", type=int, default=200)
    parser.add_argument("--architecture", default="lenet5", choices=list(ARCHITECTURES))
    parser.add_argument("--model", type=pathlib.Path, help="exported by scripts/export; with --data")
    parser.add_argument("--data", type=pathlib.Path, help="made by scripts/prepare")
    options = parser.parse_args()
    programs, changes, subject = Comparison(), Comparison(), Comparison()
    with tempfile.TemporaryDirectory() as folder:
        solver = build_solver(options.build, pathlib.Path(folder))
        rng = numpy.random.default_rng(1)
        given = [random_program(rng) for _ in range(options.instances)]
        texts = ["lp " + text_of([p[0], len(p[1]), len(p[4])], *p[1:]) for p in given]
        for number, (program, answer) in enumerate(zip(given, ask(solver, texts))):
            programs.add(f"program {number}", *reference(*program), answer)
        programs.print("random programs")
        layers = [(*random_layer(rng), 1e-3, norm) for _ in range(options.instances) for norm in ("linf", "l1")]
        answers = ask(solver, [change_text(*layer) for layer in layers])
        for number, (layer, answer) in enumerate(zip(layers, answers)):
            changes.add(f"layer {number}", *textbook_change(*layer)[:2], answer)
        changes.print("least changes of random layers")
        if options.model:
            phi, logits, labels = last_layer(options.architecture, options.model, options.data)
            for norm in ("linf", "l1"):
                answer = ask(solver, [change_text(phi, logits, labels, 1e-3, norm)])[0]
                status, optimum, seconds = textbook_change(phi, logits, labels, 1e-3, norm, "highs-ipm")
                subject.add(norm, status, optimum, answer)
                print(f"{norm}, {len(labels)} faults: {answer}; HiGHS {optimum!r} in {seconds:.2f} CPU s", flush=True)
            subject.print("least changes of the subject")
    return 1 if programs.wrong or changes.wrong or subject.wrong else 0


if __name__ == "__main__":
    run_main(main)
