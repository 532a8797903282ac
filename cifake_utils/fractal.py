"""Estimate the fractal dimension of sets, of grey surfaces and of feature maps.

Box counting measures how the number of boxes that a set touches grows as the boxes become smaller.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from math import inf, isqrt
from numbers import Real
from operator import or_
from typing import Literal, overload

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from cifake_utils import CifakeError

LEAST_SCALES = 3
Array = np.ndarray | torch.Tensor | Sequence


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _whole_numbers(values: Sequence[int], what: str, least: int, most: float = inf, count: int = 1) -> list[int]:
    """Return sizes, lags and similar values as a list of int; raise a `CifakeError` if they are not valid."""
    try:
        given: list = list(values.tolist() if isinstance(values, np.ndarray | torch.Tensor) else values)
    except TypeError:  # a single number or None
        given = [None]
    numbers = [v for v in given if _is_number(v) and least <= v <= most]
    whole = {int(v) for v in numbers if v % 1 == 0}
    if len(whole) < max(count, len(given)):
        end = "up" if most == inf else f"to {most}"
        raise CifakeError(
            f"Found {what} {values!r}. Expected whole numbers from {least} {end}, {count} or more of them, none twice."
        )
    return [int(v) for v in given]


def _as_tensor(array: Array, what: str, least: int) -> torch.Tensor:
    """Return numbers (…, H, W) as a tensor.

    Raises `CifakeError` for other values, values that are not finite, and sides shorter than ``least``. An array is
    copied if torch can't use it (a foreign byte order, negative strides) or would warn (read-only memory).
    """
    if isinstance(array, torch.Tensor):
        tensor = array
    else:
        try:
            values = np.asarray(array)
        except ValueError:  # rows of different lengths
            values = np.empty(0, object)
        if values.dtype.kind not in "biuf":
            raise CifakeError(f"A {what} needs numbers in rows of one length; found values of type {values.dtype}.")
        long = values.dtype.kind == "f" and values.itemsize > 8
        kind = np.dtype(np.float64) if long else values.dtype.newbyteorder("=")
        steps_fit = all(step >= 0 and step % values.itemsize == 0 for step in values.strides)
        values = values.astype(kind, copy=not (steps_fit and values.flags.writeable))
        tensor = torch.from_numpy(values)
    if tensor.ndim < 2 or min(tensor.shape[-2:]) < least:
        raise CifakeError(
            f"A {what} needs shape (…, H, W), H and W at least {least}; this one has shape {tuple(tensor.shape)}."
        )
    if tensor.is_complex():
        raise CifakeError(f"A {what} needs real numbers; these are complex.")
    if tensor.is_floating_point() and tensor.numel():
        if not torch.stack(tensor.aminmax()).isfinite().all():  # NaN or infinity shows in the extremes
            raise CifakeError(f"The {what} holds values that are not finite (NaN or infinity).")
    return tensor


@dataclass(frozen=True)
class BoxCountingFit:
    """A straight line through log N against log 1/ε.

    Attributes
    ----------
    dimension, intercept : float
        Slope and intercept of the line, for natural logarithms.
    sizes, counts : list of int
        Box sizes ε in pixels, and numbers N of boxes that the set touches.
    r_squared : float
        Share of the variance of log N that the line explains. It is 1 for a point, whose counts do not vary.
    """

    dimension: float
    intercept: float
    sizes: list[int]
    counts: list[int]
    r_squared: float


def box_counts(mask: Array, sizes: Sequence[int], *, offsets: int = 1) -> np.ndarray | torch.Tensor:
    """Count the boxes of each size that contain a part of the set (equation 1 of the paper).

    The grid starts at the upper left corner. Boxes that extend beyond the border count like any other box.

    Parameters
    ----------
    mask : np.ndarray, torch.Tensor or nested lists
        Shape (…, H, W), numbers of any type, on any device. Pixels that are not zero belong to the set.
    sizes : sequence of int
        Side lengths of the boxes in pixels, from 1 to the longer side of the mask, in any order, without duplicates.
    offsets : int
        Number of grid positions to try along each axis, from 1 to the longer side, evenly spaced over a box. The
        smallest count is returned, because the definition asks for the smallest cover, and a single grid may cut the
        set into more boxes than necessary.

    Returns
    -------
    np.ndarray or torch.Tensor
        int64, shape (…, len(sizes)); a tensor if ``mask`` is a tensor.

    Raises
    ------
    CifakeError
        The mask has fewer than two dimensions or values that are not finite; there is no size; a size or the number of
        offsets is not a whole number in its range.
    """
    whole = _as_tensor(mask, "mask", 1).bool()
    sizes = _whole_numbers(sizes, "box sizes", 1, max(whole.shape[-2:]))
    (offsets,) = _whole_numbers([offsets], "number of grid offsets", 1, max(whole.shape[-2:]))
    if offsets > 1:
        counts = [_smallest_count(whole, size, offsets) for size in sizes]
    else:
        occupied = {1: whole}
        for size in sorted({*sizes} - {1}):
            finer = max(done for done in occupied if size % done == 0)  # smaller boxes make up the larger ones
            occupied[size] = _coarsen(occupied[finer], size // finer)
        counts = [_count(occupied[size]) for size in sizes]
    counts = torch.stack(counts, -1)
    return counts if isinstance(mask, torch.Tensor) else counts.numpy()


def _smallest_count(occupied: torch.Tensor, size: int, offsets: int) -> torch.Tensor:
    """Return the smallest number of occupied boxes over grids that start up to one box before the mask."""
    starts = sorted({size * step // offsets for step in range(offsets)})
    grids = (F.pad(occupied, (left, 0, top, 0)) for top in starts for left in starts)
    return torch.stack([_count(_coarsen(grid, size)) for grid in grids]).amin(0)


def _count(occupied: torch.Tensor) -> torch.Tensor:
    """Return how many pixels of each mask are True, (…, H, W) to int64 (…,).

    It counts in bands of rows, because torch sums booleans through an int64 copy, which should fit into the cache.
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


