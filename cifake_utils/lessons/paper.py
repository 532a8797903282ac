"""A reader's map of *From Real to Rendered*: each of its parts, the lesson that treats it, and what is different here.

The map stands in lesson 08 and in ``docs/paper.md``. Both take it from here.
"""

from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Patch, Rectangle

from cifake_utils.lessons import series
from cifake_utils.lessons.tables import Table


@dataclass(frozen=True)
class Part:
    """A part of the paper.

    Attributes
    ----------
    name : str
        What it is, in a few words.
    lessons : tuple of str
        Numbers of the lessons that treat it.
    here : str
        What the series does with it, and why where that differs from the paper.
    """

    name: str
    lessons: tuple[str, ...]
    here: str


PARTS = (
    Part(
        "the question and the data: CIFAKE",
        ("01",),
        "the same images. A fifth of the training images is held out to choose settings; the test images are CIFAKE's.",
    ),
    Part(
        "the idea: rendered images have other fractal dimensions",
        ("02", "02b"),
        "tested on images and on maps, with estimators that need no threshold beside the paper's.",
    ),
    Part(
        "augmentation",
        ("03", "04"),
        "training images are mirrored with probability ½, and nothing else. Predictions of all models but model 2 are "
        "means over an image and its mirror image, which raises the accuracy.",
    ),
    Part(
        "figure 1: how the models are built",
        ("03", "04", "05", "06", "07", "08"),
        "each model is drawn in its lesson. Lesson 08 has the whole figure, with our additions in another colour.",
    ),
    Part(
        "model 1: ResNet50 from random values",
        ("03",),
        "the same layers. Another optimiser and schedule, for fewer and larger steps.",
    ),
    Part(
        "model 2: a frozen ResNet50, and a new last layer",
        ("04",),
        "the paper's recipe as written, with other pre-trained weights: no others could be had.",
    ),
    Part(
        "model 3: a fractal dimension layer",
        ("05",),
        "measures the stem and layer1, because the last map is one pixel wide. Features are standardised. Plain means "
        "of the same maps do as well.",
    ),
    Part(
        "model 4: the combined loss",
        ("06",),
        "with a projection before the last layer, because frozen features have no gradient. That layer brings the "
        "gain; the loss does not.",
    ),
    Part(
        "model 5: rotations first, then all layers learn",
        ("07",),
        "beside the control that the paper lacks: as many steps without rotations.",
    ),
    Part(
        "equation 1: the number of boxes",
        ("02",),
        "counted on one grid, which need not be the smallest number. The layer counts softly, so that a gradient "
        "passes.",
    ),
    Part(
        "equation 2: the fractal dimension",
        ("02", "05"),
        "the limit becomes the slope of a line, since pixels have no limit.",
    ),
    Part(
        "equation 3: similarity of the two classes' features",
        ("06",),
        "the similarity, as the equation says. The text says distance.",
    ),
    Part(
        "equation 4: the confidence penalty",
        ("06",),
        "the negative entropy, as the text wants. As printed it is the entropy; that sign is trained as a control.",
    ),
    Part(
        "equation 5: the weighted sum, with learnable weights",
        ("06",),
        "the weights are positive, add up to 1 and have floors. As plain parameters they fall or run away.",
    ),
    Part(
        "optimiser and learning rate: Adam, 0.0001",
        ("03", "04", "08"),
        "other rates for all models but model 2. Lesson 08 has them with the paper's recipe as well.",
    ),
    Part(
        "learning-rate schedule",
        ("03",),
        "the paper does not say which. Here a cosine for heads, and one cycle where all layers learn.",
    ),
    Part(
        "early stopping",
        ("03", "07"),
        "for heads only. A one-cycle schedule ends at a rate of zero, and the last epoch's weights are kept.",
    ),
    Part(
        "table 1: accuracy and F1",
        ("03", "04", "05", "06", "07", "08"),
        "with intervals, seeds and paired tests. Row 2's two numbers cannot both be right (lesson 08).",
    ),
    Part(
        "table 1: test loss",
        ("08",),
        "every loss in our records is plain cross-entropy. The paper's loss of model 4 can hardly be one (lesson 08).",
    ),
    Part(
        "conclusions",
        ("05", "06", "07", "08"),
        "with our recipe, the order of models 2 to 5 is the paper's. The reasons are not: controls without fractals, "
        "without the combined loss and without rotations do as well or better (as far as tests can tell).",
    ),
    Part(
        "future work: fractal layer and combined loss on the self-supervised network",
        ("08",),
        "trained on that network, frozen. It cannot be told from model 4 (lesson 08).",
    ),
)


def reader_map() -> Table:
    """Return the map for a lesson."""
    rows = [{"in the paper": part.name, "lessons": ", ".join(part.lessons), "here": part.here} for part in PARTS]
    return Table(rows, "A reader's map of the paper")


