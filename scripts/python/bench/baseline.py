"""The evaluation job as it is written with PyTorch and foolbox: what scripts/bench starts as a whole process.

Accuracy and flips of fixed models on the test split, and PGD on a random sample of the images that all models
get right; prints JSON.
"""

import argparse
import json
import pathlib

import torch

from bench import reference
from common.errors import run_main


def main():
    parser = argparse.ArgumentParser(prog="bench.baseline", description=__doc__)
    parser.add_argument("--architecture", required=True)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--fixed", type=pathlib.Path, nargs="+", required=True)
    parser.add_argument("--epsilon", type=float, required=True)
    parser.add_argument("--sample", type=int, default=1000)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--foolbox", type=pathlib.Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    foolbox = reference.load_foolbox(given.foolbox)
    models = [reference.eager_model(given.architecture, file) for file in (given.model, *given.fixed)]
    x, y = reference.read_test_split(given.data)
    right = [reference.classify(model, x) == y for model in models]
    torch.manual_seed(42)
    both = torch.stack(right).all(0).nonzero().squeeze(1)
    sample = both[torch.randperm(len(both))[:given.sample]]
    bounds = (float(x.min()), float(x.max()))
    asr = [100 * float(reference.foolbox_attack(foolbox, model, bounds, given.epsilon, x[sample], y[sample])[0].mean())
           for model in models]
    print(json.dumps({"right": [int(flags.sum()) for flags in right],
                      "repaired": [int((flags & ~right[0]).sum()) for flags in right[1:]],
                      "broken": [int((right[0] & ~flags).sum()) for flags in right[1:]],
                      "asr_original": asr[0], "asr": asr[1:]}))
    return 0


if __name__ == "__main__":
    run_main(main)
