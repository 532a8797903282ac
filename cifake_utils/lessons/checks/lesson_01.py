"""Checks of the exercises of lesson 01: the best threshold, saturation, repeated images, chance, blur."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy.stats import norm

from cifake_utils.data import FAKE, REAL, Cifake, ImageSet
from cifake_utils.lessons import effects, exploration
from cifake_utils.lessons.checks import Verdict, function, right, value, wrong


def _images(count: int, side: int, seed: int) -> torch.Tensor:
    """Return random uint8 images (count, 3, side, side)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)


def best_accuracy(answer: Callable | None) -> Verdict:
    """Check exercise 1: a function that returns the accuracy of the best threshold, ``Φ(|d| / 2)``.

    Parameters
    ----------
    answer : callable
        The reader's function, from mean and deviation of REAL and then of FAKE to a share from 0 to 1.
    """

    def effect(real_mean: float, real_deviation: float, fake_mean: float, fake_deviation: float) -> float:
        return (fake_mean - real_mean) / (np.hypot(real_deviation, fake_deviation) / 2**0.5)

    def solution(*moments: float) -> float:
        return float(norm.cdf(abs(effect(*moments)) / 2))

    def with_spread(spread: Callable) -> Callable:
        return lambda m, s, n, t: norm.cdf(abs(n - m) / spread(s, t) / 2)

    mistakes = [
        (effect, "This is d itself. Put half of its size into Φ."),
        (lambda *x: abs(effect(*x)), "This is the size of d. Put half of it into Φ."),
        (lambda *x: norm.cdf(effect(*x) / 2), "For FAKE below REAL it must be more than one half, too: use |d|."),
        (lambda *x: norm.cdf(effect(*x)), "You put d into Φ. Each label is only half of |d| away from the threshold."),
        (
            lambda *x: norm.cdf(abs(effect(*x))),
            "You put the whole |d| into Φ. Each label is only half of it away from the threshold.",
        ),
        (lambda *x: 1 - solution(*x), "That is the share on the wrong side of the threshold."),
        (lambda *x: 100 * solution(*x), "Give a share from 0 to 1, not a percentage."),
        (
            lambda *x: norm.pdf(abs(effect(*x)) / 2),
            "That is the density of the normal distribution. Φ is its distribution function, `cdf`.",
        ),
        (
            with_spread(lambda s, t: (s + t) / 2),
            "d has the root of the mean of both variances, not the mean deviation.",
        ),
        (with_spread(np.hypot), "You added the variances. Take the root of their mean."),
        (with_spread(lambda s, t: (s**2 + t**2) / 2), "You divided by a variance. Take its root."),
        (with_spread(lambda s, t: s), "You took the deviation of REAL alone."),
    ]
    cases = [(100.0, 20.0, 130.0, 40.0), (3.0, 1.0, 1.5, 2.0), (-1.0, 0.5, -0.75, 0.25)]
    verdict = function(answer, cases, solution, mistakes)
    if verdict.right:
        return right("A difference can be far too large for chance, and still of little use for one image.")
    return verdict


