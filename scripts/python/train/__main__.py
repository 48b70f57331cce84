"""scripts/train: the network of one of the study's subjects, trained on the train split of its data file."""

import argparse
import json
import os
import pathlib
import sys

import torch

from common.errors import UserError, run_main
from prepare.progress import roughly
from train import data, recipes
from train.loop import Training, generator
from train.progress import Progress
from train.store import Store

SAMPLE = 5000  # images of the train split whose accuracy is told


def whole_number(option, text, least, most):
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if not least <= number <= most:
        raise UserError(option, found=f'"{text}"', expected=f"a whole number, {least} to {most}")
    return number


def parse_arguments():
    parser = argparse.ArgumentParser(
        prog="scripts/train", description="Trains the network of a subject and keeps the model of every epoch: "
        "DIR/history/epoch_01.pt and so on, DIR/<architecture>.pt and, for the harness, DIR/subject.json. The same "
        "command on the same machine gives the same weights; one that was interrupted goes on where it was. One line "
        "of JSON on standard output says what came out.")
    parser.add_argument("subject", metavar="SUBJECT", help=", ".join(recipes.RECIPES))
    parser.add_argument("--data", type=pathlib.Path, metavar="FILE.h5", help="default: data/SUBJECT/SUBJECT.h5")
    parser.add_argument("--out", type=pathlib.Path, metavar="DIR", help="default: data/SUBJECT")
    parser.add_argument("--epochs", metavar="N", help="default: the recipe's")
    parser.add_argument("--seed", default="0", metavar="S", help="of weights, order, augmentation, dropout (default 0)")
    parser.add_argument("--threads", metavar="N", help="default: one per core")
    parser.add_argument("--device", default="auto", metavar="auto|cpu|cuda", help="default: auto, a GPU if any")
    parser.add_argument("--restart", action="store_true", help="start over, whatever DIR holds")
    given = parser.parse_args()
    epochs = None if given.epochs is None else whole_number("--epochs", given.epochs, 1, 1000)
    given.recipe = recipes.recipe_for(given.subject, epochs)
    given.seed = whole_number("--seed", given.seed, 0, 2 ** 63 - 1)
    cores = len(os.sched_getaffinity(0))
    given.threads = cores if given.threads is None else whole_number("--threads", given.threads, 1, 1024)
    given.data = given.data or pathlib.Path("data", given.subject, f"{given.subject}.h5")
    given.out = given.out or pathlib.Path("data", given.subject)
    return given


def choose_device(name):
    if name not in ("auto", "cpu", "cuda"):
        raise UserError("--device", found=f'"{name}"', expected="auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device", found="cuda, but PyTorch sees no GPU here", expected="a GPU", remedy="cpu, or auto")
    return torch.device("cpu" if name == "cpu" or not torch.cuda.is_available() else "cuda")


def make_repeatable(threads):
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is repeatable only with a fixed workspace
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False


def accuracies(training, file, train, seed):
    """Per split that is there the number of right images; of the train split, on a sample."""
    numbers = torch.randperm(len(train), generator=generator(seed, "sample"))[:SAMPLE]
    counts = {"train_sample": (training.right(train.part(numbers)), len(numbers))}
    for split in ("validation", "repair", "test"):
        if file.has(split):
            pieces = [(training.right(piece), len(piece)) for piece in file.slabs(split)]
            counts[split] = tuple(map(sum, zip(*pieces)))
    return {split: {"right": right, "images": images, "percent": round(100 * right / images, 2)}
            for split, (right, images) in counts.items()}


def train_all(training, store, images, recipe):
    progress = Progress(recipe.subject, recipe.epochs)
    if training.epoch:
        progress.say(f"{recipe.subject}: {training.epoch} of {recipe.epochs} epochs were done before")
    while training.epoch < recipe.epochs:
        training.run_epoch(images, progress)
        store.keep(training)
        progress.say(f"{recipe.subject}: epoch {training.epoch}/{recipe.epochs} done, mean loss {training.loss:.4f}, "
                     f"{roughly(training.seconds)} so far")
    progress.say(f"{recipe.subject}: counting right images")


def main():
    given = parse_arguments()
    recipe, device = given.recipe, choose_device(given.device)
    make_repeatable(given.threads)
    training = Training(recipe, given.seed, device)
    classes = list(training.model.modules())[-1].out_features
    with data.opened(given.data, recipe, classes) as file:
        images = file.whole("train")
        machine = {"device": device.type, "threads": given.threads, "torch": str(torch.__version__)}
        store = Store(given.out, recipe, given.seed, images.digest(), machine)
        store.begin(training, given.restart)
        train_all(training, store, images, recipe)
        accuracy = accuracies(training, file, images, given.seed)
    files = store.finish(given.data, given.seed)
    print(json.dumps({"subject": recipe.subject, "architecture": recipe.architecture, "epochs": recipe.epochs,
                      "seed": given.seed, **machine, "seconds": round(training.seconds, 1), "loss": training.loss,
                      "accuracy": accuracy, "files": [str(path) for path in files]}), file=sys.stdout)
    return 0


if __name__ == "__main__":
    run_main(main)
