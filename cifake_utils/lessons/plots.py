"""Figures of the lessons. In all of them REAL is blue with circles, and FAKE is orange with triangles."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any, cast

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, Patch, Rectangle
from matplotlib.ticker import MaxNLocator
from sklearn.calibration import calibration_curve
from sklearn.metrics import ConfusionMatrixDisplay
from torch import nn

from cifake_utils import catalogue, models, rotation
from cifake_utils.data import LABELS, Cifake, ImageSet
from cifake_utils.evaluation import accuracy_interval
from cifake_utils.lessons.exploration import (
    mean_difference,
    radial_power_spectrum,
    shuffled_labels,
)
from cifake_utils.lessons.robustness import CORRUPTIONS
from cifake_utils.records import Record

_BLUE, _ORANGE = sns.color_palette("colorblind")[0], sns.color_palette("colorblind")[1]
COLOURS = {"REAL": _BLUE, "FAKE": _ORANGE}
MARKERS = {"REAL": "o", "FAKE": "^"}
_SERIES = "osD^vPX"  # markers of several detectors in one panel
# Okabe and Ito's colours for several detectors in one panel, no two alike
_DETECTORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "black")


def image_grid(images: ImageSet, class_names: Sequence[str], columns: int = 8) -> Figure:
    """Show ``columns`` images of each label for every object class: REAL left of a gap, FAKE right of it."""
    size, widths = (columns * 1.1, len(class_names) * 0.6), [1] * columns + [0.6] + [1] * columns
    figure, axes = plt.subplots(len(class_names), len(widths), figsize=size, width_ratios=widths)
    for panel in axes[:, columns]:
        panel.remove()
    axes = np.delete(axes, columns, axis=1)
    for klass, name in enumerate(class_names):
        for label in range(2):
            chosen = images.images[(images.labels == label) & (images.classes == klass)][:columns]
            for column in range(columns):
                panel = axes[klass, label * columns + column]
                panel.set(xticks=[], yticks=[])
                panel.axis("on" if column == label == 0 else "off")
                for spine in panel.spines.values():
                    spine.set_visible(False)
                if column < len(chosen):
                    panel.imshow(chosen[column].permute(1, 2, 0).numpy())
        axes[klass, 0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    axes[0, columns // 2].set_title("REAL", color=COLOURS["REAL"])
    axes[0, columns + columns // 2].set_title("FAKE", color=COLOURS["FAKE"])
    return figure


def mean_images(images: ImageSet, gain: float | None = None) -> Figure:
    """Show the mean image of each label, and their difference beside one of shuffled labels, both enlarged around grey.

    Parameters
    ----------
    images : ImageSet
    gain : float, optional
        The differences are multiplied by it. Without one it is the largest whole number, at least 1, at which no
        difference leaves the range of a pixel.
    """
    means = [images.images[images.labels == label].float().mean(0) for label in range(len(LABELS))]
    shuffled = shuffled_labels(images, seed=0)
    differences = [mean_difference(images.images, labels)[0] for labels in (images.labels, shuffled)]
    if gain is None:
        gain = max(1, int(127.5 / max(float(difference.abs().max()) for difference in differences)))
    shown = [*means, *(127.5 + gain * difference for difference in differences)]
    enlarged = f"{gain:g} × difference"
    titles = [*(f"mean {label}" for label in LABELS), f"{enlarged},\nright labels", f"{enlarged},\nshuffled labels"]
    figure, axes = plt.subplots(1, 4, figsize=(10, 3.1), layout="constrained")
    for panel, picture, title in zip(axes, shown, titles, strict=True):
        panel.imshow((picture.permute(1, 2, 0) / 255).clamp(0, 1).numpy())
        panel.set_title(title, fontsize=13)
        panel.axis("off")
    return figure


def colours(*sources: dict) -> Figure:
    """Plot mean red, green and blue of each label with 95 % intervals, one panel for each `exploration.facts`."""
    figure, axes = plt.subplots(
        1, len(sources), figsize=(4.8 * len(sources), 3.4), squeeze=False, sharey=True, layout="constrained"
    )
    for panel, facts in zip(axes[0], sources, strict=True):
        for offset, label in zip((-0.08, 0.08), LABELS, strict=True):
            values = facts["colour"][label]
            style = {"fmt": MARKERS[label], "color": COLOURS[label], "label": label, "markersize": 8}
            panel.errorbar(np.arange(3) + offset, values["mean"], values["half_width"], capsize=5, **style)
        panel.set_xticks(range(3), ["red", "green", "blue"])
        panel.set(xlim=(-0.5, 2.5))
        panel.set_title(f"Mean colour, {_measured_on(facts)}", fontsize=13)
        panel.tick_params(labelsize=12)
        panel.legend(fontsize=12)
    axes[0, 0].set_ylabel("mean value (0 to 255)", fontsize=12)
    return figure


def spectra(*sources: dict) -> Figure:
    """Plot mean log power against spatial frequency with 95 % bands, one panel for each `exploration.facts`."""
    figure, axes = plt.subplots(
        1, len(sources), figsize=(5.2 * len(sources), 3.8), squeeze=False, sharey=True, layout="constrained"
    )
    for panel, facts in zip(axes[0], sources, strict=True):
        for label in LABELS:
            mean, half_width = (np.array(facts["spectrum"][label][key]) for key in ("mean", "half_width"))
            frequency = np.arange(1, len(mean) + 1)
            _spectrum(panel, mean, label, COLOURS[label], MARKERS[label])
            panel.fill_between(frequency, mean - half_width, mean + half_width, color=COLOURS[label], alpha=0.3)
        _name_spectrum(panel, f"Power spectrum, {_measured_on(facts)}")
    return figure


def _measured_on(facts: dict) -> str:
    """Return which images `exploration.facts` took its means of."""
    return f"{facts['data']} ({facts['split_sizes']['train']:,} images)"


def compared_spectra(powers: Mapping[str, torch.Tensor], title: str) -> Figure:
    """Plot the mean log power of several groups of images against spatial frequency.

    Parameters
    ----------
    powers : mapping of str to torch.Tensor
        `exploration.radial_power_spectrum` of each group, (N, D).
    title : str
    """
    figure, panel = plt.subplots(figsize=(5.8, 3.8), layout="constrained")
    for (name, power), colour, marker in zip(powers.items(), sns.color_palette("colorblind")[2:], "sD^v", strict=False):
        _spectrum(panel, power.mean(0).numpy(), name, colour, marker)
    _name_spectrum(panel, title)
    return figure


def _spectrum(panel: Axes, mean: np.ndarray, label: str, colour: Any, marker: str) -> None:
    panel.plot(np.arange(1, len(mean) + 1), mean, color=colour, marker=marker, markersize=6, label=label)


def _name_spectrum(panel: Axes, title: str) -> None:
    panel.set_xlabel("spatial frequency (cycles an image)", fontsize=12)
    panel.set_ylabel("log₁₀ power", fontsize=12)
    panel.set_title(title, fontsize=13)
    panel.tick_params(labelsize=11)
    panel.legend(fontsize=12)


def spectrum_steps(image: torch.Tensor) -> Figure:
    """Show how the power spectrum of one image is made: grey, faded out, its power, and the mean over rings.

    Parameters
    ----------
    image : torch.Tensor
        uint8, shape (3, S, S).
    """
    size = image.shape[-1]
    grey = image.float().mean(0) / 255
    window = torch.hann_window(size, periodic=False)
    faded = (grey - grey.mean()) * window[:, None] * window
    power = (torch.fft.fftshift(torch.fft.fft2(faded).abs().square()) + 1e-12).log10()
    figure, axes = plt.subplots(1, 4, figsize=(12, 3.3), layout="constrained", width_ratios=(1, 1, 1, 1.3))
    half = size // 2
    edges = (-half - 0.5, half - 0.5, half - 0.5, -half - 0.5)  # rows are counted from the top
    for panel, picture, title, extent in (
        (axes[0], grey, "1 grey image", None),
        (axes[1], faded, "2 faded at its borders", None),
        (axes[2], power, "3 log power, rings 4 and 12", edges),
    ):
        panel.imshow(picture.numpy(), cmap="gray" if extent is None else "viridis", extent=extent)
        panel.set_title(title, fontsize=13)
        if extent is None:
            panel.axis("off")
    for radius in (4, 12):
        axes[2].add_patch(Circle((0, 0), radius, fill=False, edgecolor="white", linewidth=1.5, linestyle="--"))
    axes[2].set_xlabel("v, from left to right", fontsize=12)
    axes[2].set_ylabel("u, from top to bottom", fontsize=12)
    rings = radial_power_spectrum(image[None])[0].numpy()
    axes[3].plot(range(1, len(rings) + 1), rings, "o-", color="black")
    axes[3].set_title("4 mean of each ring", fontsize=13)
    axes[3].set_xticks(range(0, len(rings) + 1, 4))
    axes[3].set_xlabel("cycles an image", fontsize=12)
    axes[3].set_ylabel("log₁₀ power", fontsize=12)
    return figure


def descent(losses: Mapping[str, Sequence[float]]) -> Figure:
    """Plot the cross-entropy of each group of images before each step of gradient descent, counted from 1."""
    figure, panel = plt.subplots(figsize=(6, 3.4), layout="constrained")
    for (name, values), style in zip(losses.items(), ("-", "--"), strict=False):
        panel.plot(range(1, len(values) + 1), values, style, color="black", linewidth=2, label=name)
    panel.axhline(np.log(2), color="0.5", linestyle=":", label="log 2")
    panel.set(xscale="log", ylim=(0, None))
    panel.set_xlabel("step", fontsize=12)
    panel.set_ylabel("J before the step (nats)", fontsize=12)
    panel.tick_params(labelsize=11)
    panel.legend(fontsize=12)
    return figure


def image_effects(*sources: dict) -> Figure:
    """Plot effect sizes of the images' dimensions with 95 % intervals, one panel for each `effects.facts`."""
    figure, axes = plt.subplots(
        1, len(sources), figsize=(4.8 * len(sources), 2.6), squeeze=False, sharey=True, layout="constrained"
    )
    for panel, facts in zip(axes[0], sources, strict=True):
        for place, effect in enumerate(facts["image"]["estimators"].values()):
            panel.plot([effect["low"], effect["high"]], [-place, -place], color="black")
            panel.plot(effect["d"], -place, "o", color="black", markersize=4)
        panel.axvline(0, color="0.6", linestyle=":")
        panel.set(xlim=(-1.3, 1.3), title=f"Images, {facts['data']}")
        panel.set_xlabel("effect size d (FAKE − REAL)", fontsize=12)
    names = list(sources[0]["image"]["estimators"])
    axes[0, 0].set_yticks([-place for place in range(len(names))], names, fontsize=12)
    axes[0, 0].set_ylim(0.5 - len(names), 0.5)
    return figure


