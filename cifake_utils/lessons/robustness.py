"""Measure detectors on images they were not trained for: corrupted ones, and those of another generator.

The corruptions are in the spirit of Hendrycks & Dietterich, *Benchmarking Neural Network Robustness to Common
Corruptions and Perturbations*, ICLR 2019, for 32×32 pixels. Nothing is trained, tuned or chosen on such images.
"""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as transforms

from cifake_utils import data, evaluation, experiments, profiles, records
from cifake_utils.support import progress, verified

Predict = Callable[[torch.Tensor], dict[str, np.ndarray]]

ASSETS = Path(__file__).parent.parent / "assets"


@dataclass(frozen=True)
class Generator:
    """A source of FAKE images on which no model was trained, tuned or chosen, with some of its images.

    To add one, put its file into ``assets/``, its SHA-256 into the list there, and a line into `GENERATORS`. `measure`
    then scores it beside the others. Lesson 08 shows it at once, and says where it is not measured yet.

    Attributes
    ----------
    file : Path
        NPZ file whose array ``images`` is uint8 (M, 3, 32, 32), RGB. `verified.SUMS` beside it lists its SHA-256.
    about : str
        Where the images come from.
    """

    file: Path
    about: str

    def samples(self) -> torch.Tensor:
        """Return its images: uint8 (M, 3, 32, 32), RGB. Raise a `CifakeError` if the SHA-256 of the file differs."""
        return torch.from_numpy(verified.load_arrays(verified.shipped(self.file))["images"])


GENERATORS = {
    "GAN": Generator(
        ASSETS / "gan_samples.npz",
        "a small DCGAN, trained on CIFAKE's photographs by tools/make_gan_samples.py; through CIFAKE's JPEG encoder",
    ),
}


def jpeg(images: torch.Tensor, quality: int) -> torch.Tensor:
    """Encode as JPEG with libjpeg's ``quality`` and colours at half resolution, and decode again."""
    decoded = []
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
        decoded.append(np.array(Image.open(buffer)))
    return torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).contiguous()


def blur(images: torch.Tensor, sigma: float) -> torch.Tensor:
    """Convolve with a Gaussian of standard deviation ``sigma``, in pixels."""
    return transforms.gaussian_blur(images, [2 * math.ceil(3 * sigma) + 1] * 2, [sigma] * 2)


def noise(images: torch.Tensor, sigma: float) -> torch.Tensor:
    """Add Gaussian noise of standard deviation ``sigma``, in grey levels (0 to 255); the same at every call."""
    drawn = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return (images + sigma * drawn).round().clamp(0, 255).to(torch.uint8)


def rescale(images: torch.Tensor, pixels: int) -> torch.Tensor:
    """Shrink to ``pixels`` a side and enlarge again, both bilinear."""
    return transforms.resize(transforms.resize(images, [pixels, pixels]), list(images.shape[-2:]))


def brightness(images: torch.Tensor, factor: float) -> torch.Tensor:
    """Multiply all values by ``factor``, and clip them at 255."""
    return transforms.adjust_brightness(images, factor)


@dataclass(frozen=True)
class Corruption:
    """One way to change uint8 images (N, 3, H, W) into others of the same shape.

    Attributes
    ----------
    change : callable
        (images, strength) to images.
    strengths : tuple of float
        From mild to strong.
    unit : str
        Unit and meaning of the strength.
    """

    change: Callable[[torch.Tensor, Any], torch.Tensor]
    strengths: tuple[float, ...]
    unit: str


STRENGTHS = ", strengths"  # after a corruption's name: that of an array with the strengths that were asked about

CORRUPTIONS = {
    "JPEG": Corruption(jpeg, (95, 75, 50, 25, 10), "quality"),
    "blur": Corruption(blur, (0.5, 1.0), "standard deviation, pixels"),
    "noise": Corruption(noise, (4, 12), "standard deviation, grey levels"),
    "rescaling": Corruption(rescale, (24, 16), "pixels a side in between"),
    "darker": Corruption(brightness, (0.75, 0.5), "factor"),
    "brighter": Corruption(brightness, (1.25, 1.5), "factor"),
}


