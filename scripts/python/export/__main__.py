"""scripts/export: a known architecture with its weights, or anyone's own network, to TorchScript."""

import argparse
import importlib.util
import pathlib
import sys

import torch

from common.errors import UserError, nearest, note, one_line, run_main
from common.files import existing_file
from export import packaged, torchscript, weights
from export.architectures import ARCHITECTURES, randomise

NAMES = [*ARCHITECTURES, *packaged.PACKAGES]


def parse_shape(text):
    try:
        shape = tuple(int(number) for number in text.split(","))
    except ValueError:
        shape = ()
    if len(shape) != 4 or min(shape) < 1:
        raise UserError("--shape", found=f'"{text}"', expected="N,C,H,W: four numbers above 0, such as 1,3,32,32")
    return shape


def from_factory(text):
    """The network that FUNCTION of FILE.py returns, called without arguments."""
    name, colon, function = text.rpartition(":")
    if not colon or not name or not function:
        raise UserError("--factory", found=f'"{text}"', expected="FILE.py:FUNCTION")
    path = existing_file(name, "a Python file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None:
        raise UserError(path, found="a file Python cannot import", expected="a Python file (.py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # TorchScript looks the source of its classes up there
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
        if not callable(getattr(module, function, None)):
            names = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
            raise UserError(path, function, "nothing callable of that name", "a function without arguments",
                            nearest(function, names))
        model = getattr(module, function)()
    except UserError:
        raise
    except Exception as error:  # whatever the user's own code raises is the user's to mend
        raise UserError(path, function, f"{type(error).__name__}: {one_line(error)}", "a function that runs") from error
    if not isinstance(model, torch.nn.Module):
        raise UserError(path, function, f"a function that returns {type(model).__name__}", "a torch.nn.Module")
    return unwrapped(model, text)


def unwrapped(model, what):
    """The network inside what torch.compile or DataParallel put around it, which TorchScript does not know."""
    inner = model
    while hasattr(inner, "_orig_mod") or isinstance(inner, torch.nn.DataParallel):
        inner = inner._orig_mod if hasattr(inner, "_orig_mod") else inner.module
    if inner is not model:
        note(f"{what}: the network inside {type(model).__name__} is exported")
    return inner


def parse_arguments():
    parser = argparse.ArgumentParser(
        prog="scripts/export", usage="scripts/export ARCHITECTURE --weights FILE --out FILE.pt [--traced]\n"
        "       scripts/export efficientnet_lite0 [--weights FILE] --out FILE.pt\n"
        "       scripts/export --factory FILE.py:FUNCTION --weights FILE --shape N,C,H,W --out FILE.pt [--traced]",
        description="Writes a network with its weights as TorchScript, loads the file again and compares.")
    parser.add_argument("architecture", nargs="?", metavar="ARCHITECTURE", help=", ".join(NAMES)
                        + " (the last from Python packages, with their weights; always traced)")
    parser.add_argument("--factory", metavar="FILE.py:FUNCTION", help="function that returns one's own torch.nn.Module")
    parser.add_argument("--shape", metavar="N,C,H,W", help="shape of an input (with --factory)")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--weights", type=pathlib.Path, metavar="FILE", help=weights.KINDS)
    source.add_argument("--random", type=int, metavar="SEED", help="random weights instead, for trials")
    parser.add_argument("--key", metavar="NAME", help="which of several sets of weights in the file, such as ema")
    parser.add_argument("--trust-pickle", action="store_true", help="load a --weights file that holds more than "
                        "tensors: this runs whatever code the file holds")
    parser.add_argument("--out", type=pathlib.Path, required=True, metavar="FILE.pt")
    parser.add_argument("--traced", action="store_true", help="record one execution instead of compiling the source "
                        "(done anyway, and said, where TorchScript cannot compile it)")
    given = parser.parse_args()
    if (given.architecture is None) == (given.factory is None):
        parser.error("give either an ARCHITECTURE or --factory")
    if (given.factory is None) != (given.shape is None):
        parser.error("--shape goes with --factory, and --factory needs it")
    if given.weights is None and (given.key is not None or given.trust_pickle):
        parser.error("--key and --trust-pickle go with --weights")
    needs_source = given.factory is not None or given.architecture in ARCHITECTURES  # an unknown name is said later
    if needs_source and given.weights is None and given.random is None:
        parser.error("one of --weights and --random is needed")
    return given


def known(name):
    """Shape of an image, network, and whether it can only be traced."""
    if name in packaged.PACKAGES:
        return packaged.IMAGES[name], packaged.make(name), True
    if name not in ARCHITECTURES:
        raise UserError("scripts/export", "ARCHITECTURE", f'"{name}"', "one of " + ", ".join(NAMES),
                        nearest(name, NAMES))
    make, image = ARCHITECTURES[name]
    return image, make(), False


def main():
    given = parse_arguments()
    torch.set_num_threads(1)  # a few images: threads would only wait for each other
    if given.factory is not None:
        shape, what, model = parse_shape(given.shape), given.factory, from_factory(given.factory)
    else:
        what = given.architecture
        image, model, only_traced = known(what)
        shape = (2, *image)
        given.traced = given.traced or only_traced
    unwrapping = ""
    if given.random is not None:
        randomise(model, given.random)
    else:
        unwrapping = weights.load(given.weights or packaged.weights_file(what), model, given.architecture, given.key,
                                  given.trust_pickle)
    line = torchscript.export(model, shape, given.out, given.traced, what).line(what)
    print(line + (f"; weights {unwrapping}" if unwrapping else ""))
    return 0


if __name__ == "__main__":
    run_main(main)
