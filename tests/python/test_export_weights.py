"""scripts/export with weight files as others store them: keys, prefixes, pickles, and files that are no weights."""

import argparse
import io
import json
import pickle
import unittest
import zipfile

import h5py
import numpy as np
import safetensors.torch
import torch
from torch import nn

from export_case import FACTORY, Case, UserError
from export import weights  # noqa: E402  (its folder comes with export_case)
from export.architectures import ARCHITECTURES  # noqa: E402


class WeightsTest(Case):
    def setUp(self):
        super().setUp()
        self.model = self.network()
        self.state = self.model.state_dict()
        self.path = self.folder / "w.pth"

    def line(self, content, *more):
        """The line of output for a file with this content; the model must hold the right weights."""
        torch.save(content, self.path)
        line, said = self.run_export("--weights", self.path, *more)
        self.answers_as(self.model)
        return line + said

    def prefixed(self, prefix, state=None):
        return {prefix + name: tensor for name, tensor in (state or self.state).items()}

    def times(self, factor):
        return {name: tensor * factor for name, tensor in self.state.items()}

    def test_prefixes_and_keys_are_unwrapped_and_named(self):
        for prefix in ("", "module.", "model.", "net.", "_orig_mod.", "module._orig_mod.", "model.net.", "it.may.be."):
            for key in ((), ("state_dict",), ("model",), ("net",), ("model_state_dict",), ("ema",), ("its", "own")):
                content = self.prefixed(prefix)
                for name in reversed(key):
                    content = {name: content, "epoch": 3, "acc": 91.2, "optimizer": {"state": {}, "param_groups": [1]}}
                with self.subTest(prefix=prefix, key=key):
                    torch.save(content, self.path)
                    model = self.network(seed=4)
                    text = weights.load(self.path, model)
                    for name, tensor in model.state_dict().items():
                        self.assertTrue(torch.equal(tensor, self.state[name]), name)
                    said = [f"under {'.'.join(key)}"] * bool(key) + [f"without the prefix {prefix}"] * bool(prefix)
                    self.assertEqual(text, ", ".join(said))
        self.assertIn("; weights under state_dict, without the prefix model.",
                      self.line({"state_dict": self.prefixed("model.")}))

    def test_wrapper_inside_names(self):
        line = self.line({name.replace("conv.", "conv._orig_mod."): tensor for name, tensor in self.state.items()})
        self.assertIn("without _orig_mod. in names", line)

    def test_two_sets_that_only_a_wrapper_tells_apart(self):
        line = self.line({**self.prefixed("_orig_mod."), "conv.weight": torch.ones(4, 1, 3, 3), "old": torch.ones(1)})
        self.assertIn("without the prefix _orig_mod., 2 other tensors left out (conv.weight, old)", line)

    def test_network_with_a_prefix_of_its_own(self):
        (self.folder / "mine.py").write_text(FACTORY + """
class Around(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Net()
    def forward(self, x):
        return self.inner(x)
""")
        torch.save(self.prefixed("module."), self.path)
        line, _ = self.run_export("--weights", self.path, network="Around")
        self.assertIn("without the prefix module., with the prefix inner.", line)
        self.answers_as(self.model)

    def test_other_tensors_outside_the_prefix_are_named(self):
        line = self.line({**self.prefixed("module."), "n_averaged": torch.tensor(3)})
        self.assertIn("1 other tensor left out (n_averaged)", line)
        text = self.refused_content({**self.prefixed("module."), "module.more": torch.ones(2)})
        self.assertIn("unexpected module.more", text)

    def refused_content(self, content, *more):
        torch.save(content, self.path)
        self.out.unlink(missing_ok=True)
        return self.refused("--weights", self.path, *more)

    def test_of_several_sets_the_one_that_fits(self):
        unfit = {name: torch.cat([tensor.reshape(-1), torch.ones(1)]) for name, tensor in self.times(2).items()}
        self.assertIn("under student", self.line({"teacher": unfit, "student": self.state}))
        self.assertIn("under a", self.line({"a": self.state, "b": dict(self.state)}))  # the same twice is no question

    def test_several_that_fit_are_listed_and_one_is_chosen(self):
        content = {"state_dict": self.times(2), "ema": self.state, **self.prefixed("avg.", self.times(4))}
        text = self.refused_content(content)
        self.assertNotIn("\n", text)
        for part in ("3 sets", "avg", "state_dict", "ema", "--key"):
            self.assertIn(part, text)
        content["avg2"] = self.prefixed("x.", self.times(3))
        self.assertIn("avg2.x", self.refused_content(content))
        self.assertIn("under ema", self.line(content, "--key", "ema"))
        self.assertIn("did you mean ema?", self.refused_content(content, "--key", "emma"))
        together = {**self.prefixed("model."), **self.prefixed("ema_model.", self.times(2))}
        self.assertIn("ema_model", self.refused_content(together))
        self.assertIn("without the prefix model.", self.line(together, "--key", "model"))

    def test_every_kind_of_misfit_is_shown(self):
        wide = nn.ModuleDict({f"layer{i}": nn.Linear(2, 2) for i in range(12)}).state_dict()
        state = dict(self.state)
        del state["fc.bias"]
        state["fc.weight"] = torch.ones(9, 9)
        text = self.refused_content({"net": {**state, **wide}})
        for part in ("1 missing", "missing fc.bias, shape (3,)", "24 unexpected", "unexpected layer0.weight",
                     "17 more unexpected", "1 of another shape", "fc.weight has shape (9, 9), expected (3, 4)",
                     "tensors under net"):
            self.assertIn(part, text)

    def test_a_counter_may_be_missing(self):
        self.line({name: tensor for name, tensor in self.state.items() if not name.endswith("num_batches_tracked")})

    def test_safetensors_by_content_and_with_prefixes(self):
        safetensors.torch.save_file(self.prefixed("model."), self.path)  # called .pth
        line, _ = self.run_export("--weights", self.path)
        self.assertIn("without the prefix model.", line)
        self.answers_as(self.model)


