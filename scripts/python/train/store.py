"""What a training leaves in its folder: a model per epoch, the final model, its own checkpoint, the subject's file."""

import dataclasses
import json
import os
import pathlib
import pickle
import re
import sys

import torch

from common.errors import UserError
from common.files import replacing, write_bytes
from export import torchscript
from export.architectures import ARCHITECTURES

RESTART = "--restart starts over, --out trains in another folder"


class Store:
    def __init__(self, folder, recipe, seed, data_digest, machine):
        self.folder = pathlib.Path(folder)
        self.recipe, self.machine = recipe, machine
        self.identity = {**{f"recipe/{key}": value for key, value in dataclasses.asdict(recipe).items()},
                         "seed": seed, "data": data_digest}
        self.checkpoint = self.folder / "checkpoint.pt"
        self.model = self.folder / f"{recipe.architecture}.pt"
        self.subject = self.folder / "subject.json"

    def history(self, epoch):
        digits = max(2, len(str(self.recipe.epochs)))
        return self.folder / "history" / f"epoch_{epoch:0{digits}d}.pt"

    def begin(self, training, restart):
        """Goes on where the folder's checkpoint ends, if there is one."""
        if restart:
            self.checkpoint.unlink(missing_ok=True)
        elif not self.checkpoint.exists() and self.model.exists():
            raise UserError(self.model, found="a model without the checkpoint of its training",
                            expected="a folder that holds no other model",
                            remedy="--out trains in another folder, --restart replaces the model")
        if self.checkpoint.exists():
            self._resume(training)
            return
        if (self.folder / "history").is_dir():  # epochs of another training would be taken for this one's
            for file in (self.folder / "history").iterdir():
                if re.fullmatch(r"epoch_\d+\.pt", file.name):
                    file.unlink()

    def _resume(self, training):
        state = self._read()
        for key, wanted in self.identity.items():
            found = state["identity"].get(key)
            if found != wanted:
                raise UserError(self.checkpoint, key, str(found), f"{wanted}, as this training has it", RESTART)
        for epoch in range(1, state["epoch"] + 1):
            if not self.history(epoch).is_file():
                raise UserError(self.history(epoch), found="no such file",
                                expected=f"the model of epoch {epoch}, which the checkpoint had", remedy=RESTART)
        training.restore(state)
        other = {key: value for key, value in state["machine"].items() if self.machine[key] != value}
        if other and training.epoch < self.recipe.epochs:
            shown = ", ".join(f"{key} {value} (now {self.machine[key]})" for key, value in other.items())
            print(f"note: {self.checkpoint} was made with {shown}: the weights may come out different in the last bits "
                  "from those of one uninterrupted training", file=sys.stderr)

    def _read(self):
        try:
            state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
            if {"identity", "machine", "epoch", "model", "optimizer"} <= set(state):
                return state
            reason = "other content"
        except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, ValueError, KeyError, TypeError) as error:
            reason = str(error).strip().partition("\n")[0].partition(". ")[0]
        raise UserError(self.checkpoint, found=f"a file that cannot be read ({reason})",
                        expected="a checkpoint of scripts/train", remedy=RESTART)

    def keep(self, training):
        """The epoch that has just ended; its model first, so that no checkpoint speaks of one that is not there."""
        make, image = ARCHITECTURES[self.recipe.architecture]
        model = make()
        model.load_state_dict({name: tensor.cpu() for name, tensor in training.model.state_dict().items()})
        torchscript.export(model, (2, *image), self.history(training.epoch), False, self.recipe.architecture)
        with replacing(self.checkpoint) as partial:
            torch.save({"identity": self.identity, "machine": self.machine, **training.state()}, partial)

    def finish(self, data, seed):
        """The final model, which is the last epoch's file, and the subject; returns all files that belong to it."""
        epochs = [self.history(epoch) for epoch in range(1, self.recipe.epochs + 1)]
        write_bytes(self.model, epochs[-1].read_bytes())
        write_bytes(self.subject, (json.dumps(self._subject(data, epochs, seed), indent=2) + "\n").encode())
        return [self.model, *epochs, self.subject, self.checkpoint]

    def _subject(self, data, epochs, seed):
        known = self.recipe.configuration()
        unsaid = self.recipe.unsaid()
        comment = f"Made by scripts/train {self.recipe.subject}, seed {seed}"
        return {"comment": comment + (f"; trained with {unsaid}, which `training` cannot say" if unsaid else ""),
                "name": known["name"], "model_name": known["model_name"], "model": self.model.name,
                "data": os.path.relpath(os.path.realpath(data), os.path.realpath(self.folder)),
                "attack": known["attack"], "groups": known["groups"], "training": self.recipe.training(),
                "history": [f"history/{file.name}" for file in epochs]}
