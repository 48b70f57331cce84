"""scripts/prepare imagenet, and the reading of image files in general: cropping, processes, memory, progress."""

import contextlib
import functools
import hashlib
import io
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import unittest
import unittest.mock

import h5py
import numpy as np
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "python"))

from common.errors import UserError  # noqa: E402
from prepare import imagenet, progress  # noqa: E402
from prepare.decode import Crop, Reader  # noqa: E402

WNIDS = ["n01440764", "n01443537", "n02085620", "n13133613"]


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.source = self.folder / "imagenet"
        self.out = self.folder / "out" / "data.h5"

    def picture(self, name, value, size=(8, 8), mode="RGB", **options):
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, size, value).save(path, **{"format": "PNG", **options})
        return path


class CropTest(Case):
    def test_middle_without_scaling(self):
        pixels = np.random.RandomState(0).randint(0, 256, (5, 11, 3)).astype(np.uint8)
        path = self.picture("a.png", 0)
        Image.fromarray(pixels).save(path)
        np.testing.assert_array_equal(Crop(5, 5).read(path), pixels[:, 3:8].transpose(2, 0, 1))
        np.testing.assert_array_equal(Crop(3, 5).read(path), pixels[1:4, 4:7].transpose(2, 0, 1))
        Image.fromarray(pixels.transpose(1, 0, 2)).save(path)
        np.testing.assert_array_equal(Crop(5, 5).read(path), pixels[:, 3:8].transpose(2, 1, 0))
        Image.fromarray(pixels[:, :5]).save(path)  # the size wanted: as it is
        np.testing.assert_array_equal(Crop(5, 5).read(path), pixels[:, :5].transpose(2, 0, 1))

    def test_shorter_side_is_scaled(self):
        path = self.picture("a.png", 0)
        rows, columns = np.mgrid[0:40, 0:90].astype(np.uint8)
        Image.fromarray(np.stack([rows, columns, rows], axis=2)).save(path)
        found = Crop(8, 10).read(path)  # 90x40 to 22x10, of it the middle: an eighth of a ramp keeps its slope
        self.assertEqual(found.shape, (3, 8, 8))
        np.testing.assert_allclose(found[0, :, 4], 4 * np.arange(1, 9) + 1.5, atol=1)
        np.testing.assert_allclose(found[1, 4], 90 / 22 * (np.arange(7, 15) + 0.5) - 0.5, atol=1)
        other = Crop(8, 10, "bicubic").read(path)
        self.assertFalse(np.array_equal(found, other))

    def test_every_mode_becomes_rgb(self):
        for mode, value, expected in (("L", 90, [90] * 3), ("1", 1, [255] * 3), ("RGBA", (10, 20, 30, 7), [10, 20, 30]),
                                      ("LA", (40, 9), [40] * 3)):
            path = self.picture("a.png", value, mode=mode)
            self.assertEqual(Crop(4, 4).read(path)[:, 2, 2].tolist(), expected, mode)
        path = self.picture("cmyk.JPEG", (0, 255, 255, 0), mode="CMYK", format="JPEG", quality=100)
        red = Crop(4, 4).read(path)[:, 2, 2].tolist()
        self.assertTrue(red[0] > 250 and max(red[1:]) < 5, red)
        path = self.picture("palette.gif", (1, 2, 3), format="GIF")
        self.assertEqual(Crop(4, 4).read(path)[:, 2, 2].tolist(), [1, 2, 3])

    def test_refused(self):
        self.picture("deep.png", 7, mode="I;16")
        self.picture("long.png", 7, size=(408, 8), mode="L")
        noise = np.random.RandomState(0).randint(0, 256, (50, 50, 3)).astype(np.uint8)
        Image.fromarray(noise).save(self.source / "cut.jpg")
        content = (self.source / "cut.jpg").read_bytes()
        (self.source / "cut.jpg").write_bytes(content[:len(content) // 2])
        for name, part in (("deep.png", "mode I;16"), ("long.png", "50 times as long"), ("cut.jpg", "cannot be read"),
                           ("absent.png", "No such file")):
            with self.assertRaisesRegex(UserError, f"{name}: .*{part}"):
                Crop(8, 8).read(self.source / name)


def number_in_name(path, side):
    return np.full((3, side, side), int(path.name), np.uint8)


def die(path):
    os._exit(3)


class ReaderTest(unittest.TestCase):
    def test_order_and_reading_ahead(self):
        side = 600  # a piece is one image
        for processes in (1, 3):
            taken = []

            def paths():
                for number in range(40):
                    taken.append(number)
                    yield pathlib.Path(str(number))

            with Reader(functools.partial(number_in_name, side=side), (3, side, side), processes) as reader:
                self.assertEqual(reader.piece, 1)
                found = []
                for piece in reader.pieces(paths()):
                    found.append(int(piece[0, 0, 0, 0]))
                    self.assertLessEqual(len(taken) - len(found), 2 * processes)
            self.assertEqual(found, list(range(40)))

    def test_a_process_that_dies_is_said(self):
        with Reader(die, (3, 600, 600), 2) as reader, self.assertRaisesRegex(OSError, "ended from outside"):
            list(reader.pieces([pathlib.Path("1")] * 3))

    def test_nothing(self):
        with Reader(die, (3, 600, 600), 2) as reader:
            self.assertEqual(list(reader.pieces([])), [])


class ImagenetTest(Case):
    def setUp(self):
        super().setUp()
        for folder, image in ((0, 0), (0, 1), (2, 2)):  # none of the other two classes
            self.picture(f"train/{WNIDS[folder]}/{WNIDS[folder]}_{image}.JPEG", (image, 0, 1))
        self.values = [50, 10, 40, 30, 20]
        self.classes = [0, 1, 1, 3, 0]

    def validation(self, in_folders=True):
        for value, number in zip(self.values, self.classes):
            folder = f"{WNIDS[number]}/" if in_folders else ""
            self.picture(f"val/{folder}ILSVRC2012_val_{value:08}.JPEG", (value, 0, 2))

    def table(self):
        (self.source / "classes.tsv").write_text("index\twnid\tname\n" + "".join(
            f'{i}\t{wnid}\tname "{i}"\n' for i, wnid in enumerate(WNIDS)))

    def prepare(self, **options):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
            imagenet.prepare(self.source, self.out, True, **{"size": "4", "processes": "1", **options})
        return said.getvalue()

    def refused(self, **options):
        with self.assertRaises(UserError) as caught:
            self.prepare(**options)
        self.assertFalse(self.out.exists())
        return str(caught.exception)

    def check_validation(self):
        by_name = sorted(zip(self.values, self.classes))
        order = np.random.RandomState(42).permutation(5)
        with h5py.File(self.out) as data:
            for split, numbers in (("repair", order[:2]), ("test", order[2:])):
                self.assertEqual(data[split]["images"][:, 0, 0, 0].tolist(), [by_name[n][0] for n in numbers])
                self.assertEqual(data[split]["labels"][:].tolist(), [by_name[n][1] for n in numbers])

    def test_class_folders(self):
        self.validation()
        self.table()
        self.picture(f"train/{WNIDS[1]}/notes.txt", 0)
        self.assertIn("1 files are not images by their names", self.prepare())
        self.check_validation()
        with h5py.File(self.out) as data:
            self.assertEqual(set(data), {"train", "repair", "test"})
            self.assertEqual(data["train"]["labels"][:].tolist(), [0, 0, 2])
            self.assertEqual(data["train"]["images"][:, 0, 3, 3].tolist(), [0, 1, 2])
            self.assertEqual(data["train"]["images"].shape, (3, 3, 4, 4))
            self.assertIsNotNone(data["train"]["images"].chunks)
            self.assertEqual(data.attrs["classes"], 4)
            self.assertEqual(data.attrs["class_names"].tolist(), [f'name "{i}"' for i in range(4)])
            self.assertEqual(data.attrs["mean"].tolist(), [0.485, 0.456, 0.406])
            self.assertEqual(data.attrs["std"].tolist(), [0.229, 0.224, 0.225])
            self.assertIn("shorter side to 5 pixels (bilinear), centre crop of 4x4", data.attrs["pixels"])
            self.assertNotIn("group", data["train"])

    def test_flat_validation_with_a_list(self):
        self.validation(in_folders=False)
        self.table()
        self.assertIn("--val-labels", self.refused())
        by_name = sorted(zip(self.values, self.classes))
        labels = self.folder / "labels"
        pairs = [(f"ILSVRC2012_val_{value:08}", WNIDS[number]) for value, number in zip(self.values, self.classes)]
        for content in ("".join(f"{WNIDS[number]}\n" for _, number in by_name),
                        "".join(f"{name}.JPEG {wnid}\n" for name, wnid in pairs),
                        "ImageId,PredictionString\n" + "".join(
                            f"{name},{wnid} 85 1 499 272 {WNIDS[2]} 1 2 3 4 \n" for name, wnid in pairs)):
            labels.write_text(content)
            self.prepare(val_labels=labels)
            self.check_validation()
            self.out.unlink()
        listed = "".join(f"{name} {wnid}\n" for name, wnid in pairs)
        for content, part in ((f"{WNIDS[0]}\n" * 4, "4 labels"), (f"{WNIDS[0]}\n490\n", "line 2: found the number 490"),
                              (listed[:listed.rindex("ILS")], "no label for 1 of 5 images, such as "
                               "ILSVRC2012_val_00000020.JPEG"), (f"{listed}x\n", "line 6"),
                              (f"{listed}{pairs[0][0]} {WNIDS[3]}\n", "as further above"),
                              (f"{listed}{WNIDS[0]}\n", "WNID as well as FILE WNID"),
                              (f"{listed.replace(WNIDS[3], 'n99999999')}", "00000030.JPEG: found class n99999999")):
            labels.write_text(content)
            self.assertIn(part, self.refused(val_labels=labels), content)
        self.assertIn("no such file", self.refused(val_labels=self.folder / "absent"))

    def test_thousand_folders_are_the_classes(self):
        self.validation()
        self.assertIn("2 class folders", self.refused())
        self.assertIn("0 class folders", self.refused(no_train=True))
        others = [self.source / "train" / f"n9{number:07}" for number in range(998)]
        for folder in others:
            folder.mkdir()
        for wnid in (WNIDS[1], WNIDS[3]):
            self.assertIn(f"class {wnid}", self.refused())
            others.pop().rename(self.source / "train" / wnid)
        self.prepare()
        self.check_validation()
        with h5py.File(self.out) as data:
            self.assertEqual(data.attrs["classes"], 1000)
            self.assertNotIn("class_names", data.attrs)

    def test_missing_and_misplaced(self):
        text = self.refused()
        for part in ("ILSVRC2012_img_val.tar (md5 29b22e2961454d5413ddabcf34fc5622)", "https://image-net.org",
                     "non-commercial"):
            self.assertIn(part, text)
        self.validation()
        self.table()
        self.assertIn("class folders", self.refused(val_labels=self.folder / "x"))
        name = f"ILSVRC2012_val_{self.values[0]:08}.JPEG"
        twice = self.picture(f"val/{WNIDS[2]}/{name}", 0)
        self.assertIn("also in another class", self.refused())
        twice.unlink()
        stray = self.picture(f"val/{name}", 0)
        self.assertIn("images in folders and also", self.refused())
        stray.unlink()
        inside = self.picture(f"train/{WNIDS[0]}/images/a.JPEG", 0)
        self.assertIn("a folder inside a class", self.refused())
        inside.unlink()
        inside.parent.rmdir()
        unknown = self.picture("train/n01440765/a.JPEG", 0)
        self.assertIn("did you mean n01440764?", self.refused())
        unknown.unlink()
        unknown.parent.rmdir()
        for options, part in (({"resize": "3"}, '--resize: found "3"'), ({"size": "x"}, '--size: found "x"'),
                              ({"processes": "0"}, "--processes"), ({"std": "-1"}, "--std")):
            self.assertIn(part, self.refused(**options))
        for content, part in (("wnid\n", "line 1"), ("index\twnid\tname\n1\tn01440764\ta\n", "line 2: found index"),
                              ("index\twnid\tname\n0\tn2\ta\n", "line 2"), ("index\twnid\tname\n", "0 classes"),
                              ("index\twnid\tname\n0\tn01440764\ta\n1\tn01440764\tb\n", "line 3")):
            (self.source / "classes.tsv").write_text(content)
            self.assertIn(part, self.refused(), content)
        (self.source / "classes.tsv").write_bytes(b"index\twnid\tname\n0\tn01440764\t\xe9\n")
        self.assertIn("cannot be read", self.refused())
        (self.source / "train").rename(self.source / "training")
        self.assertIn("ILSVRC2012_img_train.tar (md5 1d675b47d978889d74fa0da5fadfb00e)", self.refused())

    def test_a_damaged_image_is_named(self):
        self.validation()
        self.table()
        path = self.source / "train" / WNIDS[2] / f"{WNIDS[2]}_2.JPEG"
        path.write_bytes(path.read_bytes()[:40])
        for processes in ("1", "2"):  # 600 pixels: a piece is one image, so that two processes do read
            self.assertIn(str(path), self.refused(processes=processes, size="600"))

    def test_too_little_space(self):
        self.validation()
        self.table()
        with unittest.mock.patch("shutil.disk_usage") as usage:
            usage.return_value.free = 8 * 48 - 1
            with self.assertRaisesRegex(OSError, "GB free"):
                self.prepare()
            usage.return_value.free = 8 * 48
            self.prepare()

    def test_same_bytes_with_any_number_of_processes(self):
        self.validation()
        self.table()
        for compress in (False, True):
            digests = set()
            for processes in ("1", "2"):
                self.prepare(processes=processes, size="600", compress=compress)
                digests.add(hashlib.sha256(self.out.read_bytes()).hexdigest())
                time.sleep(1.1)  # HDF5 would stamp its objects with the second
            self.assertEqual(len(digests), 1)

    def test_command_line_without_training(self):
        self.validation()
        self.table()
        done = subprocess.run(
            [sys.executable, "-m", "prepare", "imagenet", "--source", self.source, "--out", self.out, "--no-train",
             "--size", "6", "--resize", "6", "--filter", "bicubic", "--mean", ".498", "--std", ".502",
             "--processes", "2"],
            cwd=ROOT / "scripts" / "python", capture_output=True, text=True, check=True)
        self.assertIn("repair 2, test 3; 3x6x6 uint8, 4 classes", done.stdout)
        with h5py.File(self.out) as data:
            self.assertEqual(set(data), {"repair", "test"})
            self.assertEqual((data.attrs["mean"].tolist(), data.attrs["std"].tolist()), ([0.498] * 3, [0.502] * 3))

    def test_memory_does_not_grow_with_the_images(self):
        self.table()
        self.picture("val/n01440764/0.JPEG", (5, 6, 7), size=(40, 40))
        target = self.picture("train/n01440764/0.JPEG", (5, 6, 7), size=(40, 40))
        for number in range(1, 2000):
            os.symlink(target, target.with_name(f"{number}.JPEG"))
        os.symlink(target, self.source / "val" / "n01440764" / "1.JPEG")
        code = ("import resource, sys\nfrom prepare import imagenet\n"
                "imagenet.prepare(sys.argv[1], sys.argv[2], True, processes='2')\n"
                "print(*(resource.getrusage(who).ru_maxrss // 1024 for who in (resource.RUSAGE_SELF, "
                "resource.RUSAGE_CHILDREN)))")
        done = subprocess.run([sys.executable, "-c", code, self.source, self.out], cwd=ROOT / "scripts" / "python",
                              capture_output=True, text=True, check=True)
        self.assertGreater(self.out.stat().st_size, 300e6)
        for peak in done.stdout.split()[-2:]:  # MiB
            self.assertLess(int(peak), 150, done.stdout)


class ProgressTest(unittest.TestCase):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    def texts(self, stream, term):
        clock = iter([0.0, 10.0, 10.1, 50.0])
        with unittest.mock.patch("time.monotonic", lambda: next(clock)), \
                unittest.mock.patch.dict(os.environ, {"TERM": term, "COLUMNS": "200"}):
            shown = progress.Progress("x.h5", 1000, stream)
            for count in (100, 100, 300):
                shown.advance(count)
            shown.close()
        return stream.getvalue()

    def test_lines_are_sparse(self):
        self.assertEqual(self.texts(io.StringIO(), "xterm"), "x.h5: 500/1000 images, 10/s, about 50 s left\n")
        self.assertEqual(self.texts(self.Terminal(), "dumb"), "x.h5: 500/1000 images, 10/s, about 50 s left\n")

    def test_a_terminal_has_one_line(self):
        clear = "\r\x1b[K"
        self.assertEqual(self.texts(self.Terminal(), "xterm"),
                         f"{clear}x.h5: 100/1000 images, 10/s, about 2 min left"
                         f"{clear}x.h5: 500/1000 images, 10/s, about 50 s left{clear}")


if __name__ == "__main__":
    unittest.main()
