"""What an experiment is stands in one declaration, from which all else follows; finished runs stay what they are."""

import dataclasses

import matplotlib.pyplot as plt
import pytest
import torch
from torch import nn

from cifake_utils import CifakeError, batches, catalogue, experiments, explanation, features, models, profiles, training
from cifake_utils.lessons import plots, results
from cifake_utils.support.fingerprint import recipe_hash

PROFILE = dataclasses.replace(profiles.PROFILES["sample"], epochs=5)

# Of every recipe for all of CIFAKE. Where one changes, the runs that readers have of it are trained again: change it
# only where that is right, and put the new value here.
RECIPES = {
    "resnet50_scratch": "ceddc7ff7bae5fa4",
    "resnet50_transfer": "b981b356fd785d99",
    "resnet50_fractal": "de6e50672fa7dd26",
    "resnet50_fractal_loss": "9c2fe0c80eb73391",
    "resnet50_rotation": "3cf749dcb02dad16",
    "resnet50_rotation_fractal_loss": "7acfdebff23377ea",
    "resnet50_finetuned": "5a0c76a01765c63c",
    "resnet50_rotation_frozen": "704ddb1da04cfced",
    "resnet50_standardised": "66b8e85c3667cad2",
    "resnet50_means": "d3c9dc9969d51355",
    "resnet50_means_fractal": "2d4bccb4c82228fe",
    "resnet50_means_deviation": "504cc71c74976aa5",
    "resnet50_means_share": "8674f3d1d4f9c608",
    "resnet50_means_maximum": "094e62164e9d746b",
    "resnet50_shuffled": "576e5a27efa19f16",
    "resnet50_noise": "d984d3d4bb0a3681",
    "resnet50_variogram": "3d2c510b17dcdb35",
    "resnet50_projection": "aefe7b39c3ace17e",
    "resnet50_projection_loss": "b521f557c191f277",
    "resnet50_means_projection": "d09ef6511f3705ed",
    "resnet50_means_loss": "c60c92d12f0b74df",
    "resnet50_fractal_projection": "cd454733dd30d6cf",
    "resnet50_loss_as_printed": "788613949dd43f47",
    "resnet50_loss_low_floors": "99e1fdea71fa2667",
    "resnet50_loss_high_floors": "677f7efc3f5487c6",
    "resnet50_strong": "9c40a7ee4ab20bb1",
    "resnet50_strong_progressive": "878b2652b31fbab3",
    "resnet50_strong_long": "03d2601aa1b53246",
    "resnet50_embedded": "23e2588b4b78107e",
    "resnet50_scratch_as_written": "665aad70241f1f0d",
    "resnet50_fractal_as_written": "e3ea643eb51bb87e",
    "resnet50_fractal_loss_as_written": "b440b9352ca7b2a7",
    "resnet50_rotation_as_written": "590262c8b5f8fb13",
}


@pytest.mark.parametrize("name", RECIPES)
def test_finished_runs_are_loaded_and_not_trained_again(name):
    profile = profiles.PROFILES["full"]
    assert recipe_hash(experiments.recipe(name, 0, profile, "d", "w", profile.accelerator())) == RECIPES[name]


def test_every_experiment_is_described_and_pinned():
    assert list(catalogue.EXPERIMENTS) == list(RECIPES)
    for experiment in catalogue.EXPERIMENTS.values():
        assert experiment.about and (experiment.broken is None or experiment.broken.way in features.BREAKS)


def test_the_paper_s_recipe_is_that_of_model_2_for_all_five_models():
    for name in catalogue.of_the_paper():
        written = catalogue.get(catalogue.as_written(name))
        assert written.preset is catalogue.PAPER and not written.preset.mirror_average
    assert catalogue.as_written("resnet50_transfer") == "resnet50_transfer"
    assert catalogue.get("resnet50_rotation_as_written").pretext is catalogue.PAPER


def test_a_preset_with_something_that_would_be_ignored_is_refused():
    with pytest.raises(CifakeError, match=r"strong_head has epochs_share=0\.4, which would be ignored"):
        dataclasses.replace(catalogue.ROTATION, pretext=catalogue.STRONG_HEAD)
    with pytest.raises(CifakeError, match="progressive has shift=2, which would be ignored"):
        dataclasses.replace(catalogue.FRACTAL, preset=catalogue.PROGRESSIVE)
    with pytest.raises(CifakeError, match="progressive has coarse epochs or cutmix, which need images"):
        dataclasses.replace(catalogue.FRACTAL, preset=dataclasses.replace(catalogue.PROGRESSIVE, shift=0))
    with pytest.raises(CifakeError, match="progressive has shift=2"):
        dataclasses.replace(catalogue.ROTATION, pretext=catalogue.PROGRESSIVE)


def test_a_share_of_the_epochs_lengthens_the_training_but_not_its_pretext(monkeypatch):
    profile = profiles.PROFILES["full"]
    before = experiments.hyperparameters("resnet50_rotation", profile)
    twice = dataclasses.replace(catalogue.STRONG, epochs_share=2.0)
    monkeypatch.setitem(
        catalogue.EXPERIMENTS, "resnet50_rotation", dataclasses.replace(catalogue.ROTATION, preset=twice)
    )
    after = experiments.hyperparameters("resnet50_rotation", profile)
    assert (before["epochs"], after["epochs"]) == (profile.epochs_full, 2 * profile.epochs_full)
    assert after["pretext"] == before["pretext"]
    assert experiments.hyperparameters("resnet50_strong_long", profile)["epochs"] == 18


@pytest.mark.parametrize("share", [0, -1.0])
def test_a_share_of_the_epochs_is_above_zero(share):
    with pytest.raises(CifakeError, match=f"strong has epochs_share={share}. Expected a number above 0"):
        dataclasses.replace(catalogue.STRONG, epochs_share=share)


