"""The figures of lessons 02 and 02b that are too long for a notebook's cell."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure

from cifake_utils import fractal
from cifake_utils.lessons import shapes
from cifake_utils.lessons.fractal_widgets import boxes_drawn

MARKERS = "osD^v"


def covered(mask: np.ndarray, sizes: Sequence[int]) -> Figure:
    """Show a set (H, W) under boxes of each size in pixels, and how many boxes hold a part of it."""
    height, width = mask.shape
    figure, axes = plt.subplots(
        len(sizes), 1, figsize=(7, (7 * height / width + 0.4) * len(sizes)), squeeze=False, layout="constrained"
    )
    for panel, size, count in zip(axes[:, 0], sizes, fractal.box_counts(mask, sizes), strict=True):
        panel.imshow(boxes_drawn(mask, size), interpolation="antialiased")
        panel.set_title(f"boxes of {size} pixels: {count} hold a part of the coast", fontsize=12)
        panel.axis("off")
    return figure


def known_sets() -> Figure:
    """Show the sets of `shapes.SHAPES` that are not lines, squares or points. The titles give their dimensions."""
    names = [name for name in shapes.SHAPES if name not in ("filled square", "line", "point")]
    figure, axes = plt.subplots(2, 4, figsize=(10, 5.6), layout="constrained")
    for panel, name in zip(axes.flat, names, strict=True):
        shape = shapes.draw(name)
        # The dust of 729 pixels would be invisible, so it is drawn with fewer and larger grains.
        mask = shapes.self_similar(name, 4).mask if name == "Cantor dust" else shape.mask
        panel.imshow(mask, cmap="Greys", vmax=0.35, interpolation="nearest" if len(mask) < 100 else "antialiased")
        panel.set_title(f"{name}: {shape.dimension:.3f}", fontsize=12)
        panel.set(xticks=[], yticks=[])
    return figure


def soft_counts(values: torch.Tensor, temperatures: Sequence[float]) -> Figure:
    """Show how occupied every pixel is at each temperature, and which pixels can change the dimension.

    Parameters
    ----------
    values : torch.Tensor
        A map (H, W) with mean 0 and standard deviation 1. Its threshold is 0.
    temperatures : sequence of float
        In standard deviations.
    """
    figure, axes = plt.subplots(
        2, len(temperatures), figsize=(2.7 * len(temperatures), 5.4), squeeze=False, layout="constrained"
    )
    for column, temperature in zip(axes.T, temperatures, strict=True):
        layer = fractal.FractalDimension(1, temperature=temperature)
        pixels = values[None, None].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(layer(pixels).sum(), pixels)
        with torch.no_grad():
            column[0].imshow(layer.occupied(pixels)[0, 0].numpy(), cmap="Greys", vmin=0, vmax=1)
        column[1].imshow((gradient[0, 0].abs() > 1e-4).numpy(), cmap="Greys", vmin=0, vmax=1)
        column[0].set_title(f"T = {temperature:g}", fontsize=12)
        for panel in column:
            panel.set(xticks=[], yticks=[])
    axes[0, 0].set_ylabel("how occupied: 0 to 1", fontsize=12)
    axes[1, 0].set_ylabel("has a gradient", fontsize=12)
    return figure


def estimates(true: Sequence[float], measured: Mapping[str, Sequence[float]]) -> Figure:
    """Plot the estimates of each named estimator against the true dimensions. A good one lies on the dashed line."""
    figure, axes = plt.subplots(figsize=(5.6, 4.4), layout="constrained")
    axes.axline((2, 2), slope=1, color="0.6", linestyle="--", label="the truth")
    shades = np.linspace(0, 0.6, len(measured))
    for (name, values), marker, shade in zip(measured.items(), MARKERS, shades, strict=False):
        axes.plot(true, values, marker=marker, markersize=8, color=str(shade), label=name)
    axes.set(xlim=(2, 3), ylim=(2, 3), aspect="equal")
    axes.set_xlabel("dimension of the surfaces, 3 − H", fontsize=12)
    axes.set_ylabel("estimate, mean of five surfaces", fontsize=12)
    axes.legend(fontsize=11)
    return figure
