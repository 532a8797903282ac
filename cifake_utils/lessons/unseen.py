"""How detectors do on kinds of generators that they never saw: from probabilities that are kept, without training.

`tools/make_general.py` trained the detectors and wrote what they say about the images in ``assets/zoo`` and about
CIFAKE's test images, on which no network was trained and nothing was chosen. Beside a detector's name stand the kinds
of images that it learned to call FAKE, joined by ``+``. The photographs to tell them from are the same for all.
"""

from collections.abc import Mapping
from functools import cache
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from cifake_utils import CifakeError, evaluation
from cifake_utils.data import FAKE, REAL
from cifake_utils.records import REFERENCE
from cifake_utils.support import verified

FOLDER = REFERENCE / "zoo"
KINDS = ("ddpm", "flow_matching", "gan", "gan_hinge", "normalising_flow", "autoregressive", "vae")
TWINS = ("ddpm", "flow_matching")  # they began from the same random numbers
PHOTOGRAPHS, CIFAKE, RENDERINGS = "photographs", "CIFAKE", "re-renderings"
AGAIN = "photographs, encoded again"  # once more by CIFAKE's encoder, as re-rendered photographs are
ALONE, SUBSETS, WAYS = "alone", "subsets", "ways"  # the files
OTHERS = "the other six kinds"  # the row of the matrix in which every column has a detector of its own

# What a file holds: P(FAKE) by the detector's name and by what it was asked about.
Answers = dict[str, dict[str, np.ndarray]]


@cache
def read(name: str) -> Answers:
    """Return the probabilities in one file, `ALONE`, `SUBSETS` or `WAYS`; see `scores`."""
    answers: Answers = {}
    for key, values in verified.load_arrays(FOLDER / f"{name}.npz").items():
        detector, _, asked = key.partition("/")
        answers.setdefault(detector, {})[asked] = values.astype(np.float64)
    return answers


def about() -> dict:
    """Return how the probabilities were made: recipes, rows of images, what was chosen on what, and seconds."""
    return verified.load_json(FOLDER / "about.json")


def scores() -> dict[str, Answers]:
    """Return all probabilities that are kept.

    Returns
    -------
    dict of str to dict
        For each of `ALONE`, `SUBSETS` and `WAYS`, by the detector's name and by what it was asked about (`KINDS`,
        `PHOTOGRAPHS`, `AGAIN`, or `CIFAKE` for images of Stable Diffusion), P(FAKE), float64 (N,), from 0 to 1. They
        were rounded to half precision, those of `ALONE` to single precision.

    Raises
    ------
    verified.DamagedFile
        A file is damaged.
    """
    return {name: read(name) for name in (ALONE, SUBSETS, WAYS)}


def auroc(labels: np.ndarray, p: np.ndarray) -> float:
    """Return the chance that a FAKE image has a higher P(FAKE) than a REAL one, ties counted half.

    It is the statistic of Mann & Whitney, *On a Test of Whether one of Two Random Variables is Stochastically Larger
    than the Other*, Annals of Mathematical Statistics 1947, divided by the number of pairs.

    Parameters
    ----------
    labels : np.ndarray
        (N,), REAL = 0 and FAKE = 1, both present.
    p : np.ndarray
        (N,).
    """
    fake = labels == FAKE
    count = int(fake.sum())
    ranks = float(rankdata(p)[fake].sum())
    return (ranks - count * (count + 1) / 2) / (count * (len(p) - count))


