"""What brings a ResNet50 further on these images: trials, each judged on all 20,000 validation images of CIFAKE.

`python -m benchmarks.strong NAME …` makes the named trials, and keeps each in `cifake_utils/reference/trials` when it
ends: curves and scores as JSON, and beside it P(FAKE) of every validation image. `lessons.further` reads them for
lesson 09. `NAME#1` is the trial with seed 1. Without names it lists all trials. One that is there already is not made
again, unless its settings have changed. The test images play no part.
"""

import copy
import json
import re
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from cifake_utils import catalogue, data, models, profiles, records, training
from cifake_utils.batches import ImageBatches, shifted
from cifake_utils.experiments import starting_weights
from cifake_utils.lessons.further import FOLDER
from cifake_utils.models import Layout
from cifake_utils.support import verified

PIXEL = {"": (0, 0), " up": (-1, 0), " down": (1, 0), " left": (0, -1), " right": (0, 1)}
VIEWS = {
    f"{side}{name}": (side == "mirror image", *move)
    for side in ("image", "mirror image")
    for name, move in PIXEL.items()
}
AVERAGES = {"alone": ["image"], "mirror images": ["image", "mirror image"], "mirror images and shifts": list(VIEWS)}


@dataclass(frozen=True)
class Trial:
    """One way to train all layers, from the pre-trained weights.

    Attributes
    ----------
    epochs : int
    options : training.Options
    layout : models.Layout
        Of the backbone; it says how wide the maps are.
    shift : int
        Training images are moved by up to this many pixels in both directions.
    averaging : float
        Decay of an exponential moving average of the weights, which is judged in place of the weights. 0 means that
        there is none.
    stages : tuple of str
        The means of these stages' maps are what the last layer sees. Stages after the last of them are left out.
    """

    epochs: int = 3
    options: training.Options = catalogue.STRONG.options
    layout: Layout = models.RESNET50
    shift: int = 0
    averaging: float = 0.0
    stages: tuple[str, ...] = ("layer4",)


BASE = Trial()
LONG = replace(BASE, epochs=9)
WIDE = replace(LONG, layout=Layout(enlarge=4), shift=2)


def _with(trial: Trial, **options) -> Trial:
    return replace(trial, options=replace(trial.options, **options))


TRIALS = {
    "base": BASE,
    # More pixels inside: 64 and 128 pixels' worth of maps.
    "stem stride 1": replace(BASE, layout=Layout(stem_stride=1)),
    "enlarged twice": replace(BASE, layout=Layout(enlarge=2)),
    "stem stride 1 without pooling": replace(BASE, layout=Layout(stem_stride=1, stem_pool=False)),
    "enlarged four times": replace(BASE, layout=Layout(enlarge=4)),
    "enlarged twice, progressive": _with(replace(BASE, layout=Layout(enlarge=2)), coarse_share=0.67),
    # The rest at 32 pixels.
    "shifts of 2 pixels": replace(BASE, shift=2),
    "label smoothing": _with(BASE, smoothing=0.05),
    "mixup": _with(BASE, mixup=0.2),
    "averaged weights": replace(BASE, averaging=0.998),
    "early maps": replace(BASE, stages=("stem", "layer1", "layer4")),
    "without the last stage": replace(BASE, stages=("layer3",)),
    # Nine epochs, in which a network overfits.
    "nine epochs": LONG,
    "nine epochs, shifts": replace(LONG, shift=2),
    "nine epochs, shifts and mixup": _with(replace(LONG, shift=2), mixup=0.2),
    "nine epochs, shifts and cutmix": _with(replace(LONG, shift=2), cutmix=1.0),
    # The recipe of `resnet50_strong`, and with coarse epochs first.
    "nine epochs, shifts, enlarged four times": WIDE,
    "nine epochs, shifts, enlarged four times, progressive": _with(WIDE, coarse_share=0.6),
}


class Network(nn.Module):
    """A ResNet50 whose last layer sees the means of some stages' maps."""

    def __init__(self, trial: Trial, seed: int) -> None:
        super().__init__()
        experiment = replace(catalogue.get("resnet50_finetuned"), layout=trial.layout)
        model = experiment.build(starting_weights(experiment, profiles.resolve("full")), seed)
        self.backbone, self.weights_hash = model.backbone, model.weights_hash
        self.stages = trial.stages
        for name in reversed(self.backbone.channels):
            if name == self.stages[-1]:
                break
            setattr(self.backbone, name, nn.Identity())
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            self.head = models.linear(sum(self.backbone.channels[name] for name in self.stages))
        self.to(memory_format=torch.channels_last)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.backbone(images, last=self.stages[-1])
        return self.head(torch.cat([maps[name].float().mean((2, 3)) for name in self.stages], 1))


