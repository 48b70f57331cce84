"""ImageNet's folders, classes and label lists. A class is a WordNet identifier (WNID) such as n01440764."""

import csv
import os
import re
import sys

import numpy as np

from common.errors import UserError, nearest
from common.files import existing_file

WNID = re.compile(r"n\d{8}")
SUFFIXES = (".jpeg", ".jpg", ".png")  # one PNG of the official set is called .JPEG as well
CLASSES = 1000


def _entries(folder):
    """Names in byte order, without hidden ones: folders, image files, other files."""
    folders, files, others = [], [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                folders.append(entry.name)
            else:
                (files if entry.name.lower().endswith(SUFFIXES) else others).append(entry.name)
    return tuple(sorted(names, key=os.fsencode) for names in (folders, files, others))


class ClassFolders:
    """The images in WNID/FILE below a folder, in byte order.

    The names of a folder are kept as one text: a million strings would take several times the memory.
    """

    def __init__(self, root):
        self.root = root
        self.wnids, self.stray, others = _entries(root)
        others = [root / name for name in others]
        self._names, self.counts = [], []
        for wnid in self.wnids:
            inner, files, more = _entries(root / wnid)
            if inner:
                raise UserError(root / wnid / inner[0], found="a folder inside a class", expected="image files")
            others += [root / wnid / name for name in more]
            self._names.append("/".join(files))
            self.counts.append(len(files))
        if others:
            print(f"note: {len(others)} files are not images by their names and are left out, such as {others[0]}",
                  file=sys.stderr)

    def __len__(self):
        return sum(self.counts)

    def __iter__(self):
        """(WNID, name) of every image."""
        for wnid, names in zip(self.wnids, self._names):
            for name in names.split("/") if names else ():
                yield wnid, name

    def paths(self):
        return (os.path.join(self.root, wnid, name) for wnid, name in self)

    def labels(self, index):
        for wnid in self.wnids:
            if wnid not in index:
                raise UserError(self.root / wnid, found="a folder that is none of the classes",
                                expected="a WNID such as n01440764", remedy=nearest(wnid, list(index)))
        return np.repeat(np.array([index[wnid] for wnid in self.wnids], np.int64), self.counts)


def _read_rows(path):
    """(line number, row) of a table with the columns index, wnid and name."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
            if reader.fieldnames is None or not {"index", "wnid", "name"} <= set(reader.fieldnames):
                raise UserError(path, "line 1", "columns " + (", ".join(reader.fieldnames or []) or "(none)"),
                                "index, wnid and name, separated by tabs")
            yield from ((reader.line_num, row) for row in reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(path, found=f"text that cannot be read ({error})", expected="a table in UTF-8") from error


def _read_table(path):
    """(WNIDs, names) of a table of classes, in the order of its index."""
    wnids, names = [], []
    for number, row in _read_rows(path):
        place = f"line {number}"
        if row["index"] != str(len(wnids)):
            raise UserError(path, place, f'index "{row["index"]}"', str(len(wnids)))
        if not WNID.fullmatch(row["wnid"] or "") or not row["name"]:
            raise UserError(path, place, f'wnid "{row["wnid"]}", name "{row["name"]}"', "a WNID and a name")
        if wnids and row["wnid"] <= wnids[-1]:
            raise UserError(path, place, f"{row['wnid']} after {wnids[-1]}", "WNIDs that ascend, each once")
        wnids.append(row["wnid"])
        names.append(row["name"])
    if len(wnids) < 2:
        raise UserError(path, found=f"{len(wnids)} classes", expected="two classes or more")
    return wnids, names


def read_classes(source, train):
    """({WNID: class index}, names or None): from classes.tsv, else the 1000 training folders in sorted order."""
    table = source / "classes.tsv"
    if table.is_file():
        wnids, names = _read_table(table)
    else:
        wnids, names = train.wnids if train is not None else [], None
        if len(wnids) != CLASSES:
            raise UserError(table, found=f"no such file, and {len(wnids)} class folders in {source / 'train'}",
                            expected=f"all {CLASSES} folders, or this file (columns index, wnid, name), because a "
                            "class is numbered by its place among all WNIDs")
    return {wnid: number for number, wnid in enumerate(wnids)}, names


def _fields(path, number, line):
    """(file or None, WNID) of a line of a label list."""
    fields = line.replace(",", " ").split()
    if len(fields) == 1 and fields[0].isdigit():
        raise UserError(path, f"line {number}", f"the number {fields[0]}", "a WNID",
                        "numbers such as those of ILSVRC2012_validation_ground_truth.txt do not follow the sorted "
                        "WNIDs; a list of FILE WNID, such as LOC_val_solution.csv, will do")
    at = min(len(fields) - 1, 1)
    if not WNID.fullmatch(fields[at]):
        raise UserError(path, f"line {number}", f'"{line.strip()[:60]}"', "WNID, or FILE WNID")
    return (fields[0].partition(".")[0] if at else None), fields[at]


def read_labels(path, names):
    """The WNID of each of the files `names`, from a list of them in that order, or of FILE WNID in any order."""
    existing_file(path, "a list of labels: a line per validation image with WNID, or FILE WNID")
    in_order, by_file = [], {}
    try:
        with open(path, encoding="utf-8-sig") as stream:
            for number, line in enumerate(stream, 1):
                if not line.strip() or (number == 1 and line.startswith("ImageId,")):
                    continue
                file, wnid = _fields(path, number, line)
                if file is None:
                    in_order.append(wnid)
                elif by_file.setdefault(file, wnid) != wnid:
                    raise UserError(path, f"line {number}", f"{wnid} for {file}", f"{by_file[file]} as further above")
                if in_order and by_file:
                    raise UserError(path, f"line {number}", "WNID as well as FILE WNID", "one of the two throughout")
    except UnicodeDecodeError as error:
        raise UserError(path, found="bytes that are no text", expected="a list of labels") from error
    if by_file:
        absent = [name for name in names if name.partition(".")[0] not in by_file]
        if absent:
            raise UserError(path, found=f"no label for {len(absent)} of {len(names)} images, such as {absent[0]}",
                            expected="a line for every validation image")
        return [by_file[name.partition(".")[0]] for name in names]
    if len(in_order) != len(names):
        raise UserError(path, found=f"{len(in_order)} labels", expected=f"{len(names)}, one per validation image")
    return in_order