def saturation(answer: Callable | None, effect: Any, cifake: Cifake) -> Verdict:
    """Check exercise 2: the mean saturation of each image, and Cohen's d of the validation images with its interval.

    Parameters
    ----------
    answer : callable
        The reader's function, from uint8 (N, 3, H, W) to (N,).
    effect : three of float
        The reader's d, FAKE − REAL, and the ends of its interval.
    cifake : Cifake
    """

    def solution(x: torch.Tensor) -> torch.Tensor:
        return (x.amax(1).float() - x.amin(1).float()).mean((1, 2))

    def of_mean_colour(x: torch.Tensor) -> torch.Tensor:
        colour = x.float().mean((2, 3))
        return colour.amax(1) - colour.amin(1)

    mistakes = [
        (lambda x: solution(x).mean(), "You averaged over all images. Keep one number each."),
        (
            lambda x: x.amax((1, 2, 3)).float() - x.amin((1, 2, 3)).float(),
            "You took the extremes of the whole image. Take them pixel by pixel, over the three colours.",
        ),
        (lambda x: (x.amax(1).float() - x.amin(1).float()).sum((1, 2)), "You added the pixels up. Take their mean."),
        (
            lambda x: x.float().std(1).mean((1, 2)),
            "That is the standard deviation of a pixel's colours, not its range.",
        ),
        (lambda x: x.amax(1).float().mean((1, 2)), "That is the largest value alone. Subtract the smallest."),
        (lambda x: solution(x) / 255, "Values stay between 0 and 255: do not divide by 255."),
        (
            lambda x: (1 - x.amin(1).float() / x.amax(1).clamp(min=1).float()).mean((1, 2)),
            "You divided by the largest value, as other definitions do. Here it is the difference alone.",
        ),
        (of_mean_colour, "You averaged the colours of the image first. Take the range of each pixel, then the mean."),
    ]
    verdict = function(answer, [(_images(5, 6, 0),), (_images(3, 4, 1),)], solution, mistakes)
    if not verdict.right:
        return verdict
    if isinstance(effect, dict):
        return wrong("That is all that `effect_sizes` returns. Give the first number of d, of low and of high.")

    def of(images: ImageSet) -> np.ndarray:
        found = effects.effect_sizes(solution(images.images).numpy()[:, None], images.labels.numpy())
        return np.array([found[key][0] for key in ("d", "low", "high")])

    expected = of(cifake.val)
    mistakes = [
        (expected[0], "That is d alone. Its interval belongs to it: give low and high as well."),
        (expected[:1], "That is d alone. Its interval belongs to it: give low and high as well."),
        (expected[:, None], "These are three lists. Take the first number of each."),
        (-expected, "The sign is turned: d is FAKE − REAL."),
        (-expected[[0, 2, 1]], "The sign is turned: d is FAKE − REAL."),
        (expected[[1, 0, 2]], "The numbers are there, in another order: d comes first."),
        (of(cifake.train), "These are the numbers of the training images. Asked are the validation images."),
    ]
    verdict = value(effect, expected, mistakes, tolerance=0.006)
    return right("Look at the interval before you write down what follows.") if verdict.right else verdict


def repeated(answer: Callable | None) -> Verdict:
    """Check exercise 3: a function that counts the images (N, 3, H, W) that equal an earlier one."""

    def groups(x: torch.Tensor) -> torch.Tensor:
        """Return how often each distinct image occurs."""
        return torch.unique(x.flatten(1), dim=0, return_counts=True)[1]

    mistakes = [
        (lambda x: int(groups(x)[groups(x) > 1].sum()), "You also counted the first copy of each image."),
        (lambda x: len(groups(x)), "That is the number of different images. How many more are there in all?"),
        (
            lambda x: int((groups(x) > 1).sum()),
            "You counted which images have copies. An image that occurs three times has two copies.",
        ),
        (
            lambda x: int((groups(x) * (groups(x) - 1)).sum()) // 2,
            "You counted pairs. An image that occurs three times makes three pairs, and counts only twice.",
        ),
        (
            lambda x: int((x[1:] == x[:-1]).flatten(1).all(1).sum()),
            "You compared neighbours only. The copy may be far away.",
        ),
        (
            lambda x: len(x) - len(torch.unique(x.flatten(1).long().sum(1))),
            "You took different images with equal sums of their pixels for copies. Compare every pixel.",
        ),
    ]
    first, second = _images(8, 3, 2), _images(6, 2, 3)
    mirrored = torch.cat([second, second.flip(3)])  # equal sums, other images
    cases = [(first[[0, 1, 0, 2, 3, 0, 4, 4]],), (mirrored[[0, 6, 1, 7, 2, 1, 3]],), (first,)]
    verdict = function(answer, cases, exploration.repeated, mistakes)
    return right("The same lines find copies in any collection of files.") if verdict.right else verdict


