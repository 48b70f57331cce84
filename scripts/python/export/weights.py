"""Weight files into a module: every tensor named, of the right shape, finite; nothing left over."""

import pathlib
import pickletools
import re
import warnings

import numpy as np
import safetensors.torch
import torch

from common import kinds
from common.errors import UserError, note, one_line
from common.files import existing_file
from export import fitting, keras

KINDS = "weights as safetensors, a PyTorch state dict (.pt, .pth) or, for lenet5, Keras (.h5)"
STATE_DICT = "a state dict saved with torch.save(model.state_dict(), FILE)"
NO_WEIGHTS = (*kinds.USELESS, "torchscript", "pt2", "keras", "npz", "npy", "zip", "text")
TORCH_PICKLE = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # how torch.save's files began before they were archives
BLOCKED = re.compile(r"(?:GLOBAL|global:?|class) ([A-Za-z_]\w*(?:\.\w+)+)")  # in PyTorch's refusals of a pickle


def _read_safetensors(path):
    try:
        return safetensors.torch.load_file(path)
    except Exception as error:  # a damaged header may raise anything
        raise UserError(path, found=f"a file that cannot be read ({one_line(error)})",
                        expected="safetensors") from error


def _blocking_classes(path, error):
    """Names of the classes and functions for which PyTorch refuses to unpickle the file; empty if that is not why."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # an older PyTorch, or a file of its older format
        names = []
    return sorted(names) or sorted(set(BLOCKED.findall(str(error))))


def _refuse_other_pickles(path, kind):
    """Raises for a pickle that torch.save did not write, which torch.load cannot read, trusted or not."""
    if kind.name not in ("pickle", "text", ""):  # the oldest protocols are text, or begin with anything
        return
    with open(path, "rb") as stream:
        if stream.read(len(TORCH_PICKLE)) == TORCH_PICKLE:
            return
        stream.seek(0)
        found = "an empty Python pickle"
        try:
            for code, _, _ in pickletools.genops(stream):
                if code.name not in ("PROTO", "FRAME", "STOP"):
                    found = "a Python pickle that torch.save did not write"
        except Exception:  # bytes that are no pickle may raise anything
            if kind.name != "pickle":
                return
            found = "a Python pickle that is cut short or damaged"
    raise UserError(path, found=found, expected=STATE_DICT, remedy="where it was made, save a dictionary of arrays with "
                    "torch.save({name: torch.as_tensor(array) for name, array in weights.items()}, FILE)")


def _unpickle(path, trust):
    """Whatever torch.save wrote into the file."""
    if trust:
        note(f"{path}: loaded as --trust-pickle says, which runs whatever code the file holds")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=not trust)
    except Exception as error:  # code in a pickle may raise anything
        if trust:
            remedy = ""
            if isinstance(error, (ImportError, AttributeError)):
                remedy = "the classes it was saved with must be importable: PYTHONPATH=FOLDER names where they lie"
            raise UserError(path, found=f"a file that cannot be loaded ({type(error).__name__}: {one_line(error)})",
                            expected=STATE_DICT, remedy=remedy) from error
        names = _blocking_classes(path, error)
        if names:
            shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
            raise UserError(path, found=f"a pickle with {shown}, which loading safely refuses", expected=STATE_DICT,
                            remedy="save it so where it was made, or give --trust-pickle, which runs whatever code the "
                            "file holds") from error
        raise UserError(path, found=f"a file that cannot be read ({one_line(error)})", expected=STATE_DICT) from error


def _dequantise(tensors, path):
    """NAME.int8 with NAME.scale (one per output channel) to NAME = int8 * scale."""
    result = {}
    for name, tensor in tensors.items():
        base, _, ending = name.rpartition(".")
        if ending == "int8":
            scale = tensors.get(f"{base}.scale")
            if scale is None or tuple(scale.shape) != tuple(tensor.shape[:1]):
                found = "nothing" if scale is None else f"shape {tuple(scale.shape)}"
                raise UserError(path, f"{base}.scale", found, f"shape {tuple(tensor.shape[:1])}, to go with {name}")
            result[base] = tensor.to(torch.float32) * scale.to(torch.float32).reshape(-1, *[1] * (tensor.dim() - 1))
        elif ending != "scale" or f"{base}.int8" not in tensors:
            result[name] = tensor
    return result


def _in_order(model, entries, path):
    """Names for tensors that come without ours: the model's own, in its order."""
    names = [name for name, _ in model.named_parameters()]
    kinds_wanted = [name.rpartition(".")[2] for name in names]
    found = [kind for _, kind, _ in entries]
    if found != kinds_wanted:
        raise UserError(path, found=f"{len(found)} tensors ({', '.join(place for place, _, _ in entries)})",
                        expected=f"{len(names)}: {', '.join(names)}")
    return {name: torch.from_numpy(np.array(array)) for name, (_, _, array) in zip(names, entries)}


def read(path, model, architecture=None, trust=False):
    """The content of a weight file: tensors by name, or dictionaries in which they lie somewhere."""
    path = existing_file(pathlib.Path(path), KINDS)
    kind = kinds.kind_of(path)
    _refuse_other_pickles(path, kind)
    kinds.refuse(path, kind, KINDS, NO_WEIGHTS)
    if keras.is_keras(path) or kind.name == "hdf5":
        keras.refuse_others(path, KINDS)
        if architecture is None:
            raise UserError(path, found="a Keras file", expected="for one's own network safetensors or a state dict")
        return _in_order(model, keras.read(path, architecture), path)
    if kind.name == "safetensors" or kind.name == "" and path.suffix.lower() == ".safetensors":
        return _dequantise(_read_safetensors(path), path)
    return _unpickle(path, trust)


def load(path, model, architecture=None, key=None, trust=False):
    """Reads the file and copies it into the model; every disagreement is named at once. What was unwrapped, as text."""
    wanted = model.state_dict()
    fit = fitting.choose(read(path, model, architecture, trust), wanted, path, key)
    found = fitting.problems(fit, wanted)
    if found:
        counts, lines = fitting.summary(found)
        place = f"tensors {fit.text()}" if fit.label != "." else ""
        raise UserError(path, place, f"tensors that do not fit the network ({counts})",
                        f"its {len(wanted)} tensors:{lines}")
    with torch.no_grad():
        for name, tensor in fit.tensors.items():
            wanted[name].copy_(tensor)
    return fit.text()