class Own:
    """A class of a training script, in a pickle."""

    def __init__(self, state):
        self.state = state


class Named(nn.Module):
    """A whole network in a pickle, with these tensors."""

    def __init__(self, state):
        super().__init__()
        for name in {name.partition(".")[0] for name in state}:
            self.add_module(name, nn.Module())
        for name, tensor in state.items():
            self.get_submodule(name.partition(".")[0]).register_buffer(name.partition(".")[2], tensor)


class Runs:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return exec, (f"open({str(self.path)!r}, 'w')",)


class WrongFilesTest(Case):
    def test_what_blocks_a_pickle_is_named(self):
        state = self.network().state_dict()
        path = self.folder / "w.pth"
        for name, content in (("argparse.Namespace", {"state_dict": state, "args": argparse.Namespace(lr=0.1)}),
                              ("__main__.Own", {"net": state, "own": Own(1)}), ("pathlib", {"net": state, "p": [path]}),
                              ("torch.nn.modules.linear.Linear", nn.Linear(2, 2))):
            for zipped in (True, False):
                torch.save(content, path, _use_new_zipfile_serialization=zipped)
                with self.subTest(name, zipped=zipped):
                    text = self.refused("--weights", path)
                    self.assertNotIn("\n", text)
                    for part in (name, "torch.save(model.state_dict(), FILE)", "--trust-pickle", "runs whatever code"):
                        self.assertIn(part, text)

    def test_trust_is_warned_of_and_loads(self):
        path, model = self.folder / "w.pth", self.network()
        state, arguments = model.state_dict(), argparse.Namespace(lr=0.1)
        for content, part in (({"state_dict": state, "args": arguments}, "; weights under state_dict"),
                              (nn.ModuleDict({"inner": Named(state)}), "; weights without the prefix inner.")):
            torch.save(content, path)
            line, said = self.run_export("--weights", path, "--trust-pickle")
            self.assertIn(part, line)
            self.assertRegex(said, "note: .*runs whatever code the file holds")
            self.answers_as(model)
        torch.save(nn.Linear(2, 2), path)
        self.out.unlink()
        self.assertIn("missing conv.bias", self.refused("--weights", path, "--trust-pickle"))

    def test_code_runs_only_when_trusted(self):
        path, trace = self.folder / "w.pth", self.folder / "trace"
        torch.save({"net": self.network().state_dict(), "more": Runs(trace)}, path)
        self.assertIn("exec", self.refused("--weights", path))
        self.assertFalse(trace.exists())
        self.run_export("--weights", path, "--trust-pickle")
        self.assertTrue(trace.exists())

    def wrong_files(self):
        """(name, content, words of the error)"""
        state = self.network().state_dict()
        saved = io.BytesIO()
        torch.save(state, saved)
        scripted = io.BytesIO()
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), scripted)
        arrays = io.BytesIO()
        np.savez(arrays, a=np.zeros(3))
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("w.pth", b"")
        tensors = safetensors.torch.save(state)
        header = json.dumps({"a": {"dtype": "F33", "shape": [1], "data_offsets": [0, 4]}}).encode()
        pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n"
        for suffix in (".pth", ".safetensors"):
            yield "empty" + suffix, b"", "an empty file"
            yield "lfs" + suffix, pointer, "git lfs pull"
            yield "page" + suffix, b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "web page"
            yield "denied" + suffix, b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "XML"
            yield "text" + suffix, b"404: Not Found", "a text file"
            yield "script" + suffix, scripted.getvalue(), "a TorchScript model"
            yield "arrays" + suffix, arrays.getvalue(), ".npz"
            yield "packed" + suffix, packed.getvalue(), "a zip archive"
            yield "half" + suffix, saved.getvalue()[:len(saved.getvalue()) // 2], "cut short"
            yield "noise" + suffix, bytes(range(255, 0, -1)) * 9, "cannot be read"
            yield "packed.gz" + suffix, b"\x1f\x8b\x08\0\0\0\0\0", "gzip"
            for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
                for content in ({"fc.weight": np.zeros((3, 4))}, {"a": 1}, None, [torch.zeros(2)]):
                    yield f"plain{protocol}{suffix}", pickle.dumps(content, protocol), "pickle that torch.save did not write"
                if protocol > 1:
                    yield f"nothing{protocol}{suffix}", bytes([0x80, protocol]) + b".", "an empty Python pickle"
                    yield f"begun{protocol}{suffix}", bytes([0x80, protocol]) + b"}", "cut short or damaged"
        yield "short.safetensors", tensors[:-7], "cannot be read"
        yield "header.safetensors", tensors[:40], "cannot be read"
        yield "type.safetensors", len(header).to_bytes(8, "little") + header + bytes(4), "cannot be read"
        yield "numbers.pth", None, "without named tensors"

    def hdf5_files(self):
        """(function that fills the file, words of the error)"""
        yield lambda file: None, "none of Keras"
        yield lambda file: file.create_dataset("x", data=np.zeros(3)), "none of Keras"
        yield lambda file: file.create_group("layers/dense/vars"), "Keras 3"
        yield lambda file: file.attrs.update(classes=3, divisor=1, mean=[0], std=[1]), "a data file of the harness"
        for names in (3, [1.5], "one", [b"absent"], h5py.Empty("f")):
            yield lambda file, names=names: file.attrs.create("layer_names", names), None
        yield lambda file: (file.attrs.create("layer_names", [b"a"]), file.create_dataset("a", data=1)), None

    def test_hdf5_files_are_called_what_they_are(self):
        path = self.folder / "w.h5"
        for number, (fill, words) in enumerate(self.hdf5_files()):
            with h5py.File(path, "w") as file:
                fill(file)
            for architecture in ("lenet5", "vgg16", None):
                with self.subTest(number, architecture=architecture), self.assertRaises(UserError) as caught:
                    weights.read(path, ARCHITECTURES[architecture or "lenet5"][0](), architecture)
                self.assertIn(words or "", str(caught.exception))
                self.assertEqual(len(str(caught.exception).splitlines()), 1)
                self.assertNotIn("a Keras file" if words else "\0", str(caught.exception))

    def test_damaged_files_are_refused_or_fit(self):
        model, path, random, outcomes = self.network(), self.folder / "w.pth", np.random.RandomState(1), set()
        for zipped in (True, False, None):
            if zipped is None:
                safetensors.torch.save_file(model.state_dict(), path)
            else:
                torch.save({"net": model.state_dict()}, path, _use_new_zipfile_serialization=zipped)
            whole = path.read_bytes()
            for _ in range(60):
                content = bytearray(whole)
                for place in random.randint(0, len(whole), random.choice([1, 3, 20])):
                    content[place] = random.randint(256)
                path.write_bytes(content[:random.choice([len(whole), random.randint(len(whole))], p=[0.8, 0.2])])
                try:
                    weights.load(path, model)
                    outcomes.add("fits")
                except UserError:
                    outcomes.add("refused")
        self.assertEqual(outcomes, {"fits", "refused"})

    def test_each_is_called_what_it_is_in_one_line(self):
        for name, content, part in self.wrong_files():
            with self.subTest(name):
                path = self.folder / name
                if content is None:
                    torch.save({"epoch": 3, "loss": 0.5}, path)
                else:
                    path.write_bytes(content)
                text = self.refused("--weights", path)
                self.assertNotIn("\n", text)
                self.assertIn(name, text)
                self.assertIn(part, text)
                self.assertLess(len(text), 600)


if __name__ == "__main__":
    unittest.main(warnings="ignore")  # TorchScript announces its deprecation at every call
