"""Say whether an image is like those that a detector was trained on, from the features that the detector computes."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from sklearn.decomposition import PCA

from cifake_utils.batches import normalise
from cifake_utils.models import Backbone

COMPONENTS = 64
FALSE_ALARMS = 0.01  # share of validation images that count as unlike
MOST_IMAGES = 2_000
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
    mean : torch.Tensor
        float32 (D,).
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
        centred = features - self.mean
        along = (centred @ self.components.T).square()
        across = (centred.square().sum(1) - along.sum(1)).clamp(min=0)
        squared = (along / self.variances).sum(1) + across / self.noise
        return (squared / len(self.mean)).sqrt().numpy()


def fit(train: torch.Tensor, val: torch.Tensor) -> Familiarity:
    """Return the density of features of images that a detector knows.

    Parameters
    ----------
    train, val : torch.Tensor
        Features of training and of validation images, float32 (N, D) and (M, D). The density comes from the first. The
        threshold is the distance that a hundredth of the second exceed.
    """
    pca = PCA(min(COMPONENTS, len(train) - 1), svd_solver="randomized", random_state=0).fit(train.numpy())
    mean, components, variances = map(torch.from_numpy, (pca.mean_, pca.components_, pca.explained_variance_))
    density = Familiarity(mean.float(), components.float(), variances.float(), float(pca.noise_variance_))
    return replace(density, threshold=float(np.quantile(density.distances(val), 1 - FALSE_ALARMS)))


def of(backbone: Backbone, train: torch.Tensor, val: torch.Tensor) -> Familiarity:
    """Return the density for a backbone, from at most `MOST_IMAGES` training and validation images each.

    ``train`` and ``val`` are uint8 (N, 3, 32, 32), RGB.
    """
    return fit(*(features_of(backbone, images[:: -(-len(images) // MOST_IMAGES)]) for images in (train, val)))


@torch.inference_mode()
def features_of(backbone: Backbone, images: torch.Tensor) -> torch.Tensor:
    """Return the means of all maps of a backbone, from the stem on, side by side.

    Parameters
    ----------
    backbone : Backbone
        In eval mode, on the CPU.
    images : torch.Tensor
        uint8 (N, 3, 32, 32), RGB.

    Returns
    -------
    torch.Tensor
        float32 (N, D), with D the number of channels of all stages together.
    """
    parts = [backbone(normalise(batch)) for batch in images.split(AT_ONCE)]
    return torch.cat([torch.cat([maps.mean((2, 3)) for maps in part.values()], 1) for part in parts])
