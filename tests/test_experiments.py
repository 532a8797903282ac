import dataclasses

import numpy as np
import pytest
import torch

from cifake_utils import (
    CifakeError,
    batches,
    catalogue,
    experiments,
    features,
    models,
    profiles,
    records,
    rotation,
    training,
    weights,
)

PROFILE = dataclasses.replace(profiles.PROFILES["sample"], epochs=2)
TRANSFER = {"batch_size": 64, "learning_rate": 0.0001, "patience": 5, "preset": "paper", "epochs": 20}
DEFAULTS = {"weight_decay": 0.0, "schedule": "cosine", "max_norm": None}


def nothing_trains(monkeypatch):
    monkeypatch.setattr(training, "fit", None)  # would fail if anything were trained


def test_presets():
    head = experiments.hyperparameters("resnet50_fractal", profiles.PROFILES["full"])
    assert (head["batch_size"], head["learning_rate"], head["epochs"], head["mirror_average"]) == (256, 1e-3, 8, True)
    strong = experiments.hyperparameters("resnet50_finetuned", profiles.PROFILES["full"])
    assert (strong["batch_size"], strong["learning_rate"], strong["schedule"]) == (128, 5e-4, "one_cycle")


@pytest.mark.parametrize("profile", profiles.PROFILES.values(), ids=lambda profile: profile.name)
def test_fully_trained_models_take_as_many_steps(profile):
    rotation_model = experiments.hyperparameters("resnet50_rotation", profile)
    steps = rotation_model["epochs"] + rotation_model["pretext"]["epochs"]
    for name in ("resnet50_scratch", "resnet50_finetuned"):
        assert experiments.hyperparameters(name, profile)["epochs"] == steps


def test_reference_transfer_was_made_with_the_same_hyperparameters():
    assert experiments.hyperparameters("resnet50_transfer", profiles.PROFILES["full"]) == TRANSFER | DEFAULTS
    for seed in range(5):
        reference = records.reference("resnet50_transfer", seed)
        assert reference.hyperparameters == TRANSFER and reference.details == {}


def test_unknown_experiments_list_the_known():
    with pytest.raises(CifakeError, match="resnet50_scratch, resnet50_transfer"):
        experiments.train_or_load("resnet51")


@pytest.mark.parametrize("name", ["resnet50_transfer", "resnet50_fractal", "resnet50_fractal_loss"])
def test_frozen_models_train_once_then_load(name, few, runs, monkeypatch):
    model, record = experiments.train_or_load(name, profile=PROFILE)
    assert record.probabilities["test"].dtype.name == "float16"
    assert len(record.curves["val_loss"]) == (2 if name == "resnet50_transfer" else 1)  # 0.4 of 2, rounded
    assert ("alpha" in record.curves["terms"]) == name.endswith("loss")
    nothing_trains(monkeypatch)
    again, loaded = experiments.train_or_load(name, profile=PROFILE)
    state, same = model.state_dict(), again.state_dict()
    assert all(torch.equal(state[key], same[key]) for key in state)
    assert loaded.metrics == record.metrics and not again.training
    assert loaded.name == f"{name}-seed0" and loaded.labels["val"].dtype == record.labels["val"].dtype == np.uint8
    (PROFILE.runs / f"{name}-seed0 copy.json").write_bytes((PROFILE.runs / f"{name}-seed0.json").read_bytes())
    for ending in (".npz", ".safetensors"):
        file = PROFILE.runs / f"{name}-seed0{ending}"
        file.with_stem(f"{name}-seed0 copy").write_bytes(file.read_bytes())
    assert [run.name for run in experiments.finished(PROFILE)] == [f"{name}-seed0"]
    with pytest.raises(TypeError):  # other epochs are another run
        experiments.train_or_load(name, profile=dataclasses.replace(PROFILE, epochs=5))


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_that_torch_cannot_take_are_refused_before_anything_is_loaded(seed, monkeypatch):
    monkeypatch.setattr(experiments.data, "load", None)
    with pytest.raises(CifakeError, match=f"The seed is {seed}"):
        experiments.train_or_load("resnet50_transfer", seed, PROFILE)


