"""The widgets of lessons 02 and 02b. Behind each is a pure function from the values of its controls to a view."""

from functools import cache

import numpy as np
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from skimage.measure import block_reduce

from cifake_utils import fractal, needs, sample
from cifake_utils.batches import normalise
from cifake_utils.data import FAKE, LABELS, REAL, Cifake
from cifake_utils.lessons import shapes
from cifake_utils.lessons.plots import COLOURS
from cifake_utils.lessons.widgets import Interactive, View, live, png
from cifake_utils.models import Backbone

with needs("lessons"):
    import ipywidgets

PHOTOGRAPHS = ("astronaut", "flower", "hubble")
PHOTOGRAPH_SIDE = SURFACE_SIDE = 256  # pixels
BOX_SIZES = [*range(1, 17), 20, 24, 27, 32, 48, 64, 81]  # so few that a mouse can stop at each of them
HURST = [step / 20 for step in range(2, 19)]  # what the two surfaces of a pair are drawn from
LEAST_APART, MOST_APART = 0.1, 0.3  # of the Hurst exponents of a pair
ORANGE = np.array(to_rgb(COLOURS["FAKE"]))


draw = cache(shapes.draw)


@cache
def photograph(name: str) -> np.ndarray:
    """Return one of `PHOTOGRAPHS` as grey values from 0 to 1, (PHOTOGRAPH_SIDE, PHOTOGRAPH_SIDE)."""
    return np.asarray(sample.photograph(name).convert("L").resize((PHOTOGRAPH_SIDE, PHOTOGRAPH_SIDE))) / 255


def beside(box: Interactive) -> Interactive:
    """Put the controls of a widget at the left of its picture, and return it: both fit on a small screen together."""
    *controls, picture, message = box.children
    below = len(controls) + 2  # a row for each control, an empty one that takes what is left, and the sentence
    box.layout = ipywidgets.Layout(
        display="grid",
        grid_template_columns="minmax(260px, 1fr) minmax(0, max-content)",
        grid_template_rows=f"repeat({len(controls)}, max-content) 1fr max-content",
        grid_gap="0 12px",
        max_width="900px",
    )
    for row, control in enumerate(controls, 1):
        control.layout = ipywidgets.Layout(width="auto", grid_area=f"{row} / 1")
        control.style.description_width = "64px"
    picture.layout.grid_area = f"1 / 2 / {below} / 3"
    message.layout.grid_area = f"{below} / 1 / {below + 1} / 3"
    return box


def boxes_drawn(mask: np.ndarray, size: int) -> np.ndarray:
    """Return a picture of a set (H, W) and of the boxes that hold a part of it: uint8 (H, W, 3)."""
    height, width = mask.shape
    boxes = block_reduce(mask, size, np.max).repeat(size, 0).repeat(size, 1)[:height, :width]
    picture = np.full((height, width, 3), 255, np.uint8)
    picture[boxes] = 255 * (0.5 + 0.5 * ORANGE)
    if size >= 8:
        border = (np.arange(height) % size == 0)[:, None] | (np.arange(width) % size == 0)
        picture[boxes & border] = 255 * ORANGE
    picture[mask] = 25
    return picture


def render_boxes(name: str, threshold: float, size: int) -> View:
    """Return the explorer's view: a set, its boxes of ``size`` pixels, and log N against log 1/ε with the fit.

    Parameters
    ----------
    name : str
        One of `shapes.SHAPES` or `PHOTOGRAPHS`.
    threshold : float
        Grey value from 0 to 1. The set is made of the pixels of a photograph that are brighter.
    size : int
        Side of a box in pixels.
    """
    mask = draw(name).mask if name in shapes.SHAPES else photograph(name) > threshold
    figure = Figure((6.2, 3.2))
    edges = {"left": 0.01, "right": 0.98, "bottom": 0.17, "top": 0.97, "wspace": 0.24}
    left, right = figure.subplots(1, 2, gridspec_kw=edges)
    left.imshow(boxes_drawn(mask, size), interpolation="antialiased")
    left.axis("off")
    if not mask.any():
        return figure, "No pixel is brighter than the threshold. The set is empty, and nothing has no dimension."
    fit = fractal.box_counting_dimension(mask, return_fit=True)
    count = int(fractal.box_counts(mask, [size])[0])
    x = -np.log(fit.sizes)
    right.plot(x, np.log(fit.counts), "o", color="black", label="counted")
    right.plot(x, fit.dimension * x + fit.intercept, color="0.5", label=f"slope {fit.dimension:.3f}")
    right.plot(-np.log(size), np.log(count), "s", color=ORANGE, ms=11, mew=2, mfc="none", label="the boxes shown")
    right.set(xlabel="log 1/ε (ε: box size in pixels)", ylabel="log N (N: number of boxes)")
    right.legend(loc="upper left")
    truth = f"; the set's own dimension is {draw(name).dimension:.3f}" if name in shapes.SHAPES else ""
    boxes = "box" if count == 1 else "boxes"
    return figure, f"{count:,} {boxes} of {size}×{size} pixels. Slope of the fit: {fit.dimension:.3f}{truth}."


