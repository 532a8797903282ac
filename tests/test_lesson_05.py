"""The numbers in the text of lesson 05: they stand in the outputs of its cells, or follow from the records."""

import re
from collections import Counter, defaultdict

import nbformat

from cifake_utils import records
from cifake_utils.lessons import comparison, exercises, series
from tests import cells

LESSON = nbformat.read(series.NOTEBOOKS / "05_fractal_layer.ipynb", as_version=4)
# Settings and conventions, which no cell prints: the temperature, the level of a test, a learning rate.
SETTINGS = {"0.02", "0.05", "0.0001"}


def text_cells():
    return [c for c in LESSON.cells if c.cell_type == "markdown" and exercises.TAG not in c.metadata.get("tags", [])]


def test_every_fraction_in_the_text_is_printed_by_a_cell():
    printed = " ".join(cells.stored(cell) for cell in LESSON.cells if cell.cell_type == "code")
    known, checked = {float(number) for number in re.findall(r"\d+\.\d+", printed)}, 0
    for cell in text_cells():
        text = re.sub(r"\$\$.*?\$\$|\$[^$]*\$|\]\([^)]*\)", " ", cell.source, flags=re.S)
        for number in re.findall(r"(?<![\w.])\d+\.\d+", text):
            assert number in SETTINGS or float(number) in known, (number, cell.id)
            checked += 1
    assert checked > 15


def right(name, seed):
    run = records.reference(f"resnet50_{name}", seed)
    return comparison.correct(run.probabilities["test"], run.labels["test"])


def test_what_the_text_says_about_the_tests_follows_from_the_records():
    text = " ".join(" ".join(cell.source for cell in text_cells()).split())
    (pair,) = comparison.paired_tests({name: right(name, 0) for name in ("fractal", "means")})
    assert f"right alone on {pair.only_first} images and the means on {pair.only_second}" in text
    for seed in range(5):
        (pair,) = comparison.paired_tests({name: right(name, seed) for name in ("fractal", "means")})
        assert pair.difference < 0 and pair.p > 0.05
    assert "the means are ahead in each, and p is never below 0.05" in text
    names = ("means", "means_fractal", "means_share", "means_maximum", "means_deviation")
    alone, apart, differences = Counter(), Counter(), defaultdict(list)
    for seed in range(5):
        for test in comparison.paired_tests({name: right(name, seed) for name in names}):
            alone[test.first, test.second] += test.p < 0.05
            apart[test.first, test.second] += test.p_holm < 0.05
            differences[test.first, test.second].append(test.difference)
    assert all(apart["means", name] == 5 and max(differences["means", name]) < 0 for name in names[1:])
    assert "Every second number adds to the means, in every seed." in text
    for name in ("means_maximum", "means_deviation"):
        assert apart["means_fractal", name] == 0 and max(differences["means_fractal", name]) < 0
    assert apart["means_fractal", "means_share"] == 1 and "apart in one seed of five" in text
    assert alone["means_fractal", "means_share"] == 4
    assert "a p-value below 0.05 in four seeds of five, and as one of ten pairs, in one." in text
    low, high = (f"{f(differences['means_fractal', 'means_share']):.4f}" for f in (min, max))
    assert f"ahead of the share in every seed, by {low} to {high}" in text