def map_effects(*sources: dict) -> Figure:
    """Plot the effect size of every channel's dimension against that of its plain mean, a point for each channel.

    A row for each stage, a column for each `effects.facts`. On the dashed diagonal both are equal.
    """
    stages = list(sources[0]["map"])
    size = (3.9 * len(sources), 3.5 * len(stages))
    figure, axes = plt.subplots(
        len(stages), len(sources), figsize=size, squeeze=False, sharex=True, sharey=True, layout="constrained"
    )
    for column, facts in enumerate(sources):
        for panel, stage in zip(axes[:, column], stages, strict=True):
            effects = facts["map"][stage]
            panel.axline((0, 0), slope=1, color="0.6", linestyle="--")
            panel.axhline(0, color="0.8", linewidth=0.8)
            panel.axvline(0, color="0.8", linewidth=0.8)
            panel.plot(effects["mean"]["d"], effects["dimension"]["d"], "o", color="black", markersize=5, alpha=0.5)
            panel.set_aspect("equal")
            panel.set_title(f"{stage}, {facts['data']}", fontsize=12)
    figure.supxlabel("d of the plain mean (FAKE − REAL)")
    figure.supylabel("d of the dimension (FAKE − REAL)")
    return figure


def stages(maps: dict[str, torch.Tensor], blocks: dict[str, int]) -> Figure:
    """Draw a backbone as a row of its feature maps: height shows width in pixels, thickness shows channels.

    ``blocks`` says how many residual blocks make the map of that name.
    """
    figure, axes = plt.subplots(figsize=(9, 3), layout="constrained")
    shapes = {"image": (3, 32)} | {name: (value.shape[1], value.shape[-1]) for name, value in maps.items()}
    colours, x = sns.color_palette("viridis", len(shapes)), 0.0
    for (name, (channels, size)), colour in zip(shapes.items(), colours, strict=True):
        thickness = 1.2 * np.log2(channels + 1)
        axes.add_patch(Rectangle((x, -size / 2), thickness, size, facecolor=colour, edgecolor="black"))
        made_by = f"\n{blocks[name]} blocks" if name in blocks else ""
        axes.annotate(f"{name}\n{channels} × {size}×{size}{made_by}", (x + thickness / 2, -19), ha="center", va="top")
        if name != list(shapes)[-1]:
            ends = (x + thickness + 0.5, 0), (x + thickness + 7.5, 0)
            axes.add_patch(FancyArrowPatch(*ends, arrowstyle="-|>", mutation_scale=12))
        x += thickness + 8
    axes.set(xlim=(-3, x - 4), ylim=(-30, 18))
    axes.axis("off")
    return figure