def _powers_of_two(height: int, width: int) -> list[int]:
    """Return the powers of two from 1 to half the shorter side; raise a `CifakeError` if there are fewer than three."""
    shorter = min(height, width)
    sizes = [2**power for power in range(shorter.bit_length()) if 2**power <= shorter // 2]
    if len(sizes) < LEAST_SCALES:
        raise CifakeError(
            f"A map of {height}×{width} pixels has {len(sizes)} box sizes between 1 and half its side; a slope that "
            f"means anything needs {LEAST_SCALES}. The shorter side must have at least {2**LEAST_SCALES} pixels."
        )
    return sizes


def default_sizes(height: int, width: int) -> list[int]:
    """Return box sizes that suit a map: for each power of two, from 1 to half the shorter side, the best size near it.

    Sizes within a factor of √2 of the power are considered. The best one is the size whose boxes, laid over the whole
    map, cover the least area outside of it. Of several equally good sizes the one nearest to the power is taken. On
    maps whose sides are powers of two, these are the powers themselves.

    Boxes that extend beyond the border count as whole boxes. With powers of two alone this bends the line. For example,
    nine boxes of 16 pixels are needed for a filled square of 33 pixels, where four nearly suffice, and its slope is
    1.74. With the sizes from here, filled maps of at least 16 pixels a side have a dimension within 0.05 of 2 if they
    are squares, and within 0.14 if they are other rectangles. Filled discs are within 0.18, and within 0.1 from 64
    pixels on. (No whole sizes bring the disc of 17 pixels nearer than 0.16.) The sets of `shapes`, at every level from
    16 pixels on, have a root mean square error of 0.037, and of 0.128 with powers of two. `benchmarks/box_counting.py`
    measured these numbers.

    Raises
    ------
    CifakeError
        A side is not a whole number, or the shorter side has fewer than 8 pixels, which leaves fewer than three sizes.
    """
    height, width = (_whole_numbers([side], "side of a map", 1)[0] for side in (height, width))

    def misfit(size: int, power: int) -> tuple[int, float]:
        return -(-height // size) * -(-width // size) * size**2, max(size / power, power / size)

    near = {power: range(isqrt(power**2 // 2) + 1, isqrt(2 * power**2) + 1) for power in _powers_of_two(height, width)}
    return [min(sizes, key=partial(misfit, power=power)) for power, sizes in near.items()]


@overload
def box_counting_dimension(
    mask: Array, sizes: Sequence[int] | None = None, *, return_fit: Literal[False] = False
) -> float: ...
@overload
def box_counting_dimension(
    mask: Array, sizes: Sequence[int] | None = None, *, return_fit: Literal[True]
) -> BoxCountingFit: ...
def box_counting_dimension(
    mask: Array, sizes: Sequence[int] | None = None, *, return_fit: bool = False
) -> float | BoxCountingFit:
    """Return the box-counting dimension of a set: the slope of log N over log 1/ε (equation 2 of the paper).

    The slope is fitted by least squares over all sizes. It is 0 for a single point.

    Parameters
    ----------
    mask : np.ndarray, torch.Tensor or nested lists
        Shape (H, W), numbers of any type. Pixels that are not zero belong to the set.
    sizes : sequence of int, optional
        Box sizes in pixels, at least three different ones from 1 to the longer side; default: `default_sizes`.
    return_fit : bool
        Whether to return a `BoxCountingFit`, which also holds the points and the quality of the fit.

    Raises
    ------
    CifakeError
        The set is empty; the mask is not two-dimensional or has values that are not finite; there are fewer than three
        sizes, or a size is not a whole number in its range.
    """
    whole = _as_tensor(mask, "mask", 1).cpu()
    if whole.ndim != 2:
        raise CifakeError(f"One dimension needs one mask of shape (H, W); this one has shape {tuple(whole.shape)}.")
    if sizes is None:
        sizes = default_sizes(*whole.shape)
    sizes = _whole_numbers(sizes, "box sizes", 1, max(whole.shape), LEAST_SCALES)
    counts = np.asarray(box_counts(whole, sizes))
    if not counts.any():
        raise CifakeError(
            "The set is empty: no pixel of the mask differs from zero, and an empty set has no dimension."
        )
    x, y = -np.log(sizes), np.log(counts)
    slope, intercept = np.polyfit(x, y, 1)
    spread = ((y - y.mean()) ** 2).sum()
    r_squared = 1 - ((y - slope * x - intercept) ** 2).sum() / spread if spread else 1.0
    if not return_fit:
        return float(slope)
    return BoxCountingFit(float(slope), float(intercept), sizes, counts.tolist(), float(r_squared))


def _slope(values: torch.Tensor, sizes: Sequence[int]) -> torch.Tensor:
    """Return the least-squares slope of ``values`` (…, K) over the logarithms of the K sizes: (…,)."""
    x = torch.tensor(sizes, dtype=values.dtype, device=values.device).log()
    x = x - x.mean()
    return values @ (x / x.square().sum())


def _slope_of_some(values: torch.Tensor, sizes: Sequence[int], chosen: torch.Tensor) -> torch.Tensor:
    """Return the least-squares slope over the chosen sizes (bool, shape of ``values``); 0 for fewer than three."""
    x = torch.tensor(sizes, dtype=values.dtype, device=values.device).log()
    count = chosen.sum(-1, keepdim=True)
    x = (x - (x * chosen).sum(-1, keepdim=True) / count.clamp_min(1)) * chosen
    enough = count[..., 0] >= LEAST_SCALES
    return torch.where(enough, (values * x).sum(-1) / torch.where(enough, x.square().sum(-1), 1), 0)


def _as_surfaces(gray: Array, least: int) -> torch.Tensor:
    """Return grey surfaces (…, H, W) as float32 or float64, so that their differences are exact or nearly exact.

    64-bit integers have more digits than floats, so the minimum of their surface is subtracted first. Squares of very
    large or small differences exceed the range of floats, so such surfaces are scaled. This changes no estimate.
    """
    surfaces = _as_tensor(gray, "grey surface", least)
    if not surfaces.numel():
        return surfaces if surfaces.dtype == torch.float64 else surfaces.float()
    if surfaces.dtype == torch.uint64:
        surfaces = surfaces.view(torch.int64) ^ -(2**63)  # in the same order, below 0 what was below 2⁶³
    if surfaces.dtype == torch.int64:
        above = (surfaces - surfaces.amin((-2, -1), keepdim=True)).double()
        surfaces = torch.where(above < 0, above + 2.0**64, above)  # differences beyond 2⁶³ come out as negative
    elif surfaces.dtype != torch.float64:
        surfaces = surfaces.double() if surfaces.dtype in (torch.int32, torch.uint32) else surfaces.float()
    half = surfaces.amax((-2, -1), keepdim=True) / 2 - surfaces.amin((-2, -1), keepdim=True) / 2
    extreme = (half > 0) & ((half < 2.0**-40) | (half > 2.0**40))
    return surfaces / torch.where(extreme, half, 1) if extreme.any() else surfaces


def _returned(values: torch.Tensor, like: Array) -> float | np.ndarray | torch.Tensor:
    if values.ndim == 0:
        return values.item()
    return values if isinstance(like, torch.Tensor) else values.numpy()


def differential_box_counting_dimension(
    gray: Array, sizes: Sequence[int] | None = None
) -> float | np.ndarray | torch.Tensor:
    """Return the dimension of a grey surface by differential box counting: 2 (smooth) to 3 (rough).

    Over each s×s block the surface passes through ⌈max / h⌉ − ⌈min / h⌉ + 1 boxes of height h. Grey values are
    stretched to the shorter side of the image. So boxes are cubes, h = s, and brightness and contrast have no
    influence. Blocks that extend beyond the border count by the share of them that lies inside. The method
    underestimates rough surfaces (`benchmarks/box_counting.json`).

    Sarkar & Chaudhuri, *An efficient differential box-counting approach to compute fractal dimension of image*, IEEE
    Trans. SMC 24 (1994).

    Parameters
    ----------
    gray : np.ndarray, torch.Tensor or nested lists
        Shape (…, H, W), numbers of any type.
    sizes : sequence of int, optional
        Block sizes in pixels: at least three different ones, from 2 to the shorter side; default: `default_sizes`
        without 1.

    Returns
    -------
    float, or np.ndarray or torch.Tensor of shape (…,)
        One number for one surface. A constant surface has dimension 2.

    Raises
    ------
    CifakeError
        The surface is too small, has fewer than two dimensions or values that are not finite; there are fewer than
        three sizes, or a size is not a whole number in its range.
    """
    surfaces = _as_surfaces(gray, 2 ** (LEAST_SCALES + 1) if sizes is None else 2)
    height, width = surfaces.shape[-2:]
    if sizes is None:
        sizes = default_sizes(height, width)[1:]
    sizes = _whole_numbers(sizes, "block sizes", 2, min(height, width), LEAST_SCALES)
    low, high = surfaces.amin((-2, -1), keepdim=True), surfaces.amax((-2, -1), keepdim=True)
    spread = torch.where(high > low, high - low, 1)
    heights = (surfaces - low) / spread * min(height, width)
    flat = heights.reshape(-1, 1, height, width)
    counts = []
    for size in sizes:
        top = F.max_pool2d(flat, size, ceil_mode=True)
        bottom = -F.max_pool2d(-flat, size, ceil_mode=True)
        boxes = ((top / size).ceil() - (bottom / size).ceil() + 1).sum((1, 2, 3))
        counts.append(boxes * (height * width / (size**2 * top.shape[-2] * top.shape[-1])))
    dimensions = -_slope(torch.stack(counts, -1).log(), sizes)
    return _returned(dimensions.reshape(surfaces.shape[:-2]), gray)


def variogram_dimension(gray: Array, lags: Sequence[int] | None = None) -> float | np.ndarray | torch.Tensor:
    """Return the dimension of a grey surface, 3 − H, from the growth of its increments with distance.

    The mean squared difference of pixels d apart, along rows and columns, grows as d^(2 H) on a fractional Brownian
    surface (Mandelbrot & van Ness, 1968; Gneiting, Ševčíková & Percival, *Estimators of fractal dimension*, 2012).
    White noise gives 3 and a smooth surface 2. The result is not clipped: for a periodic surface it may lie outside.

    A surface that repeats itself after d pixels has no increments at the lag d, and so no logarithm. The slope is then
    fitted to the other lags. If fewer than three are left, the increments stop growing within a few pixels, like those
    of noise, and the result is 3. Examples are a checkerboard and stripes of one pixel.

    Parameters
    ----------
    gray : np.ndarray, torch.Tensor or nested lists
        Shape (…, H, W), numbers of any type.
    lags : sequence of int, optional
        Distances in pixels: at least three different ones, all less than the shorter side. The default is 1, 2 and 4,
        and also 8 from 32 pixels on.

    Returns
    -------
    float, or np.ndarray or torch.Tensor of shape (…,)
        One number for one surface. A constant surface has dimension 2.

    Raises
    ------
    CifakeError
        The surface is too small, has fewer than two dimensions or values that are not finite; there are fewer than
        three lags, or a lag is not a whole number in its range.
    """
    surfaces = _as_surfaces(gray, 8 if lags is None else 2)
    shorter = min(surfaces.shape[-2:])
    if lags is None:
        lags = _default_lags(*surfaces.shape[-2:])
    lags = _whole_numbers(lags, "lags", 1, shorter - 1, LEAST_SCALES)
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
    varies = squares > 0
    logs = torch.where(varies, squares, 1).log()
    dimensions = 3 - _slope(logs, lags) / 2
    smooth = surfaces.amax((-2, -1)) == surfaces.amin((-2, -1))
    return torch.where(varies.all(-1), dimensions, torch.where(smooth, 2, 3 - _slope_of_some(logs, lags, varies) / 2))


@overload
def local_dimensions(gray: torch.Tensor, window: int = 11) -> torch.Tensor: ...
@overload
def local_dimensions(gray: np.ndarray | Sequence, window: int = 11) -> np.ndarray: ...
def local_dimensions(gray: Array, window: int = 11) -> np.ndarray | torch.Tensor:
    """Return the variogram dimension of every square window of a grey surface, which shows how rough each part is.

    The lags are 1, 2 and 4. For white noise of 32×32 pixels, whose dimension is 3, the values scatter by 0.04 around
    3.0. For other surfaces they scatter more. A constant window has dimension 2.

    Parameters
    ----------
    gray : np.ndarray, torch.Tensor or nested lists
        Shape (…, H, W), numbers of any type.
    window : int
        Side of a window in pixels, from 8 to the shorter side.

    Returns
    -------
    np.ndarray or torch.Tensor
        Shape (…, H − window + 1, W − window + 1), for all windows that fit into the image; a tensor if ``gray`` is one.

    Raises
    ------
    CifakeError
        The window is not a whole number in its range; the surface is too small, has fewer than two dimensions or values
        that are not finite.
    """
    surfaces = _as_surfaces(gray, 8)
    (window,) = _whole_numbers([window], "side of a window", 8, min(surfaces.shape[-2:]))
    windows = surfaces.unfold(-2, window, 1).unfold(-2, window, 1)
    dimensions = _variogram(windows, [1, 2, 4])
    return dimensions if isinstance(gray, torch.Tensor) else dimensions.numpy()


class FractalDimension(nn.Module):
    """Box-counting dimension of every channel of a batch of feature maps (section *fractal dimension layer*).

    It maps (N, C, H, W) to float32 (N, C). A pixel belongs to the set if it exceeds the threshold of its channel. With
    the soft rule it belongs to the degree sigmoid((x − threshold) / (scale · temperature)), so that gradients flow.
    Boxes do not overlap, and a box is as occupied as its most occupied pixel. The box sizes are the powers of two up to
    half the shorter side, and max-pooling makes each size from the one before. Fewer than one occupied box counts as
    one, so that an empty map has dimension 0, like a point.

    ``threshold`` and ``scale``, float32 (C,), are the mean and the standard deviation of each channel over *training*
    images. They are buffers, which `fit` sets once and which are saved with the model. So the output for an image never
    depends on other images of its batch. Before `fit` they are 0 and 1, which suits standardised maps.

    Parameters
    ----------
    channels : int
        C.
    temperature : float
        In standard deviations of a channel. A smaller one is closer to hard counting, and fewer pixels pass a gradient.
    hard : bool
        Whether to count boxes exactly, without a gradient.

    Raises
    ------
    CifakeError
        The temperature is not above 0 and finite. In ``forward``: the maps have another number of channels, or are
        smaller than 8×8, which leaves fewer than three box sizes.
    """

    threshold: torch.Tensor
    scale: torch.Tensor

    def __init__(self, channels: int, *, temperature: float = 0.02, hard: bool = False) -> None:
        super().__init__()
        if not 0 < temperature < inf:
            raise CifakeError(
                f"The temperature is {temperature}. Expected a finite number above 0. For hard counting, set hard=True."
            )
        self.temperature, self.hard = temperature, hard
        self.register_buffer("threshold", torch.zeros(channels))
        self.register_buffer("scale", torch.ones(channels))

    def options(self) -> dict:
        """Return what the dimensions depend on besides the thresholds, as JSON types."""
        # `variogram` is a former option. Recipes of existing runs contain it, so they would no longer match without it.
        return {"temperature": self.temperature, "hard": self.hard, "variogram": False}

    @torch.no_grad()
    def fit(self, batches: Iterable[torch.Tensor]) -> "FractalDimension":
        """Set threshold and scale of every channel from batches (N, C, H, W) of training maps, and return self.

        Raises `CifakeError` if there is no map, or if values are not finite or too large.
        """
        count, (total, squares) = 0, torch.zeros(2, *self.threshold.shape, device=self.threshold.device).double()
        for maps in batches:
            self._check(maps)
            values = maps.double()
            count += values[:, 0].numel()
            total = total + values.sum((0, 2, 3)).to(total.device)
            squares = squares + values.square().sum((0, 2, 3)).to(total.device)
        if not count:
            raise CifakeError(
                "There is no training map. Expected at least one batch of maps to take the thresholds from."
            )
        mean = total / count
        deviation = (squares / count - mean.square()).clamp_min(0).sqrt()
        if not deviation.isfinite().all():
            raise CifakeError("The training maps hold values that are not finite (NaN or infinity), or too large.")
        self.threshold.copy_(mean)
        self.scale.copy_(torch.where(deviation > 1e-6, deviation, 1))  # a channel that never varies stays finite
        return self

    def occupied(self, maps: torch.Tensor) -> torch.Tensor:
        """Return how occupied every pixel is, 0 to 1: (N, C, H, W) to the same shape."""
        maps = maps if maps.dtype == torch.float64 else maps.float()
        excess = (maps - self.threshold[:, None, None]) / self.scale[:, None, None]
        return (excess > 0).to(maps.dtype) if self.hard else (excess / self.temperature).sigmoid()

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        self._check(maps)
        sizes = _powers_of_two(*maps.shape[-2:])
        with torch.autocast(maps.device.type, enabled=False):  # bfloat16 has too few digits for counts
            occupied = self.occupied(maps)
            counts = [occupied.sum((2, 3))]
            for _ in sizes[1:]:
                occupied = F.max_pool2d(occupied, 2, ceil_mode=True)
                counts.append(occupied.sum((2, 3)))
            return -_slope(torch.stack(counts, -1).clamp_min(1).log(), sizes)

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


class OccupiedShare(FractalDimension):
    """Share of occupied pixels in every channel, 0 to 1: (N, C, H, W) to float32 (N, C).

    The control of `FractalDimension`. It sees the same maps through the same thresholds, but counts at the finest scale
    alone: boxes of one pixel. So it knows how many pixels belong to the set, and nothing of how they are arranged.
    """

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        self._check(maps)
        with torch.autocast(maps.device.type, enabled=False):
            return self.occupied(maps).mean((2, 3))
