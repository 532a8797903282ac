"""What brings a ResNet50 further on these images, and at what price: trials, multiplications and shared mistakes.

`benchmarks.strong` makes the trials. Each is judged on all validation images of CIFAKE.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch.utils.flop_counter import FlopCounterMode

from cifake_utils import catalogue, evaluation, models, needs, records
from cifake_utils.lessons import comparison, widgets
from cifake_utils.lessons.tables import Table
from cifake_utils.models import RESNET50, Layout
from cifake_utils.support import verified
from cifake_utils.training import Options

with needs("lessons"):
    import ipywidgets
    from statsmodels.stats.multitest import multipletests

FOLDER = records.REFERENCE / "trials"
VIEWS = {"alone": 1, "mirror images": 2, "mirror images and shifts": 10}  # how many views of an image are averaged
PLAIN = {3: "base", 9: "nine epochs"}  # trials without any idea, by their number of epochs
INSIDE = {
    "32 pixels, as they are": RESNET50,
    "stem stride 1": Layout(stem_stride=1),
    "stem stride 1 without pooling": Layout(stem_stride=1, stem_pool=False),
    "enlarged twice": Layout(enlarge=2),
    "enlarged four times": Layout(enlarge=4),
}


@dataclass(frozen=True)
class Trial:
    """One training from ImageNet weights, as `benchmarks.strong` keeps it.

    Attributes
    ----------
    name : str
    epochs, seed : int
    layout : models.Layout
    last : str
        The last stage that is computed.
    recipe : dict
        All settings, as JSON types.
    seconds, cpu_seconds : float
        Wall time of the training, and time that all threads of the CPU took together.
    hardware : str
        What `records.hardware` returned.
    precision : str
        ``bf16``, or ``no`` for float32.
    probabilities : dict of str to np.ndarray
        float16 P(FAKE) of CIFAKE's validation images (N,), by the name of an average in `VIEWS`.
    """

    name: str
    epochs: int
    seed: int
    layout: Layout
    last: str
    recipe: dict
    seconds: float
    cpu_seconds: float
    hardware: str
    precision: str
    probabilities: dict[str, np.ndarray]

    @property
    def control(self) -> str:
        """Name of the trial without the idea that its name says last; empty for those from which the others start."""
        idea = self.name.partition("#")[0]
        if idea in PLAIN.values():
            return ""
        return idea.replace(" and ", ", ").rpartition(", ")[0] or PLAIN.get(self.epochs, "")

    @property
    def coarse(self) -> int:
        """Number of the first epochs that are on maps of half the width."""
        share = self.recipe["options"].get("coarse_share", 0.0)
        return Options(coarse_share=share, patience=None).coarse_epochs(self.epochs)

    def correct(self, average: str = "mirror images") -> np.ndarray:
        """Return which validation images it labels correctly: bool (N,)."""
        return comparison.correct(self.probabilities[average], labels())

    def trained_on(self) -> str:
        """Return how long the training took, and on what. CPU minutes of several threads are added up.

        Processors differ, and those that compute bfloat16 are faster, so float32 is named.
        """
        if "CPU" in self.hardware:
            return f"{self.cpu_seconds / 60:.0f} CPU minutes{', float32' if self.precision == 'no' else ''}"
        return f"{self.seconds:.0f} s, {' '.join(self.hardware.split()[:2])}"


@cache
def labels() -> np.ndarray:
    """Return the labels of CIFAKE's validation images: uint8 (N,)."""
    return records.reference("resnet50_finetuned").labels["val"]


def read(path: Path) -> Trial:
    """Return the trial whose JSON file is ``path``. Beside it lies an NPZ file of P(FAKE)."""
    document, arrays = verified.load_json(path), verified.load_arrays(path.with_suffix(".npz"))
    recipe = document["trial"]
    return Trial(
        name=document["name"],
        epochs=recipe["epochs"],
        seed=document["seed"],
        layout=Layout(**recipe["layout"]),
        last=recipe["stages"][-1],
        recipe=recipe,
        seconds=document["curves"]["seconds"],
        cpu_seconds=document["cpu_seconds"],
        hardware=document["hardware"],
        precision=document["precision"],
        probabilities={name: arrays[name] for name in VIEWS},
    )


