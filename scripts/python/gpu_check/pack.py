"""Packs programs, the libraries they need, data and Python code into one folder."""

import dataclasses
import json
import pathlib
import re
import shutil
import subprocess
import sys

from common.errors import UserError
from gpu_check import node

ROOT = pathlib.Path(__file__).resolve().parents[3]
PROGRAMS = ("harness", "bench_import", "bench_approach", "bench_attack")
# Modules that run on the node: Python's own library is all they need.
MODULES = ("common/__init__.py", "common/errors.py", *(f"gpu_check/{name}.py" for name in (
    "__init__", "__main__", "table", "brief", "trees", "node", "checks")))
SYSTEM = ("linux-vdso", "ld-linux", "libc.so", "libm.so", "libdl.so", "libpthread.so", "librt.so", "libresolv.so",
          "libutil.so", "libnsl.so", "libanl.so")  # the C library: it goes with the system's kernel and loader
RUNTIME = ("libstdc++.so", "libgcc_s.so")  # packed apart, for systems whose own is older
DRIVER = ("libcuda.so", "libnvidia")
MOST_MEGABYTES = 60


@dataclasses.dataclass(frozen=True)
class Library:
    name: str
    path: pathlib.Path
    kind: str  # pack, runtime


def parse_ldd(text):
    """[(name, path or None)] of ldd's lines."""
    found = []
    for line in text.splitlines():
        match = re.match(r"\s*(\S+) => (not found|\S+)", line)
        if match:
            found.append((match.group(1), None if match.group(2) == "not found" else pathlib.Path(match.group(2))))
    return found


def needed_libraries(lines, torch):
    """What of ldd's lines goes into the folder; `torch`: the folder of the package, with its neighbours left out."""
    site = torch.resolve().parent
    chosen = []
    for name, path in lines:
        if name.startswith(SYSTEM) or name.startswith(DRIVER):
            continue
        if path is None:
            raise UserError(name, found="no such library on this machine", expected="one to pack")
        if path.resolve().is_relative_to(site) or path.absolute().is_relative_to(torch.parent):
            continue
        chosen.append(Library(name, path, "runtime" if name.startswith(RUNTIME) else "pack"))
    return sorted(set(chosen), key=lambda library: library.name)


def libraries_of(programs, torch):
    lines = []
    for program in programs:
        done = subprocess.run(["ldd", program], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise UserError(program, found=done.stderr.strip(), expected="a program that ldd reads")
        lines += parse_ldd(done.stdout)
    return needed_libraries(lines, torch)


def copy_stripped(source, target):
    """Without symbols, where the tool for that is there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source.resolve(), target)
    target.chmod(0o755)
    if shutil.which("strip"):
        subprocess.run(["strip", "--strip-unneeded", target], check=False, capture_output=True)


def files_to_copy(build, torch, digits):
    """[(source, place in the folder, strip)]: all that is copied as it is; models come on top."""
    programs = [build / name for name in PROGRAMS]
    for program in programs:
        if not program.is_file():
            raise UserError(program, found="no such file", expected="a program",
                            remedy="scripts/gpu-check pack builds it")
    copied = [(program, f"bin/{program.name}", True) for program in programs]
    for library in libraries_of(programs, torch):
        copied.append((library.path, f"{'newer' if library.kind == 'runtime' else 'lib'}/{library.name}", True))
    copied += [(ROOT / "scripts" / "python" / module, f"python/{module}", False) for module in MODULES]
    copied += [(digits / "digits.h5", "data/digits.h5", False), (digits / "digits_cnn.pt", "subjects/digits.pt", False)]
    return copied


START = """#!/usr/bin/env bash
# usage: gpu-check [--device cuda|cuda:N|cpu] [--report FILE]     checks this machine's GPU against its CPU
# Needs a python3 with torch, the one this folder was packed for: HARNESS_PYTHON, or python3 of the PATH.
here=$(cd -P "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export PYTHONPATH=$here/python PYTHONDONTWRITEBYTECODE=1
exec "${HARNESS_PYTHON:-python3}" -m gpu_check run "$here" "$@"
"""


def make_fixtures(out):
    """The model files of the tests, without those that do harm: here and on the other machine they are run."""
    out.mkdir(parents=True)
    done = subprocess.run([sys.executable, ROOT / "tests" / "model" / "fixtures.py", out, "harmless"],
                          capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UserError("tests/model/fixtures.py", found=done.stderr.strip().splitlines()[-1], expected="models")
    from gpu_check import models  # torch takes seconds
    for file in sorted(out.glob("*.pt")):
        if models.is_random(file):
            file.unlink()


def megabytes(folder):
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


def commit():
    done = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True,
                          check=False)
    return done.stdout.strip() or "unknown"


def pack(build, torch, digits, out):
    """Fills the folder `out` anew; its size in MB."""
    copied = files_to_copy(build, torch, digits)
    version, cuda = node.torch_version(torch)
    partial = out.with_name(out.name + ".partial")
    for folder in (partial, out):
        if folder.exists() and not (folder / "pack.json").is_file() and any(folder.iterdir()):
            raise UserError(folder, found="a folder with something else in it", expected="one that may be replaced")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    (partial / "pack.json").write_text("{}", encoding="utf-8")  # so that what is left of a failure may be replaced
    from gpu_check import models  # torch takes seconds
    attack = models.make(digits / "digits.h5", digits / "digits_cnn.pt", partial)
    for source, place, strip in copied:
        if strip:
            copy_stripped(source, partial / place)
        else:
            (partial / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, partial / place)
    make_fixtures(partial / "fixtures")
    (partial / "gpu-check").write_text(START, encoding="utf-8")
    (partial / "gpu-check").chmod(0o755)
    (partial / "pack.json").write_text(json.dumps(
        {"torch": version, "cuda": cuda, "commit": commit(), **attack,
         "models": {"subjects": "16,1,8,8", "fixtures": "4,3,8,8"}}, indent=1), encoding="utf-8")
    size = megabytes(partial)
    if size > MOST_MEGABYTES:
        raise UserError(partial, found=f"{size:.0f} MB", expected=f"at most {MOST_MEGABYTES} MB")
    shutil.rmtree(out, ignore_errors=True)
    partial.rename(out)
    return size
