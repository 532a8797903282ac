"""What `lessons.floors` measures, on a few images of the sample, and its table."""

from dataclasses import replace

import numpy as np
import pytest

from cifake_utils import data, records
from cifake_utils.lessons import floors


@pytest.fixture
def few(monkeypatch, runs):
    cifake = data.load()
    parts = {split: images.subset(np.arange(0, len(images), 20)) for split, images in cifake.splits.items()}
    monkeypatch.setattr(data, "load", lambda profile: replace(cifake, **parts, hash="few"))
    return len(parts["val"])


def test_every_choice_of_floors_is_trained_and_tested_against_every_other(few):
    measured = floors.facts(seeds=2)
    assert measured["images"] == few
    assert [(run["seed"], run["floors"]) for run in measured["runs"]] == [
        (seed, name) for seed in range(2) for name in floors.FLOORS
    ]
    for run in measured["runs"]:
        lowest = np.array(floors.FLOORS[run["floors"]])
        assert sum(run["weights"]) == pytest.approx(1) and (np.array(run["weights"]) >= lowest - 1e-6).all()
    accuracy = {(run["seed"], run["floors"]): run["accuracy"] for run in measured["runs"]}
    assert len(measured["tests"]) == 2 * 10
    for test in measured["tests"]:
        one, other = (accuracy[test["seed"], test[key]] for key in ("first", "second"))
        assert test["difference"] == pytest.approx(one - other)
    assert floors.facts(seeds=1)["runs"] == measured["runs"][:5]
    records.save_summary("floors", measured)  # JSON types throughout


def test_the_table_has_means_and_ranges_and_counts_the_tests_against_cross_entropy():
    names = list(floors.FLOORS)
    runs = [
        {"floors": name, "seed": seed, "accuracy": 0.9 + 0.01 * seed, "weights": [1.0, 0.0, 0.0]}
        for seed in range(2)
        for name in names
    ]
    tests = [
        {"seed": seed, "first": first, "second": floors.CROSS_ENTROPY, "p_holm": 0.01 if seed else p}
        for seed in range(2)
        for first, p in zip(names[:-1], (0.01, 0.2, 0.2, 0.2), strict=True)
    ]
    tests.append({"seed": 0, "first": names[0], "second": names[1], "p_holm": 0.01})
    cells = floors.table({"data": "CIFAKE", "images": 20_000, "runs": runs, "tests": tests}).cells
    assert cells.loc[names[0], "accuracy":"highest"].tolist() == ["0.9050", "0.9000", "0.9100"]
    assert cells["told from 1, 0, 0"].tolist() == ["2 of 2", "1 of 2", "1 of 2", "1 of 2", "–"]
    assert cells["weights at the end"].unique().tolist() == ["1.000, 0.000, 0.000"]
