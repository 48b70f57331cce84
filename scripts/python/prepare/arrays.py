"""Arrays as others store them to the images, labels and groups that the harness reads: names, axes, types."""

import dataclasses
import re

import numpy as np

from common.errors import UserError, nearest, note, one_line
from prepare.container import SPLITS
from prepare.splits import ALIASES

WORDS = {  # what others call them
    "images": ("images", "image", "imgs", "x", "data", "inputs"),
    "labels": ("labels", "label", "y", "targets", "target"),
    "group": ("group", "groups"),
}
LAYOUTS = ("NHW", "NHWC", "NCHW")
PIECE = 1024                  # images read at once
RESIDENT_BYTES = 1 << 31      # images of more are read in pieces, in the order of the file within each
MOST_IMAGES, MOST_VALUES = 10 ** 8, 1 << 30  # of a split, of an image: the harness reads no more
FAR = 20                      # floats beyond this are no normalised values


@dataclasses.dataclass
class Part:
    """The arrays of one split, by name; split None where the source names none."""
    split: str
    images: str
    labels: str = None
    group: str = None


def _meaning(name):
    """(word, split or None) of names such as train_images, x_train, train/images; None for others."""
    tokens = [token for token in re.split(r"[/_.]", name.lower()) if token and token != "set"]
    words = [word for word, names in WORDS.items() for token in tokens if token in names]
    splits = [ALIASES.get(token, token) for token in tokens if token in SPLITS or token in ALIASES]
    if len(words) != 1 or len(splits) > 1 or len(tokens) != 1 + len(splits):
        return None
    return words[0], (splits[0] if splits else None)


def _add(found, path, split, word, name):
    part = found.setdefault(split, {})
    if word in part:
        raise UserError(path, word, f"{part[word]} and also {name}", "one array", f"--{word} NAME says which")
    part[word] = name


def _by_option(found, path, names, word, pattern):
    """The arrays that --images NAME and the like name; {split} in the name stands for every split."""
    hits = [(None, pattern)] if "{split}" not in pattern else [
        (ALIASES.get(split, split), pattern.replace("{split}", split)) for split in (*SPLITS, *ALIASES)]
    hits = [(split, name) for split, name in hits if name in names]
    if not hits:
        raise UserError(path, f"--{word} {pattern}", f"arrays {', '.join(sorted(names)) or '(none)'}",
                        "one of their names", nearest(pattern, list(names)))
    for split, name in hits:
        _add(found, path, split, word, name)


def find_parts(path, names, given):
    """([Part], names that belong to none), by the options or by what the arrays are called."""
    options = {word: getattr(given, word) for word in WORDS}
    found, left = {}, []
    for word, pattern in options.items():
        if pattern is not None:
            _by_option(found, path, names, word, pattern)
    taken = {name for part in found.values() for name in part.values()}
    for name in sorted(names):
        meaning = _meaning(name)
        if name in taken:
            continue
        if meaning is None or options[meaning[0]] is not None:
            left.append(name)
        else:
            word, split = meaning
            _add(found, path, split, word, name)
    listed = ", ".join(sorted(names)) or "(none)"
    if None in found and len(found) > 1:
        whole, split = found[None], next(split for split in found if split is not None)
        raise UserError(path, next(iter(whole.values())), f"also {next(iter(found[split].values()))}",
                        "either images and labels, or those of each split")
    if not found:
        raise UserError(path, "images", f"arrays {listed}", "images and labels, or those of each split, such as "
                        "train_images", "--images NAME and --labels NAME say which they are")
    for split, part in found.items():
        for word in ("images", "labels"):
            if word not in part:
                wanted = word if split is None else f"{split}_{word}"
                raise UserError(path, wanted, f"arrays {listed}", f"{word} to go with {next(iter(part.values()))}",
                                f"--{word} NAME says which they are")
    grouped = [part for part in found.values() if "group" in part]
    if grouped and len(grouped) != len(found):
        raise UserError(path, "group", f"only {grouped[0]['group']}", "groups for every split, or for none")
    ordered = sorted(found, key=lambda split: -1 if split is None else SPLITS.index(split))
    return [Part(split, **found[split]) for split in ordered], left


def read(path, name, source, selection=()):
    """The selected part of an array. What a damaged file makes its library raise, is said of the file."""
    try:
        return np.asarray(source[selection])
    except Exception as error:  # of many kinds
        remedy = "h5repack -f NONE takes filters off where they are known" if "filter" in str(error) else ""
        raise UserError(path, name, f"data that cannot be read ({one_line(error)})", "a whole file", remedy) from error


def layout_of(path, name, shape, layout):
    """The order of the axes: the given one, or what the shape says."""
    if layout is None:
        if len(shape) == 3:
            layout = "NHW"
        elif len(shape) == 4:
            first, last = shape[1] in (1, 3), shape[3] in (1, 3)
            if first == last:
                raise UserError(path, name, f"shape {tuple(shape)}", "1 or 3 channels in one place", "say which with "
                                "--layout NHWC or --layout NCHW")
            layout = "NCHW" if first else "NHWC"
        else:
            raise UserError(path, name, f"shape {tuple(shape)}", "N,H,W or N,H,W,C or N,C,H,W")
    if len(shape) != len(layout):
        raise UserError(path, name, f"{len(shape)} dimensions", f"{len(layout)} for --layout {layout}")
    if 0 in shape or shape[0] > MOST_IMAGES or np.prod(shape[1:], dtype=np.float64) > MOST_VALUES:
        raise UserError(path, name, f"shape {tuple(shape)}",
                        f"1 to {MOST_IMAGES} images of 1 to {MOST_VALUES} values")
    return layout


