"""The widgets of the lessons. Behind each is a pure function from its state to a figure."""

import base64
import io
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from html import escape

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix, roc_curve

from cifake_utils import CifakeError, evaluation, needs, rotation
from cifake_utils.data import FAKE, LABELS, REAL, ImageSet

with needs("lessons"):
    import ipywidgets

View = tuple[Figure, str]  # a picture and the sentence below it, as a render function returns them

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
    """Return a new quiz with ``count`` images drawn at random, each turned by a random one of `rotation.ANGLES`."""
    rng = np.random.default_rng(seed)
    chosen = images.subset(rng.choice(len(images), count, replace=False))
    turns = torch.from_numpy(rng.integers(len(SIDES), size=count))
    return QuizState(replace(chosen, images=rotation.rotate(chosen.images, turns), labels=turns), SIDES)


def render_quiz(state: QuizState) -> Figure:
    """Return the picture of a quiz: the current image, or at the end every image with its correct answer.

    At the end, images that were answered wrongly come first, each in a thick frame.
    """
    pixels = state.images.images.permute(0, 2, 3, 1).numpy()
    if not state.finished:
        figure = Figure((3, 3), layout="constrained")
        axes = figure.subplots()
        axes.imshow(pixels[len(state.answers)], interpolation="nearest")
        axes.axis("off")
        return figure
    columns = 5
    rows = -(-len(pixels) // columns)
    figure = Figure((1.6 * columns, 1.9 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flat
    wrong = state.images.labels.numpy() != np.array(state.answers)
    for panel in panels:
        panel.set(xticks=[], yticks=[])
        panel.axis("off")
    for panel, place in zip(figure.axes, np.argsort(~wrong, kind="stable"), strict=False):
        panel.imshow(pixels[place], interpolation="nearest")
        panel.set_title(f"{state.choices[state.images.labels[place]]} {'✗' if wrong[place] else '✓'}", fontsize=11)
        if wrong[place]:
            panel.axis("on")
            for spine in panel.spines.values():
                spine.set(linewidth=5, edgecolor="#CC79A7")  # seen on dark and on light images
    return figure


def real_or_rendered(images: ImageSet, count: int = 10, seed: int | None = None) -> Interactive:
    """Return the quiz *real or rendered?* over ``count`` of the images. Without a seed every call draws others."""
    seed = int(np.random.default_rng().integers(2**31)) if seed is None else seed
    return _quiz(lambda seed: draw_quiz(images, count, seed), _labels(), seed)


def which_way_up(images: ImageSet, count: int = 10, seed: int = 0) -> Interactive:
    """Return the quiz *which way is up?* over ``count`` of the images, each turned by 0°, 90°, 180° or 270°."""
    icons = ("arrow-up", "arrow-left", "arrow-down", "arrow-right")
    buttons = {
        turn: ipywidgets.Button(description=side, icon=icon, layout={"width": "auto"})
        for turn, (side, icon) in enumerate(zip(SIDES, icons, strict=True))
    }
    return _quiz(lambda seed: draw_turns(images, count, seed), buttons, seed)


def render_standing(state: QuizState, models: dict[str, float]) -> Figure:
    """Return a reader's accuracy in a finished quiz with its 95 % interval, above the accuracies of models.

    Parameters
    ----------
    state : QuizState
        Finished.
    models : dict of str to float
        Accuracies, 0 to 1.
    """
    accuracy = state.score / len(state.images)
    low, high = evaluation.accuracy_interval(accuracy, len(state.images))
    figure = Figure((7, 0.4 * len(models) + 1.4), layout="constrained")
    axes = figure.subplots()
    axes.errorbar([accuracy], [0], xerr=[[accuracy - low], [high - accuracy]], fmt="o", color="black", capsize=5)
    axes.plot(list(models.values()), range(1, len(models) + 1), "D", color="0.4")
    axes.axvline(0.5, color="0.6", linestyle=":")
    axes.set_yticks(range(len(models) + 1), ["you", *models])
    axes.set(xlim=(0.2, 1.02), ylim=(len(models) + 0.6, -0.6), xlabel="accuracy (dotted: guessing)")
    return figure


def against_the_models(images: ImageSet, models: dict[str, float], count: int = 20, seed: int = 0) -> Interactive:
    """Return the quiz *real or rendered?*, at whose end the reader is placed on one axis with models."""

    def render(state: QuizState) -> Figure:
        return render_standing(state, models) if state.finished else render_quiz(state)

    return _quiz(lambda seed: draw_quiz(images, count, seed), _labels(), seed, render)


def render_threshold(probabilities: np.ndarray, labels: np.ndarray, threshold: float, miss: float) -> View:
    """Show a detector's confusion matrix and its point on the ROC curve, and state the cost of its errors.

    Parameters
    ----------
    probabilities, labels : np.ndarray
        P(FAKE) and labels, (N,).
    threshold : float
        An image is called FAKE where P(FAKE) is above it.
    miss : float
        Cost of a FAKE image that is called REAL. A REAL image that is called FAKE costs 1.
    """
    decided = (probabilities > threshold).astype(int)
    matrix = confusion_matrix(labels, decided)
    false_alarms, hits, _ = roc_curve(labels, probabilities)
    figure = Figure((7.5, 3.4))
    left, right = figure.subplots(1, 2, gridspec_kw={"left": 0.09, "right": 0.98, "bottom": 0.15, "wspace": 0.3})
    ConfusionMatrixDisplay(matrix, display_labels=LABELS).plot(
        ax=left, cmap="Greys", colorbar=False, values_format=",d"
    )
    right.plot(false_alarms, hits, color="0.5")
    alarm, hit = matrix[REAL, FAKE] / matrix[REAL].sum(), matrix[FAKE, FAKE] / matrix[FAKE].sum()
    right.plot(alarm, hit, "o", color="black", markersize=9)
    right.set(xlabel="REAL images called FAKE", ylabel="FAKE images found", xlim=(-0.02, 1), ylim=(0, 1.02))
    cost = (matrix[REAL, FAKE] + miss * matrix[FAKE, REAL]) / len(labels)
    return figure, (
        f"Threshold {threshold:.2f}: {hit:.1%} of the FAKE images found, {alarm:.1%} of the REAL ones called FAKE, "
        f"accuracy {np.trace(matrix) / len(labels):.4f}, cost {cost:.4f} an image."
    )


def threshold_explorer(runs: dict[str, tuple[np.ndarray, np.ndarray]]) -> Interactive:
    """Return the threshold explorer, in which the reader chooses a detector, a threshold and the cost of a miss.

    Parameters
    ----------
    runs : dict of str to pair of np.ndarray
        P(FAKE) and labels (N,) of each detector's test images.
    """

    def render(detector: str, threshold: float, miss: float) -> View:
        probabilities, labels = runs[detector]
        return render_threshold(probabilities.astype(np.float32), labels, threshold, miss)

    return live(
        render,
        detector=ipywidgets.Dropdown(options=list(runs), description="detector"),
        threshold=ipywidgets.FloatSlider(0.5, min=0, max=1, step=0.01, description="threshold"),
        miss=ipywidgets.FloatSlider(1, min=0.1, max=10, step=0.1, description="cost of a miss"),
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
) -> Interactive:
    """Return a quiz. ``draw`` makes a new round from a seed. Each button gives the answer that is its key."""
    state = draw(seed)
    picture = ipywidgets.Image(format="png", layout={"align_self": "flex-start"})  # not stretched to the cell's width
    message = ipywidgets.HTML()
    again = ipywidgets.Button(description="new images", icon="refresh")

    def show() -> None:
        picture.value = png(render(state))
        message.value = state.message()
        for button in buttons.values():
            button.disabled = state.finished

    def answer(label: int) -> None:
        state.answers.append(label)
        show()

    def restart(_button: ipywidgets.Button) -> None:
        nonlocal state, seed
        seed += 1
        state = draw(seed)
        show()

    for label, button in buttons.items():
        button.on_click(lambda _button, label=label: answer(label))
    again.on_click(restart)
    show()
    return Interactive([picture, ipywidgets.HBox([*buttons.values(), again]), message])
