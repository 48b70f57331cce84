"""What the tests of scripts/prepare with one's own data share: pictures that tell which they are, runs of a command."""

import contextlib
import io
import pathlib
import re
import sys
import tempfile
import unittest

import h5py
import numpy as np
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "python"))

from common.errors import UserError  # noqa: E402


class Case(unittest.TestCase):
    command = None  # main() of the module

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.out = self.folder / "out" / "data.h5"
        self.source = self.folder / "in"
        self.values = {}  # first pixel -> name of the picture

    def picture(self, name):
        """A picture of one colour that no other picture has."""
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        value = len(self.values) + 1
        self.values[value] = name
        Image.new("L", (5, 4), value).save(path)
        return path

    def arguments(self, options, source):
        return ["--source", str(source or self.source), "--out", str(self.out), *map(str, options)]

    def run_prepare(self, *options, source=None):
        """({split: [(picture, label)]}, attributes, standard error)"""
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
            type(self).command(self.arguments(options, source))
        with h5py.File(self.out) as data:
            first = {name: data[name]["images"][:, 0, 0, 0].tolist() for name in data}
            splits = {name: [(self.values.get(value, value), label) for value, label in
                             zip(first[name], data[name]["labels"][:].tolist())] for name in data}
            return splits, dict(data.attrs), said.getvalue()

    def labels_of(self, *options, source=None):
        """({class folder: label} of all images, attributes, standard error)"""
        splits, attributes, said = self.run_prepare(*options, source=source)
        pairs = {(name.split("/")[-2], label) for images in splits.values() for name, label in images}
        self.assertEqual(len(pairs), len(dict(pairs)))
        return dict(pairs), attributes, said

    def refused(self, *options, source=None):
        """The error's text; nothing may be left behind."""
        with self.assertRaises(UserError) as caught, contextlib.redirect_stdout(io.StringIO()), \
                contextlib.redirect_stderr(io.StringIO()):
            type(self).command(self.arguments(options, source))
        if self.out.parent.exists():
            self.assertEqual([path for path in self.out.parent.iterdir() if path != self.out], [])
        text = str(caught.exception)
        self.assertIsNone(re.search(r"[\x00-\x09\x0b-\x1f]", text), repr(text))
        return text


def counts(labels):
    return np.bincount([label for _, label in labels]).tolist()