@pytest.mark.parametrize("name", ["resnet50_fractal", "resnet50_fractal_loss"])
def test_trained_model_gives_images_what_its_record_says(name, few, runs):
    """Heads train on cached features; here the loaded model goes all the way from the pixels."""
    experiments.train_or_load(name, profile=PROFILE)
    model, record = experiments.train_or_load(name, profile=PROFILE)
    assert all(statistic.measure.threshold.any() for key, statistic in model.statistics.items() if "dimension" in key)
    with torch.no_grad():
        sides = [model(batches.normalise(side)).softmax(1)[:, 1] for side in (few.test.images, few.test.images.flip(3))]
    p_fake = torch.stack(sides).mean(0)
    assert torch.allclose(p_fake, torch.from_numpy(record.probabilities["test"]).float(), atol=5e-3)


@pytest.mark.parametrize("name", ["resnet50_fractal", "resnet50_shuffled", "resnet50_noise"])
def test_broken_dimensions_leave_the_pooled_features_alone(name, few, runs):
    model, accelerator = experiments.build(name, PROFILE), PROFILE.accelerator()
    splits, _ = experiments._batches(model, few, 4, accelerator, catalogue.get(name), seed=1)
    cached = features.cached(model.backbone, few, list(model.statistics), accelerator)
    for number, (split, made) in enumerate(splits.items()):
        pooled, rest = made.inputs.tensor_split([2048], 2)
        assert torch.equal(pooled, cached[split][..., :2048])
        expected = cached[split][..., 2048:]
        if name == "resnet50_shuffled":
            expected = features.shuffled(expected, 3 + number)  # three splits a seed
        elif name == "resnet50_noise":
            expected = features.noise(expected, 3 + number)
        assert torch.equal(rest, expected)


def test_any_named_statistics_can_be_broken(few, runs):
    """In the middle, and told apart in the recipe from those of the first controls."""
    experiment = dataclasses.replace(
        catalogue.EXPERIMENTS["resnet50_means_fractal"],
        broken=catalogue.Broken("shuffled", ("layer1_dimension", "stem_mean")),
    )
    model, accelerator = experiment.build(weights.load_offline()), PROFILE.accelerator()
    splits, _ = experiments._batches(model, few, 4, accelerator, experiment, seed=0)
    whole = features.cached(model.backbone, few, experiment.statistics, accelerator)["train"]
    widths = [2048, 64, 256, 64, 256]
    found, expected = (values.split(widths, 2) for values in (splits["train"].inputs, whole))
    assert [torch.equal(*pair) for pair in zip(found, expected, strict=True)] == [True, True, False, False, True]
    rows = features.shuffled(torch.arange(12), 0)  # of one other image, both of them
    assert torch.equal(found[2], expected[2][rows]) and torch.equal(found[3], expected[3][rows])
    assert experiment.broken.recipe() == {
        "broken": {"way": "shuffled", "statistics": ["layer1_dimension", "stem_mean"]}
    }
    with pytest.raises(CifakeError, match=r"broken statistics stem_mean\. Expected some of .*: pooled"):
        dataclasses.replace(catalogue.TRANSFER, broken=catalogue.Broken("noise", ("stem_mean",)))


