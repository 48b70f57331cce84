"""Good inputs of every fuzz target: corpus.py DEST writes DEST/TARGET/* and DEST/model.pt (see targets.hpp)."""

import json
import pathlib
import struct
import sys
import zipfile

import h5py
import numpy as np
import torch

ROOT = pathlib.Path(__file__).resolve().parents[2] if "__file__" in globals() else pathlib.Path.cwd()
IDENTITY = "0123456789abcdef0123456789abcdef"


class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)
        self.drop, self.fc = torch.nn.Dropout(0.5), torch.nn.Linear(36, 3)

    def forward(self, x):
        x = torch.max_pool2d(torch.relu(self.norm(self.conv(x))), 2)
        return torch.softmax(self.fc(self.drop(torch.flatten(x, 1))), 1)


def configurations(folder):
    files = [*(ROOT / "configs").rglob("*.json"), *(ROOT / "tests" / "core" / "examples").rglob("*.json")]
    for number, file in enumerate(sorted(files)):
        if file.name != "schema.json" and number % 8 == 0 or file.name in ("every_key.json", "external_every_key.json"):
            (folder / f"{number:03d}.json").write_bytes(file.read_bytes())


def data(folder):
    images = np.arange(6 * 24, dtype=np.uint8).reshape(6, 2, 3, 4)
    labels = np.arange(6) % 3

    def write(name, change=lambda file: None, **how):
        with h5py.File(folder / name, "w") as file:
            file.attrs.update({"classes": 3, "divisor": 255.0, "mean": [0.5, 0.5], "std": [0.25, 0.25],
                               "group_names": ["light", "dark"]})
            for split in ("repair", "test"):
                file.create_dataset(f"{split}/images", data=how.get("images", images), **how.get("filters", {}))
                file[f"{split}/labels"], file[f"{split}/group"] = labels, (labels > 0).astype(np.uint8)
            change(file)

    write("bytes.h5")
    write("floats.h5", images=images.astype(np.float32))
    write("packed.h5", filters={"chunks": (2, 2, 3, 4), "compression": "gzip"})
    write("link.h5", lambda file: file.__setitem__("train", h5py.ExternalLink("other.h5", "/train")))


def script(folder, model):
    torch.manual_seed(0)
    torch.jit.script(Small().eval()).save(str(model))
    with zipfile.ZipFile(model) as archive:
        top = archive.namelist()[0].split("/")[0] + "/"
        entries = {name.removeprefix(top): archive.read(name) for name in archive.namelist()}
    for number, (name, content) in enumerate(sorted(entries.items())):
        if not name.endswith(".debug_pkl"):
            (folder / name.replace("/", "_")).write_bytes(bytes([number]) + content)


def checkpoints(folder):
    spent = {"seconds": 1.5, "phases": {"search": 1.0}, "interruptions": 1}

    def write(name, tensors, header_of=lambda header: header):
        listed = [{"name": key, "type": kind, "shape": list(value.shape)} for key, (kind, value) in tensors.items()]
        header = json.dumps(header_of({"identity": IDENTITY, "spent": spent, "tensors": listed})).encode()
        values = b"".join(value.tobytes() for _, value in tensors.values())
        (folder / name).write_bytes(struct.pack("<Q", len(header)) + header + values)

    write("two", {"weights": ("Float", np.arange(6, dtype=np.float32).reshape(2, 3)),
                  "step": ("Long", np.array(7, dtype=np.int64))})
    write("none", {})
    write("other", {"flags": ("Bool", np.array([True, False]))}, lambda header: {**header, "identity": "another"})


def records(folder):
    record = {"schema": 2,
              "cell": {"subject": "MNIST", "model": "LeNet5", "approach": "RAND:AR", "run": 2, "key": "RAND",
                       "name": "Random weights", "level": "control", "in_study": False, "seed": 42,
                       "digest": IDENTITY, "limited": False},
              "status": "ok", "reason": "", "metrics": [{"name": "RR", "unit": "percent", "value": 12.5, "reason": ""}],
              "phases": {"fix": 0.5}, "counters": {"evaluations": 3}, "scalars": {"best": 0.25, "worst": "-inf"},
              "series": {"best": [1, 2.5]}, "invariants": [{"name": "identity", "holds": True, "detail": ""}],
              "data": {"classes": 10, "group_names": ["light", "dark"]},
              "machine": {"device": "CPU", "concurrent_workers": 1, "interruptions": 0}, "provenance": {"threads": 2}}
    (folder / "record.json").write_text(json.dumps(record))
    (folder / "predictions.csv").write_text("index,label,original,fixed\n0,1,1,1\n1,2,0,2\n")
    (folder / "attack.csv").write_text("image,original,fixed,zero_gradient_original,zero_gradient\n3,1,0,0,1\n")


def main(destination):
    folders = {}
    for name in ("config", "data", "script", "checkpoint", "record"):
        folders[name] = destination / name
        folders[name].mkdir(parents=True, exist_ok=True)
    configurations(folders["config"])
    data(folders["data"])
    script(folders["script"], destination / "model.pt")
    checkpoints(folders["checkpoint"])
    records(folders["record"])


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
