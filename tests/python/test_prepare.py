"""scripts/prepare: what it writes, and what it says of bad input. Real MNIST is in test_golden_scripts.py."""

import contextlib
import gzip
import io
import pathlib
import struct
import subprocess
import sys
import tempfile
import unittest

import h5py
import numpy as np
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "python"))

from common.errors import UserError  # noqa: E402
from prepare import cifar10, digits, images, mnist, npz, splits  # noqa: E402


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.out = self.folder / "out" / "data.h5"

    def quietly(self, function, *arguments):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            function(*arguments)
        return h5py.File(self.out, "r")

    def refused(self, function, *arguments):
        """The error's text; nothing may be left behind."""
        with self.assertRaises(UserError) as caught, contextlib.redirect_stdout(io.StringIO()), \
                contextlib.redirect_stderr(io.StringIO()):
            function(*arguments)
        if self.out.parent.exists():
            self.assertEqual(list(self.out.parent.iterdir()), [])
        return str(caught.exception)


class PublicTest(Case):
    def test_digits(self):
        with self.quietly(digits.prepare, None, self.out, True) as data:
            self.assertEqual({name: len(data[name]["labels"]) for name in data},
                             {"train": 539, "validation": 180, "repair": 719, "test": 359})
            self.assertEqual(data["test"]["images"].shape, (359, 1, 8, 8))
            self.assertEqual(data["train"]["images"].dtype, np.uint8)
            self.assertEqual((data.attrs["classes"], data.attrs["divisor"]), (10, 16))
            whole = np.concatenate([data[name]["images"][:].reshape(-1, 64) for name in data])
        self.assertEqual(whole.max(), 16)
        from sklearn.datasets import load_digits
        expected = load_digits().data.astype(np.uint8)
        order = lambda rows: rows[np.lexsort(rows.T)]  # noqa: E731
        np.testing.assert_array_equal(order(whole), order(expected))  # every image once, none invented

    def test_missing_files_are_named_with_origin(self):
        text = self.refused(mnist.prepare, self.folder, self.out, True)
        for part in ("4 of 4 files missing", "t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c",
                     "home page", "terms of use"):
            self.assertIn(part, text)
        self.assertIn("test_batch.bin", self.refused(cifar10.prepare, self.folder, self.out, True))

    def test_wrong_checksum_is_refused(self):
        for forms in mnist.FILES:
            (self.folder / forms[0].name).write_bytes(gzip.compress(b"\0\0\x08\x01"))
        self.assertIn("--no-checksum", self.refused(mnist.prepare, self.folder, self.out, True))
        with contextlib.redirect_stderr(io.StringIO()):
            self.assertIn("byte 0", self.refused(mnist.prepare, self.folder, self.out, False))

    def test_damaged_idx(self):
        path = self.folder / "labels"
        good = struct.pack(">II", 0x0801, 3) + bytes([1, 2, 3])
        path.write_bytes(good)
        np.testing.assert_array_equal(mnist.read_idx(path, 1, (3,)), [1, 2, 3])
        for bad, place in ((b"", "byte 0"), (b"\0\0\x0d\x01" + good[4:], "byte 0"), (good[:-1], "byte 8"),
                           (struct.pack(">II", 0x0801, 4) + bytes(4), "byte 4")):
            path.write_bytes(bad)
            self.assertIn(place, self.refused(mnist.read_idx, path, 1, (3,)))
        truncated = self.folder / "labels.gz"
        truncated.write_bytes(gzip.compress(good)[:-6])
        self.assertIn("readable IDX", self.refused(mnist.read_idx, truncated, 1, (3,)))

    def test_launcher_exits_2_with_the_nearest_name(self):
        done = subprocess.run([ROOT / "scripts" / "prepare", "minst"], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 2)
        self.assertIn("did you mean mnist?", done.stderr)
        self.assertNotIn("Traceback", done.stderr)


