"""One's own arrays, from a NumPy .npz file."""

import zipfile

import numpy as np

from common.errors import UserError
from common.files import existing_file
from prepare import pixels
from prepare.container import SPLITS
from prepare.options import parse_size

LAYOUTS = ("NHW", "NHWC", "NCHW")
PIECE = 1024

DESCRIPTION = """Arrays images, labels and, where wanted, group with --split; or {split}_images, {split}_labels and
{split}_group for each split there is. Images are uint8 (divided by 255), other whole numbers between 0 and 255, or
floating point (not divided); labels are whole numbers from 0; groups hold two different values."""


def read_arrays(path):
    existing_file(path, "a NumPy .npz file")
    try:
        with np.load(path, allow_pickle=False) as content:
            return {name: content[name] for name in content.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise UserError(path, found=f"a file that cannot be read ({error})",
                        expected="a .npz file of arrays of numbers") from error


def _label_array(path, name, labels, count):
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise UserError(path, name, f"shape {labels.shape}", f"one whole number per image: ({count},)",
                        "one-hot labels become numbers with argmax(1)" if labels.ndim == 2 else "")
    if len(labels) != count:
        raise UserError(path, name, f"{len(labels)} labels", f"{count}, as there are images")
    if not np.issubdtype(labels.dtype, np.integer):
        raise UserError(path, name, f"type {labels.dtype}", "whole numbers")
    if count and labels.min() < 0:
        raise UserError(path, f"{name}[{int(np.argmin(labels))}]", str(labels.min()), "0 or more")
    return labels.astype(np.int64)


def channels_first(path, name, images, layout):
    """Images as (N,C,H,W), whatever the layout they came in."""
    if layout is None:
        if images.ndim == 3:
            layout = "NHW"
        elif images.ndim == 4:
            first, last = images.shape[1] in (1, 3), images.shape[3] in (1, 3)
            if first == last:
                raise UserError(path, name, f"shape {images.shape}", "1 or 3 channels in one place", "say which with "
                                "--layout NHWC or --layout NCHW")
            layout = "NCHW" if first else "NHWC"
        else:
            raise UserError(path, name, f"shape {images.shape}", "N,H,W or N,H,W,C or N,C,H,W")
    if images.ndim != len(layout):
        raise UserError(path, name, f"{images.ndim} dimensions", f"{len(layout)} for --layout {layout}")
    if 0 in images.shape:
        raise UserError(path, name, f"shape {images.shape}", "at least one image and one pixel")
    if layout == "NHW":
        return images[:, None]
    return images.transpose(0, 3, 1, 2) if layout == "NHWC" else images


def as_stored(path, name, images):
    """The image array in the type it will be stored in: uint8 or float32."""
    if images.dtype == np.uint8:
        return images
    if np.issubdtype(images.dtype, np.integer):
        low, high = images.min(), images.max()
        if low < 0 or high > 255:
            raise UserError(path, name, f"{images.dtype} between {low} and {high}", "0..255, or floating point")
        return images.astype(np.uint8)
    if not np.issubdtype(images.dtype, np.floating):
        raise UserError(path, name, f"type {images.dtype}", "uint8 or floating point")
    with np.errstate(over="ignore"):
        images = images.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(images).reshape(len(images), -1).all(1))
    if len(bad):
        raise UserError(path, f"{name}[{bad[0]}]", "values that are not finite in float32", "finite values")
    return images


def _parts(path, arrays):
    """[(split or None, prefix)] of the image arrays that are there."""
    own = [(split, f"{split}_") for split in SPLITS if f"{split}_images" in arrays]
    if "images" in arrays and own:
        raise UserError(path, "images", f"also {own[0][1]}images", "either images or {split}_images")
    parts = own or [(None, "")]
    known = {prefix + name for _, prefix in parts for name in ("images", "labels", "group")}
    listed = ", ".join(sorted(arrays)) or "(none)"
    for _, prefix in parts:
        for name in ("images", "labels"):
            if prefix + name not in arrays:
                raise UserError(path, prefix + name, f"arrays {listed}", "images and labels, or {split}_images and "
                                "{split}_labels for the splits " + ", ".join(SPLITS))
    unknown = sorted(set(arrays) - known)
    if unknown:
        raise UserError(path, unknown[0], "an array that belongs to no split", "one of " + ", ".join(sorted(known)))
    grouped = [prefix for _, prefix in parts if f"{prefix}group" in arrays]
    if grouped and len(grouped) != len(parts):
        raise UserError(path, "group", f"only {grouped[0]}group", "groups for every split, or for none")
    return parts, bool(grouped)


def main(arguments):
    parser = pixels.parser_for("scripts/prepare npz", DESCRIPTION)
    parser.add_argument("--layout", choices=LAYOUTS, help="order of the image axes (found out where it is clear)")
    parser.add_argument("--divisor", type=float, help="network input = (image / divisor - mean) / std "
                        "(default 255 for whole numbers, 1 for floating point)")
    given = parser.parse_args(arguments)
    path, size = given.source, parse_size(given.size)
    if given.divisor is not None and not given.divisor > 0:
        raise UserError("--divisor", found=f"{given.divisor:g}", expected="a number above 0")
    arrays = read_arrays(path)
    parts, grouped = _parts(path, arrays)
    images, labels, splits, groups = [], [], [], []
    for split, prefix in parts:
        part = as_stored(path, f"{prefix}images", channels_first(path, f"{prefix}images", arrays[f"{prefix}images"],
                                                                 given.layout))
        if images and (part.shape[1:] != images[0].shape[1:] or part.dtype != images[0].dtype):
            raise UserError(path, f"{prefix}images", f"images {part.shape[1:]} {part.dtype}",
                            f"{images[0].shape[1:]} {images[0].dtype} as in {parts[0][1]}images")
        images.append(part)
        labels.append(_label_array(path, f"{prefix}labels", arrays[f"{prefix}labels"], len(part)))
        splits += [split] * len(part)
        if grouped:
            values = arrays[f"{prefix}group"]
            if values.shape != (len(part),):
                raise UserError(path, f"{prefix}group", f"shape {values.shape}", f"({len(part)},)")
            groups += values.tolist()
    images = np.concatenate(images) if len(images) > 1 else images[0]
    labels = np.concatenate(labels)
    shape = images.shape[1:] if size is None else (images.shape[1], *size)

    def pieces_of(chosen):
        for begin in range(0, len(chosen), PIECE):
            piece = images[chosen[begin:begin + PIECE]]
            if piece.shape[1:] != shape:
                piece = np.stack([[pixels.resize_plane(plane, size) for plane in image] for image in piece])
            yield piece

    group_values, group_names = pixels.group_numbers(groups, path) if grouped else (None, None)
    classes = int(labels.max()) + 1
    numbers = pixels.split_numbers(given, labels, splits if parts[0][0] is not None else None, path)
    divisor = given.divisor if given.divisor is not None else (255 if images.dtype == np.uint8 else 1)
    pixels.write(given, labels=labels, classes=classes, class_names=None, numbers=numbers, shape=shape,
                 dtype=images.dtype, divisor=divisor, pieces_of=pieces_of, groups=group_values, group_names=group_names)