# How `architecture` fills a box, and what the fill means.
_LEARNS: dict[str, Any] = {"facecolor": (*_ORANGE, 0.35), "label": "learns"}
_FROZEN: dict[str, Any] = {"facecolor": (*_BLUE, 0.25), "linestyle": ":", "linewidth": 2, "label": "frozen"}
_FIXED: dict[str, Any] = {"facecolor": "white", "label": "nothing to learn"}
_STARTS = {
    "random": ["random\nvalues"],
    "pretrained": ["pre-trained\nweights"],
    "embedded": ["embedded\nweights"],
    "rotation": ["pre-trained\nweights", "pretext: all layers learn\nto tell four rotations"],
}
_PARTS = {
    nn.Linear: lambda part: f"linear\n{part.out_features}",
    nn.BatchNorm1d: lambda part: f"standardise\n{part.num_features}",
    nn.ReLU: lambda part: "ReLU",
}


def architecture(name: str) -> Figure:
    """Draw what an experiment is made of, from image to loss, after figure 1 of *From Real to Rendered*.

    Everything is read from the declaration of the experiment: the start of the backbone, what learns and what is
    frozen, the measured maps and their measures, the layers of the head, and the loss. A number in a box counts the
    channels or features that leave it. Layers of unknown kinds are called by their class.

    Parameters
    ----------
    name : str
        A key of `catalogue.EXPERIMENTS`; for any other name a `CifakeError` lists them.
    """
    experiment = catalogue.get(name)
    stages = {statistic: models.STATISTICS[statistic].stage for statistic in experiment.statistics}
    channels, width = experiment.layout.channels, sum(experiment.widths().values())
    whole_head = experiment.meta_head()
    head = [part for part in whole_head.modules() if not list(part.children())]
    columns = {stage: column for column, stage in enumerate(channels, 1)}
    last = len(columns) + len(head) + 1
    figure, axes = plt.subplots(figsize=(1.02 * (last + 1), 3.9), layout="constrained")

    _box(axes, (0, 2), "image\n3", _FIXED)
    axes.add_patch(Rectangle((0.54, 1.6), len(columns) - 0.08, 0.8, facecolor="none", edgecolor="0.5", linestyle="--"))
    axes.text(len(columns) + 0.46, 2.45, "backbone", ha="right", va="bottom")
    for stage, column in columns.items():
        _box(axes, (column, 2), f"{stage}\n{channels[stage]}", _FROZEN if experiment.frozen else _LEARNS)
        _arrow(axes, (column - 0.6, 2), (column - 0.4, 2))
    for place, text in enumerate(_STARTS[experiment.start]):
        _box(axes, (1 + 1.75 * place, 3.1), text, _LEARNS if place else _FIXED, width=0.8 + 1.2 * place)
        if place:
            _arrow(axes, (1.4, 3.1), (1.75, 3.1))
    _arrow(axes, (1 + 1.75 * place, 2.8), (1 + 1.75 * place, 2.4))

    for stage in dict.fromkeys(stages.values()):
        here = [statistic for statistic in stages if stages[statistic] == stage]
        text = ",\n".join(_measured_as(statistic, stage, experiment) for statistic in here)
        _box(axes, (columns[stage], 1), f"{text}\n{len(here) * channels[stage]}", _FIXED)
        _arrow(axes, (columns[stage], 1.7), (columns[stage], 1.3))
        _arrow(axes, (columns[stage], 0.7), (columns[stage], 0.3))
    _box(axes, (3, 0), f"{'side by side: ' if len(stages) > 1 else ''}{width:,} features", _FIXED, width=4.8)

    frame = Rectangle(
        (len(columns) + 0.54, -0.4), len(head) - 0.08, 0.8, facecolor="none", edgecolor="0.5", linestyle="--"
    )
    axes.add_patch(frame)
    own_class = not type(whole_head).__module__.startswith("torch.")
    called = f"head: {type(whole_head).__name__}" if own_class else "head"
    axes.text(len(columns) + 0.54, -0.45, called, ha="left", va="top")
    for column, part in enumerate(head, len(columns) + 1):
        _box(axes, (column, 0), _layer(part), _LEARNS if list(part.parameters()) else _FIXED)
        _arrow(axes, (column - 0.6, 0), (column - 0.4, 0))
    _arrow(axes, (last - 0.6, 0), (last - 0.4, 0))
    if experiment.combined_loss is None:
        _box(axes, (last, 0), "cross-\nentropy", _FIXED)
    else:
        penalty = "confidence" if "sign" not in experiment.combined_loss else "confidence\n(as printed)"
        _box(axes, (last + 0.1, 0.6), f"α cross-\nentropy\n+ β similarity\n+ γ {penalty}", _LEARNS, 1.0, 1.8)
        axes.plot([last - 2, last - 2], [0.3, 1.1], color="black", linewidth=1)  # projected features
        _arrow(axes, (last - 2, 1.1), (last - 0.4, 1.1))
    fills = (_LEARNS, _FROZEN, _FIXED) if experiment.frozen else (_LEARNS, _FIXED)
    key = [Patch(edgecolor="black", **fill) for fill in fills]
    axes.legend(handles=key, loc="upper right", ncols=len(key), frameon=False)
    axes.set(xlim=(-0.5, last + 0.7), ylim=(-0.8, 3.9))
    axes.set_title(f"{name}: {experiment.about}", loc="left")
    axes.axis("off")
    return figure


