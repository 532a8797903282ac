"""Write the line with links to the previous and the next lesson. The file names of the lessons give the order."""

import re
from pathlib import Path

from cifake_utils import needs
from cifake_utils.support.files import replacing

with needs("lessons"):
    import nbformat

LINE = re.compile(r"^(?:Previous|Next): \[.*(?:\n\[.*)?$", re.MULTILINE)  # it may have been broken once


def title(path: Path) -> str:
    """Return the text of links to a lesson: the number in its file name, and its heading up to a colon.

    The heading is the first line of the first cell of text.
    """
    cells = nbformat.read(path, as_version=4).cells
    heading = next(cell.source for cell in cells if cell.cell_type == "markdown").splitlines()[0]
    return f"{path.stem.partition('_')[0]} {heading.removeprefix('# ').partition(':')[0]}"


def line(path: Path) -> str:
    """Return the links of a lesson to its neighbours in its folder, as Markdown."""
    lessons = sorted(path.parent.glob("*.ipynb"))
    place = lessons.index(path)
    neighbours = {"Previous": lessons[place - 1 : place], "Next": lessons[place + 1 : place + 2]}
    links = [f"{word}: [{title(other)}]({other.name})" for word, found in neighbours.items() for other in found]
    return " · ".join(links)


def linked(text: str, links: str) -> str:
    """Return the text of a cell with its line of links replaced, or added at the end if there is none."""
    return LINE.sub(lambda _: links, text) if LINE.search(text) else f"{text}\n\n{links}"


def write(folder: Path) -> None:
    """Update the links in the first and the last text cell of every lesson in a folder."""
    for path in sorted(folder.glob("*.ipynb")):
        notebook, links = nbformat.read(path, as_version=4), line(path)
        texts = [cell for cell in notebook.cells if cell.cell_type == "markdown"]
        for cell in (texts[0], texts[-1]):
            cell.source = linked(cell.source, links)
        with replacing(path) as partial:
            nbformat.write(notebook, partial)
