"""Box counting: how the number of boxes that a set touches grows as the boxes shrink."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_

import numpy as np
import torch
from torch.nn import functional as F

from cifake_utils import CifakeError

LEAST_SCALES = 3


@dataclass(frozen=True)
class BoxCountingFit:
    """A straight line through log N against log 1/ε.

    Attributes
    ----------
    dimension, intercept : float
        Slope and intercept of the line, natural logarithms.
    sizes, counts : list of int
        Box sizes ε in pixels, and boxes N that the set touches.
    r_squared : float
        Share of the variance of log N that the line explains; 1 for a point, whose counts do not vary.
    """

    dimension: float
    intercept: float
    sizes: list[int]
    counts: list[int]
    r_squared: float


def box_counts(mask: np.ndarray | torch.Tensor, sizes: Sequence[int]) -> np.ndarray | torch.Tensor:
    """Count the boxes of each size that contain a part of the set (equation 1 of the paper).

    The grid starts at the upper left corner; boxes that stick out at the right and at the bottom count like any other.

    Parameters
    ----------
    mask : np.ndarray or torch.Tensor
        Shape (…, H, W); what is not zero belongs to the set. Any device.
    sizes : sequence of int
        Side lengths of the boxes in pixels, each at least 1, in any order.

    Returns
    -------
    np.ndarray or torch.Tensor
        int64, shape (…, len(sizes)), of the kind that ``mask`` is.

    Raises
    ------
    CifakeError
        A mask with fewer than two dimensions, or a size that is not a whole number of at least 1.
    """
    if mask.ndim < 2:
        raise CifakeError(f"Box counting needs a mask of shape (…, H, W); this one has shape {tuple(mask.shape)}.")
    wrong = [size for size in sizes if size != int(size) or size < 1]
    if wrong:
        raise CifakeError(f"A box size of {wrong[0]} pixels is none; box sizes are whole numbers of at least 1.")
    occupied = {1: torch.as_tensor(mask) != 0}
    for size in sorted({int(size) for size in sizes} - {1}):
        finer = max(done for done in occupied if size % done == 0)  # boxes are made of boxes already counted
        occupied[size] = _coarsen(occupied[finer], size // finer)
    counts = torch.stack([occupied[int(size)].sum((-2, -1)) for size in sizes], -1)
    return counts if isinstance(mask, torch.Tensor) else counts.numpy()


def _coarsen(occupied: torch.Tensor, factor: int) -> torch.Tensor:
    """Return which factor×factor boxes contain a True, (…, H, W) to (…, ⌈H/factor⌉, ⌈W/factor⌉)."""
    height, width = occupied.shape[-2:]
    padded = F.pad(occupied, (0, -width % factor, 0, -height % factor))
    rows = reduce(or_, (padded[..., start::factor, :] for start in range(min(factor, height))))
    return reduce(or_, (rows[..., start::factor] for start in range(min(factor, width))))


def default_sizes(height: int, width: int) -> list[int]:
    """Return the powers of two from 1 to half the shorter side; a `CifakeError` where those are fewer than three."""
    shorter = min(height, width)
    sizes = [2**power for power in range(shorter.bit_length()) if 2**power <= shorter // 2]
    if len(sizes) < LEAST_SCALES:
        raise CifakeError(
            f"A map of {height}×{width} pixels has {len(sizes)} box sizes between 1 and half its side; a slope that "
            f"means anything needs {LEAST_SCALES}. The shorter side must have at least {2**LEAST_SCALES} pixels."
        )
    return sizes


def box_counting_dimension(
    mask: np.ndarray | torch.Tensor, sizes: Sequence[int] | None = None, *, return_fit: bool = False
) -> float | BoxCountingFit:
    """Return the box-counting dimension of a set: the slope of log N over log 1/ε (equation 2 of the paper).

    Least squares over the given sizes, 0 for a single point.

    Parameters
    ----------
    mask : np.ndarray or torch.Tensor
        Shape (H, W); what is not zero belongs to the set.
    sizes : sequence of int, optional
        Box sizes in pixels, at least three different ones; default: `default_sizes`.
    return_fit : bool
        Return points and quality of the fit too.

    Raises
    ------
    CifakeError
        An empty set, a mask that is not two-dimensional, or fewer than three sizes.
    """
    if mask.ndim != 2:
        raise CifakeError(f"One dimension needs one mask of shape (H, W); this one has shape {tuple(mask.shape)}.")
    sizes = default_sizes(*mask.shape) if sizes is None else [int(size) for size in sizes]
    if len(set(sizes)) < LEAST_SCALES:
        raise CifakeError(f"A slope needs at least {LEAST_SCALES} different box sizes; got {sizes}.")
    counts = np.asarray(box_counts(torch.as_tensor(mask).cpu(), sizes))
    if not counts.any():
        raise CifakeError("The set is empty: no pixel of the mask differs from zero, and nothing has no dimension.")
    x, y = -np.log(sizes), np.log(counts)
    slope, intercept = np.polyfit(x, y, 1)
    spread = ((y - y.mean()) ** 2).sum()
    r_squared = 1 - ((y - slope * x - intercept) ** 2).sum() / spread if spread else 1.0
    if not return_fit:
        return float(slope)
    return BoxCountingFit(float(slope), float(intercept), sizes, counts.tolist(), float(r_squared))
