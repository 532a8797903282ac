import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import pytest

from cifake_utils import evaluation, experiments, models, plots, records


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def fills(figure) -> dict[str, int]:
    """Return how many boxes are filled like each entry of the key."""
    key = figure.axes[0].get_legend().get_patches()
    boxes = [patch for patch in figure.axes[0].patches if hasattr(patch, "get_width")]
    return {entry.get_label(): sum(box.get_facecolor() == entry.get_facecolor() for box in boxes) for entry in key}


@pytest.mark.parametrize("name", sorted(experiments.EXPERIMENTS))
def test_architecture_shows_every_statistic_and_what_is_frozen(name):
    figure = plots.architecture(name)
    shown = texts(figure)
    model = models.MODELS[experiments.EXPERIMENTS[name].model or name]
    assert sum("mean\n" in text for text in shown) == 1 + 2 * ("stem_mean" in model.statistics)
    assert fills(figure).get("frozen", 0) == 5 * model.frozen


def test_architecture_of_scratch_and_rotation():
    scratch = plots.architecture("resnet50_scratch")
    assert {"random\nvalues", "2,048 features", "linear\n2", "cross-\nentropy"} < set(texts(scratch))
    assert fills(scratch) == {"learns": 6, "nothing to learn": 5}  # five stages and the last layer
    rotation = plots.architecture("resnet50_rotation")
    assert "pretext: all layers learn\nto tell four rotations" in texts(rotation) and fills(rotation)["learns"] == 7


def test_architecture_of_the_fractal_models():
    loss = texts(plots.architecture("resnet50_fractal_loss"))
    assert {"dimension\n64", "dimension\n256", "side by side: 2,368 features", "linear\n256", "ReLU"} < set(loss)
    assert any(text.startswith("α cross-\nentropy\n+ β similarity") for text in loss)
    assert {"(noise)\n64", "(noise)\n256"} < set(texts(plots.architecture("resnet50_noise")))
    assert "as printed" in "".join(texts(plots.architecture("resnet50_loss_as_printed")))


def test_comparison_shows_every_seed_their_mean_and_its_interval():
    runs = records.references("resnet50_transfer")
    accuracies = [run.metrics["test"]["accuracy"] for run in runs]
    axes = plots.comparison({"ours": runs}, paper={"ours": 0.8123}).axes[0]
    seeds, mean, *_, paper = axes.lines
    assert seeds.get_xdata() == pytest.approx(accuracies)
    assert mean.get_xdata() == pytest.approx([np.mean(accuracies)])
    assert paper.get_xdata() == [0.8123]
    (interval,) = axes.containers[0].lines[2][0].get_segments()
    assert interval[:, 0] == pytest.approx(evaluation.accuracy_interval(np.mean(accuracies), 20_000))
    assert [label.get_text() for label in axes.get_yticklabels()] == ["ours"]


def test_reliability_of_a_calibrated_and_of_an_overconfident_run():
    run = records.reference("resnet50_transfer")
    labels = run.labels["test"]
    half = np.where(labels == 1, 0.95, 0.05)
    half[::4] = 1 - half[::4]  # a quarter of the images is confidently wrong
    overconfident = dataclasses.replace(run, probabilities={"test": half.astype(np.float16)})
    axes = plots.reliability({"honest": run, "overconfident": overconfident}).axes[0]
    _, honest, wrong = axes.lines
    assert np.abs(honest.get_ydata() - honest.get_xdata()).max() < 0.06
    assert wrong.get_xdata() == pytest.approx([0.05, 0.95], abs=1e-3)
    assert wrong.get_ydata() == pytest.approx([0.25, 0.75], abs=0.02)
