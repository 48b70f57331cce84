"""scripts/prepare: one command for public data sets, image folders and arrays."""

import argparse
import importlib
import pathlib
import sys

from common.errors import UserError, nearest, run_main

PUBLIC = ("digits", "mnist", "cifar10", "cifar10s", "utkface", "imagenet")
OWN = ("images", "npz", "h5")

HELP = f"""usage: scripts/prepare NAME --source DIR --out FILE.h5 [--no-checksum]     NAME: {", ".join(PUBLIC)}
       scripts/prepare images --source DIR|TABLE.csv --out FILE.h5 [options]         one's own images
       scripts/prepare npz --source FILE.npz|FILE.npy|DIR --out FILE.h5 [options]    one's own arrays
       scripts/prepare h5 --source FILE.h5 --out FILE.h5 [options]                   one's own HDF5 file of any layout

Brings a data set into the HDF5 layout that build/harness reads. A public data set is read from the files its
home page distributes (digits needs none); what is missing is named. utkface and imagenet take the size of the
images, their constants and how many processes read them; images, npz and h5 also how to split and number
the classes. For each: scripts/prepare NAME --help."""


def prepare_public(name, arguments):
    module = importlib.import_module(f"prepare.{name}")
    parser = argparse.ArgumentParser(prog=f"scripts/prepare {name}", description=module.__doc__)
    parser.add_argument("--source", type=pathlib.Path, metavar="DIR", required=module.NEEDS_SOURCE,
                        help="folder with the files as distributed")
    parser.add_argument("--out", type=pathlib.Path, metavar="FILE.h5", required=True)
    parser.add_argument("--no-checksum", action="store_true", help="use files whose checksum is not the published one")
    if hasattr(module, "add_options"):
        module.add_options(parser)
    given = vars(parser.parse_args(arguments))
    module.prepare(given.pop("source"), given.pop("out"), not given.pop("no_checksum"), **given)


def main():
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(HELP)
        return 0 if len(sys.argv) > 1 else 2
    name, arguments = sys.argv[1], sys.argv[2:]
    if name in PUBLIC:
        prepare_public(name, arguments)
    elif name in OWN:
        importlib.import_module(f"prepare.{name}").main(arguments)
    else:
        raise UserError("scripts/prepare", "NAME", f'"{name}"', "one of " + ", ".join(PUBLIC + OWN),
                        nearest(name, PUBLIC + OWN))
    return 0


run_main(main)
