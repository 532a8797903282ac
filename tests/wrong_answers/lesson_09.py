"""Wrong answers to the exercises of lesson 09, which its checks must reject."""

import numpy as np
from scipy.special import expit, logit

from cifake_utils.lessons import further
from cifake_utils.lessons.checks import lesson_09


def right_weighted(p, w):
    return expit(np.asarray(w) @ logit(np.asarray(p, float).clip(2**-11, 1 - 2**-11)))


def right_several(errors):
    return further.several_wrong(errors)


def wrong_answers() -> dict[str, list[tuple]]:
    errors, count = lesson_09._errors()
    chances = further.several_wrong(errors)
    validation, test = lesson_09._curve("val"), lesson_09._curve("test")
    best = 10 - int(validation[::-1].argmax())
    views, pixels = (further.trials()[name] for name in ("stem stride 1", "enlarged twice"))
    difference = views.correct("mirror images and shifts").mean() - pixels.correct("alone").mean()
    return {
        "shares": [
            *((first, 1 / 9) for first in (4 / 9, 1 / 9, 5 / 6, 2 / 9, 1.0, 0.3, "all")),
            *((1 / 6, second) for second in (2 / 9, 8 / 9, 1 / 6, 0.5)),
        ],
        "three_widths": [(6 / 12,), (4.125,), (1 - 0.34375,), (0.4375,), (0.9,), ("a third",)],
        "several": [
            (lambda e: right_several(e)[::-1], 0.3),
            (lambda e: right_several(e)[1:], 0.3),
            (lambda e: right_several([np.mean(e)] * len(e)), 0.3),
            (lambda e: np.array([np.prod(1 - e), *np.cumprod(e)]), 0.3),
            (lambda e: right_several(1 - e), 0.3),
            (lambda e: np.cumsum(right_several(e)), 0.3),
            (lambda e: e, 0.3),
            (0.3, 0.3),
            *((right_several, count * share) for share in (chances[3:].sum() / count, chances[3], chances[2:].sum())),
            (right_several, count * errors.prod()),
            (right_several, (count * chances[3:].sum()).round(1)),
            (right_several, "few"),
        ],
        "weighted": [
            (lambda p, w: w @ np.asarray(p, float), best / 10, test[best]),
            (lambda p, w: right_weighted(p, np.full(len(w), 1 / len(w))), best / 10, test[best]),
            (lambda p, w: logit(right_weighted(p, w)), best / 10, test[best]),
            (lambda p, w: right_weighted(p, w[::-1]), best / 10, test[best]),
            (lambda p, w: expit(w @ logit(p)), best / 10, test[best]),  # 0 and 1 have infinite log odds
            (0.5, best / 10, test[best]),
            (right_weighted, 0.5, test[best]),
            (right_weighted, 1 - best / 10, test[best]),
            (right_weighted, best / 10, validation[best]),
            (right_weighted, best / 10, 1 - test[best]),
            (right_weighted, best / 10, 100 * test[best]),
            (right_weighted, best / 10, test[best].round(4)),
        ],
        "views_or_pixels": [
            (-difference, 0.3, 10),
            (100 * difference, 0.3, 10),
            (views.correct("mirror images and shifts").mean() - pixels.correct().mean(), 0.3, 10),
            (views.correct("alone").mean() - pixels.correct("alone").mean(), 0.3, 10),
            (0.98145, 0.3, 10),
            (difference, 0.0001, 10),
            (difference, 0.99, 10),
            ("more", 0.3, 10),
        ],
    }
