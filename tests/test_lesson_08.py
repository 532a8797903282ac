"""What lesson 08 says and shows. Its outputs are compared by nbval; the scores behind them, in test_records.py."""

import dataclasses
import re

import matplotlib.pyplot as plt
import nbformat
import pytest

from cifake_utils import catalogue, evaluation, records
from cifake_utils.lessons import exercises, paper, robustness, series
from tests import cells

LESSON = series.NOTEBOOKS / "08_comparison.ipynb"
DOCS = LESSON.parent.parent / "docs"
# Numbers that are no result: of the paper, of the data set, of a formula, of its own recipe, or a year.
GIVEN = {
    *("0.8123", "0.8464", "0.1316", "0.8475", "0.0001"),
    *("10,000", "20,000", "1,000", "5,000"),
    *("97.5", "2.5", "1.96", "0.05"),
    *("191", "354", "0.9616"),  # tested below
    *("120", "256", "4,992", "500"),  # minutes of reading; 2⁸; 5,000 − 8; 0.05 · 10,000
    *("1.4", "1927", "1947", "1979", "1993", "1998", "2001", "2017", "2019", "2023"),
}


def test_a_changed_probability_changes_the_lesson(monkeypatch, runs):
    """The table is computed from the probabilities, through scores that `test_records.py` computes once more."""
    references = records.references

    def shifted(name):
        return [
            dataclasses.replace(
                run, metrics={"test": evaluation.score(run.probabilities["test"] * 0.5, run.labels["test"])}
            )
            for run in references(name)
        ]

    monkeypatch.setattr(records, "references", shifted)
    lesson, names = nbformat.read(LESSON, as_version=4), {}
    imports = [cell for cell in lesson.cells if cell.cell_type == "code"][1]
    (table,) = [cell for cell in lesson.cells if cell.source == "results.recipes()"]
    cells.run(imports.source, names)
    shown = cells.run(table.source, names)
    assert "2 transfer" in shown and shown != cells.stored(table)


def test_what_is_not_measured_is_listed_and_the_lesson_goes_on(monkeypatch, runs, tmp_path):
    """A model that was declared and never trained, one whose answers to changed images are missing, a lost control."""
    references, path = records.references, robustness.path
    gone = {"resnet50_means", "resnet50_projection"}
    monkeypatch.setitem(catalogue.EXPERIMENTS, "resnet50_sixth", catalogue.TRANSFER)
    monkeypatch.setattr(records, "references", lambda name: [] if name in gone else references(name))
    monkeypatch.setattr(
        robustness, "path", lambda name: tmp_path / "none.npz" if name == "resnet50_scratch" else path(name)
    )
    monkeypatch.setattr(plt, "show", lambda: None)
    lesson, names = nbformat.read(LESSON, as_version=4), {}
    code = [cell.source for cell in lesson.cells if cell.cell_type == "code"]
    code[1] = code[1].replace('"resnet50_finetuned",\n', '"resnet50_finetuned",\n    "resnet50_sixth",\n')
    text = "\n".join(cells.run(source, names) for source in code)
    assert "resnet50_sixth" in names["MODELS"] and "--profile full train resnet50_sixth" in text
    assert "resnet50_scratch: not measured yet on changed images" in text
    assert re.search(r"means − fractal +–", text) and "resnet50_transfer" in names["answers"]


@pytest.mark.parametrize("path", [LESSON, exercises.solutions_of(LESSON)], ids=["lesson", "solutions"])
def test_every_number_in_the_text_stands_in_an_output(path):
    """Outputs are compared with the records. A number of the text may be a rounded one of theirs."""
    found = cells.numbers_of(path)
    assert len(found) >= 5
    assert cells.in_no_output(path, [number for number in found if number not in GIVEN]) == []


def test_numbers_of_the_text_that_no_output_has():
    speed = (DOCS / "speed.md").read_text(encoding="utf-8")
    (growth,) = re.findall(r"^\| 120,000 \|(.+)$", speed, re.M)
    assert growth.split(" | ")[2] == "191"
    results = " ".join((DOCS / "results.md").read_text(encoding="utf-8").split())
    assert "| 354 s |" in results and "an earlier training, which kept" in results and "reached 0.9616" in results


def test_the_page_has_the_map_of_the_paper():
    assert paper.markdown() in (DOCS / "paper.md").read_text(encoding="utf-8")


def test_the_map_names_every_equation_and_model_once_and_lessons_that_there_are():
    names = [part.name for part in paper.PARTS]
    parts = [f"equation {number}:" for number in range(1, 6)] + [f"model {number}:" for number in range(1, 6)]
    parts += ["figure 1:", "augmentation", "schedule", "early stopping", "test loss", "conclusions", "future work"]
    assert all(sum(part in name for name in names) == 1 for part in parts)
    numbers = {path.stem.partition("_")[0] for path in series.NOTEBOOKS.glob("*.ipynb")}
    assert {number for part in paper.PARTS for number in part.lessons} <= numbers
    assert paper.reader_map().cells.index.tolist() == names


def test_figure_1_shows_our_additions_in_another_colour():
    axes = paper.figure().axes[0]
    added = [box for box in axes.patches if box.get_edgecolor() == plt.matplotlib.colors.to_rgba("#D55E00")]
    texts = " ".join(text.get_text() for text in axes.texts)
    assert len(added) >= 5 and all(part in texts for part in ("early maps", "standardise", "projection", "mirror"))
    plt.close("all")
