"""What the ways of bringing one's own arrays share: stacks of images with labels, by name, to the data file."""

import numpy as np

from common.errors import UserError, note
from prepare import arrays as stored
from prepare import labels as class_labels
from prepare import pixels
from prepare.options import in_range, parse_size, range_of


def add_options(parser):
    pixels.add_options(parser)
    for word in stored.WORDS:
        parser.add_argument(f"--{word}", metavar="NAME", help=f"array of {word}, if it is called otherwise; {{split}} "
                            "in NAME stands for train, val ..." if word == "images" else f"the same for {word}")
    parser.add_argument("--layout", choices=stored.LAYOUTS,
                        help="order of the image axes (found out where it is clear)")
    parser.add_argument("--divisor", type=float, help="network input = (image / divisor - mean) / std "
                        "(default 255 for whole numbers, 1 for floating point)")


def check_options(given):
    if given.divisor is not None and not in_range(given.divisor, True):
        raise UserError("--divisor", found=f"{given.divisor:g}", expected="a number " + range_of(True))


def _group_texts(path, name, values, count):
    if values.shape != (count,):
        raise UserError(path, name, f"shape {values.shape}", f"({count},)")
    return [value.decode("utf-8", "replace") if isinstance(value, bytes) else value for value in values.tolist()]


class _Joined:
    """The images of all parts, numbered through."""

    def __init__(self, parts, size):
        self._parts, self._size = parts, size
        self._begins = np.cumsum([0, *map(len, parts)])
        self.dtype = parts[0].dtype
        self.shape = parts[0].shape[1:] if size is None else (parts[0].shape[1], *size)

    def _rows(self, numbers):
        which = np.searchsorted(self._begins, numbers, side="right") - 1
        images = np.empty((len(numbers), *self._parts[0].shape[1:]), self.dtype)
        for part in np.unique(which):
            images[which == part] = self._parts[part].rows(numbers[which == part] - self._begins[part])
        return images

    def pieces(self, chosen):
        for begin in range(0, len(chosen), stored.PIECE):
            piece = self._rows(chosen[begin:begin + stored.PIECE])
            if piece.shape[1:] != self.shape:
                piece = np.stack([[pixels.resize_plane(plane, self._size) for plane in image] for image in piece])
            yield piece


def _read_images(given, parts, content):
    images = []
    for part in parts:
        own = stored.Images(given.source, part.images, content[part.images], given.layout)
        if images and (own.shape[1:] != images[0].shape[1:] or own.dtype != images[0].dtype):
            raise UserError(given.source, part.images, f"images {own.shape[1:]} {own.dtype}",
                            f"{images[0].shape[1:]} {images[0].dtype} as in {parts[0].images}")
        images.append(own)
    if given.layout is None and images[0].layout != "NHW":
        stored.say_layout(given.source, parts[0].images, images[0])
    return images


def _number(given, parts, texts, told, names):
    """Classes of all labels, and where a label stands."""
    def place_of(label):
        part, own = next((part, own) for part, own in zip(parts, texts) if label in own)
        return given.source, f"{part.labels}[{own.index(label)}]"

    source = class_labels.Source(given.source, place_of=place_of, at_least=told, tells_all=told > 0, names=names)
    return class_labels.number_classes([text for own in texts for text in own], given, source)


def _check_channels(path, channels, constants):
    for name, numbers in constants.items():
        if numbers is not None and len(numbers) not in (1, channels):
            raise UserError(path, f"attribute {name}", f"{len(numbers)} numbers", f"{channels}, one per channel",
                            f"--{name} says it instead")


def prepare(given, content, strict, classes=None, divisor=None, mean=None, std=None, class_names=(), group_names=()):
    """Writes the arrays `content` (anything sliced like one, by name). `strict`: no array may be left over. What the
    source itself says, in lists: how many classes, divisor, mean, std, and the names of classes and groups."""
    path, size = given.source, parse_size(given.size)
    parts, left = stored.find_parts(path, content, given)
    if left and strict:
        raise UserError(path, left[0], "an array that belongs to no split", "images, labels and group, or those of a "
                        "split, such as train_images")
    if left:
        note(f"{path}: left out: {', '.join(left[:10])}{', ...' if len(left) > 10 else ''}")
    images = _read_images(given, parts, content)
    texts, groups, splits, told = [], [], [], int(classes[0]) if classes else 0
    for part, own in zip(parts, images):
        labels, width = stored.label_texts(path, part.labels, stored.read(path, part.labels, content[part.labels]), len(own))
        told = max(told, width)
        texts.append(labels)
        splits += [part.split] * len(own)
        if part.group is not None:
            groups += _group_texts(path, part.group, stored.read(path, part.group, content[part.group]), len(own))
    classes = _number(given, parts, texts, told, class_names)
    labels = np.concatenate([classes.number(own) for own in texts])
    group_values, group_names = pixels.group_numbers(groups, path, group_names) if groups else (None, None)
    numbers = pixels.split_numbers(given, labels, splits if parts[0].split is not None else None, path)
    joined = _Joined(images, size)
    _check_channels(path, joined.shape[0], {"mean": None if given.mean else mean, "std": None if given.std else std})
    if given.divisor is not None or divisor is not None:
        divisor = given.divisor if given.divisor is not None else divisor[0]
    else:
        divisor = 255 if joined.dtype == np.uint8 else 1
        stored.say_range(path, min(own.low for own in images), max(own.high for own in images), joined.dtype, divisor)
    pixels.write(given, labels=labels, classes=classes, numbers=numbers, shape=joined.shape, dtype=joined.dtype,
                 divisor=divisor, pieces_of=joined.pieces, groups=group_values, group_names=group_names, mean=mean,
                 std=std)
