"""A module to a TorchScript file that has been loaded again and compared."""

import dataclasses
import io
import pathlib
import warnings

import torch

from common.errors import UserError, note, one_line
from common.files import write_bytes
from export import parametrised

TOLERANCE = 1e-5  # of the greatest output; the file runs the same operators, so the difference is mostly 0
BATCH_TOLERANCE = 1e-3  # of the greatest output: other batch sizes add up in another order


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
        outputs = module(inputs.clone())  # a network may change its input in place
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


def _difference(expected, found):
    return float((expected - found).abs().max())


def _near(expected, found, tolerance=TOLERANCE):
    return found.shape == expected.shape and _difference(expected, found) <= tolerance * float(expected.abs().max())


def _random(shape, seed):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def _run(module, inputs):
    """The module's output, or None where it does not run on inputs of this shape."""
    try:
        with torch.no_grad(), torch.jit.optimized_execution(False):
            return module(inputs.clone())
    except Exception:  # a network's own code may raise anything
        return None


@dataclasses.dataclass
class Asked:
    """Images and what the network itself answers: what the exported file must answer, too."""
    example: torch.Tensor
    expected: torch.Tensor
    larger: torch.Tensor            # a batch of one image more
    expected_larger: torch.Tensor   # or None where the network does not run on it


def _ask(model, shape, what):
    """Refuses what no export can mend: outputs that are random, or that depend on the other images of the batch."""
    example = _random(shape, 0)
    try:
        expected = _outputs(model, example, what)
    except UserError:
        raise
    except Exception as error:  # whatever the network's own code raises
        raise UserError(what, "forward", one_line(error),
                        f"a network that runs on inputs of shape {tuple(shape)}") from error
    if not _near(expected, _outputs(model, example, what)):
        raise UserError(what, "output", "other values when called again with the same images",
                        "a network that gives the same output every time",
                        "dropout must stop in eval mode: functional.dropout(x, p, training=self.training)")
    larger = torch.cat([_random((1, *shape[1:]), 1), example])
    answer = _run(model, larger)
    if answer is not None and answer.shape == (len(larger), expected.shape[1]) \
            and not _near(expected, answer[1:], BATCH_TOLERANCE):
        raise UserError(what, "output", "outputs of an image that depend on the other images of its batch",
                        "an output per image alone", "batch norm with track_running_stats=False does so, for one")
    return Asked(example, expected, larger, answer)


def _attempt(model, asked, traced, what):
    """(content of the file, greatest difference, whether only this batch size works). Whatever goes wrong is raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of deprecations, and of what tracing bakes in: that is checked below
        module = torch.jit.trace(model, asked.example.clone(), check_trace=False) if traced else torch.jit.script(model)
        buffer = io.BytesIO()  # not by file name, which would become part of the content
        torch.jit.save(module, buffer)
        loaded = torch.jit.load(io.BytesIO(buffer.getvalue()), map_location="cpu").eval()
    difference = _difference(asked.expected, _outputs(loaded, asked.example, what))
    limit = TOLERANCE * float(asked.expected.abs().max())
    if not difference <= limit:
        raise UserError(what, "exported file", f"outputs that differ by {difference:g}", f"at most {limit:g}")
    answer = _run(loaded, asked.larger)
    fixed_batch = asked.expected_larger is None or answer is None or not _near(asked.expected_larger, answer)
    if fixed_batch:  # of the batch size, or of the values of the images
        other = _random(asked.example.shape, 2)
        if not _near(_outputs(model, other, what), _outputs(loaded, other, what)):
            raise UserError(what, "exported file", "other outputs than the network's on other images",
                            "a network whose code does not decide by the values of its input")
    return buffer.getvalue(), difference, fixed_batch


def _first_that_works(model, asked, traced, what):
    """(traced or scripted, *_attempt): compiled, or recorded where that fails or is not wanted."""
    reason = ""
    if not traced:
        try:
            return ("scripted", *_attempt(model, asked, False, what))
        except Exception as error:  # the compiler raises errors of many kinds, also on what it merely does not know
            reason = one_line(error)
    try:
        result = ("traced", *_attempt(model, asked, True, what))
    except Exception as error:
        ways = f"neither compiles ({reason}) nor traces" if reason else "does not trace"
        raise UserError(what, found=f"a network that TorchScript {ways} ({one_line(error, 400)})",
                        expected="a network that one of the two can export") from error
    if reason:
        note(f"{what}: TorchScript does not compile it ({reason}): one execution is recorded instead (traced)")
    return result


def export(model, shape, out, traced, what):
    """Writes `model` (in eval mode) to `out`; `shape` is N,C,H,W. Raises UserError where it cannot."""
    model.eval()
    asked = _ask(model, shape, what)
    parametrised.fold(model, what)
    way, content, difference, fixed_batch = _first_that_works(model, asked, traced, what)
    write_bytes(out, content)
    return Report(pathlib.Path(out), way, tuple(shape), asked.expected.shape[1],
                  sum(parameter.numel() for parameter in model.parameters()), difference, fixed_batch)
