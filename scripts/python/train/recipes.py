"""How the network of each subject is trained.

The networks are imperfect on purpose, as the study's originals were: there must be something left to fix. Rates and
lengths are chosen to come out near the study's accuracies.
"""

import dataclasses
import json
import math
import pathlib

import torch
from torch import nn

from common.errors import UserError, nearest
from export.architectures import ARCHITECTURES

CONFIGS = pathlib.Path(__file__).resolve().parents[3] / "configs" / "subjects"
WARM_UP = 0.3    # share of the steps in which a one-cycle rate rises
START = 25       # peak rate over first rate
END = 25e4       # peak rate over last rate


@dataclasses.dataclass(frozen=True)
class Recipe:
    """In the words of a subject's `training`, and what these cannot say: Nesterov's momentum, the rate's course."""
    subject: str
    architecture: str
    optimizer: str      # adam | sgd
    learning_rate: float  # of a one-cycle rate the peak
    schedule: str       # constant | one_cycle
    epochs: int
    augmentation: str   # none | crop_flip, padded by reflection
    initialiser: str    # kaiming_uniform | glorot_uniform
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    batch: int = 128

    def training(self):
        """The subject's `training`, as far as its words go."""
        words = ["optimizer", "learning_rate", "weight_decay", "batch", "epochs", "augmentation", "initialiser"]
        if self.optimizer == "sgd":
            words.insert(2, "momentum")
        return {word: getattr(self, word) for word in words}

    def unsaid(self):
        """What `training` leaves out, for the reader of the subject's file."""
        parts = []
        if self.schedule == "one_cycle":
            parts.append("a one-cycle rate with this peak")
        if self.nesterov:
            parts.append("Nesterov's momentum")
        if self.augmentation == "crop_flip":
            parts.append("crops padded by reflection")
        return ", ".join(parts)

    def rate(self, step, steps):
        """The learning rate of a step, from its number alone: a resumed training needs no more."""
        if self.schedule == "constant":
            return self.learning_rate
        top = WARM_UP * steps
        if step < top:
            low, way = self.learning_rate / START, step / top
        else:
            low, way = self.learning_rate / END, 1 - (step - top) / (steps - top)
        return low + (self.learning_rate - low) * (1 - math.cos(math.pi * way)) / 2

    def make_model(self, seed):
        """A new network; its weights follow from the seed."""
        torch.manual_seed(seed)
        model = ARCHITECTURES[self.architecture][0]()  # PyTorch's default is kaiming_uniform
        if self.initialiser == "glorot_uniform":
            for module in model.modules():
                if isinstance(module, (nn.Conv2d, nn.Linear)):
                    nn.init.xavier_uniform_(module.weight)
                    if module.bias is not None:
                        nn.init.zeros_(module.bias)
        return model

    def make_optimizer(self, model):
        if self.optimizer == "adam":
            return torch.optim.Adam(model.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        return torch.optim.SGD(model.parameters(), lr=self.learning_rate, momentum=self.momentum,
                               nesterov=self.nesterov, weight_decay=self.weight_decay)

    def image(self):
        return ARCHITECTURES[self.architecture][1]

    def configuration(self):
        """The subject's file in configs/, which says how it is attacked and what its groups are called."""
        return json.loads((CONFIGS / f"{self.subject}.json").read_text())


def _sgd(subject, architecture, peak, epochs):
    return Recipe(subject, architecture, "sgd", peak, "one_cycle", epochs, "crop_flip", "kaiming_uniform",
                  momentum=0.9, nesterov=True, weight_decay=5e-4)


RECIPES = {
    # The published model file tells optimiser, rate, batch and length; glorot_uniform is Keras' default.
    "mnist": Recipe("mnist", "lenet5", "adam", 1e-4, "constant", 20, "none", "glorot_uniform"),
    "utkface": _sgd("utkface", "facenet", 0.05, 10),
    # Lengths of these two are estimates: 5 epochs of VGG16 gave 83.6 % of the study's 86.2, 2 epochs of ResNet18 and
    # 290 more steps 57.7 % of 65.5.
    "cifar10": _sgd("cifar10", "vgg16", 0.05, 7),
    "cifar10s": _sgd("cifar10s", "resnet18", 0.1, 4),
}


def recipe_for(subject, epochs=None):
    if subject not in RECIPES:
        raise UserError("scripts/train", "SUBJECT", f'"{subject}"', "one of " + ", ".join(RECIPES),
                        nearest(subject, RECIPES))
    recipe = RECIPES[subject]
    return recipe if epochs is None else dataclasses.replace(recipe, epochs=epochs)
