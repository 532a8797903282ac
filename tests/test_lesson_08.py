"""The numbers that lesson 08 shows, computed once more from the P(FAKE) of every image and from nothing else."""

import dataclasses
import re

import matplotlib.pyplot as plt
import nbformat

from cifake_utils import catalogue, evaluation, records
from cifake_utils.lessons import robustness, series
from tests import cells

LESSON = series.NOTEBOOKS / "08_comparison.ipynb"


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
        shown = cells.run(cell.source, names)
        if "nbval-ignore-output" not in cell.metadata.get("tags", []):
            assert shown == cells.stored(cell), cell.source
            compared += bool(shown)
    assert compared > 14


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
    imports, table = [cell for cell in lesson.cells if cell.cell_type == "code"][1:3]
    cells.run(imports.source, names)
    shown = cells.run(table.source, names)
    assert "resnet50_transfer" in shown and shown != cells.stored(table)


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
    assert re.search(r"\+ means of the same maps +–", text) and "resnet50_transfer" in names["answers"]
