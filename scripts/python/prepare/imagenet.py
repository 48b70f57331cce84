"""ImageNet (ILSVRC2012): train/WNID/*.JPEG and val/WNID/*.JPEG, or val/*.JPEG with --val-labels."""

import os
import pathlib
import sys

import numpy as np

from common.errors import UserError
from common.files import check_space
from prepare.container import writing
from prepare.decode import FILTERS, Crop, Reader
from prepare.official import Origin, check_folder, missing_text
from prepare.options import add_constants, add_processes, parse_constants, parse_processes, parse_whole
from prepare.splits import permutation
from prepare.wnids import ClassFolders, read_classes, read_labels

NEEDS_SOURCE = True
ORIGIN = Origin("ImageNet (ILSVRC2012)", "https://image-net.org (registration needed)",
                "non-commercial research and teaching only")
TRAIN = ("train/WNID/*.JPEG: ILSVRC2012_img_train.tar (md5 1d675b47d978889d74fa0da5fadfb00e), "
         "each archive in it unpacked into its own folder")
VALIDATION = ("val/WNID/*.JPEG, or val/*.JPEG with --val-labels FILE: ILSVRC2012_img_val.tar "
              "(md5 29b22e2961454d5413ddabcf34fc5622)")
SIZE = 224
MEAN = [0.485, 0.456, 0.406]
STD = [0.229, 0.224, 0.225]


def add_options(parser):
    parser.add_argument("--val-labels", type=pathlib.Path, metavar="FILE", help="labels of val/*.JPEG: a line per "
                        "image with its WNID, in the order of the file names, or with FILE WNID (as LOC_val_solution.csv)")
    parser.add_argument("--no-train", action="store_true", help="without the training images")
    parser.add_argument("--size", default=str(SIZE), metavar="N",
                        help=f"height and width of the images, cut from the middle (default {SIZE})")
    parser.add_argument("--resize", metavar="N", help="length of the shorter side before that (default size * 256/224)")
    parser.add_argument("--filter", choices=FILTERS, default="bilinear", help="of the resizing (default bilinear)")
    parser.add_argument("--compress", action="store_true", help="smaller file, slower to write and to read")
    add_constants(parser)
    add_processes(parser)


def list_training(source):
    if not (source / "train").is_dir():
        raise UserError(source / "train", found="no such folder", expected=missing_text([TRAIN], ORIGIN),
                        remedy="--no-train does without")
    train = ClassFolders(source / "train")
    if train.stray:
        print(f"note: {train.root}: {len(train.stray)} images lie in no class folder and are left out, such as "
              f"{train.stray[0]}", file=sys.stderr)
    if not len(train):
        raise UserError(train.root, found="no images", expected=missing_text([TRAIN], ORIGIN),
                        remedy="--no-train does without")
    return train


def list_validation(source, val_labels):
    """[(name, path, WNID)] in the byte order of the names."""
    root = source / "val"
    folders = ClassFolders(root) if root.is_dir() else ()
    flat = root.is_dir() and folders.stray
    if not len(folders) and not flat:
        raise UserError(root, found="no images", expected=missing_text([VALIDATION], ORIGIN))
    if flat:
        if len(folders):
            raise UserError(root, found=f"images in folders and also {flat[0]}", expected="all in folders, or none")
        if val_labels is None:
            raise UserError(root, found=f"{len(flat)} images in no class folder",
                            expected="--val-labels FILE with a line per image: its WNID, or FILE WNID")
        return list(zip(flat, (root / name for name in flat), read_labels(val_labels, flat)))
    if val_labels is not None:
        raise UserError("--val-labels", found=str(val_labels), expected=f"nothing, because {root} has class folders")
    images = sorted(((name, os.path.join(root, wnid, name), wnid) for wnid, name in folders),
                    key=lambda image: os.fsencode(image[0]))
    for (name, path, _), (after, other, _) in zip(images, images[1:]):
        if name == after:
            raise UserError(other, found="a name that is also in another class", expected="names that are there once",
                            remedy=f"see {path}")
    return images


def validation_labels(images, index, labels_from):
    for name, _, wnid in images:
        if wnid not in index:
            raise UserError(labels_from, name, f"class {wnid}", "one of the classes")
    return np.array([index[wnid] for _, _, wnid in images], np.int64)


def prepare(source, out, check, val_labels=None, no_train=False, size=str(SIZE), resize=None, filter="bilinear",
            compress=False, mean=None, std=None, processes=None):
    del check  # the archives have checksums, the images unpacked from them none
    size = parse_whole("--size", size)
    crop = Crop(size, round(size * 256 / 224) if resize is None else parse_whole("--resize", resize, size), filter)
    mean = parse_constants("--mean", mean, 3, MEAN, False)
    std = parse_constants("--std", std, 3, STD, True)
    processes = parse_processes(processes)
    source = check_folder(source, ORIGIN)
    train = None if no_train else list_training(source)
    validation = list_validation(source, val_labels)
    index, names = read_classes(source, train)
    labels = validation_labels(validation, index, source / "val" if val_labels is None else val_labels)
    order = permutation(len(labels))
    total = len(labels) + (0 if no_train else len(train))
    if not compress:
        check_space(out, total * 3 * size * size)
    with Reader(crop.read, crop.shape, processes, total, source) as reader, writing(out, total) as data:
        data.describe(classes=len(index), divisor=255, mean=mean, std=std, class_names=names,
                      source="ImageNet (ILSVRC2012), https://image-net.org", terms=ORIGIN.terms, pixels=str(crop),
                      splits="p(n) = RandomState(42).permutation(n); of the n validation images in the byte order of "
                             "their names repair p(n)[:n/2], test the rest; train the training images at hand")

        def add(split, paths, numbers):
            data.add_split(split, numbers, reader.pieces(paths), crop.shape, np.uint8, chunk=reader.piece,
                           compress=compress)

        if train is not None:
            add("train", train.paths(), train.labels(index))
        half = len(order) // 2
        for split, chosen in (("repair", order[:half]), ("test", order[half:])):
            add(split, (validation[number][1] for number in chosen), labels[chosen])
