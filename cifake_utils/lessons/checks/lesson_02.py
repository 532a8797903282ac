"""Checks of the exercises of lesson 02: counting boxes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from cifake_utils import fractal
from cifake_utils.lessons import checks
from cifake_utils.lessons.checks import Verdict

PATTERN = np.ones((4, 4), bool)  # of the carpet's cousin
PATTERN[1:3, 1:3] = False


def dimension_of_copies(answer: Any) -> Verdict:
    """Check the dimension of a set made of six copies of itself, each a quarter as wide."""
    digits = "So far your digits are right. Give more of them, or let Python compute the number."
    mistakes = [
        (1.29, digits),
        (1.3, digits),
        (np.log(4) / np.log(6), "That is the inverse: which of the two numbers counts the copies?"),
        (np.log(6 / 4), "That is the logarithm of a ratio. The dimension is the ratio of two logarithms."),
        (6 / 4, "That is a ratio of numbers. Take the logarithm of each first."),
        (np.log(6), "That is the numerator alone: how much narrower is each copy?"),
        (np.log(6) / np.log(2), "That would fit copies half as wide. These are a quarter as wide."),
    ]
    verdict = checks.value(answer, np.log(6) / np.log(4), mistakes, tolerance=3.9e-4)  # 1.292, and not 1.293
    return _good_for(verdict, "It is between a line and a square, and nearer to the line.")


def boxes_of_a_square(answer: Any) -> Verdict:
    """Check how many 4×4 boxes hold a part of a square of 8×8 pixels whose corner lies at row 3 and column 3."""
    mistakes = [
        (4, "That many are needed if the grid may be moved. This grid starts at row 0 and column 0."),
        (3, "That is the number of boxes in one row. The square has a height too."),
        (64, "That is the number of pixels of the square. How many boxes hold at least one of them?"),
        (6, "Rows and columns do not add up here: every row of boxes crosses every column of boxes."),
    ]
    verdict = checks.value(answer, 9, mistakes)
    return _good_for(verdict, "The same square needs four boxes where it lies on the grid.")


def carpet_cousin(cousin: Callable, derived: Any) -> Verdict:
    """Check a function from levels to the mask of the carpet with 12 of 4×4 pieces, and its derived dimension."""
    one_of_four = np.ones((4, 4), bool)
    one_of_four[1, 1] = False
    carpet = np.ones((3, 3), bool)
    carpet[1, 1] = False
    mistakes = [
        (lambda levels: _cousin(max(levels, 1)), "After no level the carpet is one True pixel."),
        (lambda levels: np.ones((4**levels, 4**levels), bool), "Nothing is taken out yet."),
        (lambda levels: ~_cousin(levels), "What should stay is gone, and what should go is still there."),
        (
            lambda levels: np.kron(PATTERN, np.ones((4 ** max(levels - 1, 0),) * 2, bool)),
            "There is one large hole. Every piece that stays needs holes of its own, at every level.",
        ),
        (
            lambda levels: np.tile(PATTERN, (4 ** max(levels - 1, 0),) * 2),
            "All the holes are of the smallest size. The large ones are missing.",
        ),
        (lambda levels: _cousin(levels - 1), "You stop one level too early: after no level it is one pixel."),
        (lambda levels: _cousin(levels + 1), "You go one level too far: after no level it is one pixel."),
        (
            lambda levels: _cousin(levels, one_of_four),
            "You take out one of sixteen pieces. It should be the middle four.",
        ),
        (lambda levels: _cousin(levels, carpet), "That is the Sierpinski carpet itself. Its cousin has 4×4 pieces."),
    ]
    verdict = checks.function(cousin, [(0,), (1,), (2,), (3,)], _cousin, mistakes)
    if not verdict.right:
        return verdict
    if (dtype := np.asarray(cousin(1)).dtype).kind != "b":
        return checks.wrong(f"The mask has the right numbers and the type {dtype}. Expected bool.")
    if derived is None:
        return replace(checks.missing(), text="The mask is right. Write into `derived` which dimension it should have.")
    mistakes = [
        (np.log(12) / np.log(3), "Each piece is a quarter as wide, not a third."),
        (np.log(4) / np.log(12), "That is the inverse: which of the two numbers counts the copies?"),
        (2.0, "That is the dimension of a full square. How many of the sixteen pieces stay?"),
        (np.log(8) / np.log(3), "That is the dimension of the Sierpinski carpet."),
    ]
    verdict = checks.value(derived, np.log(12) / np.log(4), mistakes)
    return _good_for(verdict, "The measured dimension agrees, because the boxes fit the pieces.")


def boxes_in_space(count_boxes_in_space: Callable) -> Verdict:
    """Check a function from a solid (side, side, side) and a box size to the number of boxes that hold a part of it."""
    generator = np.random.default_rng(7)
    cases = [(generator.random((8, 8, 8)) < share, size) for share in (0.02, 0.2) for size in (1, 2, 4)]
    mistakes = [
        (
            lambda solid, size: solid.sum(),
            "You count cells. A box counts once, however many cells of the solid it holds.",
        ),
        (lambda solid, size: (len(solid) // size) ** 3, "You count all boxes, the empty ones as well."),
        (
            lambda solid, size: _blocks(solid, size).all((1, 3, 5)).sum(),
            "You count boxes that are full. One cell of the set is enough.",
        ),
        (
            lambda solid, size: solid.reshape(len(solid), 8 // size, size, 8 // size, size).any((2, 4)).sum(),
            "Your boxes have the side in two directions, and one cell in the third.",
        ),
        (
            lambda solid, size: _blocks(solid, size).any((0, 2, 4)).sum(),
            "You look over all boxes at once. The axes 0, 2 and 4 say which box, 1, 3 and 5 where in it.",
        ),
        (
            lambda solid, size: _blocks(solid, len(solid) // size).any((0, 2, 4)).sum(),
            "Your reshape takes cells that are apart. The number of boxes comes first, then the side of a box.",
        ),
        (
            lambda solid, size: _boxes_in_space(solid, len(solid) // size),
            "Your boxes have another side. In the reshape the number of boxes comes first, then the side of a box.",
        ),
    ]
    verdict = checks.function(count_boxes_in_space, cases, _boxes_in_space, mistakes)
    return _good_for(verdict, "A rule for the plane that is understood works in space too.")


def mean_dimension(answer: Callable) -> Verdict:
    """Check a function from masks (N, 16, 16) to the mean of their dimensions, with boxes of 1, 2, 4 and 8 pixels."""
    generator = np.random.default_rng(5)
    cases = [(generator.random((20, 16, 16)) < share,) for share in (0.1, 0.3, 0.6)]
    cases[0][0][-1] = False  # an empty mask
    mistakes = [
        (lambda masks: _mean_dimension(masks.any(0)[None]), "You measure one set made of all masks together."),
        (lambda masks: _mean_dimension(masks[:1]), "You measure the first mask alone."),
        (
            lambda masks: _mean_dimension(masks[masks.any((1, 2))]),
            "You leave the empty masks out. Each of them counts, as dimension 0.",
        ),
        (lambda masks: -_mean_dimension(masks), "The sign is wrong: the slope is taken over log 1/ε, not over log ε."),
        (lambda masks: masks.mean(), "That is the share of occupied pixels. No boxes have been counted."),
    ]
    verdict = checks.function(answer, cases, _mean_dimension, mistakes)
    return _good_for(verdict, "Now draw it against the share of pixels.")


def _cousin(levels: int, pattern: np.ndarray = PATTERN) -> np.ndarray:
    mask = np.ones((1, 1), bool)
    for _ in range(levels):
        mask = np.kron(mask, pattern)
    return mask


def _blocks(solid: np.ndarray, size: int) -> np.ndarray:
    """Return a solid (side, side, side) with three axes for the places of the boxes and three within them."""
    across = len(solid) // size
    return solid.reshape(across, size, across, size, across, size)


def _boxes_in_space(solid: np.ndarray, size: int) -> int:
    return int(_blocks(solid, size).any((1, 3, 5)).sum())


def _mean_dimension(masks: np.ndarray) -> float:
    layer = fractal.FractalDimension(1, hard=True)
    return layer(torch.from_numpy(masks[:, None] - 0.5)).mean().item()


def _good_for(verdict: Verdict, text: str) -> Verdict:
    """Return a right verdict with a sentence that says what the answer is good for; any other one as it is."""
    return replace(verdict, text=text) if verdict.right else verdict
