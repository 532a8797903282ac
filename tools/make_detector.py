"""Make the detector that comes with the package from a run on all of CIFAKE.

    export CIFAKE_PROFILE=full CIFAKE_DATA=FOLDER
    ACCELERATE_MIXED_PRECISION=bf16 python -m cifake_utils train resnet50_embedded
    python tools/make_detector.py

The training takes about one and a half hours on a core of a CPU, and this script ten minutes. It rounds the weights to
8 bits, measures the rounded detector on CIFAKE's test images and on images unlike them, and writes
``detector_int8.safetensors`` into ``tools/``. The run's record belongs into ``cifake_utils/reference``. CIFAKE has an
MIT licence, and the embedded weights come from its photographs, so the detector may be shipped.
"""

import json
from pathlib import Path

import numpy as np
import torch

from cifake_utils import data, embedded, evaluation, experiments, familiarity, profiles, weights
from cifake_utils.lessons import robustness

FILE = Path(__file__).parent / embedded.FILE.name
EVERY = 20  # every so many test images are changed
LICENCE = "MIT, as CIFAKE's images, on which alone its weights were trained"


def gradients(count: int) -> torch.Tensor:
    """Return images in which one colour turns into another along a line: uint8 (N, 3, 32, 32)."""
    generator = torch.Generator().manual_seed(0)
    angles = 2 * torch.pi * torch.rand(count, generator=generator)
    first, second = 255 * torch.rand(2, count, 3, 1, 1, generator=generator)
    steps = torch.linspace(-0.5, 0.5, 32)
    along = angles.cos()[:, None, None] * steps[None, :, None] + angles.sin()[:, None, None] * steps[None, None, :]
    share = (along / along.abs().amax((1, 2), keepdim=True) / 2 + 0.5)[:, None]
    return (first + share * (second - first)).round().to(torch.uint8)


def noise(count: int) -> torch.Tensor:
    """Return images of random pixels: uint8 (N, 3, 32, 32)."""
    return torch.randint(0, 256, (count, 3, 32, 32), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def main():
    cifake = data.load("full")
    model, record = experiments.train_or_load(embedded.EXPERIMENT, 0, "full")  # seed 0, whose record `embedded` reads
    model.load_state_dict(weights.dequantise(weights.quantise(model.state_dict())))
    accelerator = profiles.resolve("full").accelerator()

    def probabilities(images: torch.Tensor) -> np.ndarray:
        return experiments.predict_images({"rounded": (model, record)}, images, accelerator)["rounded"]

    known = familiarity.of(model.backbone, cifake.train.images, cifake.val.images)

    def unlike(images: torch.Tensor) -> float:
        return float((known.distances(familiarity.features_of(model.backbone, images)) > known.threshold).mean())

    gan = robustness.GENERATORS["GAN"].samples()
    others = {
        "CIFAKE's test images": cifake.test.images,
        "images of a GAN": gan,
        "colour gradients": robustness.jpeg(gradients(500), 75),
        "random pixels": robustness.jpeg(noise(500), 75),
    }
    labels = cifake.test.labels.numpy()
    rounded = probabilities(cifake.test.images)
    some = slice(None, None, EVERY)
    changed = robustness.battery(lambda images: {"rounded": probabilities(images)}, cifake.test.images[some])["rounded"]
    curves = robustness.curves(changed, labels[some])
    right = (rounded > 0.5) == labels
    classes = cifake.test.classes.numpy()
    facts = {
        "trained_on": f"{cifake.source}, data hash {cifake.hash}",
        "experiment": record.name,
        "licence": LICENCE,
        "temperature": evaluation.fit_temperature(record.probabilities["val"], record.labels["val"]),
        "test": {
            "before_rounding": record.metrics["test"]["accuracy"],
            "rounded": evaluation.score(rounded, labels),
        },
        "labelled_correctly": {
            "REAL": float(right[labels == data.REAL].mean()),
            "FAKE": float(right[labels == data.FAKE].mean()),
            **{name: float(right[classes == number].mean()) for number, name in enumerate(cifake.class_names)},
        },
        "changed_images": len(labels[some]),
        "changed": {
            f"{name} {strength:g}": value
            for name, corruption in robustness.CORRUPTIONS.items()
            for strength, value in zip(corruption.strengths, curves[name]["accuracy"], strict=True)
        },
        "unlike": {name: unlike(images) for name, images in others.items()},
        "gan_images": len(gan),
        "gan_called_fake": float((probabilities(gan) > 0.5).mean()),
    }
    print(json.dumps(facts, indent=1))
    familiarity.save(FILE, model.state_dict(), known, facts)
    print(f"{FILE}: {FILE.stat().st_size:,} bytes. Move it to {embedded.FILE.parent}.")


if __name__ == "__main__":
    main()
