"""Derive the exercises of a lesson from its solutions, so that the two can't drift apart.

The solutions of ``notebooks/NN_NAME.ipynb`` are in ``notebooks/solutions/NN_NAME.ipynb``. Those of their cells that
have the tag ``exercise`` are copied into the lesson: the task, the code, and the check. In code, the lines between
``# solution begins`` and ``# solution ends`` are replaced by a comment.
"""

import re
from pathlib import Path

from cifake_utils import CifakeError, needs
from cifake_utils.support.files import replacing

with needs("lessons"):
    import nbformat

TAG = "exercise"
SOLUTION = re.compile(r"^(?P<indent>[ ]*)# solution begins\n.*?^[ ]*# solution ends$", re.M | re.S)
STUB = r"\g<indent># Your code here."
HEADING = re.compile(r"^## Exercises\b", re.M)


def solutions_of(lesson: Path) -> Path:
    """Return where the solutions of a lesson are."""
    return lesson.parent / "solutions" / lesson.name


def derive(solutions: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """Return the cells of a lesson's exercises, without the solutions and without outputs."""
    cells = []
    for cell in solutions.cells:
        if TAG not in cell.metadata.get("tags", []):
            continue
        if cell.cell_type == "markdown":
            source = cell.source.replace("](../", "](")  # the lesson lies one folder higher
            cells.append(nbformat.v4.new_markdown_cell(source, id=cell.id, metadata=cell.metadata))
        else:
            source = SOLUTION.sub(STUB, cell.source)
            cells.append(nbformat.v4.new_code_cell(source, id=cell.id, metadata=cell.metadata))
    return cells


def with_exercises(lesson: nbformat.NotebookNode, solutions: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return a lesson with its exercises as the solutions have them, below its heading ``## Exercises``.

    A cell that stays the same keeps its outputs. Raises `CifakeError` if the heading is missing.
    """
    older = {cell.id: cell for cell in lesson.cells if TAG in cell.metadata.get("tags", [])}
    others = [cell for cell in lesson.cells if cell.id not in older]
    place = next((place for place, cell in enumerate(others) if HEADING.search(cell.source)), None)
    if place is None:
        raise CifakeError("A lesson with solutions needs a cell of text with the heading '## Exercises'.")
    new = [older[cell.id] if cell.id in older and _same(older[cell.id], cell) else cell for cell in derive(solutions)]
    return nbformat.NotebookNode({**lesson, "cells": [*others[: place + 1], *new, *others[place + 1 :]]})


def _same(first: nbformat.NotebookNode, second: nbformat.NotebookNode) -> bool:
    return (first.cell_type, first.source, first.metadata) == (second.cell_type, second.source, second.metadata)


def write(folder: Path) -> None:
    """Update the exercises of every lesson in a folder that has solutions."""
    for path in sorted(folder.glob("*.ipynb")):
        if (solutions := solutions_of(path)).exists():
            lesson = with_exercises(nbformat.read(path, as_version=4), nbformat.read(solutions, as_version=4))
            with replacing(path) as partial:
                nbformat.write(lesson, partial)