def test_the_paper_has_five_models():
    assert list(catalogue.of_the_paper().values()) == [0.7149, 0.8123, 0.8381, 0.8475, 0.9591]
    assert [catalogue.short(name) for name in catalogue.of_the_paper()][:2] == ["scratch", "transfer"]
    assert catalogue.short("resnet18_gated") == "resnet18_gated"  # what is not ResNet50 keeps its name
    with pytest.raises(CifakeError, match="choose one of: resnet50_scratch"):
        catalogue.get("gated")


class Gated(nn.Module):
    """A head of a kind of its own: features are weighted before the last layer."""

    def __init__(self, inputs):
        super().__init__()
        self.gate, self.dropout, self.last = Gate(inputs), nn.Dropout(0.1), nn.Linear(inputs, 2)

    def forward(self, features):
        return self.last(self.dropout(self.gate(features)))


class Gate(nn.Module):
    def __init__(self, inputs):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(inputs))

    def forward(self, features):
        return features * self.weight.sigmoid()


class ShareAbove(nn.Module):
    """A measure with thresholds: the share of each channel's pixels that lie above its mean over training images."""

    def __init__(self, channels, times):
        super().__init__()
        self.times = times
        self.register_buffer("threshold", torch.zeros(channels))

    def fit(self, maps):
        self.threshold.copy_(torch.cat([values.mean((2, 3)) for values in maps]).mean(0))

    def forward(self, maps):
        return (maps > self.times * self.threshold[:, None, None]).float().mean((2, 3))


def largest(maps):
    return maps.amax((2, 3))


@pytest.fixture
def sixth(monkeypatch):
    """A model with a head, two measures, a preset and a backbone that no other one has: one declaration."""
    share = models.Measure(ShareAbove, options={"times": 1.5})
    monkeypatch.setitem(models.STATISTICS, "layer2_share", models.Statistic("layer2", share))
    monkeypatch.setitem(models.STATISTICS, "stem_largest", models.Statistic("stem", models.Measure(largest)))
    experiment = catalogue.Experiment(
        about="a sixth model",
        start="random",
        frozen=True,
        layout=models.Layout(blocks=(1, 1, 1, 1)),
        statistics=("pooled", "stem_largest", "layer2_share"),
        head=Gated,
        preset=catalogue.Preset("brief", 6, training.Options(learning_rate=0.01), mirror_average=True),
        broken=catalogue.Broken("noise", ("stem_largest",)),
    )
    monkeypatch.setitem(catalogue.EXPERIMENTS, "resnet14_gated", experiment)
    return "resnet14_gated"


def test_a_sixth_model_is_one_declaration(sixth, few, runs, monkeypatch):
    model, record = experiments.train_or_load(sixth, profile=PROFILE)
    assert record.curves["train_loss"][-1] < record.curves["train_loss"][0]
    share = model.statistics["layer2_share"].measure
    with torch.no_grad():
        maps = model.backbone(batches.normalise(few.train.images))
    assert torch.allclose(share.threshold, maps["layer2"].mean((0, 2, 3)), atol=1e-4)
    assert record.recipe["architecture"]["backbone"] == ["Bottleneck", [1, 1, 1, 1]]
    assert {"stage": "layer2", "measure": "ShareAbove", "version": 1, "times": 1.5} in [
        statistic for _, statistic in record.recipe["architecture"]["statistics"]
    ]
    assert record.hyperparameters["broken"] == {"way": "noise", "statistics": ["stem_largest"]}

    monkeypatch.setattr(training, "fit", None)  # would fail if anything were trained
    again, loaded = experiments.train_or_load(sixth, profile=PROFILE)
    state, same = model.state_dict(), again.state_dict()
    assert loaded.metrics == record.metrics and all(torch.equal(state[key], same[key]) for key in state)
    predicted = experiments.predict_images({sixth: (again, loaded)}, few.test.images, PROFILE.accelerator())[sixth]
    assert predicted == pytest.approx(record.probabilities["test"].astype(float), abs=2e-3)
    assert explanation.grad_cam(again, few.test.images[0]).shape == (8, 8)

    assert [run.name for run in experiments.finished(PROFILE)] == [f"{sixth}-seed0"]
    assert f"{sixth}-seed0" in str(results.own([record]))
    assert f"train {sixth}" in str(results.reference([sixth]))  # no reference run yet
    assert sixth not in results.table()


def test_a_sixth_model_is_drawn_with_all_its_parts(sixth):
    figure = plots.architecture(sixth)
    texts = {text.get_text() for text in figure.axes[0].texts}
    plt.close(figure)
    assert {"head: Gated", "Gate", "Dropout", "linear\n2", "(noise)\n64", "share\n512", "layer4\n2048"} < texts
    assert "side by side: 2,624 features" in texts


def test_pretrained_weights_for_another_backbone_are_refused_before_anything_is_trained(sixth, few, runs, monkeypatch):
    monkeypatch.setattr(training, "fit", None)  # would fail if anything were trained
    for start in ("pretrained", "rotation"):
        declared = dataclasses.replace(catalogue.get(sixth), start=start)
        monkeypatch.setitem(catalogue.EXPERIMENTS, sixth, declared)
        with pytest.raises(CifakeError, match=f"'a sixth model' starts from '{start}' weights, .* of ResNet50"):
            experiments.train_or_load(sixth, profile=PROFILE)


def test_a_model_without_a_reference_run_has_a_row_that_says_so(sixth):
    figure = plots.comparison({sixth: []})
    assert [text.get_text() for text in figure.axes[0].texts] == ["not measured yet"]
    plt.close(figure)
