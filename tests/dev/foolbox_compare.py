"""Development only: our PGD against foolbox 3.3.4 on torch, flag by flag and in seconds.

Needs a built build/bench_attack, and a Python with torch and h5py; foolbox is installed into a folder of its
own when it is not there. Flags are compared with the random start off, seconds with it on.

    python tests/dev/foolbox_compare.py lenet5 --model data/mnist/lenet5.pt --data data/mnist/mnist.h5 \\
        --epsilon 0.15 --bounds 0,1 --flags 0 --time 1000
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import h5py
import numpy
import torch

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "python"))
from export.architectures import ARCHITECTURES  # noqa: E402  pylint: disable=wrong-import-position

VERSION = "3.3.4"
STEPS, RELATIVE_STEP = 40, 0.01 / 0.3


def load_foolbox(folder):
    sys.path.append(str(folder))  # at the end: the interpreter's own numpy goes first
    try:
        import foolbox  # pylint: disable=import-outside-toplevel
    except ImportError:
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder),
                        f"foolbox=={VERSION}"], check=True)
        import foolbox  # pylint: disable=import-outside-toplevel
    if foolbox.__version__ != VERSION:
        sys.exit(f"foolbox {foolbox.__version__} is installed, {VERSION} is needed")
    return foolbox


def read_test_split(file):
    with h5py.File(file) as data:
        attributes = data.attrs
        images = data["test/images"][:].astype(numpy.float32)
        mean, std = (numpy.asarray(attributes[name], numpy.float32).reshape(-1, 1, 1) for name in ("mean", "std"))
        x = (images / numpy.float32(attributes["divisor"]) - mean) / std
        return torch.from_numpy(x), torch.from_numpy(data["test/labels"][:].astype(numpy.int64))


def eager_model(name, file):
    """The network as plain modules, as the study's baseline would run it, with the exported file's weights."""
    model = ARCHITECTURES[name][0]()
    model.load_state_dict(torch.jit.load(str(file)).state_dict())
    return model.eval()


class Ours:
    """bench_attack on one set of inputs."""

    def __init__(self, arguments, folder, bounds, x, y):
        self.command = [str(arguments.bench), "--model", str(arguments.model), "--epsilon", str(arguments.epsilon),
                        "--low", repr(bounds[0]), "--high", repr(bounds[1]), "--threads", str(arguments.threads),
                        "--inputs", str(folder / "inputs"), "--labels", str(folder / "labels"),
                        "--shape", ",".join(map(str, x.shape))]
        x.numpy().tofile(folder / "inputs")
        y.numpy().tofile(folder / "labels")

    def __call__(self, *options):
        done = subprocess.run(self.command + list(options), check=True, capture_output=True, text=True)
        result = json.loads(done.stdout)
        flags = numpy.array([flag == "1" for flag in result["success"]])
        return flags, result["seconds"][-1]


def foolbox_attack(foolbox, model, bounds, epsilon, x, y, random_start):
    attack = foolbox.attacks.LinfProjectedGradientDescentAttack(rel_stepsize=RELATIVE_STEP, steps=STEPS,
                                                                random_start=random_start)
    start = time.perf_counter()
    _, _, success = attack(foolbox.PyTorchModel(model, bounds=bounds), x, y, epsilons=epsilon)
    return success.numpy(), time.perf_counter() - start


def eager_attack(model, bounds, epsilon, x, y, piece=100):
    """The tightest loop plain PyTorch allows: no parameter gradients, pieces that fit the caches."""
    start = time.perf_counter()
    flags = []
    for begin in range(0, len(x), piece):
        x0, labels = x[begin:begin + piece], y[begin:begin + piece]
        point = (x0 + torch.empty_like(x0).uniform_(-epsilon, epsilon)).clamp_(*bounds)
        for _ in range(STEPS):
            point.requires_grad_()
            loss = torch.nn.functional.cross_entropy(model(point), labels, reduction="sum")
            gradient, = torch.autograd.grad(loss, point)
            with torch.no_grad():
                point = point + (epsilon * RELATIVE_STEP) * gradient.sign_()
                point = (x0 + (point - x0).clamp_(-epsilon, epsilon)).clamp_(*bounds)
        with torch.no_grad():
            flags.append(model(point).argmax(1) != labels)
    return torch.cat(flags).numpy(), time.perf_counter() - start


def compare_flags(arguments, foolbox, model, bounds, x, y, folder):
    ours, _ = Ours(arguments, folder, bounds, x, y)("--no-start")
    theirs = numpy.concatenate([
        foolbox_attack(foolbox, model, bounds, arguments.epsilon, part, labels, False)[0]
        for part, labels in zip(x.split(250), y.split(250))])
    equal = 100 * float((ours == theirs).mean())
    print(json.dumps({"images": len(x), "equal_percent": equal, "different": int((ours != theirs).sum()),
                      "asr_foolbox": 100 * float(theirs.mean()), "asr_ours": 100 * float(ours.mean())}))
    return equal >= 99.9


def compare_seconds(arguments, foolbox, model, bounds, x, y, folder):
    ours = Ours(arguments, folder, bounds, x, y)
    frozen = eager_model(arguments.architecture, arguments.model).requires_grad_(False)
    seconds = {"foolbox": [], "ours": [], "eager": []}
    asr = {}
    for _ in range(arguments.rounds):
        for name, run in (("foolbox", lambda: foolbox_attack(foolbox, model, bounds, arguments.epsilon, x, y, True)),
                          ("ours", ours),
                          ("eager", lambda: eager_attack(frozen, bounds, arguments.epsilon, x, y))):
            flags, took = run()
            seconds[name].append(took)
            asr[name] = 100 * float(flags.mean())
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(json.dumps({"images": len(x), "threads": arguments.threads, "median_seconds": medians, "asr": asr,
                      "times_foolbox": medians["foolbox"] / medians["ours"],
                      "times_eager": medians["eager"] / medians["ours"], "seconds": seconds}))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("architecture", choices=list(ARCHITECTURES))
    parser.add_argument("--model", type=pathlib.Path, required=True, help="exported by scripts/export")
    parser.add_argument("--data", type=pathlib.Path, required=True, help="made by scripts/prepare")
    parser.add_argument("--fixed", type=pathlib.Path, nargs="*", default=[],
                        help="further models of that architecture that must be right, too (both correct)")
    parser.add_argument("--epsilon", type=float, required=True)
    parser.add_argument("--bounds", help="low,high; default: of the whole test split")
    parser.add_argument("--flags", type=int, metavar="N", help="compare flags of N images, 0: all")
    parser.add_argument("--time", type=int, metavar="N", help="compare seconds on N images")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--bench", type=pathlib.Path, default=ROOT / "build" / "bench_attack")
    parser.add_argument("--packages", type=pathlib.Path, default=ROOT / "build" / "foolbox")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    foolbox = load_foolbox(arguments.packages)
    x, y = read_test_split(arguments.data)
    if arguments.bounds:
        bounds = tuple(float(number) for number in arguments.bounds.split(","))
    else:
        bounds = (float(x.min()), float(x.max()))
    model = eager_model(arguments.architecture, arguments.model)
    right = torch.ones(len(y), dtype=torch.bool)
    with torch.no_grad():
        for each in [model] + [eager_model(arguments.architecture, file) for file in arguments.fixed]:
            right &= torch.cat([each(part).argmax(1) for part in x.split(250)]) == y
    x, y = x[right].contiguous(), y[right].contiguous()
    good = True
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        if arguments.flags is not None:
            count = arguments.flags or len(x)
            good = compare_flags(arguments, foolbox, model, bounds, x[:count], y[:count], folder)
        if arguments.time:
            compare_seconds(arguments, foolbox, model, bounds, x[:arguments.time], y[:arguments.time], folder)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
