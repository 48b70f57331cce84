"""scripts/prepare npz and h5: arrays of every layout, name and type become the same file, and what is said of them."""

import os
import subprocess
import unittest
from unittest import mock

import h5py
import numpy as np
import torch
from torch import nn

from prepare_case import ROOT, Case, UserError, counts
from prepare import arrays, h5, npz  # noqa: E402  (its folder comes with prepare_case)

HALVES = ("--split", "repair=.5,test=.5")
COUNT, CLASSES = 24, 4
BINARY = os.environ.get("HARNESS_BINARY", "")


def pictures(channels=3, count=COUNT):
    """uint8 (N,C,5,4), of which the first pixel is the number of the image."""
    images = np.random.RandomState(0).randint(0, 256, (count, channels, 5, 4)).astype(np.uint8)
    images[:, 0, 0, 0] = range(count)
    return images


LABELS = np.arange(COUNT) * 7 % CLASSES


class ArraysCase(Case):
    def write(self, content, **storage):
        """The file of arrays; a name with / lies in a group (HDF5)."""
        raise NotImplementedError

    def stored(self, content, *options, **storage):
        """({split: (images, labels)}, attributes, standard error) of what is made of the content."""
        source = self.write(content, **storage)
        _, attributes, said = self.run_prepare(*options, source=source)
        with h5py.File(self.out) as data:
            return ({name: (data[name]["images"][:], data[name]["labels"][:]) for name in data}, attributes, said)

    def refuses(self, content, *options):
        return self.refused(*options, source=self.write(content))

    def same(self, splits, images=None, labels=LABELS):
        """Every image is there once, with its own label, split as the seed says."""
        images = pictures() if images is None else images
        order = np.random.RandomState(42).permutation(COUNT)
        for name, chosen in (("repair", order[:COUNT // 2]), ("test", order[COUNT // 2:])):
            np.testing.assert_array_equal(splits[name][0], images[chosen])
            np.testing.assert_array_equal(splits[name][1], labels[chosen])


class Shared:
    """For both kinds of files."""

    def test_axes_and_types(self):
        for channels in (1, 3):
            reference = pictures(channels)
            forms = {"N,C,H,W": reference, "N,H,W,C": reference.transpose(0, 2, 3, 1)}
            if channels == 1:
                forms[""] = reference[:, 0]
            for axes, form in forms.items():
                for dtype in (np.uint8, np.int64, np.float32, np.float64):
                    with self.subTest(axes=axes, dtype=dtype):
                        content = {"images": form.astype(dtype), "labels": LABELS}
                        splits, attributes, said = self.stored(content, *HALVES)
                        floating = np.issubdtype(dtype, np.floating)
                        self.same(splits, reference.astype(np.float32 if floating else np.uint8))
                        self.assertEqual(attributes["divisor"], 1 if floating else 255)
                        self.assertEqual(f"taken as {axes}: 24 images, 5 high, 4 wide" in said, bool(axes))
        twice = np.zeros((COUNT, 3, 5, 3), np.uint8)
        self.assertIn("--layout NHWC", self.refuses({"images": twice, "labels": LABELS}, *HALVES))
        splits, _, _ = self.stored({"images": twice, "labels": LABELS}, *HALVES, "--layout", "NHWC")
        self.assertEqual(splits["test"][0].shape[1:], (3, 3, 5))

    def test_labels_of_every_kind(self):
        names = np.array(["ox", "cat", "dog", "ant"])
        one_hot = np.eye(CLASSES)[LABELS]
        for kind, labels, expected in (("whole", LABELS.astype(np.uint8), LABELS), ("column", LABELS[:, None], LABELS),
                                       ("float", LABELS.astype(np.float32), LABELS), ("one-hot", one_hot, LABELS),
                                       ("one-hot", one_hot.astype(np.uint8), LABELS), ("one-hot", one_hot > 0, LABELS),
                                       ("names", names[LABELS].astype("S"), np.argsort(np.argsort(names))[LABELS])):
            with self.subTest(kind, dtype=labels.dtype):
                splits, attributes, said = self.stored({"images": pictures(), "labels": labels}, *HALVES)
                self.same(splits, labels=expected)
                self.assertEqual("one-hot rows are taken as numbers from 0 to 3" in said, kind == "one-hot")
                self.assertEqual("--classes N" in said, kind not in ("one-hot", "names"))
                if kind == "names":
                    self.assertEqual(attributes["class_names"].tolist(), ["ant", "cat", "dog", "ox"])
        soft = one_hot * 0.9
        twice = one_hot.copy()
        twice[5] = 1
        for labels, part in ((soft, "labels[0]"), (twice, "labels[5]"), (LABELS - 1, "labels[0]"),
                             (LABELS + 0.5, "whole numbers"), (np.where(LABELS == 2, np.nan, LABELS), "whole numbers"),
                             (np.zeros((COUNT, 2, 2)), "shape")):
            self.assertIn(part, self.refuses({"images": pictures(), "labels": labels}, *HALVES))

    def test_classes_without_images(self):
        for absent in range(CLASSES):
            keep = LABELS != absent
            content = {"images": pictures()[keep], "labels": LABELS[keep]}
            _, attributes, said = self.stored(content, *HALVES)
            last = absent == CLASSES - 1
            self.assertEqual(attributes["classes"], CLASSES - last)
            self.assertIn("--classes N", said)
            self.assertEqual(f"1 of 4 classes has no image: {absent}\n" in said, not last)
            for options in (("--classes", 4), ("--class-names", "a,b,c,d")):
                _, attributes, said = self.stored(content, *HALVES, *options)
                self.assertEqual(attributes["classes"], 4)
                self.assertIn("1 of 4 classes has no image", said)
            one_hot = {**content, "labels": np.eye(CLASSES)[content["labels"]]}
            _, attributes, said = self.stored(one_hot, *HALVES)
            self.assertEqual(attributes["classes"], 4)
            self.assertIn(f"1 of 4 classes has no image: {absent}\n", said)
        text = self.refuses({"images": pictures(), "labels": LABELS}, *HALVES, "--classes", 3)
        self.assertIn('labels[1]: found label "3", expected 0 to 2', text)

    def test_scale_of_the_values(self):
        for high, dtype, options, part in ((255, np.float64, (), "from 0 to 255, which are not divided"),
                                           (1, np.float32, (), ""), (255, np.float32, ("--divisor", 255), ""),
                                           (255, np.uint8, (), ""), (1, np.uint8, (), "--divisor 1 if")):
            images = (pictures() / 255.0 * high).round(3)
            images[0, 0, 0, 1], images[0, 0, 0, 2] = 0, high
            images = images.astype(dtype)
            splits, attributes, said = self.stored({"images": images, "labels": LABELS}, *HALVES, *options)
            with self.subTest(high=high, dtype=dtype, options=options):
                self.same(splits, images.astype(np.float32) if images.dtype.kind == "f" else images)  # values are kept
                self.assertEqual("images: values from" in said, bool(part))
                self.assertIn(part, said)
                floating = np.issubdtype(dtype, np.floating) and not options
                self.assertEqual(attributes["divisor"], 1 if floating else 255)

    def test_normalised_values_are_no_question(self):
        images = pictures() / 64.0 - 2
        self.assertNotIn("values from", self.stored({"images": images, "labels": LABELS}, *HALVES)[2])

    def test_named_splits_and_cutting(self):
        for form in self.SPLIT_FORMS:
            content = {}
            for number, split in enumerate(("train", "val", "test")):
                images = pictures()
                images[:, 0, 0, 1] = number
                content[form.format(split=split, word="images", letter="x")] = images
                content[form.format(split=split, word="labels", letter="y")] = LABELS[:, None]
            with self.subTest(form):
                splits, _, said = self.stored(content)
                self.assertEqual({name: len(labels) for name, (_, labels) in splits.items()},
                                 {"train": 24, "validation": 24, "test": 24})
                self.assertIn("--repair-from validation=.5", said)
                splits, _, said = self.stored(content, "--repair-from", "val=.5", "--stratified")
                self.assertNotIn("--repair-from", said)
                self.assertEqual(counts([(0, label) for label in splits["repair"][1]]), [3, 3, 3, 3])
                self.assertEqual({name: set(images[:, 0, 0, 1]) for name, (images, _) in splits.items()},
                                 {"train": {0}, "validation": {1}, "repair": {1}, "test": {2}})
                for name, (images, labels) in splits.items():
                    np.testing.assert_array_equal(labels, LABELS[images[:, 0, 0, 0].astype(int)], name)

    def test_names_of_others_and_by_option(self):
        for images, labels in (("x", "y"), ("X", "Y"), ("data", "targets"), ("image", "label")):
            self.same(self.stored({images: pictures(), labels: LABELS}, *HALVES)[0])
        own = {"pixels": pictures(), "what": LABELS}
        self.assertIn("--images NAME", self.refuses(own, *HALVES))
        self.same(self.stored(own, *HALVES, "--images", "pixels", "--labels", "what")[0])
        self.assertIn("did you mean pixels?", self.refuses(own, *HALVES, "--images", "pixel", "--labels", "what"))
        two = {"train_of": pictures(), "test_of": pictures(), "train_is": LABELS, "test_is": LABELS}
        options = ("--images", "{split}_of", "--labels", "{split}_is", "--repair-from", "train=.25")
        sizes = {name: len(images) for name, (images, _) in self.stored(two, *options)[0].items()}
        self.assertEqual(sizes, {"train": 18, "repair": 6, "test": 24})

    def test_ambiguous_and_missing_arrays(self):
        both = {"images": pictures(), "x": pictures(), "labels": LABELS}
        self.assertIn("--images NAME says which", self.refuses(both, *HALVES))
        self.assertIn("labels", self.refuses({"images": pictures()}, *HALVES))
        self.assertIn("either images", self.refuses({"images": pictures(), "labels": LABELS, "test_images": pictures(),
                                                     "test_labels": LABELS}))
        self.assertIn("23 labels", self.refuses({"images": pictures(), "labels": LABELS[1:]}, *HALVES))
        bad = pictures().astype(np.float32)
        bad[13, 1, 1, 1] = np.inf
        with mock.patch.object(arrays, "PIECE", 5):
            self.assertIn("images[13]", self.refuses({"images": bad, "labels": LABELS}, *HALVES))

    def test_files_of_another_kind(self):
        source = self.write({"images": pictures(), "labels": LABELS})
        whole = source.read_bytes()
        for content, part in ((b"", "an empty file"), (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
                              (b"<!doctype html>", "web page"), (b"some words", "a text file"),
                              (b"\x1f\x8b\x08" + bytes(9), "gzip"), (whole[:len(whole) // 3], source.name)):
            source.write_bytes(content)
            text = self.refused(*HALVES, source=source)
            self.assertNotIn("\n", text)
            self.assertIn(part, text)

    def test_damaged_files_end_in_one_line_or_in_a_data_file(self):
        source = self.write({"images": pictures(), "labels": LABELS})
        whole, random, outcomes = source.read_bytes(), np.random.RandomState(3), set()
        for _ in range(60):
            content = bytearray(whole)
            for place in random.randint(0, len(whole), random.choice([1, 3, 20])):
                content[place % (2000 if random.rand() < 0.7 else len(whole))] = random.randint(256)  # mostly in front
            source.write_bytes(content)
            try:
                self.run_prepare(*HALVES, source=source)
                outcomes.add("written")
            except UserError as error:
                self.assertNotIn("\n", str(error))
                outcomes.add("refused")
        self.assertEqual(outcomes, {"written", "refused"})


class NpzTest(Shared, ArraysCase):
    command = staticmethod(npz.main)
    SPLIT_FORMS = ("{split}_{word}", "{letter}_{split}", "{word}_{split}")

    def write(self, content, **storage):
        np.savez(self.folder / "in.npz", **content)
        return self.folder / "in.npz"

    def test_single_arrays(self):
        for images, labels in (("images", "labels"), ("x", "y"), ("X", "y")):
            folder = self.folder / images
            folder.mkdir()
            np.save(folder / f"{images}.npy", pictures())
            np.save(folder / f"{labels}.npy", LABELS)
            for source, options in ((folder, ()), (folder / f"{images}.npy", ()),
                                    (folder / f"{images}.npy", ("--labels", folder / f"{labels}.npy"))):
                self.run_prepare(*HALVES, *options, source=source)
                with h5py.File(self.out) as data:
                    self.same({name: (data[name]["images"][:], data[name]["labels"][:]) for name in data})
        np.save(self.folder / "alone.npy", pictures())
        self.assertIn("--labels FILE.npy", self.refused(*HALVES, source=self.folder / "alone.npy"))
        self.assertIn("no such file", self.refused(*HALVES, "--labels", "gone.npy", source=self.folder / "alone.npy"))
        empty = self.folder / "empty"
        empty.mkdir()
        self.assertIn("no .npy files", self.refused(*HALVES, source=empty))

    def test_groups_of_single_arrays(self):
        for name, array in (("images", pictures()), ("labels", LABELS), ("group", np.arange(COUNT) % 2)):
            np.save(self.folder / f"{name}.npy", array)
        self.run_prepare(*HALVES, "--group", self.folder / "group.npy", source=self.folder / "images.npy")
        with h5py.File(self.out) as data:
            np.testing.assert_array_equal(data["test"]["group"][:], data["test"]["images"][:, 0, 0, 0] % 2)


class H5Test(Shared, ArraysCase):
    command = staticmethod(h5.main)
    SPLIT_FORMS = ("{split}_{word}", "{letter}_{split}", "{split}/{word}", "set/of/{split}/{word}", "{word}/{split}",
                   "{split}_set_{letter}")

    def write(self, content, **storage):
        with h5py.File(self.folder / "in.h5", "w") as file:
            for name, array in content.items():
                file.create_dataset(name, data=array, **(storage if array.ndim > 1 else {}))
        return self.folder / "in.h5"

    def test_filters_are_taken_off(self):
        for storage in ({"compression": "lzf"}, {"compression": "gzip", "shuffle": True}, {"chunks": (5, 5, 4, 3)},
                        {"compression": "lzf", "shuffle": True, "fletcher32": True}, {"scaleoffset": 0}):
            content = {"images": pictures().transpose(0, 2, 3, 1), "labels": LABELS}
            self.same(self.stored(content, *HALVES, **storage)[0])
            with h5py.File(self.out) as data:
                self.assertIsNone(data["test/images"].compression)

    def test_images_that_do_not_fit_into_memory(self):
        content = {"images": pictures().transpose(0, 2, 3, 1), "labels": LABELS}
        with mock.patch.object(arrays, "RESIDENT_BYTES", 0), mock.patch.object(arrays, "PIECE", 7):
            self.same(self.stored(content, *HALVES, compression="lzf")[0])

    def test_attributes_of_our_own_layout_are_kept(self):
        def write(attributes):
            source = self.write({f"{split}/{word}": array for split in ("repair", "test")
                                 for word, array in (("images", pictures()), ("labels", LABELS))})
            with h5py.File(source, "a") as file:
                file.attrs.update(attributes)
            return source

        given = {"classes": 6, "divisor": 16.0, "mean": [0.1, 0.2, 0.3], "std": [1.0, 2.0, 3.0]}
        _, attributes, said = self.run_prepare(source=write(given))
        for name, value in given.items():
            np.testing.assert_array_equal(attributes[name], value)
        self.assertIn("its attributes are kept: classes 6, divisor 16, mean 0.1 0.2 0.3", said)
        options = ("--divisor", 255, "--mean", 0.5, "--std", 2, "--classes", 4)
        _, attributes, _ = self.run_prepare(*options, source=write(given))
        for name, value in {"classes": 4, "divisor": 255, "mean": [0.5] * 3, "std": [2] * 3}.items():
            np.testing.assert_array_equal(attributes[name], value)
        self.assertIn("--mean says it", self.refused(source=write({"mean": [0.1, 0.2]})))
        for name in ("classes", "divisor", "mean", "std"):
            wrong = [np.nan, np.inf, 1e300, -1e300, "many"] + [0.0, -1.0, 1e-320] * (name != "mean")
            for value in wrong:
                text = self.refused(source=write({name: value}))
                self.assertIn(f"attribute {name}: found ", text)
                self.assertRegex(text, r"expected numbers from (-1e\+30|1e-30) to 1e\+30$")

    def test_numbers_that_the_harness_would_refuse(self):
        source = self.write({"x": pictures(), "y": LABELS})
        for option in ("--divisor", "--mean", "--std"):
            for value in ["nan", "inf", "1e300"] + ["0", "-1", "1e-320"] * (option != "--mean"):
                with self.subTest(option, value=value):
                    self.assertIn(f"{option}: found ", self.refused(
                        f"{option}={value}", "--split", "repair=.5,test=.5", source=source))

    def test_a_file_of_ours_is_cut_anew(self):
        source = self.write({"test/images": pictures(), "test/labels": LABELS,
                             "test/group": (np.arange(COUNT) % 2).astype(np.uint8)})
        with h5py.File(source, "a") as file:
            file.attrs.update({"classes": 4, "divisor": 255.0, "mean": [0.0] * 3, "std": [1.0] * 3})
            file.attrs.create("class_names", ["3", "2", "1", "0"], dtype=h5py.string_dtype())
            file.attrs.create("group_names", ["old", "new"], dtype=h5py.string_dtype())
        _, attributes, said = self.run_prepare("--repair-from", "test=.5", source=source)
        self.assertIn("class_names, group_names", said)
        self.assertEqual(attributes["class_names"].tolist(), ["3", "2", "1", "0"])
        self.assertEqual(attributes["group_names"].tolist(), ["old", "new"])
        with h5py.File(self.out) as data:
            self.assertEqual({name: len(data[name]["labels"]) for name in data}, {"repair": 12, "test": 12})
            for split in data.values():
                numbers = split["images"][:, 0, 0, 0]
                np.testing.assert_array_equal(split["labels"][:], LABELS[numbers])
                np.testing.assert_array_equal(split["group"][:], numbers % 2)

    def test_other_data_sets_are_left_out_and_said(self):
        content = {"images": pictures(), "labels": LABELS, "list_of_classes": np.arange(4), "extra/weights": np.ones(3)}
        splits, _, said = self.stored(content, *HALVES)
        self.same(splits)
        self.assertIn("left out: extra/weights, list_of_classes", said)

    @unittest.skipUnless(BINARY, "HARNESS_BINARY names no program")
    def test_the_harness_reads_it(self):
        content = {"images": pictures().transpose(0, 2, 3, 1) / 255, "labels": np.eye(CLASSES, dtype=np.uint8)[LABELS]}
        source = self.write(content, compression="lzf")
        model = nn.Sequential(nn.Flatten(), nn.Linear(60, CLASSES)).eval()
        torch.jit.save(torch.jit.script(model), str(self.folder / "model.pt"))
        self.run_prepare(*HALVES, source=source)
        done = subprocess.run([ROOT / BINARY, "inspect", self.folder / "model.pt", "--data", self.out],
                              capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        with h5py.File(self.out) as data, torch.no_grad():
            images, labels = torch.tensor(data["test/images"][:]), torch.tensor(data["test/labels"][:])
            faults = int((model(images).argmax(1) != labels).sum())
        self.assertRegex(done.stdout, rf"test +12 +[\d.]+ +{faults}\n")


if __name__ == "__main__":
    unittest.main(warnings="ignore")
