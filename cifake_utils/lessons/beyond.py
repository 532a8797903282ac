"""What lesson 10 measures: how images of other generators differ from photographs, and what an alarm is worth.

`measure` writes what needs CIFAKE's own images. The images of the generators ship with the package (`zoo`), so whatever
follows from these alone is computed anew in the lesson.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.fft import dctn
from scipy.stats import rankdata

from cifake_utils import data, evaluation, familiarity, models, records, weights
from cifake_utils.data import FAKE, REAL
from cifake_utils.lessons import exploration, zoo
from cifake_utils.support import verified

FILE = records.REFERENCE / "beyond.npz"
PHOTOGRAPHS, RENDERED = "photographs", "CIFAKE's FAKE"

# The files of the zoo whose images a generator drew, and the names that figures and tables give them.
GENERATORS = {
    "autoregressive": "PixelCNN",
    "gan": "GAN",
    "gan_hinge": "GAN, hinge loss",
    "flow_matching": "flow matching",
    "normalising_flow": "normalising flow",
    "ddpm": "DDPM",
    "vae": "VAE",
}
# Those that hold photographs that a network made again.
RENDERINGS = {
    "autoencoder_nearest_256": "autoencoder, nearest, 256",
    "autoencoder_nearest_1024": "autoencoder, nearest, 1024",
    "autoencoder_shuffle_256": "autoencoder, shuffle, 256",
    "autoencoder_shuffle_1024": "autoencoder, shuffle, 1024",
    "autoencoder_transposed_256": "autoencoder, transposed, 256",
    "autoencoder_transposed_1024": "autoencoder, transposed, 1024",
    "noised_third": "noised by a third, denoised",
    "noised_half": "noised by half, denoised",
}
TITLES = GENERATORS | RENDERINGS
HIGHEST = slice(13, 16)  # of a radial power spectrum: 14, 15 and 16 cycles an image
RESAMPLES = 1_000


@cache
def images(kind: str) -> torch.Tensor:
    """Return the images of a kind of the zoo, uint8 (1000, 3, 32, 32): drawn ones, or re-rendered validation images."""
    parts = zoo.read(zoo.FOLDER / f"{kind}.npz")
    return parts[zoo.SAMPLES if kind in GENERATORS else zoo.VALIDATION][0]


def about(kind: str) -> dict[str, Any]:
    """Return how the images of a kind were made: steps and seconds of the training, device, parameters and more."""
    return zoo.read_about(zoo.FOLDER / f"{kind}.npz")


def spectra(images: torch.Tensor) -> np.ndarray:
    """Return `exploration.radial_power_spectrum` of uint8 images (N, 3, S, S), rounded to float16: (N, S // 2).

    The photographs' spectra are stored with 16 bits. Rounded alike, both kinds can be compared by a classifier.
    """
    return exploration.radial_power_spectrum(images).numpy().astype(np.float16)


@dataclass(frozen=True)
class Measured:
    """What `measure` wrote, by the names of the kinds. The REAL and FAKE images are CIFAKE's validation images.

    Attributes
    ----------
    spectra : dict of str to np.ndarray
        float16 (N, 16), of `PHOTOGRAPHS` and of `RENDERED`: `spectra` of all images of the split.
    distances : dict of str to np.ndarray
        float16 (N,), of these two, of a thousand images each, and of every kind of the zoo: the Mahalanobis distance of
        an image's features from the centre of those of photographs.
    """

    spectra: dict[str, np.ndarray]
    distances: dict[str, np.ndarray]


def measure(cifake: data.Cifake, path: Path = FILE) -> None:
    """Write the `Measured` of all of CIFAKE and of the zoo. It takes about two minutes on two CPU cores.

    Features are `familiarity.features_of` the embedded backbone, which learned object classes and has never seen a FAKE
    image. Their density comes from photographs of the train split.
    """
    split = cifake.val
    parts = {PHOTOGRAPHS: split.images[split.labels == REAL], RENDERED: split.images[split.labels == FAKE]}
    backbone = models.backbone(weights.load_offline()).eval()
    photographs = cifake.train.images[cifake.train.labels == REAL]
    density = familiarity.of(backbone, photographs, parts[PHOTOGRAPHS])
    arrays = {f"spectra {name}": spectra(found) for name, found in parts.items()}
    shown = {name: found[:: len(found) // zoo.COUNT][: zoo.COUNT] for name, found in parts.items()}
    for name, found in (shown | {kind: images(kind) for kind in TITLES}).items():
        distances = density.distances(familiarity.features_of(backbone, found))
        arrays[f"distances {name}"] = distances.astype(np.float16)
    verified.save_arrays(path, **arrays)


def read(path: Path = FILE) -> Measured:
    """Return what `measure` wrote. A damaged file is a `verified.DamagedFile`."""
    parts: dict[str, dict[str, np.ndarray]] = {"spectra": {}, "distances": {}}
    for key, values in verified.load_arrays(path).items():
        part, _, name = key.partition(" ")
        parts[part][name] = values
    return Measured(**parts)


def fine_detail(powers: np.ndarray) -> np.ndarray:
    """Return the mean log10 power of each image at its three highest frequencies: (N, 16) to float64 (N,)."""
    return powers[:, HIGHEST].astype(np.float64).mean(1)


def power_ratio(group: np.ndarray, photographs: np.ndarray, seed: int = 0) -> tuple[float, float, float]:
    """Return how many times as much power a group of images has as photographs, and its 95 % interval.

    The ratio is that of geometric means. The interval is a percentile bootstrap's with 1,000 resamples of both groups.

    Parameters
    ----------
    group, photographs : np.ndarray
        log10 power of each image, (N,) and (M,), such as `fine_detail` returns.
    seed : int
    """
    rng = np.random.default_rng(seed)
    differences = [
        rng.choice(group, len(group)).mean() - rng.choice(photographs, len(photographs)).mean()
        for _ in range(RESAMPLES)
    ]
    low, high = np.quantile(differences, (0.025, 0.975))
    return float(10 ** (group.mean() - photographs.mean())), float(10**low), float(10**high)


def auroc(photographs: np.ndarray, group: np.ndarray) -> tuple[float, float, float]:
    """Return how often an image of a group has a higher number than a photograph, with the 95 % interval of DeLong.

    Ties count half. The numbers, (N,) and (M,), may be any; `evaluation.against` does the same for probabilities.
    """
    ranks = rankdata(np.concatenate([photographs, group]).astype(np.float64))
    real, fake = np.split(ranks / (len(ranks) + 1), [len(photographs)])
    found = evaluation.against(real, fake)
    return found["auroc"], found["auroc_low"], found["auroc_high"]


def right_alarms(prior: float, hits: float, false_alarms: float) -> float:
    """Return which share of the images that are called FAKE is FAKE, by Bayes' rule; NaN if no image is called FAKE.

    Parameters
    ----------
    prior : float
        Share of FAKE among all images, 0 to 1.
    hits, false_alarms : float
        Shares of the FAKE and of the REAL images that are called FAKE, 0 to 1.
    """
    right, wrong = prior * hits, (1 - prior) * false_alarms
    return right / (right + wrong) if right + wrong else float("nan")


FOLLOW, ALL_REAL, ALL_FAKE = "follow the detector", "call every image REAL", "call every image FAKE"


def costs(prior: float, hits: float, false_alarms: float, miss: float) -> dict[str, float]:
    """Return what an image costs on average if one follows the detector, and if one does without it.

    A FAKE image that is called REAL costs ``miss``, and a REAL image that is called FAKE costs 1. The other parameters
    are those of `right_alarms`.
    """
    return {
        FOLLOW: prior * (1 - hits) * miss + (1 - prior) * false_alarms,
        ALL_REAL: prior * miss,
        ALL_FAKE: 1 - prior,
    }


def jpeg_traces(images: torch.Tensor) -> np.ndarray:
    """Return how large the waves are of which JPEG composes the brightness of images.

    JPEG cuts an image into blocks of 8×8 pixels, and writes each as a sum of 64 waves (a cosine transform). It rounds
    their sizes, the fine ones most coarsely. ITU-T Recommendation T.81 (1992).

    Parameters
    ----------
    images : torch.Tensor
        uint8 (N, 3, H, W), RGB, H and W multiples of 8.

    Returns
    -------
    np.ndarray
        float64 (N, 64): log of the mean size over all blocks, in grey levels, plus 0.1.
    """
    luma = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
    brightness = torch.einsum("c,nchw->nhw", luma, images.double())
    blocks = brightness.unflatten(2, (-1, 8)).unflatten(1, (-1, 8)).transpose(2, 3)  # (N, rows, columns, 8, 8)
    waves = np.abs(np.asarray(dctn(blocks.numpy(), axes=(-2, -1), norm="ortho")))
    return np.log(waves.mean((1, 2)).reshape(len(images), 64) + 0.1)
