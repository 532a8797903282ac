"""The numbers that lesson 08 shows, computed once more from the P(FAKE) of every image and from nothing else."""

import contextlib
import dataclasses
import io

import matplotlib.pyplot as plt
import nbformat

from cifake_utils import evaluation, records
from cifake_utils.lessons import series

LESSON = series.NOTEBOOKS / "08_comparison.ipynb"


def printed(cell) -> str:
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def test_every_number_follows_from_the_probabilities(monkeypatch, runs):
    read = records.read

    def without_stored_scores(path):
        record = read(path)
        splits = record.probabilities
        scores = {split: evaluation.score(splits[split], record.labels[split]) for split in splits}
        return dataclasses.replace(record, metrics=scores, curves={})

    monkeypatch.setattr(records, "read", without_stored_scores)
    monkeypatch.setattr(plt, "show", lambda: None)
    lesson, names, compared = nbformat.read(LESSON, as_version=4), {}, 0
    for cell in lesson.cells:
        if cell.cell_type != "code":
            continue
        with contextlib.redirect_stdout(io.StringIO()) as output:
            exec(cell.source, names)
        plt.close("all")
        if "nbval-ignore-output" not in cell.metadata.get("tags", []):
            assert output.getvalue() == printed(cell), cell.source
            compared += bool(printed(cell))
    assert compared > 10


def test_a_changed_probability_changes_the_lesson(monkeypatch, runs):
    """What the test above compares does depend on the probabilities."""
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
    first, second = [cell for cell in lesson.cells if cell.cell_type == "code"][:2]
    exec(first.source, names)
    with contextlib.redirect_stdout(io.StringIO()) as output:
        exec(second.source, names)
    assert "resnet50_transfer" in output.getvalue() and output.getvalue() != printed(second)
