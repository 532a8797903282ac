"""Wrong answers to the exercises of lesson 10, which its checks must reject."""

import torch


def right_share(hits, false_alarms, miss):
    return false_alarms / (false_alarms + miss * hits)


def squares(z):
    return torch.cat([z, z**2], 1)


def wrong_answers() -> dict[str, list[tuple]]:
    return {
        "alarms": [(0.98,), (0.02,), (0.002,), (0.9106,), (0.0982,), (0.9245,), (8.94,), (0.5,), ("rarely",)],
        "geometric": [(1.8108,), (0.3333,), (0.4642,), (10.0,), (1.3956,), (2.0,), ("twice",)],
        "break_even": [
            (lambda h, a, c: a / (a + h), 1e-4),
            (lambda h, a, c: a / (c * h), 1e-4),
            (lambda h, a, c: 1 - right_share(h, a, c), 1e-4),
            (lambda h, a, c: a * c / (a * c + h), 1e-4),
            (lambda h, a, c: a / (a + c * (1 - h)), 1e-4),
            (lambda h, a, c: 1 / (1 + c), 1e-4),
            (lambda h, a, c: (1 - a) / ((1 - a) + c * (1 - h)), 1e-4),
            (lambda h, a, c: h[0], 1e-4),
            *((right_share, found) for found in (0.01, 0.497, 0.0101, 0.5, 1e-4, 1.1e-4, "rare")),
        ],
        "both_signs": [
            (lambda z: z**2, 5, "VAE"),
            (lambda z: torch.cat([z, z**2]), 5, "VAE"),
            (lambda z: torch.cat([z**2, z], 1), 5, "VAE"),
            (lambda z: torch.cat([z, z.abs()], 1), 5, "VAE"),
            (lambda z: z + z**2, 5, "VAE"),
            (squares, 2, "VAE"),
            (squares, 7, "VAE"),
            (squares, 5, "flow matching"),
            (squares, 5, "normalising flow"),
            (squares, 5, "GAN"),
        ],
        "twice": [
            ({95, 75, 50, 25}, True),
            ({25}, True),
            ({95, 75}, True),
            ({60}, True),
            (50, True),
            ({50, 25}, "yes"),
            ({50, 25}, False),
        ],
        "explained": [
            (0.9286, 0.9286, False),
            (0.8214, 0.8214, False),
            (-0.8214, 0.9286, False),
            (0.3, 0.9286, False),
            (0.8214, 0.1, False),
            (0.8214, 0.9286, True),
            (0.8214, 0.9286, "no"),
        ],
    }
