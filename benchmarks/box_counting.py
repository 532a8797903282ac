"""Accuracy and speed of box counters, fractal layer and the widgets of lessons 02 and 02b, side by side."""

import time
from collections.abc import Iterable
from itertools import repeat
from statistics import median

import numpy as np
import porespy
import torch

from benchmarks.measuring import seconds
from cifake_utils import data, fractal
from cifake_utils.features import BATCH_SIZE
from cifake_utils.lessons import fractal_widgets, shapes
from cifake_utils.models import Backbone


def plain_counts(mask: np.ndarray, sizes: list[int]) -> list[int]:
    """Count box by box in a Python loop."""
    height, width = mask.shape
    return [
        sum(
            mask[top : top + size, left : left + size].any()
            for top in range(0, height, size)
            for left in range(0, width, size)
        )
        for size in sizes
    ]


def accuracy() -> list[dict]:
    rows = []
    for name in shapes.SHAPES:
        shape = shapes.draw(name)
        rows.append(
            {
                "set": name,
                "pixels": max(shape.mask.shape),
                "dimension": shape.dimension,
                "matched": fractal.box_counting_dimension(shape.mask, shape.sizes),
                "default": fractal.box_counting_dimension(shape.mask),
            }
        )
    for hurst in (0.2, 0.4, 0.6, 0.8):
        surfaces = np.stack([shapes.fractional_brownian_surface(256, hurst, seed) for seed in range(5)])
        rows.append(
            {
                "set": f"fractional Brownian surface, H = {hurst} (mean of five)",
                "pixels": 256,
                "dimension": 3 - hurst,
                "variogram": float(fractal.variogram_dimension(surfaces).mean()),
                "differential": float(fractal.differential_box_counting_dimension(surfaces).mean()),
            }
        )
    return rows


def powers_of_two(height: int, width: int) -> list[int]:
    """Return the usual box sizes: from 1 to half the shorter side."""
    return [2**power for power in range(min(height, width).bit_length() - 1)]


def disc(side: int) -> np.ndarray:
    rows, columns = np.mgrid[:side, :side] - (side - 1) / 2
    return rows**2 + columns**2 <= (side / 2) ** 2


def errors(masks: Iterable[np.ndarray], dimensions: Iterable[float]) -> dict:
    """Return how far both choices of box sizes are off: the largest error and the root mean square of all."""
    pairs = list(zip(masks, dimensions, strict=False))
    result = {"maps": len(pairs)}
    for name, sizes in (("default", fractal.default_sizes), ("powers of two", powers_of_two)):
        off = [fractal.box_counting_dimension(mask, sizes(*mask.shape)) - dimension for mask, dimension in pairs]
        result[name] = {"largest": np.abs(off).max(), "root mean square": np.square(off).mean() ** 0.5}
    return result


def border() -> dict[str, dict]:
    """What boxes that stick out at the border do: on filled maps of any size, and on all sets at every level."""
    squares = (np.ones((side, side), bool) for side in range(16, 301))
    oblongs = (np.ones((height, width), bool) for height in range(16, 65) for width in range(height, 129))
    long = (np.ones((height, 300), bool) for height in range(16, 300))
    sets = [
        function(level)
        for name, (function, most) in shapes.SHAPES.items()
        for level in range(1, most + 1)
        if name != "dragon" or (level % 2 and level >= 13)
    ]
    sets = [shape for shape in sets if min(shape.mask.shape) >= 16 and shape.mask.any()]
    return {
        "filled squares, 16 to 300 pixels": errors(squares, repeat(2)),
        "filled oblongs, 16 to 64 by 16 to 128 pixels": errors(oblongs, repeat(2)),
        "filled oblongs, 16 to 299 by 300 pixels": errors(long, repeat(2)),
        "filled discs, 16 to 63 pixels": errors(map(disc, range(16, 64)), repeat(2)),
        "filled discs, 64 to 300 pixels": errors(map(disc, range(64, 301)), repeat(2)),
        "all sets at every level from 16 pixels": errors(
            (shape.mask for shape in sets), [shape.dimension for shape in sets]
        ),
    }


def counters() -> list[dict]:
    rows, generator = [], np.random.default_rng(0)
    for label, shape, sizes in (
        ("1 mask of 1024×1024", (1, 1024, 1024), [2**k for k in range(1, 10)]),
        ("4,096 masks of 32×32", (4096, 32, 32), [2, 4, 8, 16]),
    ):
        masks = generator.random(shape) < 0.1
        masks[..., ::2] = False  # porespy leaves out boxes that are full; here none is
        ways = {
            "ours": lambda masks=masks, sizes=sizes: fractal.box_counts(masks, sizes),
            "NumPy loop": lambda masks=masks, sizes=sizes: [plain_counts(mask, sizes) for mask in masks],
            "porespy": lambda masks=masks, sizes=sizes: [porespy.metrics.boxcount(m, sizes).count for m in masks],
        }
        ours = ways["ours"]()
        for call in ways.values():
            assert np.array_equal(np.array(call()), ours)
        rows.append({"task": label} | {way: seconds(call) for way, call in ways.items()})
    return rows


@torch.inference_mode()
def layer(images: int = BATCH_SIZE) -> dict:
    backbone = Backbone().eval().to(memory_format=torch.channels_last)
    batch = torch.randn(images, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    maps = backbone(batch)
    layers = {stage: fractal.FractalDimension(maps[stage].shape[1]).fit([maps[stage]]) for stage in ("stem", "layer1")}
    forward = seconds(lambda: backbone(batch))
    return {"backbone": forward / images} | {
        stage: seconds(lambda stage=stage: layers[stage](maps[stage])) / images for stage in layers
    }


def growth() -> list[dict]:
    masks = {side: torch.rand(side, side) < 0.1 for side in (512, 1024, 2048, 4096)}
    return [
        {
            "side": side,
            "nanoseconds a pixel": 1e9 * seconds(lambda m=m: fractal.box_counts(m, [1, 2, 4, 8, 16])) / side**2,
        }
        for side, m in masks.items()
    ]


def moved(box, moves: dict[str, list]) -> dict[str, float]:
    """Return the median seconds of kernel time of setting each slider, by its description, to each value in turn."""
    controls = {control.description: control for control in box.children[:-2]}
    result = {}
    for name, values in moves.items():
        times = []
        for value in values:
            start = time.perf_counter()
            controls[name].value = value
            times.append(time.perf_counter() - start)
        result[name] = median(times)
    return result


def redraws() -> dict[str, dict[str, float]]:
    explorer = fractal_widgets.box_counting_explorer()
    results = {"explorer, Koch curve": moved(explorer, {"box size": fractal_widgets.BOX_SIZES})}
    explorer.children[0].value = "astronaut"
    sizes, thresholds = fractal_widgets.BOX_SIZES, np.arange(0.05, 0.9, 0.05)
    results["explorer, photograph"] = moved(explorer, {"box size": sizes, "threshold": thresholds})
    layers = {stage: fractal.FractalDimension(channels) for stage, channels in (("stem", 64), ("layer1", 256))}
    inside = fractal_widgets.inside_the_network(Backbone().eval(), layers, data.load())
    channels, thresholds = range(1, 60), np.arange(-1.9, 2, 0.1)
    results["inside the network"] = moved(inside, {"channel": channels, "threshold": thresholds})
    return results


def measure() -> dict:
    torch.manual_seed(0)
    parts = (accuracy, border, counters, layer, growth, redraws)
    return {"porespy": porespy.__version__} | {part.__name__: part() for part in parts}
