"""Checks of the exercises of lesson 01: colours, repeated images, chance, blur."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy.stats import norm

from cifake_utils.data import FAKE, LABELS, REAL, Cifake, ImageSet
from cifake_utils.lessons import effects, exploration
from cifake_utils.lessons.checks import Verdict, function, right, value

BLUE = 2


def _images(count: int, side: int, seed: int) -> torch.Tensor:
    """Return random uint8 images (count, 3, side, side)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)


def best_accuracy(answer: Any, reference: dict) -> Verdict:
    """Check exercise 1: the accuracy of the best threshold on CIFAKE's mean blue, Φ(|d| / 2).

    Parameters
    ----------
    answer : float
        The reader's, 0 to 1.
    reference : dict
        The numbers of `exploration.facts`.
    """
    real, fake = (reference["colour"][label] for label in LABELS)
    gap = fake["mean"][BLUE] - real["mean"][BLUE]
    spread = np.hypot(real["deviation"][BLUE], fake["deviation"][BLUE]) / 2**0.5
    d = gap / spread
    accuracy = norm.cdf(abs(d) / 2)
    mistakes = [
        (d, "This is d itself. Put half of its size into Φ."),
        (abs(d), "This is the size of d. Put half of it into Φ."),
        (norm.cdf(d / 2), "An accuracy below one half: take the size of d, without its sign."),
        (norm.cdf(abs(d)), "You put the whole d into Φ. Each label is only half of it away from the threshold."),
        (100 * accuracy, "The size is right. Give a share from 0 to 1, not a percentage."),
        (
            norm.pdf(abs(d) / 2),
            "That is the density of the normal distribution. Φ is its distribution function, `cdf`.",
        ),
    ]
    verdict = value(answer, accuracy, mistakes, tolerance=2e-3)
    if verdict.right:
        return right("A difference can be far too large for chance, and still of little use for one image.")
    return verdict


def saturation(answer: Callable | None, d: Any, images: ImageSet) -> Verdict:
    """Check exercise 2: the mean saturation of each image, and Cohen's d of it.

    Parameters
    ----------
    answer : callable
        The reader's function, from uint8 (N, 3, H, W) to (N,).
    d : float
        The reader's effect size, FAKE − REAL.
    images : ImageSet
        The images that it was measured on.
    """

    def solution(x: torch.Tensor) -> torch.Tensor:
        return (x.amax(1).float() - x.amin(1).float()).mean((1, 2))

    mistakes = [
        (
            lambda x: (x.amax(1).float() - x.amin(1).float()).mean(),
            "You averaged over all images. Keep one number each.",
        ),
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
    ]
    verdict = function(answer, [(_images(5, 6, 0),), (_images(3, 4, 1),)], solution, mistakes)
    if not verdict.right:
        return verdict
    values, labels = solution(images.images), images.labels.numpy()
    expected = effects.effect_sizes(values.numpy()[:, None], labels)["d"][0]
    gap = float(values[images.labels == FAKE].mean() - values[images.labels == REAL].mean())
    verdict = value(d, expected, [(-expected, "The sign is turned: d is FAKE − REAL."), (gap, "Divide by the spread.")])
    return (
        right("A function that was checked on images of your own is worth more than a number.")
        if verdict.right
        else verdict
    )


def repeated(answer: Callable | None) -> Verdict:
    """Check exercise 3: a function that counts the images (N, 3, H, W) that equal an earlier one."""

    def solution(x: torch.Tensor) -> int:
        return len(x) - len({pixels.numpy().tobytes() for pixels in x})

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
    verdict = function(answer, cases, solution, mistakes)
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
        (expected.mean(), "You mixed the labels. One number for each is asked."),
    ]
    verdict = value(answer, expected, mistakes, tolerance=0.006)
    if verdict.right:
        return right("A rule that hangs on fine detail breaks when somebody saves the image smaller.")
    return verdict
