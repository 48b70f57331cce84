"""The smallest external approach: continues the training of the original. README.md has the formats."""

import json
import signal
import sys
import time

import h5py
import torch

stops = []
signal.signal(signal.SIGTERM, lambda *_: stops.append(True))  # out of time: what there is by then is the fix
with open(sys.argv[-1]) as stream:
    request = json.load(stream)
parameters = {"steps": 100, "batch": 32, "learning_rate": 1e-3, **request["parameters"]}
torch.manual_seed(request["seed"])
torch.set_num_threads(request["threads"])
device = torch.device(request["device"])
model = torch.jit.load(request["model"], map_location=device).train()
with h5py.File(request["data"]) as data:
    mean, std = (torch.tensor(data.attrs[name]).view(1, -1, 1, 1) for name in ("mean", "std"))
    images, labels = (torch.from_numpy(data["train"][name][:]) for name in ("images", "labels"))
    inputs = ((images / data.attrs["divisor"] - mean) / std).float()
optimizer = torch.optim.Adam(model.parameters(), parameters["learning_rate"])
start, steps = time.perf_counter(), 0
while steps < parameters["steps"] and not stops:
    batch = torch.randint(len(labels), (parameters["batch"],))
    scores = model(inputs[batch].to(device))  # logits; of a network that ends in softmax it would be the logarithm
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(scores, labels[batch].to(device)).backward()
    optimizer.step()
    steps += 1
model.eval().save(request["output"])
with open(request["report"], "w") as stream:
    json.dump({"status": "ok", "phases": {"train": time.perf_counter() - start}, "counters": {"steps": steps}}, stream)
