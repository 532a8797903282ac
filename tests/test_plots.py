import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from cifake_utils import catalogue, data, evaluation, records
from cifake_utils.lessons import plots, robustness


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


@pytest.mark.parametrize("name", sorted(catalogue.EXPERIMENTS))
def test_architecture_shows_every_statistic_and_what_is_frozen(name):
    figure = plots.architecture(name)
    shown = texts(figure)
    model = catalogue.get(name)
    assert sum("mean" in text.replace(",", "").split("\n") for text in shown) == 1 + 2 * (
        "stem_mean" in model.statistics
    )
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


def test_losses_have_a_panel_a_history_and_mark_the_epoch_whose_weights_were_kept():
    last = {"train_loss": [0.7, 0.3, 0.1], "val_loss": [0.7, 0.6, 0.9], "best_epoch": 2}
    second = {"train_loss": [0.7, 9.5], "val_loss": [0.7, 0.6], "best_epoch": 1}
    left, right = plots.losses({"long": last, "short": second}, top=1).axes
    training, validation, guessing, kept = left.lines
    assert list(training.get_ydata()) == last["train_loss"] and list(validation.get_ydata()) == last["val_loss"]
    assert set(kept.get_xdata()) == {3} and kept.get_label() == "weights kept"
    assert set(guessing.get_ydata()) == {np.log(2)}
    assert right.get_title() == "short" and set(right.lines[3].get_xdata()) == {2}
    assert left.get_ylim() == right.get_ylim() == (0, 1)
    assert left.get_xlim() == right.get_xlim() == (0.5, 3.5)


def test_curves_mark_the_epoch_whose_weights_were_kept_in_both_panels():
    history = {"train_loss": [0.7, 0.3], "val_loss": [0.6, 0.7], "val_accuracy": [0.6, 0.5], "best_epoch": 1}
    figure = plots.curves(history, "run")
    assert [set(panel.lines[-1].get_xdata()) for panel in figure.axes] == [{2}, {2}]
    assert list(figure.axes[1].lines[0].get_ydata()) == history["val_accuracy"]
    assert "guessing" not in texts(figure)


def test_curves_mark_the_loss_of_guessing_and_do_not_magnify_small_differences():
    history = {"train_loss": [0.7, 0.3], "val_loss": [0.6, 0.7], "val_accuracy": [0.99, 0.992], "best_epoch": 1}
    left, right = plots.curves(history, guessing=1.25).axes
    assert set(left.lines[2].get_ydata()) == {1.25}
    low, high = right.get_ylim()
    assert high - low == pytest.approx(0.2) and low < 0.99 and 0.992 < high < 1.02


def test_schedules_have_a_line_each():
    (axes,) = plots.schedules({"falls": [1, 0.5, 0], "rises": [0, 1, 0]}).axes
    assert {line.get_label(): list(line.get_ydata()) for line in axes.lines} == {
        "falls": [1, 0.5, 0],
        "rises": [0, 1, 0],
    }
    assert len({(line.get_marker(), line.get_color()) for line in axes.lines}) == 2


def test_turns_shows_every_angle_of_every_image():
    images = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    images[:, :, 0] = 255  # the top row is white
    panels = plots.turns(images).axes
    assert [panel.get_title() for panel in panels[:4]] == [
        "label 0: 0°",
        "label 1: 90°",
        "label 2: 180°",
        "label 3: 270°",
    ]
    for row in (panels[:4], panels[4:]):
        shown = [panel.images[0].get_array()[..., 0] for panel in row]
        white = [(picture[0].all(), picture[:, 0].all(), picture[-1].all(), picture[:, -1].all()) for picture in shown]
        assert white == [tuple(side == turn for side in range(4)) for turn in range(4)]


def test_comparison_shows_every_seed_their_mean_and_its_interval():
    runs = records.references("resnet50_transfer")
    accuracies = [run.metrics["test"]["accuracy"] for run in runs]
    axes = plots.comparison({"ours": runs}, paper={"ours": 0.8123}, reference={"ours": 0.9}).axes[0]
    seeds, mean, *_, paper, reference = axes.lines
    assert seeds.get_xdata() == pytest.approx(accuracies)
    assert mean.get_xdata() == pytest.approx([np.mean(accuracies)])
    assert paper.get_xdata() == [0.8123] and reference.get_xdata() == [0.9]
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


def test_agreement_counts_who_is_right_where_the_other_is_wrong():
    right = {"a": np.array([True, True, True, False]), "b": np.array([True, False, False, True])}
    numbers = [float(text.get_text()) for text in plots.agreement(right).axes[0].texts]
    assert numbers == [0, 50, 25, 0]


def test_accuracy_by_class():
    right = {"a": np.array([True, True, False, True])}
    axes = plots.by_class(right, np.array([0, 0, 1, 1]), ["cat", "dog"]).axes[0]
    assert list(axes.lines[0].get_ydata()) == [1, 0.5]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["cat", "dog"]


def test_corruptions_shows_the_image_and_every_strength_of_each():
    image = torch.full((3, 32, 32), 100, dtype=torch.uint8)
    panels = {panel.get_title(): panel for panel in plots.corruptions(image).axes if panel.images}
    assert list(panels)[:6] == ["unchanged\n", *(f"JPEG\n{quality}" for quality in (95, 75, 50, 25, 10))]
    assert len(panels) == 1 + sum(len(corruption.strengths) for corruption in robustness.CORRUPTIONS.values())
    assert panels["darker\n0.5"].images[0].get_array().max() == 50


def test_detectors_have_colours_of_their_own():
    right = {str(number): np.array([True, False]) for number in range(7)}
    lines = plots.by_class(right, np.array([0, 1]), ["cat", "dog"]).axes[0].lines
    assert len({line.get_color() for line in lines}) == len({line.get_marker() for line in lines}) == 7


def test_robustness_starts_every_curve_at_the_unchanged_score():
    curves = {
        name: {metric: [0.8] * len(corruption.strengths) for metric in ("accuracy", "auroc")}
        for name, corruption in robustness.CORRUPTIONS.items()
    }
    figure = plots.robustness({"one": curves}, {"one": {"accuracy": 0.9, "auroc": 0.95}})
    accuracy, auroc = figure.axes[0], figure.axes[len(robustness.CORRUPTIONS)]
    assert accuracy.get_title() == "JPEG" and accuracy.lines[0].get_ydata().tolist() == [0.9] + [0.8] * 5
    assert auroc.lines[0].get_ydata().tolist() == [0.95] + [0.8] * 5
    assert [tick.get_text() for tick in accuracy.get_xticklabels()] == ["none", "95", "75", "50", "25", "10"]


def test_mistakes_are_wrong_answers_and_the_most_confident_ones_come_first():
    count = 12
    labels = torch.tensor([0, 1] * (count // 2))
    images = data.ImageSet(
        torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(count, 3, 32, 32),
        labels,
        torch.zeros(count, dtype=torch.uint8),
        np.array([str(number) for number in range(count)]),
    )
    probabilities = np.where(labels.numpy() == 1, 0.9, 0.1)
    probabilities[4], probabilities[7], probabilities[9] = 0.99, 0.01, 0.52  # two wrong, and one that is just right
    figure = plots.mistakes(images, probabilities, count=2)
    assert [len(panel.images) for panel in figure.axes] == [1, 0, 1, 0]
    first_of_each = [figure.axes[0], figure.axes[2]]
    assert [int(panel.images[0].get_array().max()) for panel in first_of_each] == [4, 7]
    assert [panel.get_title() for panel in first_of_each] == ["P(FAKE) 0.99", "P(FAKE) 0.01"]
