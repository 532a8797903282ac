"""Sets whose dimension is known, to check box counting against."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Shape:
    """A set drawn on pixels.

    Attributes
    ----------
    name : str
    mask : np.ndarray
        bool, shape (S, S).
    dimension : float
        Of the ideal set: log (number of copies) / log (how much smaller each copy is).
    sizes : list of int
        Box sizes in pixels at which the drawing is exactly self-similar.
    """

    name: str
    mask: np.ndarray
    dimension: float
    sizes: list[int]


# Each set is made of smaller copies of itself where its pattern has a 1.
# Mandelbrot, The Fractal Geometry of Nature, 1982.
PATTERNS = {
    "Sierpinski triangle": [[1, 0], [1, 1]],
    "Sierpinski carpet": [[1, 1, 1], [1, 0, 1], [1, 1, 1]],
    "Vicsek": [[0, 1, 0], [1, 1, 1], [0, 1, 0]],
    "Cantor dust": [[1, 0, 1], [0, 0, 0], [1, 0, 1]],
    "filled square": [[1, 1], [1, 1]],
    "line": [[1, 1], [0, 0]],
    "point": [[1, 0], [0, 0]],
}


def self_similar(name: str, levels: int) -> Shape:
    """Return one of `PATTERNS` after ``levels`` replacements: b**levels pixels wide, b the width of its pattern."""
    pattern = np.array(PATTERNS[name], bool)
    mask = np.ones((1, 1), bool)
    for _ in range(levels):
        mask = np.kron(mask, pattern)
    base = len(pattern)
    return Shape(name, mask, float(np.log(pattern.sum()) / np.log(base)), [base**level for level in range(levels)])
