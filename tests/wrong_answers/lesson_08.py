"""Wrong answers to the exercises of lesson 08, which its checks must reject."""

import numpy as np
from scipy.special import expit, logit

BEST = ("resnet50_scratch", "resnet50_rotation_fractal_loss")
GAIN = 0.0107


def right_threshold(c, share):
    return 1 / (1 + c * share / (1 - share))


def right_average(probabilities):
    return expit(logit(np.asarray(probabilities, float).clip(2**-11, 1 - 2**-11)).mean(0))


def wrong_answers() -> dict[str, list[tuple]]:
    return {
        "highest_f1": [(10_000 / 10_500,), (18_000 / 18_500,), (0.95,), (1_000 / 1_500,), (0.7,), ("high",)],
        "eight_images": [(9 / 256,), (16 / 256,), (2 / 256,), (1 / 8,), (7 / 8,), (0.05,), (18,)],
        "threshold": [
            (lambda c, share: 1 / (1 + c), 0.9083),
            (lambda c, share: 1 / (1 + c * share), 0.9083),
            (lambda c, share: 1 / (1 + c * (1 - share) / share), 0.9083),
            (lambda c, share: 1 - right_threshold(c, share), 0.9083),
            (lambda c, share: (1 - share) / (c * share), 0.9083),
            (lambda c, share: 0.5, 0.9083),
            (lambda c, share: c.missing, 0.9083),
            (0.9083, 0.9083),
            *((right_threshold, newspaper) for newspaper in (1 / 11, 0.99, 0.001, 0.4737, 0.5, "high")),
        ],
        "averaged": [
            (lambda p: np.mean(p, 0), 0.98055),
            (lambda p: logit(np.clip(p, 2**-11, 1 - 2**-11)).mean(0), 0.98055),
            (lambda p: expit(logit(np.asarray(p, float)).mean(0)), 0.98055),  # 0 and 1 have infinite log odds
            (lambda p: expit(logit(np.clip(np.asarray(p, float), 2**-11, 1 - 2**-11)).sum(0)), 0.98055),
            (lambda p: np.median(p, 0), 0.98055),
            (lambda p: p, 0.98055),
            *((right_average, found) for found in (0.9805, 0.98095, 0.97955, 0.97815, 0.01945, 98.055, 0.9, "high")),
        ],
        "pairs": [
            ("resnet50_scratch", GAIN, False),
            (("resnet50_scratch", "resnet50_sixth"), GAIN, False),
            (("resnet50_rotation", "resnet50_finetuned"), GAIN, False),
            (("resnet50_scratch", "resnet50_transfer"), GAIN, False),
            (("resnet50_scratch", "resnet50_fractal_loss"), GAIN, False),
            (BEST, 0.97165, False),
            (BEST, -GAIN, False),
            (BEST, 0.02, False),
            (BEST, GAIN, True),
            (BEST, GAIN, "no"),
        ],
    }
