"""Figures of lesson 04, and numbers that its text quotes."""

import json
import re

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from cifake_utils import CifakeError, models, records, sample
from cifake_utils.lessons import series, transfer
from cifake_utils.lessons.checks import lesson_04 as check


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_drift_draws_a_line_for_each_way_in_percent():
    (axes,) = transfer.drift([0, 5], {"right": [0, 0], "careless": [0, 0.5]}).axes
    right, careless = axes.lines
    assert list(right.get_ydata()) == [0, 0] and list(careless.get_ydata()) == [0, 50]
    assert right.get_marker() != careless.get_marker() and list(careless.get_xdata()) == [0, 5]


def test_strips_are_the_regions_of_the_sample():
    (axes,) = transfer.strips(["coffee"]).axes
    size = sample.photograph("coffee").size
    found = {
        text.get_text(): (patch.get_x(), patch.get_y(), patch.get_width(), patch.get_height())
        for text, patch in zip(axes.texts, axes.patches, strict=True)
    }
    regions = {part: sample.region(size, part) for part in sample.REGIONS}
    assert found == {part: (x, y, x2 - x, y2 - y) for part, (x, y, x2, y2) in regions.items()}


def test_strips_of_an_unknown_photograph(monkeypatch):
    monkeypatch.setitem(sample.SOURCES, "nowhere", ("matplotlib", "mpl-data/nowhere.jpg"))
    with pytest.raises(CifakeError, match="nowhere"):
        transfer.strips(["nowhere"])


def test_the_text_quotes_the_measured_gains():
    measured = json.loads((series.NOTEBOOKS.parent / "benchmarks" / "frozen.json").read_text(encoding="utf-8"))
    lesson = nbformat.read(series.NOTEBOOKS / "04_transfer_learning.ipynb", as_version=4)
    text = " ".join(" ".join(cell.source for cell in lesson.cells).split())
    assert (measured["images"]["train"], measured["epochs"]) == (8_000, 10)
    assert f"about {measured['gains']['end to end']:.0f} times as fast" in text
    assert f"About {round(measured['gains']['further run'], -2):.0f} times is the gain of every *further* run" in text
    train, val, test = measured["images"].values()
    usual = measured["usual"]["seconds"]["all"] / (10 * (train + val) + test)
    kept = measured["ours"]["seconds"]["features"] / (2 * (train + val + test))
    assert f"takes {1000 * usual:.1f} ms in the usual loop" in text and f"{1000 * kept:.1f} ms where" in text


def stored(lesson, pattern):
    """Return the numbers that a pattern finds in the printed outputs of a lesson."""
    outputs = [output for cell in lesson.cells if cell.cell_type == "code" for output in cell.outputs]
    (found,) = re.findall(pattern, "\n".join(output.get("text", "") for output in outputs))
    return [float(number) for number in (found if isinstance(found, tuple) else (found,))]


def test_the_text_quotes_the_stored_outputs():
    lesson = nbformat.read(series.NOTEBOOKS / "04_transfer_learning.ipynb", as_version=4)
    text = " ".join(" ".join(cell.source for cell in lesson.cells).split())
    (drift,) = stored(lesson, r"the features have changed by (\d+)%")
    assert f"in the sample by {drift:.0f} % of their length" in text
    mean, least, most = stored(lesson, r"goes (\d+)% of the way, in single divisions (\d+)% to (\d+)%")
    assert abs(mean - 100 / 3) < 4 and abs(least - 20) < 4 and abs(most - 50) < 6
    assert "about a third of the way on average" in text and "anything from a fifth to a half" in text
    (only_frozen,) = stored(lesson, r"right only when frozen: +(\d+)")
    (only_careless,) = stored(lesson, r"right only when careless: +(\d+)")
    assert only_frozen > only_careless
    assert binomtest(int(only_frozen), int(only_frozen + only_careless)).pvalue < 1 / 500
    assert "less than once in 500 times" in text
    _, missed, alarms, _ = stored(lesson, r"'TP': (\d+), 'FN': (\d+), 'FP': (\d+), 'TN': (\d+)")
    assert f"{missed / 100:.0f} % of the rendered images pass, and {alarms / 100:.0f} % of the photographs" in text


def highest(of):
    return lambda p, y, share: of(np.quantile(p[y == 0].astype(float), 1 - share, method="higher"))


@pytest.mark.parametrize("of", [float, np.float32, torch.tensor, lambda number: torch.tensor([number])])
def test_a_threshold_may_be_any_single_number(of):
    assert check.threshold_for(highest(of), of(0.4565)).right
    assert check.threshold_for(highest(of), None).right is None


@pytest.mark.parametrize(
    ("threshold_of", "hint"),
    [
        (lambda p, y, share: 1 - share, "No photograph"),
        (lambda p, y, share: p[y == 0].max(), "No photograph"),
        (lambda p, y, share: np.quantile(p[y == 1], 1 - share), "FAKE images"),
        (lambda p, y, share: np.quantile(p, 1 - share), "together"),
        (lambda p, y, share: np.quantile(p[y == 0], 1 - share), "between two"),
        (lambda p, y, share: 0.3, "too low"),
    ],
)
def test_hints_on_a_threshold(threshold_of, hint):
    assert hint in check.threshold_for(threshold_of, None).text


def nth_highest(p, y, share):
    """Return a threshold that lets as many photographs pass as may pass. `highest` lets one less."""
    photographs = np.sort(p[y == 0])
    return photographs[-1 - round(share * len(photographs))]


@pytest.mark.parametrize("answer", [highest(float), nth_highest])
def test_a_threshold_is_not_taken_from_the_test_images(answer):
    run = records.reference("resnet50_transfer")
    test, fake = run.probabilities["test"], run.labels["test"] == 1
    val, other = (answer(run.probabilities[split], run.labels[split], 0.01) for split in ("val", "test"))
    assert check.threshold_for(answer, (test[fake] > val).mean()).right
    assert "not from the test images" in check.threshold_for(answer, (test[fake] > other).mean()).text
    assert "without those at it" in check.threshold_for(answer, (test[fake] >= val).mean()).text
    loose = answer(run.probabilities["val"], run.labels["val"], 0.05)
    assert "Was `share` 0.01?" in check.threshold_for(answer, (test[fake] > loose).mean()).text


def test_a_share_of_a_share_has_its_own_hint():
    assert "Which share does it leave?" in check.old_share(0.1**10).text
    assert "Ten tenths" in check.old_share(0).text


@pytest.mark.parametrize(
    ("trained", "random", "conclusion"),
    [(0.8, 0.5, "pre-trained"), (0.5, 0.8, "random"), (0.52, 0.5, "cannot tell")],
)
def test_each_conclusion_has_its_own_words(trained, random, conclusion):
    accuracy = {"pre-trained": torch.tensor(trained), "random": random}
    verdict = check.random_backbone(models.Backbone().eval(), accuracy, 400, conclusion)
    assert verdict.right and "on trust" in verdict.text and (conclusion == "random") == ("swapped" in verdict.text)