def _layer(part: nn.Module) -> str:
    """Return what the drawing calls a layer of a head."""
    if type(part) in _PARTS:
        return _PARTS[type(part)](part)
    width = getattr(part, "out_features", "")
    return f"{type(part).__name__}\n{width}".rstrip()


def _measured_as(statistic: str, stage: str, experiment: catalogue.Experiment) -> str:
    """Return what the drawing calls a statistic of a stage's map."""
    if experiment.broken and statistic in experiment.broken.statistics:
        return f"({experiment.broken.way})"
    return "mean" if statistic == "pooled" else statistic.removeprefix(f"{stage}_")


def _box(axes: Axes, centre: tuple[float, float], text: str, fill: dict, width: float = 0.8, height: float = 0.6):
    x, y = centre
    axes.add_patch(Rectangle((x - width / 2, y - height / 2), width, height, edgecolor="black", **fill))
    axes.text(x, y, text, ha="center", va="center", fontsize=8.5)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=10, shrinkA=0, shrinkB=0))


def curves(history: dict, title: str = "", guessing: float | None = None) -> Figure:
    """Plot losses and validation accuracy of a training (`training.History` as a dict) against the epoch.

    A dotted line marks ``best_epoch``, the epoch whose weights were kept. The axis of the accuracy spans at least 0.2,
    so that differences of a few images don't look large.

    Parameters
    ----------
    history : dict
    title : str
    guessing : float, optional
        The loss of guessing, in nats, where the losses are plain cross-entropies: log 2 for two labels. A dashed line
        marks it.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.5, 3.2), layout="constrained")
    _losses(left, history, guessing)
    highest = max(*history["train_loss"], *history["val_loss"], guessing or 0)
    left.set(ylabel="cross-entropy (nats)", ylim=(0, 1.08 * highest), title=title)  # markers stay inside
    accuracy = np.asarray(history["val_accuracy"])
    right.plot(np.arange(1, len(accuracy) + 1), accuracy, marker="D", markersize=5, color="black")
    half = max(0.1, 0.55 * np.ptp(accuracy))
    middle = min((accuracy.min() + accuracy.max()) / 2, 1.01 - half)
    right.set(ylabel="validation accuracy", ylim=(middle - half, middle + half))
    for panel in (left, right):
        _mark(panel, history)
    left.legend()
    return figure


def losses(histories: Mapping[str, dict], top: float | None = None) -> Figure:
    """Plot training and validation loss of detectors against the epoch, one panel for each named history.

    All panels have the same axes. A dotted line marks ``best_epoch``, the epoch whose weights were kept; a dashed one
    marks log 2, the loss of guessing. Losses above ``top`` lie outside of the panels, so that a single large one does
    not flatten all curves.
    """
    size = (3.3 * len(histories), 3.2)
    figure, axes = plt.subplots(
        1, len(histories), figsize=size, sharex=True, sharey=True, squeeze=False, layout="constrained"
    )
    for panel, (name, history) in zip(axes[0], histories.items(), strict=True):
        _losses(panel, history, np.log(2))
        _mark(panel, history)
        panel.set(title=name)
    axes[0, 0].set(
        ylabel="cross-entropy (nats)",
        ylim=(0, top),
        xlim=(0.5, max(len(history["val_loss"]) for history in histories.values()) + 0.5),
    )
    axes[0, 0].legend()
    return figure


def _losses(axes: Axes, history: dict, guessing: float | None) -> None:
    epochs = np.arange(1, len(history["val_loss"]) + 1)
    line = {"markersize": 5, "linewidth": 2}
    axes.plot(
        epochs,
        history["train_loss"],
        marker="s",
        color=_BLUE,
        label="training",
        **line,  # pyright: ignore[reportArgumentType]
    )
    axes.plot(
        epochs,
        history["val_loss"],
        marker="D",
        color="black",
        label="validation",
        **line,  # pyright: ignore[reportArgumentType]
    )
    if guessing is not None:
        axes.axhline(guessing, color="0.4", linestyle="--", linewidth=1, label="guessing")


def _mark(axes: Axes, history: dict) -> None:
    """Draw a dotted line at the epoch whose weights were kept. Label whole epochs."""
    axes.axvline(history["best_epoch"] + 1, color="0.4", linestyle=":", label="weights kept")
    axes.set_xlim(0.5, len(history["val_loss"]) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("epoch")


def schedules(rates: Mapping[str, Sequence[float]]) -> Figure:
    """Plot the learning rate of every step, relative to the highest one, for each named schedule."""
    figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
    for (name, values), marker, colour in zip(rates.items(), cycle(_SERIES), cycle(("black", _BLUE)), strict=False):
        every = max(1, len(values) // 10)
        axes.plot(np.arange(len(values)), values, color=colour, marker=marker, markevery=every, label=name)
    axes.set(xlabel="step", ylabel="rate / highest rate", ylim=(0, 1.05))
    axes.legend()
    return figure


def turns(images: torch.Tensor) -> Figure:
    """Show uint8 images (N, 3, H, H), a row each, turned counter-clockwise by each of `rotation.ANGLES`."""
    figure, axes = plt.subplots(
        len(images), len(rotation.ANGLES), figsize=(5.6, 1.45 * len(images)), squeeze=False, layout="constrained"
    )
    for turn, angle in enumerate(rotation.ANGLES):
        turned = rotation.rotate(images, torch.full((len(images),), turn))
        axes[0, turn].set_title(f"label {turn}: {angle}°")
        for panel, image in zip(axes[:, turn], turned, strict=True):
            panel.imshow(image.permute(1, 2, 0).numpy())
            panel.axis("off")
    return figure


def comparison(
    runs: Mapping[str, Sequence[Record]],
    title: str = "",
    paper: dict[str, float] | None = None,
    reference: dict[str, float] | None = None,
) -> Figure:
    """Plot test accuracies, a row for each name: every seed, and their mean with its 95 % Wilson interval.

    Parameters
    ----------
    runs : dict of str to sequence of Record
        Runs that differ in nothing but the seed; where there are none, the row says so.
    title : str
    paper : dict of str to float, optional
        The paper's accuracy, where it has one.
    reference : dict of str to float, optional
        The accuracy of the reference runs, where there are some.
    """
    figure, axes = plt.subplots(figsize=(8.5, 0.42 * len(runs) + 1.1), layout="constrained")
    for row, seeds in enumerate(runs.values()):
        if not seeds:
            axes.text(0.5, row, "not measured yet", transform=axes.get_yaxis_transform(), ha="center", va="center")
            continue
        accuracies = [record.metrics["test"]["accuracy"] for record in seeds]
        mean = float(np.mean(accuracies))
        low, high = accuracy_interval(mean, len(seeds[0].labels["test"]))
        axes.plot(accuracies, [row] * len(seeds), "|", color="0.4", markersize=12)
        axes.errorbar([mean], [row], xerr=[[mean - low], [high - mean]], fmt="D", color="black", capsize=4)
        axes.annotate(f"{mean:.3f}", (mean, row), (0, 7), textcoords="offset points", ha="center", fontsize=9)
    for source, values, marker in (("paper", paper, "s"), ("reference", reference, "o")):
        for name, value in (values or {}).items():
            place = value, list(runs).index(name)
            axes.plot(*([number] for number in place), marker, color="0.5")
            axes.annotate(source, place, (-7, 0), textcoords="offset points", ha="right", va="center")
    axes.set_yticks(range(len(runs)), runs)
    axes.margins(x=0.15)  # so that the word beside the leftmost square stays inside
    axes.set(ylim=(len(runs) - 0.4, -0.7), xlabel="test accuracy", title=title)
    axes.grid(axis="x", color="0.9")
    return figure


def reliability(runs: dict[str, Record], split: str = "test") -> Figure:
    """Plot how often images are FAKE against P(FAKE), in ten bins of equal width, a line for each named run."""
    figure, axes = plt.subplots(figsize=(4.8, 5.4), layout="constrained")
    axes.plot([0, 1], [0, 1], color="0.6", linestyle=":", label="calibrated")
    colours = sns.color_palette("colorblind")
    for (name, record), marker, colour in zip(runs.items(), cycle(_SERIES), cycle(colours), strict=False):
        share, mean = calibration_curve(record.labels[split], record.probabilities[split].astype(float), n_bins=10)
        label = f"{name}, ECE {record.metrics[split]['ece']:.3f}"
        axes.plot(mean, share, marker=marker, color=colour, label=label)
    axes.set(xlabel="P(FAKE), mean of a bin", ylabel="share of FAKE in the bin", aspect="equal")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.02), frameon=False)
    return figure


def corruptions(image: torch.Tensor, columns: int = 8) -> Figure:
    """Show a uint8 image (3, H, W) as it is, then in every way and strength of `robustness.CORRUPTIONS`."""
    shown = {"unchanged\n": image}
    for name, corruption in CORRUPTIONS.items():
        for strength in corruption.strengths:
            shown[f"{name}\n{strength:g}"] = corruption.change(image[None], strength)[0]
    rows = -(-len(shown) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(1.2 * columns, 1.75 * rows), squeeze=False, layout="constrained"
    )
    for panel in axes.flat:
        panel.axis("off")
    for panel, (title, version) in zip(axes.flat, shown.items(), strict=False):
        panel.imshow(version.permute(1, 2, 0).numpy())
        panel.set_title(title, fontsize=11)
    return figure


def robustness(scores: dict[str, dict[str, dict[str, list[float]]]], unchanged: dict[str, dict[str, float]]) -> Figure:
    """Plot accuracy at the unchanged threshold, and AUROC below it, against the strength of every corruption.

    Parameters
    ----------
    scores : dict of str to dict
        For each detector what `robustness.curves` returns. A corruption that was not measured has no line.
    unchanged : dict of str to dict
        For each detector what `evaluation.score` returns for images as they are.
    """
    figure, axes = plt.subplots(2, len(CORRUPTIONS), figsize=(12, 5.6), sharey="row", layout="constrained")
    for row, (metric, label) in zip(axes, (("accuracy", "accuracy at ½"), ("auroc", "AUROC")), strict=True):
        for panel, (name, corruption) in zip(row, CORRUPTIONS.items(), strict=True):
            looks = zip(scores.items(), cycle(_SERIES), cycle(_DETECTORS), strict=False)
            for (detector, curves), marker, colour in looks:
                if name not in curves:  # a corruption that was declared later
                    continue
                values = [unchanged[detector][metric], *curves[name][metric]]
                panel.plot(values, marker=marker, markersize=5, color=colour, label=detector)
            panel.axhline(0.5, color="0.6", linestyle=":")
            panel.set_xticks(range(1 + len(corruption.strengths)), ["none", *(f"{s:g}" for s in corruption.strengths)])
            panel.grid(axis="y", color="0.9")
        row[0].set_ylabel(label, fontsize=12)
    for above, below, (name, corruption) in zip(*axes, CORRUPTIONS.items(), strict=True):
        above.set_title(name, fontsize=12)
        below.set_xlabel(corruption.unit.replace(", ", ",\n"), fontsize=10)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize=11)
    return figure


def mistakes(images: ImageSet, probabilities: np.ndarray, count: int = 8) -> Figure:
    """Show wrong answers, those furthest from the truth first, from P(FAKE) (N,) at the threshold ½.

    In the upper row REAL images that were called FAKE, in the lower one FAKE images that were called REAL. A row with
    fewer than ``count`` of them ends sooner.
    """
    figure, axes = plt.subplots(2, count, figsize=(1.25 * count, 3.2), layout="constrained")
    labels = images.labels.numpy()
    error = np.abs(np.asarray(probabilities, float) - labels)
    wrong = (np.asarray(probabilities) > 0.5) != (labels == 1)
    for label, row in enumerate(axes):
        order = np.flatnonzero((labels == label) & wrong)
        for panel in row:
            panel.set(xticks=[], yticks=[])
            panel.spines[:].set_visible(False)
        for panel, index in zip(row, order[np.argsort(-error[order], kind="stable")], strict=False):
            panel.imshow(images.images[index].permute(1, 2, 0).numpy())
            panel.set_title(f"P(FAKE) {probabilities[index]:.2f}", fontsize=9)
        row[0].set_ylabel(LABELS[label], color=COLOURS[LABELS[label]], fontsize=12)
    return figure


def agreement(right: dict[str, np.ndarray]) -> Figure:
    """Show for every pair of detectors on how many images one is right and the other is wrong, in percent.

    ``right`` says for each detector which images (N,) it gets right.
    """
    names = list(right)
    share = np.array([[100 * (right[a] & ~right[b]).mean() for b in names] for a in names])
    figure, axes = plt.subplots(figsize=(1.0 * len(names) + 2.2, 0.55 * len(names) + 1.6), layout="constrained")
    sns.heatmap(share, annot=True, fmt=".1f", cmap="Greys", cbar=False, ax=axes, vmin=0, linewidths=0.5)
    axes.set_xticklabels(names, rotation=30, ha="right")
    axes.set_yticklabels(names, rotation=0)
    axes.set(xlabel="wrong", ylabel="right", title="percent of the test images")
    return figure


def by_class(right: dict[str, np.ndarray], classes: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Plot each detector's accuracy for every object class, from which images (N,) it gets right."""
    figure, axes = plt.subplots(figsize=(8.5, 4.2), layout="constrained")
    for (name, correct), marker, colour in zip(right.items(), cycle(_SERIES), cycle(_DETECTORS), strict=False):
        accuracy = [correct[classes == klass].mean() for klass in range(len(class_names))]
        axes.plot(accuracy, marker=marker, markersize=7, linestyle="none", color=colour, label=name)
    axes.set_xticks(range(len(class_names)), class_names, rotation=20, fontsize=11)
    axes.set_ylabel("test accuracy", fontsize=12)
    axes.grid(axis="y", color="0.9")
    figure.legend(loc="outside upper center", fontsize=10, ncols=3)
    return figure


