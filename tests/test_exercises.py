"""Exercises of the lessons: derived from the solutions, and checked."""

import importlib
import re

import nbformat
import pytest

from cifake_utils import CifakeError
from cifake_utils.lessons import exercises, series

LESSONS = [path for path in sorted(series.NOTEBOOKS.glob("*.ipynb")) if exercises.solutions_of(path).exists()]
NUMBERS = [path.stem.partition("_")[0] for path in LESSONS]
CHECK = re.compile(r"^check\.(\w+)\(", re.M)
CODE = """\
def half(x):
    # solution begins
    half_of_it = x / 2
    return half_of_it
    # solution ends


answer = None
# solution begins
answer = half(3)
# solution ends
print(answer)"""
STUB = """\
def half(x):
    # Your code here.


answer = None
# Your code here.
print(answer)"""


def notebook(*cells):
    """Return a notebook of (text or code, id, is it an exercise)."""
    made = []
    for source, name, exercise in cells:
        kind = nbformat.v4.new_markdown_cell if source.startswith(("#", "See")) else nbformat.v4.new_code_cell
        made.append(kind(source, id=name, metadata={"tags": ["exercise"]} if exercise else {}))
    return nbformat.v4.new_notebook(cells=made)


SOLUTIONS = notebook(
    ("# Solutions", "title", False),
    ("### Exercise 1 · check\n\n[halves](../../docs/glossary.md#half)", "task", True),
    (CODE, "code", True),
    ("See how short it is.", "why", False),
)


def test_a_stub_is_the_solution_without_its_lines():
    task, code = exercises.derive(SOLUTIONS)
    assert task.source.endswith("[halves](../docs/glossary.md#half)") and (task.id, code.id) == ("task", "code")
    assert code.source == STUB and code.outputs == []


def test_exercises_are_put_below_their_heading_and_replaced(tmp_path):
    lesson = notebook(("# One", "one", False), ("## Exercises", "here", False), ("## Further reading", "end", False))
    (tmp_path / "solutions").mkdir()
    path = tmp_path / "01_one.ipynb"
    nbformat.write(lesson, path)
    nbformat.write(SOLUTIONS, exercises.solutions_of(path))
    exercises.write(tmp_path)
    written = nbformat.read(path, as_version=4)
    assert [cell.id for cell in written.cells] == ["one", "here", "task", "code", "end"]
    written.cells[3].outputs = [nbformat.v4.new_output("stream", text="None\n")]
    again = exercises.with_exercises(written, SOLUTIONS)
    assert again == written  # a cell that stays the same keeps its outputs
    changed = notebook(("### Exercise 1 · check\n\nNew.", "task", True), ("answer = None", "other", True))
    assert [cell.id for cell in exercises.with_exercises(written, changed).cells] == [
        "one",
        "here",
        "task",
        "other",
        "end",
    ]
    with pytest.raises(CifakeError, match="## Exercises"):
        exercises.with_exercises(notebook(("# One", "one", False)), SOLUTIONS)


@pytest.fixture(params=LESSONS, ids=NUMBERS)
def lesson(request):
    return request.param


def test_stored_exercises_are_those_of_the_solutions(lesson):
    stored = nbformat.read(lesson, as_version=4)
    solutions = nbformat.read(exercises.solutions_of(lesson), as_version=4)
    assert exercises.with_exercises(stored, solutions) == stored


def parts(path):
    """Return the exercises of a notebook: heading, and verdict of the check, whose name comes third."""
    found = []
    for cell in nbformat.read(path, as_version=4).cells:
        if exercises.TAG not in cell.metadata.get("tags", []):
            continue
        if cell.cell_type == "markdown":
            found.append([cell.source.splitlines()[0], "", ""])
        elif name := CHECK.search(cell.source):
            assert not found[-1][1], f"{found[-1][0]} has two checks"
            found[-1][1:] = cell.outputs[-1].data["text/plain"], name[1]
    return found


def test_every_exercise_has_a_grade_and_a_check(lesson):
    found = parts(lesson)
    headings = [re.fullmatch(r"### Exercise (\d+) · (check|apply|explore)(: .+)?", heading) for heading, _, _ in found]
    assert all(headings), found
    assert [int(heading[1]) for heading in headings] == list(range(1, len(found) + 1)) and len(found) >= 4
    assert {heading[2] for heading in headings} == {"check", "apply", "explore"}
    assert all(verdict.startswith("○") for _, verdict, _ in found), found


def test_every_solution_is_right(lesson):
    assert all(verdict.startswith("✓") for _, verdict, _ in parts(exercises.solutions_of(lesson)))


def test_every_check_rejects_three_wrong_answers(lesson):
    number = lesson.stem.partition("_")[0]
    checks = importlib.import_module(f"cifake_utils.lessons.checks.lesson_{number}")
    wrong = importlib.import_module(f"wrong_answers.lesson_{number}").wrong_answers()
    assert set(wrong) == {name for _, _, name in parts(lesson)}
    for name, answers in wrong.items():
        verdicts = [getattr(checks, name)(*arguments) for arguments in answers]
        assert all(verdict.right is False for verdict in verdicts), (name, verdicts)
        assert len({verdict.text for verdict in verdicts}) >= 3, (name, verdicts)
