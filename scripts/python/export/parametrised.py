"""Weights that are computed from others (weight norm, spectral norm, pruning, parametrizations) to plain weights.

Such a network is exported with the weights it uses: TorchScript does not compile the code that computes them, and a
repair changes the weights themselves.
"""

from torch import nn
from torch.nn.utils import parametrize, prune

from common.errors import note, one_line


def _fold_parametrizations(module):
    names = list(module.parametrizations) if parametrize.is_parametrized(module) else []
    for name in names:
        parametrize.remove_parametrizations(module, name, leave_parametrized=True)
    return names


def _fold_hooks(module):
    """Pruning, and the older form of weight norm and spectral norm, which compute the weight in a hook."""
    names = []
    for hook in list(module._forward_pre_hooks.values()):  # PyTorch's own removal functions look there as well
        if isinstance(hook, prune.BasePruningMethod):
            remove, name = prune.remove, hook._tensor_name
        else:
            remove = {"WeightNorm": nn.utils.remove_weight_norm,
                      "SpectralNorm": nn.utils.remove_spectral_norm}.get(type(hook).__name__)
            name = getattr(hook, "name", None)
        if remove is not None:
            remove(module, name)
            names.append(name)
    return names


def fold(model, what):
    """Replaces every computed weight by its value (in eval mode), and says so. What PyTorch cannot fold stays."""
    folded = 0
    for place, module in list(model.named_modules()):
        try:
            folded += len(_fold_parametrizations(module)) + len(_fold_hooks(module))
        except Exception as error:  # a parametrization may be anybody's code
            note(f"{what}: the computed weight of {place or 'the network'} stays as it is ({one_line(error)})")
    if folded:
        what_is = "1 weight that is" if folded == 1 else f"{folded} weights that are"
        note(f"{what}: {what_is} computed from others (parametrizations, pruning) exported as plain weights")
