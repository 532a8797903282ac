"""Say whether an image is like those that a detector was trained on, from the features that the detector computes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from sklearn.decomposition import PCA

from cifake_utils import weights
from cifake_utils.batches import normalise
from cifake_utils.models import Backbone, Maps
from cifake_utils.support import verified
from cifake_utils.support.files import replacing

PREFIX = "familiarity."  # in files of detectors, of the names of tensors that belong to the density
COMPONENTS = 32
FALSE_ALARMS = 0.01  # share of validation images that count as unlike
MOST_IMAGES = 2_000
STAGES = ("stem", "layer1")
SMALLEST = 1e-3  # is added to standard deviations, some of which are 0
AT_ONCE = 125  # images in one pass through the backbone


@dataclass(frozen=True)
class Familiarity:
    """A Gaussian density of features, and how far from its centre an image may lie.

    The density is that of probabilistic principal component analysis: free variances along some directions, and one
    variance for all others (Tipping & Bishop, *Probabilistic Principal Component Analysis*, JRSS B 1999). The distance
    is Mahalanobis's, which for detecting unlike images goes back to Lee et al., *A Simple Unified Framework for
    Detecting Out-of-Distribution Samples and Adversarial Attacks*, NeurIPS 2018.

    Attributes
    ----------
    mean, scale : torch.Tensor
        float32 (D,), by which features are centred and divided first.
    components : torch.Tensor
        float32 (K, D), orthonormal directions.
    variances : torch.Tensor
        float32 (K,), along the directions.
    noise : float
        The variance along all other directions.
    threshold : float
        An image at a larger distance is unlike the known ones.
    """

    mean: torch.Tensor
    scale: torch.Tensor
    components: torch.Tensor
    variances: torch.Tensor
    noise: float
    threshold: float = float("inf")

    def distances(self, features: torch.Tensor) -> np.ndarray:
        """Return the distance of each row of features from the centre of the density.

        It is the root of the mean squared deviation in units of standard deviations, so that 1 is usual.

        Parameters
        ----------
        features : torch.Tensor
            float32 (N, D).

        Returns
        -------
        np.ndarray
            float32 (N,), from 0.
        """
        centred = (features - self.mean) / self.scale
        along = (centred @ self.components.T).square()
        across = (centred.square().sum(1) - along.sum(1)).clamp(min=0)
        squared = (along / self.variances).sum(1) + across / self.noise
        return (squared / len(self.mean)).sqrt().numpy()

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return its fields as tensors for a file; the directions are rounded to half precision."""
        fields = {name: torch.as_tensor(value) for name, value in vars(self).items()}
        return fields | {"components": self.components.half().contiguous()}

    @classmethod
    def of_tensors(cls, tensors: dict[str, torch.Tensor]) -> "Familiarity":
        """Return the density whose `tensors` these are."""
        fields: dict[str, Any] = {
            name: value.float() if value.ndim else float(value) for name, value in tensors.items()
        }
        return cls(**fields)


def fit(train: torch.Tensor, val: torch.Tensor) -> Familiarity:
    """Return the density of features of images that a detector knows.

    Parameters
    ----------
    train, val : torch.Tensor
        Features of training and of validation images, float32 (N, D) and (M, D). The density comes from the first. The
        threshold is the distance that a hundredth of the second exceed.
    """
    mean, scale = train.mean(0), train.std(0).clamp(min=1e-6)
    count = min(COMPONENTS, len(train) // 2)  # with as many directions as images none would be left for the noise
    pca = PCA(count, svd_solver="randomized", random_state=0).fit(((train - mean) / scale).numpy())
    components, variances = (torch.from_numpy(values).float() for values in (pca.components_, pca.explained_variance_))
    density = Familiarity(mean, scale, components, variances, float(pca.noise_variance_))
    density = replace(density, variances=density.variances.clamp(min=SMALLEST), noise=max(density.noise, SMALLEST))
    return replace(density, threshold=float(np.quantile(density.distances(val), 1 - FALSE_ALARMS)))


def of(backbone: Backbone, train: torch.Tensor, val: torch.Tensor) -> Familiarity:
    """Return the density for a backbone, from at most `MOST_IMAGES` training and validation images each.

    ``train`` and ``val`` are uint8 (N, 3, 32, 32), RGB.
    """
    return fit(*(features_of(backbone, images[:: -(-len(images) // MOST_IMAGES)]) for images in (train, val)))


def means_and_spreads(maps: Maps, stages: Sequence[str]) -> torch.Tensor:
    """Return means and logarithms of standard deviations of the maps (N, C, H, W) of each stage, side by side.

    The result is float32 (N, D), with D twice the number of channels of these stages. Flat maps make it small.
    """
    means = [maps[stage].mean((2, 3)) for stage in stages]
    spreads = [(maps[stage].std((2, 3)) + SMALLEST).log() for stage in stages]
    return torch.cat(means + spreads, 1)


@torch.inference_mode()
def features_of(backbone: Backbone, images: torch.Tensor, stages: Sequence[str] = STAGES) -> torch.Tensor:
    """Return `means_and_spreads` of a backbone's first maps.

    On images that nobody would take for CIFAKE's, such as gradients, drawings and text, maps after those of `STAGES`
    told less, and so did the means alone. Flat areas make the logarithms small.

    Parameters
    ----------
    backbone : Backbone
        In eval mode, on the CPU.
    images : torch.Tensor
        uint8 (N, 3, 32, 32), RGB.
    stages : sequence of str
        In the order of the backbone.

    Returns
    -------
    torch.Tensor
        float32 (N, D), with D twice the number of channels of these stages.
    """
    batches = images.split(AT_ONCE)
    return torch.cat([means_and_spreads(backbone(normalise(batch), last=stages[-1]), stages) for batch in batches])


def save(path: Path, state: dict[str, torch.Tensor], known: Familiarity, facts: dict) -> None:
    """Write the file of a detector: its state dict, rounded to 8 bits (`weights.quantise`), the density, and facts.

    The directions of the density are rounded to 16 bits. The facts are JSON types.
    """
    tensors = weights.quantise(state) | {PREFIX + name: value for name, value in known.tensors().items()}
    with replacing(path) as partial:
        save_file(tensors, partial, {"facts": json.dumps(facts)})


def load(path: Path) -> tuple[dict[str, torch.Tensor], Familiarity, dict[str, Any]]:
    """Return the state dict, the density and the facts in a file that `save` wrote.

    Raises `verified.DamagedFile` if the file, which comes with the package, is damaged.
    """
    tensors = {}
    with safe_open(verified.shipped(path), "pt") as file:
        facts = json.loads(file.metadata()["facts"])
        for name in file.keys():
            tensors[name] = file.get_tensor(name)
    known = {name.removeprefix(PREFIX): tensors.pop(name) for name in list(tensors) if name.startswith(PREFIX)}
    return weights.dequantise(tensors), Familiarity.of_tensors(known), facts
