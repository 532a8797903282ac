"""Checks of the exercises of lesson 08."""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
from scipy.special import expit, logit

from cifake_utils import records
from cifake_utils.evaluation import LOG_LOSS_MARGIN
from cifake_utils.lessons import checks
from cifake_utils.lessons.checks import Verdict

ALL_LEARN = ("resnet50_rotation", "resnet50_finetuned", "resnet50_scratch")  # models whose layers all learned
MODELS = (
    "resnet50_scratch",
    "resnet50_transfer",
    "resnet50_fractal",
    "resnet50_fractal_loss",
    "resnet50_rotation",
    "resnet50_rotation_fractal_loss",
    "resnet50_finetuned",
)


def highest_f1(found: float | None) -> Verdict:
    """Check the highest F1 (FAKE) at an accuracy of 0.95 on 1,000 FAKE and 9,000 REAL images."""
    mistakes = [
        (10_000 / 10_500, "This is the bound for a balanced test set. Here only a tenth of the images is FAKE."),
        (18_000 / 18_500, "This is the bound of F1 (REAL). Which label does TP count?"),
        (2_000 / 2_050, "There are 500 errors among 10,000 images, and not 50: REAL images can be wrong too."),
        (1_000 / 1_500, "F1 counts TP twice, above and below the line."),
        (0.95, "This is the accuracy. On rare FAKE images F1 is another number."),
    ]
    verdict = checks.value(found, 0.8, mistakes)
    if verdict.right:
        return checks.right("The rarer the FAKE images are, the lower the F1 that goes with the same accuracy.")
    return verdict


def eight_images(found: float | None) -> Verdict:
    """Check the exact p-value of McNemar's test for b = 7 and c = 1."""
    expected = 18 / 256
    mistakes = [
        (9 / 256, "This is one tail. A coin can fall unevenly to both sides."),
        (16 / 256, "You counted exactly one of eight. The sum begins at zero of eight."),
        (2 / 256, "You counted zero of eight only. The sum goes on to one of eight."),
        (1 / 8, "This is the share of images that B wins. How probable is such a share if both are equally good?"),
        (7 / 8, "This is the share of images that A wins. How probable is such a share if both are equally good?"),
    ]
    if isinstance(found, int | float | np.number) and not 0 <= found <= 1:
        return checks.wrong("A probability lies between 0 and 1.")
    verdict = checks.value(found, expected, mistakes)
    if verdict.right:
        return checks.right("Seven to one looks clear, and yet a fair coin does it in seven of a hundred cases.")
    return verdict


def _threshold(c: float, share: float) -> float:
    return 1 / (1 + c * share / (1 - share))


def threshold(answer: Callable | None, newspaper: float | None) -> Verdict:
    """Check a function of the cost of a miss and the share of FAKE that returns the threshold with the lowest cost.

    P(FAKE) is calibrated on images half of which are FAKE. ``newspaper`` is the threshold for 10 and 0.01.
    """
    cases = [(10.0, 0.5), (10.0, 0.01), (1.0, 0.2), (3.0, 0.8), (0.5, 0.3)]
    mistakes: list[tuple[Callable, str]] = [
        (lambda c, share: 1 / (1 + c), "Your threshold does not depend on the share of FAKE images."),
        (lambda c, share: 1 / (1 + c * share), "You multiplied by the share. Odds are the share over one minus it."),
        (
            lambda c, share: 1 / (1 + c * (1 - share) / share),
            "Where FAKE images are rare, your threshold falls. Should you become more suspicious there, or less?",
        ),
        (lambda c, share: (1 - share) / (c * share), "These are odds o. A probability is o / (1 + o)."),
        (lambda c, share: 1 - _threshold(c, share), "This is one minus the threshold. Which mistake costs c?"),
        (lambda c, share: 1 / (1 + share / (1 - share)), "Your threshold does not depend on the cost."),
    ]
    verdict = checks.function(answer, cases, _threshold, mistakes)
    if not verdict.right:
        return verdict
    if newspaper is None:
        return Verdict(None, "The function is right. Now use it for the newspaper.")
    wrong = [
        (_threshold(10, 0.5), "The function is right, but this is its value where half of the images are FAKE."),
        (_threshold(1, 0.01), "The function is right, but this is its value where a miss costs no more than an alarm."),
        (_threshold(10, 0.99), "The function is right, but here one image in a hundred is FAKE, and not REAL."),
        (_threshold(10, 0.1), "The function is right, but one in a hundred is a share of 0.01."),
    ]
    verdict = checks.value(newspaper, _threshold(10, 0.01), wrong)
    if verdict.right:
        return checks.right(
            "Although a miss costs ten times as much, the threshold is far above ½: FAKE images are rare."
        )
    return verdict


