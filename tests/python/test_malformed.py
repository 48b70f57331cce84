"""Two hundred malformed configs and data files, made by mutation from good ones: every one is refused with exit code
2, its file and its place, and none ends in a crash or a trace."""

import concurrent.futures
import copy
import io
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import unittest

import h5py
import numpy as np
import torch

BINARY = os.environ.get("HARNESS_BINARY", "")
TRACES = ("internal error", "HDF5: infinite loop", "terminate", "Segmentation", "what():", "Traceback", "#0 ", "Sanitizer",
          "Assertion")
CONFIGS, FILES = 130, 90  # of all the mutants there are; each is a process
V110 = ("v110", "v110")  # of HDF5: no newer than what the harness reads
CONFIG = {
    "name": "toy",
    "subjects": [
        {
            "name": "inline",
            "model_name": "Toy",
            "model": "model.pt",
            "data": "good.h5",
            "attack": {"epsilon": 0.1, "epsilon_unit": "input", "steps": 3, "relative_step": 0.1, "random_start": True,
                       "sample": 10, "bounds": [-2, 2], "output": "as_is", "margin": False},
            "groups": ["light", "dark"],
            "published": {"AP": ["model.pt", "model.pt"]},
            "training": {"optimizer": "sgd", "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.0, "batch": 8,
                         "epochs": 1, "augmentation": "flip", "initialiser": "glorot_uniform"},
            "budget": {"seconds": 5},
        },
        "subject.json",
    ],
    "approaches": ["NONE", {"key": "NONE", "as": "again", "parameters": {}, "budget": {"seconds": 9}},
                   {"key": "MINE", "command": ["sh", "fix.py"], "needs": ["train"], "uses": ["repair"], "as": "own",
                    "name": "My own", "level": "layer", "budget": {"megabytes": 900}}],
    "runs": 1,
    "seed": 7,
    "corrupted_below": 0.5,
    "device": "cpu",
    "keep": "all",
    "deterministic": True,
    "tf32": False,
    "batch": 16,
    "budget": {"seconds": 100},
}
SUBJECT = {"name": "own_file", "model": "model.pt", "data": "good.h5", "attack": {"epsilon": 0.1}}
ALLOWED_NULLS = {"attack", "groups", "training", "relative_step", "budget", "seconds", "megabytes"}


