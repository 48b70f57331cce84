"""What the programs of this folder share: the toy subject of ../python, and records without what may differ."""

import hashlib
import importlib.util
import json
import os
import pathlib
import shutil
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
PYTHON = pathlib.Path(os.environ.get("HARNESS_PYTHON", ROOT / ".venv" / "bin" / "python"))
LACKS_MODULES = any(importlib.util.find_spec(name) is None for name in ("h5py", "numpy", "torch"))
if LACKS_MODULES and PYTHON.exists() and "HARNESS_TRIAL" not in os.environ:
    os.environ["HARNESS_TRIAL"] = "again"  # once: that Python may lack them as well
    os.execv(PYTHON, [str(PYTHON), *sys.argv])
os.environ.setdefault("HARNESS_BINARY", str(ROOT / "build" / "harness"))
os.environ["HARNESS_BINARY"] = str(pathlib.Path(os.environ["HARNESS_BINARY"]).resolve())
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
sys.path.insert(0, str(ROOT / "tests" / "python"))

import toy  # noqa: E402

FILES = ("fixed.pt", "predictions.csv", "predictions_repair.csv", "attack.csv")


def lasting(folder):
    """Of a cell: everything but times and provenance, with the digests of its files."""
    value = json.loads((folder / "record.json").read_text())
    for key in ("checksum", "phases", "provenance", "machine"):
        value.pop(key)
    value["metrics"] = [one for one in value["metrics"] if not one["name"].startswith("TIME")]
    value["files"] = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
                      for name in FILES if (folder / name).exists()}
    return value


def cells(results):
    """{cell: what lasts of it} of all cells that have a record."""
    return {str(path.parent.relative_to(results / "cells")): lasting(path.parent)
            for path in sorted((results / "cells").rglob("record.json"))}


def half_written(results):
    return [str(path.relative_to(results)) for path in results.rglob(".*")]


def begin():
    if not os.access(toy.BINARY, os.X_OK):
        print(f"{toy.BINARY}: no program: set HARNESS_BINARY", file=sys.stderr)
        sys.exit(77)
    toy.make_subject()


def differences(found, expected):
    lines = []
    for name in sorted(set(found) | set(expected)):
        if name not in found:
            lines.append(f"{name}: no record")
        elif name not in expected:
            lines.append(f"{name}: not expected")
        else:
            lines += [f"{name}: {part}: {found[name].get(part)}, expected {expected[name].get(part)}"[:400]
                      for part in sorted(set(found[name]) | set(expected[name]))
                      if found[name].get(part) != expected[name].get(part)]
    return lines


def remove(folder):
    shutil.rmtree(folder, ignore_errors=True)
