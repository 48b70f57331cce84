"""The model files of the tests, made in one process because loading torch is what takes the time.

--random: DIR/random/NAME_{scripted,traced}.pt of every architecture. --real SHARED: the study's LeNet5 models,
the CIFAR-10 residual networks and the other subjects' networks from the folder of real data.
"""

import argparse
import pathlib
import sys

from common.errors import run_main
from export import packaged

SOURCES = [pathlib.Path(__file__), *(pathlib.Path(__file__).parent / "export").glob("*.py")]
FIXED = [(approach, run) for approach in ("apricot", "arachne") for run in (1, 2, 3)]
TRAINED = [("utkface", "facenet"), ("cifar10", "vgg16"), ("cifar10s", "resnet18")]
PACKAGED = "efficientnet_lite0"


def jobs(given):
    """[(output, architecture, weights or None for random ones, traced)]"""
    wanted = []
    if given.random:
        names = ("lenet5", "resnet20", "resnet32", "resnet44", "resnet56", "vgg16", "resnet18", "facenet", "densenet121")
        wanted += [(given.out / "random" / f"{name}_{'traced' if traced else 'scripted'}.pt", name, None, traced)
                   for name in names for traced in (False, True)]
    if given.real is not None:
        models, resnets = given.real / "study_models", given.real / "weights"
        wanted.append((given.out / "mnist" / "lenet5.pt", "lenet5", models / "lenet5_ori_model.h5", False))
        wanted += [(given.out / "mnist" / f"{approach}{run}.pt", "lenet5",
                    models / f"{approach}_mnist_lenet5_fixed_model{run}.h5", False) for approach, run in FIXED]
        for file in sorted(resnets.glob("cifar10_resnet*.safetensors")):
            name = file.name.split("_")[1].split("-")[0]
            wanted += [(given.out / "cifar10" / f"{name}.pt", name, file, False),
                       (given.out / "cifar10" / f"{name}_traced.pt", name, file, True)]
        wanted += [(given.out / subject / f"{name}.pt", name,
                    given.real / "trained" / f"{subject}_{name}.safetensors", False) for subject, name in TRAINED]
        if packaged.missing(PACKAGED):
            print(f"== models: without {PACKAGED}, whose Python packages are not installed: "
                  f"{' '.join(packaged.missing(PACKAGED))} (scripts/setup --test-data)", file=sys.stderr)
        else:
            wanted.append((given.out / "imagenet" / f"{PACKAGED}.pt", PACKAGED, packaged.weights_file(PACKAGED), True))
    return wanted


def up_to_date(out):
    return out.is_file() and all(out.stat().st_mtime >= source.stat().st_mtime for source in SOURCES)


def main():
    parser = argparse.ArgumentParser(prog="test_models", description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, required=True, metavar="DIR")
    parser.add_argument("--random", action="store_true")
    parser.add_argument("--real", type=pathlib.Path, metavar="SHARED")
    wanted = [job for job in jobs(parser.parse_args()) if not up_to_date(job[0])]
    if not wanted:
        return 0
    print(f"== models: writing {len(wanted)} files for the tests", file=sys.stderr)
    import torch  # only now: it takes seconds
    from export import torchscript, weights
    from export.architectures import ARCHITECTURES, randomise
    torch.set_num_threads(1)
    for out, name, file, traced in wanted:
        image = packaged.IMAGES[name] if name == PACKAGED else ARCHITECTURES[name][1]
        model = packaged.make(name) if name == PACKAGED else ARCHITECTURES[name][0]()
        if file is None:
            randomise(model, 1)
        else:
            weights.load(file, model, name)
        print(torchscript.export(model, (2, *image), out, traced, name).line(name))
    return 0


if __name__ == "__main__":
    run_main(main)
