"""Figures and widgets of lesson 10. Photographs are blue with circles, whatever was rendered is orange."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from cifake_utils import needs
from cifake_utils.lessons import beyond
from cifake_utils.lessons.plots import COLOURS, MARKERS
from cifake_utils.lessons.widgets import Interactive, View, live

with needs("lessons"):
    import ipywidgets

IMAGES = 100_000  # of which the widget of alarms tells


def sheet(drawn: Mapping[str, torch.Tensor], columns: int = 14) -> Figure:
    """Show the first images of each group in a row: uint8 (N, 3, 32, 32), by name."""
    figure, panels = plt.subplots(len(drawn), 1, figsize=(9, 0.68 * len(drawn)), layout="constrained")
    for panel, (name, images) in zip(np.atleast_1d(panels), drawn.items(), strict=True):
        row = torch.nn.functional.pad(images[:columns], (1, 1, 1, 1), value=255)
        panel.imshow(row.permute(2, 0, 3, 1).flatten(1, 2).numpy(), interpolation="nearest")
        panel.set(xticks=[], yticks=[])
        panel.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=10)
        panel.spines[:].set_visible(False)
    return figure


def intervals(
    values: Mapping[str, tuple[float, float, float]], xlabel: str, usual: float, meaning: str, ticks: list[float] | None
) -> Figure:
    """Plot a number of each group with its interval, a row each.

    Parameters
    ----------
    values : mapping of str to tuple
        Number, low and high, by the name of the group.
    xlabel : str
    usual : float
        Where there is a dotted line: the number of a group that is like photographs.
    meaning : str
        What is meant by that line.
    ticks : list of float, optional
        With some, the axis is logarithmic, and has these.
    """
    figure, axes = plt.subplots(figsize=(7.6, 0.42 * len(values) + 1.3), layout="constrained")
    axes.axvline(usual, color=COLOURS["REAL"], linestyle=":", linewidth=2, label=meaning)
    for row, (value, low, high) in enumerate(values.values()):
        bars = [[value - low], [high - value]]
        axes.errorbar([value], [row], xerr=bars, fmt=MARKERS["FAKE"], color=COLOURS["FAKE"], capsize=6, markersize=5)
    axes.set_yticks(range(len(values)), list(values), fontsize=11)
    if ticks:
        axes.set_xscale("log")
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel(xlabel, fontsize=12)
    axes.tick_params(axis="x", labelsize=11)
    axes.set_ylim(len(values) - 0.5, -0.5)
    axes.grid(axis="x", color="0.92")
    figure.legend(loc="outside upper right", fontsize=11, frameon=False)
    return figure


def heat(matrix: pd.DataFrame, title: str) -> Figure:
    """Show AUROC by what was trained on (rows) and tested on (columns): purple below ½, orange above, ½ is white.

    Cells without a number are grey.
    """
    rows, columns = matrix.shape
    figure, axes = plt.subplots(figsize=(0.82 * columns + 3.0, 0.5 * rows + 2.0), layout="constrained")
    values = matrix.to_numpy(dtype=float)
    axes.imshow(values, cmap=plt.get_cmap("PuOr_r").with_extremes(bad="0.8"), vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        colour = "white" if value < 0.25 or value > 0.86 else "black"
        text = "–" if np.isnan(value) else f"{value:.2f}"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=10)
    axes.set_xticks(range(columns), list(matrix.columns), rotation=35, ha="right", fontsize=10)
    axes.set_yticks(range(rows), list(matrix.index), fontsize=10)
    axes.set_xlabel("tested on", fontsize=12)
    axes.set_ylabel("trained on", fontsize=12)
    axes.set_title(title, fontsize=12)
    return figure


def growth(curves: Mapping[str, pd.DataFrame]) -> Figure:
    """Plot AUROC on a kind never trained on against the number of kinds trained on.

    The tables have the columns ``number``, ``auroc``, ``low``, ``high`` and ``lowest``, a row for each number.
    """
    figure, axes = plt.subplots(figsize=(6.6, 3.8), layout="constrained")
    for (name, curve), colour, marker in zip(curves.items(), ("#0072B2", "#D55E00"), "os", strict=False):
        axes.plot(curve["number"], curve["auroc"], color=colour, marker=marker, markersize=7, label=f"{name}, mean")
        axes.fill_between(
            curve["number"], curve["low"], curve["high"], color=colour, alpha=0.15, label=f"{name}, 95 % of draws"
        )
        axes.plot(curve["number"], curve["lowest"], color=colour, linestyle="--", label=f"{name}, lowest")
    axes.axhline(0.5, color="0.6", linestyle=":", label="a coin")
    axes.set_xlabel("number of kinds trained on", fontsize=12)
    axes.set_ylabel("AUROC on another kind", fontsize=12)
    axes.set_xticks(range(1, 7))
    axes.set_ylim(0, 1.02)
    figure.legend(fontsize=11, loc="outside upper center", ncols=2, frameon=False)
    return figure


def waves(traces: Mapping[str, np.ndarray]) -> Figure:
    """Plot the mean of `beyond.jpeg_traces` of each group against the fineness of the wave.

    The fineness of a wave is the sum of its two numbers of half periods in a block, 0 to 14.
    """
    fineness = np.add.outer(np.arange(8), np.arange(8)).ravel()
    figure, axes = plt.subplots(figsize=(6.6, 3.6), layout="constrained")
    styles = zip(traces.items(), ("#0072B2", "#D55E00", "#009E73"), "os^", strict=False)
    for (name, values), colour, marker in styles:
        means = [values[:, fineness == level].mean() for level in range(15)]
        axes.plot(range(15), means, color=colour, marker=marker, markersize=7, label=name)
    axes.set_xlabel("fineness a + b of the wave (half periods in a block)", fontsize=12)
    axes.set_ylabel("ln(size + 0.1), grey levels", fontsize=12)
    axes.tick_params(labelsize=11)
    axes.legend(fontsize=11)
    return figure


def _spectrum(axes: Axes, powers: np.ndarray, name: str, label: str) -> None:
    values = powers.astype(np.float64)
    style = {"color": COLOURS[label], "marker": MARKERS[label]}
    axes.plot(np.arange(1, values.shape[1] + 1), values.mean(0), markersize=6, label=name, **style)


def render_generator(
    name: str,
    powers: tuple[np.ndarray, np.ndarray],
    probabilities: tuple[np.ndarray, np.ndarray],
) -> View:
    """Show a generator's mean spectrum and the histogram of its P(FAKE), each beside that of photographs.

    Parameters
    ----------
    name : str
        Of the generator.
    powers : pair of np.ndarray
        log10 powers (N, 16) of photographs and of the generator's images.
    probabilities : pair of np.ndarray
        A detector's P(FAKE) of photographs (N,) and of the generator's images (M,).
    """
    names = ("photographs", name)
    figure = Figure((9.6, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    bins = np.linspace(0, 1, 21)
    for group, label, power, p in zip(names, ("REAL", "FAKE"), powers, probabilities, strict=True):
        _spectrum(left, power, group, label)
        shares = np.full(len(p), 1 / len(p))
        kind = {"histtype": "stepfilled", "alpha": 0.35} if label == "REAL" else {"histtype": "step", "linewidth": 2.5}
        right.hist(p, bins, weights=shares, color=COLOURS[label], label=group, **kind)
    left.set_xlabel("spatial frequency (cycles an image)", fontsize=12)
    left.set_ylabel("log₁₀ power", fontsize=12)
    left.set_ylim(-3.2, 2.6)
    right.set_xlabel("P(FAKE) of our detector", fontsize=12)
    right.set_ylabel("share of the images", fontsize=12)
    right.set_ylim(0, 1)
    for axes in (left, right):
        axes.legend(fontsize=11)
    ratio, low, high = beyond.power_ratio(beyond.fine_detail(powers[1]), beyond.fine_detail(powers[0]))
    above, below, top = beyond.auroc(*probabilities)
    return figure, (
        f"{name}: {ratio:.3g} times the photographs' power at 14 to 16 cycles an image ({low:.3g} to {high:.3g}). "
        f"Our detector's AUROC is {above:.2f} ({below:.2f} to {top:.2f}), and it calls "
        f"{np.mean(probabilities[1] > 0.5):.0%} of these images FAKE, and {np.mean(probabilities[0] > 0.5):.0%} of the "
        "photographs."
    )


def generator_explorer(powers: Mapping[str, np.ndarray], probabilities: Mapping[str, np.ndarray]) -> Interactive:
    """Return the widget in which the reader picks a generator and sees `render_generator`.

    Both have the photographs' under `beyond.PHOTOGRAPHS`, and under the same names those of each generator.
    """
    names = [name for name in powers if name != beyond.PHOTOGRAPHS]

    def render(generator: str) -> View:
        shown = (beyond.PHOTOGRAPHS, generator)
        first, second = ([values[name] for name in shown] for values in (powers, probabilities))
        return render_generator(generator, (first[0], first[1]), (second[0], second[1]))

    return live(render, generator=ipywidgets.Dropdown(options=names, description="generator"))


def render_alarms(prior: float, hits: float, false_alarms: float, miss: float) -> View:
    """Show what a detector's alarms are worth: in counts of images, and against the share of FAKE images.

    The parameters are those of `beyond.costs`.
    """
    fake = prior * IMAGES
    counts = {"right": fake * hits, "wrong": (IMAGES - fake) * false_alarms}
    figure = Figure((9.6, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.2))
    left.bar(
        [f"{name} alarms" for name in counts],
        list(counts.values()),
        color=[COLOURS["FAKE"], COLOURS["REAL"]],
        width=0.6,
    )
    for place, count in enumerate(counts.values()):
        left.annotate(f"{count:,.0f}", (place, count), (0, 3), textcoords="offset points", ha="center", fontsize=12)
    left.set_ylabel(f"of {IMAGES:,} images", fontsize=12)
    left.set_ylim(0, 1.15 * max(*counts.values(), 1))
    left.tick_params(axis="x", labelsize=12)
    shares = np.logspace(-5, np.log10(0.9), 200)
    right.plot(shares, [beyond.right_alarms(share, hits, false_alarms) for share in shares], color="0.4")
    right.plot(shares, shares, color="0.6", linestyle=":", label="an alarm that tells nothing")
    worth = beyond.right_alarms(prior, hits, false_alarms)
    right.plot(prior, worth, "o", color="black", markersize=9, label="yours")
    right.set(xscale="log", ylim=(-0.03, 1.03))
    right.set_xlabel("share of FAKE among all images", fontsize=12)
    right.set_ylabel("share of alarms that are right", fontsize=12)
    right.grid(color="0.92")
    right.legend(fontsize=11, loc="upper left")
    found = beyond.costs(prior, hits, false_alarms, miss)
    cheapest = min(found, key=lambda policy: found[policy])
    return figure, (
        f"Of {IMAGES:,} images, {fake:,.0f} are FAKE. {worth:.1%} of the alarms are right. Cost of an image: "
        + ", ".join(f"{found[policy]:.4g} ({policy})" for policy in found)
        + f". Cheapest: {cheapest}."
    )


def alarm_explorer(detectors: Mapping[str, tuple[float, float]]) -> Interactive:
    """Return the widget in which the reader chooses a detector, how rare FAKE images are, and what a miss costs.

    Parameters
    ----------
    detectors : mapping of str to pair of float
        Share of the FAKE images found, and share of REAL images called FAKE, by what the detector is and is asked.
    """

    def render(detector: str, rarity: int, miss: float) -> View:
        return render_alarms(1 / rarity, *detectors[detector], miss)

    looks = {"style": {"description_width": "130px"}, "layout": {"width": "min(98%, 560px)"}}
    rarities = [(f"1 image in {count:,}", count) for count in (2, 5, 10, 20, 50, 100, 200, 500, 1_000, 10_000)]
    return live(
        render,
        detector=ipywidgets.Dropdown(options=list(detectors), description="detector", **looks),
        rarity=ipywidgets.SelectionSlider(options=rarities, value=1_000, description="FAKE", **looks),
        miss=ipywidgets.FloatSlider(10, min=1, max=1000, step=1, description="cost of a miss", **looks),
    )
