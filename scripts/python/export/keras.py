"""Weights of a sequential Keras model from its HDF5 file, in PyTorch's layout and without TensorFlow."""

import json

import h5py
import numpy as np

from common.errors import UserError, one_line

# What a Keras file must say of each architecture that can be read from one: its layers in order, with what the
# weights alone would not show.
LAYERS = {
    "lenet5": [
        ("Conv2D", {"activation": "relu", "padding": "valid", "strides": [1, 1]}),
        ("MaxPooling2D", {"pool_size": [3, 3], "strides": [3, 3], "padding": "valid"}),
        ("Conv2D", {"activation": "relu", "padding": "valid", "strides": [1, 1]}),
        ("MaxPooling2D", {"pool_size": [2, 2], "strides": [2, 2], "padding": "valid"}),
        ("Flatten", {}),
        ("Dense", {"activation": "relu"}),
        ("Dense", {"activation": "relu"}),
        ("Dense", {"activation": "softmax"}),
    ],
}


def is_keras(path):
    return path.suffix.lower() in (".h5", ".hdf5", ".keras")


def _text(value):
    return value.decode() if isinstance(value, bytes) else str(value)


def _opened(path):
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise UserError(path, found="a file that is not HDF5, or a damaged one", expected="Keras weights (.h5)",
                        remedy="copy or save it again") from error


def refuse_others(path, expected):
    """Raises where the HDF5 file holds no layers of Keras in the form that is read here."""
    with _opened(path) as handle:
        root = handle.get("model_weights", handle)
        if "layer_names" in root.attrs:
            return
        newer = "layers" in handle or "_layer_checkpoint_dependencies" in handle
        data = all(name in handle.attrs for name in ("classes", "divisor", "mean", "std"))
    found = ("weights of Keras in the form of Keras 3 (.weights.h5)" if newer else
             "a data file of the harness, no weights" if data else
             "an HDF5 file that is none of Keras: it has no attribute layer_names")
    raise UserError(path, found=found, expected=expected, remedy="model.save(FILE.h5) in Keras writes what is read here")


def _check_structure(handle, path, architecture):
    """A file of weights alone says nothing about structure; a whole model must be the architecture asked for."""
    if "model_config" not in handle.attrs:
        return
    place = "/ attribute model_config"
    try:
        config = json.loads(_text(handle.attrs["model_config"]))
        layers = config["config"] if isinstance(config["config"], list) else config["config"]["layers"]
        layers = [(layer["class_name"], layer["config"]) for layer in layers if layer["class_name"] != "InputLayer"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(path, place, f"text that cannot be read ({error})", "the JSON of a Keras model") from error
    if config.get("class_name") != "Sequential":
        raise UserError(path, place, f"a {config.get('class_name')} model", "a Sequential model")
    expected = LAYERS[architecture]
    names = [name for name, _ in layers]
    if names != [name for name, _ in expected]:
        raise UserError(path, place, f"layers {', '.join(names)}",
                        f"those of {architecture}: {', '.join(name for name, _ in expected)}")
    for number, ((name, found), (_, wanted)) in enumerate(zip(layers, expected)):
        if found.get("data_format", "channels_last") != "channels_last":
            raise UserError(path, f"{place}, layer {number} ({name})", "channels_first", "channels_last")
        for key, value in wanted.items():
            if found.get(key) != value:
                raise UserError(path, f"{place}, layer {number} ({name})", f"{key} {found.get(key)}", f"{key} {value}")


def _layer_tensors(group, path):
    names = [_text(name) for name in group.attrs.get("weight_names", [])]
    tensors = []
    for name in names:
        if name not in group:
            raise UserError(path, f"{group.name}/{name}", "nothing", "the weights that weight_names lists")
        tensors.append((name.rsplit("/", 1)[-1].split(":")[0], np.asarray(group[name], dtype=np.float32)))
    return tensors


def read(path, architecture):
    """[(place, "weight" or "bias", array)] in the model's order.

    Convolution kernels row,column,in,out become out,in,row,column. Dense kernels in,out are transposed; the
    first one after a convolution also has its inputs brought from row,column,channel to channel,row,column.
    """
    if architecture not in LAYERS:
        raise UserError(path, found="a Keras file", expected=f"for {architecture} safetensors or a PyTorch state "
                        f"dict; Keras files are read for {', '.join(LAYERS)}")
    with _opened(path) as handle:
        _check_structure(handle, path, architecture)
        try:
            return _in_our_layout(handle, path)
        except UserError:
            raise
        except Exception as error:  # attributes of other types, and whatever HDF5 raises for a damaged file
            raise UserError(path, found=f"a Keras file that cannot be read ({one_line(error)})",
                            expected="layers with the weights that their attributes name",
                            remedy="save it again: model.save(FILE.h5)") from error


def _in_our_layout(handle, path):
    root = handle.get("model_weights", handle)
    result, channels = [], 0
    for layer in map(_text, root.attrs["layer_names"]):
        if layer not in root:
            raise UserError(path, f"{root.name}/{layer}", "nothing", "the layer that layer_names lists")
        for kind, array in _layer_tensors(root[layer], path):
            place = f"{root[layer].name}/{kind}"
            if kind == "kernel" and array.ndim == 4:
                result.append((place, "weight", np.ascontiguousarray(array.transpose(3, 2, 0, 1))))
                channels = array.shape[3]
            elif kind == "kernel" and array.ndim == 2:
                if channels and array.shape[0] % channels == 0:
                    positions = array.shape[0] // channels
                    array = array.reshape(positions, channels, -1).transpose(1, 0, 2).reshape(array.shape)
                channels = 0
                result.append((place, "weight", np.ascontiguousarray(array.T)))
            elif kind == "bias" and array.ndim == 1:
                result.append((place, "bias", array))
            else:
                raise UserError(path, place, f"{kind} of shape {array.shape}",
                                "kernels and biases of convolutions and dense layers")
    return result
