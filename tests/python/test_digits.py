"""The embedded subject: faults of several kinds and a history that belongs to the model, so that every approach that
scripts/demo runs has something to work on."""

import collections
import contextlib
import io
import json
import pathlib
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "python"))

import h5py  # noqa: E402
import torch  # noqa: E402

import digits_model  # noqa: E402
from prepare import digits  # noqa: E402

SUBJECT = ROOT / "configs" / "subjects" / "digits.json"


def make(folder):
    """The files of the subject in `folder`, called as in data/digits."""
    with contextlib.redirect_stdout(io.StringIO()):
        digits.prepare(None, folder / "digits.h5", True)
        digits_model.main(["--data", str(folder / "digits.h5"), "--out", str(folder / "digits_cnn.pt")])


class DigitsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        holder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(holder.cleanup)
        cls.folder = pathlib.Path(holder.name)
        make(cls.folder)
        with h5py.File(cls.folder / "digits.h5") as data:
            cls.splits = {name: digits_model.read_split(data, name) for name in data}

    def answers(self, file, split):
        with torch.no_grad():
            return torch.jit.load(str(file)).eval()(self.splits[split][0]).argmax(1)

    def right(self, file, split="repair"):
        return self.answers(file, split) == self.splits[split][1]

    def test_the_subject_names_the_files(self):
        subject = json.loads(SUBJECT.read_text())
        names = [(SUBJECT.parent / file).resolve().relative_to(ROOT.resolve() / "data" / "digits")
                 for file in (subject["data"], subject["model"], *subject["history"])]
        self.assertEqual([self.folder / name for name in names],
                         [self.folder / "digits.h5", self.folder / "digits_cnn.pt",
                          *digits_model.history_files(self.folder / "digits_cnn.pt")])
        for name in names:
            self.assertTrue((self.folder / name).is_file(), name)

    def test_faults_of_several_kinds(self):
        accuracy = 100 * self.right(self.folder / "digits_cnn.pt", "test").double().mean().item()
        self.assertTrue(80 <= accuracy <= 92, accuracy)
        answers, labels = self.answers(self.folder / "digits_cnn.pt", "repair"), self.splits["repair"][1]
        wrong = answers != labels
        self.assertGreaterEqual(int(wrong.sum()), 40)
        kinds = collections.Counter(zip(labels[wrong].tolist(), answers[wrong].tolist()))
        self.assertGreaterEqual(sum(number >= 5 for number in kinds.values()), 3, kinds)

    def test_history_of_the_model(self):
        files = digits_model.history_files(self.folder / "digits_cnn.pt")
        self.assertEqual(files[-1].read_bytes(), (self.folder / "digits_cnn.pt").read_bytes())
        self.assertEqual(len({file.read_bytes() for file in files}), len(files))
        first, before, last = (self.right(files[i]) for i in (0, -2, -1))
        self.assertLess(int(first.sum()), int(last.sum()))       # oldest first
        self.assertGreater(int((before & ~last).sum()), 5)       # what the last epoch made worse
        self.assertGreater(int((~before & last).sum()), 5)       # and better

    def test_the_same_files_again(self):
        with tempfile.TemporaryDirectory() as other:
            make(pathlib.Path(other))
            for file in self.folder.rglob("*.*"):
                again = pathlib.Path(other) / file.relative_to(self.folder)
                self.assertEqual(file.read_bytes(), again.read_bytes(), file.name)


if __name__ == "__main__":
    unittest.main()