def _vectors(answers: Mapping[str, np.ndarray], kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and P(FAKE) of photographs and of images of a kind, both (N,)."""
    real, fake = answers[PHOTOGRAPHS], answers[kind]
    return np.repeat([REAL, FAKE], [len(real), len(fake)]), np.concatenate([real, fake])


def _auroc(answers: Mapping[str, np.ndarray], kind: str) -> float:
    return auroc(*_vectors(answers, kind))


def alone() -> pd.DataFrame:
    """Return how detectors do that learned from CIFAKE alone.

    Returns
    -------
    pd.DataFrame
        A row for each detector and kind (`CIFAKE` is Stable Diffusion, and `AGAIN` the control): ``detector``,
        ``kind``, ``auroc`` with its 95 % bootstrap interval ``low`` to ``high`` (`evaluation.bootstrap_interval`), and
        the medians of P(FAKE) for the kind and for photographs, ``median`` and ``median_photographs``, from 0 to 1.
    """
    return _alone().copy()


@cache
def _alone() -> pd.DataFrame:
    rows = []
    for detector, answers in read(ALONE).items():
        for kind in answers:
            if kind == PHOTOGRAPHS:
                continue
            labels, p = _vectors(answers, kind)
            low, high = evaluation.bootstrap_interval(auroc, p, labels)
            medians = float(np.median(answers[kind])), float(np.median(answers[PHOTOGRAPHS]))
            rows.append((detector, kind, auroc(labels, p), low, high, *medians))
    return pd.DataFrame(rows, columns=["detector", "kind", "auroc", "low", "high", "median", "median_photographs"])


def _subset(kinds: tuple[str, ...]) -> str:
    return "+".join(kinds)


def matrix() -> pd.DataFrame:
    """Return AUROC by what a detector was trained on (rows) and tested on (columns), from 0 to 1.

    Rows: each of `KINDS`, `OTHERS`, `RENDERINGS` and `CIFAKE`. Columns: `KINDS` and `CIFAKE`. On its own kind, a
    detector was trained with one half of the images and is tested with the other. On the DDPM, the detector of
    `RENDERINGS` is one that learned from no photographs which the DDPM made again.
    """
    subsets = read(SUBSETS)
    columns = (*KINDS, CIFAKE)
    rows = {kind: {column: _auroc(subsets[kind], column) for column in columns if column != kind} for kind in KINDS}
    for kind in KINDS:
        rows[kind][kind] = _auroc(subsets[f"half of {kind}"], kind)
    others = {kind: subsets[_subset(tuple(other for other in KINDS if other != kind))] for kind in KINDS}
    rows[OTHERS] = {kind: _auroc(answers, kind) for kind, answers in others.items()}
    rows[OTHERS][CIFAKE] = float(np.mean([_auroc(answers, CIFAKE) for answers in others.values()]))
    for name in (RENDERINGS, CIFAKE):
        rows[name] = {column: _auroc(subsets[name], column) for column in columns}
    rows[RENDERINGS]["ddpm"] = _auroc(subsets[f"{RENDERINGS} of other networks"], "ddpm")
    return pd.DataFrame.from_dict(rows, orient="index")[list(columns)]  # pyright: ignore[reportReturnType]


def curve() -> pd.DataFrame:
    """Return AUROC on a kind never trained on, against the number of kinds trained on.

    Returns
    -------
    pd.DataFrame
        A row for each ``number`` of kinds, 1 to 6. The draws are all pairs of so many kinds and another one: ``draws``,
        how many; ``auroc``, their mean; ``low`` and ``high``, between which 95 % of them lie; ``lowest``, the least.
    """
    subsets, rows = read(SUBSETS), []
    for number in range(1, len(KINDS)):
        found = [
            _auroc(subsets[_subset(trained)], kind)
            for trained in combinations(KINDS, number)
            for kind in KINDS
            if kind not in trained
        ]
        low, high = np.quantile(found, [0.025, 0.975])
        rows.append((number, float(np.mean(found)), float(low), float(high), min(found), len(found)))
    return pd.DataFrame(rows, columns=["number", "auroc", "low", "high", "lowest", "draws"])


def twins() -> pd.DataFrame:
    """Return what it costs to leave out the twin of a kind too. `TWINS` drew nearly the same pictures.

    Returns
    -------
    pd.DataFrame
        A row for each of `TWINS` and a ``number`` of kinds trained on, 1 or 5: ``kind``; ``with_twin`` and
        ``without_twin``, the mean AUROC on the kind over all draws of so many other kinds that hold its twin, or do
        not.
    """
    subsets, rows = read(SUBSETS), []
    for kind, twin in (TWINS, TWINS[::-1]):
        others = [other for other in KINDS if other != kind]
        for number in (1, len(others) - 1):
            found: dict[bool, list[float]] = {True: [], False: []}
            for trained in combinations(others, number):
                found[twin in trained].append(_auroc(subsets[_subset(trained)], kind))
            rows.append((kind, number, float(np.mean(found[True])), float(np.mean(found[False]))))
    return pd.DataFrame(rows, columns=["kind", "number", "with_twin", "without_twin"])


def _mean_interval(answers: Mapping[str, Mapping[str, np.ndarray]]) -> tuple[float, float, float]:
    """Return the mean AUROC over kinds and its 95 % interval, from the answers of each kind's detector.

    The interval is that of DeLong and others (see `evaluation.against`), of a mean whose terms share their photographs.
    """
    above, spread, values = [], 0.0, []
    for kind, found in answers.items():
        real, fake = found[PHOTOGRAPHS], found[kind]
        ranks = rankdata(np.concatenate([real, fake]))
        below = (ranks[len(real) :] - rankdata(fake)) / len(real)
        above.append(1 - (ranks[: len(real)] - rankdata(real)) / len(fake))
        spread += below.var(ddof=1) / len(fake)
        values.append(below.mean())
    shared = np.mean(above, axis=0)
    half = 1.96 * np.sqrt(shared.var(ddof=1) / len(shared) + spread / len(answers) ** 2)
    mean = float(np.mean(values))
    return mean, mean - float(half), mean + float(half)


def ways() -> pd.DataFrame:
    """Return how ways to train compare on kinds that they never saw.

    For each kind, a detector was trained without it (except where no kind is trained on, and one detector serves all).

    Returns
    -------
    pd.DataFrame
        A row for each ``way``: the mean AUROC over `KINDS`, ``mean``, with its 95 % interval ``low`` to ``high`` over
        images; ``lowest`` and ``lowest_kind``; ``cifake``, the mean AUROC on CIFAKE's own images, and
        ``cifake_accuracy``, the mean share of them that is labelled correctly at the threshold ½; ``again``, the mean
        AUROC of photographs encoded again, a control that is ½ for a detector that does not see the second encoding;
        and AUROC on each of `KINDS`.
    """
    rows = []
    for way in about()["ways"]:
        answers = {kind: read(WAYS)[f"{way} without {kind}"] for kind in KINDS}
        each = {kind: _auroc(found, kind) for kind, found in answers.items()}
        mean, low, high = _mean_interval(answers)
        own = [_vectors(found, CIFAKE) for found in answers.values()]
        lowest = min(each, key=each.__getitem__)
        row = {"way": way, "mean": mean, "low": low, "high": high, "lowest": each[lowest], "lowest_kind": lowest}
        row["cifake"] = float(np.mean([auroc(labels, p) for labels, p in own]))
        row["cifake_accuracy"] = float(np.mean([((p > 0.5) == labels).mean() for labels, p in own]))
        row["again"] = float(np.mean([_auroc(found, AGAIN) for found in answers.values()]))
        rows.append(row | each)
    return pd.DataFrame(rows)


def spread(way: str, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Return P(FAKE) of photographs (N,) and of a kind's images (M,), from a way's detector that never saw the kind.

    Raises `CifakeError` for an unknown way or kind.
    """
    name = f"{way} without {kind}"
    if name not in read(WAYS):
        raise CifakeError(
            f"Found the way {way!r} and the kind {kind!r}. Expected a way from: {', '.join(about()['ways'])}; and a "
            f"kind from: {', '.join(KINDS)}."
        )
    answers = read(WAYS)[name]
    return answers[PHOTOGRAPHS], answers[kind]