def trials(folder: Path = FOLDER) -> dict[str, Trial]:
    """Return all trials that have been made, by name.

    Those of few epochs come first, those without an idea before others, and then the more accurate ones.
    """
    found = [read(path) for path in sorted(folder.glob("*.json"))]
    found.sort(key=lambda trial: (trial.epochs, bool(trial.control), -trial.correct().mean(), trial.name))
    return {trial.name: trial for trial in found}


@dataclass(frozen=True)
class Against:
    """A trial beside its control.

    Attributes
    ----------
    difference, low, high : float
        Its accuracy minus that of the control, and the 95 % interval.
    p : float
        p-value of the exact McNemar test, after Holm's correction for all trials that are compared.
    """

    difference: float
    low: float
    high: float
    p: float

    @property
    def verdict(self) -> str:
        if self.p >= 0.05:
            return "not told apart"
        return "better" if self.difference > 0 else "worse"


def against_control(made: Mapping[str, Trial], average: str = "mirror images") -> dict[str, Against]:
    """Compare every trial with its control, where that has been made."""
    pairs = {name: made[trial.control] for name, trial in made.items() if trial.control in made}
    tests = {}
    for name, control in pairs.items():
        right = {name: made[name].correct(average), "control": control.correct(average)}
        (tests[name],) = comparison.paired_tests(right)
    if not tests:  # `multipletests` wants one
        return {}
    corrected = multipletests([test.p for test in tests.values()], method="holm")[1]
    return {
        name: Against(test.difference, test.low, test.high, float(p))
        for (name, test), p in zip(tests.items(), corrected, strict=True)  # pyright: ignore[reportArgumentType]
    }


def table(made: Mapping[str, Trial] | None = None) -> Table:
    """Return one row for each trial: accuracy on validation images, test against its control, and what it costs.

    A dash says that the trial needs no control, or that the control is missing.
    """
    made = trials() if made is None else made
    tests, rows = against_control(made), []
    for name, trial in made.items():
        right, test = trial.correct(), tests.get(name)
        low, high = evaluation.accuracy_interval(right.mean(), len(right))
        rows.append(
            {
                "trial": name,
                "epochs": trial.epochs,
                "accuracy (95 % interval)": f"{right.mean():.4f} ({low:.4f} to {high:.4f})",
                "control": trial.control or None,
                "difference": test and f"{test.difference:+.4f}",
                "p after Holm": test and f"{test.p:.1g}",
                "verdict": test and test.verdict,
                "multiply-adds a view": f"{multiply_adds(trial.layout, last=trial.last) / 1e6:,.0f} million",
                "training": trial.trained_on(),
            }
        )
    return Table(rows, "CIFAKE, 20,000 validation images, mean of an image and its mirror image, one training each")


