"""Answers to the exercises of lesson 02b that must be rejected."""

import numpy as np

from cifake_utils import fractal


def slope(surface, lags=(1, 2, 4, 8), power=1):
    means = [
        (np.abs(surface[lag:] - surface[:-lag]) ** power).mean()
        + (np.abs(surface[:, lag:] - surface[:, :-lag]) ** power).mean()
        for lag in lags
    ]
    return np.polyfit(np.log(lags), np.log(means), 1)[0]


def all_differences(surface, lags=(1, 2, 4, 8)):
    means = [
        np.abs(np.concatenate([(s[lag:] - s[:-lag]).ravel() for s in (surface, surface.T)])).mean() for lag in lags
    ]
    return 3 - np.polyfit(np.log(lags), np.log(means), 1)[0]


def wrong_answers() -> dict[str, list[tuple]]:
    """Return for every check arguments that it rejects."""
    generator = np.random.default_rng(0)
    real, fake = generator.normal(2.5, 0.1, 500), generator.normal(2.6, 0.2, 500)
    difference, spread = fake.mean() - real.mean(), np.sqrt((real.var(ddof=1) + fake.var(ddof=1)) / 2)
    measure = fractal.variogram_dimension
    return {
        "dimension_from_two_lags": [(1.5,), (0.75,), (3.75,), (2.5,), (1.25,)],
        "effect_size": [
            (answer, real, fake)
            for answer in (difference, -difference / spread, difference / spread**2, difference / real.std())
        ],
        "madogram": [
            (lambda surface: 3 - slope(surface) / 2,),
            (lambda surface: 3 - slope(surface, power=2),),
            (lambda surface: 3 + slope(surface),),
            (measure,),
            (all_differences,),
            (lambda surface: 2.5,),
        ],
        "noisy_dimension": [
            (lambda surface, noise, amount: measure(surface),),
            (lambda surface, noise, amount: measure(surface + amount * noise),),
            (lambda surface, noise, amount: measure(surface * (1 + amount * noise)),),
            (lambda surface, noise, amount: measure(noise),),
        ],
    }
