"""Preparation and export on the study's real data and models; leaves with code 77 where these are absent."""

import contextlib
import csv
import io
import os
import pathlib
import sys
import tempfile
import unittest

import h5py
import numpy as np
import torch

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "python"))
SHARED = pathlib.Path(os.environ.get("HARNESS_SHARED", ROOT.parent / "shared"))

from export import weights  # noqa: E402
from export.architectures import ARCHITECTURES  # noqa: E402
from prepare import mnist  # noqa: E402

torch.set_num_threads(1)
MODELS = {"original": "lenet5_ori_model.h5",
          **{f"{name}_{run}": f"{name}_mnist_lenet5_fixed_model{run}.h5" for name in ("apricot", "arachne")
             for run in (1, 2, 3)}}


def table(name):
    with open(SHARED / "study" / name, newline="") as stream:
        return list(csv.DictReader(stream))


def lenet5(name):
    model = ARCHITECTURES["lenet5"][0]()
    weights.load(SHARED / "data" / "study_models" / MODELS[name], model, "lenet5")
    return model.eval()


class MnistTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        out = pathlib.Path(cls.folder.name) / "mnist.h5"
        with contextlib.redirect_stdout(io.StringIO()):
            mnist.prepare(SHARED / "data" / "mnist", out, True)
        with h5py.File(out, "r") as data:
            cls.sizes = {name: len(data[name]["labels"]) for name in data}
            cls.splits = {name: (data[name]["images"][:], data[name]["labels"][:]) for name in ("repair", "test")}

    def test_split_is_the_study_s(self):
        self.assertEqual(self.sizes, {"train": 54000, "validation": 6000, "repair": 5000, "test": 5000})
        images = mnist.read_idx(SHARED / "data" / "mnist" / "t10k-images-idx3-ubyte.gz", 3, (10000, 28, 28))
        rows = table("mnist_split.csv")
        self.assertEqual(len(rows), 10000)
        for name, (found, _) in self.splits.items():
            order = [int(row["t10k_index"]) for row in sorted(
                (row for row in rows if row["split"] == name), key=lambda row: int(row["position"]))]
            np.testing.assert_array_equal(found[:, 0], images[order])

    def test_predictions_equal_the_published_ones(self):
        rows = {int(row["t10k_index"]): row for row in table("mnist_golden_predictions.csv")}
        split = table("mnist_split.csv")
        compared = 0
        for name, (images, labels) in self.splits.items():
            order = {int(row["position"]): int(row["t10k_index"]) for row in split if row["split"] == name}
            golden = [rows[order[position]] for position in range(len(labels))]
            self.assertEqual([int(row["label"]) for row in golden], labels.tolist())
            inputs = torch.from_numpy(images).float() / 255
            for column in MODELS:
                with torch.no_grad():
                    found = lenet5(column)(inputs).argmax(1).tolist()
                self.assertEqual(found, [int(row[column]) for row in golden], f"{column} on {name}")
                compared += len(found)
        self.assertEqual(compared, 70000)


class ModelTest(unittest.TestCase):
    def test_keras_weights_equal_the_raw_ones_bit_by_bit(self):
        layout = table("lenet5/layout.csv")
        for name in MODELS:
            raw = np.fromfile(SHARED / "study" / "lenet5" / f"{name}.f32", "<f4")
            state = lenet5(name).state_dict()
            self.assertEqual([row["tensor"] for row in layout], list(state))
            for row in layout:
                begin, count = int(row["float_offset"]), int(row["count"])
                shape = [int(number) for number in row["shape"].split("x")]
                expected = raw[begin:begin + count].reshape(shape)
                self.assertEqual(state[row["tensor"]].numpy().tobytes(), expected.tobytes(), f"{name} {row['tensor']}")

    def test_every_trained_weight_file_fits_its_architecture(self):
        files = {"vgg16": "trained/cifar10_vgg16.safetensors", "resnet18": "trained/cifar10s_resnet18.safetensors",
                 "facenet": "trained/utkface_facenet.safetensors"}
        for path in (SHARED / "data" / "weights").glob("cifar10_resnet*.safetensors"):
            files[path.name.split("_")[1].split("-")[0]] = f"weights/{path.name}"
        self.assertEqual(len(files), 7)
        for name, file in files.items():
            model = ARCHITECTURES[name][0]()
            before = [parameter.clone() for parameter in model.parameters()]
            weights.load(SHARED / "data" / file, model, name)
            self.assertFalse(any(torch.equal(a, b) for a, b in zip(before, model.parameters()) if a.dim() > 1), name)


class Cifar10Test(unittest.TestCase):
    def right(self, name, file, count):
        """Of the first `count` images of the test split, the share the network classifies correctly."""
        path = ROOT / "data" / "cifar10" / "cifar10.h5"
        if not path.is_file():
            self.skipTest("no data/cifar10/cifar10.h5 (scripts/test-data)")
        with h5py.File(path, "r") as data:
            mean, std = (torch.tensor(data.attrs[key], dtype=torch.float32).reshape(3, 1, 1) for key in ("mean", "std"))
            images = torch.from_numpy(data["test"]["images"][:count]).float() / 255
            labels = torch.from_numpy(data["test"]["labels"][:count])
        model = ARCHITECTURES[name][0]()
        weights.load(SHARED / "data" / file, model, name)
        inputs = (images - mean) / std
        with torch.no_grad():
            found = torch.cat([model.eval()(piece).argmax(1) for piece in inputs.split(100)])
        return int((found == labels).sum()) / count

    def test_resnet20_is_as_good_as_published(self):
        # The C++ tests hold all 10,000 images to 0.2 points; here 1,000, whose sampling error is 0.9.
        self.assertAlmostEqual(100 * self.right("resnet20", "weights/cifar10_resnet20-12fca82f.safetensors", 1000),
                               91.7, delta=2.5)


if __name__ == "__main__":
    if not (SHARED / "data").is_dir():
        print(f"skipped: no real data in {SHARED / 'data'}")
        sys.exit(77)
    unittest.main(warnings="ignore")
