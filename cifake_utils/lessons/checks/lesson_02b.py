"""Checks of the exercises of lesson 02b: the dimension of grey surfaces."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from cifake_utils import fractal
from cifake_utils.lessons import checks, effects, shapes
from cifake_utils.lessons.checks import Verdict

LAGS = (1, 2, 4, 8)


def dimension_from_two_lags(answer: Any) -> Verdict:
    """Check the dimension of a surface whose variogram is 1 at the distance 1, and 8 at the distance 4."""
    mistakes = [
        (1.5, "That is 3 minus the slope. The variogram grows with the exponent 2H, not H."),
        (0.75, "That is H. Which dimension belongs to it?"),
        (3.75, "H is subtracted from 3, so that smooth surfaces have the smaller dimension."),
        (1.0, "That is 3 minus the ratio of 8 to 4. Take logarithms."),
        (2.5, "Which power of 4 is 8? Its exponent is 2H."),
        (1.25, "2 − H belongs to a curve. This is a surface."),
    ]
    verdict = checks.value(answer, 2.25, mistakes)
    return _good_for(verdict, "It is a rather smooth surface.")


def effect_size(answer: Any, real: np.ndarray, fake: np.ndarray) -> Verdict:
    """Check Cohen's d, FAKE minus REAL, of two groups of numbers (N,)."""
    difference = fake.mean() - real.mean()
    spread = np.sqrt((fake.var(ddof=1) + real.var(ddof=1)) / 2)
    mistakes = [
        (-difference / spread, "The sign is wrong: d is FAKE minus REAL."),
        (difference, "That is the difference of the means. Divide it by the spread within a group."),
        (difference / spread**2, "You divide by a variance. Its square root has the unit of the numbers."),
        (difference / np.concatenate([real, fake]).std(), "You divide by the spread of both groups together."),
        (difference / (fake.std(ddof=1) + real.std(ddof=1)), "You divide by the sum of both spreads."),
    ]
    (expected,) = effects.effect_sizes(
        np.concatenate([real, fake])[:, None], np.repeat([0, 1], [len(real), len(fake)])
    )["d"]
    verdict = checks.value(answer, expected, mistakes, tolerance=2e-3)
    return _good_for(verdict, "It has no unit, so it may be compared with the d of any other measure.")


def madogram(madogram_dimension: Callable) -> Verdict:
    """Check a function from a surface (H, W) to 3 minus the slope of its mean absolute differences, lags 1 to 8."""
    cases = [(shapes.fractional_brownian_surface(64, hurst, seed=3),) for hurst in (0.3, 0.7)]
    cases.append((np.random.default_rng(3).standard_normal((32, 48)).cumsum(1),))  # rows and columns differ
    mistakes = [
        (
            lambda surface: 3 - _slope(surface) / 2,
            "You halve the slope. Only squares grow with 2H; absolute differences grow with H.",
        ),
        (lambda surface: 3 - _slope(surface, power=2), "You square the differences. Take their absolute values."),
        (fractal.variogram_dimension, "That is the variogram. Take absolute differences in place of squares."),
        (lambda surface: 3 + _slope(surface), "The sign is wrong: a steeper line belongs to a smoother surface."),
        (lambda surface: 3 - _slope(surface, axes=(1,)), "You compare pixels in a row only. Use columns as well."),
        (lambda surface: 3 - _slope(surface, axes=(0,)), "You compare pixels in a column only. Use rows as well."),
        (
            lambda surface: 3 - _slope(surface, together=True),
            "You take one mean of all differences. Rows and columns weigh one half each, whatever their number.",
        ),
        (_slope, "That is the slope, H. Which dimension belongs to it?"),
    ]
    verdict = checks.function(madogram_dimension, cases, lambda surface: 3 - _slope(surface), mistakes)
    return _good_for(verdict, "One pixel that is far off counts less here than in a mean of squares.")


def noisy_dimension(answer: Callable) -> Verdict:
    """Check a function (surface, noise, amount) to the variogram dimension of the surface with that much noise."""
    surface = 20 + 3 * shapes.fractional_brownian_surface(64, 0.7, seed=4)
    noise = np.random.default_rng(4).standard_normal(surface.shape)
    cases = [(surface, noise, amount) for amount in (0.0, 0.02, 0.1)]
    measure = fractal.variogram_dimension
    mistakes = [
        (lambda s, n, a: measure(s), "The surface has no noise."),
        (lambda s, n, a: measure(s + a * n), "The amount is meant in standard deviations of the surface."),
        (lambda s, n, a: measure(s + s.std() * n), "The amount of noise has no influence."),
        (lambda s, n, a: measure(s * (1 + a * n)), "You multiply the surface by noise. Add it."),
        (lambda s, n, a: measure(s + a * s.var() * n), "You take the variance. The standard deviation is its root."),
    ]
    verdict = checks.function(answer, cases, lambda s, n, a: measure(s + a * s.std() * n), mistakes)
    return _good_for(verdict, "Now draw it against the amount.")


def _slope(surface: np.ndarray, power: int = 1, axes: tuple[int, ...] = (0, 1), together: bool = False) -> float:
    """Return the slope of the logarithm of mean |difference|^power over the logarithm of the lag.

    The mean is that of the means along each axis, or with ``together`` one of all differences.
    """
    means = []
    for lag in LAGS:
        differences = {0: surface[lag:] - surface[:-lag], 1: surface[:, lag:] - surface[:, :-lag]}
        parts = [np.abs(differences[axis]).ravel() ** power for axis in axes]
        means.append(np.concatenate(parts).mean() if together else np.mean([part.mean() for part in parts]))
    return float(np.polyfit(np.log(LAGS), np.log(means), 1)[0])


def _good_for(verdict: Verdict, text: str) -> Verdict:
    """Return a right verdict with a sentence that says what the answer is good for; any other one as it is."""
    return replace(verdict, text=text) if verdict.right else verdict