def _averaged(probabilities: Sequence[np.ndarray]) -> np.ndarray:
    clipped = np.asarray(probabilities, float).clip(LOG_LOSS_MARGIN, 1 - LOG_LOSS_MARGIN)
    return expit(logit(clipped).mean(0))


@cache
def _accuracies() -> dict[str, float]:
    """Return accuracies that readers may confuse with that of the nine averaged networks on test images."""
    runs = [run for name in ALL_LEARN for run in records.references(name)]
    test, val = ([run.probabilities[split].astype(float) for run in runs] for split in ("test", "val"))
    labels = runs[0].labels

    def accuracy(p: np.ndarray, split: str) -> float:
        return float(((p > 0.5) == (labels[split] == 1)).mean())

    one_each = [records.reference(name).probabilities["test"].astype(float) for name in ALL_LEARN]
    return {
        "test": accuracy(_averaged(test), "test"),
        "validation": accuracy(_averaged(val), "val"),
        "one each": accuracy(_averaged(one_each), "test"),
        "best": max(accuracy(p, "test") for p in test),
    }


def averaged(answer: Callable | None, accuracy: float | None) -> Verdict:
    """Check a function that averages the log odds of several P(FAKE) (K, N), and the accuracy of nine networks.

    The function returns P(FAKE) (N,). Probabilities are clipped by `evaluation.LOG_LOSS_MARGIN` before.
    """
    rng = np.random.default_rng(0)
    cases = [
        (rng.random((3, 40)),),
        (rng.beta(0.3, 0.3, (5, 40)),),
        (np.array([[1.0, 0.0, 1.0], [0.4, 0.6, 0.0]]),),
        (rng.random((2, 40)).astype(np.float16),),
    ]
    mistakes: list[tuple[Callable, str]] = [
        (lambda p: np.mean(p, 0), "This is the mean of the probabilities. Average their log odds."),
        (
            lambda p: logit(np.clip(p, LOG_LOSS_MARGIN, 1 - LOG_LOSS_MARGIN)).mean(0),
            "These are log odds. Turn them back.",
        ),
        (
            lambda p: expit(logit(np.clip(np.asarray(p, float), LOG_LOSS_MARGIN, 1 - LOG_LOSS_MARGIN)).sum(0)),
            "You added the log odds. A mean is divided by the number of models.",
        ),
        (
            lambda p: np.exp(np.log(np.clip(p, LOG_LOSS_MARGIN, 1 - LOG_LOSS_MARGIN)).mean(0)),
            "You averaged the logarithms of P(FAKE). Log odds also hold 1 − P(FAKE).",
        ),
        (lambda p: np.median(p, 0), "This is the median of the probabilities. Average their log odds."),
        (lambda p: expit(logit(np.asarray(p, float)).mean(0)), "Clip the probabilities first, as the exercise says."),
    ]
    with np.errstate(all="ignore"):
        verdict = checks.function(answer, cases, _averaged, mistakes)
    if not verdict.right:
        return verdict
    if accuracy is None:
        return Verdict(None, "The function is right. Now write into `accuracy` what the nine networks reach together.")
    found = _accuracies()
    wrong = [
        (found["validation"], "The function is right, but this is the accuracy on validation images."),
        (found["one each"], "The function is right, but there are nine records: each model has three seeds."),
        (found["best"], "The function is right, but this is the accuracy of a single model."),
        (1 - found["test"], "The function is right, but this is the share of errors."),
        (100 * found["test"], "Write the accuracy as a number from 0 to 1."),
    ]
    verdict = checks.value(accuracy, found["test"], wrong, tolerance=2e-5)
    if verdict.right:
        return checks.right("Together they are better than each of them. The solution tests by how much.")
    return verdict


