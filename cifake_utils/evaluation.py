"""Measure how good a detector is, from P(FAKE) and labels alone. FAKE is the positive class."""

import warnings
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
LOG_TEMPERATURES = (-3, 3)  # the search range


def _probabilities(values: np.ndarray) -> np.ndarray:
    """Return probabilities as float64; raise a `ValueError` where they are not probabilities."""
    p = np.asarray(values, np.float64)
    if not p.size or not ((p >= 0) & (p <= 1)).all():
        raise ValueError(
            "probabilities must lie between 0 and 1, and there must be at least one; found an empty array, a NaN or a "
            "number outside that range"
        )
    return p


def _vectors(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return P(FAKE) as float64 (N,) and labels as int64 (N,); raise the `ValueError` of `score`."""
    p, y = np.asarray(probabilities, np.float64), np.asarray(labels)
    if p.ndim != 1 or p.shape != y.shape:
        raise ValueError(f"probabilities {p.shape} and labels {y.shape} must be two vectors of one length")
    p = _probabilities(p)
    if set(np.unique(y)) != {REAL, FAKE}:
        raise ValueError(f"labels must be 0 (REAL) and 1 (FAKE), both present; found {np.unique(y)}")
    return p, y.astype(np.int64)


def _called_fake(p: np.ndarray, threshold: float) -> np.ndarray:
    """Return which images are called FAKE, bool (N,)."""
    if np.isnan(threshold):
        raise ValueError("the threshold is NaN; expected a number, usually from 0 to 1")
    return p > threshold


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
        The shapes differ; the arrays are empty; a probability is NaN or lies outside 0 to 1; a label is neither 0 nor
        1; only one label is present; the threshold is NaN.
    """
    p, y = _vectors(probabilities, labels)
    decided = _called_fake(p, threshold).astype(int)
    false_alarms, hits, _ = roc_curve(y, p, drop_intermediate=False)  # the rates may be equal at any threshold
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
    """Return the 95 % Wilson interval of an accuracy (0 to 1) that was measured on ``count`` images.

    Wilson, *Probable inference, the law of succession, and statistical inference*, JASA 1927. Raises `ValueError` for
    an accuracy outside 0 to 1 and for fewer than one image.
    """
    if not (0 <= accuracy <= 1 and count >= 1):
        raise ValueError(f"the accuracy is {accuracy} on {count} images; expected 0 to 1 on at least one image")
    interval = binomtest(round(accuracy * count), count).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def bootstrap_interval(
    metric: Callable[[np.ndarray, np.ndarray], float], probabilities: np.ndarray, labels: np.ndarray, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of ``metric(labels, probabilities)``.

    It comes from 1,000 resamples of images. A resample that holds only one label has no AUROC and is drawn again.
    Raises `ValueError` as `score` does.
    """
    p, y = _vectors(probabilities, labels)
    generator = np.random.default_rng((seed, 1))

    def of_both_labels(resampled_y: np.ndarray, resampled_p: np.ndarray) -> float:
        while resampled_y.min() == resampled_y.max():
            rows = generator.integers(0, len(y), len(y))
            resampled_y, resampled_p = y[rows], p[rows]
        return metric(resampled_y, resampled_p)

    result = bootstrap(
        (y, p),
        of_both_labels,
        paired=True,
        vectorized=False,
        n_resamples=1000,
        batch=100,  # resamples in memory at a time
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
        more correlated receiver operating characteristic curves*, Biometrics 1988. The interval has no width where the
        two sets are separated perfectly. It is 0 to 1 where one of them has a single image.

    Raises
    ------
    ValueError
        A set is empty or has more than one dimension; a probability is NaN or lies outside 0 to 1; the threshold is
        NaN.
    """
    real, fake = _probabilities(real), _probabilities(fake)
    if real.ndim != 1 or fake.ndim != 1:
        raise ValueError(f"expected two vectors of probabilities; got shapes {real.shape} and {fake.shape}")
    result: dict[str, float] = {"real_images": len(real), "fake_images": len(fake)}
    for name, values in (("detected", fake), ("false_alarms", real)):
        result[name] = float(_called_fake(values, threshold).mean())
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
    """Return the threshold with the highest accuracy on these images, which should be those of the validation split.

    It lies half-way between two neighbouring probabilities. Of several equally good thresholds the one nearest to ½ is
    returned. Raises `ValueError` as `score` does.
    """
    p, y = _vectors(probabilities, labels)
    values = np.unique(np.concatenate([[0.0, 1.0], p]))
    candidates = (values[:-1] + values[1:]) / 2
    real, fake = np.sort(p[y == REAL]), np.sort(p[y == FAKE])
    right = np.searchsorted(real, candidates) + len(fake) - np.searchsorted(fake, candidates)
    best = candidates[right == right.max()]
    return float(best[np.abs(best - 0.5).argmin()])


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature with the lowest log loss on these images, which should be those of the validation split.

    The search goes from 0.05 to 20. There is a warning if the lowest loss lies at an end of that range. This happens,
    for example, where every image is classified correctly, since more certainty then always lowers the loss. Raises
    `ValueError` as `score` does.

    Guo et al., *On Calibration of Modern Neural Networks*, ICML 2017.
    """
    found = _best_temperature(probabilities, labels)
    if _at_an_end(found):
        warnings.warn(
            f"The best temperature found is {found:.3g}, at the end of the searched range (0.05 to 20). The "
            "best one may lie outside. This happens where every image is classified correctly.",
            stacklevel=2,
        )
    return found


def _best_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    p, y = _vectors(probabilities, labels)

    def loss(log_temperature: float) -> float:
        return log_loss(y, with_temperature(p, np.exp(log_temperature)), labels=(REAL, FAKE))

    found = minimize_scalar(loss, bounds=LOG_TEMPERATURES, method="bounded").x  # pyright: ignore[reportAttributeAccessIssue]
    return float(np.exp(found))


def usable_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return `fit_temperature`, or 1 where it lies at an end of its range.

    There these images don't tell how certain the detector should be, for example because none is labelled wrongly.
    """
    found = _best_temperature(probabilities, labels)
    return 1.0 if _at_an_end(found) else found


def _at_an_end(temperature: float) -> bool:
    return bool(np.abs(np.log(temperature) - LOG_TEMPERATURES).min() < 1e-3)


def with_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return P(FAKE), float64, after dividing its log odds by a temperature.

    A temperature above 1 makes a detector less certain. The order of the images stays the same. Raises `ValueError` for
    probabilities that are NaN or outside 0 to 1, and for a temperature that is infinite or not above 0.
    """
    if not 0 < temperature < np.inf:
        raise ValueError(f"the temperature is {temperature}; expected a finite number above 0")
    p = _probabilities(probabilities).clip(LOG_LOSS_MARGIN, 1 - LOG_LOSS_MARGIN)
    return expit(logit(p) / temperature)
