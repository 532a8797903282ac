"""Measure how much the fractal dimensions of images and of feature maps differ between REAL and FAKE."""

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from scipy.stats import ttest_ind
from sklearn.metrics import roc_auc_score

from cifake_utils import features, fractal, models
from cifake_utils.data import FAKE, LABELS, REAL, Cifake
from cifake_utils.lessons.exploration import probe_accuracy
from cifake_utils.weights import Weights

STAGES = ("stem", "layer1")  # deeper maps are smaller than 8×8 pixels and have fewer than three box sizes
BATCH_SIZE = 500


def grey(images: torch.Tensor) -> torch.Tensor:
    """Return the mean of the colour channels of uint8 images (N, 3, H, W): float32 (N, H, W), 0 to 1."""
    return images.float().mean(1) / 255


def brighter_half_dimension(surfaces: torch.Tensor) -> torch.Tensor:
    """Return the box-counting dimension of the pixels brighter than their image's median: (N, H, W) to (N,)."""
    excess = surfaces - surfaces.flatten(1).median(1).values[:, None, None]
    return fractal.FractalDimension(1, hard=True)(excess[:, None])[:, 0]


# Each takes grey images (N, H, W) and returns one number for each image, (N,).
ESTIMATORS: dict[str, Callable[[torch.Tensor], Any]] = {
    "box counting, brighter half": brighter_half_dimension,
    "differential box counting": fractal.differential_box_counting_dimension,
    "variogram": fractal.variogram_dimension,
}


def effect_sizes(values: np.ndarray, labels: np.ndarray) -> dict[str, list[float]]:
    """Return Cohen's d of each column, the standardised mean difference FAKE − REAL, with its 95 % interval.

    d is the difference of the means in units of the standard deviation within a label, which is the root of the mean of
    both variances (Cohen, *Statistical Power Analysis for the Behavioral Sciences*, 1988). The interval is Welch's for
    the difference, in the same units. A column that never varies has d = 0.

    Parameters
    ----------
    values : np.ndarray
        Shape (N, D).
    labels : np.ndarray
        Shape (N,), with at least two REAL and two FAKE.

    Returns
    -------
    dict
        ``d``, ``low`` and ``high``, each a list of D numbers.
    """
    real, fake = values[labels == REAL].astype(float), values[labels == FAKE].astype(float)
    spread = np.sqrt((real.var(0, ddof=1) + fake.var(0, ddof=1)) / 2)
    varies = spread > 0
    interval = ttest_ind(fake[:, varies], real[:, varies], equal_var=False).confidence_interval(0.95)
    columns = {"d": fake[:, varies].mean(0) - real[:, varies].mean(0), "low": interval.low, "high": interval.high}
    result = {}
    for name, column in columns.items():
        full = np.zeros(values.shape[1])
        full[varies] = column / spread[varies]
        result[name] = full.tolist()
    return result


def of_images(cifake: Cifake) -> dict:
    """Return statistics of `ESTIMATORS` on the training images, and the accuracy of a linear classifier on them."""
    values = {split: _estimates(cifake.splits[split].images) for split in ("train", "val")}
    labels = cifake.train.labels.numpy()
    effects = effect_sizes(values["train"].numpy(), labels)
    result = {}
    for column, name in enumerate(ESTIMATORS):
        numbers = values["train"][:, column].numpy()
        result[name] = {key: effect[column] for key, effect in effects.items()}
        result[name]["auroc"] = float(roc_auc_score(labels, numbers))
        for label, label_name in enumerate(LABELS):
            chosen = numbers[labels == label].astype(float)
            result[name][label_name] = {"mean": chosen.mean(), "standard_deviation": chosen.std(ddof=1)}
    return {"estimators": result, "probe_accuracy": probe_accuracy(values["train"], values["val"], cifake)}


def _estimates(images: torch.Tensor) -> torch.Tensor:
    """Return the results of `ESTIMATORS` as columns: (N, len(ESTIMATORS))."""
    parts = [grey(part) for part in images.split(BATCH_SIZE)]
    return torch.stack([torch.cat([estimator(part) for part in parts]) for estimator in ESTIMATORS.values()], 1)


def of_maps(cifake: Cifake, backbone: models.Backbone, accelerator: Accelerator) -> dict:
    """Return, for every channel of `STAGES`, the effect sizes of its dimension and of its plain mean.

    The best channel is chosen on training images. Its AUROC is measured on validation images.
    """
    result = {stage: {} for stage in STAGES}
    for stage, name in product(STAGES, ("dimension", "mean")):
        cached = features.cached(backbone, cifake, [f"{stage}_{name}"], accelerator)
        train, val = (
            cached[split][:, 0].float().numpy() for split in ("train", "val")
        )  # the images, not their mirror images
        effects = effect_sizes(train, cifake.train.labels.numpy())
        best = int(np.abs(effects["d"]).argmax())
        auroc = roc_auc_score(cifake.val.labels.numpy(), np.sign(effects["d"][best]) * val[:, best])
        result[stage][name] = effects | {"best_channel": best, "best_channel_val_auroc": float(auroc)}
    return result


def facts(cifake: Cifake, start: Weights, accelerator: Accelerator) -> dict:
    """Return everything that lesson 02b measures on images and maps, as JSON types, for the sample or for CIFAKE.

    Parameters
    ----------
    cifake : Cifake
    start : Weights
        The weights of the backbone whose maps are measured.
    accelerator : accelerate.Accelerator
        Device and precision.
    """
    return {
        "data": cifake.source,
        "data_hash": cifake.hash,
        "weights": start.name,
        "weights_hash": start.hash,
        "images": len(cifake.train),
        "image": of_images(cifake),
        "map": of_maps(cifake, models.backbone(start).eval(), accelerator),
    }
