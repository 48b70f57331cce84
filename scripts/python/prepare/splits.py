"""Which images go into which split."""

import numpy as np

from common.errors import UserError, nearest, note
from prepare.container import SPLITS

ALIASES = {"val": "validation", "valid": "validation"}  # as most toolkits name it
NEEDED = {"repair": "on which approaches work", "test": "on which all is measured"}


def permutation(count, seed=42):
    """The permutation of 0..count-1 that NumPy's legacy generator (MT19937) gives for this seed."""
    return np.random.RandomState(seed).permutation(count)


def is_split_name(name):
    return name in SPLITS or name in ALIASES


def split_name(name, file, place):
    """The split's own name, also for an alias of it."""
    if not is_split_name(name):
        raise UserError(file, place, f'"{name}"', "one of " + ", ".join(SPLITS),
                        nearest(name, (*SPLITS, *ALIASES)))
    return ALIASES.get(name, name)


def parse_fractions(text, option="--split"):
    """'repair=.5,test=.5' to a dictionary, in the order given."""
    fractions = {}
    for part in text.split(","):
        name, equals, number = part.partition("=")
        name = name.strip()
        if not equals:
            example = "repair=.5,test=.5" if option == "--split" else "val=.5"
            raise UserError(option, part, "no fraction", f"NAME=FRACTION, such as {example}")
        name = split_name(name, option, part)
        if name in fractions:
            raise UserError(option, part, f"{name} twice", "each split once")
        try:
            fractions[name] = float(number)
        except ValueError:
            fractions[name] = -1.0
        if not 0 < fractions[name] <= 1:
            raise UserError(option, part, f'"{number}"', "a number above 0 and at most 1")
    if sum(fractions.values()) > 1 + 1e-9:
        raise UserError(option, text, f"fractions that add up to {sum(fractions.values()):g}", "at most 1")
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


def by_fractions(labels, fractions, seed, stratified, file, option="--split"):
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
            raise UserError(file, f"{option} {name}={fractions[name]:g}", f"0 of {len(labels)} images",
                            "at least one image in every split named")
    return parts


def _cuts(given, there, source):
    """{split: {"repair" or "test": fraction}} of --repair-from and --test-from."""
    cuts = {}
    for name in NEEDED:
        option, text = f"--{name}-from", getattr(given, f"{name}_from")
        if text is None:
            continue
        fractions = parse_fractions(text, option)
        if len(fractions) != 1:
            raise UserError(option, found=f'"{text}"', expected="one split and its fraction, such as val=.5")
        (origin, fraction), = fractions.items()
        if name in there:
            raise UserError(option, found=f"a split {name} in {source}", expected="a source without it")
        if origin not in there:
            raise UserError(option, text, f"no {origin} in {source}", "one of its splits: " + ", ".join(there))
        cuts.setdefault(origin, {})[name] = fraction
    for origin, fractions in cuts.items():
        if sum(fractions.values()) > 1 + 1e-9:
            raise UserError("--repair-from and --test-from", origin,
                            f"fractions that add up to {sum(fractions.values()):g}", "at most 1")
    return cuts


def cut_named(numbers, labels, given, source):
    """Cuts repair and test out of the source's own splits `numbers` (image numbers per split), as the options say."""
    labels, result = np.asarray(labels), dict(numbers)
    for origin, fractions in _cuts(given, list(numbers), source).items():
        whole = numbers[origin]
        for name, chosen in by_fractions(labels[whole], fractions, given.seed, given.stratified, source,
                                         f"out of {origin}:").items():
            result[name] = whole[chosen]
        taken = np.concatenate([result[name] for name in fractions])
        result[origin] = np.setdiff1d(whole, taken)
        if not len(result[origin]):
            del result[origin]
    for name, purpose in NEEDED.items():
        if name not in result:
            origin = next((split for split in ("validation", "test", "train") if split in result), None)
            how = f": --{name}-from {origin}=.5 cuts it out of {origin}" if origin else ""
            note(f"{source}: there is no split {name}, {purpose}{how}")
    return {name: result[name] for name in SPLITS if name in result}
