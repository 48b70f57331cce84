"""tests/dev/held_out.py: no test image is left, every validation image is in one half, the rest is as it was."""

import contextlib
import io
import pathlib
import sys
import tempfile
import unittest

import h5py
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "dev"))

import held_out  # noqa: E402
from common.errors import UserError  # noqa: E402  (its folder comes with held_out)

SIZES = {"train": 40, "validation": 21, "repair": 15, "test": 30}


class HeldOutTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.source, self.out = self.folder / "in.h5", self.folder / "out.h5"

    def write(self, sizes, **storage):
        """A data file; each image is filled with a number that no other image has, and its label and group follow."""
        first = 0
        with h5py.File(self.source, "w") as file:
            file.attrs.update({"classes": 7, "divisor": 255.0, "mean": [0.25], "std": [0.5], "source": "made here"})
            file.attrs.create("group_names", ["light", "dark"], dtype=h5py.string_dtype())
            for name, size in sizes.items():
                numbers = np.arange(first, first + size)
                first += size
                images = np.broadcast_to(numbers[:, None, None, None], (size, 2, 3, 4)).astype(np.uint8)
                file.create_dataset(f"{name}/images", data=images, **storage)
                file[f"{name}/labels"] = numbers % 7
                file[f"{name}/group"] = (numbers % 2).astype(np.uint8)

    def run_tool(self, *options):
        with contextlib.redirect_stdout(io.StringIO()) as said:
            held_out.main([str(self.source), "--out", str(self.out), *map(str, options)])
        return said.getvalue()

    def refused(self, *options):
        with self.assertRaises(UserError) as caught:
            self.run_tool(*options)
        self.assertFalse(self.out.exists())
        return str(caught.exception)

    def images(self, path=None):
        """{split: image numbers}, after a look at whether labels, groups and every pixel belong to them."""
        found = {}
        with h5py.File(path or self.out) as file:
            for name in file:
                numbers = file[name]["images"][:, 0, 0, 0].astype(int)
                self.assertTrue((file[name]["images"][:] == numbers[:, None, None, None]).all())
                np.testing.assert_array_equal(file[name]["labels"][:], numbers % 7)
                np.testing.assert_array_equal(file[name]["group"][:], numbers % 2)
                found[name] = numbers.tolist()
        return found

    def test_halves_of_validation(self):
        for storage in ({}, {"chunks": (4, 2, 3, 4), "compression": "gzip"}):
            with self.subTest(**storage):
                self.write(SIZES, **storage)
                before = self.images(self.source)
                said = self.run_tool()
                made = self.images()
                self.assertEqual({name: len(made[name]) for name in made},
                                 {"train": 40, "validation": 11, "repair": 15, "test": 10})
                self.assertIn("train 40, validation 11, repair 15, test 10", said)
                self.assertEqual(sorted(made["validation"] + made["test"]), before["validation"])
                self.assertEqual((made["train"], made["repair"]), (before["train"], before["repair"]))
                with h5py.File(self.out) as file:
                    self.assertIsNone(file["train/images"].compression)

    def test_attributes_and_types_are_kept(self):
        self.write(SIZES)
        self.run_tool()
        with h5py.File(self.source) as source, h5py.File(self.out) as made:
            for name, value in source.attrs.items():
                np.testing.assert_array_equal(made.attrs[name], value)
            self.assertEqual(set(made.attrs) - set(source.attrs), {"held_out"})
            self.assertIn("21 images of the split validation", made.attrs["held_out"])
            for name in SIZES:
                for key in ("images", "labels", "group"):
                    self.assertEqual(made[name][key].dtype, source[name][key].dtype)

    def test_slabs_of_any_size_give_the_same(self):
        self.write(SIZES)
        self.run_tool()
        whole = self.images()
        before = held_out.SLAB_BYTES
        self.addCleanup(setattr, held_out, "SLAB_BYTES", before)
        for size in (1, 5 * 24):
            held_out.SLAB_BYTES = size
            self.run_tool()
            self.assertEqual(self.images(), whole)

    def test_the_seed_decides(self):
        self.write(SIZES)
        made = []
        for seed in (1, 2, 1):
            self.run_tool("--seed", seed)
            made.append(self.out.read_bytes())
        self.assertEqual(made[0], made[2])
        self.assertNotEqual(made[0], made[1])

    def test_without_a_validation_split(self):
        self.write({"train": 40, "repair": 15, "test": 30})
        before = self.images(self.source)
        self.run_tool("--from", "train", "--size", 9)
        made = self.images()
        self.assertEqual({name: len(made[name]) for name in made},
                         {"train": 31, "validation": 5, "repair": 15, "test": 4})
        self.assertEqual(sorted(made["train"] + made["validation"] + made["test"]), before["train"])
        self.assertEqual(made["train"], sorted(made["train"]))

    def test_a_source_without_test_or_train(self):
        self.write({"validation": 4, "repair": 3})
        self.run_tool()
        self.assertEqual({name: len(numbers) for name, numbers in self.images().items()},
                         {"validation": 2, "repair": 3, "test": 2})

    def test_refusals(self):
        self.write({"train": 40, "repair": 15, "test": 30})
        self.assertIn("--from train --size N", self.refused())
        self.assertIn("--size: found nothing", self.refused("--from", "train"))
        self.assertIn("2 to 39", self.refused("--from", "train", "--size", 40))
        self.assertIn("2 to 39", self.refused("--from", "train", "--size", 1))
        self.assertIn("validation or train", self.refused("--from", "test"))
        self.assertIn("--seed", self.refused("--seed", -1))
        self.write(SIZES)
        self.assertIn("has a split validation", self.refused("--from", "train", "--size", 4))
        self.assertIn("all are taken", self.refused("--size", 4))
        self.write({**SIZES, "validation": 1})
        self.assertIn("two or more", self.refused())
        with h5py.File(self.source, "a") as file:
            del file["repair/group"]
            file["repair/group"] = np.zeros(3, np.uint8)
        self.assertIn("/repair/group", self.refused())
        with h5py.File(self.source, "w") as file:
            file["x"] = np.zeros(3)
        self.assertIn("another layout", self.refused())
        self.source.write_text("images")
        self.assertIn("found a text file", self.refused())
        self.source.unlink()
        self.assertIn("no such file", self.refused())

    def test_the_source_is_never_overwritten(self):
        self.write(SIZES)
        before = self.source.read_bytes()
        self.out.symlink_to(self.source)
        with self.assertRaisesRegex(UserError, "another file"):
            self.run_tool()
        self.assertEqual(self.source.read_bytes(), before)


if __name__ == "__main__":
    unittest.main()