class Images:
    """The images of one part, (N,C,H,W) of uint8 or float32, whatever they are stored as.

    `source` is an array, or anything that is sliced like one (a data set of HDF5), which then is read in pieces.
    """

    def __init__(self, path, name, source, layout):
        self._path, self._name = path, name
        self.layout = layout_of(path, name, source.shape, layout)
        if not (np.issubdtype(source.dtype, np.integer) or np.issubdtype(source.dtype, np.floating)):
            raise UserError(path, name, f"type {source.dtype}", "uint8 or floating point")
        self.dtype = np.dtype(np.float32 if np.issubdtype(source.dtype, np.floating) else np.uint8)
        size = int(np.prod(source.shape)) * source.dtype.itemsize
        resident = isinstance(source, np.ndarray) or size > RESIDENT_BYTES
        self._source = source if resident else read(path, name, source)
        count, *rest = source.shape
        channels_first = {"NHW": (1, *rest), "NHWC": (rest[-1], *rest[:-1]), "NCHW": tuple(rest)}
        self.shape = (count, *channels_first[self.layout])
        self.low, self.high = self._range()

    def __len__(self):
        return self.shape[0]

    def _range(self):
        """Lowest and highest value, after a look at all of them."""
        low, high = np.inf, -np.inf
        for begin in range(0, len(self), PIECE):
            piece = read(self._path, self._name, self._source, slice(begin, begin + PIECE))
            if self.dtype == np.float32:
                with np.errstate(over="ignore"):
                    bad = np.flatnonzero(~np.isfinite(piece.astype(np.float32)).reshape(len(piece), -1).all(1))
                if len(bad):
                    raise UserError(self._path, f"{self._name}[{begin + bad[0]}]",
                                    "values that are not finite in float32", "finite values")
            low, high = min(low, piece.min()), max(high, piece.max())
        if self.dtype == np.uint8 and (low < 0 or high > 255):
            raise UserError(self._path, self._name, f"{self._source.dtype} between {low} and {high}",
                            "0..255, or floating point")
        return low, high

    def rows(self, numbers):
        """The images with these numbers."""
        if isinstance(self._source, np.ndarray):
            images = self._source[numbers]
        else:  # HDF5 wants them in ascending order, each once
            ascending, back = np.unique(numbers, return_inverse=True)
            images = read(self._path, self._name, self._source, ascending)[back]
        images = images.astype(self.dtype, copy=False)
        if self.layout == "NHW":
            return images[:, None]
        return images.transpose(0, 3, 1, 2) if self.layout == "NHWC" else images


def _texts(values):
    return [value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in values.tolist()]


def label_texts(path, name, labels, count):
    """(labels as texts, number of classes they tell of or 0), one per image: whole numbers, names, or one-hot rows."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim not in (1, 2):
        raise UserError(path, name, f"shape {labels.shape}", f"one label per image: ({count},)")
    if len(labels) != count:
        raise UserError(path, name, f"{len(labels)} labels", f"{count}, as there are images")
    if labels.ndim == 2:
        return _from_one_hot(path, name, labels)
    if labels.dtype.kind in "USO":
        return [text.strip() for text in _texts(labels)], 0
    if labels.dtype.kind == "f":
        odd = np.flatnonzero(~np.isfinite(labels) | (labels != np.floor(labels)))
        if len(odd):
            raise UserError(path, f"{name}[{odd[0]}]", str(labels[odd[0]]), "whole numbers")
        labels = labels.astype(np.int64)
    if labels.dtype.kind not in "iu":
        raise UserError(path, name, f"type {labels.dtype}", "whole numbers or names")
    return [str(label) for label in labels.tolist()], 0


def _from_one_hot(path, name, labels):
    if labels.dtype.kind not in "biuf":
        raise UserError(path, name, f"type {labels.dtype}, shape {labels.shape}",
                        "whole numbers, names or one-hot rows")
    wrong = np.flatnonzero(~(((labels == 0) | (labels == 1)).all(1) & (labels.sum(1, dtype=np.float64) == 1)))
    if len(wrong):
        raise UserError(path, f"{name}[{wrong[0]}]", f"shape {labels.shape}, and a row that is not one-hot",
                        "one whole number per image, or rows of one 1 and else 0",
                        "argmax(1) gives the class with the highest value")
    note(f"{path}: {name}: one-hot rows are taken as numbers from 0 to {labels.shape[1] - 1}")
    return [str(label) for label in labels.argmax(1).tolist()], labels.shape[1]


def say_layout(path, name, images):
    channels, height, width = images.shape[1:]
    axes = ",".join(images.layout)
    note(f"{path}: {name}: taken as {axes}: {len(images)} images, {height} high, {width} wide, {channels} "
         f"channel{'s' if channels > 1 else ''}")


def say_range(path, low, high, dtype, divisor):
    """A note where the values may not be on the scale that is expected of them."""
    if dtype == np.float32 and (high > 1 and low >= 0 or max(-low, high) > FAR):
        note(f"{path}: images: values from {low:g} to {high:g}, which are not divided (floating point: divisor "
             f"{divisor:g}); --divisor 255 if the network expects 0 to 1")
    elif dtype == np.uint8 and high <= 1:
        note(f"{path}: images: values from {low:g} to {high:g}, which are divided by {divisor:g} as all whole numbers "
             "are; --divisor 1 if the network expects 0 to 1")
