"""Figures of lesson 04: features that drift although nothing learns, and where the tiles of the sample come from."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from cifake_utils import sample

_COLOURS = sns.color_palette("colorblind")
_STYLES = (("o", "-"), ("^", "--"), ("s", ":"))
LONGEST = 260  # pixels of a photograph's longer side in `strips`


def drift(batches: Sequence[int], changes: Mapping[str, Sequence[float]]) -> Figure:
    """Plot how far the features of the same images have moved, against the number of batches that have passed.

    Parameters
    ----------
    batches : sequence of int
        Numbers of batches, in rising order.
    changes : mapping of str to sequence of float
        For each way to freeze a network, at each of these numbers: length of the change divided by the length of the
        features at the start. At most three ways.
    """
    figure, axes = plt.subplots(figsize=(7, 3.4), layout="constrained")
    for (name, values), (marker, line), colour in zip(changes.items(), _STYLES, _COLOURS, strict=False):
        axes.plot(batches, [100 * value for value in values], line, marker=marker, color=colour, label=name)
    axes.set_xlabel("batches that have passed through", fontsize=12)
    axes.set_ylabel("change of the features (%)", fontsize=12)
    axes.set_xticks(batches)
    axes.set_ylim(bottom=-4)
    axes.tick_params(labelsize=11)
    axes.grid(axis="y", color="0.9")
    axes.legend(fontsize=11)
    return figure


def strips(names: Sequence[str] = ("coffee", "chelsea", "china")) -> Figure:
    """Show photographs of the embedded sample, with the strips from which the tiles of each split are cut.

    ``names`` are of `sample.PHOTOGRAPHS`. A photograph that its package does not ship raises a `CifakeError`.
    """
    figure, panels = plt.subplots(1, len(names), figsize=(3.4 * len(names), 2.7), squeeze=False, layout="constrained")
    for axes, name in zip(panels[0], names, strict=True):
        photo = sample.photograph(name)
        size = photo.size
        scale = LONGEST / max(size)
        small = photo.resize((round(size[0] * scale), round(size[1] * scale)), Image.Resampling.LANCZOS)
        axes.imshow(small, extent=(0, size[0], size[1], 0))
        for part, colour in zip(sample.REGIONS, _COLOURS, strict=False):
            left, top, right, bottom = sample.region(size, part)
            axes.add_patch(
                Rectangle((left, top), right - left, bottom - top, facecolor="none", edgecolor=colour, linewidth=4)
            )
            box = {"facecolor": "white", "edgecolor": colour, "boxstyle": "round,pad=0.2"}
            middle = ((left + right) / 2, (top + bottom) / 2)
            axes.text(*middle, part, ha="center", va="center", fontsize=11, bbox=box)
        axes.set_title(name, fontsize=12)
        axes.axis("off")
    return figure
