"""Which tensors of a weight file are the network's: those under the key and the prefix with which all of them fit.

A training script may store its weights under a key (state_dict, net, ema ...), and wrappers (DataParallel, Lightning,
torch.compile) put a prefix before every name. Whatever they are called, a set of tensors fits if every name and
every shape of the network is there, and nothing else under the same prefix.
"""

import collections.abc
import dataclasses

import numpy as np
import torch

from common.errors import UserError, nearest

DEEPEST = 5  # of keys inside keys
WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")  # wherever they stand in a name
COUNTER = ".num_batches_tracked"  # no prediction depends on it: it may be missing
MANY = 7         # problems shown of each kind


@dataclasses.dataclass
class Candidate:
    """Tensors that lie together in a file."""
    key: tuple       # of the dictionaries they are in; () for the outermost
    tensors: dict


@dataclasses.dataclass
class Fit:
    """A candidate's tensors by the network's own names, and how the names were changed."""
    candidate: Candidate
    removed: str     # prefix of the file's names
    added: str       # prefix that the network's names have and the file's have not
    tensors: dict    # name in the network -> tensor
    left_out: list   # names outside the prefix
    names: dict      # name in the network -> name in the file

    @property
    def label(self):
        """What --key calls it."""
        return ".".join([*self.candidate.key, *filter(None, [self.removed.rstrip(".")])]) or "."

    def text(self):
        """What was unwrapped, for the line of output; empty where nothing was."""
        parts = []
        if self.candidate.key:
            parts.append(f"under {'.'.join(self.candidate.key)}")
        if self.removed:
            parts.append(f"without the prefix {self.removed}")
        if self.added:
            parts.append(f"with the prefix {self.added}")
        wrappers = [word for word in WRAPPERS if any(word in name for name in self.names.values())
                    and word not in self.removed]
        if wrappers:
            parts.append(f"without {' and '.join(wrappers)} in names")
        if self.left_out:
            shown = ", ".join(self.left_out[:3]) + (", ..." if len(self.left_out) > 3 else "")
            parts.append(f"{len(self.left_out)} other tensor{'s' * (len(self.left_out) > 1)} left out ({shown})")
        return ", ".join(parts)


def candidates(content, key=()):
    """Every dictionary of the file that holds named tensors, outermost first."""
    if isinstance(content, torch.nn.Module):
        content = content.state_dict()
    if isinstance(content, (list, tuple)) and len(key) < DEEPEST:
        for number, value in enumerate(content):
            if isinstance(value, (collections.abc.Mapping, torch.nn.Module)):
                yield from candidates(value, (*key, str(number)))
    if not isinstance(content, collections.abc.Mapping):
        return
    tensors = {name: torch.as_tensor(value) for name, value in content.items()
               if isinstance(name, str) and (isinstance(value, torch.Tensor) or _is_array(value))}
    if tensors:
        yield Candidate(key, tensors)
    for name, value in content.items() if len(key) < DEEPEST else ():
        if isinstance(value, (collections.abc.Mapping, list, tuple, torch.nn.Module)):
            yield from candidates(value, (*key, str(name)))


def _is_array(value):
    return isinstance(value, np.ndarray) and value.dtype.kind in "fiub"


def _prefixes(names):
    """Of names such as a.b.c the beginnings "", "a." and "a.b.", the shortest first."""
    found = {""}
    for name in names:
        parts = name.split(".")
        found.update(".".join(parts[:count]) + "." for count in range(1, len(parts)))
    return sorted(found, key=lambda prefix: (prefix.count("."), prefix))


def _common_prefixes(names):
    """Prefixes that all the names have."""
    return [prefix for prefix in _prefixes(names[:1]) if all(name.startswith(prefix) for name in names)]


def _bare(name):
    for word in WRAPPERS:
        name = name.replace(word, "")
    return name


def _fit(candidate, by_bare, removed, added):
    """The candidate's tensors under one prefix, by the network's names."""
    under = {name: original for name, original in by_bare.items() if name.startswith(removed)}
    names = {added + name[len(removed):]: original for name, original in under.items()}
    originals = _common_prefixes(list(under.values()))  # with the wrappers: so it is said
    written = next((prefix for prefix in reversed(originals) if _bare(prefix) == removed), removed)
    return Fit(candidate, written, added, {name: candidate.tensors[original] for name, original in names.items()},
               [original for name, original in by_bare.items() if name not in under], names)


