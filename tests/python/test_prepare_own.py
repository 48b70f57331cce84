"""scripts/prepare images with folders and tables of others: numbers as names, empty classes, splits, bad files."""

import pathlib
import unittest

import numpy as np
from PIL import Image

from prepare_case import Case, counts
from prepare import decode, images  # noqa: E402  (its folder comes with prepare_case)

HALVES = ("--split", "repair=.5,test=.5")


class OwnCase(Case):
    command = staticmethod(images.main)

    def folders(self, names, count=2, inside=""):
        for name in names:
            for number in range(count):
                self.picture(f"{inside}{name}/{number}.png")


class NumbersTest(OwnCase):
    def test_numbers_are_labels_or_sorted_as_text(self):
        for names in (range(12), range(1, 5), (3, 20, 100), ("00", "07", "11")):
            names = list(map(str, names))
            self.source = self.folder / "-".join(names)
            self.folders(names)
            as_numbers, by_text = {name: int(name) for name in names}, {name: i for i, name in enumerate(sorted(names))}
            labels, attributes, said = self.labels_of(*HALVES)
            with self.subTest(names):
                self.assertEqual(labels, as_numbers)
                self.assertEqual(attributes["classes"], int(names[-1]) + 1)
                self.assertEqual(attributes["class_names"].tolist(), [str(i) for i in range(int(names[-1]) + 1)])
                self.assertEqual(attributes["class_order"], "numbers")
                for mapping in (as_numbers, by_text):
                    pairs = [f"{name}={mapping[name]}" for name in sorted(mapping, key=mapping.get)]
                    self.assertIn(" ".join(pairs), said)
                self.assertIn("--class-order names", said)
                self.assertEqual(self.labels_of(*HALVES, "--class-order", "numbers")[0], labels)
                labels, attributes, said = self.labels_of(*HALVES, "--class-order", "names")
                self.assertEqual(labels, by_text)
                self.assertEqual(attributes["class_names"].tolist(), sorted(names))
                self.assertEqual(attributes["class_order"], "names")
                self.assertIn(f"{min(names)}=0", said)

    def test_nothing_is_said_where_both_orders_agree(self):
        self.folders(range(10))
        self.assertEqual(self.labels_of(*HALVES)[2], "")

    def test_class_without_images_among_the_numbers_is_said(self):
        self.folders(range(1, 5))
        self.assertIn("1 of 5 classes has no image: 0\n", self.labels_of(*HALVES)[2])

    def test_numbers_that_are_no_labels(self):
        for names, part in ((("-1", "0", "1"), "from 0 on"), (("0.5", "1"), "whole numbers"),
                            (("1", "01"), "another number"), (("0", "20240101"), "below 1000000")):
            self.source = self.folder / "-".join(names)
            self.folders(names)
            text = self.refused(*HALVES)
            self.assertIn(part, text)
            self.assertIn("--class-order names", text)
            labels, _, _ = self.labels_of(*HALVES, "--class-order", "names")
            self.assertEqual(labels, {name: number for number, name in enumerate(sorted(names))})


