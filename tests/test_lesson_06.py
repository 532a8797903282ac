"""Figures of lesson 06, and the numbers that it shows or quotes, computed once more from the records."""

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
import torch

from cifake_utils import evaluation, losses, records
from cifake_utils.lessons import series, weighing
from cifake_utils.lessons.checks import lesson_06 as check

LESSON = series.NOTEBOOKS / "06_custom_loss.ipynb"
CURVES = {
    "train_loss": [0.5, 0.4, 0.3],
    "val_loss": [0.4, 0.5, 0.6],
    "val_accuracy": [0.8, 0.9, 0.95],
    "best_epoch": 0,
    "terms": {
        "cross_entropy": [0.4, 0.5, 0.6],
        "similarity": [0.9, 0.9, 0.9],
        "penalty": [-0.5, -0.6, -0.65],
        "alpha": [0.8, 0.8, 0.8],
        "beta": [0.12, 0.11, 0.1],
        "gamma": [0.08, 0.09, 0.1],
    },
}


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def lines(axes):
    """Return the values of the lines that a legend names, by name."""
    named = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    return {name: list(line.get_ydata()) for name, line in named.items()}


def test_paths_go_from_open_to_filled_markers_with_the_legend_outside():
    positions = np.stack([np.eye(2), 2 * np.eye(2)])
    (axes,) = weighing.paths(positions, np.array([0, 1])).axes
    ends = [line for line in axes.lines if line.get_marker() in "o^"]
    assert [line.get_fillstyle() for line in ends] == ["none", "full"] * 2
    assert lines(axes) == {"REAL": [0], "FAKE": [2]}
    axes.figure.canvas.draw()
    assert axes.get_legend().get_window_extent().y0 >= axes.get_window_extent().y1


def test_penalties_are_drawn_as_given():
    p = np.array([0.2, 0.8])
    (axes,) = weighing.penalties({"one": p, "two": -p, "three": 2 * p}, p).axes
    assert lines(axes) == {"one": [0.2, 0.8], "two": [-0.2, -0.8], "three": [0.4, 1.6]}


def test_weights_have_greek_names_and_a_panel_for_each_run():
    runs = {"slow": np.ones((5, 3)), "fast": np.arange(15.0).reshape(5, 3)}
    panels = weighing.weights(runs).axes
    assert [panel.get_title() for panel in panels] == ["slow", "fast"]
    assert lines(panels[1]) == {"α": [0, 3, 6, 9, 12], "β": [1, 4, 7, 10, 13], "γ": [2, 5, 8, 11, 14]}


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_a_training_has_its_terms_their_weights_and_plain_cross_entropy_for_validation(scale):
    terms, weights, validation = weighing.training(CURVES, scale).axes
    assert list(lines(terms)) == ["cross-entropy", "similarity", "penalty"]
    assert lines(weights)["γ"] == [0.08, 0.09, 0.1] and weights.get_yscale() == scale
    assert lines(validation)["cross-entropy"] == CURVES["val_loss"]
    assert lines(validation)["error"] == pytest.approx([0.2, 0.1, 0.05])


def stored():
    return nbformat.read(LESSON, as_version=4)


def mean(name, score, split="test"):
    return np.mean([record.metrics[split][score] for record in records.references(name)])


def quoted() -> list[str]:
    """Return sentences of the lesson, with numbers from the records."""
    three, four = (records.references(f"resnet50_{name}_as_written") for name in ("fractal", "fractal_loss"))
    ended = len(four[0].curves["val_loss"])
    later = [np.mean([run.curves["val_accuracy"][ended - 1] for run in runs]) for runs in (four, three)]
    test = [np.mean([run.metrics["test"]["accuracy"] for run in runs]) for runs in (four, three)]
    return [
        f"{later[0]:.3f} against {later[1]:.3f} after epoch {ended}",
        f"{100 * (test[1] - test[0]):.1f} points lower than that of model 3, {test[0]:.3f} against {test[1]:.3f}",
        f"similarity is constant at {four[0].curves['terms']['similarity'][0]:.2f}",
    ]


def test_sentences_with_numbers():
    texts = [cell.source for cell in stored().cells if cell.cell_type == "markdown"]
    texts += [cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "") for cell in stored().cells]
    text = " ".join(" ".join(texts).split())
    for sentence in quoted():
        assert sentence in text, sentence


