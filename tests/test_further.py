"""Trials, prices and shared mistakes of lesson 09."""

import dataclasses
import json

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from benchmarks import strong as trials
from cifake_utils import catalogue, evaluation, models, records
from cifake_utils.lessons import comparison, further
from cifake_utils.models import Layout
from cifake_utils.support import verified

MADE = further.trials()


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def spoiled(trial, name, wrong):
    """Return a trial whose answers are those of another one, but for some rows that are turned round."""
    p = {
        key: np.where(np.arange(len(values)) < wrong, 1 - values, values) for key, values in trial.probabilities.items()
    }
    return dataclasses.replace(trial, name=name, probabilities=p)


@pytest.fixture
def perfect():
    truth = {average: further.labels().astype(np.float16) for average in further.VIEWS}
    return dataclasses.replace(next(iter(MADE.values())), name="base", epochs=3, probabilities=truth)


@pytest.mark.parametrize("path", sorted(further.FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_scores_of_a_trial_follow_from_its_probabilities(path):
    document, trial = json.loads(path.read_text(encoding="utf-8")), further.read(path)
    assert {average: trial.correct(average).mean() for average in further.VIEWS} == pytest.approx(document["val"])
    assert path.stem == trial.name.replace(",", "").replace(" ", "_")
    assert trial.seconds > 0 and set(trial.recipe["layout"]) == set(trial.layout.sizes)
    assert set(document["val"]) == set(further.VIEWS)


@pytest.mark.parametrize("suffix", [".json", ".npz"])
def test_a_damaged_trial_is_named(tmp_path, suffix):
    for path in further.FOLDER.glob("base.*"):
        content = path.read_bytes()
        (tmp_path / path.name).write_bytes(content[: len(content) // 2] if path.suffix == suffix else content)
    with pytest.raises(verified.DamagedFile, match=f"base{suffix} can't be used"):
        further.read(tmp_path / "base.json")


def test_the_trials_that_the_lesson_speaks_of_are_there():
    assert {*further.INSIDE} - {"32 pixels, as they are"} <= {*MADE}
    assert {*trials.TRIALS} == {name.partition("#")[0] for name in MADE}
    for name, trial in MADE.items():
        assert trial.recipe == trials.settings(trials.TRIALS[name.partition("#")[0]])
    for name, layout in further.INSIDE.items():
        assert name not in MADE or MADE[name].layout == layout


@pytest.mark.parametrize(("ending", "coarse"), [("", 0), (", progressive", 5)])
def test_trials_with_images_enlarged_four_times_have_the_recipes_of_experiments(ending, coarse):
    trial = trials.TRIALS[f"nine epochs, shifts, enlarged four times{ending}"]
    experiment = catalogue.get(f"resnet50_strong{ending.replace(', ', '_')}")
    assert (trial.options, trial.shift) == (experiment.preset.options, experiment.preset.shift)
    assert trial.layout == experiment.layout and trial.options.coarse_epochs(trial.epochs) == coarse


def test_a_trial_has_the_one_without_its_idea_as_control(perfect):
    def control(name, epochs=3):
        return dataclasses.replace(perfect, name=name, epochs=epochs).control

    assert control("base") == control("base#1") == control("nine epochs", 9) == ""
    assert control("mixup") == control("mixup#2") == "base"
    assert control("nine epochs, shifts", 9) == "nine epochs"
    assert control("enlarged twice, progressive") == "enlarged twice"
    assert control("nine epochs, shifts and label smoothing", 9) == "nine epochs, shifts"
    wide = "nine epochs, shifts, enlarged four times"
    assert control(f"{wide}, progressive", 9) == wide and control(wide, 9) == "nine epochs, shifts"


def test_trials_are_tested_against_their_control(perfect):
    made = {"base": perfect}
    for name, wrong in (("worse", 60), ("alike", 2), ("same", 0)):
        made[name] = spoiled(perfect, name, wrong)
    tests = further.against_control(made)
    assert {name: test.verdict for name, test in tests.items()} == {
        "worse": "worse",
        "alike": "not told apart",
        "same": "not told apart",
    }
    assert tests["worse"].difference == -60 / 20_000 and tests["worse"].low < -0.003 < tests["worse"].high
    (alone,) = comparison.paired_tests({"a": made["worse"].correct(), "b": perfect.correct()})
    assert tests["worse"].p == pytest.approx(3 * alone.p)  # Holm: three tests
    turned = further.against_control({"base": made["worse"], "better": dataclasses.replace(perfect, name="better")})
    assert turned["better"].verdict == "better"
    assert further.against_control({"worse": made["worse"]}) == {}


def test_table_and_bars_show_whatever_trials_there_are(perfect):
    made = {"base": perfect, "worse": spoiled(perfect, "worse", 60)}
    cells = further.table(made).cells
    assert cells.loc["base", ["control", "difference", "verdict"]].tolist() == ["–", "–", "–"]
    assert cells.loc["worse", ["control", "difference", "verdict"]].tolist() == ["base", "-0.0030", "worse"]
    assert cells.loc["worse", "accuracy (95 % interval)"].startswith("0.9970 (")
    axes, costs = further.bars(made).axes
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([0, 0.3])
    assert costs.lines[1].get_xdata()[0] == further.training_cost(perfect.layout, 3)
    coarse = MADE["enlarged twice, progressive"]
    _, costs = further.bars({coarse.name: coarse}).axes
    assert costs.lines[1].get_xdata()[0] == further.training_cost(coarse.layout, 3, 2)
    alone = further.table({"worse": made["worse"]}).cells.loc["worse"]
    assert alone["control"] == "base" and alone["difference"] == "–"
    assert further.table().cells.index.tolist() == [*MADE]


def test_how_long_a_training_took(perfect):
    gpu = dataclasses.replace(perfect, hardware="NVIDIA H100 80GB HBM3", seconds=81.6)
    cpu = dataclasses.replace(perfect, hardware="2 CPU threads, x86_64", cpu_seconds=720)
    assert (gpu.trained_on(), cpu.trained_on()) == ("82 s, NVIDIA H100", "12 CPU minutes")


def test_multiply_adds_of_a_resnet50_at_224_pixels_are_the_known_ones():
    assert round(further.multiply_adds(size=224) / 1e9, 2) == 4.09
    assert further.multiply_adds(Layout(enlarge=7)) == further.multiply_adds(size=224)
    assert further.multiply_adds(Layout(enlarge=2)) == further.multiply_adds(Layout(stem_stride=1)) == 333_643_776
    assert further.multiply_adds(last="layer3") < further.multiply_adds()


def test_multiply_adds_of_vision_transformers_are_the_known_ones():
    assert round(further.transformer_multiply_adds(768) / 1e9, 1) == 17.6
    assert round(further.transformer_multiply_adds(384) / 1e9, 1) == 4.6


@pytest.mark.parametrize("layout", further.INSIDE.values(), ids=further.INSIDE)
def test_coarse_layouts_are_those_of_the_backbone(layout):
    def widths(coarse):
        with torch.device("meta"):
            backbone = models.Backbone(layout.halved() if coarse == "ours" else layout).eval()
            if coarse == "package":
                backbone.set_coarse(True)
            return [maps.shape[-1] for maps in backbone(torch.empty(1, 3, 32, 32)).values()]

    assert widths("ours") == widths("package") != widths("no")
    assert further.training_cost(layout, 4) > further.training_cost(layout, 4, 2) > 0


def test_prices_are_those_of_the_declarations():
    found = {(point.source, point.name): point for point in further.priced()}
    strong = found["ours", "strong"]
    assert strong.cost == 2 * further.multiply_adds(catalogue.get("resnet50_strong").layout)
    assert strong.accuracy == records.reference("resnet50_strong").metrics["test"]["accuracy"]
    assert strong.interval == evaluation.accuracy_interval(strong.accuracy, 20_000)
    assert found["ours", "transfer"].cost == further.multiply_adds()
    assert found["paper", "rotation"].accuracy == 0.9591 and found["others", "ViT-B/16, 224 px"].accuracy == 0.993
    (axes,) = further.price_plot([*found.values()]).axes
    assert {text.get_text() for text in axes.texts} == {point.name for point in found.values()}


def test_how_many_are_wrong_together():
    assert further.several_wrong([0.5, 0.5]) == pytest.approx([0.25, 0.5, 0.25])
    errors = [0.1, 0.02, 0.3]
    random = np.random.default_rng(0).random((200_000, 3)) < errors
    assert further.several_wrong(errors) == pytest.approx(np.bincount(random.sum(1), minlength=4) / 200_000, abs=5e-3)


def test_names_of_test_images_have_the_labels_of_the_records():
    names = further.names_of_test_images()
    labels = records.reference("resnet50_strong").labels["test"]
    assert len({*names}) == 20_000 and names[0] == "FAKE/0 (10).jpg" and names[-1] == "REAL/0999.jpg"
    assert [name.startswith("FAKE") for name in names] == (labels == 1).tolist()


def test_filters_on_small_maps():
    panels = further.met_figure({"one": (1, 1), "two": (2, 1), "stride": (2, 2)}).axes
    assert [panel.get_title().splitlines()[1] for panel in panels] == ["1 place", "4 places", "1 place"]
    assert [len(panel.patches) for panel in panels] == [9 + 1, 16 + 1, 16 + 1]


def test_the_widget_shows_prices_and_what_was_measured():
    figure, said = further.render_cost("enlarged four times", 9, 5, "mirror images")
    assert "resnet50_strong_progressive-seed0 0.9867" in said and "2,669 million" in said
    assert [text.get_text() for text in figure.axes[0].texts] == ["89.9", "34.3"]
    assert "stem stride 1 0.9785" in further.render_cost("stem stride 1", 3, 0, "alone")[1]
    assert "No accuracy has been measured here." in further.render_cost("stem stride 1", 4, 9, "alone")[1]
    assert "3 of them at half" in further.render_cost("stem stride 1", 4, 9, "alone")[1]
    without = records.reference("resnet50_finetuned").details["val_without_mirror_average"]["accuracy"]
    wide, progressive = (f"nine epochs, shifts, enlarged four times{ending}" for ending in ("", ", progressive"))
    for coarse, name in ((0, wide), (5, progressive)):
        found = further.measured(Layout(enlarge=4), 9, coarse, "mirror images")
        assert name in found and len(found) == 2  # and the reference run of the same recipe
    found = further.measured(models.RESNET50, 9, 0, "alone")
    assert found["resnet50_finetuned-seed0"] == without and "nine epochs, shifts" in found
    assert not any(name.startswith("resnet50") for name in further.measured(models.RESNET50, 9, 0, [*further.VIEWS][2]))


def test_the_widget_follows_its_controls():
    inside, epochs, coarse, average, picture, message = further.cost_explorer().children
    seen = {message.value}
    for control, value in ((inside, "enlarged four times"), (epochs, 9), (coarse, 5), (average, "alone")):
        before = bytes(picture.value)
        control.value = value
        assert message.value not in seen and bytes(picture.value) != before
        seen.add(message.value)
