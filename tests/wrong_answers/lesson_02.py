"""Answers to the exercises of lesson 02 that must be rejected."""

import numpy as np


def wrong_answers() -> dict[str, list[tuple]]:
    """Return for every check arguments that it rejects."""
    hole = np.ones((4, 4), bool)
    hole[1:3, 1:3] = False

    def full(levels):
        return np.ones((4**levels, 4**levels), bool)

    def one_hole(levels):
        return np.kron(hole, np.ones((4 ** (levels - 1),) * 2, bool))

    def small_holes(levels):
        return np.tile(hole, (4 ** (levels - 1),) * 2)

    def first_level(levels):
        return hole

    def full_boxes(solid, size):
        across = len(solid) // size
        return solid.reshape(across, size, across, size, across, size).all((1, 3, 5)).sum()

    return {
        "dimension_of_copies": [(np.log(4) / np.log(6),), (1.5,), (np.log(1.5),), (2.0,), ("log 6 / log 4",)],
        "boxes_of_a_square": [(4,), (3,), (64,), (6,), (8,)],
        "carpet_cousin": [(full,), (one_hole,), (small_holes,), (first_level,), (hole,)],
        "boxes_in_space": [
            (lambda solid, size: solid.sum(),),
            (lambda solid, size: (len(solid) // size) ** 3,),
            (full_boxes,),
            (lambda solid, size: 8,),
        ],
        "mean_dimension": [
            (lambda masks: masks.mean(),),
            (lambda masks: 1.5,),
            (lambda masks: masks.shape[3],),
            (lambda masks: masks.mean((1, 2)),),
        ],
    }
