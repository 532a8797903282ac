"""Learn from images without labels: turn each by a multiple of 90° and guess by how much.

Source: Gidaris, Singh & Komodakis, *Unsupervised Representation Learning by Predicting Image Rotations*, ICLR 2018.
They put all four turns of an image in one batch; here every image is turned once an epoch, by an angle drawn anew,
so that an epoch costs a quarter and a batch shows four times as many photographs. With as many steps both are as good
(``benchmarks/choices.py``).
"""

import copy
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn

from cifake_utils import models, profiles, training
from cifake_utils.batches import MEAN, STD, ImageBatches, epoch_seed, mirror, normalise
from cifake_utils.data import Cifake
from cifake_utils.support import checkpoints, verified
from cifake_utils.support.files import agreed, can_be_removed, locked
from cifake_utils.support.fingerprint import recipe_hash, state_hash
from cifake_utils.weights import Weights

ANGLES = (0, 90, 180, 270)  # degrees counter-clockwise; an angle's place here is its label
FIXED, DRAWN = 99_991, 50_021  # added to seeds, so that turns don't follow the same numbers as order and flips
ARCHITECTURE = models.Architecture(head=partial(nn.Linear, out_features=len(ANGLES)))


def rotate(images: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """Return square images (N, 3, H, H) turned counter-clockwise by ``turns`` (int64, (N,), 0 to 3) times 90°."""
    every = torch.stack([images.rot90(turn, (2, 3)) for turn in range(len(ANGLES))])
    return every[turns, torch.arange(len(images), device=images.device)]


def _turns(count: int, seed: int) -> torch.Tensor:
    return torch.randint(len(ANGLES), (count,), generator=torch.Generator().manual_seed(seed))


class RotationBatches(ImageBatches):
    """Batches of turned images, the turns (0 to 3) their labels; what the images show never enters.

    Shuffled, every image is turned by an angle that depends on seed and epoch alone. In order, an image has the
    same angle every time.

    Parameters
    ----------
    inputs : torch.Tensor
        uint8 images (N, 3, H, H).
    batch_size : int
    device : torch.device or str
    """

    def __init__(self, inputs: torch.Tensor, batch_size: int, device="cpu") -> None:
        super().__init__(inputs, _turns(len(inputs), FIXED), batch_size, device)

    def shuffled(self, seed: int, epoch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        drawn = copy.copy(self)
        drawn.labels = _turns(len(self.inputs), DRAWN + epoch_seed(seed, epoch)).to(self.labels.device)
        yield from ImageBatches.shuffled(drawn, seed, epoch)

    def take(self, rows: torch.Tensor, flips: torch.Tensor) -> torch.Tensor:
        return normalise(rotate(mirror(self.inputs[rows], flips), self.labels[rows]))


def recipe(
    weights_hash: str,
    data_hash: str,
    profile: profiles.Profile,
    seed: int,
    batch_size: int,
    options: training.Options,
    accelerator: Accelerator,
) -> dict:
    """Return all that a pretext's backbone depends on: JSON types."""
    settings = {"batch_size": batch_size, "epochs": profile.epochs_pretext, "version": training.VERSION}
    return {
        "weights": weights_hash,
        "data": data_hash,
        "seed": seed,
        "architecture": ARCHITECTURE.recipe(),
        "turns": [ANGLES, FIXED, DRAWN],
        "training": options.recipe() | settings,
        "normalisation": [MEAN, STD],
        "computation": training.computation(accelerator),
    }


def pretrained(
    start: Weights, cifake: Cifake, profile: profiles.Profile, seed: int, batch_size: int, options: training.Options
) -> tuple[Weights, dict]:
    """Return a backbone that learned to tell rotations, and how its training went; train it where it isn't kept yet.

    All layers learn, from ``start``, on the training images. The result is kept under ``CIFAKE_RUNS``, by the
    fingerprint of its `recipe`; a stopped training goes on at the next call. Processes of one job train it together.

    Parameters
    ----------
    start : Weights
    cifake : Cifake
    profile : Profile
        Number of epochs and device.
    seed : int
        Fixes the initial last layer, order, flips and turns.
    batch_size : int
    options : training.Options

    Returns
    -------
    Weights
    dict
        ``epochs``, ``accuracy`` (of the turns of the validation images, at the best epoch), ``curves``.
    """
    accelerator = profile.accelerator()
    made_from = recipe(start.hash, cifake.hash, profile, seed, batch_size, options, accelerator)
    path, key = kept_at(made_from), recipe_hash(made_from)
    unfinished = path.with_stem(f"{path.stem}-unfinished")
    if not agreed(lambda: verified.is_whole(path, key) and not can_be_removed(unfinished), accelerator):
        with locked(path.with_suffix(".lock"), accelerator):  # a second job waits here and then finds the backbone
            if not agreed(lambda: verified.is_whole(path, key, "The pretext is trained again."), accelerator):
                train, val = (
                    RotationBatches(images.images, batch_size, accelerator.device)
                    for images in (cifake.train, cifake.val)
                )
                model = ARCHITECTURE.build(start, seed)
                history = training.fit(
                    model,
                    train,
                    val,
                    epochs=profile.epochs_pretext,
                    accelerator=accelerator,
                    options=options,
                    seed=seed,
                    checkpoint=unfinished,
                )
                if accelerator.is_main_process:
                    state = {"start": start.name, "curves": asdict(history)}
                    checkpoints.save(path, {"backbone": model.backbone.state_dict()}, state, key)
            if accelerator.is_main_process:
                unfinished.unlink(missing_ok=True)
    return load(made_from)


def load(made_from: dict) -> tuple[Weights, dict]:
    """Return what `pretrained` did for a `recipe` and what it has kept."""
    tensors, kept = checkpoints.load(kept_at(made_from), recipe_hash(made_from))
    state, curves = tensors["backbone"], kept["curves"]
    accuracy = curves["val_accuracy"][curves["best_epoch"]]
    epochs = made_from["training"]["epochs"]
    report = {"epochs": epochs, "seed": made_from["seed"], "accuracy": accuracy, "curves": curves}
    return Weights(state, f"{kept['start']}, then rotations", state_hash(state)), report


def kept_at(made_from: dict) -> Path:
    """Return the file that keeps the backbone of a `recipe`."""
    return profiles.runs_folder() / "cache" / f"rotation-{recipe_hash(made_from)}.safetensors"
