"""Models whose numbers would look right: values that are not finite, answers that are random or mix the images of a
batch, forwards that write to their input or squeeze the batch away, operators without a derivative; and attacks with
bounds or pixels that do not fit the images. Each is right or says so: in records, in every table, in `evaluate`."""

import csv
import io
import json

import h5py
import numpy as np
import torch
from torch.nn import functional as F
from toy import ATTACK, CLASSES, FOLDER, SIZES, CliTest, Toy, cell, inputs_of, main, numbers, predict, record
from toy import run_harness, state_of, table, text_of, write_json

LONE = {"batch": SIZES["test"] - 1}  # the last batch of the test split is a lone image
TABLES = ("rq1", "rq2", "rq3", "rq4", "rq1_wide", "rq2_wide", "rq3_wide", "rq4_wide", "summary", "runs")
RANDOM = ("dropout", "rare", "train_mode", "mixes", "counts", "large_batches")
LATE = ("one_image", "flips")  # whose answers change on images, or after calls, that only a whole pass reaches
DRAWS = "the model draws random numbers when it answers"
AFTERWARDS = "after the pass the first images have another answer than before"


def branch(x):
    """Values that decide the flow: no graph can be imported, the model is a black box."""
    return x * 0.5 if bool(x.abs().max() > 1e6) else x


class AlwaysDropout(Toy):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(torch.relu(self.conv(x)), 2)
        return self.fc(F.dropout(torch.flatten(x, 1), 0.5))


class Rare(Toy):  # one value in a million: no two answers differ within a lifetime
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(torch.relu(self.conv(x)), 2)
        return self.fc(F.dropout(torch.flatten(x, 1), 1e-6))


