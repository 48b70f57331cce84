"""Which images go into which split."""

import numpy as np

from common.errors import UserError, nearest
from prepare.container import SPLITS


def permutation(count, seed=42):
    """The permutation of 0..count-1 that NumPy's legacy generator (MT19937) gives for this seed."""
    return np.random.RandomState(seed).permutation(count)


def check_split_name(name, file, place):
    if name not in SPLITS:
        raise UserError(file, place, f'"{name}"', "one of " + ", ".join(SPLITS), nearest(name, SPLITS))


def parse_fractions(text):
    """'repair=.5,test=.5' to a dictionary, in the order given."""
    fractions = {}
    for part in text.split(","):
        name, equals, number = part.partition("=")
        name = name.strip()
        if not equals:
            raise UserError("--split", part, "no fraction", "NAME=FRACTION, such as repair=.5,test=.5")
        check_split_name(name, "--split", part)
        if name in fractions:
            raise UserError("--split", part, f"{name} twice", "each split once")
        try:
            fractions[name] = float(number)
        except ValueError:
            fractions[name] = -1.0
        if not 0 < fractions[name] <= 1:
            raise UserError("--split", part, f'"{number}"', "a number above 0 and at most 1")
    if sum(fractions.values()) > 1 + 1e-9:
        raise UserError("--split", text, f"fractions that add up to {sum(fractions.values()):g}", "at most 1")
    return fractions


def _cut(order, fractions):
    """Consecutive parts of `order`; the borders are the rounded running sums, so no image is lost or doubled."""
    parts, begin, total = {}, 0, 0.0
    for name, fraction in fractions.items():
        total += fraction
        end = min(len(order), int(round(total * len(order))))
        parts[name] = order[begin:end]
        begin = end
    return parts


def by_fractions(labels, fractions, seed, stratified, file):
    """Image numbers per split: one seeded permutation, cut; stratified: cut within each class, then merged
    in the order of that same permutation."""
    labels = np.asarray(labels)
    order = permutation(len(labels), seed)
    if not stratified:
        parts = _cut(order, fractions)
    else:
        chosen = {name: [] for name in fractions}
        for label in np.unique(labels):
            for name, numbers in _cut(order[labels[order] == label], fractions).items():
                chosen[name].append(numbers)
        rank = np.argsort(order)
        parts = {}
        for name, pieces in chosen.items():
            numbers = np.concatenate(pieces)
            parts[name] = numbers[np.argsort(rank[numbers])]
    for name, numbers in parts.items():
        if len(numbers) == 0:
            raise UserError(file, f"--split {name}={fractions[name]:g}", f"0 of {len(labels)} images",
                            "at least one image in every split named")
    return parts
