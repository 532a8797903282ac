"""Figures of lesson 06: what the terms of a loss do, and what becomes of their weights."""

from collections.abc import Mapping
from typing import Any, cast

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from cifake_utils.data import LABELS
from cifake_utils.lessons.plots import COLOURS, MARKERS
from cifake_utils.losses import WEIGHTS

GREEK = dict(zip(WEIGHTS, "αβγ", strict=True))
TERMS = {"cross_entropy": "cross-entropy", "similarity": "similarity", "penalty": "penalty"}
_COLOURS = sns.color_palette("colorblind")
# Thick lines below, thin ones above them, so that lines that lie on each other can still be told apart.
_STYLES: list[dict[str, Any]] = [
    {"color": _COLOURS[0], "linestyle": "-", "marker": "o", "linewidth": 4},
    {"color": _COLOURS[1], "linestyle": "--", "marker": "^", "linewidth": 2.2},
    {"color": _COLOURS[2], "linestyle": ":", "marker": "s", "linewidth": 2.2},
]
_LEGEND: dict[str, Any] = {
    "loc": "lower center",
    "bbox_to_anchor": (0.5, 1.02),
    "ncols": 3,
    "frameon": False,
    "fontsize": 11,
}


def paths(positions: np.ndarray, labels: np.ndarray) -> Figure:
    """Plot the ways of points in a plane, from open to filled markers.

    Parameters
    ----------
    positions : np.ndarray
        Shape (steps, N, 2).
    labels : np.ndarray
        Shape (N,), REAL = 0 and FAKE = 1.
    """
    figure, axes = plt.subplots(figsize=(5.2, 4), layout="constrained")
    for number, label in enumerate(labels.tolist()):
        name = LABELS[label]
        style = {"color": COLOURS[name], "marker": MARKERS[name], "markersize": 9}
        first = number == labels.tolist().index(label)
        axes.plot(*positions[:, number].T, color=COLOURS[name], linewidth=1.5)
        axes.plot(*positions[0, number], fillstyle="none", **style)
        axes.plot(*positions[-1, number], linestyle="", label=name if first else None, **style)
    axes.plot(0, 0, "+", color="black", markersize=14)
    axes.annotate("origin", (0, 0), (6, -14), textcoords="offset points", fontsize=11)
    axes.set(aspect="equal")
    axes.margins(0.12)
    _named(axes, "feature 1", "feature 2")
    axes.legend(**_LEGEND)
    return figure


def penalties(curves: Mapping[str, np.ndarray], p: np.ndarray) -> Figure:
    """Plot losses of a FAKE image, by name, against its P(FAKE) (N,)."""
    figure, axes = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
    for (name, curve), style in zip(curves.items(), _STYLES, strict=True):
        axes.plot(p, curve, label=name, **style | {"marker": ""})  # pyright: ignore[reportArgumentType]
    axes.axhline(0, color="0.8", linewidth=1, zorder=0)
    axes.set(ylim=(-0.8, 2.5), xlim=(0, 1))
    _named(axes, "P(FAKE) of a FAKE image", "loss (nats)")
    axes.legend(**_LEGEND)
    return figure


def weights(runs: Mapping[str, np.ndarray]) -> Figure:
    """Plot α, β and γ, shape (steps, 3), against the step: a panel for each named run."""
    size = (4.2 * len(runs), 3.6)
    figure, panels = plt.subplots(1, len(runs), figsize=size, squeeze=False, layout="constrained")
    for panel, (name, values) in zip(panels[0], runs.items(), strict=True):
        _weights(panel, values, np.arange(len(values)), markevery=max(1, len(values) // 6))
        panel.set_title(name, fontsize=12)
        _named(panel, "step", "")
    _named(panels[0, 0], "step", "weight of the term")
    handles, names = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=3, frameon=False, fontsize=12)
    return figure


def training(curves: dict, scale: str = "linear") -> Figure:
    """Plot a training with the combined loss (`training.History` as a dict): its terms, their weights, and validation.

    A dotted line marks the epoch whose weights were kept. ``scale`` is that of the weights' axis, ``"linear"`` or
    ``"log"``.
    """
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.9), layout="constrained")
    terms = curves["terms"]
    epochs = np.arange(1, len(curves["val_loss"]) + 1)
    for (name, shown), style in zip(TERMS.items(), _STYLES, strict=True):
        left.plot(epochs, terms[name], label=shown, **style)
    left.axhline(0, color="0.8", linewidth=1, zorder=0)
    _weights(middle, np.transpose([terms[name] for name in GREEK]), epochs)
    middle.set_yscale(scale)
    if scale == "log":
        ticks = [0.05, 0.1, 0.2, 0.4, 0.8]
        middle.set(ylim=(0.04, 1.2))
        middle.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        middle.minorticks_off()
    for name, key, style in (("cross-entropy", "val_loss", _STYLES[0]), ("error", "val_accuracy", _STYLES[1])):
        values = np.asarray(curves[key])
        right.plot(epochs, values if key == "val_loss" else 1 - values, label=name, **style)
    right.set(ylim=(0, None))
    for panel, title in ((left, "terms, training"), (middle, "their weights"), (right, "validation")):
        panel.set_title(title, fontsize=13, pad=30)
        panel.axvline(curves["best_epoch"] + 1, color="0.5", linestyle=":", zorder=0)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.legend(**_LEGEND | {"columnspacing": 0.9, "handlelength": 1.6})
    cast(ConstrainedLayoutEngine, figure.get_layout_engine()).set(wspace=0.06)
    _named(left, "epoch", "mean over the epoch")
    _named(middle, "epoch", "mean over the epoch")
    _named(right, "epoch", "at the end of the epoch")
    return figure


def _weights(axes: Axes, values: np.ndarray, x: np.ndarray, **options) -> None:
    axes.axhline(0, color="0.8", linewidth=1, zorder=0)
    for column, letter, style in zip(values.T, GREEK.values(), _STYLES, strict=True):
        axes.plot(x, column, label=letter, **style, **options)


def _named(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, fontsize=12)
    axes.set_ylabel(y, fontsize=12)
    axes.tick_params(labelsize=11)
