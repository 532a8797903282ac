"""Sets and surfaces of known dimension, on which box counting can be checked."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.ndimage import binary_erosion


@dataclass(frozen=True)
class Shape:
    """A set drawn on pixels.

    Attributes
    ----------
    name : str
    mask : np.ndarray
        bool, shape (H, W).
    dimension : float
        Of the ideal set.
    sizes : list of int
        Matched scales: the box sizes in pixels at which the drawing repeats itself.
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

# The line that replaces every straight piece, as its corners in the complex plane; a piece goes from 0 to 1.
GENERATORS = {
    "Koch": [0, 1 / 3, 1 / 2 + 1j * 3**0.5 / 6, 2 / 3, 1],
    "Minkowski": [0, 1 / 4, (1 + 1j) / 4, (2 + 1j) / 4, 1 / 2, (2 - 1j) / 4, (3 - 1j) / 4, 3 / 4, 1],
}


def self_similar(name: str, levels: int) -> Shape:
    """Return one of `PATTERNS` after ``levels`` replacements: b**levels pixels wide, b the width of its pattern.

    Its dimension is log (number of copies) / log b; box counts at the matched scales are exact.
    """
    pattern = np.array(PATTERNS[name], bool)
    mask = np.ones((1, 1), bool)
    for _ in range(levels):
        mask = np.kron(mask, pattern)
    base = len(pattern)
    return Shape(name, mask, float(np.log(pattern.sum()) / np.log(base)), [base**level for level in range(levels)])


def curve(name: str, levels: int) -> Shape:
    """Return the curve of one of `GENERATORS` after ``levels`` replacements, its pieces less than a pixel long.

    Its dimension is log (number of pieces) / log (how much shorter each is).
    """
    corners = np.array(GENERATORS[name])
    starts, steps = corners[:-1], np.diff(corners)
    base = round(1 / abs(steps[0]))
    points = np.linspace(0, 1, 4, endpoint=False) + 0j
    for _ in range(levels):
        points = (starts[:, None] + steps[:, None] * points).ravel()
    dimension = float(np.log(len(steps)) / np.log(base))
    return Shape(name, _draw(points * base ** (levels - 1)), dimension, [base**level for level in range(levels - 2)])