@cache
def multiply_adds(layout: Layout = RESNET50, size: int = 32, last: str = "layer4") -> int:
    """Return how many multiply-adds the convolutions of a backbone compute for one image.

    They are counted, not estimated, on a device that computes nothing.

    Parameters
    ----------
    layout : models.Layout
    size : int
        Width and height of the image in pixels.
    last : str
        The last stage that is computed.
    """
    with torch.device("meta"):
        backbone, image = models.Backbone(layout).eval(), torch.empty(1, 3, size, size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        backbone(image, last)
    return counter.get_total_flops() // 2  # torch counts a multiplication and an addition as two


def transformer_multiply_adds(width: int, layers: int = 12, size: int = 224, patch: int = 16) -> int:
    """Return the multiply-adds of a vision transformer for one image, without its last layer.

    Each layer multiplies N tokens of D numbers by matrices of 12 D² numbers in all, and compares all pairs of tokens
    twice (Dosovitskiy et al., *An Image Is Worth 16x16 Words*, ICLR 2021). ``width`` is D; ``size`` is that of the
    image and ``patch`` that of the squares it is cut into, in pixels.
    """
    patches = (size // patch) ** 2
    tokens = patches + 1
    return patches * 3 * patch**2 * width + layers * (12 * tokens * width**2 + 2 * tokens**2 * width)


def training_cost(layout: Layout, epochs: int, coarse: int = 0) -> float:
    """Return the cost of a training, where an epoch on maps of the usual width costs 1.

    It is the ratio of the multiply-adds of forward passes. ``coarse`` of the epochs are on maps of half the width.
    """
    whole = (epochs - coarse) * multiply_adds(layout) + coarse * multiply_adds(layout.halved())
    return whole / multiply_adds()


@dataclass(frozen=True)
class Priced:
    """A detector with an accuracy and the multiply-adds of one answer.

    Attributes
    ----------
    name : str
    cost : int
        Multiply-adds, over all views that are averaged.
    accuracy : float
        On CIFAKE's test images.
    interval : tuple of float, optional
        95 % Wilson interval, for those that were measured here.
    source : str
        ``"paper"``, ``"ours"`` or ``"others"``.
    """

    name: str
    cost: int
    accuracy: float
    interval: tuple[float, float] | None
    source: str


STRONG = ("resnet50_strong", "resnet50_strong_progressive", "resnet50_strong_long")
OURS = ("resnet50_transfer", "resnet50_scratch", "resnet50_finetuned", "resnet50_embedded", "resnet50_strong")


def priced() -> list[Priced]:
    """Return the paper's models, some of ours (means over the seeds), and public ones, with what an answer costs.

    Public accuracies are those that the authors of the models state. Nobody ran them here, and their test images may
    be others. The paper's models are counted at 32 pixels, one view.
    """
    found = [
        Priced(catalogue.short(name), multiply_adds(), accuracy, None, "paper")
        for name, accuracy in catalogue.of_the_paper().items()
    ]
    for name in OURS:
        runs, experiment = records.references(name), catalogue.get(name)
        if runs:
            accuracy = float(np.mean([run.metrics["test"]["accuracy"] for run in runs]))
            cost = multiply_adds(experiment.layout) * (2 if experiment.preset.mirror_average else 1)
            interval = evaluation.accuracy_interval(accuracy, len(runs[0].labels["test"]))
            found.append(Priced(catalogue.short(name), cost, accuracy, interval, "ours"))
    others = {
        "ResNet50, 224 px": (multiply_adds(RESNET50, 224), 0.9787),
        "ViT-S, 224 px": (transformer_multiply_adds(384), 0.9877),
        "ViT-B/16, 224 px": (transformer_multiply_adds(768), 0.9930),
    }
    return found + [Priced(name, cost, accuracy, None, "others") for name, (cost, accuracy) in others.items()]


def several_wrong(errors: Sequence[float]) -> np.ndarray:
    """Return how probable it is that 0, 1, … K of K detectors are wrong, if they erred independently: (K + 1,).

    ``errors`` are their error rates. The distribution is the Poisson binomial one.
    """
    chances = np.ones(1)
    for error in errors:
        chances = np.convolve(chances, [1 - error, error])
    return chances


def names_of_test_images() -> list[str]:
    """Return the names of CIFAKE's 20,000 test images in the order of the records' rows."""
    endings = ["", *(f" ({number})" for number in range(2, 11))]
    rows = {"FAKE": map(str, range(1000)), "REAL": map("{:04}".format, range(1000))}
    return sorted(f"{label}/{row}{ending}.jpg" for label in rows for row in rows[label] for ending in endings)


# --- figures --------------------------------------------------------------------------------------------------------

_COLOURS = {"paper": "0.5", "ours": "#0072B2", "others": "#D55E00"}
_MARKERS = {"paper": "s", "ours": "o", "others": "^"}
_SOURCES = {"paper": "the paper's, as printed", "ours": "ours", "others": "public models, as their authors state"}


def bars(made: Mapping[str, Trial]) -> Figure:
    """Draw a bar for each trial: the share of validation images that are wrong, with its interval, and its cost."""
    figure, (axes, costs) = plt.subplots(
        1, 2, figsize=(9.6, 0.4 * len(made) + 1.3), sharey=True, width_ratios=(3, 1.1), layout="constrained"
    )
    for row, trial in enumerate(made.values()):
        right = trial.correct()
        low, high = evaluation.accuracy_interval(right.mean(), len(right))
        wrong, style = 100 * (1 - right.mean()), {} if trial.epochs == 3 else {"hatch": "//"}
        ends = [[wrong - 100 * (1 - high)], [100 * (1 - low) - wrong]]
        axes.barh(row, wrong, color="#56B4E9", edgecolor="black", height=0.62, **style)
        axes.errorbar(wrong, row, xerr=ends, color="black", capsize=4)
        axes.annotate(f"{wrong:.2f}", (100 * (1 - low), row), (5, 0), textcoords="offset points", va="center")
        cost = training_cost(trial.layout, trial.epochs, trial.coarse) * _share_of_backbone(trial)
        costs.plot([0.5, cost], [row, row], color="0.7", linewidth=3, solid_capstyle="butt", zorder=1)
        costs.plot(cost, row, "o", color="black")
    axes.set_yticks(range(len(made)), [f"{textwrap.fill(name, 34)} " for name in made])
    axes.set(ylim=(len(made) - 0.4, -0.6), xlim=(0, 1.12 * axes.get_xlim()[1]))
    axes.set_xlabel("wrong validation images (%)", fontsize=12)
    costs.set(xscale="log", xlim=(2, 300))
    costs.set_xticks([3, 10, 30, 100], ["3", "10", "30", "100"])
    costs.minorticks_off()
    costs.set_xlabel("cost\n(epochs at 32 px)", fontsize=12)
    costs.grid(axis="x", color="0.9")
    return figure


def _share_of_backbone(trial: Trial) -> float:
    return multiply_adds(trial.layout, last=trial.last) / multiply_adds(trial.layout)


def price_plot(found: Sequence[Priced]) -> Figure:
    """Plot the error rate of detectors against the multiply-adds of one answer, both on logarithmic axes."""
    figure, axes = plt.subplots(figsize=(9, 5.2), layout="constrained")
    for point in found:
        style = {"color": _COLOURS[point.source], "marker": _MARKERS[point.source], "markersize": 8}
        wrong = 100 * (1 - point.accuracy)
        if point.interval:
            ends = [[wrong - 100 * (1 - point.interval[1])], [100 * (1 - point.interval[0]) - wrong]]
            axes.errorbar(point.cost / 1e6, wrong, yerr=ends, capsize=3, **style)
        else:
            axes.plot(point.cost / 1e6, wrong, linestyle="", **style)
        left = point.source == "paper" or point.name == "strong"
        lift = {"fractal": 4, "fractal_loss": -6, "transfer": 4}.get(point.name, 0) if point.source == "paper" else 0
        axes.annotate(
            point.name,
            (point.cost / 1e6, wrong),
            (-9 if left else 9, lift),
            textcoords="offset points",
            ha="right" if left else "left",
            va="center",
            fontsize=11,
        )
    for source, text in _SOURCES.items():
        axes.plot([], [], _MARKERS[source], color=_COLOURS[source], markersize=8, label=text)
    axes.set(xscale="log", yscale="log", xlim=(25, 90_000), ylim=(0.5, 40))
    axes.set_xticks([100, 1_000, 10_000], ["100", "1,000", "10,000"])
    axes.set_yticks([0.5, 1, 2, 5, 10, 20, 40], ["0.5", "1", "2", "5", "10", "20", "40"])
    axes.minorticks_off()
    axes.grid(color="0.92")
    axes.set_xlabel("multiply-adds of one answer (millions)", fontsize=12)
    axes.set_ylabel("wrong test images (%)", fontsize=12)
    axes.legend(fontsize=11, loc="upper right")
    return figure


def met_figure(cases: Mapping[str, tuple[int, int]]) -> Figure:
    """Draw where a 3×3 filter lies at its first place on a small map, which is padded by one pixel.

    ``cases`` gives the map's width in pixels and the filter's stride by a title. Weights that meet a pixel are filled.
    """
    figure, panels = plt.subplots(1, len(cases), figsize=(2.9 * len(cases), 3), squeeze=False, layout="constrained")
    for panel, (title, (width, stride)) in zip(panels[0], cases.items(), strict=True):
        for row in range(-1, width + 1):
            for column in range(-1, width + 1):
                inside = 0 <= row < width and 0 <= column < width
                style = {"facecolor": "#56B4E9"} if inside else {"facecolor": "white", "linestyle": ":"}
                square = Rectangle((column, row), 1, 1, edgecolor="0.6", **style)  # pyright: ignore[reportArgumentType]
                panel.add_patch(square)
        panel.add_patch(Rectangle((-1, -1), 3, 3, fill=False, edgecolor="#D55E00", linewidth=3))
        places = (width - 1) // stride + 1
        panel.set_title(f"{title}\n{places**2} place{'s' * (places > 1)}", fontsize=11)
        panel.set(xlim=(-1.1, 4.1), ylim=(4.1, -1.1), aspect="equal")
        panel.axis("off")
    return figure


# --- widget ---------------------------------------------------------------------------------------------------------


def measured(layout: Layout, epochs: int, coarse: int, average: str) -> dict[str, float]:
    """Return validation accuracies of trials and reference runs that have these settings, by their names.

    Other settings, such as shifts, may differ between them; a name says so.
    """
    found = {}
    for name, trial in trials().items():
        if (trial.layout, trial.epochs, trial.coarse, trial.last) == (layout, epochs, coarse, "layer4"):
            found[name] = float(trial.correct(average).mean())
    for name in ("resnet50_finetuned", "resnet50_embedded", *STRONG):
        experiment = catalogue.get(name)
        for run in records.references(name):
            whole = run.hyperparameters["epochs"]
            same = experiment.layout, whole, experiment.preset.options.coarse_epochs(whole)
            if same != (layout, epochs, coarse) or average == "mirror images and shifts":
                continue
            scores = run.metrics["val"] if average == "mirror images" else run.details["val_without_mirror_average"]
            found[run.name] = scores["accuracy"]
    return found


def render_cost(inside: str, epochs: int, coarse: int, average: str) -> widgets.View:
    """Draw what a training and an answer cost with these settings, and say what has been measured with them.

    Parameters
    ----------
    inside : str
        A key of `INSIDE`.
    epochs, coarse : int
        Of all epochs, the first ``coarse`` ones are on maps of half the width; never the last one.
    average : str
        A key of `VIEWS`.
    """
    layout, coarse = INSIDE[inside], min(coarse, epochs - 1)
    training, answer = training_cost(layout, epochs, coarse), VIEWS[average] * multiply_adds(layout) / multiply_adds()
    figure = Figure(figsize=(6.4, 2.7), layout="constrained")
    axes = figure.subplots()
    for row, (cost, colour) in enumerate(((training, "#56B4E9"), (answer, "#E69F00"))):
        axes.barh(row, cost, color=colour, edgecolor="black", left=0)
        axes.annotate(f"{cost:,.1f}", (cost, row), (5, 0), textcoords="offset points", va="center", fontsize=12)
    axes.set_yticks([0, 1], ["training", "one answer"], fontsize=12)
    axes.set(xscale="log", xlim=(0.5, 1000), ylim=(1.6, -0.6))
    axes.set_xticks([1, 10, 100], ["1", "10", "100"])
    axes.minorticks_off()
    axes.set_xlabel("cost (an epoch, or a view, at 32 pixels costs 1)", fontsize=12)
    figure.suptitle(f"{inside}\n{epochs} epochs, {coarse} of them at half the width; {average}", fontsize=11)
    found = measured(layout, epochs, coarse, average)
    known = "; ".join(f"{name} {accuracy:.4f}" for name, accuracy in found.items())
    million = VIEWS[average] * multiply_adds(layout) / 1e6
    said = (
        f"Validation accuracies measured with these settings: {known}."
        if known
        else "No accuracy has been measured here."
    )
    return figure, (
        f"{epochs} epochs, {coarse} of them at half the width. An answer takes {million:,.0f} million multiply-adds. "
        f"{said}"
    )


def cost_explorer() -> widgets.Interactive:
    """Return a widget in which the reader chooses width, epochs and averages, and sees costs and what was measured."""
    looks = {"style": {"description_width": "130px"}, "layout": {"width": "min(98%, 520px)"}}
    return widgets.live(
        render_cost,
        inside=ipywidgets.Dropdown(
            options=list(INSIDE), value="enlarged twice", description="inside the network", **looks
        ),
        epochs=ipywidgets.IntSlider(3, min=1, max=18, description="epochs", **looks),
        coarse=ipywidgets.IntSlider(0, min=0, max=17, description="at half the width", **looks),
        average=ipywidgets.Dropdown(options=list(VIEWS), value="mirror images", description="average over", **looks),
    )