def box_counting_explorer() -> Interactive:
    """Return the explorer, in which the reader chooses a set or a photograph, a threshold and a box size."""
    return beside(
        live(
            render_boxes,
            name=ipywidgets.Dropdown(
                options=[*shapes.SHAPES, *PHOTOGRAPHS], value="Sierpinski triangle", description="set"
            ),
            threshold=ipywidgets.FloatSlider(0.5, min=0, max=1, step=0.05, description="threshold"),
            size=ipywidgets.SelectionSlider(options=BOX_SIZES, value=32, description="box size"),
        )
    )


def outline(mask: np.ndarray) -> np.ndarray:
    """Return which pixels of a mask (H, W) differ from their right or lower neighbour: bool (H, W)."""
    edge = np.zeros_like(mask)
    edge[:, :-1] |= mask[:, 1:] != mask[:, :-1]
    edge[:-1] |= mask[1:] != mask[:-1]
    return edge


def contour_dimension(surface: np.ndarray) -> float:
    """Return 1 + the box-counting dimension of the contour line at the median.

    For a fractional Brownian surface this is the dimension of the surface.
    """
    return 1 + fractal.box_counting_dimension(outline(surface > np.median(surface)))


# The estimators that lesson 02b compares. Each takes a surface (H, W).
SURFACE_ESTIMATORS = {
    "variogram": fractal.variogram_dimension,
    "contour line + 1": contour_dimension,
    "differential box counting": fractal.differential_box_counting_dimension,
}


@cache
def brownian(hurst: float, seed: int) -> np.ndarray:
    """Return a fractional Brownian surface of `SURFACE_SIDE` pixels a side."""
    return shapes.fractional_brownian_surface(SURFACE_SIDE, hurst, seed)


