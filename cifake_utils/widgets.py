"""Interactive parts of the lessons. Behind each is a pure function from its state to a figure."""

import io
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import ipywidgets
import numpy as np
import torch
from matplotlib.figure import Figure

from cifake_utils import evaluation, rotation
from cifake_utils.data import FAKE, LABELS, REAL, ImageSet

# Where the top of an image is after so many quarter turns counter-clockwise.
SIDES = ("top (0°)", "left (90°)", "bottom (180°)", "right (270°)")


def png(figure: Figure) -> bytes:
    """Return a figure as PNG bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80)
    return buffer.getvalue()


@dataclass
class QuizState:
    """A round of a quiz: which images are shown, what can be answered, and what was answered so far.

    Attributes
    ----------
    images : ImageSet
        The images of the quiz, in the order they are asked. Their labels are the right answers: places in ``choices``.
    choices : tuple of str
        Names of the answers.
    answers : list of int
        A place in ``choices`` for every image already answered.
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
        """Return what the quiz says below its picture."""
        if self.finished:
            low, high = evaluation.accuracy_interval(self.score / len(self.images), len(self.images))
            guessing = 100 / len(self.choices)
            return (
                f"{self.score} of {len(self.images)} right. From so few images, your true accuracy lies between "
                f"{100 * low:.0f} % and {100 * high:.0f} % (95 % interval); guessing gives {guessing:.0f} %."
            )
        return f"Image {len(self.answers) + 1} of {len(self.images)}, {self.score} right so far."


def draw_quiz(images: ImageSet, count: int, seed: int) -> QuizState:
    """Return a new quiz with ``count`` images drawn at random, half of them FAKE on average."""
    rng = np.random.default_rng(seed)
    return QuizState(images.subset(rng.choice(len(images), count, replace=False)))


def draw_turns(images: ImageSet, count: int, seed: int) -> QuizState:
    """Return a new quiz with ``count`` images drawn at random, each turned by a random one of `rotation.ANGLES`."""
    rng = np.random.default_rng(seed)
    chosen = images.subset(rng.choice(len(images), count, replace=False))
    turns = torch.from_numpy(rng.integers(len(SIDES), size=count))
    return QuizState(replace(chosen, images=rotation.rotate(chosen.images, turns), labels=turns), SIDES)


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
        axes.set_title(f"{state.choices[label]} {'✓' if label == answer else '✗'}", fontsize=9)
    return figure


def real_or_rendered(images: ImageSet, count: int = 10, seed: int = 0) -> ipywidgets.VBox:
    """Return the quiz *real or rendered?* over ``count`` of the images."""
    buttons = {
        REAL: ipywidgets.Button(description="photograph", icon="camera"),
        FAKE: ipywidgets.Button(description="rendered", icon="magic"),
    }
    return _quiz(lambda seed: draw_quiz(images, count, seed), buttons, seed)


def which_way_up(images: ImageSet, count: int = 10, seed: int = 0) -> ipywidgets.VBox:
    """Return the quiz *which way is up?* over ``count`` of the images, each turned by 0°, 90°, 180° or 270°."""
    icons = ("arrow-up", "arrow-left", "arrow-down", "arrow-right")
    buttons = {
        turn: ipywidgets.Button(description=side, icon=icon, layout={"width": "auto"})
        for turn, (side, icon) in enumerate(zip(SIDES, icons, strict=True))
    }
    return _quiz(lambda seed: draw_turns(images, count, seed), buttons, seed)


def _quiz(draw: Callable[[int], QuizState], buttons: dict[int, ipywidgets.Button], seed: int) -> ipywidgets.VBox:
    """Return a quiz: ``draw`` makes a new round from a seed, each button gives the answer it stands under."""
    state = draw(seed)
    picture = ipywidgets.Image(format="png", layout={"align_self": "flex-start"})  # not stretched to the cell's width
    message = ipywidgets.HTML()
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
        state = draw(seed)
        show()

    for label, button in buttons.items():
        button.on_click(lambda _button, label=label: answer(label))
    again.on_click(restart)
    show()
    return ipywidgets.VBox([picture, ipywidgets.HBox([*buttons.values(), again]), message])
