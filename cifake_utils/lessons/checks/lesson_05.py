"""Checks of the exercises of lesson 05."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from scipy.stats import binomtest

from cifake_utils.lessons import checks
from cifake_utils.lessons.checks import Verdict


def dimension_of_counts(dimension: float | None) -> Verdict:
    """Check the dimension of a map of 8×8 pixels with 40 pixels, 12 boxes of 2×2 and 3 boxes of 4×4 pixels."""
    expected = math.log2(40 / 3) / 2
    mistakes = [
        (math.log(40 / 3) / 2, "You took natural logarithms. The factor ½ belongs to logarithms to the base 2."),
        (math.log2(40 / 3), "This is the whole rise. It goes over two halvings of the box size."),
        (math.log2(40) / 2, "This is the term of the pixels alone. The boxes of 4×4 pixels are missing."),
        (-expected, "The sign is wrong: smaller boxes are more, so the line rises with 1/ε."),
        (math.log2(40 / 12), "This is the slope of the first two points alone."),
        (math.log2(12 / 3), "This is the slope of the last two points alone."),
    ]
    verdict = checks.value(dimension, expected, mistakes, tolerance=5e-3)
    return checks.right("The 12 boxes in the middle have no influence.") if verdict.right else verdict


def dimensions_of_larger_images(count: float | None) -> Verdict:
    """Check how many dimensions the maps of ResNet50 have at 64×64 pixels, if every map that is wide enough is used."""
    mistakes = [
        (64 + 256, "These are the channels of the stages that suffice at 32 pixels. All maps are twice as wide now."),
        (64 + 256 + 512 + 1024, "One stage too many: its map has fewer than three box sizes."),
        (512, "This is the stage that comes in addition. The two before it still count."),
        (3, "This is the number of stages. Each of their channels has a dimension."),
        (2048 + 64 + 256 + 512, "These are all features of the head. The pooled ones are means, not dimensions."),
    ]
    verdict = checks.value(count, 64 + 256 + 512, mistakes, tolerance=1e-6)
    return checks.right("So larger images let the layer sit one stage deeper.") if verdict.right else verdict


def _divisor(features: torch.Tensor) -> torch.Tensor:
    sigma = features.std(0)
    return torch.where(sigma > 1e-9, sigma, 1)


def _scaled(train: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return (other - train.mean(0)) / _divisor(train)


def _varying(answer: Callable) -> Callable:
    return lambda train, other: answer(train, other)[:, [0, 2]]


def standardised(answer: Callable | None) -> Verdict:
    """Check a function of training features (N, F) and others (M, F) that standardises the others.

    A feature that never varies in the training images is divided by 1.
    """
    generator = torch.Generator().manual_seed(0)
    cases = []
    for columns in (3, 5):
        units = torch.tensor([3.0, 1.0, 0.1, 2.0, 0.5])[:columns]
        train = units * torch.randn(4_000, columns, generator=generator) + 2  # so many that N and N − 1 are the same
        other = torch.randn(6, columns, generator=generator) + 1
        train[:, 1], other[:, 1] = 0.5, torch.arange(6) / 4  # varies in the others only
        cases.append((train, other))
    mistakes = [
        (lambda train, other: _scaled(other, other), "You took mean and deviation of the others. Use the training's."),
        (lambda train, other: _scaled(train, train), "You standardised the training features. Return the others."),
        (
            lambda train, other: _scaled(torch.cat([train, other]), other),
            "You took mean and deviation of both together. The others must not have a say.",
        ),
        (
            lambda train, other: (other - train.mean(0)) / _divisor(other),
            "The mean is right, and the deviation is that of the others. Use the training's.",
        ),
        (
            lambda train, other: (other - other.mean(0)) / _divisor(train),
            "The deviation is right, and the mean is that of the others. Use the training's.",
        ),
        (lambda train, other: other - train.mean(0), "The mean is gone, and the unit is still there."),
        (
            lambda train, other: (other - train.mean(0)) / train.var(0).where(train.var(0) > 0, torch.tensor(1.0)),
            "You divided by the variance. The standard deviation is its root.",
        ),
        (lambda train, other: _scaled(train, other) + train.mean(0), "The mean is still there. Subtract it first."),
        (
            lambda train, other: (other - train.mean()) / train.std(),
            "You took one mean and one deviation for all features. Each has its own.",
        ),
    ]
    verdict = checks.function(answer, cases, _scaled, mistakes)
    if verdict.right:
        return checks.right("Whatever the units of the features are, the head sees the same numbers.")
    if answer is None or verdict.right is not False:
        return verdict
    if checks.function(_varying(answer), cases, _varying(_scaled)).right:
        return checks.wrong("The features that vary are right. One that never varies in training is divided by 1.")
    return verdict


def scrambled(answer: Callable | None) -> Verdict:
    """Check a function of maps (N, C, H, W) and a seed that moves the pixels of each image to random places.

    All channels of an image get the same order, every image gets one of its own, and a seed gives the same result
    again.
    """
    if not callable(answer):
        return checks.function(answer, [], _scaled)
    one = torch.randperm(64, generator=torch.Generator().manual_seed(1)).float().reshape(1, 1, 8, 8)
    maps = torch.cat([one, one + 100], 1).repeat(6, 1, 1, 1)  # six equal images, whose channels differ by 100
    maps = maps + 1000 * torch.arange(6)[:, None, None, None]
    try:
        first, again, other = answer(maps.clone(), 0), answer(maps.clone(), 0), answer(maps.clone(), 1)
    except Exception as error:  # whatever the reader's code raises belongs to the verdict
        return checks.wrong(f"Your function stopped with {type(error).__name__}: {error}")
    if first is None:
        return checks.missing()
    if not isinstance(first, torch.Tensor):
        return checks.wrong(f"Your function returns a value of type {type(first).__name__}. Expected a tensor.")
    if first.shape != maps.shape:
        return checks.wrong(f"The result has the shape {tuple(first.shape)}. Expected {tuple(maps.shape)}.")
    if torch.equal(first, maps):
        return checks.wrong("Every pixel is still at its place.")
    values, before = first.flatten(2), maps.flatten(2)
    if not torch.equal(values.sort(-1).values, before.sort(-1).values):
        if torch.equal(values.flatten().sort().values, before.flatten().sort().values):
            return checks.wrong("Pixels have moved to another image or channel. They must stay in their own map.")
        return checks.wrong("The values have changed. Only their places may.")
    if not torch.equal(first[:, 1], first[:, 0] + 100):
        return checks.wrong("The channels of an image were put into different orders. Use one order for all of them.")
    if torch.equal(values[0], values[1] - 1000):
        return checks.wrong("All images got the same order. Then a linear head could still learn places.")
    for axis, name in ((2, "columns"), (3, "rows")):
        if torch.equal(first.sort(axis).values, maps.sort(axis).values):
            return checks.wrong(f"The pixels stayed in their {name}. They may go anywhere in their map.")
    places = one.flatten().argsort()[(values[:, 0] % 100).long()].reshape(6, 8, 8)  # where each pixel was before
    row, column = places // 8, places % 8
    steps = [row.diff(dim=axis).abs() + column.diff(dim=axis).abs() for axis in (1, 2)]
    if max((step == 1).float().mean() for step in steps) > 0.3:  # 0.06 in a random order
        return checks.wrong("Most neighbours are still neighbours. Each pixel must move by itself.")
    if max((line.diff(dim=axis) == 0).float().mean() for line in (row, column) for axis in (1, 2)) > 0.5:
        return checks.wrong("Pixels that shared a row or a column still share one. Each pixel must move by itself.")
    target = torch.arange(64).reshape(8, 8)
    stayed = (row // 4 == target // 8 // 4) & (column // 4 == target % 8 // 4)
    if stayed.float().mean() > 0.4:  # 0.25 in a random order
        return checks.wrong("Many pixels stayed in their quarter of the map. They may go anywhere in it.")
    if not torch.equal(first, again):
        return checks.wrong("The same seed gave two results. Use a torch.Generator with this seed.")
    if torch.equal(first, other):
        return checks.wrong("Two seeds gave the same result. Use the seed.")
    return checks.right("The number of pixels above any threshold is as before, and their arrangement is gone.")


def arrangement(right: Mapping[str, Any], count: int, conclusion: str | None) -> Verdict:
    """Check an experiment: dimensions of maps as they are against those of scrambled maps.

    Parameters
    ----------
    right : mapping of str to bool (count,)
        ``"as they are"`` and ``"scrambled"``: which validation images each classifier gets right.
    count : int
        Number of these images.
    conclusion : str
        Which of the two is better, or ``"cannot tell"``.
    """
    if conclusion is None or any(found is None for found in right.values()):
        return checks.missing()
    arrays = {name: np.asarray(found) for name, found in right.items()}
    if set(arrays) != {"as they are", "scrambled"}:
        return checks.wrong("Expected two answers, under the names 'as they are' and 'scrambled'.")
    for name, found in arrays.items():
        if found.shape != (count,) or found.dtype != bool:
            return checks.wrong(f"Expected True or False for each of the {count} images under {name!r}.")
        if found.mean() < 0.5:
            return checks.wrong(f"{name!r} is right on fewer than half of the images. Did you compare with the labels?")
    if conclusion not in (*arrays, "cannot tell"):
        return checks.wrong("Expected one of the three conclusions: 'as they are', 'scrambled' or 'cannot tell'.")
    b, c = (int((arrays[one] & ~arrays[other]).sum()) for one, other in (tuple(arrays), tuple(arrays)[::-1]))
    if not b + c:
        return checks.wrong("The two agree on every image. Were both fitted to the same numbers?")
    decided = binomtest(b, b + c).pvalue < 0.05
    better = tuple(arrays)[0 if b > c else 1]
    if conclusion != (better if decided else "cannot tell"):
        return checks.wrong(
            "Compare the two image by image with McNemar's test. "
            + ("Its p-value is below 0.05." if decided else "Its p-value is not below 0.05.")
        )
    meaning = {
        "as they are": "So on these images the arrangement of the pixels adds something to their number.",
        "scrambled": "By your numbers, destroying the arrangement helps, which would be a surprise. Are they swapped?",
        "cannot tell": "By your numbers, these images don't show that the arrangement adds anything.",
    }
    return checks.right(f"{meaning[conclusion]} (The check takes your answers on trust.)")
