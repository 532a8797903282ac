"""Fractal dimension of sets, of grey surfaces and of feature maps.

Box counting asks how the number of boxes that a set touches grows as the boxes shrink.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_

import numpy as np
import torch
from torch import nn
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


def box_counts(mask: np.ndarray | torch.Tensor, sizes: Sequence[int], *, offsets: int = 1) -> np.ndarray | torch.Tensor:
    """Count the boxes of each size that contain a part of the set (equation 1 of the paper).

    The grid starts at the upper left corner; boxes that stick out at the border count like any other.

    Parameters
    ----------
    mask : np.ndarray or torch.Tensor
        Shape (…, H, W); what is not zero belongs to the set. Any device.
    sizes : sequence of int
        Side lengths of the boxes in pixels, each at least 1, in any order.
    offsets : int
        Grid positions to try along each axis, evenly spaced over a box; the smallest count of them is returned. The
        definition asks for the smallest cover; one grid may cut the set more often than needed.

    Returns
    -------
    np.ndarray or torch.Tensor
        int64, shape (…, len(sizes)), of the kind that ``mask`` is.

    Raises
    ------
    CifakeError
        A mask with fewer than two dimensions, or a size or a number of offsets that is not a whole number from 1 up.
    """
    if mask.ndim < 2:
        raise CifakeError(f"Box counting needs a mask of shape (…, H, W); this one has shape {tuple(mask.shape)}.")
    wrong = [size for size in sizes if size != int(size) or size < 1]
    if wrong:
        raise CifakeError(f"A box size of {wrong[0]} pixels is none; box sizes are whole numbers of at least 1.")
    if offsets != int(offsets) or offsets < 1:
        raise CifakeError(f"{offsets} grid offsets are none; their number is a whole number of at least 1.")
    whole = torch.as_tensor(mask).bool()
    if offsets > 1:
        counts = [_smallest_count(whole, int(size), offsets) for size in sizes]
    else:
        occupied = {1: whole}
        for size in sorted({int(size) for size in sizes} - {1}):
            finer = max(done for done in occupied if size % done == 0)  # boxes are made of boxes already counted
            occupied[size] = _coarsen(occupied[finer], size // finer)
        counts = [_count(occupied[int(size)]) for size in sizes]
    counts = torch.stack(counts, -1)
    return counts if isinstance(mask, torch.Tensor) else counts.numpy()


def _smallest_count(occupied: torch.Tensor, size: int, offsets: int) -> torch.Tensor:
    """Return the smallest number of occupied boxes over grids that start up to a box outside of the mask."""
    starts = sorted({size * step // offsets for step in range(offsets)})
    grids = (F.pad(occupied, (left, 0, top, 0)) for top in starts for left in starts)
    return torch.stack([_count(_coarsen(grid, size)) for grid in grids]).amin(0)


def _count(occupied: torch.Tensor) -> torch.Tensor:
    """Return how many pixels of each mask are True, (…, H, W) to int64 (…,).

    Band by band: torch sums booleans by way of an int64 copy, which should not leave the processor's cache.
    """
    height, width = occupied.shape[-2:]
    bands = occupied.flatten(0, -2).split(2**18 // max(1, width) or 1)
    return torch.cat([band.sum(-1) for band in bands]).reshape(*occupied.shape[:-2], height).sum(-1)


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


def _slope(values: torch.Tensor, sizes: Sequence[int]) -> torch.Tensor:
    """Return the least-squares slope of ``values`` (…, K) over log size: (…,), one matrix product."""
    x = torch.tensor(sizes, dtype=values.dtype, device=values.device).log()
    x = x - x.mean()
    return values @ (x / x.square().sum())


def _as_surfaces(gray: np.ndarray | torch.Tensor, least: int) -> torch.Tensor:
    """Return grey surfaces as floats; a `CifakeError` where they are not (…, H, W), finite, and large enough."""
    surfaces = torch.as_tensor(gray)
    if surfaces.ndim < 2 or min(surfaces.shape[-2:]) < least:
        raise CifakeError(
            f"A grey surface needs shape (…, H, W) with at least {least} pixels a side; this one has shape "
            f"{tuple(surfaces.shape)}."
        )
    surfaces = surfaces if surfaces.is_floating_point() else surfaces.float()
    if surfaces.numel() and not torch.stack(surfaces.aminmax()).isfinite().all():  # two values tell it of all
        raise CifakeError("The grey surface holds values that are not finite (NaN or infinity).")
    return surfaces


def _returned(values: torch.Tensor, like: np.ndarray | torch.Tensor) -> float | np.ndarray | torch.Tensor:
    if values.ndim == 0:
        return values.item()
    return values if isinstance(like, torch.Tensor) else values.numpy()


def differential_box_counting_dimension(
    gray: np.ndarray | torch.Tensor, sizes: Sequence[int] | None = None
) -> float | np.ndarray | torch.Tensor:
    """Return the dimension of a grey surface by differential box counting: 2 (smooth) to 3 (rough).

    Over each s×s block the surface passes through ⌈max / h⌉ − ⌈min / h⌉ + 1 boxes of height h. Grey values are
    stretched to the shorter side of the image, so that boxes are cubes, h = s, and brightness and contrast play no
    part. Sarkar & Chaudhuri, *An efficient differential box-counting approach to compute fractal dimension of image*,
    IEEE Trans. SMC 24 (1994). It underestimates rough surfaces: see `benchmarks/box_counting.json`.

    Parameters
    ----------
    gray : np.ndarray or torch.Tensor
        Shape (…, H, W).
    sizes : sequence of int, optional
        Block sizes in pixels, at least three different ones from 2 up; default: powers of two from 2 to half the
        shorter side.

    Returns
    -------
    float, or np.ndarray or torch.Tensor of shape (…,)
        One number for one surface. A constant surface has dimension 2.

    Raises
    ------
    CifakeError
        A surface that is too small, not finite or without two dimensions; fewer than three sizes.
    """
    surfaces = _as_surfaces(gray, 2 ** (LEAST_SCALES + 1) if sizes is None else 2)
    sizes = default_sizes(*surfaces.shape[-2:])[1:] if sizes is None else [int(size) for size in sizes]
    if len(set(sizes)) < LEAST_SCALES or min(sizes) < 2:
        raise CifakeError(f"A slope needs at least {LEAST_SCALES} different block sizes from 2 up; got {sizes}.")
    low, high = surfaces.amin((-2, -1), keepdim=True), surfaces.amax((-2, -1), keepdim=True)
    spread = torch.where(high > low, high - low, 1)
    heights = (surfaces - low) / spread * min(surfaces.shape[-2:])
    flat = heights.reshape(-1, 1, *heights.shape[-2:])
    counts = []
    for size in sizes:
        top = F.max_pool2d(flat, size, ceil_mode=True)
        bottom = -F.max_pool2d(-flat, size, ceil_mode=True)
        counts.append(((top / size).ceil() - (bottom / size).ceil() + 1).sum((1, 2, 3)))
    dimensions = -_slope(torch.stack(counts, -1).log(), sizes)
    return _returned(dimensions.reshape(surfaces.shape[:-2]), gray)


def variogram_dimension(
    gray: np.ndarray | torch.Tensor, lags: Sequence[int] | None = None
) -> float | np.ndarray | torch.Tensor:
    """Return the dimension of a grey surface from how fast its increments grow with distance: 3 − H.

    The mean squared difference of pixels d apart, along rows and columns, grows as d^(2 H) on a fractional Brownian
    surface (Mandelbrot & van Ness, 1968; Gneiting, Ševčíková & Percival, *Estimators of fractal dimension*, 2012).
    Nothing clips the result: white noise gives 3, a smooth surface 2, a periodic one may fall outside.

    Parameters
    ----------
    gray : np.ndarray or torch.Tensor
        Shape (…, H, W).
    lags : sequence of int, optional
        Distances in pixels, at least three different ones; default: 1, 2, 4 and, from 32 pixels on, 8.

    Returns
    -------
    float, or np.ndarray or torch.Tensor of shape (…,)
        One number for one surface. A constant surface has dimension 2.

    Raises
    ------
    CifakeError
        A surface that is too small for its lags, not finite or without two dimensions; fewer than three lags.
    """
    surfaces = _as_surfaces(gray, 8 if lags is None else 2)
    lags = _default_lags(*surfaces.shape[-2:]) if lags is None else [int(lag) for lag in lags]
    if len(set(lags)) < LEAST_SCALES or min(lags) < 1 or max(lags) >= min(surfaces.shape[-2:]):
        raise CifakeError(
            f"A slope needs at least {LEAST_SCALES} different lags, each from 1 to less than the shorter side of "
            f"{min(surfaces.shape[-2:])} pixels; got {lags}."
        )
    return _returned(_variogram(surfaces, lags), gray)


def _default_lags(height: int, width: int) -> list[int]:
    return [1, 2, 4, 8] if min(height, width) >= 32 else [1, 2, 4]


def _variogram(surfaces: torch.Tensor, lags: Sequence[int]) -> torch.Tensor:
    squares = torch.stack(
        [
            (surfaces[..., lag:, :] - surfaces[..., :-lag, :]).square().mean((-2, -1))
            + (surfaces[..., lag:] - surfaces[..., :-lag]).square().mean((-2, -1))
            for lag in lags
        ],
        -1,
    )
    varies = (squares > 0).all(-1)
    logs = torch.where(varies[..., None], squares, 1).log()
    return torch.where(varies, 3 - _slope(logs, lags) / 2, 2)


def local_dimensions(gray: np.ndarray | torch.Tensor, window: int = 11) -> np.ndarray | torch.Tensor:
    """Return the variogram dimension of every square window of a grey surface: how rough it is where.

    Lags 1, 2 and 4. On 32×32 pixels of white noise (dimension 3) the map scatters by 0.04 around 3.0, on other
    surfaces by more. A constant window has dimension 2.

    Parameters
    ----------
    gray : np.ndarray or torch.Tensor
        Shape (…, H, W).
    window : int
        Side of a window in pixels, at least 8.

    Returns
    -------
    np.ndarray or torch.Tensor
        Shape (…, H − window + 1, W − window + 1), of the kind that ``gray`` is: only windows that fit into the image.

    Raises
    ------
    CifakeError
        A window below 8, a surface smaller than a window, not finite or without two dimensions.
    """
    if window < 8:
        raise CifakeError(f"A window of {window} pixels is too small for lags 1, 2 and 4; it needs at least 8.")
    windows = _as_surfaces(gray, window).unfold(-2, window, 1).unfold(-2, window, 1)
    return _returned(_variogram(windows, [1, 2, 4]), gray)


class FractalDimension(nn.Module):
    """Box-counting dimension of every channel of a batch of feature maps (section *fractal dimension layer*).

    (N, C, H, W) to float32 (N, C), or (N, 2 C) with the variogram dimension of every channel behind. A pixel belongs
    to the set where its channel exceeds a threshold of its own: softly, sigmoid((x − threshold) / (scale ·
    temperature)), so that gradients flow, or hard. Boxes do not overlap; a box is as occupied as its most occupied
    pixel. Fewer than one occupied box counts as one, so that an empty map has dimension 0, as a point has.

    ``threshold`` and ``scale``, float32 (C,), are the mean and standard deviation of each channel over *training*
    images: buffers, set once by `fit` and saved with the model. So an image's output never depends on its batch-mates.
    Before `fit` they are 0 and 1: right for maps that are standardised already.

    Parameters
    ----------
    channels : int
        C.
    temperature : float
        In standard deviations of a channel; smaller is nearer to hard counting and lets fewer pixels pass a gradient.
    hard : bool
        Count boxes exactly; no gradient.
    variogram : bool
        Append the variogram dimensions of the maps.

    Raises
    ------
    CifakeError
        From ``forward``: maps of another number of channels, or with fewer than three box sizes (under 8×8).
    """

    def __init__(
        self, channels: int, *, temperature: float = 0.02, hard: bool = False, variogram: bool = False
    ) -> None:
        super().__init__()
        if not temperature > 0:
            raise CifakeError(
                f"A temperature of {temperature} is none; it must be above 0. For hard counting: hard=True."
            )
        self.temperature, self.hard, self.variogram = temperature, hard, variogram
        self.register_buffer("threshold", torch.zeros(channels))
        self.register_buffer("scale", torch.ones(channels))

    def options(self) -> dict:
        """Return what the dimensions depend on besides the thresholds: JSON types."""
        return {"temperature": self.temperature, "hard": self.hard, "variogram": self.variogram}

    @torch.no_grad()
    def fit(self, batches: Iterable[torch.Tensor]) -> "FractalDimension":
        """Take mean and standard deviation of every channel from batches (N, C, H, W) of training maps."""
        count, total, squares = 0, 0.0, 0.0
        for maps in batches:
            self._check(maps)
            values = maps.double()
            count += values[:, 0].numel()
            total = total + values.sum((0, 2, 3))
            squares = squares + values.square().sum((0, 2, 3))
        if not count:
            raise CifakeError("There is no training map to take thresholds from.")
        mean = total / count
        deviation = (squares / count - mean.square()).clamp_min(0).sqrt()
        self.threshold.copy_(mean)
        self.scale.copy_(torch.where(deviation > 1e-6, deviation, 1))  # a channel that never varies stays finite
        return self

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        self._check(maps)
        sizes = default_sizes(*maps.shape[-2:])
        with torch.autocast(maps.device.type, enabled=False):  # bfloat16 has too few digits for counts
            maps = maps if maps.dtype == torch.float64 else maps.float()
            excess = (maps - self.threshold[:, None, None]) / self.scale[:, None, None]
            occupied = (excess > 0).to(maps.dtype) if self.hard else (excess / self.temperature).sigmoid()
            counts = [occupied.sum((2, 3))]
            for _ in sizes[1:]:
                occupied = F.max_pool2d(occupied, 2, ceil_mode=True)
                counts.append(occupied.sum((2, 3)))
            dimensions = -_slope(torch.stack(counts, -1).clamp_min(1).log(), sizes)
            if self.variogram:
                dimensions = torch.cat([dimensions, _variogram(excess, _default_lags(*maps.shape[-2:]))], 1)
            return dimensions

    def _check(self, maps: torch.Tensor) -> None:
        if maps.ndim != 4 or maps.shape[1] != len(self.threshold):
            raise CifakeError(
                f"This layer takes maps (N, {len(self.threshold)}, H, W); it got shape {tuple(maps.shape)}."
            )
        if min(maps.shape[-2:]) < 2**LEAST_SCALES:
            raise CifakeError(
                f"Maps of {maps.shape[-2]}×{maps.shape[-1]} pixels have no fractal dimension: a slope needs "
                f"{LEAST_SCALES} box sizes, hence at least 8×8 pixels. ResNet50 at 32×32 ends in maps of 4×4, 2×2 and "
                "1×1; take the maps of the stem (16×16) or of layer1 (8×8)."
            )