@cache
def _gains(split: str = "val") -> tuple[dict[frozenset, float], dict[frozenset, float], float]:
    """Return, for every pair of `MODELS` with records, the gain and the accuracy of their average on a split.

    The third is the highest accuracy of a single model. All from first seeds.
    """
    runs = {name: found[0] for name in MODELS if (found := records.references(name))}
    labels = next(iter(runs.values())).labels[split] == 1
    p = {name: run.probabilities[split] for name, run in runs.items()}
    alone = {name: float(((p[name] > 0.5) == labels).mean()) for name in runs}
    pairs = [frozenset(pair) for pair in combinations(runs, 2)]
    both = {pair: float(((_averaged([p[name] for name in pair]) > 0.5) == labels).mean()) for pair in pairs}
    gains = {pair: both[pair] - max(alone[name] for name in pair) for pair in pairs}
    return gains, both, max(alone.values())


def pairs(pair: Any, gain: float | None, beats_the_best: bool | None) -> Verdict:
    """Check which two models gain most by averaging their log odds, how much, and whether they beat the best one.

    Parameters
    ----------
    pair : two of `MODELS`
    gain : float
        Accuracy of the average minus that of the better of the two, on validation images.
    beats_the_best : bool
        Whether the average is more accurate than the best single model, on validation images.
    """
    if pair is None or gain is None or beats_the_best is None:
        return checks.missing()
    gains, both, best = _gains()
    if isinstance(pair, str) or not isinstance(pair, Sequence | set | frozenset) or len({*pair}) != 2:
        return checks.wrong("Expected the names of two models, such as ('resnet50_scratch', 'resnet50_transfer').")
    chosen = frozenset(name if str(name).startswith("resnet50_") else f"resnet50_{name}" for name in pair)
    if chosen not in gains:
        return checks.wrong(f"Expected two of: {', '.join(MODELS)}.")
    right = max(gains, key=lambda known: gains[known])
    if chosen != right:
        if chosen == max(both, key=lambda known: both[known]):
            return checks.wrong("This pair is the most accurate one. Which pair gains most over the better of its two?")
        on_test = _gains("test")[0]
        if chosen == max(on_test, key=lambda known: on_test[known]):
            return checks.wrong("This pair gains most on test images. Choices are made on validation images.")
        return checks.wrong("Another pair gains more. Is the better of the two subtracted, on the same images?")
    mistakes = [
        (both[right], "The pair is right, but this is its accuracy. Subtract that of the better of the two."),
        (both[right] - best, "The pair is right, but you subtracted the best of all models."),
        (-gains[right], "The pair is right, but the sign is turned round."),
        (100 * gains[right], "The pair is right. Write the gain as a difference of numbers from 0 to 1."),
    ]
    verdict = checks.value(gain, gains[right], mistakes, tolerance=5e-5)
    if not verdict.right:
        return verdict
    beats = bool(both[right] > best)
    hint = "The pair and its gain are right. Compare its accuracy with that of the best single model."
    verdict = checks.value(beats_the_best, beats, [(not beats, hint)])
    if not verdict.right:
        return verdict
    return checks.right("The pair that gains most need not be the pair that you should use.")