class SplitTest(Case):
    def test_fractions_cut_one_permutation(self):
        labels = np.arange(101) % 3
        parts = splits.by_fractions(labels, {"repair": 0.5, "test": 0.5}, 7, False, "x")
        np.testing.assert_array_equal(np.concatenate([parts["repair"], parts["test"]]),
                                      np.random.RandomState(7).permutation(101))

    def test_stratified_keeps_proportions(self):
        labels = np.array([0] * 80 + [1] * 20)
        parts = splits.by_fractions(labels, {"repair": 0.25, "test": 0.5}, 1, True, "x")
        self.assertEqual([int((labels[parts["repair"]] == k).sum()) for k in (0, 1)], [20, 5])
        self.assertEqual([int((labels[parts["test"]] == k).sum()) for k in (0, 1)], [40, 10])
        self.assertEqual(len(set(parts["repair"]) & set(parts["test"])), 0)

    def test_bad_fractions(self):
        for text, part in (("repair", "no fraction"), ("repiar=.5", "did you mean repair?"), ("test=x", '"x"'),
                           ("test=.6,repair=.6", "1.2"), ("test=.5,test=.2", "twice"), ("test=0", "above 0")):
            self.assertIn(part, self.refused(splits.parse_fractions, text), text)


class ImagesTest(Case):
    def picture(self, name, value, size=(6, 4), mode="RGB"):
        path = self.folder / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, size, value).save(path)
        return path

    def run_images(self, *options, source="in"):
        return ["--source", str(self.folder / source), "--out", str(self.out), *options]

    def test_split_class_file(self):
        self.picture("repair/cat/a.png", (10, 20, 30))
        self.picture("test/cat/b.png", (1, 2, 3))
        self.picture("test/dog/c.png", (4, 5, 6))
        with self.quietly(images.main, self.run_images("--mean", ".1,.2,.3", "--std", ".5")) as data:
            self.assertEqual(data["test"]["images"].shape, (2, 3, 4, 6))
            self.assertEqual(data["test"]["labels"][:].tolist(), [0, 1])
            self.assertEqual(data["repair"]["images"][0, :, 0, 0].tolist(), [10, 20, 30])
            self.assertEqual(data.attrs["class_names"].tolist(), ["cat", "dog"])
            self.assertEqual(data.attrs["mean"].tolist(), [0.1, 0.2, 0.3])
            self.assertEqual(data.attrs["std"].tolist(), [0.5, 0.5, 0.5])
            self.assertNotIn("group_names", data.attrs)

    def test_class_file_with_fractions_gray_and_size(self):
        for i in range(10):
            self.picture(f"{i % 2}/{i}.png", 20 * i, mode="L", size=(4 + i, 5))
        with self.quietly(images.main, self.run_images("--split", "repair=.5,test=.5", "--size", "3x2")) as data:
            self.assertEqual(data["repair"]["images"].shape, (5, 1, 3, 2))
            seen = {}
            for name in data:
                for image, label in zip(data[name]["images"][:], data[name]["labels"][:]):
                    seen[int(image[0, 0, 0])] = int(label)
        self.assertEqual(seen, {20 * i: i % 2 for i in range(10)})

    def test_table_with_groups(self):
        for i in range(4):
            self.picture(f"{i}.png", (i, i, i))
        (self.folder / "in" / "t.csv").write_text("path,label,split,group\n" + "".join(
            f"{i}.png,{'yes' if i % 2 else 'no'},{'test' if i < 3 else 'repair'},{'old' if i else 'young'}\n"
            for i in range(4)))
        with self.quietly(images.main, self.run_images(source="in/t.csv")) as data:
            self.assertEqual(data["test"]["labels"][:].tolist(), [0, 1, 0])
            self.assertEqual(data["test"]["group"][:].tolist(), [1, 0, 0])
            self.assertEqual(data.attrs["group_names"].tolist(), ["old", "young"])

    def test_errors(self):
        self.picture("a/1.png", (0, 0, 0))
        self.picture("b/2.png", (0, 0, 0), size=(7, 4))
        self.assertIn("--size resizes", self.refused(images.main, self.run_images("--split", "test=1")))
        self.assertIn("does not say", self.refused(images.main, self.run_images()))
        self.assertIn("--mean", self.refused(images.main, self.run_images("--split", "test=1", "--size", "4", "--mean",
                                                                          "1,2")))
        self.assertIn("above 0", self.refused(images.main, self.run_images("--split", "test=1", "--size", "4", "--std",
                                                                           "0")))
        damaged = self.folder / "in" / "b" / "2.png"
        Image.fromarray(np.random.RandomState(0).randint(0, 256, (40, 40, 3)).astype(np.uint8)).save(damaged)
        damaged.write_bytes(damaged.read_bytes()[:2000])
        text = self.refused(images.main, self.run_images("--split", "test=1", "--size", "4"))
        self.assertIn("2.png", text)
        self.assertIn("nothing there", self.refused(images.main, self.run_images(source="absent")))
        table = self.folder / "in" / "t.csv"
        for content, part in (("path,lable\n", "column label"), ("path,label\nx.png,1\n", "line 2"),
                              ("path,label,spilt\n", "did you mean split?"), ("path,label\n", "no rows"),
                              ("path,label,split\na/1.png,1,tset\n", "did you mean test?"),
                              ("path,label\na/1.png\n", "2 fields")):
            table.write_text(content)
            self.assertIn(part, self.refused(images.main, self.run_images(source="in/t.csv")), content)


