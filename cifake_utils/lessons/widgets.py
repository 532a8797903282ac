"""The widgets of the lessons. Behind each is a pure function from its state to a figure."""

import base64
import io
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from html import escape

import numpy as np
import torch
from matplotlib.figure import Figure, FigureBase
from matplotlib.ticker import NullFormatter
from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix, roc_curve

from cifake_utils import CifakeError, evaluation, needs, rotation
from cifake_utils.data import FAKE, LABELS, REAL, ImageSet

with needs("lessons"):
    import ipywidgets

View = tuple[Figure, str]  # a picture and the sentence below it, as a render function returns them

PAUSE = 0.35  # seconds after a new image in which no answer counts: the second click of a double click comes then

# Where the top of an image is after so many quarter turns counter-clockwise.
SIDES = ("top (0°)", "left (90°)", "bottom (180°)", "right (270°)")


def png(figure: Figure) -> bytes:
    """Return a figure as PNG bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80)
    return buffer.getvalue()


class Interactive(ipywidgets.VBox):
    """A column of widgets, one of which is a picture, with a static version for viewers that can't run widgets.

    Besides the widget, the output stores the picture as it is first shown, and a sentence. GitHub shows these, and so
    does a JupyterLab that does not trust the notebook yet.
    """

    def _repr_mimebundle_(self, **options) -> dict:
        (picture,) = (part for part in self.children if isinstance(part, ipywidgets.Image))
        return (super()._repr_mimebundle_(**options) or {}) | {
            "image/png": base64.b64encode(picture.value).decode(),
            "text/plain": "An interactive figure: run this cell to play with it.",
        }


def live(render: Callable[..., View], **controls: ipywidgets.ValueWidget) -> Interactive:
    """Return controls with a picture and a sentence that ``render`` makes from their values, which it gets by name."""
    picture = ipywidgets.Image(format="png", layout={"align_self": "flex-start"})  # not stretched to the cell's width
    message = ipywidgets.HTML()  # unlike a label, it breaks long lines

    def show(_change: dict | None = None) -> None:
        figure, text = render(**{name: control.value for name, control in controls.items()})
        message.value = escape(text, quote=False)
        picture.value = png(figure)

    for control in controls.values():
        control.observe(show, "value")
    show()
    return Interactive([*controls.values(), picture, message])


@dataclass
class QuizState:
    """A round of a quiz: the images, the possible answers, and the answers so far.

    Attributes
    ----------
    images : ImageSet
        The images in the order of the questions. Their labels are the correct answers, as indices into ``choices``.
    choices : tuple of str
        Names of the answers.
    answers : list of int
        For every image that was answered, an index into ``choices``.
    """

    images: ImageSet
    choices: tuple[str, ...] = LABELS
    answers: list[int] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        return len(self.answers) == len(self.images)

    @property
    def score(self) -> int:
        """Number of right answers so far."""
        return int((self.images.labels[: len(self.answers)].numpy() == np.array(self.answers)).sum())

    @property
    def wrong(self) -> np.ndarray:
        """Which images of a finished quiz were answered wrongly: bool (N,)."""
        return self.images.labels.numpy() != np.array(self.answers)

    def message(self) -> str:
        """Return the text below the picture of the quiz."""
        if self.finished:
            low, high = evaluation.accuracy_interval(self.score / len(self.images), len(self.images))
            guessing = 100 / len(self.choices)
            return (
                f"{self.score} of {len(self.images)} right. From so few images, your true accuracy lies between "
                f"{100 * low:.0f} % and {100 * high:.0f} % (95 % interval); guessing gives {guessing:.0f} %. "
                f"{self._review()}"
            )
        return f"Image {len(self.answers) + 1} of {len(self.images)}, {self.score} right so far."

    def _review(self) -> str:
        """Return how many images of each kind were answered wrongly."""
        labels, answers = self.images.labels.numpy(), np.array(self.answers)
        parts = []
        for label in np.unique(labels):
            here = labels == label
            parts.append(f"{(answers[here] != label).sum()} of {here.sum()} {self.choices[label]}")
        return f"Wrong: {', '.join(parts)}."


def draw_quiz(images: ImageSet, count: int, seed: int) -> QuizState:
    """Return a new quiz with ``count`` images drawn at random, half of them FAKE, and no two alike.

    The object classes take turns, so that ten images show ten classes where there are so many. Raises a `CifakeError`
    if there are too few images of a label.
    """
    rng = np.random.default_rng(seed)
    labels, classes = images.labels.numpy(), images.classes.numpy()
    turn = {klass: place for place, klass in enumerate(rng.permutation(np.unique(classes)))}
    chosen: list[int] = []
    for label, wanted in ((REAL, count // 2), (FAKE, count - count // 2)):
        rows = rng.permutation(np.flatnonzero(labels == label))
        if len(rows) < wanted:
            raise CifakeError(
                f"The quiz needs {wanted} images with the label {LABELS[label]}, and there are {len(rows)}. "
                "Choose a smaller count."
            )
        # FAKE goes on with the classes at which REAL stopped. Among images of one class the first one comes first.
        seen: Counter = Counter()
        order = []
        for row in rows:
            klass = classes[row]
            order.append((seen[klass], (turn[klass] - (count // 2) * label) % len(turn), row))
            seen[klass] += 1
        chosen += [row for _, _, row in sorted(order)[:wanted]]
    return QuizState(images.subset(rng.permutation(chosen)))


def draw_turns(images: ImageSet, count: int, seed: int) -> QuizState:
    """Return a new quiz with ``count`` images drawn at random, each turned by a random one of `rotation.ANGLES`.

    They are drawn from those images whose turn can be told best by the light: the upper half is brighter than the lower
    one, and by most, compared with the left and the right half. Of many images, the best twentieth takes part. Raises a
    `CifakeError` if there are too few images.
    """
    rng = np.random.default_rng(seed)
    able = light_from_above(images.images).argsort(descending=True, stable=True)[: max(4 * count, len(images) // 20)]
    if len(able) < count:
        raise CifakeError(f"The quiz needs {count} images, and there are {len(able)}. Choose a smaller count.")
    chosen = images.subset(rng.choice(able.numpy(), count, replace=False))
    turns = torch.from_numpy(rng.integers(len(SIDES), size=count))
    return QuizState(replace(chosen, images=rotation.rotate(chosen.images, turns), labels=turns), SIDES)


def light_from_above(images: torch.Tensor) -> torch.Tensor:
    """Return by how much images are brighter above than below, minus the difference of left and right.

    uint8 (N, 3, H, H) to float32 (N,), in grey levels. Large where the light comes from above, and not from a side.
    """
    grey = torch.cat([part.float().mean(1) for part in images.split(1000)])  # as floats, all images would be large
    half = grey.shape[-1] // 2
    down = grey[:, :half].mean((1, 2)) - grey[:, half:].mean((1, 2))
    across = grey[:, :, :half].mean((1, 2)) - grey[:, :, half:].mean((1, 2))
    return down - across.abs()


def render_quiz(state: QuizState) -> Figure:
    """Return the picture of a quiz: the current image, or at the end every image with its correct answer.

    At the end, images that were answered wrongly come first, each in a thick frame and with the reader's answer.
    """
    if not state.finished:
        figure = Figure((3, 3), layout="constrained")
        axes = figure.subplots()
        axes.imshow(state.images.images[len(state.answers)].permute(1, 2, 0).numpy(), interpolation="nearest")
        axes.axis("off")
        return figure
    places = np.argsort(~state.wrong, kind="stable")
    figure = Figure((1.75 * COLUMNS, 2.1 * -(-len(places) // COLUMNS)), layout="constrained")
    _review(figure, state, places)
    return figure


COLUMNS = 5  # of the pictures at the end of a quiz


def _review(figure: FigureBase, state: QuizState, places: np.ndarray) -> None:
    """Show the images at these places of a finished quiz, with the correct answer and, where it was wrong, the given.

    The figure has room for rows of five images.
    """
    panels = figure.subplots(-(-len(places) // COLUMNS), COLUMNS, squeeze=False).flat
    for panel in panels:
        panel.set(xticks=[], yticks=[])
        panel.axis("off")
    for panel, place in zip(figure.axes, places, strict=False):  # pyright: ignore[reportArgumentType]
        panel.imshow(state.images.images[place].permute(1, 2, 0).numpy(), interpolation="nearest")
        right, given = (state.choices[index] for index in (state.images.labels[place], state.answers[place]))
        panel.set_title(f"{right} ✗\nyou: {given}" if state.wrong[place] else f"{right} ✓", fontsize=11)
        if state.wrong[place]:
            panel.axis("on")
            for spine in panel.spines.values():
                spine.set(linewidth=5, edgecolor="#CC79A7")  # seen on dark and on light images


def real_or_rendered(images: ImageSet, count: int = 10, seed: int | None = None) -> Interactive:
    """Return the quiz *real or rendered?* over ``count`` of the images. Without a seed every call draws others."""
    seed = int(np.random.default_rng().integers(2**31)) if seed is None else seed
    return _quiz(lambda seed: draw_quiz(images, count, seed), _labels(), seed)


def which_way_up(images: ImageSet, count: int = 10, seed: int = 0) -> Interactive:
    """Return the quiz *which way is up?* over ``count`` of the images, each turned by 0°, 90°, 180° or 270°.

    `draw_turns` says which of the images take part. The keys 1 to 4 in the field below the buttons answer too.
    """
    icons = ("arrow-up", "arrow-left", "arrow-down", "arrow-right")
    buttons = {
        turn: ipywidgets.Button(description=side, icon=icon, layout={"width": "auto"})
        for turn, (side, icon) in enumerate(zip(SIDES, icons, strict=True))
    }
    return _quiz(lambda seed: draw_turns(images, count, seed), buttons, seed, keys="1234")


def render_standing(state: QuizState, models: Mapping[str, float | np.ndarray]) -> Figure:
    """Return a reader's accuracy in a finished quiz with its 95 % interval, above those of models.

    Parameters
    ----------
    state : QuizState
        Finished.
    models : dict of str to float or np.ndarray
        P(FAKE) of the quiz's images, in their order, (N,): the model answers the same images, and its accuracy has an
        interval too. Or an accuracy, 0 to 1, that was measured on more images of the same data set.
    """
    figure = Figure((7.4, 0.4 * len(models) + 1.5), layout="constrained")
    _standing(figure, state, models)
    return figure


def _standing(figure: FigureBase, state: QuizState, models: Mapping[str, float | np.ndarray]) -> None:
    axes = figure.subplots()
    count, labels = len(state.images), state.images.labels.numpy()
    axes.axvline(0.5, color="0.6", linestyle=":")
    rows = {"you": (state.score / count, "o", "black")}
    for name, answers in models.items():
        same = isinstance(answers, np.ndarray)
        accuracy = float(((answers > 0.5) == (labels == FAKE)).mean()) if same else answers
        rows[name] = (accuracy, "s" if same else "D", "#0173B2")  # pyright: ignore[reportArgumentType]
    for row, (name, (accuracy, marker, colour)) in enumerate(rows.items()):
        same = name == "you" or isinstance(models[name], np.ndarray)
        low, high = evaluation.accuracy_interval(accuracy, count) if same else (accuracy, accuracy)
        bars = [[accuracy - low], [high - accuracy]]
        axes.errorbar([accuracy], [row], xerr=bars, fmt=marker, color=colour, capsize=5 if same else 0)
    axes.set_yticks(range(len(rows)), list(rows), fontsize=11)
    axes.set_xlabel(f"accuracy on these {count} images, 95 % interval (dotted: guessing)", fontsize=11)
    if any(not isinstance(answers, np.ndarray) for answers in models.values()):
        axes.set_xlabel(f"accuracy: you on {count} images, models on more (dotted: guessing)", fontsize=11)
    axes.set(xlim=(0.0, 1.03), ylim=(len(rows) - 0.4, -0.6))


def render_result(state: QuizState, models: Mapping[str, float | np.ndarray]) -> Figure:
    """Return what `render_standing` shows, and below it the images that the reader got wrong, with both answers."""
    places = np.flatnonzero(state.wrong)
    if not len(places):
        return render_standing(state, models)
    heights = (0.4 * len(models) + 1.5, 2.1 * -(-len(places) // COLUMNS))
    figure = Figure((1.75 * COLUMNS, sum(heights)), layout="constrained")
    above, below = figure.subfigures(2, height_ratios=heights)  # pyright: ignore[reportGeneralTypeIssues]
    _standing(above, state, models)
    _review(below, state, places)
    return figure


def against_the_models(
    images: ImageSet, models: Mapping[str, float | np.ndarray], count: int = 20, seed: int = 0
) -> Interactive:
    """Return the quiz *real or rendered?*, at whose end the reader is placed on one axis with models.

    Parameters
    ----------
    images : ImageSet
    models : dict of str to float or np.ndarray
        P(FAKE) (N,) of ``images``, in their order: then the model answers the same images as the reader. Or an
        accuracy, which must have been measured on images of the same data set.
    count, seed : int
        Number of images, and which ones.
    """
    row_of = {name: row for row, name in enumerate(images.names)}

    def render(state: QuizState) -> Figure:
        if not state.finished:
            return render_quiz(state)
        rows = [row_of[name] for name in state.images.names]
        asked = {name: value[rows] if isinstance(value, np.ndarray) else value for name, value in models.items()}
        return render_result(state, asked)

    return _quiz(lambda seed: draw_quiz(images, count, seed), _labels(), seed, render)


def render_threshold(probabilities: np.ndarray, labels: np.ndarray, threshold: float, miss: float) -> View:
    """Show a detector's confusion matrix and its point on the ROC curve, and state the cost of its errors.

    The axis of the false alarms is logarithmic, and that of the hits begins where the two points need it, so that the
    corner of a good detector is large enough. The point of the threshold 1 / (1 + miss) is marked too: if the
    probabilities are calibrated, it has the lowest expected cost.

    Parameters
    ----------
    probabilities, labels : np.ndarray
        P(FAKE) and labels, (N,).
    threshold : float
        An image is called FAKE where P(FAKE) is above it.
    miss : float
        Cost of a FAKE image that is called REAL. A REAL image that is called FAKE costs 1.
    """
    probabilities = np.asarray(probabilities, float)
    best = 1 / (1 + miss)
    matrix, alarm, hit, cost = _decided(probabilities, labels, threshold, miss)
    _, best_alarm, best_hit, best_cost = _decided(probabilities, labels, best, miss)
    false_alarms, hits, _ = roc_curve(labels, probabilities, drop_intermediate=False)
    figure = Figure((8.6, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.3))
    ConfusionMatrixDisplay(matrix, display_labels=LABELS).plot(
        ax=left, cmap="Greys", colorbar=False, values_format=",d", text_kw={"fontsize": 13}
    )
    left.set_xlabel("called", fontsize=12)
    left.set_ylabel("is", fontsize=12)
    lowest = 1 / (2 * matrix[REAL].sum())  # no false alarm at all has no place on a logarithmic axis
    right.plot(np.maximum(false_alarms, lowest), hits, color="0.5", label="all thresholds")
    right.plot(
        max(best_alarm, lowest), best_hit, "D", color="#DE8F05", markersize=11, label=f"1 / (1 + cost) = {best:.2f}"
    )
    right.plot(max(alarm, lowest), hit, "o", color="black", markersize=7, label=f"yours: {threshold:.2f}")
    bottom = 0.75 if min(hit, best_hit) > 0.77 else 0.0
    right.set(xscale="log", xlim=(0.8 * lowest, 1.2), ylim=(bottom, 1 + 0.02 * (1 - bottom)))
    right.set_xlabel("REAL images called FAKE (share)", fontsize=12)
    right.set_ylabel("FAKE images found (share)", fontsize=12)
    right.xaxis.set_minor_formatter(NullFormatter())
    right.grid(color="0.9")
    right.legend(loc="lower right", fontsize=11)
    return figure, (
        f"Threshold {threshold:.2f}: {hit:.1%} of the FAKE images found, {alarm:.1%} of the REAL ones called FAKE, "
        f"accuracy {np.trace(matrix) / len(labels):.4f}, cost {cost:.4f} an image. "
        f"The threshold 1 / (1 + cost) = {best:.2f} would cost {best_cost:.4f} an image."
    )


def _decided(
    probabilities: np.ndarray, labels: np.ndarray, threshold: float, miss: float
) -> tuple[np.ndarray, float, float, float]:
    """Return the confusion matrix at a threshold, the shares of false alarms and of hits, and the cost of an image."""
    matrix = confusion_matrix(labels, probabilities > threshold, labels=(REAL, FAKE))
    alarm, hit = matrix[REAL, FAKE] / matrix[REAL].sum(), matrix[FAKE, FAKE] / matrix[FAKE].sum()
    return matrix, alarm, hit, (matrix[REAL, FAKE] + miss * matrix[FAKE, REAL]) / len(labels)


def threshold_explorer(runs: dict[str, tuple[np.ndarray, np.ndarray]]) -> Interactive:
    """Return the threshold explorer, in which the reader chooses a detector, a threshold and the cost of a miss.

    Parameters
    ----------
    runs : dict of str to pair of np.ndarray
        P(FAKE) and labels (N,) of each detector's images.
    """

    def render(detector: str, threshold: float, miss: float) -> View:
        probabilities, labels = runs[detector]
        return render_threshold(probabilities.astype(np.float32), labels, threshold, miss)

    looks = {"style": {"description_width": "110px"}, "layout": {"width": "min(98%, 520px)"}}
    return live(
        render,
        detector=ipywidgets.Dropdown(options=list(runs), description="detector", **looks),
        threshold=ipywidgets.FloatSlider(0.5, min=0, max=1, step=0.01, description="threshold", **looks),
        miss=ipywidgets.FloatSlider(1, min=0.1, max=10, step=0.1, description="cost of a miss", **looks),
    )


def _labels() -> dict[int, ipywidgets.Button]:
    return {
        REAL: ipywidgets.Button(description="photograph", icon="camera"),
        FAKE: ipywidgets.Button(description="rendered", icon="magic"),
    }


def _quiz(
    draw: Callable[[int], QuizState],
    buttons: dict[int, ipywidgets.Button],
    seed: int,
    render: Callable[[QuizState], Figure] = render_quiz,
    keys: str = "",
) -> Interactive:
    """Return a quiz. ``draw`` makes a new round from a seed. Each button gives the answer that is its key.

    With ``keys`` there is a field too, in which the first of these characters is the first button, and so on.
    """
    state, shown_at = draw(seed), 0.0
    picture = ipywidgets.Image(format="png", layout={"align_self": "flex-start"})  # not stretched to the cell's width
    message = ipywidgets.HTML()
    again = ipywidgets.Button(description="new images", icon="refresh")
    field = ipywidgets.Text(placeholder=f"click here, then press {keys[:1]} to {keys[-1:]}", layout={"width": "220px"})

    def show() -> None:
        nonlocal shown_at
        picture.value = png(render(state))
        message.value = state.message()
        for button in buttons.values():
            button.disabled = state.finished
        shown_at = time.monotonic()

    def answer(label: int) -> None:
        if state.finished or time.monotonic() - shown_at < PAUSE:
            return
        state.answers.append(label)
        show()

    def pressed(change: dict) -> None:
        key = change["new"][-1:]
        if key:
            field.value = ""
            if key in keys:
                answer(list(buttons)[keys.index(key)])

    def restart(_button: ipywidgets.Button) -> None:
        nonlocal state, seed
        seed += 1
        state = draw(seed)
        show()

    for label, button in buttons.items():
        button.on_click(lambda _button, label=label: answer(label))
    field.observe(pressed, "value")
    again.on_click(restart)
    show()
    row = ipywidgets.HBox([*buttons.values(), again], layout={"flex_flow": "row wrap"})
    return Interactive([picture, row, *([field] if keys else []), message])
