"""Figures of lesson 05: the set that a threshold makes of a feature map, its boxes, and what the dimension follows."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
import torch
from matplotlib.figure import Figure

_BLUE, _ORANGE = sns.color_palette("colorblind")[:2]


def sets(images: torch.Tensor, maps: torch.Tensor, threshold: float) -> Figure:
    """Show images, one channel of their maps, and in black the pixels above the threshold: a column for each image.

    Parameters
    ----------
    images : torch.Tensor
        uint8 (N, 3, H, W). The columns are called A, B, C, …
    maps : torch.Tensor
        Shape (N, H', W').
    threshold : float
    """
    figure, axes = plt.subplots(3, len(images), figsize=(2.3 * len(images), 6.9), squeeze=False, layout="constrained")
    scale = {"vmin": float(maps.min()), "vmax": float(maps.max())}
    for number, (column, image, values) in enumerate(zip(axes.T, images, maps, strict=True)):
        column[0].imshow(image.permute(1, 2, 0).numpy())
        column[1].imshow(values.numpy(), cmap="viridis", **scale)
        column[2].imshow((values > threshold).numpy(), cmap="Greys", vmin=0, vmax=1)
        column[0].set_title("ABCDEFGH"[number], fontsize=14)
        for panel in column:
            panel.set(xticks=[], yticks=[])
    for panel, name in zip(axes[:, 0], ("image", "channel", "above threshold"), strict=True):
        panel.set_ylabel(name, fontsize=13)
    return figure


def lines(counts: Mapping[str, Sequence[int]], sizes: Sequence[int]) -> Figure:
    """Plot the number of boxes against 1/ε with a fitted line, a panel for each named set, both axes logarithmic.

    A dotted line shows a map that is filled: its slope is 2, since its boxes are (H/ε)², with H twice the largest size.

    Parameters
    ----------
    counts : mapping of str to sequence of int
        Numbers of boxes, at least 1, in the order of ``sizes``.
    sizes : sequence of int
        Box sizes ε in pixels.
    """
    figure, axes = plt.subplots(
        1, len(counts), figsize=(3.1 * len(counts), 3.8), sharey=True, squeeze=False, layout="constrained"
    )
    places, filled = -np.log2(sizes), 2 * np.log2(2 * max(sizes) / np.asarray(sizes))
    for panel, (name, values) in zip(axes[0], counts.items(), strict=True):
        slope, start = np.polyfit(places, np.log2(values), 1)
        panel.plot(places, filled, ":", color="0.5", linewidth=2, label="filled map: slope 2")
        panel.plot(places, slope * places + start, "-", color=_ORANGE, linewidth=2, label="fitted line")
        panel.plot(places, np.log2(values), "o", color="black", markersize=8, label="counted")
        panel.set_title(f"{name}: slope {slope:.2f}", fontsize=14)
        panel.set_xticks(places, [f"1/{size}" if size > 1 else "1" for size in sizes], fontsize=12)
        panel.set_xlabel("1/ε (ε in pixels)", fontsize=13)
        panel.grid(color="0.9")
    ticks = range(int(filled.max()) + 1)
    axes[0, 0].set_yticks(ticks, [str(2**tick) for tick in ticks], fontsize=12)
    axes[0, 0].set_ylabel("number N of boxes", fontsize=13)
    axes[0, -1].legend(fontsize=10, loc="lower right")
    return figure


def following(share: np.ndarray, dimension: np.ndarray) -> Figure:
    """Plot the dimension of a channel against its share of occupied pixels, a point for each image.

    On maps of 8×8 pixels the dimension is ½ log₂(64 · share / N₄), with 1 to 4 boxes N₄ of 4×4 pixels. The two
    lines are the ends of this range.

    Parameters
    ----------
    share, dimension : np.ndarray
        Shape (N,).
    """
    figure, panel = plt.subplots(figsize=(6.4, 4), layout="constrained")
    grid = np.linspace(1 / 64, 1, 400)
    for boxes, style in ((1, "--"), (4, "-")):
        line = np.log2(np.maximum(64 * grid / boxes, 1)) / 2
        label = f"½ log₂(64 · share / {boxes})"
        panel.plot(grid, line, style, color=_ORANGE, linewidth=2, label=label)
    panel.plot(share, dimension, "o", color=_BLUE, markersize=4, alpha=0.35, label="one image")
    panel.set_xlabel("share of pixels above the threshold", fontsize=13)
    panel.set_ylabel("dimension", fontsize=13)
    panel.tick_params(labelsize=12)
    panel.legend(fontsize=11, loc="lower right")
    return figure