class NpzTest(Case):
    def arrays(self, **arrays):
        np.savez(self.folder / "in.npz", **arrays)

    def options(self, *more):
        return ["--source", str(self.folder / "in.npz"), "--out", str(self.out), *more]

    def test_round_trips_of_all_layouts(self):
        rng = np.random.RandomState(0)
        reference = rng.randint(0, 256, (12, 3, 5, 4)).astype(np.uint8)
        labels = np.arange(12) % 4
        for stored, more in ((reference, ()), (reference.transpose(0, 2, 3, 1), ()),
                             (reference.transpose(0, 2, 3, 1), ("--layout", "NHWC"))):
            self.arrays(test_images=stored, test_labels=labels)
            with self.quietly(npz.main, self.options(*more)) as data:
                np.testing.assert_array_equal(data["test"]["images"][:], reference)
                np.testing.assert_array_equal(data["test"]["labels"][:], labels)
                self.assertEqual(data.attrs["divisor"], 255)

    def test_float_images_split_and_groups(self):
        pictures = np.random.RandomState(1).rand(20, 6, 6)
        self.arrays(images=pictures, labels=np.arange(20)[:, None] % 2, group=np.array(["f", "m"] * 10))
        with self.quietly(npz.main, self.options("--split", "repair=.5,test=.5", "--seed", "3")) as data:
            order = np.random.RandomState(3).permutation(20)
            np.testing.assert_array_equal(data["test"]["images"][:, 0], pictures[order[10:]].astype(np.float32))
            np.testing.assert_array_equal(data["test"]["group"][:], order[10:] % 2)
            self.assertEqual(data.attrs["divisor"], 1)

    def test_errors(self):
        good = {"images": np.zeros((4, 5, 5), np.uint8), "labels": np.array([0, 1, 0, 1])}
        bad_float = np.zeros((4, 5, 5), np.float32)
        bad_float[2, 0, 0] = np.nan
        cases = [({"labels": None}, "labels"), ({"images": np.zeros((4, 5))}, "N,H,W"),
                 ({"images": np.zeros((4, 3, 5, 3))}, "--layout"), ({"images": bad_float}, "images[2]"),
                 ({"images": np.full((4, 5, 5), 300)}, "0..255"), ({"labels": np.zeros(3, int)}, "3 labels"),
                 ({"labels": np.zeros((4, 2), int)}, "argmax"), ({"labels": np.array([0, .5, 0, 1])}, "whole numbers"),
                 ({"labels": np.array([0, -1, 0, 1])}, "labels[1]"), ({"labels": np.zeros(4, int)}, "two classes"),
                 ({"group": np.zeros(4)}, "two sensitive groups"), ({"labes": np.zeros(4)}, "labes"),
                 ({"images": np.array([None] * 4)}, "arrays of numbers")]
        for change, part in cases:
            arrays = {**good, **change}
            self.arrays(**{name: value for name, value in arrays.items() if value is not None})
            self.assertIn(part, self.refused(npz.main, self.options("--split", "test=1")), part)
        (self.folder / "in.npz").write_bytes(b"no zip file")
        self.assertIn("in.npz", self.refused(npz.main, self.options("--split", "test=1")))


if __name__ == "__main__":
    unittest.main()
