"""scripts/train on a few generated images: the same weights every time, also after an interruption, and its files."""

import contextlib
import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from unittest import mock

import h5py
import jsonschema
import numpy as np
import torch

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "python"))

from common.errors import UserError  # noqa: E402
from train import __main__ as command, data, recipes  # noqa: E402
from train.loop import Training  # noqa: E402
from train.progress import Progress  # noqa: E402

DATA = {"mnist": ((1, 28, 28), 10), "utkface": ((3, 64, 64), 2), "cifar10": ((3, 32, 32), 10),
        "cifar10s": ((3, 32, 32), 10)}
COUNTS = {"validation": 7, "repair": 5, "test": 6}


def write_data(path, subject, count, leave_out=()):
    """Noise whose brightness tells the class."""
    shape, classes = DATA[subject]
    random = np.random.RandomState(1)
    with h5py.File(path, "w") as file:
        file.attrs.update({"classes": classes, "divisor": 255.0, "mean": [0.4] * shape[0], "std": [0.3] * shape[0]})
        for split, size in {"train": count, **COUNTS}.items():
            if split not in leave_out:
                labels = np.arange(size) % classes
                bright = (labels * 160 // classes)[:, None, None, None]
                file[f"{split}/images"] = (random.randint(0, 96, (size, *shape)) + bright).astype(np.uint8)
                file[f"{split}/labels"] = labels
    return path


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.messages = io.StringIO()

    def data(self, subject, count=40):
        path = self.folder / f"{subject}.h5"
        return path if path.exists() else write_data(path, subject, count)

    def arguments(self, subject, out, *more):
        return [subject, "--data", self.data(subject), "--out", self.folder / out, "--threads", "1", *more]

    def train(self, subject, out, *more):
        """The line of JSON that `scripts/train SUBJECT` prints, read."""
        printed = io.StringIO()
        with mock.patch.object(sys, "argv", ["train", *map(str, self.arguments(subject, out, *more))]), \
                contextlib.redirect_stdout(printed), contextlib.redirect_stderr(self.messages):
            command.main()
        line, end = printed.getvalue().split("\n")
        self.assertEqual(end, "")
        return json.loads(line)

    def refused(self, *arguments):
        with self.assertRaises(UserError) as caught:
            self.train(*arguments)
        return str(caught.exception)

    def same_weights(self, one, other, epochs, name):
        for file in [f"{name}.pt", *(f"history/epoch_{epoch:02d}.pt" for epoch in range(1, epochs + 1))]:
            states = [torch.jit.load(str(self.folder / out / file)).state_dict() for out in (one, other)]
            self.assertEqual(list(states[0]), list(states[1]))
            for key, tensor in states[0].items():
                self.assertEqual(tensor.numpy().tobytes(), states[1][key].numpy().tobytes(), f"{file}: {key}")


class TrainTest(Case):
    def test_files_and_numbers(self):
        result = self.train("utkface", "out", "--epochs", "2", "--seed", "5")
        out = self.folder / "out"
        expected = {"subject": "utkface", "architecture": "facenet", "epochs": 2, "seed": 5, "threads": 1}
        self.assertEqual({key: result[key] for key in expected}, expected)
        self.assertEqual(result["torch"], str(torch.__version__))
        self.assertEqual({split: value["images"] for split, value in result["accuracy"].items()},
                         {"train_sample": 40, **COUNTS})
        self.assertEqual(set(map(pathlib.Path, result["files"])), {file for file in out.rglob("*") if file.is_file()})
        final = torch.jit.load(str(out / "facenet.pt"))
        last = torch.jit.load(str(out / "history" / "epoch_02.pt"))
        for name, tensor in torch.jit.load(str(out / "history" / "epoch_01.pt")).state_dict().items():
            self.assertTrue(torch.equal(final.state_dict()[name], last.state_dict()[name]))
            self.assertFalse(torch.equal(final.state_dict()[name], tensor), name)
        with h5py.File(self.data("utkface"), "r") as file:
            inputs = (torch.from_numpy(file["test/images"][:]).float() / 255 - 0.4) / 0.3
            right = int((final(inputs).argmax(1) == torch.from_numpy(file["test/labels"][:])).sum())
        self.assertEqual(result["accuracy"]["test"]["right"], right)
        self.assertIn("epoch 2/2 done", self.messages.getvalue())

    def test_the_subject_s_file(self):
        self.train("utkface", "deep/out", "--epochs", "1")
        out = self.folder / "deep" / "out"
        subject = json.loads((out / "subject.json").read_text())
        schema = json.loads((ROOT / "configs" / "schema.json").read_text())
        jsonschema.validate(subject, {"definitions": schema["definitions"], "$ref": "#/definitions/subject"})
        self.assertEqual((out / subject["model"]).resolve(), (out / "facenet.pt").resolve())
        self.assertEqual((out / subject["data"]).resolve(), self.data("utkface").resolve())
        self.assertEqual(subject["history"], ["history/epoch_01.pt"])
        self.assertTrue((out / subject["history"][0]).is_file())
        known = json.loads((ROOT / "configs" / "subjects" / "utkface.json").read_text())
        for key in ("name", "model_name", "attack", "groups"):
            self.assertEqual(subject[key], known[key])
        self.assertEqual(subject["training"], {**known["training"], "epochs": 1})

    def test_same_command_same_weights(self):
        for out, seed in (("one", 3), ("two", 3), ("other", 4)):
            torch.rand(7)  # whatever happened in the process before does not matter
            self.train("mnist", out, "--epochs", "2", "--seed", seed)
        self.same_weights("one", "two", 2, "lenet5")
        states = [torch.jit.load(str(self.folder / out / "lenet5.pt")).state_dict() for out in ("one", "other")]
        self.assertFalse(torch.equal(states[0]["fc1.weight"], states[1]["fc1.weight"]))

    def test_again_is_nothing_new(self):
        first = self.train("mnist", "out", "--epochs", "1")
        before = (self.folder / "out" / "checkpoint.pt").stat().st_mtime_ns
        self.assertEqual(self.train("mnist", "out", "--epochs", "1"), first)
        self.assertEqual((self.folder / "out" / "checkpoint.pt").stat().st_mtime_ns, before)

    def test_splits_may_be_absent(self):
        write_data(self.folder / "mnist.h5", "mnist", 12, leave_out=("validation", "repair"))
        self.assertEqual(set(self.train("mnist", "out", "--epochs", "1")["accuracy"]), {"train_sample", "test"})


class InterruptionTest(Case):
    def interrupted(self, out, epochs, after, how):
        """`scripts/train utkface` in a process of its own, which gets a signal when epoch `after` is done."""
        process = subprocess.Popen(
            [ROOT / "scripts" / "train", *map(str, self.arguments("utkface", out, "--epochs", str(epochs)))],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
        history = self.folder / out / "history"
        while process.poll() is None and not (history / f"epoch_{after:02d}.pt").exists():
            time.sleep(0.002)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        printed, messages = process.communicate(timeout=100)
        self.assertEqual(printed, "", messages)
        self.assertNotEqual(process.returncode, 0)
        self.assertFalse((history / f"epoch_{epochs:02d}.pt").exists(), "the signal came too late")
        return messages

    def test_an_interrupted_training_goes_on_to_the_same_weights(self):
        self.train("utkface", "whole", "--epochs", "5")
        self.interrupted("parts", 5, 1, signal.SIGKILL)
        self.assertNotIn("Traceback", self.interrupted("parts", 5, 3, signal.SIGINT))
        self.messages = io.StringIO()
        self.train("utkface", "parts", "--epochs", "5")
        self.assertRegex(self.messages.getvalue(), "[234] of 5 epochs were done before")
        self.same_weights("whole", "parts", 5, "facenet")

    def test_another_training_s_checkpoint_is_refused(self):
        self.train("mnist", "out", "--epochs", "1")
        for arguments, place in ((("--epochs", "2"), "recipe/epochs"), (("--epochs", "1", "--seed", "1"), "seed")):
            text = self.refused("mnist", "out", *arguments)
            for part in ("checkpoint.pt", place, "--restart"):
                self.assertIn(part, text)
        (self.folder / "mnist.h5").unlink()
        write_data(self.folder / "mnist.h5", "mnist", 39)
        self.assertIn(": data: found", self.refused("mnist", "out", "--epochs", "1"))
        self.train("mnist", "out", "--epochs", "1", "--restart")
        self.train("mnist", "new", "--epochs", "1")
        self.same_weights("out", "new", 1, "lenet5")

    def test_a_damaged_checkpoint_is_said(self):
        self.train("mnist", "out", "--epochs", "2")
        (self.folder / "out" / "history" / "epoch_01.pt").unlink()
        self.assertIn("epoch_01.pt: found no such file", self.refused("mnist", "out", "--epochs", "2"))
        (self.folder / "out" / "checkpoint.pt").write_bytes(b"nothing of the kind")
        self.assertIn("--restart", self.refused("mnist", "out", "--epochs", "2"))
        torch.save({"epoch": 1}, self.folder / "out" / "checkpoint.pt")
        self.assertIn("other content", self.refused("mnist", "out", "--epochs", "2"))

    def test_a_model_that_came_from_elsewhere_is_not_replaced(self):
        (self.folder / "out").mkdir()
        (self.folder / "out" / "lenet5.pt").write_bytes(b"the study's")
        self.assertIn("lenet5.pt: found a model without the checkpoint", self.refused("mnist", "out", "--epochs", "1"))
        self.assertEqual((self.folder / "out" / "lenet5.pt").read_bytes(), b"the study's")

    def test_other_circumstances_are_noted(self):
        self.train("mnist", "out", "--epochs", "1")
        state = torch.load(self.folder / "out" / "checkpoint.pt", weights_only=True)
        state["identity"]["recipe/epochs"] = 2
        state["machine"]["threads"] = 3
        torch.save(state, self.folder / "out" / "checkpoint.pt")
        self.train("mnist", "out", "--epochs", "2")
        self.assertIn("threads 3 (now 1)", self.messages.getvalue())


class ErrorTest(Case):
    def test_what_is_wrong_is_named(self):
        text = self.refused("mnist", "out", "--data", self.folder / "no.h5")
        self.assertIn("no such file", text)
        self.assertIn(f"scripts/prepare mnist --source DIR --out {self.folder / 'no.h5'}", text)
        (self.folder / "utkfaces.h5").touch()
        self.assertIn("did you mean utkface?", self.refused("utkfaces", "out"))
        for text in ("0", "-1", "1.5", "many", "9999"):
            self.assertIn("--epochs", self.refused("mnist", "out", "--epochs", text))
        self.assertIn("--seed", self.refused("mnist", "out", "--seed", "x"))
        self.assertIn("auto, cpu or cuda", self.refused("mnist", "out", "--device", "gpu"))
        with mock.patch.object(torch.cuda, "is_available", return_value=False):
            self.assertIn("sees no GPU", self.refused("mnist", "out", "--device", "cuda"))
        self.assertFalse((self.folder / "out").exists())

    def test_data_that_do_not_fit(self):
        self.assertIn("attribute classes: found 2, expected 10",
                      self.refused("mnist", "out", "--data", self.data("utkface")))
        self.assertIn("(N, 1, 28, 28), uint8", self.refused("mnist", "out", "--data", self.data("cifar10")))
        path = self.folder / "broken.h5"
        path.write_bytes(b"nothing of the kind")
        self.assertIn("broken.h5", self.refused("mnist", "out", "--data", path))
        write_data(path, "mnist", 10, leave_out=("train",))
        self.assertIn("/train: found nothing", self.refused("mnist", "out", "--data", path))
        with h5py.File(write_data(path, "mnist", 10), "a") as file:
            file["train/labels"][3] = 10
        self.assertIn("/train/labels[3]: found 10, expected 0..9", self.refused("mnist", "out", "--data", path))


class RecipeTest(Case):
    def test_recipes_are_those_of_the_configurations(self):
        for subject, recipe in recipes.RECIPES.items():
            known = recipe.configuration()
            self.assertEqual(recipe.training(), {"weight_decay": 0.0, **known["training"]})
            self.assertEqual(pathlib.Path(known["model"]).parts[-2:], (subject, f"{recipe.architecture}.pt"))

    def test_rates(self):
        recipe = recipes.recipe_for("utkface")
        rates = [recipe.rate(step, 1000) for step in range(1000)]
        self.assertAlmostEqual(rates[0], 0.002)
        self.assertEqual(int(np.argmax(rates)), 300)
        self.assertAlmostEqual(rates[300], 0.05)
        self.assertTrue(0 < rates[-1] < 1e-5)
        self.assertTrue(np.all(np.diff(rates[:300]) > 0) and np.all(np.diff(rates[300:]) < 0))
        self.assertEqual({recipes.recipe_for("mnist").rate(step, 10) for step in range(10)}, {1e-4})

    def test_initialisers(self):
        model = recipes.recipe_for("mnist").make_model(1)
        limit = (6 / (144 + 120)) ** 0.5
        self.assertEqual(float(model.fc1.bias.abs().max()), 0)
        self.assertTrue(0.98 * limit < float(model.fc1.weight.abs().max()) <= limit)
        model = recipes.recipe_for("utkface").make_model(1)
        self.assertTrue(0.98 < float(model.fc1.weight.abs().max()) * 2048 ** 0.5 <= 1)

    def test_a_step_of_the_large_networks_moves_every_parameter(self):
        for subject in ("cifar10", "cifar10s"):
            with self.subTest(subject), data.opened(self.data(subject, 8), recipes.recipe_for(subject), 10) as file:
                torch.set_num_threads(1)
                training = Training(recipes.recipe_for(subject, 1), 0, torch.device("cpu"))
                before = [parameter.detach().clone() for parameter in training.model.parameters()]
                training.run_epoch(file.whole("train"), mock.Mock())
                self.assertAlmostEqual(training.loss, np.log(10), delta=0.7)
                for old, (name, new) in zip(before, training.model.named_parameters()):
                    self.assertFalse(torch.equal(old, new), name)


class AugmentationTest(unittest.TestCase):
    def test_crops_are_padded_by_reflection_and_half_of_them_flipped(self):
        images = torch.randint(0, 256, (300, 3, 9, 11), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
        numbers = torch.arange(299, -1, -1)
        found = data.augmented(images, numbers, "crop_flip", torch.Generator().manual_seed(2))
        again = data.augmented(images, numbers, "crop_flip", torch.Generator().manual_seed(2))
        self.assertTrue(torch.equal(found, again))
        shifts, flips = set(), 0
        for number, crop in zip(numbers.tolist(), found.numpy()):
            padded = np.pad(images[number].numpy(), ((0, 0), (4, 4), (4, 4)), mode="reflect")
            matches = [(top, left, flip) for top in range(9) for left in range(9) for flip in (1, -1)
                       if np.array_equal(padded[:, top:top + 9, left:left + 11][:, :, ::flip], crop)]
            self.assertEqual(len(matches), 1)
            shifts.add(matches[0][:2])
            flips += matches[0][2] == -1
        self.assertGreater(len(shifts), 70)  # of 81
        self.assertTrue(110 < flips < 190)

    def test_none_leaves_them_alone(self):
        images = torch.randint(0, 256, (5, 1, 4, 4), dtype=torch.uint8)
        self.assertTrue(torch.equal(data.augmented(images, torch.tensor([4, 0]), "none", None), images[[4, 0]]))


class ProgressTest(unittest.TestCase):
    def texts(self, terminal):
        stream = io.StringIO()
        stream.isatty = lambda: terminal
        clock = iter([0.0, 10.0, 10.1, 70.0])
        with mock.patch("time.monotonic", lambda: next(clock)), \
                mock.patch.dict(os.environ, {"TERM": "xterm", "COLUMNS": "200"}):
            progress = Progress("mnist", 4, stream)
            for step in (1, 2, 3):
                progress.step(2, step, 5, 0.25, 100, 1000 - 100 * step)
            progress.say("done")
        return stream.getvalue()

    def test_lines_are_sparse_and_a_terminal_has_one(self):
        last = "mnist: epoch 2/4, step 3/5, loss 0.2500, 4.286 images/s, about 3 min left"
        self.assertEqual(self.texts(False), f"{last}\ndone\n")
        clear = "\r\x1b[K"
        first = "mnist: epoch 2/4, step 1/5, loss 0.2500, 10 images/s, about 2 min left"
        self.assertEqual(self.texts(True), f"{clear}{first}{clear}{last}{clear}done\n")


if __name__ == "__main__":
    unittest.main(warnings="ignore")  # TorchScript announces its deprecation at every call