def battery(predict: Predict, images: torch.Tensor) -> dict[str, dict[str, np.ndarray]]:
    """Return P(FAKE) of images that are changed by every corruption and strength of `CORRUPTIONS`.

    Parameters
    ----------
    predict : callable
        uint8 images (N, 3, 32, 32) to P(FAKE) (N,) of each detector by name, e.g. `experiments.predict_images`.
    images : torch.Tensor
        uint8 (N, 3, 32, 32), RGB, on the CPU.

    Returns
    -------
    dict of str to dict of str to np.ndarray
        For each detector P(FAKE), float16, shape (strengths, N), for each corruption.
    """
    count = sum(len(corruption.strengths) for corruption in CORRUPTIONS.values())
    scored: dict[str, dict[str, np.ndarray]] = {}
    with progress.bar(total=count, desc="corruptions") as bar:
        for name, corruption in CORRUPTIONS.items():
            rows: dict[str, list[np.ndarray]] = {}
            for strength in corruption.strengths:
                for detector, probabilities in predict(corruption.change(images, strength)).items():
                    rows.setdefault(detector, []).append(probabilities.astype(np.float16))
                bar.update()
            for detector, values in rows.items():
                scored.setdefault(detector, {})[name] = np.stack(values)
    return scored


def curves(probabilities: dict[str, np.ndarray], labels: np.ndarray) -> dict[str, dict[str, list[float]]]:
    """Return, for each corruption, the accuracy at the threshold ½ and the AUROC, one value for each strength.

    Parameters
    ----------
    probabilities : dict of str to np.ndarray
        What `battery` returns for one detector.
    labels : np.ndarray
        (N,), REAL = 0 and FAKE = 1.
    """
    result = {}
    for name, rows in probabilities.items():
        scores = [evaluation.score(row, labels) for row in rows]
        result[name] = {key: [score[key] for score in scores] for key in ("accuracy", "auroc")}
    return result


def path(name: str, folder: Path = records.REFERENCE, seed: int = 0) -> Path:
    """Return the path, beside a run's record, of the file with P(FAKE) of changed images and of generators."""
    return folder / f"{name}-seed{seed}-robustness.npz"


def measure(names: list[str], seed: int = 0, profile: str | profiles.Profile | None = None) -> None:
    """Write P(FAKE) from trained models for the corrupted test split (`battery`) and for the images of `GENERATORS`.

    The files lie beside the records, and `read` reads them. They are written when all answers are there. Models without
    a finished run are trained first.
    """
    profile = profiles.resolve(profile)
    detectors = {name: experiments.train_or_load(name, seed, profile) for name in names}

    def predict(images: torch.Tensor) -> dict[str, np.ndarray]:
        return experiments.predict_images(detectors, images, profile.accelerator())

    answers = battery(predict, data.load(profile).test.images)
    for generator, declared in GENERATORS.items():
        for name, probabilities in predict(declared.samples()).items():
            answers[name][generator] = probabilities.astype(np.float16)
    strengths = {name + STRENGTHS: np.array(corruption.strengths) for name, corruption in CORRUPTIONS.items()}
    for name in names:
        verified.save_arrays(path(name, profile.runs, seed), **answers[name], **strengths)


def read(file: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return what `measure` wrote. What was declared later is missing: corruptions, other strengths, generators.

    Returns
    -------
    corrupted : dict of str to np.ndarray
        P(FAKE), float16, (strengths, N), for each of `CORRUPTIONS`.
    generated : dict of str to np.ndarray
        P(FAKE), float16, (M,), for each of `GENERATORS`: of its M images.
    """
    answers = verified.load_arrays(file)
    corrupted = {
        name: answers[name]
        for name, corruption in CORRUPTIONS.items()
        if np.array_equal(answers.get(name + STRENGTHS, ()), corruption.strengths)
    }
    return corrupted, {name: answers[name] for name in GENERATORS if name in answers}
