"""Wrong answers to the exercises of lesson 06, which its checks must reject."""

import math

import torch

from cifake_utils import records
from cifake_utils.lessons import comparison

T, ECE = 0.2214, 0.0247  # of the run as written


def loss(terms, u):
    return (torch.exp(-u) * terms + u).sum()


def p_values():
    found = []
    for seed in range(5):
        right = {}
        for name in ("resnet50_fractal_loss", "resnet50_loss_as_printed"):
            record = records.reference(name, seed)
            right[name] = comparison.correct(record.probabilities["test"], record.labels["test"])
        found.append(comparison.paired_tests(right)[0].p)
    return found


def wrong_answers() -> dict[str, list[tuple]]:
    p = p_values()
    return {
        "missing_label": [(0.5**8,), (1 - 2 * 0.5**8,), (0.5**16,), (0.0625,), (0.1,), ("few",)],
        "ratio_for": [(math.log(9),), (1 / (0.9 * math.log(9)),), (0.9,), (-math.log(0.9),), (2.5,), ("two",)],
        "priced": [
            (lambda terms, u: (torch.exp(-u) * terms).sum(), math.log(0.25)),
            (lambda terms, u: (torch.exp(u) * terms + u).sum(), math.log(0.25)),
            (lambda terms, u: (torch.exp(-u) * terms - u).sum(), math.log(0.25)),
            (lambda terms, u: loss(terms, u) / len(u), math.log(0.25)),
            (lambda terms, u: torch.exp(-u) * terms + u, math.log(0.25)),
            (lambda terms, u: terms.missing, math.log(0.25)),
            (3, math.log(0.25)),
            *((loss, u) for u in (4.0, 0.25, -math.log(0.25), 0.0, 1.0, "low")),
        ],
        "repaired": [
            (1 / T, ECE, 0.0),
            (1.0, ECE, 0.0),
            (10.0, ECE, 0.0),
            (0.3, ECE, 0.0),
            (T, 0.2303, 0.0),
            (T, 0.2501, 0.0),
            (T, 0.2056, 0.0),
            (T, 0.1, 0.0),
            (T, "small", 0.0),
            (T, ECE, 0.017),
        ],
        "sign_matters": [
            (p[0], "cannot tell"),
            ([1 - value for value in p], "cannot tell"),
            (p[:4], "cannot tell"),
            (sorted(p), "cannot tell"),
            ([5 * value for value in p], "cannot tell"),
            ([0.5] * 5, "cannot tell"),
            (p, "penalty"),
            (p, "as printed"),
            (p, "equal"),
        ],
    }