def test_what_the_text_says_about_the_written_run():
    for run in records.references("resnet50_fractal_loss_as_written"):
        curves = run.curves
        assert curves["best_epoch"] == 0 and len(curves["val_loss"]) == 6
        assert (np.diff(curves["val_loss"]) > 0).all() and curves["val_accuracy"][-1] > curves["val_accuracy"][0]
        assert np.ptp(curves["terms"]["similarity"]) < 1e-3


def test_the_combined_loss_as_the_text_compares_it():
    pairs = [
        ("projection", "projection_loss"),
        ("means_projection", "means_loss"),
        ("fractal_projection", "fractal_loss"),
    ]
    for plain, combined in (tuple(f"resnet50_{name}" for name in pair) for pair in pairs):
        assert 0 < mean(plain, "accuracy") - mean(combined, "accuracy") < 0.0015
        alone = [
            np.mean([run.details["val_without_mirror_average"]["ece"] for run in records.references(name)])
            for name in (plain, combined)
        ]
        assert alone[1] < alone[0]
        fitted, repaired = {}, {}
        for name in (plain, combined):
            runs = records.references(name)
            fitted[name] = [evaluation.fit_temperature(run.probabilities["val"], run.labels["val"]) for run in runs]
            found = zip(runs, fitted[name], strict=True)
            after = [
                evaluation.score(evaluation.with_temperature(run.probabilities["test"], T), run.labels["test"])
                for run, T in found
            ]
            repaired[name] = np.mean([score["ece"] for score in after])
        assert np.divide(fitted[combined], fitted[plain]).mean() == pytest.approx(0.9, abs=0.015)
        assert repaired[combined] < repaired[plain] <= mean(combined, "ece")
    pooled = [mean(f"resnet50_projection{end}", "ece", "val") for end in ("", "_loss")]
    assert pooled[1] > pooled[0] + 0.005


def test_low_floors_lose_by_the_stop():
    assert losses.CombinedLoss().floors.tolist() == pytest.approx([0.8, 0.1, 0.05])
    low, ours, high, plain = (
        records.references(f"resnet50_{name}")
        for name in ("loss_low_floors", "fractal_loss", "loss_high_floors", "fractal_projection")
    )
    assert {len(runs) for runs in (low, ours, high, plain)} == {5}

    def mean(runs):
        return np.mean([run.metrics["val"]["accuracy"] for run in runs])

    text = "\n".join(cell.source for cell in stored().cells)
    assert round(100 * (mean(ours) - mean(low)), 1) == 1.6 and "1.6 points lower than ours" in text
    assert np.ptp([mean(ours), mean(high), mean(plain)]) < 0.001 and "within 0.001 of each other" in text
    assert all(run.curves["best_epoch"] < 2 for run in low)
    assert all(run.curves["best_epoch"] >= 5 for run in (*ours, *high, *plain))
    sixth = [np.mean([run.curves["val_accuracy"][5] for run in runs]) for runs in (low, ours)]
    assert "the low floors have {:.4f} and ours {:.4f}".format(*sixth) in text
    for run in low:  # most of what the floors leave over goes to the penalty
        alpha, beta, gamma = (run.curves["terms"][weight][-1] for weight in ("alpha", "beta", "gamma"))
        assert gamma - 0.05 > 0.75 * (alpha + beta + gamma - 0.65)
        assert np.argmin(run.curves["val_loss"]) < 2 and run.curves["val_loss"][-1] > run.curves["val_loss"][0]


def test_the_temperature_of_the_check_accepts_a_search_on_a_grid():
    run = records.reference(check.WRITTEN)
    temperature = evaluation.fit_temperature(run.probabilities["val"], run.labels["val"])
    p = evaluation.with_temperature(run.probabilities["test"], temperature)
    ece = evaluation.score(p, run.labels["test"])["ece"]
    assert temperature == pytest.approx(0.22, abs=0.005)
    assert check.repaired(temperature * 1.006, ece, 0.0).right and check.repaired(temperature, ece, 0.0).right


def test_an_answer_that_is_half_done_is_no_wrong_one():
    assert check.priced(lambda terms, u: (torch.exp(-u) * terms + u).sum(), None).right is None
    assert check.repaired(0.22, None, None).right is None and check.sign_matters(None, None).right is None
