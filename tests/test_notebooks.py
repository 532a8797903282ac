"""What stored notebooks must be like for strict comparison to mean something."""

import base64
import json
import re

import nbformat
import pytest
from nbval.plugin import get_sanitize_patterns

from cifake_utils.lessons import course, series

LESSONS = sorted(series.NOTEBOOKS.glob("*.ipynb"))
PATHS = [*LESSONS, *sorted(series.NOTEBOOKS.glob("solutions/*.ipynb"))]
IGNORED = {"nbval-ignore-output", "nbval-skip"}
WIDGET = "application/vnd.jupyter.widget-view+json"
MACHINE = re.compile(r"/(?:work|root|home|tmp|Users|usr|var|opt)/|[A-Z]:\\\\|\b0x[0-9a-f]{6,}\b|\bat 0x")


def outputs_as_text(cell) -> str:
    """Return the text of a cell's outputs; pictures are left out."""
    return json.dumps(
        [
            {key: value for key, value in output.get("data", output).items() if not key.startswith("image/")}
            for output in cell.outputs
        ]
    )


def name(path):
    return path.relative_to(series.NOTEBOOKS).with_suffix("").as_posix()


@pytest.fixture(params=PATHS, ids=name)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def widget_outputs(notebook):
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    return [output for output in outputs if WIDGET in output.get("data", {})]


def test_there_are_notebooks():
    assert PATHS


def test_every_cell_was_run_in_order(notebook):
    assert [cell.execution_count for cell in code_cells(notebook)] == list(range(1, len(code_cells(notebook)) + 1))


def test_no_errors_and_nothing_on_stderr(notebook):
    for cell in code_cells(notebook):
        for output in cell.outputs:
            assert output.output_type != "error", cell.source
            assert output.get("name") != "stderr", cell.source


def test_no_machine_in_the_outputs(notebook):
    for cell in code_cells(notebook):
        assert not MACHINE.search(outputs_as_text(cell)), cell.source


def test_widgets_come_with_their_state(notebook):
    views = [output.data[WIDGET]["model_id"] for output in widget_outputs(notebook)]
    widgets = notebook.metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {})
    assert set(views) <= set(widgets.get("state", {}))
    assert bool(views) == bool(widgets)


def test_widgets_come_with_a_picture_or_text_and_a_sentence(notebook):
    for output in widget_outputs(notebook):
        if "text/html" in output.data:
            assert output.data["text/plain"] == "A question: run this cell to answer it."
        else:
            assert base64.b64decode(output.data["image/png"]).startswith(b"\x89PNG")
            assert output.data["text/plain"] == "An interactive figure: run this cell to play with it."


@pytest.mark.parametrize("path", PATHS, ids=name)
def test_small_enough_to_be_shown_on_the_web(path):
    assert path.stat().st_size < 10**6


def test_kernel_is_plain_python3(notebook):
    assert notebook.metadata.kernelspec.name == "python3"


def test_most_outputs_are_compared(notebook):
    bearing = [cell for cell in code_cells(notebook) if cell.outputs]
    compared = [cell for cell in bearing if not IGNORED & set(cell.metadata.get("tags", []))]
    assert len(compared) * 2 >= len(bearing), f"{len(compared)} of {len(bearing)}"


def test_printed_numbers_are_compared_up_to_the_eighth_decimal():
    """Later decimals depend on the processor."""
    patterns = dict(get_sanitize_patterns((series.NOTEBOOKS.parent / "tests" / "digits.cfg").read_text()))

    def left(text):
        for pattern, replacement in patterns.items():
            text = re.sub(pattern, replacement, text)
        return text

    assert left("D = 2.3193868117300287, p = 0.5") == left("D = 2.319386811730252, p = 0.5")
    assert left("D = 2.31938681") != left("D = 2.31938682")
    assert left("20,000 images, 0.976") == "20,000 images, 0.976"


def test_training_is_never_compared(notebook):
    for cell in code_cells(notebook):
        if "train_or_load(" in cell.source:
            assert "nbval-ignore-output" in cell.metadata.get("tags", []), cell.source


def text_of(path):
    cells = nbformat.read(path, as_version=4).cells
    return "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


@pytest.mark.parametrize("path", LESSONS, ids=name)
def test_anatomy(path):
    text, number = text_of(path), path.stem.partition("_")[0]
    code = "\n".join(cell.source for cell in code_cells(nbformat.read(path, as_version=4)))
    for part in ("# ", "**What you'll do**", "**What you'll learn**", "**What you need**", "*Reads*", "*Writes*"):
        assert part in text
    for part in ("**Time**", "**In the paper**", "$$", "**See**", "<details>\n<summary>", "## Further reading"):
        assert part in text
    parts = ["## Recap", "## What this does not show", "## Questions", "## Exercises", "## Further reading"]
    assert [line for line in text.splitlines() if line in parts] == parts
    for call in (f'course.course_map("{number}")', f'questions.quiz("{number}")', "questions.predict("):
        assert call in code


def test_every_lesson_is_on_the_map():
    assert list(course.LESSONS) == [path.stem.partition("_")[0] for path in LESSONS]


def test_tidy_is_idempotent(notebook):
    again = nbformat.from_dict(notebook)
    series.tidy(again)
    assert again == notebook
