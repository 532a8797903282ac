"""How good a detector is, from P(FAKE) and labels alone. FAKE is the positive class."""

import numpy as np
import torch
from scipy.stats import binomtest
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    f1_score,
    log_loss,
    roc_auc_score,
)
from torchmetrics.functional.classification import binary_calibration_error

from cifake_utils.data import FAKE, REAL

# Records keep P(FAKE) as float16, whose spacing below 1 is 2⁻¹¹; the log loss is taken no nearer to 0 and 1 than that.
LOG_LOSS_MARGIN = 2.0**-11


def score(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return the scores of a detector at the threshold ½.

    Parameters
    ----------
    probabilities : np.ndarray
        P(FAKE), shape (N,), from 0 to 1.
    labels : np.ndarray
        Shape (N,), REAL = 0 and FAKE = 1, both present.

    Returns
    -------
    dict
        ``accuracy``; ``f1_fake``, ``f1_real``, ``f1_macro``; ``auroc``; ``ap`` (average precision); ``log_loss`` (plain
        cross-entropy, nats, probabilities clipped by `LOG_LOSS_MARGIN`); ``ece`` (expected calibration error, 15
        bins); ``brier``.

    Raises
    ------
    ValueError
        Shapes differ, probabilities outside 0 to 1 or not numbers, labels other than 0 and 1, or only one label.
    """
    p, y = np.asarray(probabilities, np.float64), np.asarray(labels, np.int64)
    if p.ndim != 1 or p.shape != y.shape:
        raise ValueError(f"probabilities {p.shape} and labels {y.shape} must be two vectors of one length")
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("probabilities must lie between 0 and 1, and none may be NaN")
    if set(np.unique(y)) != {REAL, FAKE}:
        raise ValueError(f"labels must be 0 (REAL) and 1 (FAKE), both present; found {np.unique(y)}")
    decided = (p > 0.5).astype(int)
    clipped = p.clip(LOG_LOSS_MARGIN, 1 - LOG_LOSS_MARGIN)
    values = {
        "accuracy": accuracy_score(y, decided),
        "f1_fake": f1_score(y, decided, pos_label=FAKE),
        "f1_real": f1_score(y, decided, pos_label=REAL),
        "f1_macro": f1_score(y, decided, average="macro"),
        "auroc": roc_auc_score(y, p),
        "ap": average_precision_score(y, p),
        "log_loss": log_loss(y, clipped),
        "ece": binary_calibration_error(torch.from_numpy(p), torch.from_numpy(y), n_bins=15),
        "brier": brier_score_loss(y, p),
    }
    return {name: float(value) for name, value in values.items()}


def accuracy_interval(accuracy: float, count: int) -> tuple[float, float]:
    """Return the 95 % Wilson interval of an accuracy measured on ``count`` images."""
    interval = binomtest(round(accuracy * count), count).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)