def pointers(value, path=()):
    """Every place of a document but its root."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield path + (key,)
        yield from pointers(child, path + (key,))


def at(document, path):
    for key in path:
        document = document[key]
    return document


def text_of(path):
    return "".join("/" + str(key).replace("~", "~0").replace("/", "~1") for key in path)


def wrong_values(path, value):
    """Values that are wrong wherever they stand instead of `value`."""
    wrong = [[[[]]], {"no": {"such": "key"}}]
    if path[-1] not in ALLOWED_NULLS and path[-1] != "parameters":
        wrong.append(None)
    if isinstance(value, bool):
        wrong += ["True", 1]
    elif isinstance(value, (int, float)):
        wrong += ["1", True]
        if "bounds" not in path:
            wrong += [-1]
    elif isinstance(value, str):
        wrong += [3, "", "no\nsuch"]
    else:
        wrong += [12.5, False]
    return wrong


def config_mutants(rng):
    """(config text, subject file text, file that is blamed, place)"""
    good = json.dumps(CONFIG, indent=1), json.dumps(SUBJECT, indent=1)

    def mutant(which, document, place):
        texts = list(good)
        texts[which] = document if isinstance(document, (str, bytes)) else json.dumps(document, indent=1)
        return texts[0], texts[1], ("config.json", "subject.json")[which], place

    for which, original in enumerate((CONFIG, SUBJECT)):
        for path in pointers(original):  # another type or value
            value = at(original, path)
            for wrong in rng.sample(wrong_values(path, value), 2):
                document = copy.deepcopy(original)
                at(document, path[:-1])[path[-1]] = wrong
                yield mutant(which, document, text_of(path))
        for path in [()] + list(pointers(original)):  # a key that does not exist, a key twice
            if not isinstance(at(original, path), dict) or path[-1:] == ("published",):
                continue
            document = copy.deepcopy(original)
            key = rng.choice(["foo", "Name", "epsilonn", "a/b", "x y", "\u00e4\u00f6", "~", ""])
            at(document, path)[key] = rng.choice([1, None, [], {}])
            yield mutant(which, document, text_of(path + (key,)))
        for key in ("name", "model", "data") if which else ("subjects", "approaches"):  # a key that is needed
            document = copy.deepcopy(original)
            del document[key]
            yield mutant(which, document, "/")
        text = good[which]
        for position in rng.sample(range(1, len(text) - 1), 6):  # cut short
            yield mutant(which, text[:position], "line ")
        structural = [i for i, letter in enumerate(text) if letter in '{}[]:"']
        for position in rng.sample(structural, 6):  # a character lost
            yield mutant(which, text[:position] + text[position + 1:], "line ")
        for position in rng.sample(structural, 4):  # a byte that is no text
            data = text.encode()
            yield mutant(which, data[:position] + rng.choice([b"\x00", b"\xff", b"\x01", b"\xc3"]) + data[position:],
                         "line ")
        yield mutant(which, '{"name": 1, ' + text[1:], "/name")
        yield mutant(which, "[" * 100000, "/0")
        yield mutant(which, "", "line ")
        yield mutant(which, "[]", "/")
        yield mutant(which, "null", "/")


def good_file(path, libver="earliest"):
    rng = np.random.default_rng(1)
    with h5py.File(path, "w", libver=libver) as file:
        for split, count in (("train", 12), ("validation", 4), ("repair", 8), ("test", 8)):
            group = file.create_group(split)
            images = rng.random((count, 1, 8, 8), dtype=np.float32)
            group.create_dataset("images", data=images, chunks=(4, 1, 8, 8), compression="gzip")
            group["labels"] = np.arange(count) % 3
            group["group"] = (np.arange(count) % 2).astype(np.uint8)
        file.attrs["classes"] = 3
        file.attrs["divisor"] = 1.0
        file.attrs["mean"] = [0.5]
        file.attrs["std"] = [0.25]
        file.attrs["group_names"] = ["light", "dark"]


def replaced(group, name, values):
    del group[name]
    group[name] = values


def with_pixel(images, index, value):
    images[index] = value
    return images


def file_mutants(rng):
    """(function that changes an open file, place)"""
    for split in ("train", "validation", "repair", "test"):
        images, labels, groups = f"/{split}/images", f"/{split}/labels", f"/{split}/group"
        count = {"train": 12, "validation": 4}.get(split, 8)
        place = (rng.randrange(count), 0, rng.randrange(8), rng.randrange(8))
        bad_label = rng.choice([3, -1, 255, 10**12])
        for path, change in (
            (images, lambda values: values.astype(rng.choice(["f8", "f2", "i4", "u2"]))),
            (images, lambda values: values.reshape(values.shape[0], -1)),
            (images, lambda values: values[:, 0]),
            (images, lambda values: values[:0]),
            # the first split's shape is what the others are held against
            (images.replace("train", "validation"), lambda values: np.concatenate([values, values], 1)),
            (images, lambda values, place=place: with_pixel(values, place, rng.choice([np.nan, np.inf, -np.inf]))),
            (images, lambda values: float(values[0, 0, 0, 0])),
            (labels, lambda values: values.astype("f4")),
            (labels, lambda values: values[:-1]),
            (labels, lambda values: values[None]),
            (labels, lambda values, bad=bad_label: np.where(np.arange(len(values)) == 2, bad, values)),
            (labels, lambda values: np.array([b"zero"] * len(values))),
            (groups, lambda values: values.astype("i8")),
            (groups, lambda values: np.append(values, 0).astype("u1")),
            (groups, lambda values: np.where(np.arange(len(values)) == 1, 2, values).astype("u1")),
        ):
            yield (lambda file, path=path, change=change: replaced(file, path, change(file[path][()])), path)
        for path in (images, labels):
            yield (lambda file, path=path: file.__delitem__(path), path)
        yield (lambda file, split=split: replaced(file, split, 1), f"/{split}")
        yield (lambda file, split=split: file.move(split, split + "s"), f"/{split}s")
    for name, values in {
        "classes": [1, 0, -3, 3.0, "three", [3, 3], np.inf],
        "divisor": [0, -1.0, np.nan, "1", [1, 2], 1e-320, 1e300],
        "mean": [[0.5, 0.5], [np.nan], "0.5", [np.inf], [1e300]],
        "std": [[0.25] * 3, [0.0], [-1.0], [np.nan], [1e-300], [1e-320], [1e300]],
        "group_names": [["a"], ["a", "b", "c"], ["a", "a"], [0, 1], ["", "b"]],
    }.items():
        for value in values:
            yield (lambda file, name=name, value=value: file.attrs.__setitem__(name, value), f"/@{name}")
        if name != "group_names":
            yield (lambda file, name=name: file.attrs.__delitem__(name), f"/@{name}")
    yield (lambda file: [file.__delitem__(split) for split in list(file)], "/")


def external(file, path, elsewhere):
    """The data set as it was, its bytes in a file beside."""
    values = file[path][()]
    (elsewhere / "raw.bin").write_bytes(values.tobytes())
    del file[path]
    file.create_dataset(path, values.shape, values.dtype, external=[(str(elsewhere / "raw.bin"), 0, values.nbytes)])


def virtual(file, path, source):
    shape, dtype = file[path].shape, file[path].dtype
    layout = h5py.VirtualLayout(shape, dtype)
    layout[...] = h5py.VirtualSource(source, path, shape, dtype)
    del file[path]
    file.create_virtual_dataset(path, layout)


def linked(file, path, link):
    del file[path]
    file[path] = link


def through_a_soft_link(file, good):
    file["away"] = h5py.ExternalLink(good, "/")
    linked(file, "/test/labels", h5py.SoftLink("/away/test/labels"))


def never_written(file, path, shape, dtype, **options):
    del file[path]
    file.create_dataset(path, shape, dtype, **options)


def wide_integers(file, path, size):
    """Integers of `size` bytes, all of them 0."""
    kind = h5py.h5t.STD_I64LE.copy()
    kind.set_size(size)
    count = len(file[path])
    del file[path]
    h5py.h5d.create(file.id, path.encode(), kind, h5py.h5s.create_simple((count,)))


def hostile_files(folder):
    """(function that changes an open file, place, words of the refusal): files that make a reader open other files,
    or reserve memory without end. `folder` holds good.h5 and takes what lies outside of a file."""
    good = str(folder / "good.h5")
    far = (10**7, 1, 100, 100)
    yield lambda file: external(file, "/test/images", folder), "/test/images", "lies in another file"
    yield lambda file: external(file, "/repair/labels", folder), "/repair/labels", "lies in another file"
    yield lambda file: linked(file, "/test", h5py.ExternalLink(good, "/test")), "/test", "a link into another file"
    yield (lambda file: linked(file, "/test/images", h5py.ExternalLink(good, "/test/images")), "/test/images",
           "a link into another file")
    yield lambda file: through_a_soft_link(file, good), "/test/labels", "a link into another file"
    yield lambda file: virtual(file, "/test/images", good), "/test/images", "virtual"
    yield lambda file: virtual(file, "/train/group", good), "/train/group", "virtual"
    yield lambda file: never_written(file, "/test/images", far, "u1"), "/test/images", "of which the file holds 0 MB"
    yield (lambda file: never_written(file, "/test/images", far, "u1", chunks=(1, 1, 100, 100), compression="gzip"),
           "/test/images", "of which the file holds 0 MB")
    yield lambda file: never_written(file, "/test/labels", (10**8,), "i8"), "/test/labels", "of which the file holds"
    yield (lambda file: never_written(file, "/test/images", (8, 1, 8, 8), "f4", maxshape=(None,) * 4,
                                      chunks=(10**6, 1, 10, 10), compression="gzip"), "/test/images", "chunks of 400 MB")
    yield (lambda file: never_written(file, "/test/images", (1, 2**62, 2, 1), "u1", chunks=(1, 1, 1, 1)),
           "/test/images", "of which the file holds")
    yield lambda file: wide_integers(file, "/test/labels", 16), "/test/labels", "int128"
    for name in ("classes", "divisor", "mean", "std", "group_names"):
        yield (lambda file, name=name: file.attrs.create(name, np.zeros(5 * 10**6)), f"/@{name}",
               "a list of 5000000 float64")
    yield (lambda file: file.attrs.create("group_names", np.array([b"light", b"dark"], dtype="S1048576")),
           "/@group_names", "text of 1048576 bytes")


def numbers_of(value, path=()):
    """The places of a document's numbers."""
    return [place for place in pointers(value, path) if type(at(value, place)) in (int, float)]


