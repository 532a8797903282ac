"""Learn from images without labels: turn each image by a multiple of 90° and predict the angle.

Source: Gidaris, Singh & Komodakis, *Unsupervised Representation Learning by Predicting Image Rotations*, ICLR 2018.
They put all four turns of an image into one batch. Here every image is turned once in each epoch, by an angle that is
drawn anew. So an epoch takes a quarter of the time, and a batch shows four times as many images. After the same number
of steps both ways are equally good (``benchmarks/choices.py``).
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
FIXED, DRAWN = 99_991, 50_021  # added to seeds, so that turns don't depend on the order and the flips
ARCHITECTURE = models.Architecture(head=partial(nn.Linear, out_features=len(ANGLES)))


def rotate(images: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """Return square images (N, 3, H, H) turned counter-clockwise by ``turns`` (int64, (N,), 0 to 3) times 90°."""
    every = torch.stack([images.rot90(turn, (2, 3)) for turn in range(len(ANGLES))])
    return every[turns, torch.arange(len(images), device=images.device)]


def _turns(count: int, seed: int) -> torch.Tensor:
    return torch.randint(len(ANGLES), (count,), generator=torch.Generator().manual_seed(seed))


class RotationBatches(ImageBatches):
    """Batches of turned images, labelled with their turns (0 to 3). The labels of the data set are not used.

    In shuffled batches, the angle of an image depends only on seed and epoch. In order, an image has the same angle
    every time.

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
    """Return everything that the backbone of a pretext depends on, as JSON types."""
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
    """Return a backbone that learned to predict rotations, and a report on its training.

    If the backbone has not been kept yet, it is trained: all layers learn on the training images, starting from
    ``start``. The result is kept under ``CIFAKE_RUNS``, under the fingerprint of its `recipe`. A training that was
    stopped goes on at the next call. The processes of one job train it together.

    Parameters
    ----------
    start : Weights
    cifake : Cifake
    profile : Profile
        It gives the number of epochs and the device.
    seed : int
        Fixes the initial values of the last layer, the order of the images, flips and turns.
    batch_size : int
    options : training.Options

    Returns
    -------
    Weights
    dict
        ``epochs``; ``seed``; ``accuracy``, the share of validation images whose turn is predicted correctly by
        the weights that are kept; ``curves``, the fields of `training.History`.
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
    """Return what `pretrained` returned for this `recipe`, read from the file that it kept.

    Raises `FileNotFoundError` or `verified.DamagedFile` if that file is missing or damaged.
    """
    tensors, kept = checkpoints.load(kept_at(made_from), recipe_hash(made_from))
    state, curves = tensors["backbone"], kept["curves"]
    accuracy = curves["val_accuracy"][curves["best_epoch"]]
    epochs = made_from["training"]["epochs"]
    report = {"epochs": epochs, "seed": made_from["seed"], "accuracy": accuracy, "curves": curves}
    return Weights(state, f"{kept['start']}, then rotations", state_hash(state)), report


def kept_at(made_from: dict) -> Path:
    """Return the path of the file that keeps the backbone of a `recipe`."""
    return profiles.runs_folder() / "cache" / f"rotation-{recipe_hash(made_from)}.safetensors"