class TableTest(OwnCase):
    def table(self, labels, more=""):
        (self.source / "labels").mkdir(parents=True, exist_ok=True)
        for number in range(len(labels)):
            self.picture(f"{number}/x.png")
        path = self.source / "t.csv"
        rows = [f"{number}/x.png,{label}\n" for number, label in enumerate(labels)]
        path.write_text("path,label\n" + "".join(rows) + more)
        return path

    def labels(self, texts, *options):
        """The numbers of the labels, and standard error."""
        self.values = {}
        found, _, said = self.labels_of(*HALVES, *options, source=self.table(texts))
        return [found[str(number)] for number in range(len(texts))], said

    def test_whole_numbers_in_any_form(self):
        for form in ("{}", "{}.0", "{}.", "0{}", "+{}", "{}.000"):
            found, said = self.labels([form.format(number) for number in range(12)])
            self.assertEqual(found, list(range(12)), form)
            self.assertEqual("are taken as whole numbers" in said, "." in form)
        found, _ = self.labels([f"{number}.0" for number in range(12)], "--class-order", "names")
        self.assertEqual(found, [sorted(f"{i}.0" for i in range(12)).index(f"{number}.0") for number in range(12)])

    def test_names_are_sorted_as_before(self):
        for texts in (["dog", "cat", "10"], ["1", "2", "unknown"], ["nan", "inf", "1"], ["1e3", "2"], ["١", "٢"]):
            self.assertEqual(self.labels(texts)[0], [sorted(texts).index(text) for text in texts])

    def test_other_numbers_are_refused_with_their_line(self):
        for texts, line, found, part in ((["0", "1", "-1"], 4, "-1", "add the same number"),
                                         (["-1.0", "0"], 2, "-1.0", "from 0"),
                                         (["0", "1.5"], 3, "1.5", "whole numbers"),
                                         ([".25", "1"], 2, ".25", "whole numbers")):
            text = self.refused(*HALVES, source=self.table(texts))
            for word in (f"t.csv: line {line}: ", f'found label "{found}"', part):
                self.assertIn(word, text)

    def test_all_rows_that_cannot_be_used_are_named(self):
        more = "absent.png,1\n0/x.png,\n" + "".join(f"gone{i}.png,0\n" for i in range(29)) + "0/x.png,a\0b\n"
        text = self.refused(*HALVES, source=self.table(["0", "1"], more))
        for part in ("32 rows", "line 4", "absent.png", "line 5: found a missing", "gone0.png", "and 12 more"):
            self.assertIn(part, text)
        self.assertEqual(len(text.splitlines()), 1 + 20 + 1)

    def test_split_names_and_aliases(self):
        self.table(["0", "1"] * 4)
        named = ("train", "val", "valid", "validation", "test", "repair", "test", "repair")
        rows = [f"{i}/x.png,{i % 2},{split}\n" for i, split in enumerate(named)]
        (self.source / "t.csv").write_text("path,label,split\n" + "".join(rows))
        splits, _, _ = self.run_prepare(source=self.source / "t.csv")
        self.assertEqual({name: len(split) for name, split in splits.items()},
                         {"train": 1, "validation": 3, "repair": 2, "test": 2})

    def test_wrong_files(self):
        path = self.table(["0", "1"])
        for content, part in ((b"", "an empty file"), (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
                              (b"<html></html>", "web page")):
            path.write_bytes(content)
            self.assertIn(part, self.refused(*HALVES, source=path))


class EmptyClassesTest(OwnCase):
    NAMES = ("circle", "cross", "square", "stripes")

    def test_folder_without_images_is_a_class_and_is_said(self):
        self.folders(self.NAMES)
        (self.source / "dots").mkdir()
        labels, attributes, said = self.labels_of(*HALVES)
        self.assertEqual(labels, {"circle": 0, "cross": 1, "square": 3, "stripes": 4})
        self.assertEqual(attributes["class_names"].tolist(), ["circle", "cross", "dots", "square", "stripes"])
        self.assertIn("1 of 5 classes has no image: dots (2)\n", said)
        self.assertIn("found 5 classes: circle, cross, dots", self.refused(*HALVES, "--classes", 4))

    def test_class_of_one_split_only(self):
        self.folders(self.NAMES, inside="test/")
        self.folders(self.NAMES[:2], inside="repair/")
        (self.source / "repair" / "extra").mkdir()
        splits, attributes, said = self.run_prepare()
        self.assertEqual(attributes["classes"], 5)
        self.assertIn("extra (2)", said)
        self.assertEqual(counts(splits["test"]), [2, 2, 0, 2, 2])

    def test_list_of_names_fixes_the_order(self):
        self.folders(self.NAMES)
        listed = ["stripes", "dots", "circle", "square", "cross"]
        (self.folder / "names.txt").write_text("\n".join(listed) + "\n")
        for given in (",".join(listed), self.folder / "names.txt"):
            labels, attributes, said = self.labels_of(*HALVES, "--class-names", given)
            self.assertEqual(labels, {name: listed.index(name) for name in self.NAMES})
            self.assertEqual(attributes["class_names"].tolist(), listed)
            self.assertIn("dots (1)", said)
        for names, part in (("circle,cross,square,stripe", "did you mean stripe?"), ("circle", "two names"),
                            ("circle,circle,cross", "circle twice"), ("circle,,cross", "two names")):
            self.assertIn(part, self.refused(*HALVES, "--class-names", names))
        self.assertIn("expected 5", self.refused(*HALVES, "--class-names", ",".join(listed), "--classes", 4))
        text = self.refused(*HALVES, "--class-names", ",".join(listed), "--class-order", "names")
        self.assertIn("one of the two", text)

    def test_list_of_names_for_numbers(self):
        self.folders(range(1, 4))
        self.assertEqual(self.labels_of(*HALVES, "--class-names", "1,2,3")[0], {"1": 0, "2": 1, "3": 2})
        self.assertEqual(self.labels_of(*HALVES, "--class-names", "a,b,c,d")[0], {"1": 1, "2": 2, "3": 3})
        self.assertIn("0 to 2", self.refused(*HALVES, "--class-names", "a,b,c"))

    def test_number_of_classes(self):
        self.folders(range(3))
        _, attributes, said = self.labels_of(*HALVES, "--classes", 5)
        self.assertEqual(attributes["classes"], 5)
        self.assertIn("2 of 5 classes have no image: 3, 4", said)
        self.assertIn('found label "2", expected 0 to 1', self.refused(*HALVES, "--classes", 2))
        self.assertIn("whole number from 2", self.refused(*HALVES, "--classes", "many"))


class NamedSplitsTest(OwnCase):
    def usual(self, splits=("train", "val", "test"), count=10):
        for split in splits:
            self.folders(("cat", "dog", "ox"), count, inside=f"{split}/")

    def names(self, split):
        return {name for name, _ in split}

    def test_repair_is_cut_out_of_a_named_split(self):
        self.usual()
        whole, _, said = self.run_prepare()
        self.assertIn("there is no split repair", said)
        self.assertIn("--repair-from validation=.5", said)
        for option, more in (("val=.5", ()), ("validation=.5", ("--stratified",)), ("valid=.5", ("--seed", 5))):
            splits, attributes, said = self.run_prepare("--repair-from", option, *more)
            self.assertEqual(said, "")
            self.assertIn(f"repair from {option}", attributes["splits"])
            self.assertEqual((len(splits["repair"]), len(splits["validation"])), (15, 15))
            self.assertEqual(set(splits["repair"]) | set(splits["validation"]), set(whole["validation"]))
            self.assertEqual((splits["train"], splits["test"]), (whole["train"], whole["test"]))
            self.assertEqual(self.run_prepare("--repair-from", option, *more)[0], splits)
            order = np.random.RandomState(5 if "--seed" in more else 42).permutation(30)
            if more == ("--stratified",):
                self.assertEqual(counts(splits["repair"]), [5, 5, 5])
            else:
                self.assertEqual(splits["repair"], [whole["validation"][number] for number in order[:15]])

    def test_both_are_cut_out_of_one(self):
        self.usual(("train",))
        splits, _, _ = self.run_prepare("--repair-from", "train=.2", "--test-from", "train=.3")
        self.assertEqual({name: len(split) for name, split in splits.items()}, {"train": 15, "repair": 6, "test": 9})
        self.assertEqual(len(set().union(*map(self.names, splits.values()))), 30)
        splits, _, _ = self.run_prepare("--repair-from", "train=.5", "--test-from", "train=.5")
        self.assertEqual(set(splits), {"repair", "test"})
        self.assertIn("1.2", self.refused("--repair-from", "train=.6", "--test-from", "train=.6"))

    def test_bad_cuts(self):
        self.usual()
        for options, part in ((("--repair-from", "val"), "NAME=FRACTION"),
                              (("--repair-from", "repair=.5"), "no repair"),
                              (("--repair-from", "vall=.5"), "did you mean"), (("--repair-from", "val=2"), "at most 1"),
                              (("--test-from", "val=.5"), "a split test in"),
                              (("--repair-from", "val=.001"), "0 of 30 images"),
                              (("--repair-from", "val=.5,test=.5"), "one split"), (HALVES, "--repair-from")):
            self.assertIn(part, self.refused(*options), options)
        self.source = self.folder / "unsplit"
        self.folders(("a", "b"))
        self.assertIn("--split alone", self.refused(*HALVES, "--repair-from", "val=.5"))

    def test_two_folders_for_one_split(self):
        self.usual(("val", "validation"))
        self.assertIn("two folders for the split validation", self.refused())

    def test_missing_test(self):
        self.usual(("train", "repair"))
        self.assertIn("--test-from train=.5", self.run_prepare()[2])

    def test_classes_may_be_called_as_splits_are(self):
        self.folders(("valid", "invalid"))
        self.assertEqual(self.labels_of(*HALVES)[0], {"invalid": 0, "valid": 1})

    def test_splits_without_class_folders(self):
        self.folders(("train", "test"))
        self.assertIn("a folder per class", self.refused(*HALVES))


class BadImagesTest(OwnCase):
    def truncated(self, name):
        """A file whose header is right."""
        path = self.picture(name)
        Image.fromarray(np.random.RandomState(0).randint(0, 256, (4, 5, 3)).astype(np.uint8)).save(path, "BMP")
        path.write_bytes(path.read_bytes()[:80])
        return path

    def spoil(self, name, content=b"\x89PNG"):
        self.picture(name).write_bytes(content)

    def test_all_that_cannot_be_opened_are_named(self):
        self.folders(("a", "b"))
        for number in range(3):
            self.spoil(f"a/bad{number}.png")
        Image.new("I;16", (5, 4)).save(self.picture("b/deep.png"))
        Image.new("L", (9, 9)).save(self.picture("b/large.png"))
        self.spoil("b/lfs.png", b"version https://git-lfs.github.com/spec/v1\n")
        text = self.refused(*HALVES)
        for part in ("6 of 10 images", "bad0.png", "bad1.png", "bad2.png", "deep.png", "large.png", "9x9 pixels",
                     "git lfs pull"):
            self.assertIn(part, text)
        for number in range(30):
            self.spoil(f"a/more{number}.png")
        text = self.refused(*HALVES)
        self.assertIn("36 of 40 images", text)
        self.assertIn("and 16 more", text)

    def test_one_is_named_as_it_is(self):
        self.folders(("a", "b"))
        self.spoil("a/bad.png")
        self.assertEqual(self.refused(*HALVES), f"{self.source / 'a' / 'bad.png'}: found a file that is not an image, "
                         "or a damaged one, expected an image")

    def test_all_that_cannot_be_read_are_named_over_all_splits(self):
        for split in ("train", "repair", "test"):
            self.folders(("a", "b"), inside=f"{split}/")
            self.truncated(f"{split}/a/cut.bmp")
        for processes in (1, 2):
            text = self.refused("--processes", processes)
            for part in ("3 images that cannot be read", "train/a/cut.bmp", "repair/a/cut.bmp", "test/a/cut.bmp"):
                self.assertIn(part, text)

    def test_reader_with_processes_names_all(self):
        paths = [self.picture(f"{number}.png") for number in range(40)]
        for number in (3, 17, 39):
            paths[number].write_bytes(b"")
        previous, decode.PIECE_BYTES = decode.PIECE_BYTES, 3 * 16 * 16 * 4
        self.addCleanup(setattr, decode, "PIECE_BYTES", previous)
        with self.assertRaisesRegex(Exception, "3 images that cannot be read"):
            crop = decode.Crop(16, 16)
            with decode.Reader(crop.read, crop.shape, 2) as reader:
                list(reader.pieces(map(pathlib.Path, paths)))


if __name__ == "__main__":
    unittest.main()
