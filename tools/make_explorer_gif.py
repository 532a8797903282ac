"""Draw the README's moving picture: the box-counting explorer of lesson 02 while its sliders move.

    python tools/make_explorer_gif.py

writes ``docs/box_counting.gif``, which takes a few seconds. It shows two drawn sets under boxes that become smaller.
There is no photograph in it, so that nobody else has rights in it.
"""

import io
from pathlib import Path

from matplotlib.transforms import Bbox
from PIL import Image

from cifake_utils.lessons import fractal_widgets
from cifake_utils.support.files import replacing

PROJECT = Path(__file__).resolve().parent.parent
TARGET = PROJECT / "docs" / "box_counting.gif"
SETS = ("Koch", "Sierpinski triangle")
SIZES = (48, 32, 24, 16, 12, 8, 6, 4, 3, 2, 1)  # pixels
COLOURS = 32
FRAME, LAST = 600, 2000  # milliseconds a frame is shown, and the last one of each set


def frame(name: str, size: int) -> Image.Image:
    """Return the explorer's view of a set under boxes of ``size`` pixels, its sentence above it, with few colours."""
    figure, sentence = fractal_widgets.render_boxes(name, threshold=0.5, size=size)
    width, height = figure.get_size_inches()
    figure.text(0.01, 1.02, sentence, fontsize=8.5)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=90, bbox_inches=Bbox([[0, 0], [width, 1.08 * height]]))
    return Image.open(buffer).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)


def main() -> None:
    frames = [frame(name, size) for name in SETS for size in SIZES]
    durations = [LAST if size == SIZES[-1] else FRAME for _ in SETS for size in SIZES]
    TARGET.parent.mkdir(exist_ok=True)
    with replacing(TARGET) as partial:
        frames[0].save(partial, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)
    print(f"{TARGET.relative_to(PROJECT)}: {len(frames)} frames, {TARGET.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