def _ways(candidate, wanted):
    """Fits with the prefixes under which most of the network's names are found; none where no name is."""
    by_bare = {_bare(name): name for name in candidate.tensors}
    if len(by_bare) < len(candidate.tensors):  # two sets that only a wrapper tells apart
        by_bare = {name: name for name in candidate.tensors}
    counts = {}
    for added in _common_prefixes(list(wanted)):
        bare = [name[len(added):] for name in wanted]
        for removed in _prefixes(by_bare):
            counts[removed, added] = sum(removed + name in by_bare for name in bare)
    most = max(counts.values(), default=0)
    needed = sum(not name.endswith(COUNTER) for name in wanted)
    for (removed, added), count in counts.items():
        if 0 < count and (count >= needed or count == most):
            yield _fit(candidate, by_bare, removed, added)


def _fits(fit, wanted):
    return all(name in fit.tensors and fit.tensors[name].shape == tensor.shape or
               name.endswith(COUNTER) and name not in fit.tensors for name, tensor in wanted.items()) \
        and fit.tensors.keys() <= wanted.keys()


def _same(one, other):
    return one.tensors.keys() == other.tensors.keys() and all(
        torch.equal(tensor, other.tensors[name]) for name, tensor in one.tensors.items())


def _chosen(fits, key):
    return [fit for fit in fits if fit.label == key or key == "." and not fit.candidate.key
            or fit.label.startswith(key + ".")]


def choose(content, wanted, path, key=None):
    """The Fit for the network's tensors `wanted` (its state_dict): the one that fits, else the nearest one."""
    sets = list(candidates(content))
    if not sets:
        is_filled = isinstance(content, dict) and content
        keys = f" with the keys {', '.join(map(str, list(content)[:10]))}" if is_filled else ""
        raise UserError(path, found=f"{type(content).__name__}{keys} without named tensors",
                        expected="a state dict: a dictionary of names and tensors")
    ways = [way for candidate in sets for way in _ways(candidate, wanted)]
    if not ways:  # no name in common: all are said to be missing and unexpected
        ways = [Fit(candidate, "", "", candidate.tensors, [], {name: name for name in candidate.tensors})
                for candidate in sets]
    if key is not None:
        labels = sorted({way.label for way in ways})
        ways = _chosen(ways, key)
        if not ways:
            raise UserError(path, f"--key {key}", "no tensors there", "one of " + ", ".join(labels[:20]),
                            nearest(key, labels))
    fits = []
    for way in ways:
        if _fits(way, wanted) and not any(_same(way, other) for other in fits):
            fits.append(way)
    if len(fits) > 1:
        labels = [fit.label for fit in fits]
        raise UserError(path, found=f"{len(fits)} sets of different tensors that all fit: {', '.join(labels)}",
                        expected="one", remedy=f"--key NAME says which, such as --key {labels[0]}")
    if fits:
        return fits[0]
    return max(ways, key=lambda way: sum(name in wanted and tensor.shape == wanted[name].shape
                                         for name, tensor in way.tensors.items()))


def _all_finite(tensor):
    wide = tensor if tensor.element_size() > 1 else tensor.to(torch.float32)  # of 8 bits torch knows little
    return bool(torch.isfinite(wide).all())


def problems(fit, wanted):
    """{kind: [texts]} of everything that does not fit; empty where all does."""
    found = {"missing": [], "unexpected": [], "of another shape": [], "of another type": [], "not finite": []}
    for name, tensor in wanted.items():
        given = fit.tensors.get(name)
        if given is None:
            if not name.endswith(COUNTER):
                found["missing"].append(f"missing {name}, shape {tuple(tensor.shape)}")
        elif given.shape != tensor.shape:
            found["of another shape"].append(f"{name} has shape {tuple(given.shape)}, expected {tuple(tensor.shape)}")
        elif given.is_floating_point() != tensor.is_floating_point():
            found["of another type"].append(f"{name} is {given.dtype}, expected {tensor.dtype}")
        elif given.is_floating_point() and not _all_finite(given):
            found["not finite"].append(f"{name} holds values that are not finite")
    for name, tensor in fit.tensors.items():
        if name not in wanted:
            hint = nearest(name, list(wanted)) if len(found["unexpected"]) < MANY else ""  # it takes its time
            found["unexpected"].append(f"unexpected {fit.names.get(name, name)}, shape {tuple(tensor.shape)}"
                                       + (f" ({hint})" if hint else ""))
    return {kind: texts for kind, texts in found.items() if texts}


def summary(found):
    """The problems in words: how many of each kind, then the first few of each, a line each."""
    counts = ", ".join(f"{len(texts)} {kind}" for kind, texts in found.items())
    lines = []
    for kind, texts in found.items():
        lines += texts[:MANY] + ([f"... {len(texts) - MANY} more {kind}"] if len(texts) > MANY else [])
    return counts, "".join(f"\n  {line}" for line in lines)