def other_kinds(folder):
    """(name, content, words of the refusal): what people give as a data file."""
    arrays, array, state = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.savez(arrays, images=np.zeros((2, 8, 8, 1)), labels=np.zeros(2))
    np.save(array, np.zeros(3))
    torch.save({"fc.weight": torch.zeros(3)}, state)
    yield "lfs", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "LFS", "git lfs pull"
    yield "page", b"\n<!DOCTYPE html><html>Not found</html>", "HTML page", "download the file itself"
    yield "empty", b"", "an empty file", "make it again"
    yield "npz", arrays.getvalue(), "NumPy archive", "scripts/prepare npz --source "
    yield "npy", array.getvalue(), "NumPy array", "scripts/prepare npz --source "
    yield "state", state.getvalue(), "a state dict", "scripts/prepare npz"
    yield "model", (folder / "model.pt").read_bytes(), "a TorchScript model", 'under "model"'
    yield "table", b"image,label\na.png,1\n", "a table as text", "scripts/prepare images --source "
    yield "gzip", b"\x1f\x8b\x08\0", "gzip", "unpack it"
    yield "text", b"404: Not Found", "a text file", "scripts/prepare"
    foreign = folder / "foreign.h5"
    with h5py.File(foreign, "w") as file:  # channels last, one-hot rows, no attributes
        file["train/images"], file["train/labels"] = np.zeros((4, 8, 8, 3), "f4"), np.eye(4)
    yield "foreign", foreign.read_bytes(), "another layout", "scripts/prepare h5 --source "


class MalformedTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.holder = tempfile.TemporaryDirectory()
        cls.folder = pathlib.Path(cls.holder.name).resolve()
        torch.manual_seed(0)
        network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU(), torch.nn.Flatten(),
                                      torch.nn.Linear(72, 3)).eval()
        torch.jit.script(network).save(str(cls.folder / "model.pt"))
        good_file(cls.folder / "good.h5")
        (cls.folder / "fix.py").write_text("never started")

    @classmethod
    def tearDownClass(cls):
        cls.holder.cleanup()

    def case(self, number, config, subject):
        folder = self.folder / str(number)
        folder.mkdir()
        for name in ("model.pt", "good.h5", "fix.py"):
            (folder / name).symlink_to(self.folder / name)
        for name, text in (("config.json", config), ("subject.json", subject)):
            (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return folder

    def check(self, folder):
        return subprocess.run([BINARY, "check", str(folder / "config.json")], capture_output=True, timeout=120,
                              env={**os.environ, "OMP_NUM_THREADS": "1"})

    def refused(self, folder, file, place, words=""):
        """What is wrong with the refusal, or nothing."""
        result = self.check(folder)
        errors = result.stderr.decode(errors="replace")
        if result.returncode != 2:
            return f"exit code {result.returncode}: {errors[-500:]}"
        everything = errors + result.stdout.decode(errors="replace")
        if any(trace in everything for trace in TRACES):
            return f"a trace: {everything[:500]}"
        wanted = f"{folder / file}: {place}"
        if not any(wanted in line and "found " in line and words in line and "expected " in line
                   for line in errors.splitlines()):
            return f"no line with {wanted}: {errors[:500]}"
        return None

    def run_all(self, cases):
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            outcomes = list(pool.map(lambda case: self.refused(*case), cases))
        failures = [f"{case[1]} {case[2]} ({case[0].name}): {outcome}" for case, outcome in zip(cases, outcomes)
                    if outcome]
        self.assertEqual(failures, [], "\n".join(failures))

    def test_the_good_ones_pass(self):
        result = self.check(self.case("good", json.dumps(CONFIG), json.dumps(SUBJECT)))
        self.assertEqual(result.returncode, 0, result.stderr.decode(errors="replace"))

    def test_malformed_configs(self):
        rng = random.Random(20)
        mutants = rng.sample(list(config_mutants(rng)), CONFIGS)
        cases = [(self.case(f"c{number}", config, subject), file, place)
                 for number, (config, subject, file, place) in enumerate(mutants)]
        self.run_all(cases)
        print(f"{len(cases)} malformed configs refused", file=sys.stderr)

    def test_hostile_data_files(self):
        config = json.dumps({"subjects": ["subject.json"], "approaches": ["NONE"]})
        subject = json.dumps({**SUBJECT, "data": "data.h5"})
        cases = []
        for number, (change, place, words) in enumerate(hostile_files(self.folder)):
            folder = self.case(f"h{number}", config, subject)
            path = folder / "data.h5"
            good_file(path, V110)  # which can hold attributes of any size
            with h5py.File(path, "a", libver=V110) as file:
                change(file)
            cases.append((folder, "data.h5", place, words))
        self.run_all(cases)

    def test_files_of_other_kinds(self):
        config = json.dumps({"subjects": ["subject.json"], "approaches": ["NONE"]})
        subject = json.dumps({**SUBJECT, "data": "data.h5"})
        cases = []
        for name, content, words, remedy in other_kinds(self.folder):
            folder = self.case(f"k{name}", config, subject)
            (folder / "data.h5").write_bytes(content)
            cases += [(folder, "data.h5", "/", words), (folder, "data.h5", "/", remedy)]
        folder = self.case("kfolder", config, subject)
        (folder / "data.h5").mkdir()
        cases.append((folder, "subject.json", "/data", "scripts/prepare images --source "))
        for name, words in (("null", "a device"), ("pipe", "a pipe")):
            folder = self.case(f"k{name}", config, subject)
            if name == "pipe":
                os.mkfifo(folder / "data.h5")
            else:
                (folder / "data.h5").symlink_to("/dev/null")
            cases.append((folder, "subject.json", "/data", words))
        self.run_all(cases)

    def test_every_number_of_a_configuration(self):
        """Each of them with values beyond reason: check and plan go through, or the error names it."""
        folder = self.case("numbers", json.dumps(CONFIG), json.dumps(SUBJECT))
        changes = [(path, value) for path in numbers_of(CONFIG)
                   for value in (1e39, -1, 0, 1e308, "nan", 2**63, 1e-320)]
        self.assertGreater(len(changes), 100)

        def outcome(item):
            number, (path, value) = item
            document = copy.deepcopy(CONFIG)
            at(document, path[:-1])[path[-1]] = value
            file = folder / f"config{number}.json"
            file.write_text(json.dumps(document))
            for command, more in (("check", ()), ("plan", ("--results", folder / f"r{number}"))):
                result = subprocess.run([BINARY, command, file, *more], capture_output=True, text=True, errors="replace",
                                        timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"})
                said = f"{text_of(path)} = {value}: {command}: {result.returncode} {result.stderr[:300]}"
                if any(trace in result.stderr for trace in TRACES) or result.returncode not in (0, 2):
                    return said
                if result.returncode == 2:
                    named = [f"{file}: {text_of(path)}: found"]
                    if "bounds" in path:  # the two of them, or the images against both
                        named += [f"{file}: {text_of(path[:-1])}: found", "the attack's bounds ["]
                    return None if any(place in result.stderr for place in named) else said
            return None

        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            failures = [said for said in pool.map(outcome, enumerate(changes)) if said]
        self.assertEqual(failures, [], "\n".join(failures))

    def test_data_files_damaged_anywhere(self):
        """Refused or read, and HDF5 itself says nothing."""
        config = json.dumps({"subjects": ["subject.json"], "approaches": ["NONE"]})
        folder = self.case("damaged", config, json.dumps({**SUBJECT, "data": "data.h5"}))
        content = (self.folder / "good.h5").read_bytes()
        # its root, and the rest; without the nodes' addresses behind the first "TREE", as HDF5 1.10.8 itself ends with
        # SIGSEGV where these are all ones
        tree = content.index(b"TREE")
        places = [place for place in [*range(0, 400, 5), *range(400, len(content) - 32, len(content) // 40)]
                  if not tree < place < tree + 40]

        def outcome(place):
            here = folder / str(place)
            here.mkdir()
            for name in ("model.pt", "config.json", "subject.json"):
                (here / name).symlink_to(folder / name)
            (here / "data.h5").write_bytes(content[:place] + b"\xff" * 32 + content[place + 32:])
            result = self.check(here)
            said = result.stderr.decode(errors="replace")
            bad = result.returncode not in (0, 2) or any(trace in said for trace in TRACES) or "HDF5:" in said
            return f"{place}: {result.returncode} {said[:300]}" if bad else None

        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            failures = [said for said in pool.map(outcome, places) if said]
        self.assertEqual(failures, [], "\n".join(failures))

    def test_malformed_data_files(self):
        rng = random.Random(21)
        config = json.dumps({"subjects": ["subject.json"], "approaches": ["NONE"]})
        subject = json.dumps({**SUBJECT, "data": "data.h5"})
        cases = []

        def add(place):
            cases.append((self.case(f"f{len(cases)}", config, subject), "data.h5", place))
            return cases[-1][0] / "data.h5"

        for change, place in rng.sample(list(file_mutants(rng)), FILES - 12):
            path = add(place)
            path.write_bytes((self.folder / "good.h5").read_bytes())
            with h5py.File(path, "a") as file:
                change(file)
        content = (self.folder / "good.h5").read_bytes()
        for length in rng.sample(range(1, len(content)), 8):  # cut short
            add("/").write_bytes(content[:length])
        for position in range(4):  # another signature
            add("/").write_bytes(content[:position] + b"?" + content[position + 1:])
        self.assertEqual(len(cases), FILES)
        self.run_all(cases)
        print(f"{len(cases)} malformed data files refused", file=sys.stderr)


if __name__ == "__main__":
    if not os.access(BINARY, os.X_OK):
        print("HARNESS_BINARY names no program: skipped", file=sys.stderr)
        sys.exit(77)
    unittest.main()
