"""The numbers that the text of lesson 07 states about CIFAKE, computed from records."""

import re

import nbformat
import numpy as np
import pytest

from cifake_utils import catalogue, experiments, profiles, records
from cifake_utils.lessons import comparison, results, series

TEXT = " ".join(
    cell.source.replace("\n", " ")
    for cell in nbformat.read(series.NOTEBOOKS / "07_self_supervised_rotation.ipynb", as_version=4).cells
    if cell.cell_type == "markdown"
)
TUNED, CONTROL = (records.references(f"resnet50_{name}") for name in ("rotation", "finetuned"))


def right(run):
    return comparison.correct(run.probabilities["test"], run.labels["test"])


@pytest.fixture(scope="module")
def pairs():
    """The paired test of every run of model 5 with every run of the control."""
    found = []
    for one in TUNED:
        for other in CONTROL:
            found += comparison.paired_tests({"with": right(one), "without": right(other)})
    return found


def test_two_seeds_of_each():
    assert len(TUNED) == len(CONTROL) == 2 and "of each kind are few" in TEXT


def test_what_the_paired_tests_say(pairs):
    assert all(test.difference < 0 for test in pairs) and "the control is ahead in each of the four pairs" in TEXT
    assert sorted(round(-test.difference, 4) for test in pairs)[0::3] == [0.0005, 0.0022]
    assert "by five hundredths of a percentage point up to about two tenths" in TEXT
    assert [test.high < 0 for test in pairs].count(True) == 1
    assert "just leaves out zero. In the other three it does not" in TEXT
    smallest = min(test.p for test in pairs)
    assert smallest < 0.05 < 4 * smallest and "then the smallest is above 0.05" in TEXT


def test_the_rule_of_the_lowest_loss_turns_the_comparison_round():
    at_lowest, at_end = (
        [
            [run.curves["val_accuracy"][int(np.argmin(run.curves["val_loss"])) if lowest else -1] for run in runs]
            for runs in (TUNED, CONTROL)
        ]
        for lowest in (True, False)
    )
    assert max(at_lowest[1]) < min(at_lowest[0]) and max(at_end[0]) < min(at_end[1])
    assert all(np.argmin(run.curves["val_loss"]) == len(run.curves["val_loss"]) - 1 for run in TUNED)
    assert all(3 <= np.argmin(run.curves["val_loss"]) <= 4 for run in CONTROL)


def test_the_game_and_the_trace():
    accuracies = [run.details["pretext"]["accuracy"] for run in TUNED]
    assert all(1 / 3 < accuracy - 0.5 < 0.35 for accuracy in accuracies) and "at least a third of all images" in TEXT


def test_the_frozen_pair():
    names = ("resnet50_rotation_frozen", "resnet50_transfer")
    (test,) = comparison.paired_tests({name: right(records.reference(name)) for name in names})
    assert test.only_first + test.only_second > 2000 and test.low < 0 < test.high
    assert "disagree on more than two thousand images" in TEXT and "They are not told apart" in TEXT


def test_the_distance_to_the_paper():
    paper = catalogue.get("resnet50_rotation").paper
    assert "The paper reports 0.9591" in TEXT and paper == 0.9591
    for run in TUNED:
        gain = run.metrics["val"]["accuracy"] - run.details["val_without_mirror_average"]["accuracy"]
        assert run.metrics["test"]["accuracy"] > paper + 0.01 and gain == pytest.approx(0.004, abs=0.0005)
    assert "about four tenths of a percentage point" in TEXT
    seeds = [run.metrics["test"]["accuracy"] for run in TUNED]
    assert abs(np.subtract(*seeds)) < 0.001 and "our two seeds differ by less than a thousandth" in TEXT
    frozen, control, tuned = results.reference_scores(["resnet50_transfer", "resnet50_finetuned", "resnet50_rotation"])[
        "accuracy"
    ]
    assert control - frozen > 20 * abs(tuned - control)


def test_equal_steps():
    full = profiles.get("full")
    settings = {name: experiments.hyperparameters(name, full) for name in ("resnet50_rotation", "resnet50_finetuned")}
    pretext = settings["resnet50_rotation"]["pretext"]["epochs"]
    assert settings["resnet50_rotation"]["epochs"] + pretext == settings["resnet50_finetuned"]["epochs"]
    stated = re.search(r"what the pretext adds to four epochs with labels", TEXT)
    assert stated and settings["resnet50_rotation"]["epochs"] == 4 and settings["resnet50_finetuned"]["epochs"] == 9
