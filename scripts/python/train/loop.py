"""The training itself. Order, augmentation and dropout of an epoch follow from the seed and its number alone, so a
training that goes on from the end of an epoch comes to the same weights as one that was never interrupted."""

import hashlib
import time

import torch
from torch.nn import functional

from common.errors import UserError
from train.data import augmented

BATCH = 250  # images of a forward pass without gradients


def derive(seed, purpose):
    """A seed of its own for every purpose."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[:8], "big") >> 1


def generator(seed, purpose):
    return torch.Generator().manual_seed(derive(seed, purpose))


def logits_of(model, inputs):
    """What the loss wants: a network that ends in a softmax has them apart."""
    return model.logits(inputs) if hasattr(model, "logits") else model(inputs)


class Training:
    def __init__(self, recipe, seed, device):
        self.recipe, self.seed, self.device = recipe, seed, device
        # A fifth less work for FaceNet on a CPU; images of one channel have but one layout.
        self.layout = torch.channels_last if recipe.image()[0] > 1 else torch.contiguous_format
        self.model = recipe.make_model(derive(seed, "weights")).to(device, memory_format=self.layout)
        self.optimizer = recipe.make_optimizer(self.model)
        self.epoch = 0      # epochs done
        self.seconds = 0.0  # that they took
        self.loss = None    # mean of the last one

    def state(self):
        return {"epoch": self.epoch, "seconds": self.seconds, "loss": self.loss, "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict()}

    def restore(self, state):
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.seconds, self.loss = state["epoch"], state["seconds"], state["loss"]

    def run_epoch(self, data, progress):
        begin = time.monotonic()
        order = torch.randperm(len(data), generator=generator(self.seed, f"order/{self.epoch}"))
        stream = generator(self.seed, f"augment/{self.epoch}")
        torch.manual_seed(derive(self.seed, f"dropout/{self.epoch}"))
        batches = order.split(self.recipe.batch)
        self.model.train()
        total, seen = 0.0, 0
        for number, batch in enumerate(batches):
            loss = self._step(data, batch, stream, self.epoch * len(batches) + number, len(batches))
            total += loss * len(batch)
            seen += len(batch)
            left = (self.recipe.epochs - self.epoch) * len(data) - seen
            progress.step(self.epoch + 1, number + 1, len(batches), loss, len(batch), left)
        self.model.eval()
        self.epoch += 1
        self.loss = total / len(data)
        self.seconds += time.monotonic() - begin

    def _inputs(self, data, pixels):
        return data.inputs(pixels, self.device).contiguous(memory_format=self.layout)

    def _step(self, data, batch, stream, step, steps_per_epoch):
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate(step, self.recipe.epochs * steps_per_epoch)
        inputs = self._inputs(data, augmented(data.images, batch, self.recipe.augmentation, stream))
        self.optimizer.zero_grad(set_to_none=True)
        loss = functional.cross_entropy(logits_of(self.model, inputs), data.labels[batch].to(self.device))
        value = loss.item()
        if not value < float("inf"):  # NaN too
            raise UserError(self.recipe.subject, f"epoch {self.epoch + 1}, step {step % steps_per_epoch + 1}",
                            f"a loss of {value}", "a training that converges", "another --seed may")
        loss.backward()
        self.optimizer.step()
        return value

    def right(self, data):
        """How many of the images the network classifies correctly."""
        self.model.eval()
        count = 0
        with torch.no_grad():
            for begin in range(0, len(data), BATCH):
                predicted = self.model(self._inputs(data, data.images[begin:begin + BATCH])).argmax(1).cpu()
                count += int((predicted == data.labels[begin:begin + BATCH]).sum())
        return count