def test_controls_differ_from_their_models_in_one_thing():
    """Everything else of a control's hyper-parameters is that of the model it controls."""
    controls = {
        "resnet50_fractal": ["resnet50_standardised", "resnet50_means", "resnet50_shuffled", "resnet50_noise"],
        "resnet50_fractal_loss": [
            "resnet50_projection_loss",
            "resnet50_means_loss",
            "resnet50_loss_as_printed",
            "resnet50_loss_low_floors",
            "resnet50_loss_high_floors",
        ],
        "resnet50_fractal_projection": ["resnet50_projection", "resnet50_means_projection"],
    }
    changes = {  # in an option of the loss
        "resnet50_loss_as_printed": "sign",
        "resnet50_loss_low_floors": "floors",
        "resnet50_loss_high_floors": "floors",
    }
    for name, others in controls.items():
        expected = experiments.hyperparameters(name, PROFILE)
        for other in others:
            settings = experiments.hyperparameters(other, PROFILE)
            settings.pop("dimensions", None)
            if changed := changes.get(other):
                assert settings["combined_loss"].pop(changed) != expected["combined_loss"][changed]
                settings["combined_loss"][changed] = expected["combined_loss"][changed]
            assert settings == expected, other
        heads = {type(experiments.build(each, PROFILE, start=weights.NONE).head) for each in (name, *others)}
        assert len(heads) == 1


def test_rotation_model_trains_both_stages_then_loads(few, runs, monkeypatch):
    profile = dataclasses.replace(PROFILE, epochs_full=1, epochs_pretext=1)
    model, record = experiments.train_or_load("resnet50_rotation", profile=profile)
    assert set(record.seconds) == {"pretext", "training"}
    assert record.details["pretext"]["curves"]["val_loss"] and record.details["val_without_mirror_average"]
    assert records.read(profile.runs / "resnet50_rotation-seed0.json").details == record.details
    files = {path.name for path in profile.runs.rglob("*") if path.is_file()}
    assert files == {f"resnet50_rotation-seed0.{ending}" for ending in ("json", "npz", "safetensors", "lock")}

    frozen, probe = experiments.train_or_load("resnet50_rotation_frozen", profile=profile)  # of the same pretext
    assert probe.details["pretext"] == record.details["pretext"] and frozen.frozen
    fractal, _ = experiments.train_or_load("resnet50_rotation_fractal_loss", profile=profile)
    state = frozen.backbone.state_dict()
    assert all(torch.equal(state[key], value) for key, value in fractal.backbone.state_dict().items())

    nothing_trains(monkeypatch)
    monkeypatch.setattr(rotation, "pretrained", None)  # the finished model does not need its pretext any more
    again, loaded = experiments.train_or_load("resnet50_rotation", profile=profile)
    state, same = model.state_dict(), again.state_dict()
    assert loaded.metrics == record.metrics and all(torch.equal(state[key], same[key]) for key in state)


def test_many_detectors_give_images_what_their_records_say_in_one_pass(few, runs, monkeypatch):
    """Frozen ones share a backbone, whether their dimensions are measured or broken; an unfrozen one goes alone."""
    names = ("resnet50_transfer", "resnet50_variogram", "resnet50_shuffled", "resnet50_noise", "resnet50_scratch")
    trained = {name: experiments.train_or_load(name, profile=PROFILE) for name in names}
    passes, once = [], models.Backbone.forward
    monkeypatch.setattr(models.Backbone, "forward", lambda self, x, *a: passes.append(len(x)) or once(self, x, *a))
    predicted = experiments.predict_images(trained, few.test.images, PROFILE.accelerator())
    assert passes == [12, 12, 12, 12]  # images and mirror images, for the frozen ones together and for the other one
    assert list(predicted) == list(names)
    for name, (model, record) in trained.items():
        assert predicted[name] == pytest.approx(record.probabilities["test"].astype(float), abs=1e-3), name
        assert not model.training

    passes.clear()
    none = experiments.predict_images(trained, few.test.images[:0], PROFILE.accelerator())
    assert {name: len(p) for name, p in none.items()} == dict.fromkeys(trained, 0)
    alone = experiments.predict_images({"it": trained["resnet50_transfer"]}, few.test.images[:5], PROFILE.accelerator())
    assert passes == [5] and alone["it"] == pytest.approx(predicted["resnet50_transfer"][:5], abs=1e-3)
