"""How good a detector is, from P(FAKE) and labels alone. FAKE is the positive class."""

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit
from scipy.stats import binned_statistic, binomtest, bootstrap, rankdata
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    f1_score,
    log_loss,
    roc_auc_score,
    roc_curve,
)

from cifake_utils.data import FAKE, REAL

# Records keep P(FAKE) as float16, whose spacing below 1 is 2⁻¹¹; the log loss is taken no nearer to 0 and 1 than that.
LOG_LOSS_MARGIN = 2.0**-11


def score(probabilities: np.ndarray, labels: np.ndarray, threshold: float = 0.5) -> dict[str, float]:
    """Return the scores of a detector.

    Parameters
    ----------
    probabilities : np.ndarray
        P(FAKE), shape (N,), from 0 to 1.
    labels : np.ndarray
        Shape (N,), REAL = 0 and FAKE = 1, both present.
    threshold : float
        An image is called FAKE where P(FAKE) is above it.

    Returns
    -------
    dict
        At the threshold: ``accuracy``; ``f1_fake``, ``f1_real``, ``f1_macro``. Of the probabilities: ``auroc``; ``ap``
        (average precision); ``eer`` (equal error rate: where as many REAL images are called FAKE as FAKE ones REAL);
        ``log_loss`` (plain cross-entropy, nats, probabilities clipped by `LOG_LOSS_MARGIN`); ``ece`` (expected
        calibration error, 15 bins); ``brier``.

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
    decided = (p > threshold).astype(int)
    false_alarms, hits, _ = roc_curve(y, p)
    equal = np.abs(false_alarms - (1 - hits)).argmin()
    gaps = binned_statistic(p, y - p, "sum", bins=15, range=(0, 1)).statistic
    clipped = p.clip(LOG_LOSS_MARGIN, 1 - LOG_LOSS_MARGIN)
    values = {
        "accuracy": accuracy_score(y, decided),
        "f1_fake": f1_score(y, decided, pos_label=FAKE),
        "f1_real": f1_score(y, decided, pos_label=REAL),
        "f1_macro": f1_score(y, decided, average="macro"),
        "auroc": roc_auc_score(y, p),
        "ap": average_precision_score(y, p),
        "eer": (false_alarms[equal] + 1 - hits[equal]) / 2,
        "log_loss": log_loss(y, clipped),
        "ece": np.abs(gaps).sum() / len(p),
        "brier": brier_score_loss(y, p),
    }
    return {name: float(value) for name, value in values.items()}


def accuracy_interval(accuracy: float, count: int) -> tuple[float, float]:
    """Return the 95 % Wilson interval of an accuracy measured on ``count`` images."""
    interval = binomtest(round(accuracy * count), count).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def bootstrap_interval(
    metric: Callable[[np.ndarray, np.ndarray], float], probabilities: np.ndarray, labels: np.ndarray, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of ``metric(labels, probabilities)``, 1,000 resamples of images."""
    result = bootstrap(
        (labels, np.asarray(probabilities, float)),
        metric,
        paired=True,
        vectorized=False,
        n_resamples=1000,
        batch=100,  # of them in memory at a time
        method="percentile",
        rng=seed,
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def against(real: np.ndarray, fake: np.ndarray, threshold: float = 0.5) -> dict[str, float]:
    """Return how well a detector tells a set of FAKE images from a set of REAL ones, of any sizes.

    Parameters
    ----------
    real, fake : np.ndarray
        P(FAKE) of the REAL images, shape (N,), and of the FAKE ones, shape (M,); neither empty.
    threshold : float
        An image is called FAKE where P(FAKE) is above it.

    Returns
    -------
    dict
        ``real_images``, ``fake_images``; ``detected``, the share of FAKE called FAKE, and ``false_alarms``, the share
        of REAL called FAKE, each with the 95 % Wilson interval as ``…_low`` and ``…_high``; ``auroc``, ``auroc_low``
        and ``auroc_high`` with the 95 % interval of DeLong, DeLong & Clarke-Pearson, *Comparing the areas under two or
        more correlated receiver operating characteristic curves*, Biometrics 1988. It has no width where the sets are
        told apart perfectly, and is 0 to 1 where one of them has a single image.

    Raises
    ------
    ValueError
        An empty set, more than one dimension, probabilities outside 0 to 1 or not numbers.
    """
    real, fake = np.asarray(real, np.float64), np.asarray(fake, np.float64)
    for values in (real, fake):
        if values.ndim != 1 or not len(values) or not ((values >= 0) & (values <= 1)).all():
            raise ValueError("expected two vectors of probabilities between 0 and 1, none empty and none with a NaN")
    result = {"real_images": len(real), "fake_images": len(fake)}
    for name, values in (("detected", fake), ("false_alarms", real)):
        result[name] = float((values > threshold).mean())
        result[f"{name}_low"], result[f"{name}_high"] = accuracy_interval(result[name], len(values))
    ranks = rankdata(np.concatenate([real, fake]))
    below = (ranks[len(real) :] - rankdata(fake)) / len(real)  # share of REAL below each FAKE image, ties half
    above = 1 - (ranks[: len(real)] - rankdata(real)) / len(fake)
    auroc, low, high = float(below.mean()), 0.0, 1.0
    if min(len(real), len(fake)) > 1:
        half_width = 1.96 * np.sqrt(below.var(ddof=1) / len(fake) + above.var(ddof=1) / len(real))
        low, high = max(0.0, float(auroc - half_width)), min(1.0, float(auroc + half_width))
    return result | {"auroc": auroc, "auroc_low": low, "auroc_high": high}


def best_threshold(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the threshold with the highest accuracy on these images: those of the validation split.

    Half-way between two neighbouring probabilities; the one nearest to ½ where several are as good.
    """
    p, y = np.asarray(probabilities, float), np.asarray(labels, int)
    values = np.unique(np.concatenate([[0.0, 1.0], p]))
    candidates = (values[:-1] + values[1:]) / 2
    real, fake = np.sort(p[y == REAL]), np.sort(p[y == FAKE])
    right = np.searchsorted(real, candidates) + len(fake) - np.searchsorted(fake, candidates)
    best = candidates[right == right.max()]
    return float(best[np.abs(best - 0.5).argmin()])


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature with the lowest log loss on these images: those of the validation split.

    Guo et al., *On Calibration of Modern Neural Networks*, ICML 2017.
    """

    def loss(log_temperature: float) -> float:
        return log_loss(labels, with_temperature(probabilities, np.exp(log_temperature)), labels=(REAL, FAKE))

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))


def with_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return P(FAKE), float64, after dividing its log odds by a temperature: above 1 less certain, the same order."""
    p = np.asarray(probabilities, float).clip(LOG_LOSS_MARGIN, 1 - LOG_LOSS_MARGIN)
    return expit(logit(p) / temperature)
