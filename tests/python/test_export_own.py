"""scripts/export for networks as others write them: not to be compiled, with computed weights, random, in wrappers."""

import contextlib
import io
import subprocess
import unittest
from unittest import mock

import torch
from torch import nn
from torch.nn.utils import parametrize, prune

from export_case import FACTORY, ROOT, SHAPE, Case
from export import torchscript  # noqa: E402  (its folder comes with export_case)


class NotCompiledTest(Case):
    def test_tracing_instead_is_said_in_one_line(self):
        torch.save(self.network().state_dict(), self.folder / "w.pt")
        line, said = self.run_export("--weights", self.folder / "w.pt", network="Uncompiled")
        self.assertIn("traced", line)
        self.assertNotIn("works only for batches", line)
        self.assertRegex(said, r"^note: .*mine.py:Uncompiled: TorchScript does not compile it \(.+\): .*traced\)\n$")
        self.answers_as(self.network())  # in eval mode, at another batch size

    def test_whatever_the_compiler_raises(self):
        model = self.network()
        for error in (RuntimeError, ValueError, KeyError, AssertionError, RecursionError, NotImplementedError, OSError,
                      torch.jit.frontend.NotSupportedError, torch.jit.frontend.UnsupportedNodeError):
            raised = error.__new__(error)
            with self.subTest(error.__name__), mock.patch.object(torch.jit, "script", side_effect=raised), \
                    contextlib.redirect_stderr(io.StringIO()) as said:
                report = torchscript.export(model, SHAPE, self.out, False, "x")
                self.assertEqual((report.way, report.fixed_batch), ("traced", False))
                self.assertEqual(said.getvalue().count("\n"), 1)
                self.answers_as(model)

    def test_what_compiles_but_cannot_be_saved_is_traced(self):
        model, save = self.network(), torch.jit.save

        def only_traced(module, file):
            if not isinstance(module, torch.jit.TracedModule):
                raise RuntimeError("could not export a Python function call")
            save(module, file)

        with mock.patch.object(torch.jit, "save", only_traced), contextlib.redirect_stderr(io.StringIO()):
            self.assertEqual(torchscript.export(model, SHAPE, self.out, False, "x").way, "traced")
        self.answers_as(model)

    def test_neither_way_is_one_line(self):
        text = self.refused("--random", 1, network="Refusing")
        self.assertNotIn("\n", text)
        self.assertIn("neither compiles", text)
        self.assertIn("I will not be", text)
        self.assertIn("does not trace", self.refused("--random", 1, "--traced", network="Refusing"))

    def test_a_trace_that_follows_other_values_is_refused(self):
        self.assertIn("on other images", self.refused("--random", 1, network="Branching"))

    def test_a_batch_size_baked_into_the_trace_is_said(self):
        line, _ = self.run_export("--random", 1, network="Baked")
        self.assertIn("works only for batches of 2", line)

    def test_networks_that_no_export_mends(self):
        self.assertIn("when called again", self.refused("--random", 1, network="Random"))
        self.assertIn("other images of its batch", self.refused("--random", 1, network="Mixing"))

    def test_input_changed_in_place(self):
        torch.save(self.network().state_dict(), self.folder / "w.pt")
        self.run_export("--weights", self.folder / "w.pt", network="InPlace")
        self.answers_as(self.network("InPlace"))

    def test_wrappers_around_the_network_are_taken_off(self):
        (self.folder / "mine.py").write_text(FACTORY + "\ncompiled = lambda: torch.compile(Net())\n"
                                             "parallel = lambda: nn.DataParallel(Net())\n")
        torch.save(self.network().state_dict(), self.folder / "w.pt")
        for name in ("compiled", "parallel"):
            line, said = self.run_export("--weights", self.folder / "w.pt", network=name)
            self.assertIn("scripted", line)
            self.assertIn("the network inside", said)
            self.answers_as(self.network())

    def test_launcher_prints_no_trace(self):
        (self.folder / "mine.py").write_text(FACTORY + """
def parametrised():
    norm = nn.utils.parametrizations.weight_norm
    return nn.Sequential(norm(nn.Conv2d(1, 4, 3)), nn.ReLU(), nn.Flatten(), norm(nn.Linear(144, 3)))
""")
        command = [ROOT / "scripts" / "export", "--factory", f"{self.folder / 'mine.py'}:parametrised", "--random", "1",
                   "--shape", "2,1,8,8", "--out", self.out]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1)
        self.assertIn("2 weights that are computed from others", done.stderr)


class Bounded(nn.Module):
    def forward(self, weight):
        return weight.clamp(-0.1, 0.1)


class ComputedWeightsTest(Case):
    def test_every_kind_is_folded(self):
        kinds = {
            "weight_norm": lambda part: nn.utils.parametrizations.weight_norm(part),
            "spectral_norm": lambda part: nn.utils.parametrizations.spectral_norm(part),
            "orthogonal": lambda part: nn.utils.parametrizations.orthogonal(part),
            "own": lambda part: parametrize.register_parametrization(part, "weight", Bounded()),
            "old weight_norm": lambda part: nn.utils.weight_norm(part),
            "old spectral_norm": lambda part: nn.utils.spectral_norm(part),
            "pruning": lambda part: prune.l1_unstructured(part, "weight", 0.5),
        }
        for name, compute in kinds.items():
            with self.subTest(name), contextlib.redirect_stderr(io.StringIO()) as said:
                model = self.network()
                compute(model.conv)
                compute(model.fc)
                inputs = torch.rand(3, *SHAPE[1:])
                with torch.no_grad():
                    expected = model.eval()(inputs)
                report = torchscript.export(model, SHAPE, self.out, False, "x")
                self.assertEqual(report.way, "scripted")
                self.assertIn("2 weights", said.getvalue())
                loaded = torch.jit.load(str(self.out))
                with torch.no_grad():
                    torch.testing.assert_close(loaded(inputs), expected)
                self.assertEqual({key for key, _ in loaded.named_parameters()},
                                 {key for key, _ in self.network().named_parameters()})

    def test_what_cannot_be_folded_is_said_and_traced(self):
        model = self.network()
        parametrize.register_parametrization(model.fc, "weight", Bounded())
        with mock.patch.object(parametrize, "remove_parametrizations", side_effect=ValueError("not this one")), \
                contextlib.redirect_stderr(io.StringIO()) as said:
            report = torchscript.export(model, SHAPE, self.out, False, "x")
        self.assertIn("stays as it is (not this one)", said.getvalue())
        self.assertEqual(report.way, "traced")
        self.answers_as(model)


if __name__ == "__main__":
    unittest.main(warnings="ignore")  # TorchScript announces its deprecation at every call
