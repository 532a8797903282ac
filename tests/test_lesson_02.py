"""The numbers in the text of lesson 02: each is printed by one of its cells, and says what the text says."""

import re

import nbformat
import pytest

from cifake_utils import records
from cifake_utils.lessons import exercises, series
from tests import cells

LESSON = nbformat.read(series.NOTEBOOKS / "02_box_counting.ipynb", as_version=4)
# Probabilities and thresholds, which no cell prints, and a dimension that the text derives as log 4 / log 3.
SETTINGS = {"0.7", "0.72", "0.02", "0.0001", "1.26"}


def text_cells():
    return [c for c in LESSON.cells if c.cell_type == "markdown" and exercises.TAG not in c.metadata.get("tags", [])]


def printed(cell_id):
    (cell,) = [cell for cell in LESSON.cells if cell.id == cell_id]
    return cells.stored(cell)


def numbers(text):
    return [float(number.replace(",", "")) for number in re.findall(r"\d[\d,]*\.?\d*", text)]


def test_every_fraction_in_the_text_is_printed_by_a_cell():
    outputs = " ".join(cells.stored(cell) for cell in LESSON.cells if cell.cell_type == "code")
    known, checked = set(re.findall(r"\d+\.\d+", outputs)), 0
    for cell in text_cells():
        text = re.sub(r"\$\$.*?\$\$|\$[^$]*\$|\]\([^)]*\)", " ", cell.source, flags=re.S)
        for number in re.findall(r"(?<![\w.])\d+\.\d+", text):
            assert number in SETTINGS or number in known or number + "0" in known, (number, cell.id)
            checked += 1
    assert checked > 5


def test_words_about_numbers_hold():
    text = " ".join(cell.source for cell in text_cells())
    growth = [int(percent) for percent in re.findall(r"(\d+)%", printed("db225a53"))]
    assert len(growth) == 4 and f"{min(growth)} to {max(growth)} %" in text
    shifted = re.search(r"one grid: (.*) to (.*)\n", printed("caa31a36"))
    assert shifted and f"{2 - float(shifted[1]):.2f} for a small square" in text and float(shifted[2]) == 2
    dust, *photographs = re.findall(r"R²: ([\d.]+)(?: to ([\d.]+))?", printed("eff8f0ce"))
    (portrait, _), (galaxies, _) = photographs
    assert float(galaxies) < float(dust[0]) < float(portrait)
    jagged, between, smooth, noise = numbers(printed("halves"))
    assert between < jagged < smooth and jagged < noise < smooth


def test_a_lower_temperature_is_nearer_to_the_count_and_leaves_fewer_gradients():
    rows = [numbers(line) for line in printed("5676304e").splitlines()[2:]]
    temperatures, errors, correlations, shares = zip(*[(T, e, r, s) for T, e, r, s in rows], strict=True)
    for falling in (temperatures, errors, [-r for r in correlations], shares):
        assert list(falling) == sorted(falling, reverse=True)
    assert shares[0] > 90 and correlations[0] < 0.7


def test_the_labels_hardly_differ_on_cifake():
    measured = records.reference_summary("fractal_effects")["image"]["estimators"]["box counting, brighter half"]
    real, fake = measured["REAL"], measured["FAKE"]
    assert abs(real["mean"] - fake["mean"]) < 0.1 * min(real["standard_deviation"], fake["standard_deviation"])
    assert measured["auroc"] == pytest.approx(0.5, abs=0.02)
