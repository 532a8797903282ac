"""What the recipes of the full networks leave open, compared on a part of CIFAKE, with as many steps each.

All four turns of every image in a batch, or one drawn at random? The gradient limited, or not? Judged on validation
images; the test images play no part.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from benchmarks.sources import PROFILE, source, write_tree
from cifake_utils import data, experiments, rotation, training
from cifake_utils.batches import ImageBatches, epoch_seed
from cifake_utils.catalogue import STRONG, get
from cifake_utils.data import Cifake, ImageSet
from cifake_utils.rotation import ANGLES, RotationBatches
from cifake_utils.weights import Weights


class FourTurns(RotationBatches):
    """Rotation batches in which every image stands in all its turns, hence a quarter as many images a batch."""

    def __init__(self, inputs: torch.Tensor, batch_size: int) -> None:
        super().__init__(inputs.repeat_interleave(len(ANGLES), 0), batch_size)
        self.labels = torch.arange(len(ANGLES)).repeat(len(inputs))

    def shuffled(self, seed: int, epoch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        generator = torch.Generator().manual_seed(epoch_seed(seed, epoch))
        images = torch.randperm(len(self.inputs) // len(ANGLES), generator=generator)
        rows = (len(ANGLES) * images[:, None] + torch.arange(len(ANGLES))).flatten()
        flips = (torch.rand(len(images), generator=generator) < 0.5).repeat_interleave(len(ANGLES))
        for row, flip in self._batches(rows, flips):
            yield self.take(row, flip), self.labels[row]


def fitted(model: nn.Module, train: ImageBatches, val: ImageBatches, epochs: int, **changes) -> float:
    """Train all layers as the preset `strong` says; return the accuracy on validation images at the end."""
    options = replace(STRONG.options, **changes)
    history = training.fit(model, train, val, epochs=epochs, accelerator=PROFILE.accelerator(), options=options)
    return history.val_accuracy[-1]


def turned(train: RotationBatches, start: Weights, cifake: Cifake, epochs: int, tuning: int) -> dict:
    """Return the accuracy of the turns, and of REAL and FAKE after fine-tuning."""
    model = rotation.ARCHITECTURE.build(start)
    turns = fitted(model, train, RotationBatches(cifake.val.images, train.batch_size), epochs)
    learned = Weights(model.backbone.state_dict(), "rotations", "")
    detector = experiments.build("resnet50_rotation", PROFILE, start=learned)
    return {"turns": turns, "real_fake": told(detector, cifake, train.batch_size, tuning)}


def told(model: nn.Module, cifake: Cifake, batch_size: int, epochs: int, **changes) -> float:
    def batches(images: ImageSet) -> ImageBatches:
        return ImageBatches(images.images, images.labels, batch_size)

    return fitted(model, batches(cifake.train), batches(cifake.val), epochs, **changes)


def measure(train: int = 8_000, val: int = 4_000, batch_size: int = 128, epochs: int = 4, tuning: int = 2) -> dict:
    counts = {"train": train, "val": val, "test": 20}
    with tempfile.TemporaryDirectory() as box:
        write_tree(Path(box) / "tree", counts)
        with source(Path(box) / "tree", Path(box) / "runs"):
            cifake = data.load(PROFILE)
        start = experiments.starting_weights(get("resnet50_finetuned"), PROFILE)
        one, four = (way(cifake.train.images, batch_size) for way in (RotationBatches, FourTurns))
        results = {
            "one turn": turned(one, start, cifake, epochs, tuning),
            "four turns": turned(four, start, cifake, epochs // len(ANGLES), tuning),
        }
        for name, rounds in (("resnet50_scratch", epochs), ("resnet50_finetuned", tuning)):
            results[name] = {
                str(limit): told(experiments.build(name, PROFILE), cifake, batch_size, rounds, max_norm=limit)
                for limit in (STRONG.options.max_norm, None)
            }
    settings = {"precision": PROFILE.accelerator().mixed_precision, "epochs": epochs, "tuning": tuning}
    return {"images": counts} | settings | results
