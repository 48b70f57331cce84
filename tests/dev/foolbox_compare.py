"""Development only: our PGD against foolbox 3.3.4 on torch, the random start off, flag by flag.

Needs a built build/bench_attack; foolbox is installed into .cache/foolbox when it is not there. Leaves with code 1
where fewer than 99.9 % of the flags are equal. Seconds are compared by scripts/bench.

    .venv/bin/python tests/dev/foolbox_compare.py lenet5 --model data/mnist/lenet5.pt --data data/mnist/mnist.h5 \\
        --epsilon 0.15 --bounds 0,1 [--logits] [--images 1000]
"""

import argparse
import json
import pathlib
import sys
import tempfile

import numpy
import torch

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "python"))
from bench import programs, reference  # noqa: E402  pylint: disable=wrong-import-position
from common.errors import run_main  # noqa: E402  pylint: disable=wrong-import-position
from export.architectures import ARCHITECTURES  # noqa: E402  pylint: disable=wrong-import-position


def start_gradients(model, x, y):
    """Whether the gradient of the attack's loss at the clean image is exactly zero, per image."""
    flags = []
    for part, labels in zip(x.split(250), y.split(250)):
        point = part.clone().requires_grad_()
        loss = torch.nn.functional.cross_entropy(model(point), labels, reduction="sum")
        flags.append(torch.autograd.grad(loss, point)[0].flatten(1).eq(0).all(1))
    return 100 * float(torch.cat(flags).float().mean())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("architecture", choices=list(ARCHITECTURES))
    parser.add_argument("--model", type=pathlib.Path, required=True, help="exported by scripts/export")
    parser.add_argument("--data", type=pathlib.Path, required=True, help="made by scripts/prepare")
    parser.add_argument("--fixed", type=pathlib.Path, nargs="*", default=[],
                        help="further models of that architecture that must be right, too (both correct)")
    parser.add_argument("--attacked", type=pathlib.Path, help="the model to attack, if it is not --model")
    parser.add_argument("--epsilon", type=float, required=True)
    parser.add_argument("--bounds", help="low,high; default: of the whole test split")
    parser.add_argument("--logits", action="store_true", help="the loss on logits instead of the model's output")
    parser.add_argument("--images", type=int, metavar="N", help="default: all")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--foolbox", type=pathlib.Path, default=ROOT / ".cache" / "foolbox", metavar="DIR")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if not reference.has_foolbox(given.foolbox):
        reference.install_foolbox(given.foolbox)
    foolbox = reference.load_foolbox(given.foolbox)
    x, y = reference.read_test_split(given.data)
    bounds = tuple(map(float, given.bounds.split(","))) if given.bounds else (float(x.min()), float(x.max()))
    files = [given.model, *given.fixed]
    right = reference.both_correct([reference.eager_model(given.architecture, file) for file in files], x, y)
    x, y = (values[right][:given.images].contiguous() for values in (x, y))
    attacked = given.attacked or given.model
    model = reference.eager_model(given.architecture, attacked)
    if given.logits:
        model = reference.Logits(model)
    with tempfile.TemporaryDirectory() as folder:
        inputs = programs.Inputs(pathlib.Path(folder), given.architecture, x, y)
        result = programs.attack(given.build, attacked, inputs, given.epsilon, bounds, given.threads, "--no-start",
                                 *(["--logits"] if given.logits else []))
    ours = numpy.array([flag == "1" for flag in result["success"]])
    theirs = numpy.concatenate([
        reference.foolbox_attack(foolbox, model, bounds, given.epsilon, part, labels, random_start=False)[0]
        for part, labels in zip(x.split(250), y.split(250))])
    equal = 100 * float((ours == theirs).mean())
    print(json.dumps({"images": len(x), "equal_percent": round(equal, 3), "different": int((ours != theirs).sum()),
                      "asr_foolbox": 100 * float(theirs.mean()), "asr_ours": 100 * float(ours.mean()),
                      "zero_gradient_torch": start_gradients(model, x, y),
                      "zero_gradient_ours": programs.share(result["zero_gradient"])}))
    return 0 if equal >= 99.9 else 1


if __name__ == "__main__":
    run_main(main)