def confusion(probabilities: np.ndarray, labels: np.ndarray, title: str = "") -> Figure:
    """Show the confusion matrix at the threshold ½. The grey grows with the root of the count, so that few are seen."""
    figure, axes = plt.subplots(figsize=(5.4, 4.6), layout="constrained")
    decided = (np.asarray(probabilities, float) > 0.5).astype(int)
    ConfusionMatrixDisplay.from_predictions(
        labels,
        decided,
        display_labels=LABELS,
        ax=axes,
        cmap="Greys",
        colorbar=False,
        values_format=",d",
        im_kw={"norm": PowerNorm(0.5, vmin=0)},
        text_kw={"fontsize": 17},
    )
    axes.set_title(title, fontsize=14)
    axes.tick_params(labelsize=13)
    axes.xaxis.label.set_fontsize(14)
    axes.yaxis.label.set_fontsize(14)
    return figure


def overview(cifake: Cifake, reference: Record, paper: float | None) -> Figure:
    """Draw the picture of docs/results.md: tiles of both labels, and a reference result beside the paper's accuracy."""
    figure = plt.figure(figsize=(9.5, 2.6), layout="constrained")
    left, right = cast(np.ndarray, figure.subfigures(1, 2, width_ratios=(2.3, 1)))
    for half, label in zip(left.subfigures(1, 2), LABELS, strict=True):
        half.suptitle(f"{label} (embedded sample)", color=COLOURS[label], fontsize=11)
        tiles = cifake.train.images[cifake.train.labels == LABELS.index(label)][:: len(cifake.train) // 2 // 18]
        for axes, tile in zip(half.subplots(3, 6).flat, tiles, strict=False):
            axes.imshow(tile.permute(1, 2, 0).numpy())
            axes.axis("off")
    accuracy = reference.metrics["test"]["accuracy"]
    low, high = accuracy_interval(accuracy, len(reference.labels["test"]))
    axes = right.subplots()
    axes.errorbar([0], [accuracy], [[accuracy - low], [high - accuracy]], fmt="D", color="black", capsize=5)
    axes.plot([1], [paper], "s", color="0.5")
    for x, value in enumerate((accuracy, paper)):
        axes.annotate(f"{value:.3f}", (x, value), (9, 0), textcoords="offset points", va="center")
    axes.set_xticks([0, 1], ["this series", "the paper"])
    axes.set(xlim=(-0.5, 1.7), ylim=(0.78, 0.92), ylabel="test accuracy", title="Frozen ResNet50, CIFAKE")
    return figure
