"""Weight files into a module: every tensor named, of the right shape, finite; nothing left over."""

import pathlib
import pickle

import numpy as np
import safetensors
import safetensors.torch
import torch

from common.errors import UserError, nearest
from common.files import existing_file
from export import keras

KINDS = "weights as safetensors, a PyTorch state dict (.pt, .pth) or, for lenet5, Keras (.h5)"
WRAPPERS = ("state_dict", "model_state_dict", "model")  # under which training scripts store the state dict


def _read_safetensors(path):
    try:
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(path, found=f"a file that cannot be read ({error})", expected="safetensors") from error


def _read_state_dict(path):
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(path, found=f"a file that cannot be read ({reason})",
                        expected="a state dict saved with torch.save(model.state_dict(), FILE)") from error
    for key in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        kind = type(content).__name__ if not isinstance(content, dict) else "a dictionary of other things than tensors"
        raise UserError(path, found=kind, expected="a state dict: a dictionary of names and tensors")
    if content and all(name.startswith("module.") for name in content):  # saved from torch.nn.DataParallel
        content = {name[len("module."):]: value for name, value in content.items()}
    return dict(content)


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
    kinds = [name.rpartition(".")[2] for name in names]
    found = [kind for _, kind, _ in entries]
    if found != kinds:
        raise UserError(path, found=f"{len(found)} tensors ({', '.join(place for place, _, _ in entries)})",
                        expected=f"{len(names)}: {', '.join(names)}")
    return {name: torch.from_numpy(np.array(array)) for name, (_, _, array) in zip(names, entries)}


def read(path, model, architecture=None):
    """The tensors of a weight file, by the model's names."""
    path = existing_file(pathlib.Path(path), KINDS)
    if keras.is_keras(path):
        if architecture is None:
            raise UserError(path, found="a Keras file", expected="for one's own network safetensors or a state dict")
        return _in_order(model, keras.read(path, architecture), path)
    if path.suffix.lower() == ".safetensors":
        return _dequantise(_read_safetensors(path), path)
    return _read_state_dict(path)


def load(path, model, architecture=None):
    """Reads the file and copies it into the model; every disagreement is named at once."""
    tensors = read(path, model, architecture)
    wanted = model.state_dict()
    problems = []
    for name, tensor in wanted.items():
        given = tensors.get(name)
        if given is None:
            if not name.endswith(".num_batches_tracked"):  # a counter that no prediction depends on
                problems.append(f"missing {name}, shape {tuple(tensor.shape)}")
        elif given.shape != tensor.shape:
            problems.append(f"{name} has shape {tuple(given.shape)}, expected {tuple(tensor.shape)}")
        elif given.is_floating_point() != tensor.is_floating_point():
            problems.append(f"{name} is {given.dtype}, expected {tensor.dtype}")
        elif given.is_floating_point() and not bool(torch.isfinite(given).all()):
            problems.append(f"{name} holds values that are not finite")
    for name, tensor in tensors.items():
        if name not in wanted:
            hint = nearest(name, list(wanted))
            problems.append(f"unexpected {name}, shape {tuple(tensor.shape)}" + (f" ({hint})" if hint else ""))
    if problems:
        shown = problems[:20] + ([f"and {len(problems) - 20} more"] if len(problems) > 20 else [])
        raise UserError(path, found=f"{len(problems)} tensors that do not fit the network", expected="\n  "
                        + "\n  ".join(shown))
    with torch.no_grad():
        for name, tensor in tensors.items():
            wanted[name].copy_(tensor)
