"""A module to a TorchScript file that has been loaded again and compared."""

import dataclasses
import io
import pathlib
import warnings

import torch

from common.errors import UserError
from common.files import write_bytes

TOLERANCE = 1e-5  # of the greatest output; the file runs the same operators, so the difference is mostly 0


@dataclasses.dataclass
class Report:
    """What the export found out."""
    out: pathlib.Path
    way: str
    shape: tuple
    classes: int
    parameters: int
    difference: float
    fixed_batch: bool

    def line(self, what):
        text = (f"{self.out}: {what}, {self.way}, input {','.join(map(str, self.shape[1:]))}, {self.classes} outputs, "
                f"{self.parameters} parameters; loaded again, greatest difference {self.difference:g}")
        if self.fixed_batch:
            text += f"; works only for batches of {self.shape[0]}"
        return text


def _outputs(module, inputs, what):
    with torch.no_grad(), torch.jit.optimized_execution(False):  # optimising costs more than it saves on one run
        outputs = module(inputs)
    if not isinstance(outputs, torch.Tensor):
        raise UserError(what, "output", type(outputs).__name__, "one tensor (N, classes)",
                        "wrap the network in a module that returns its logits only")
    if outputs.dim() != 2 or outputs.shape[0] != inputs.shape[0] or outputs.shape[1] < 2:
        remedy = ""
        if outputs.numel() == inputs.shape[0]:
            remedy = "for one sigmoid output wrap the network: torch.cat([-z / 2, z / 2], 1) of its logit z"
        raise UserError(what, "output", f"shape {tuple(outputs.shape)} for {inputs.shape[0]} images",
                        f"({inputs.shape[0]}, classes) with two classes or more", remedy)
    if not bool(torch.isfinite(outputs).all()):
        raise UserError(what, "output", "values that are not finite", "finite outputs for inputs between 0 and 1")
    return outputs


def _compile(model, example, traced, what):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        if traced:
            return torch.jit.trace(model, example, check_trace=False)
        try:
            return torch.jit.script(model)
        except (RuntimeError, TypeError, OSError, NotImplementedError, AttributeError) as error:
            reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise UserError(what, found=f"code that TorchScript does not compile ({reason})",
                            expected="TorchScript", remedy="--traced records one execution instead") from error


def _difference(expected, found):
    return float((expected - found).abs().max())


def _runs_at(module, model, shape, what):
    """Whether the exported module gives the model's outputs at another batch size than it was made with."""
    inputs = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    expected = _outputs(model, inputs, what)
    try:
        with torch.no_grad(), torch.jit.optimized_execution(False):
            found = module(inputs)
    except RuntimeError:
        return False
    return found.shape == expected.shape and _difference(expected, found) <= TOLERANCE * float(expected.abs().max())


def export(model, shape, out, traced, what):
    """Writes `model` (in eval mode) to `out`; `shape` is N,C,H,W. Raises UserError where it cannot."""
    model.eval()
    example = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    try:
        expected = _outputs(model, example, what)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise UserError(what, "forward", str(error).strip().splitlines()[0],
                        f"a network that runs on inputs of shape {tuple(shape)}") from error
    module = _compile(model, example, traced, what)
    buffer = io.BytesIO()  # not by file name, which would become part of the content
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(module, buffer)
        loaded = torch.jit.load(io.BytesIO(buffer.getvalue()), map_location="cpu").eval()
    difference = _difference(expected, _outputs(loaded, example, what))
    limit = TOLERANCE * float(expected.abs().max())
    if difference > limit:
        raise UserError(what, "exported file", f"outputs that differ by {difference:g}", f"at most {limit:g}",
                        "" if traced else "--traced records one execution instead")
    fixed_batch = not _runs_at(loaded, model, (shape[0] + 1, *shape[1:]), what)
    write_bytes(out, buffer.getvalue())
    return Report(pathlib.Path(out), "traced" if traced else "scripted", tuple(shape), expected.shape[1],
                  sum(parameter.numel() for parameter in model.parameters()), difference, fixed_batch)