class OneImage(Toy):  # random where one image of the test split is among those of the batch
    def __init__(self):
        super().__init__()
        self.register_buffer("image", torch.zeros(1, 1, 8, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if bool((x - self.image).abs().flatten(1).amax(1).min() < 1e-4):
            x = x + 0.001 * torch.rand_like(x)
        x = F.max_pool2d(torch.relu(self.conv(x)), 2)
        return self.fc(torch.flatten(x, 1))


class Flips(Toy):  # another answer from the sixth call on: more than the first questions need
    def __init__(self):
        super().__init__()
        self.register_buffer("asked", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.asked.add_(1)
        x = F.max_pool2d(torch.relu(self.conv(branch(x))), 2)
        x = self.fc(torch.flatten(x, 1))
        return -x if bool(self.asked > 5.5) else x


class TrainMode(Toy):  # traced while it trains: batch statistics
    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm2d(4)

    def forward(self, x):
        return self.fc(torch.flatten(F.max_pool2d(torch.relu(self.norm(self.conv(x))), 2), 1))


class Mixes(Toy):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(torch.relu(self.conv(x - 0.5 * x.mean(0, keepdim=True))), 2)
        return self.fc(torch.flatten(x, 1))


class LargeBatches(Toy):  # another answer above twenty images
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[0] > 20:
            x = -x
        x = F.max_pool2d(torch.relu(self.conv(branch(x))), 2)
        return self.fc(torch.flatten(x, 1))


class Counts(Toy):  # another answer each time
    def __init__(self):
        super().__init__()
        self.register_buffer("asked", torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.asked.mul_(1.01)
        x = F.max_pool2d(torch.relu(self.conv(branch(x * self.asked))), 2)
        return self.fc(torch.flatten(x, 1))


class InPlace(Toy):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x.sub_(0.5).add_(0.5)
        x = F.max_pool2d(torch.relu(self.conv(branch(x))), 2)
        return self.fc(torch.flatten(x, 1))


class Squeezes(Toy):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(torch.relu(self.conv(branch(x))), 2)
        return self.fc(torch.flatten(x, 1).unsqueeze(2).squeeze())


class Attention(torch.nn.Module):  # traced without gradients: one operator for the whole layer
    def __init__(self):
        super().__init__()
        self.patches = torch.nn.Conv2d(1, 8, 2, 2)
        self.layer = torch.nn.TransformerEncoder(torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1)
        self.fc = torch.nn.Linear(8, CLASSES)

    def forward(self, x):
        return self.fc(self.layer(self.patches(x).flatten(2).transpose(1, 2)).mean(1))


class Divides(Toy):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(torch.relu(self.conv((x.float() / 255.0 - 0.25) / 0.5)), 2)
        return self.fc(torch.flatten(x, 1))


def save(name, model, state=None, trace=False):
    torch.manual_seed(3)
    model = model().eval()
    model.load_state_dict(state_of("toy.pt") if state is None else state, strict=False)
    script = torch.jit.trace(model.train(trace == "train"), torch.rand(4, 1, 8, 8), check_trace=False) if trace \
        else torch.jit.script(model)
    script.save(str(FOLDER / f"{name}.pt"))


def write_pixels(name, scale, divisor, mean, std, kind):
    """The images of toy.h5, stored as `kind` in 0..255 (scale 1) or 0..1 (scale 1/255)."""
    with h5py.File(FOLDER / "toy.h5", "r") as source, h5py.File(FOLDER / name, "w") as file:
        file.attrs.update({"classes": CLASSES, "divisor": divisor, "mean": [mean], "std": [std]})
        for split in ("repair", "test"):
            file[f"{split}/images"] = (source[split]["images"][:] * scale).astype(kind)
            file[f"{split}/labels"] = source[split]["labels"][:]


def setUpModule():
    for name, model in (("dropout", AlwaysDropout), ("rare", Rare), ("flips", Flips), ("mixes", Mixes), ("counts", Counts), ("large_batches", LargeBatches), ("in_place", InPlace),
                        ("squeezes", Squeezes), ("divides", Divides)):
        save(name, model)
    save("one_image", OneImage, state_of("toy.pt") | {"image": inputs_of("test")[100:101]})
    low = state_of("toy.pt") | {name: -value for name, value in state_of("toy.pt").items() if name.startswith("fc")}
    save("low", Rare, low)
    save("train_mode", TrainMode, trace="train")
    with torch.no_grad():
        save("attention", Attention, {}, trace="eval")
    state = state_of("toy.pt")
    save("nan_conv", Toy, state | {"conv.weight": state["conv.weight"].index_fill(0, torch.tensor(1), np.nan)})
    save("infinite", Toy, state | {"conv.bias": state["conv.bias"].index_fill(0, torch.tensor(2), -np.inf)})
    # on some images minus infinity, which ReLU turns into 0; never anything above 0, as inputs are above -0.5
    save("overflows", Toy, state | {"conv.weight": state["conv.weight"].index_fill(0, torch.tensor(1), -5e37),
                                    "conv.bias": state["conv.bias"].index_fill(0, torch.tensor(1), -3e38)})


def rows_of(name, approach, results):
    return [row for row in table(name, results) if row["approach"] == approach]


class FaultyModelsTest(CliTest):
    def run_published(self, folder, names, code=0, **changes):
        published = {name.upper(): [f"{name}.pt"] for name in names}
        subject = {"name": "toy", "model": "toy.pt", "data": "untrained.h5", "attack": ATTACK, "published": published}
        config = {"subjects": [subject], "approaches": ["NONE"], "runs": 1, "device": "cpu", "corrupted_below": 0,
                  **changes}
        output = run_harness(write_json(f"{folder}.json", config), "--results", FOLDER / folder, code=code)
        return FOLDER / folder, output.stdout

    def refused_original(self, name, place, message):
        """By `run` and by `evaluate`."""
        config = {"subjects": [{"name": "toy", "model": f"{name}.pt", "data": "untrained.h5"}], "approaches": ["NONE"]}
        file = write_json(f"{name}_original.json", config)
        for words in ([file, "--results", FOLDER / f"{name}_original", "--device", "cpu"],
                      ["evaluate", "--data", "toy.h5", "--model", f"{name}.pt", "--fixed", "one.pt"]):
            error = run_harness(*words, code=2).stderr
            self.assertRegex(error, rf"{name}\.pt: {place}: found {message}")

    def test_not_finite(self):
        names = ("nan_conv", "infinite", "overflows")
        results, _ = self.run_published("not_finite", names)
        holds = "parameter {} holds NaN or an infinite value"
        reasons = (holds.format("conv.weight"), holds.format("conv.bias"),
                   "values of conv are NaN or infinite on some images")
        for name, reason in zip(names, reasons):
            found = record(f"toy/published:{name.upper()}/1", results)
            self.assertEqual((found["status"], found["reason"]), ("CORRUPTED", f"not_finite: {reason}"))
            self.assertTrue(np.isfinite(torch.jit.load(FOLDER / f"{name}.pt")(torch.rand(2, 1, 8, 8)).detach()).all()
                            or name == "nan_conv")
            words = ["evaluate", "--data", "toy.h5", "--model", "toy.pt", "--fixed", f"{name}.pt", "one.pt"]
            self.assertIn(f"{name}.pt: CORRUPTED not_finite: {reason}\none.pt: ", run_harness(*words).stdout)
            corrupted, sound = json.loads(run_harness(*words, "--format", "json").stdout)["models"]
            self.assertEqual(corrupted, {"file": f"{name}.pt", "status": "CORRUPTED", "reason": f"not_finite: {reason}"})
            alone = json.loads(run_harness(*words[:-2], "one.pt", "--format", "json").stdout)
            self.assertEqual((sound, alone["models"]), (alone["models"][0], [sound]))
        self.refused_original("nan_conv", "conv.weight", "NaN or an infinite value")
        self.refused_original("infinite", "conv.bias", "NaN or an infinite value")

    def test_random_models_are_marked_everywhere(self):
        results, text = self.run_published("random", RANDOM)
        for name in RANDOM:
            approach = f"published:{name.upper()}"
            found = record(f"toy/{approach}/1", results)
            self.assertEqual(found["status"], "ok", found["reason"])
            self.assertEqual([one["name"] for one in found["invariants"] if not one["holds"]], ["random_output"])
            for one in TABLES:
                rows = rows_of(one, approach, results)
                self.assertTrue(rows, (one, approach))
                for row in rows:
                    self.assertIn("mistrusted: random_output", row.get("reason", row.get("notes")), (one, row))
        for one in TABLES:
            for row in rows_of(one, "NONE", results):
                self.assertNotIn("mistrusted", row.get("reason", row.get("notes")))
        self.assertIn("mistrusted: random_output (run 1)", text)
        standing = json.loads(run_harness("status", "random.json", "--results", results, "--format", "json").stdout)
        for one in standing["cells"]:
            self.assertEqual("mistrusted: random_output" in one["reason"], "published" in one["approach"], one)
        self.assertIn(f"{len(RANDOM)} mistrusted (a check failed)", text)
        # the same numbers again: no answer depends on what was asked before
        again, _ = self.run_published("random_again", RANDOM[::-1])
        for name in RANDOM:
            folders = [cell(f"toy/published:{name.upper()}/1", tree) for tree in (results, again)]
            for file in ("predictions.csv", "predictions_repair.csv", "attack.csv"):
                self.assertEqual(*((folder / file).read_text() for folder in folders), (name, file))

    def test_random_originals_are_refused(self):
        for name in RANDOM:
            self.refused_original(name, "output", r"answers that change: .*; call model\.eval\(\) before tracing; ")

    def test_what_only_a_whole_pass_shows(self):
        details = {"one_image": DRAWS, "flips": AFTERWARDS}
        results, _ = self.run_published("late", LATE, batch=4)
        words = ["evaluate", "--data", "toy.h5", "--batch", 4]
        for name in LATE:
            found = record(f"toy/published:{name.upper()}/1", results)
            marks = {one["name"]: one["detail"] for one in found["invariants"] if not one["holds"]}
            self.assertEqual((found["status"], marks), ("ok", {"random_output": details[name]}))
            text = run_harness(*words, "--model", "toy.pt", "--fixed", f"{name}.pt", "one.pt").stdout
            self.assertIn(f"  MISTRUSTED random_output: {details[name]}\n", text)
            self.assertRegex(text, rf"metric +unit +{name}\.pt \(mistrusted\) +one\.pt +mean")
            error = run_harness(*words, "--model", f"{name}.pt", "--fixed", "one.pt", code=2).stderr
            self.assertIn(f"{name}.pt: output: found answers that change: {details[name]}", error)
            subject = {"name": "toy", "model": f"{name}.pt", "data": "untrained.h5"}
            config = {"subjects": [subject], "approaches": ["NONE"], "batch": 4}
            file = write_json(f"{name}_late.json", config)
            for _ in range(2):  # also where the pass is kept
                run = run_harness(file, "--results", FOLDER / f"{name}_late", "--device", "cpu", code=1)
                self.assertIn(f"answers that change: {details[name]}", run.stdout + run.stderr)
            self.assertFalse((cell("toy/NONE/1", FOLDER / f"{name}_late") / "record.json").exists())

    def test_random_models_that_fall_too_low_keep_their_mark(self):
        results, _ = self.run_published("too_low", ("low", "flips"), batch=4, corrupted_below=0.5)
        for name, why in (("low", DRAWS), ("flips", AFTERWARDS)):
            found = record(f"toy/published:{name.upper()}/1", results)
            self.assertEqual(found["status"], "CORRUPTED")
            self.assertRegex(found["reason"], rf"^accuracy: .*; mistrusted: random_output: {why}$")
            for one in TABLES:
                for row in rows_of(one, f"published:{name.upper()}", results):
                    self.assertIn("mistrusted: random_output", row.get("reason", row.get("notes")), (one, row))

    def test_random_models_in_evaluate(self):
        words = ["evaluate", "--data", "toy.h5", "--model", "toy.pt", "--fixed", "one.pt", "mixes.pt"]
        text = run_harness(*words).stdout
        self.assertRegex(text, r"mixes\.pt: .*\n  MISTRUSTED random_output: an image alone and in a batch differ by ")
        rows = list(csv.DictReader(io.StringIO(run_harness(*words, "--format", "csv").stdout)))
        self.assertTrue(all("mistrusted: random_output: " in row["reason"] for row in rows))
        found = json.loads(run_harness(*words, "--format", "json").stdout)
        self.assertEqual([model["mistrusted"][:13] for model in found["models"]], ["", "random_output"])

    def test_in_place_and_lone_images(self):
        names = ("in_place", "squeezes")
        results, _ = self.run_published("careless", names, **LONE)
        plain = {row["metric"]: row for row in rows_of("rq3", "NONE", results)}
        for name in names:
            approach = f"published:{name.upper()}"
            found = numbers(cell(f"toy/{approach}/1", results) / "predictions.csv")
            self.assertEqual(found["fixed"].tolist(), predict("toy.pt", "test").tolist())
            self.assertEqual(record(f"toy/{approach}/1", results)["status"], "ok")
            asr = next(row for row in rows_of("rq3", approach, results) if row["metric"] == "ASR")
            self.assertLess(abs(float(asr["mean"]) - float(plain["ASR"]["mean"])), 5)
        # the same as originals
        for name in names:
            words = ["evaluate", "--data", "toy.h5", "--model", f"{name}.pt", "--fixed", "toy.pt", "--epsilon", 0.4,
                     "--batch", SIZES["test"] - 1, "--format", "json"]
            values = json.loads(run_harness(*words).stdout)["models"][0]["metrics"]
            self.assertEqual((values["REPAIRED"], values["BROKEN"]), (0, 0))
            self.assertGreater(values["ASR_ORIGINAL"], 0)

    def test_an_attack_without_a_derivative(self):
        results, text = self.run_published("attention", ("attention",))
        why = "attack_impossible: no gradient with respect to the images: derivative for " \
              "aten::_transformer_encoder_layer_fwd is not implemented"
        approach = "published:ATTENTION"
        self.assertEqual(record(f"toy/{approach}/1", results)["status"], "ok")
        rows = {row["metric"]: row for name in ("rq2", "rq3") for row in rows_of(name, approach, results)}
        found = numbers(cell(f"toy/{approach}/1", results) / "predictions.csv")
        self.assert_close(rows["ACC"]["mean"], 100 * (found["fixed"] == found["label"]).mean(), "ACC")
        self.assertNotEqual(rows["NFR"]["mean"], "")
        for metric in ("ASR", "ASR_ORIGINAL", "ASR_MARGIN", "ASR_REL_IMPROVEMENT"):
            self.assertEqual(rows[metric]["mean"], "")
            self.assertIn(why, rows[metric]["reason"])
        for name in ("rq3_wide", "summary"):
            self.assertIn(why, text_of(name, results))
        self.assertIn(why, text)
        before = text_of("rq3", results)
        run_harness("attention.json", "--results", results)  # nothing is computed again
        self.assertEqual(text_of("rq3", results), before)
        for model, fixed in (("attention.pt", "toy.pt"), ("toy.pt", "attention.pt")):
            shown = run_harness("evaluate", "--data", "toy.h5", "--model", model, "--fixed", fixed, "--epsilon", 0.4)
            self.assertIn(f"  not attacked, {why}\n", shown.stdout)
            self.assertIn("ACC", shown.stdout)


class AttackTest(CliTest):
    def test_images_outside_the_bounds_are_refused(self):
        images = {"untrained.h5": "from -0.5 to 1.3", "floats.h5": "from 0 to 2"}
        write_pixels("floats.h5", 1 / 100, 1.0, 0.0, 1.0, "float32")
        with h5py.File(FOLDER / "untrained.h5", "r") as file:
            pixels = file["test/images"][:]
        values = {"untrained.h5": (pixels / 255 - 0.25) / 0.5, "floats.h5": pixels.astype("float32") / 100}
        for data in images:
            low, high = (float(np.float32(value)) for value in (values[data].min(), values[data].max()))
            for bounds, code in (([0, 1], 2), ([-0.5, 3], 0)):
                subject = {"name": "toy", "model": "toy.pt", "data": data, "attack": {**ATTACK, "bounds": bounds}}
                config = write_json("bounds.json", {"subjects": [subject], "approaches": ["NONE"], "runs": 1})
                result = run_harness(config, "--results", FOLDER / f"bounds_{code}_{data}", "--device", "cpu", code=code)
                if code == 0:
                    continue
                found = r"/test/images: found values from (\S+) to (\S+) after normalisation, expected values within " \
                        r"the attack's bounds \[0, 1\]"
                self.assertRegex(result.stderr, data + ": " + found)
                shown = next(line for line in result.stderr.splitlines() if "/test/images" in line).split()
                at = shown.index("from")
                self.assertTrue(np.allclose([float(shown[at + 1]), float(shown[at + 3])], [low, high], atol=1e-6))

    def test_pixels_mean_the_same_however_images_are_stored(self):
        stored = {"bytes": (1, 255.0, 0.25, 0.5, "uint8"), "unit": (1 / 255, 1.0, 0.25, 0.5, "float32"),
                  "floats": (1, 255.0, 0.25, 0.5, "float32"), "raw_bytes": (1, 1.0, 0.0, 1.0, "uint8"),
                  "raw_floats": (1, 1.0, 0.0, 1.0, "float32")}
        subjects = []
        for name, how in stored.items():
            write_pixels(f"{name}.h5", *how)
            model = "divides.pt" if name.startswith("raw") else "toy.pt"
            attack = {**ATTACK, "epsilon": 30, "epsilon_unit": "pixel", "relative_step": 0.25, "random_start": False,
                      "sample": "all"}
            subjects.append({"name": name, "model": model, "data": f"{name}.h5", "attack": attack})
        config = write_json("pixels.json", {"subjects": subjects, "approaches": ["NONE"], "runs": 1})
        run_harness(config, "--results", FOLDER / "pixels", "--device", "cpu")
        found = {name: record(f"{name}/NONE/1", FOLDER / "pixels") for name in stored}
        rates = {name: next(one["value"] for one in one_record["metrics"] if one["name"] == "ASR")
                 for name, one_record in found.items()}
        self.assertGreater(rates["bytes"], 10)
        self.assertEqual(rates["raw_bytes"], rates["raw_floats"])
        self.assertTrue(max(rates.values()) - min(rates.values()) < 5, rates)
        attacks = {name: one["provenance"]["attack"] for name, one in found.items()}
        self.assertEqual({name: one["pixel_full_scale"] for name, one in attacks.items()},
                         {name: 1 if name == "unit" else 255 for name in stored})
        for name, one in attacks.items():
            self.assertAlmostEqual(one["epsilon_input"], 30 if name.startswith("raw") else 30 / 255 / 0.5)

    def test_the_scale_of_pixels_is_that_of_the_whole_file(self):
        write_pixels("late.h5", 1, 255.0, 0.25, 0.5, "float32")
        with h5py.File(FOLDER / "late.h5", "r+") as file:
            file["test/images"][:60] = file["test/images"][:60] / 255
            file["repair/images"][:] = file["repair/images"][:] / 255
        attack = {**ATTACK, "epsilon": 8, "epsilon_unit": "pixel"}
        subject = {"name": "toy", "model": "toy.pt", "data": "late.h5", "attack": attack}
        config = write_json("late.json", {"subjects": [subject], "approaches": ["NONE"], "runs": 1, "device": "cpu"})
        run_harness(config, "--results", FOLDER / "late", "--limit", "test=50")
        self.assertEqual(record("toy/NONE/1", FOLDER / "late")["provenance"]["attack"]["pixel_full_scale"], 255)
        with h5py.File(FOLDER / "late.h5", "r+") as file:
            file["test/images"][3, 0, 0, 0] = -1
        self.assertIn("late.h5: /images: found values from -1 to ",
                      run_harness(config, "--results", FOLDER / "late2", code=2).stderr)


if __name__ == "__main__":
    main()
