"""The numbers that the text of lesson 07 states about CIFAKE, computed from records."""

import re

import nbformat
import numpy as np
import pytest

from cifake_utils import catalogue, evaluation, experiments, profiles, records
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


def test_three_seeds_of_each():
    assert len(TUNED) == len(CONTROL) == 3 and "Three seeds of each are few" in TEXT
    means = [np.mean([run.metrics["test"]["accuracy"] for run in runs]) for runs in (TUNED, CONTROL)]
    spread = np.ptp([run.metrics["test"]["accuracy"] for run in CONTROL])
    assert spread > abs(means[0] - means[1]) and "further from each other than the two kinds are" in TEXT


def test_what_the_paired_tests_say(pairs):
    ahead = [test.difference < 0 for test in pairs].count(True)
    assert ahead == 6 and "the control is ahead in six of the nine pairs, and model 5 in three" in TEXT
    assert max(abs(test.difference) for test in pairs) == pytest.approx(0.002, abs=0.0005)
    outside = [not test.low < 0 < test.high for test in pairs]
    best = max(range(3), key=lambda seed: CONTROL[seed].metrics["test"]["accuracy"])
    assert [row % 3 for row, out in enumerate(outside) if out] == [best, best]
    assert "In two pairs the" in TEXT and "it is the best of the three controls that wins" in TEXT
    smallest = min(test.p for test in pairs)
    assert smallest < 0.05 and 9 * smallest > 0.1 and "then the smallest is far above 0.05" in TEXT
    of_two_seeds = [test for row, test in enumerate(pairs) if row // 3 < 2 and row % 3 < 2]
    assert all(test.difference < 0 for test in of_two_seeds) and "the control was ahead in all four pairs" in TEXT


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
    assert accuracies[0] == pytest.approx(0.835, abs=5e-4)
    # f of the images by something else, and half of the rest by the traces: f + (1 - f) / 2 is the accuracy.
    assert all(0.64 < 2 * accuracy - 1 < 0.7 for accuracy in accuracies)
    assert "something else must tell the turn of about two thirds of the images" in TEXT


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
    assert np.ptp(seeds) < 0.001 and "our three seeds differ by less than a thousandth" in TEXT
    frozen, control, tuned = results.reference_scores(["resnet50_transfer", "resnet50_finetuned", "resnet50_rotation"])[
        "accuracy"
    ]
    assert control - frozen > 20 * abs(tuned - control)


def test_model_5_as_written():
    (run,) = records.references("resnet50_rotation_as_written")
    accuracy = run.metrics["test"]["accuracy"]
    low, high = evaluation.accuracy_interval(accuracy, 20_000)
    assert f"we reach {accuracy:.4f}" in TEXT and f"interval is {low:.4f} to {high:.4f}" in TEXT
    assert high < catalogue.get("resnet50_rotation").paper < high + 0.001 and "0.9591 lies just above it" in TEXT
    ours, written = (
        experiments.hyperparameters(name, profiles.get("full")) for name in (TUNED[0].experiment, run.experiment)
    )
    assert ours["epochs"] == written["epochs"] and "as many epochs as ours" in TEXT
    assert "patience" in written and "one training with the paper's recipe" in TEXT


def test_equal_steps():
    full = profiles.get("full")
    settings = {name: experiments.hyperparameters(name, full) for name in ("resnet50_rotation", "resnet50_finetuned")}
    pretext = settings["resnet50_rotation"]["pretext"]["epochs"]
    assert settings["resnet50_rotation"]["epochs"] + pretext == settings["resnet50_finetuned"]["epochs"]
    stated = re.search(r"what the pretext adds to four epochs with labels", TEXT)
    assert stated and settings["resnet50_rotation"]["epochs"] == 4 and settings["resnet50_finetuned"]["epochs"] == 9
