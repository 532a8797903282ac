"""The map of the course: its lessons, and which of them build on which."""

from dataclasses import dataclass

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from cifake_utils import CifakeError


@dataclass(frozen=True)
class Lesson:
    """A lesson on the map.

    Attributes
    ----------
    name : str
        A few words, in two lines at most.
    place : tuple of int
        Column and row of its box.
    needs : tuple of str
        Numbers of the lessons that it builds on.
    optional : bool
        Whether the lessons after it can be read without it.
    """

    name: str
    place: tuple[int, int]
    needs: tuple[str, ...] = ()
    optional: bool = False


LESSONS = {
    "01": Lesson("Explore\nCIFAKE", (0, 0)),
    "02": Lesson("Count\nboxes", (1, 1), ("01",)),
    "02b": Lesson("Other\ndimensions", (2, 2), ("02",), optional=True),
    "03": Lesson("Train from\nscratch", (1, 0), ("01",)),
    "04": Lesson("Transfer", (2, 0), ("03",)),
    "05": Lesson("Fractal\nlayer", (3, 1), ("02", "04")),
    "06": Lesson("Custom\nloss", (4, 1), ("05",)),
    "07": Lesson("Learn from\nrotations", (4, 0), ("04",)),
    "08": Lesson("Compare", (5, 0), ("06", "07")),
    "09": Lesson("Go\nfurther", (6, 0), ("08",)),
    "10": Lesson("Leave\nCIFAKE", (6, 1), ("08",)),
}
WIDTH, HEIGHT = 0.76, 0.72  # of a box, where columns and rows are 1 apart


def course_map(here: str) -> Figure:
    """Draw the lessons with an arrow from each to those that build on it. The lesson ``here`` is filled.

    Dashed boxes are optional lessons. An unknown number raises a `CifakeError`.
    """
    if here not in LESSONS:
        raise CifakeError(f"There is no lesson {here!r} on the map. Choose one of: {', '.join(LESSONS)}.")
    columns, rows = (1 + max(places) for places in zip(*(lesson.place for lesson in LESSONS.values()), strict=True))
    figure, axes = plt.subplots(figsize=(1.5 * columns, 1.05 * rows), layout="constrained")
    for number, lesson in LESSONS.items():
        x, y = lesson.place
        box = FancyBboxPatch(
            (x - WIDTH / 2, -y - HEIGHT / 2),
            WIDTH,
            HEIGHT,
            boxstyle="round,pad=0,rounding_size=0.1",
            facecolor="0.2" if number == here else "white",
            edgecolor="0.2",
            linestyle="--" if lesson.optional else "-",
        )
        axes.add_patch(box)
        colour = "white" if number == here else "black"
        axes.text(x, -y, f"{number}\n{lesson.name}", ha="center", va="center", fontsize=9, color=colour)
        for needed in lesson.needs:
            axes.add_patch(_arrow(LESSONS[needed].place, (x, y)))
    axes.set(xlim=(-0.5, columns - 0.5), ylim=(0.5 - rows, 0.5))
    axes.axis("off")
    return figure


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> FancyArrowPatch:
    """Return an arrow between two boxes: from side to side in a row, else from the side to the nearest edge."""
    (x0, y0), (x1, y1) = start, end
    left = (x0 + WIDTH / 2, -y0)
    if y0 == y1:
        right = (x1 - WIDTH / 2, -y1)
    else:
        right = (x1 - WIDTH / 2, -y1 + (0.12 if y1 > y0 else -0.12))
    return FancyArrowPatch(left, right, arrowstyle="-|>", mutation_scale=10, shrinkA=1, shrinkB=1, color="0.4")