def dragon(levels: int) -> Shape:
    """Return the outline of Heighway's dragon after ``levels`` foldings: an odd number.

    The drawing is 2**((levels - 3) / 2) pixels high. The dragon itself fills the plane: its dimension is 2, but the
    boxes that its outline adds keep the slope near 1.9 in pictures of 512 to 1024 pixels. The outline has dimension
    2 log₂ λ = 1.5236, λ³ = λ² + 2 (Chang & Zhang, *The fractal geometry of the boundary of dragon curves*, 1999).
    """
    middles = np.array([0.5 + 0j])  # of the pieces: after an odd number of foldings they lie on a square lattice
    for _ in range(levels):
        middles = np.concatenate([(1 + 1j) / 2 * middles, 1 - (1 - 1j) / 2 * middles])
    filled = _draw(middles * 2 ** ((levels + 1) / 2) + 0.5 + 0.5j)
    rows, columns = np.nonzero(filled & np.logical_not(binary_erosion(filled)))
    coarse = 4  # lattice points in a pixel, so that the pixels see the outline and not the lattice
    mask = np.zeros((rows.max() // coarse + 1, columns.max() // coarse + 1), bool)
    mask[rows // coarse, columns // coarse] = True
    ratio = np.roots([1, -1, 0, -2])
    dimension = float(2 * np.log2(np.real(ratio[np.imag(ratio) == 0]).item()))
    return Shape("dragon", mask, dimension, [2**level for level in range(levels // 2 - 4)])


def _draw(points: np.ndarray) -> np.ndarray:
    """Return the mask of the pixels that contain a point; the complex numbers are positions in pixels."""
    columns, rows = (
        np.floor(values - values.min() + 1e-6).astype(int) for values in (np.real(points), np.imag(points))
    )
    mask = np.zeros((rows.max() + 1, columns.max() + 1), bool)
    mask[rows.max() - rows, columns] = True
    return mask


def percolation(levels: int, probability: float = 0.7, base: int = 3, seed: int = 0) -> Shape:
    """Return Mandelbrot's fractal percolation: every box is cut in base × base, and each piece kept by chance.

    If anything is left for ever, its dimension is almost surely log (base² · probability) / log base (Chayes, Chayes
    & Durrett, *Connectivity properties of Mandelbrot's percolation process*, 1988).
    """
    generator = np.random.default_rng(seed)
    mask = np.ones((1, 1), bool)
    for level in range(1, levels + 1):
        kept = generator.random((base**level, base**level)) < probability
        mask = np.kron(mask, np.ones((base, base), bool)) & kept
    dimension = float(np.log(base**2 * probability) / np.log(base))
    return Shape("percolation", mask, dimension, [base**level for level in range(levels - 1)])


# Every set by name: the function from the number of levels to its drawing, and the levels that reach 512 pixels.
SHAPES: dict[str, tuple[Callable[[int], Shape], int]] = {
    **{name: (partial(self_similar, name), 9 if len(pattern) == 2 else 6) for name, pattern in PATTERNS.items()},
    "Koch": (partial(curve, "Koch"), 7),
    "Minkowski": (partial(curve, "Minkowski"), 6),
    "dragon": (dragon, 21),
    "percolation": (percolation, 6),
}


def draw(name: str) -> Shape:
    """Return one of `SHAPES`, at least 512 pixels wide."""
    function, levels = SHAPES[name]
    return function(levels)


def fractional_brownian_surface(size: int, hurst: float, seed: int = 0) -> np.ndarray:
    """Return a surface of fractional Brownian motion: float64, shape (size, size), 0 in the upper left corner.

    Its increments are Gaussian with ``E[(X(s) − X(t))²] = 2 |s − t|^(2 H)``, ``|s − t|`` in units of about √2 · size
    pixels; the dimension of the surface is 3 − H. Exact simulation by circulant embedding: Stein, *Fast and exact
    simulation of fractional Brownian surfaces*, J. Comput. Graph. Stat. 11 (2002).

    Parameters
    ----------
    size : int
        Side in pixels.
    hurst : float
        H, 0 < H < 1; small is rough.
    seed : int
    """
    alpha = 2 * hurst
    if alpha <= 1.5:
        reach, beta, quadratic = 1.0, 0.0, alpha / 2
        constant = 1 - quadratic
    else:
        reach = 2.0
        beta = alpha * (2 - alpha) / (3 * reach * (reach**2 - 1))
        quadratic = (alpha - beta * (reach - 1) ** 2 * (reach + 2)) / 2
        constant = beta * (reach - 1) ** 3 + 1 - quadratic
    unit = int(np.ceil(2**0.5 * size))  # pixels in a length of 1, so that the square's diagonal is within it
    period = int(2 * reach * unit)
    axis = np.minimum(np.arange(period), period - np.arange(period)) / unit
    distance = np.hypot(axis[:, None], axis)
    near = constant - distance**alpha + quadratic * distance**2
    far = beta * (reach - distance).clip(0) ** 3 / distance.clip(1)
    spectrum = np.fft.fft2(np.where(distance <= 1, near, far)).real.clip(0)
    generator = np.random.default_rng(seed)
    noise = generator.standard_normal((period, period)) + 1j * generator.standard_normal((period, period))
    stationary = np.fft.fft2(np.sqrt(spectrum) * noise).real[:size, :size] / period
    slope = (2 * quadratic) ** 0.5 * generator.standard_normal(2)
    position = np.arange(size) / unit
    surface = stationary + slope[0] * position[:, None] + slope[1] * position
    return surface - surface[0, 0]