def markdown() -> str:
    """Return the map for a page in ``docs/``, as Markdown whose numbers of lessons are links."""
    paths = {path.stem.partition("_")[0]: path.name for path in series.NOTEBOOKS.glob("*.ipynb")}
    rows = [
        {
            "in the paper": part.name,
            "lessons": ", ".join(f"[{number}](../notebooks/{paths[number]})" for number in part.lessons),
            "here": part.here,
        }
        for part in PARTS
    ]
    return Table(rows).markdown()


PAPER: dict[str, Any] = {"edgecolor": "black", "facecolor": "white", "label": "in the paper"}
ADDED: dict[str, Any] = {"edgecolor": "#D55E00", "facecolor": "#FBE3D6", "linestyle": "--", "label": "added here"}


def figure() -> Figure:
    """Draw the parts of the paper's figure 1 in black, and what this series adds in orange with dashed lines.

    One drawing holds all five models. The numbers in brackets say which of them have a part; without any, all have it.
    """
    shown, axes = plt.subplots(figsize=(11, 5.4), layout="constrained")
    stages = ["image", "stem", "layer1", "layer2", "layer3", "layer4", "mean"]
    for column, stage in enumerate(stages):
        _box(axes, column, 3, stage, PAPER)
        if column:
            _arrow(axes, (column - 0.59, 3), (column - 0.41, 3), PAPER)
    axes.add_patch(Rectangle((0.5, 2.55), 5, 0.9, facecolor="none", edgecolor="0.6", linestyle=":"))
    axes.text(0.55, 3.5, "ResNet50: random (1), pre-trained (2–5), frozen (2–4)", fontsize=12, va="bottom")
    _box(axes, 7.4, 4, "which of four\nrotations? (5)", PAPER, width=1.5)
    axes.plot([6, 6], [3.3, 4], color="black", linewidth=1.2)
    _arrow(axes, (6, 4), (6.65, 4), PAPER)

    _box(axes, 3, 1.6, "fractal dimension\nlayer (3, 4)", PAPER, width=1.9)
    for column in (1, 2):  # the maps that are measured here
        axes.plot([column, column], [2.7, 1.6], color=ADDED["edgecolor"], linestyle="--", linewidth=1.8)
    _arrow(axes, (1, 1.6), (2.05, 1.6), ADDED)
    axes.text(0.95, 2.1, "early maps", color=ADDED["edgecolor"], fontsize=12, ha="right", va="center")
    _arrow(axes, (3.95, 1.6), (5.5, 1.6), PAPER)
    _arrow(axes, (6, 2.7), (6, 1.9), PAPER)
    _box(axes, 6, 1.6, "features\nside by side", PAPER, width=1.0)

    axes.plot([6, 6, 0], [1.3, 0.85, 0.85], color="black", linewidth=1.2)
    _arrow(axes, (0, 0.85), (0, 0.3), PAPER)
    _box(axes, 0.2, 0, "standardise\n(3, 4)", ADDED, width=1.1)
    _box(axes, 1.75, 0, "projection to\n256, ReLU (4)", ADDED, width=1.4)
    _box(axes, 3.2, 0, "linear", PAPER)
    _box(axes, 4.9, 0, "P(FAKE)", PAPER)
    _box(axes, 6.75, 0, "mean with the\nmirror image\n(1, 3, 4, 5)", ADDED, width=1.5)
    for start, end, fill in (
        (0.75, 1.05, PAPER),
        (2.45, 2.8, PAPER),
        (3.6, 4.5, PAPER),
        (5.3, 6.0, ADDED),
    ):
        _arrow(axes, (start, 0), (end, 0), fill)
    _box(axes, 4.3, -1.25, "cross-entropy (1, 2, 3, 5)\nor combined loss (4)", PAPER, width=2.4)
    _arrow(axes, (4.9, -0.31), (4.9, -0.94), PAPER)
    axes.plot([1.75, 1.75], [-0.3, -1.25], color=ADDED["edgecolor"], linestyle="--", linewidth=1.8)
    _arrow(axes, (1.75, -1.25), (3.1, -1.25), ADDED)
    axes.text(1.7, -0.95, "similarity", color=ADDED["edgecolor"], fontsize=12, ha="right", va="center")
    axes.legend(handles=[Patch(**PAPER), Patch(**ADDED)], loc="lower right", fontsize=12)
    axes.set(xlim=(-0.6, 8.3), ylim=(-1.75, 4.5))
    axes.axis("off")
    return shown


def _box(axes: Axes, x: float, y: float, text: str, fill: dict[str, Any], width: float = 0.8) -> None:
    height = 0.62 if text.count("\n") < 2 else 0.85
    axes.add_patch(Rectangle((x - width / 2, y - height / 2), width, height, linewidth=1.6, **fill))
    axes.text(x, y, text, ha="center", va="center", fontsize=11)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], fill: dict[str, Any]) -> None:
    style = {"arrowstyle": "-|>", "mutation_scale": 13, "shrinkA": 0, "shrinkB": 0, "linewidth": 1.2}
    if fill is ADDED:
        style |= {"linestyle": "--", "linewidth": 1.8}
    axes.add_patch(FancyArrowPatch(start, end, color=fill["edgecolor"], **style))
