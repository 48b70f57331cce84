"""scripts/prepare for CIFAR-10, CIFAR10S and UTKFace: splits, groups and pixels, against generated sources."""

import contextlib
import csv
import hashlib
import io
import os
import pathlib
import sys
import tempfile
import time
import unittest

import h5py
import numpy as np
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHARED = pathlib.Path(os.environ.get("HARNESS_SHARED", ROOT.parent / "shared"))
sys.path.insert(0, str(ROOT / "scripts" / "python"))

from common.errors import UserError  # noqa: E402
from prepare import cifar10, cifar10s, utkface  # noqa: E402


def p(count):
    return np.random.RandomState(42).permutation(count)


def run(function, *arguments, **options):
    """What the function wrote to standard error."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
        function(*arguments, **options)
    return said.getvalue()


class CifarTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        cls.out = cls.folder / "out.h5"
        random = np.random.RandomState(0)
        cls.records = random.randint(0, 256, (60000, cifar10.RECORD), np.uint8)
        cls.records[:, 0] %= 10
        for number, forms in enumerate(cifar10.FILES):
            cls.records[number * 10000:(number + 1) * 10000].tofile(cls.folder / forms[0].name)
        cls.mask = random.randint(0, 2, 50000, np.uint8)
        cls.images = cls.records[:, 1:].reshape(-1, 3, 32, 32)

    def setUp(self):
        self.mask.tofile(self.folder / cifar10s.MASK)

    def check_split(self, split, images, labels, groups=None):
        np.testing.assert_array_equal(split["labels"][:], labels)
        self.assertTrue(np.array_equal(split["images"][:], images))
        if groups is None:
            self.assertNotIn("group", split)
        else:
            np.testing.assert_array_equal(split["group"][:], groups)

    def test_cifar10(self):
        run(cifar10.prepare, self.folder, self.out, False)
        parts = {"train": p(50000)[5000:], "validation": p(50000)[:5000],
                 "repair": 50000 + p(10000)[:5000], "test": 50000 + p(10000)[5000:]}
        with h5py.File(self.out) as data:
            self.assertEqual(set(data), set(parts))
            for name, numbers in parts.items():
                self.check_split(data[name], self.images[numbers], self.records[numbers, 0])
            self.assertEqual(data.attrs["mean"].tolist(), [0.4914009, 0.48215896, 0.4465308])
            self.assertEqual(data.attrs["std"].tolist(), [0.24703279, 0.24348423, 0.26158753])

    def test_cifar10s(self):
        run(cifar10s.prepare, self.folder, self.out, False)

        def in_gray(images):  # Pillow's own conversion is the formula of the set's authors
            gray = [np.asarray(Image.fromarray(image.transpose(1, 2, 0)).convert("L")) for image in images]
            return np.repeat(np.stack(gray)[:, None], 3, axis=1)

        gray = np.concatenate([self.mask, np.zeros(10000, np.uint8), np.ones(10000, np.uint8)])
        images = np.concatenate([self.images, self.images[50000:]])
        images[gray == 1] = in_gray(images[gray == 1])
        labels = np.concatenate([self.records[:, 0], self.records[50000:, 0]])
        parts = {"train": p(50000)[5000:], "validation": p(50000)[:5000],
                 "repair": 50000 + p(20000)[:10000], "test": 50000 + p(20000)[10000:]}
        with h5py.File(self.out) as data:
            self.assertEqual(set(data), set(parts))
            for name, numbers in parts.items():
                self.check_split(data[name], images[numbers], labels[numbers], gray[numbers])
            self.assertEqual(data.attrs["group_names"].tolist(), ["color", "gray"])
            self.assertEqual(data.attrs["mean"].tolist(), [0.16384] * 3)
            self.assertEqual(data.attrs["std"].tolist(), [0.33210605, 0.328938, 0.3250164])

    def test_gray_formula(self):
        colours = np.array([[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255], [1, 2, 3]], np.uint8)
        # (19595 R + 38470 G + 7471 B + 32768) >> 16, by hand
        self.assertEqual(cifar10s.to_gray(colours[:, :, None, None]).reshape(-1, 3).tolist(),
                         [[value] * 3 for value in (0, 255, 76, 150, 29, 2)])

    def refused(self, check):
        with self.assertRaises(UserError) as caught:
            run(cifar10s.prepare, self.folder, self.folder / "none" / "out.h5", check)
        self.assertEqual(list((self.folder / "none").glob("*")), [])
        return str(caught.exception)

    def test_bad_mask(self):
        mask = self.folder / cifar10s.MASK
        mask.unlink()
        text = self.refused(False)
        for part in ("1 of 7 files missing", "p95_train_gray_mask.u8 (md5 465a8b59df66f666eb147435e0646ae1)",
                     "95 % skew of Wang et al. 2020"):
            self.assertIn(part, text)
        for content, part in ((bytes(49999), "49999 bytes"), (bytes(700) + b"\2" + bytes(49299), "byte 700: found 2")):
            mask.write_bytes(content)
            self.assertIn(part, self.refused(False))
        self.assertIn("--no-checksum", self.refused(True))

    def test_damaged_batch(self):
        path = self.folder / "short.bin"
        path.write_bytes(bytes(100))
        with self.assertRaisesRegex(UserError, "100 bytes"):
            cifar10.map_batch(path)
        content = bytearray(10000 * cifar10.RECORD)
        content[3 * cifar10.RECORD] = 10
        path.write_bytes(content)
        with self.assertRaisesRegex(UserError, "byte 9219: found label 10"):
            cifar10.map_batch(path)


class UtkfaceTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.source = pathlib.Path(folder.name) / "UTKFace"
        self.source.mkdir()
        self.out = pathlib.Path(folder.name) / "out.h5"

    def faces(self, count, size=(64, 64)):
        """Faces of one colour each; their values in the byte order of the names."""
        names = [f"{1 + 13 * i % 120}_{i % 2}_{i % 5}_2017011{i:04}.jpg.chip.jpg" for i in range(count)]
        for i, name in enumerate(names):
            Image.new("RGB", size, (i, 2 * i, 255 - i)).save(self.source / name, "PNG")
        return sorted(range(count), key=lambda i: names[i].encode())

    def prepare(self, **options):
        return run(utkface.prepare, self.source, self.out, True, processes="1", **options)

    def test_splits_are_those_of_the_study(self):
        order = p(23704)
        parts = utkface.cut(23704, "x")
        for name, part in (("repair", order[:1976]), ("test", order[1976:3952]), ("validation", order[3952:5927]),
                           ("train", order[5927:])):
            np.testing.assert_array_equal(parts[name], part)
        self.assertEqual(list(parts), ["train", "validation", "repair", "test"])

    def test_labels_groups_and_splits(self):
        order = self.faces(30)
        (self.source / "61_1_20170109142408075.jpg.chip.jpg").write_bytes(b"has no race")
        (self.source / "53__0_20170116184028385.jpg.chip.jpg").write_bytes(b"has no gender")
        (self.source / ".hidden").write_bytes(b"")
        said = self.prepare()
        self.assertIn("2 files are not named AGE_GENDER_RACE_DATE.jpg and are left out: "
                      "53__0_20170116184028385.jpg.chip.jpg, 61_1_20170109142408075.jpg.chip.jpg\n", said)
        self.assertIn("30 faces instead of 23704", said)
        with h5py.File(self.out) as data:
            begin = 0
            for name, size in (("repair", 3), ("test", 3), ("validation", 2), ("train", 22)):
                chosen = [order[number] for number in p(30)[begin:begin + size]]
                begin += size
                self.assertEqual(data[name]["labels"][:].tolist(), [i % 2 for i in chosen])
                self.assertEqual(data[name]["group"][:].tolist(), [int(i % 5 > 0) for i in chosen])
                self.assertEqual(data[name]["images"].shape, (size, 3, 64, 64))
                self.assertEqual(data[name]["images"][:, :, 63, 0].tolist(), [[i, 2 * i, 255 - i] for i in chosen])
            self.assertEqual(data.attrs["class_names"].tolist(), ["male", "female"])
            self.assertEqual(data.attrs["group_names"].tolist(), ["white", "nonwhite"])
            self.assertEqual(data.attrs["mean"].tolist(), [0.03317774] * 3)
            self.assertEqual(data.attrs["std"].tolist(), [0.18214759] * 3)

    def test_names_of_both_kinds(self):
        for name in ("9_0_0_20170110220235233.jpg.chip.jpg", "24_0_1_20170116220224657 .jpg.chip.jpg",
                     "55_0_0_20170116232725357jpg.chip.jpg", "116_1_4_20170112213500903.png"):
            self.assertTrue(utkface.NAME.fullmatch(name), name)
        for name in ("39_1_20170116174525125.jpg.chip.jpg", "20_2_0_20170116174525125.jpg", "20_0_5_20170116.jpg",
                     "20_0_1_20170116.txt"):
            self.assertFalse(utkface.NAME.fullmatch(name), name)

    def test_official_names(self):
        table = SHARED / "data" / "utkface" / "utkface.csv"
        if not table.is_file():
            self.skipTest(f"{table} is not there")
        with open(table, newline="") as stream:
            rows = list(csv.DictReader(stream))
        for row in rows:
            (self.source / row["file"]).touch()
        _, names = utkface.list_faces(self.source)
        self.assertEqual(names, [row["file"] for row in rows])
        self.assertEqual(len(names), utkface.COUNT)
        self.assertEqual([utkface.NAME.fullmatch(name).groups() for name in names],
                         [(row["gender"], row["race"]) for row in rows])

    def test_size_and_constants(self):
        self.faces(12, (20, 30))
        self.prepare(size="10", mean=".1,.2,.3", std=".5")
        with h5py.File(self.out) as data:
            self.assertEqual(data["train"]["images"].shape, (9, 3, 10, 10))
            self.assertEqual(data.attrs["mean"].tolist(), [0.1, 0.2, 0.3])
            self.assertEqual(data.attrs["std"].tolist(), [0.5] * 3)

    def test_same_bytes_again(self):
        self.faces(14)
        digests = set()
        for _ in range(2):
            self.prepare()
            digests.add(hashlib.sha256(self.out.read_bytes()).hexdigest())
            time.sleep(1.1)  # HDF5 would stamp its objects with the second
        self.assertEqual(len(digests), 1)

    def test_errors(self):
        def refused(**options):
            with self.assertRaises(UserError) as caught:
                self.prepare(**options)
            self.assertFalse(self.out.exists())
            return str(caught.exception)

        text = refused()
        for part in ("no faces", "https://susanqq.github.io/UTKFace/", "non-commercial"):
            self.assertIn(part, text)
        self.faces(11)
        self.assertIn("11 faces", refused())
        self.faces(12)
        for option, value in (("size", "0"), ("size", "8x9"), ("mean", "1,2"), ("std", "0")):
            self.assertIn(f'--{option}: found "{value}"', refused(**{option: value}))
        damaged = self.source / "50_1_1_20170112.jpg"
        damaged.write_bytes(b"no image")
        self.assertIn("50_1_1_20170112.jpg: found a file that is not an image", refused())


if __name__ == "__main__":
    unittest.main()