def p_value(answer: Callable | None) -> Verdict:
    """Check exercise 4: a function from one number and a list of numbers to the p-value of a permutation test."""

    def solution(found: float, shuffled: Sequence[float]) -> float:
        return (1 + sum(other >= found for other in shuffled)) / (1 + len(shuffled))

    mistakes = [
        (
            lambda found, shuffled: sum(other >= found for other in shuffled) / len(shuffled),
            "The labels as they are belong to the count as well: add one above and below. Else p could be 0.",
        ),
        (
            lambda found, shuffled: (1 + sum(other <= found for other in shuffled)) / (1 + len(shuffled)),
            "You counted the smaller differences. Count those at least as large.",
        ),
        (
            lambda found, shuffled: (1 + sum(other > found for other in shuffled)) / (1 + len(shuffled)),
            "At least as large includes equal.",
        ),
        (
            lambda found, shuffled: 1 + sum(other >= found for other in shuffled),
            "That is the count. Divide it by the number of orders of the labels.",
        ),
        (
            lambda found, shuffled: (1 + sum(other >= found for other in shuffled)) / len(shuffled),
            "You added one above. The order of the labels as they are is one more below, too.",
        ),
        (
            lambda found, shuffled: (1 + sum(other >= found for other in shuffled)) / 40,
            "You divided by 40. Count the orders: your function may get another number of them.",
        ),
        (
            lambda found, shuffled: (1 + sum(other >= found for other in shuffled)) / 39,
            "You divided by 39. Count the orders, and add the one of the labels as they are.",
        ),
    ]
    cases = [(2.0, [1.0, 3.0, 2.0, 0.5, 2.5]), (1.0, [0.25, 0.5, 0.75]), (0.1, [0.2, 0.3, 0.4, 0.1])]
    verdict = function(answer, cases, solution, mistakes)
    return (
        right("This test needs no formula for the noise, only the patience to shuffle.") if verdict.right else verdict
    )


def called_fake(answer: Any, cifake: Cifake) -> Verdict:
    """Check exercise 5: the shares of REAL and of FAKE blurred validation images that the spectrum's rule calls FAKE.

    Parameters
    ----------
    answer : pair of float
        The reader's shares, REAL first.
    cifake : Cifake
    """
    labels = cifake.val.labels
    fitted = exploration.probe(exploration.radial_power_spectrum(cifake.train.images), cifake.train.labels)

    def shares(images: torch.Tensor) -> np.ndarray:
        features = exploration.radial_power_spectrum(images)
        return np.array(list(exploration.called_fake(fitted, features, labels).values()))

    expected, unchanged = shares(exploration.blurred(cifake.val.images)), shares(cifake.val.images)
    blurred = exploration.radial_power_spectrum(exploration.blurred(cifake.val.images))
    chances = fitted.predict_proba(blurred.numpy())[:, FAKE]
    mistakes = [
        (expected[::-1], "The two numbers are there, in the wrong order: REAL comes first."),
        (unchanged, "These are the shares of the images as they are. Use the spectra of the blurred ones."),
        (1 - expected, "These are the shares that are called REAL."),
        (
            np.array([1 - expected[0], expected[1]]),
            "These are the shares called right. Asked is the share called FAKE.",
        ),
        (100 * expected, "Give shares from 0 to 1, not percentages."),
        (
            expected * [int((labels == label).sum()) for label in (REAL, FAKE)],
            "These are counts. Divide by the images.",
        ),
        (
            expected * [float((labels == label).float().mean()) for label in (REAL, FAKE)],
            "You divided by the number of all images. Divide by those of the label.",
        ),
        (
            [float(chances[labels.numpy() == label].mean()) for label in (REAL, FAKE)],
            "These are mean probabilities. Count the images that are called FAKE.",
        ),
        (expected.mean(), "You mixed the labels. One number for each is asked."),
    ]
    verdict = value(answer, expected, mistakes, tolerance=0.006)
    if verdict.right:
        return right("A rule that hangs on fine detail breaks where an image has lost it.")
    return verdict
