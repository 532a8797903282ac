"""A result is loaded only if it is the result of exactly this: every ingredient is changed in turn."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState

from cifake_utils import data, experiments, features, fractal, losses, models, profiles, rotation, sample, training
from cifake_utils.support import fingerprint
from cifake_utils.weights import NONE

PROFILE = dataclasses.replace(profiles.PROFILES["sample"], epochs=5, epochs_full=2, epochs_pretext=2, batch_size=6)


def with_option(**options):
    """Return a change of a preset."""

    def change(patch, name):
        patch.setitem(experiments.PRESETS, name, experiments.PRESETS[name] | options)

    return change


def other_temperature(patch):
    tap = models.Tap("layer1", fractal.FractalDimension(models.CHANNELS["layer1"], temperature=0.05))
    patch.setitem(models.STATISTICS, "layer1_dimension", tap)


def other_stage(patch):
    patch.setitem(models.STATISTICS, "stem_dimension", models.Tap("layer1", fractal.FractalDimension(256)))


def other_version(patch):
    patch.setitem(models.MEASURE_VERSIONS, "FractalDimension", 99)


def other_architecture(**changes):
    def change(patch):
        for name in ("resnet50_fractal_loss", "resnet50_rotation"):
            patch.setitem(models.MODELS, name, dataclasses.replace(models.MODELS[name], **changes))

    return change


def other_floors(patch):
    options = {"combined_loss": {"floors": (0.7, 0.1, 0.05)}}
    changed = dataclasses.replace(experiments.EXPERIMENTS["resnet50_fractal_loss"], **options)
    patch.setitem(experiments.EXPERIMENTS, "resnet50_fractal_loss", changed)


def other_default_floors(patch):
    once = losses.CombinedLoss.__init__
    patch.setattr(
        losses.CombinedLoss, "__init__", lambda self, floors=(0.5, 0.1, 0.1), **rest: once(self, floors=floors, **rest)
    )


def other_dimensions(patch):
    changed = dataclasses.replace(experiments.EXPERIMENTS["resnet50_fractal_loss"], dimensions="noise")
    patch.setitem(experiments.EXPERIMENTS, "resnet50_fractal_loss", changed)


def other_precision(patch):
    patch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    AcceleratorState._reset_state(reset_partial_state=True)  # accelerate keeps one precision a process


HEAD, ALL = "resnet50_fractal_loss", "resnet50_rotation"
CHANGES = {
    "learning rate": (HEAD, lambda patch: with_option(learning_rate=0.1)(patch, "strong_head")),
    "batch size": (HEAD, lambda patch: with_option(batch_size=7)(patch, "strong_head")),
    "temperature": (HEAD, other_temperature),
    "stage": (HEAD, other_stage),
    "version of a measure": (HEAD, other_version),
    "statistics": (HEAD, other_architecture(statistics=("pooled", "layer1_dimension", "stem_dimension"))),
    "head": (HEAD, other_architecture(head=lambda inputs: models.Projection(inputs, 128))),
    "floors": (HEAD, other_floors),
    "default floors": (HEAD, other_default_floors),
    "dimensions": (HEAD, other_dimensions),
    "images for thresholds": (HEAD, lambda patch: patch.setattr(features, "THRESHOLD_IMAGES", 10)),
    "normalisation": (HEAD, lambda patch: patch.setattr(experiments, "MEAN", (0.5, 0.5, 0.5))),
    "precision": (HEAD, other_precision),
    "precision of all layers": (ALL, other_precision),
    "processes": (ALL, lambda patch: patch.setattr(training, "batch_norm_shares", lambda accelerator: 2)),
    "default of an option": (HEAD, lambda patch: patch.setitem(training.OPTIONS, "weight_decay", 0.5)),
    "preset": (ALL, lambda patch: with_option(max_norm=1.0)(patch, "strong")),
    "frozen": (ALL, other_architecture(frozen=True)),
    "version of the backbone": (HEAD, lambda patch: patch.setattr(models, "BACKBONE_VERSION", 99)),
    "version of the training": (HEAD, lambda patch: patch.setattr(training, "VERSION", 99)),
}


def recipes(data_hash="d", weights_hash="w", profile=PROFILE, seed=0):
    """Return the recipe of every experiment."""
    accelerator = profile.accelerator()
    return {
        name: experiments.recipe(name, seed, profile, data_hash, weights_hash, accelerator)
        for name in experiments.EXPERIMENTS
    }


@pytest.mark.parametrize("what", CHANGES)
def test_a_recipe_names_what_was_changed(what, monkeypatch):
    name, change = CHANGES[what]
    before = recipes()[name]
    try:
        with monkeypatch.context() as patch:
            change(patch)
            after = recipes()[name]
            assert fingerprint.differences(before, after) and before != after
            assert fingerprint.recipe_hash(before) != fingerprint.recipe_hash(after)
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
    assert recipes()[name] == before == json.loads(json.dumps(before))


@pytest.mark.parametrize(
    "change",
    [
        {"data_hash": "other"},
        {"weights_hash": "other"},
        {"seed": 1},
        {"profile": dataclasses.replace(PROFILE, epochs=9, epochs_full=9)},
        {"profile": dataclasses.replace(PROFILE, epochs=9, epochs_pretext=9)},
    ],
)
def test_every_recipe_holds_data_weights_seed_and_epochs(change):
    before, after = recipes(), recipes(**change)
    assert not [name for name in before if before[name] == after[name]]


def test_the_pretext_of_a_frozen_backbone_is_an_ingredient(monkeypatch):
    before = recipes()["resnet50_rotation_frozen"]  # whose own preset is another one
    with_option(max_norm=1.0)(monkeypatch, experiments.PRETEXT_PRESET)
    after = recipes()["resnet50_rotation_frozen"]
    assert fingerprint.differences(before, after) == {"pretext.training.max_norm": (5.0, 1.0)}
    assert rotation.kept_at(before["pretext"]) != rotation.kept_at(after["pretext"])


def test_a_missing_option_is_not_the_same_as_none():
    assert fingerprint.differences({"a": {"b": None}}, {"a": {}}) == {"a.b": (None, fingerprint.MISSING)}


CACHED = {
    "features: weights": lambda patch, backbone, cifake: backbone.conv1.weight.data.add_(1),
    "features: version": lambda patch, backbone, cifake: patch.setattr(features, "BACKBONE_VERSION", 99),
    "features: data": lambda patch, backbone, cifake: object.__setattr__(cifake, "hash", "other"),
    "features: normalisation": lambda patch, backbone, cifake: patch.setattr(features, "MEAN", (0.5, 0.5, 0.5)),
    "features: precision": lambda patch, backbone, cifake: other_precision(patch),
    "pretext: normalisation": lambda patch, backbone, cifake: patch.setattr(rotation, "STD", (1, 1, 1)),
    "pretext: turns": lambda patch, backbone, cifake: patch.setattr(rotation, "DRAWN", 1),
    "pretext: measure": lambda patch, backbone, cifake: patch.setitem(models.MEASURE_VERSIONS, "channel_mean", 99),
    "pretext: training": lambda patch, backbone, cifake: patch.setattr(training, "VERSION", 99),
    "pretext: precision": lambda patch, backbone, cifake: other_precision(patch),
    "images: seed": lambda patch, backbone, cifake: patch.setattr(data, "SPLIT_SEED", 99),
    "images: share": lambda patch, backbone, cifake: patch.setattr(data, "VALIDATION_SHARE", 0.3),
    "images: version": lambda patch, backbone, cifake: patch.setattr(data, "SPLIT_VERSION", 99),
    "sample: version": lambda patch, backbone, cifake: patch.setattr(sample, "VERSION", 99),
    "sample: quality": lambda patch, backbone, cifake: patch.setattr(sample, "JPEG_QUALITY", 76),
}


@pytest.mark.parametrize("what", CACHED)
def test_what_is_cached_has_another_name_when_an_ingredient_changes(what, few, runs, monkeypatch):
    backbone, cifake = models.Backbone().eval(), dataclasses.replace(few)
    monkeypatch.setattr(sample, "TILES", {"train": 1, "val": 1, "test": 1})
    kinds = {
        "features": lambda: features.cache_folder(backbone, cifake, PROFILE.accelerator()),
        "pretext": lambda: rotation.kept_at(recipes()[ALL]["pretext"]),
        "images": lambda: data._cache_recipe(sample.build(), None),
        "sample": sample.build,
    }
    name = kinds[what.partition(":")[0]]
    before = name()
    try:
        with monkeypatch.context() as patch:
            CACHED[what](patch, backbone, cifake)
            assert name() != before
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize("what", ["temperature", "version of a measure", "learning rate", "head"])
def test_nothing_stale_is_loaded(what, few, runs, monkeypatch, capsys):
    """All the way: the changed model is trained anew, and its features are those of the changed measure."""
    _, change = CHANGES[what]
    experiments.train_or_load(HEAD, profile=PROFILE)
    passes, compute = [], features._compute
    monkeypatch.setattr(features, "_compute", lambda *args: passes.append(sorted(args[3])) or compute(*args))
    change(monkeypatch)
    _, record = experiments.train_or_load(HEAD, profile=PROFILE)
    wanted = {"temperature": ["layer1_dimension"], "version of a measure": ["layer1_dimension", "stem_dimension"]}
    assert passes == [wanted[what]] * 3 if what in wanted else not passes
    assert "is not loaded: its recipe differs in" in capsys.readouterr().out
    monkeypatch.setattr(training, "fit", None)  # would fail if anything were trained
    assert experiments.train_or_load(HEAD, profile=PROFILE)[1].recipe == record.recipe


def test_a_changed_comment_recomputes_nothing(tmp_path, runs):
    """A copy of the package with other comments gives the same fingerprints, in a process of its own."""
    package = Path(experiments.__file__).parent
    for file in package.rglob("*.py"):
        copied = tmp_path / "cifake_utils" / file.relative_to(package)
        copied.parent.mkdir(parents=True, exist_ok=True)
        text = re.sub("^(    return .*[^,(])$", r"\1  # a comment", file.read_text(encoding="utf-8"), flags=re.M)
        copied.write_text(text, encoding="utf-8")
    shutil.copytree(package / "assets", tmp_path / "cifake_utils" / "assets")
    here = every_fingerprint()
    shutil.copytree(Path(__file__).parent, tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    code = "from tests.test_fingerprint import every_fingerprint; print(*every_fingerprint(), sep='\\n')"
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "CIFAKE_RUNS": str(runs)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    assert done.stdout.splitlines()[-len(here) :] == here


def every_fingerprint() -> list[str]:
    """Return what runs, features, the pretext and the sample are kept by."""
    found = [fingerprint.recipe_hash(recipe) for recipe in recipes().values()]
    found += [fingerprint.recipe_hash(tap.recipe()) for tap in models.STATISTICS.values()]
    return [*found, rotation.kept_at(recipes()[ALL]["pretext"]).name, data.source_folder(PROFILE).name, NONE.hash]


def test_recipes_tell_tensors_apart():
    one = torch.arange(6, dtype=torch.float32)
    others = [one.view(2, 3), one.double(), one + 1e-7, one.bfloat16(), one.flip(0), [0, 1, 2, 3, 4, 5]]
    assert len({fingerprint.recipe_hash({"x": x}) for x in (one, *others)}) == 7
    assert fingerprint.recipe_hash({"a": one, "b": 1}) == fingerprint.recipe_hash({"b": 1, "a": one.clone()})
    with pytest.raises(TypeError, match="JSON types and tensors"):
        fingerprint.recipe_hash({"x": object()})
