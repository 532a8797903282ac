"""Answers to the exercises of lesson 02 that must be rejected."""

import numpy as np

from cifake_utils import fractal


def wrong_answers() -> dict[str, list[tuple]]:
    """Return for every check arguments that it rejects."""
    hole = np.ones((4, 4), bool)
    hole[1:3, 1:3] = False

    def full(levels):
        return np.ones((4**levels, 4**levels), bool)

    def one_hole(levels):
        return np.kron(hole, np.ones((4 ** max(levels - 1, 0),) * 2, bool))

    def small_holes(levels):
        return np.tile(hole, (4 ** max(levels - 1, 0),) * 2)

    def first_level(levels):
        return hole

    def cousin(levels, pattern=hole, least=0):
        mask = np.ones((1, 1), bool)
        for _ in range(max(levels, least)):
            mask = np.kron(mask, pattern)
        return mask

    one_of_four = np.ones((4, 4), bool)
    one_of_four[1, 1] = False
    carpet = np.ones((3, 3), bool)
    carpet[1, 1] = False
    derived = np.log(12) / np.log(4)

    def other_axes(solid, size):
        across = len(solid) // size
        return solid.reshape(across, size, across, size, across, size).any((0, 2, 4)).sum()

    def apart(solid, size):
        across = len(solid) // size
        return solid.reshape(size, across, size, across, size, across).any((0, 2, 4)).sum()

    def other_side(solid, size):
        across = len(solid) // size
        return solid.reshape(size, across, size, across, size, across).any((1, 3, 5)).sum()

    def full_boxes(solid, size):
        across = len(solid) // size
        return solid.reshape(across, size, across, size, across, size).all((1, 3, 5)).sum()

    return {
        "dimension_of_copies": [
            (np.log(4) / np.log(6),),
            (1.5,),
            (np.log(1.5),),
            (2.0,),
            (1.29,),
            (1.293,),
            ("1.2925",),
            (1.3,),
            (2.585,),
            ("log 6 / log 4",),
        ],
        "boxes_of_a_square": [(4,), (3,), (64,), (6,), (8,)],
        "carpet_cousin": [
            *((answer, derived) for answer in (full, one_hole, small_holes, first_level, hole)),
            (lambda levels: cousin(levels, one_of_four), derived),
            (lambda levels: cousin(levels, carpet), derived),
            (lambda levels: cousin(levels, least=1), derived),
            (lambda levels: cousin(levels).astype(int), derived),
            (cousin, np.log(12) / np.log(3)),
        ],
        "boxes_in_space": [
            (lambda solid, size: solid.sum(),),
            (lambda solid, size: (len(solid) // size) ** 3,),
            (full_boxes,),
            (other_axes,),
            (apart,),
            (other_side,),
            (lambda solid, size: 8,),
        ],
        "mean_dimension": [
            (lambda masks: masks.mean(),),
            (lambda masks: 1.5,),
            (
                lambda masks: np.mean(
                    [fractal.box_counting_dimension(mask, [1, 2, 4, 8]) for mask in masks if mask.any()]
                ),
            ),
            (lambda masks: masks.shape[3],),
            (lambda masks: masks.mean((1, 2)),),
            (lambda masks: np.mean([fractal.box_counting_dimension(mask, [1, 2, 4, 8]) for mask in masks]),),
        ],
    }