class Followed(nn.Module):
    """A network, and the moving average of its weights: the former in training, the latter in eval mode."""

    def __init__(self, network: Network, decay: float) -> None:
        super().__init__()
        self.network = network
        self.average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
        self.average.requires_grad_(False)

    @property
    def backbone(self) -> models.Backbone:  # a second name as an attribute would put its weights into files twice
        return self.network.backbone

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return self.average(images)
        self.average.update_parameters(self.network)  # with the weights of the step before
        return self.network(images)


def judged(network: nn.Module, val: ImageBatches) -> dict[str, np.ndarray]:
    """Return P(FAKE) of the validation images: float16 (N,) by the name of an average over views."""
    found = {}
    for name, (mirrored, down, right) in VIEWS.items():
        moved = copy.copy(val)
        moves = torch.tensor([[down, right]], device=val.inputs.device)
        moved.inputs = torch.cat([shifted(part, moves.expand(len(part), 2)) for part in val.inputs.split(1000)])
        found[name] = training.predict(network, moved, mirrored=mirrored)
    return {name: np.mean([found[view] for view in views], 0).astype(np.float16) for name, views in AVERAGES.items()}


def settings(trial: Trial) -> dict:
    """Return all settings of a trial, as JSON types."""
    named = asdict(trial) | {"layout": trial.layout.sizes, "options": trial.options.recipe()}
    return json.loads(json.dumps(named))


def measure(trial: Trial, seed: int, accelerator: Accelerator, checkpoint: Path) -> tuple[dict, dict[str, np.ndarray]]:
    """Return curves, scores and costs of a trial, and P(FAKE) of the validation images.

    A trial that was stopped goes on from ``checkpoint``. Its CPU seconds are then those of the last part alone.
    """
    cifake, device = data.load("full"), accelerator.device
    batch_size = catalogue.STRONG.batch_size
    train = ImageBatches(cifake.train.images, cifake.train.labels, batch_size, device, shift=trial.shift)
    val = ImageBatches(cifake.val.images, cifake.val.labels, 500, device)
    network = Network(trial, seed)
    learner = Followed(network, trial.averaging) if trial.averaging else network
    start = time.process_time()
    history = training.fit(
        learner,
        train,
        val,
        epochs=trial.epochs,
        accelerator=accelerator,
        options=trial.options,
        seed=seed,
        checkpoint=checkpoint,
    )
    seconds = time.process_time() - start
    found = judged(learner, val)
    labels = cifake.val.labels.numpy()
    result = {
        "weights_hash": network.weights_hash,
        "data_hash": cifake.hash,
        "trial": settings(trial),
        "seed": seed,
        "curves": asdict(history),
        "val": {name: float(((p > 0.5) == (labels == data.FAKE)).mean()) for name, p in found.items()},
        "precision": accelerator.mixed_precision,
        "cpu_seconds": seconds,
        "hardware": records.hardware(device),
        "versions": records.versions(),
    }
    return result, found


def main(names: list[str]) -> int:
    wanted = {name: re.fullmatch(r"(.+?)(?:#([1-9]\d{0,8}))?", name) for name in names}
    unknown = [name for name, found in wanted.items() if not found or found[1] not in TRIALS]
    if unknown or not names:
        print("\n".join(f"{name}: {trial}" for name, trial in TRIALS.items()))
        if unknown:
            print(f"There is no trial {', '.join(unknown)}. Choose among those above.", file=sys.stderr)
        return int(bool(unknown))
    FOLDER.mkdir(exist_ok=True)
    for name in names:
        trial, seed = wanted[name].groups()
        file = FOLDER / f"{name.replace(',', '').replace(' ', '_')}.json"
        checkpoint = profiles.runs_folder() / "trials" / f"{file.stem}.safetensors"
        if file.exists() and verified.load_json(file)["trial"] == settings(TRIALS[trial]):
            print(f"{name} is there already.")
            continue
        accelerator = profiles.resolve("full").accelerator()
        result, probabilities = measure(TRIALS[trial], int(seed or 0), accelerator, checkpoint)
        print(name, json.dumps(result["val"]), round(result["curves"]["seconds"]), "s", flush=True)
        verified.save_arrays(file.with_suffix(".npz"), **probabilities)
        verified.save_json(file, {"name": name} | result)
        checkpoint.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