def render_roughness(hurst: float, seed: int = 0) -> View:
    """Show a fractional Brownian surface, a cut through it, and three estimates beside the true dimension 3 − H."""
    surface = brownian(hurst, seed)
    figure = Figure((9, 3))
    edges = {"left": 0.01, "right": 0.98, "bottom": 0.1, "top": 0.9, "wspace": 0.15}
    left, middle, right = figure.subplots(1, 3, gridspec_kw=edges | {"width_ratios": (1, 1, 1)})
    left.imshow(surface, cmap="cividis")
    left.axis("off")
    middle.plot(surface[SURFACE_SIDE // 2], color="black", linewidth=1)
    middle.set(xticks=[], yticks=[], title="a cut through the middle", xlabel="place", ylabel="height")
    estimates = {name: estimator(surface) for name, estimator in SURFACE_ESTIMATORS.items()}
    for place, (value, marker) in enumerate(zip(estimates.values(), "osD", strict=True)):
        right.plot(value, -place, marker, color="black")
        right.annotate(list(estimates)[place], (1.93, 0.2 - place), fontsize=9)
    right.axvline(3 - hurst, color="0.5", linestyle="--")
    right.set(xlim=(1.9, 3.1), ylim=(-2.5, 0.5), yticks=[], title="dimension (dashed: truth)")
    numbers = ", ".join(f"{name} {value:.2f}" for name, value in estimates.items())
    return figure, f"H = {hurst:.2f}, dimension 3 − H = {3 - hurst:.2f}. Estimates: {numbers}."


def draw_pair(seed: int) -> tuple[float, float]:
    """Return two of `HURST` for the surfaces A and B, from `LEAST_APART` to `MOST_APART` apart."""
    generator = np.random.default_rng(seed)
    while True:
        first, second = (float(value) for value in generator.choice(HURST, 2, replace=False))
        if LEAST_APART - 1e-9 <= abs(first - second) <= MOST_APART + 1e-9:
            return first, second


def render_pair(pair: tuple[float, float], seed: int, answer: str | None = None) -> View:
    """Show two fractional Brownian surfaces, A and B. With an answer, say which is the rougher one, and how rough.

    Parameters
    ----------
    pair : tuple of float
        Hurst exponents of A and B.
    seed : int
        Of the surfaces. They have different random numbers.
    answer : str, optional
        ``"A"`` or ``"B"``: what the reader takes for the rougher one.
    """
    surfaces = [brownian(hurst, 2 * seed + place) for place, hurst in enumerate(pair)]
    figure = Figure((6, 3.2))
    panels = figure.subplots(1, 2, gridspec_kw={"left": 0.01, "right": 0.99, "bottom": 0.01, "top": 0.9})
    for name, surface, hurst, panel in zip("AB", surfaces, pair, panels, strict=True):
        panel.imshow(surface, cmap="cividis")
        panel.axis("off")
        panel.set_title(name if answer is None else f"{name}: H = {hurst:.2f}, dimension {3 - hurst:.2f}", fontsize=12)
    if answer is None:
        return figure, "Which one is rougher?"
    rougher = "AB"[int(np.argmin(pair))]
    measured = " and ".join(f"{fractal.variogram_dimension(surface):.2f}" for surface in surfaces)
    verdict = "Right" if answer == rougher else "No"
    return figure, f"{verdict}: {rougher} has the smaller H, so it is rougher. The variogram measures {measured}."


def which_is_rougher(seed: int = 0) -> Interactive:
    """Return a game: two surfaces, of which the reader chooses the rougher one; then both dimensions are shown."""
    picture = ipywidgets.Image(format="png", layout={"align_self": "flex-start"})
    message = ipywidgets.HTML()
    choices = {name: ipywidgets.Button(description=f"{name} is rougher") for name in "AB"}
    again = ipywidgets.Button(description="new pair", icon="refresh")
    right: list[bool] = []  # for every answered pair

    def show(answer: str | None = None) -> None:
        pair = draw_pair(seed)
        figure, text = render_pair(pair, seed, answer)
        if answer is not None:
            right.append(answer == "AB"[int(np.argmin(pair))])
        score = f" {sum(right)} of {len(right)} right so far." if right else ""
        picture.value, message.value = png(figure), text + score
        for button in choices.values():
            button.disabled = answer is not None

    def restart(_button: ipywidgets.Button) -> None:
        nonlocal seed
        seed += 1
        show()

    for name, button in choices.items():
        button.on_click(lambda _button, name=name: show(name))
    again.on_click(restart)
    show()
    return Interactive([picture, ipywidgets.HBox([*choices.values(), again]), message])


def render_map(images: torch.Tensor, maps: torch.Tensor, threshold: float) -> View:
    """Show a REAL image above a FAKE one, the map of one channel for each, and the set of its pixels above a threshold.

    Parameters
    ----------
    images : torch.Tensor
        uint8, shape (2, 3, 32, 32): REAL, FAKE.
    maps : torch.Tensor
        Shape (2, H, W), in standard deviations from the channel's mean over training images.
    threshold : float
        In the same units.
    """
    figure = Figure((5.8, 4.2))
    edges = {"left": 0.01, "right": 0.99, "bottom": 0.02, "top": 0.93}
    limit = max(1.0, float(maps.abs().max()))
    sentences = []
    for label, row in enumerate(figure.subplots(2, 3, gridspec_kw=edges)):
        mask = (maps[label] > threshold).numpy()
        row[0].imshow(images[label].permute(1, 2, 0).numpy())
        row[1].imshow(maps[label].numpy(), cmap="cividis", vmin=-limit, vmax=limit)
        row[2].imshow(mask, cmap="Greys", vmin=0, vmax=1.3)
        counts = fractal.box_counts(mask, fractal.default_sizes(*mask.shape))
        dimension = (
            fractal.box_counting_dimension(mask) if mask.any() else 0.0
        )  # the value of the layer for an empty map
        row[0].set_title(f"{LABELS[label]} image", color=COLOURS[LABELS[label]], fontsize=10)
        row[1].set_title(f"one channel, {mask.shape[1]}×{mask.shape[0]}", fontsize=10)
        row[2].set_title(f"above: dimension {dimension:.2f}", fontsize=10)
        for panel in row:
            panel.set(xticks=[], yticks=[])
        sentences.append(f"{LABELS[label]}: boxes {', '.join(map(str, counts))}, dimension {dimension:.2f}")
    return figure, f"{'; '.join(sentences)}."


def inside_the_network(backbone: Backbone, layers: dict[str, fractal.FractalDimension], cifake: Cifake) -> Interactive:
    """Return the map widget, in which the reader chooses an object class, a stage, a channel and a threshold.

    Parameters
    ----------
    backbone : Backbone
        In eval mode.
    layers : dict of str to FractalDimension
        For every stage to choose from, a layer that was fitted on training maps.
    cifake : Cifake
        The first REAL and the first FAKE test image of each object class are shown.
    """
    test = cifake.test
    first = {
        name: [int(((test.labels == label) & (test.classes == klass)).nonzero()[0]) for label in (REAL, FAKE)]
        for klass, name in enumerate(cifake.class_names)
    }
    with torch.inference_mode():
        maps = {name: backbone(normalise(test.images[pair])) for name, pair in first.items()}

    def render(image: str, stage: str, channel: int, threshold: float) -> View:
        layer = layers[stage]
        shown = (maps[image][stage][:, channel] - layer.threshold[channel]) / layer.scale[channel]
        return render_map(test.images[first[image]], shown, threshold)

    stage = ipywidgets.Dropdown(options=list(layers), description="stage")
    # A field, since a slider would not be long enough for 256 channels.
    last = _last_channel(layers[stage.value])  # pyright: ignore[reportArgumentType]
    channel = ipywidgets.BoundedIntText(0, min=0, max=last, description="channel")
    stage.observe(lambda change: setattr(channel, "max", _last_channel(layers[change["new"]])), "value")
    return beside(
        live(
            render,
            image=ipywidgets.Dropdown(options=list(first), description="image of"),
            stage=stage,
            channel=channel,
            threshold=ipywidgets.FloatSlider(0, min=-2, max=2, step=0.1, description="threshold"),
        )
    )


def _last_channel(layer: fractal.FractalDimension) -> int:
    return len(layer.threshold) - 1
