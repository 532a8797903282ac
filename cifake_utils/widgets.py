"""Interactive parts of the lessons. Behind each is a pure function from its state to a figure."""

import io
from dataclasses import dataclass, field

import ipywidgets
import numpy as np
from matplotlib.figure import Figure

from cifake_utils import evaluation
from cifake_utils.data import FAKE, LABELS, REAL, ImageSet


def png(figure: Figure) -> bytes:
    """Return a figure as PNG bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80)
    return buffer.getvalue()


@dataclass
class QuizState:
    """A round of *real or rendered?*: which images are shown, and what was answered so far.

    Attributes
    ----------
    images : ImageSet
        The images of the quiz, in the order they are asked.
    answers : list of int
        REAL or FAKE, one an image already answered.
    """

    images: ImageSet
    answers: list[int] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        return len(self.answers) == len(self.images)

    @property
    def score(self) -> int:
        """Number of right answers so far."""
        return int((self.images.labels[: len(self.answers)].numpy() == np.array(self.answers)).sum())

    def message(self) -> str:
        """Return what the quiz says below its picture."""
        if self.finished:
            low, high = evaluation.accuracy_interval(self.score / len(self.images), len(self.images))
            return (
                f"{self.score} of {len(self.images)} right. From so few images, your true accuracy lies between "
                f"{100 * low:.0f} % and {100 * high:.0f} % (95 % interval); guessing gives 50 %."
            )
        return f"Image {len(self.answers) + 1} of {len(self.images)}, {self.score} right so far."


def draw_quiz(images: ImageSet, count: int, seed: int) -> QuizState:
    """Return a new quiz with ``count`` images drawn at random, half of them FAKE on average."""
    rng = np.random.default_rng(seed)
    return QuizState(images.subset(rng.choice(len(images), count, replace=False)))


def render_quiz(state: QuizState) -> Figure:
    """Return the picture of a quiz: the image in question, or every image with its answer when all are given."""
    pixels = state.images.images.permute(0, 2, 3, 1).numpy()
    if not state.finished:
        figure = Figure((3, 3), layout="constrained")
        axes = figure.subplots()
        axes.imshow(pixels[len(state.answers)], interpolation="nearest")
        axes.axis("off")
        return figure
    columns = 5
    rows = -(-len(pixels) // columns)
    figure = Figure((1.5 * columns, 1.8 * rows), layout="constrained")
    for axes in figure.subplots(rows, columns, squeeze=False).flat:
        axes.axis("off")
    for axes, image, label, answer in zip(
        figure.axes, pixels, state.images.labels.tolist(), state.answers, strict=False
    ):
        axes.imshow(image, interpolation="nearest")
        axes.set_title(f"{LABELS[label]} {'✓' if label == answer else '✗'}", fontsize=9)
    return figure


def real_or_rendered(images: ImageSet, count: int = 10, seed: int = 0) -> ipywidgets.VBox:
    """Return the quiz *real or rendered?* over ``count`` of the images."""
    state = draw_quiz(images, count, seed)
    picture = ipywidgets.Image(format="png", layout={"align_self": "flex-start"})  # not stretched to the cell's width
    message = ipywidgets.HTML()
    buttons = {
        REAL: ipywidgets.Button(description="photograph", icon="camera"),
        FAKE: ipywidgets.Button(description="rendered", icon="magic"),
    }
    again = ipywidgets.Button(description="new images", icon="refresh")

    def show() -> None:
        picture.value = png(render_quiz(state))
        message.value = state.message()
        for button in buttons.values():
            button.disabled = state.finished

    def answer(label: int) -> None:
        state.answers.append(label)
        show()

    def restart(_button: ipywidgets.Button) -> None:
        nonlocal state, seed
        seed += 1
        state = draw_quiz(images, count, seed)
        show()

    for label, button in buttons.items():
        button.on_click(lambda _button, label=label: answer(label))
    again.on_click(restart)
    show()
    return ipywidgets.VBox([picture, ipywidgets.HBox([*buttons.values(), again]), message])
