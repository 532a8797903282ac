"""A result is loaded only if it is the result of exactly this: every ingredient is changed in turn."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState

from cifake_utils import (
    catalogue,
    data,
    experiments,
    features,
    losses,
    models,
    profiles,
    rotation,
    sample,
    training,
)
from cifake_utils.support import fingerprint
from cifake_utils.weights import NONE

PROFILE = dataclasses.replace(profiles.PROFILES["sample"], epochs=5, epochs_full=2, epochs_pretext=2, batch_size=6)


HEAD, ALL = "resnet50_fractal_loss", "resnet50_rotation"


def changed(patch, name, **changes):
    patch.setitem(catalogue.EXPERIMENTS, name, dataclasses.replace(catalogue.EXPERIMENTS[name], **changes))


def with_change(**changes):
    """Return a change of both experiments."""

    def change(patch):
        for name in (HEAD, ALL):
            changed(patch, name, **changes)

    return change


def with_option(name, **options):
    """Return a change of an option of one experiment's training."""

    def change(patch):
        preset = catalogue.EXPERIMENTS[name].preset
        preset = dataclasses.replace(preset, options=dataclasses.replace(preset.options, **options))
        changed(patch, name, preset=preset)

    return change


def broken_dimensions(patch):
    changed(patch, HEAD, broken=catalogue.Broken("noise", catalogue.DIMENSIONS))


def other_pretext(patch, name=ALL):
    options = dataclasses.replace(catalogue.STRONG.options, max_norm=1.0)
    changed(patch, name, pretext=dataclasses.replace(catalogue.STRONG, options=options))


def other_batch_size(patch):
    changed(patch, HEAD, preset=dataclasses.replace(catalogue.STRONG_HEAD, batch_size=7))


def other_statistic(name, stage, **changes):
    """Return a change of one statistic."""

    def change(patch):
        measure = dataclasses.replace(models.DIMENSION, **changes)
        patch.setitem(models.STATISTICS, name, models.Statistic(stage, measure))

    return change


def other_version(patch):
    for name, statistic in models.STATISTICS.items():
        if statistic.measure is models.DIMENSION:
            other_statistic(name, statistic.stage, version=99)(patch)


def other_mean(patch):
    measure = dataclasses.replace(models.CHANNEL_MEAN, version=99)
    patch.setitem(models.STATISTICS, "pooled", models.Statistic("layer4", measure))


def other_default_floors(patch):
    once = losses.CombinedLoss.__init__
    patch.setattr(
        losses.CombinedLoss, "__init__", lambda self, floors=(0.5, 0.1, 0.1), **rest: once(self, floors=floors, **rest)
    )


def other_precision(patch):
    patch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    patch.setattr(profiles, "_cpu_computes_bfloat16", lambda: True)  # some processors only emulate it
    AcceleratorState._reset_state(reset_partial_state=True)  # accelerate keeps one precision a process


def with_shift(patch):
    changed(patch, ALL, preset=dataclasses.replace(catalogue.EXPERIMENTS[ALL].preset, shift=1))


CHANGES = {
    "learning rate": (HEAD, with_option(HEAD, learning_rate=0.1)),
    "batch size": (HEAD, other_batch_size),
    "temperature": (HEAD, other_statistic("layer1_dimension", "layer1", options={"temperature": 0.05})),
    "stage": (HEAD, other_statistic("stem_dimension", "layer1")),
    "version of a measure": (HEAD, other_version),
    "statistics": (HEAD, with_change(statistics=("pooled", "layer1_dimension", "stem_dimension"))),
    "head": (HEAD, with_change(head=partial(models.Projection, width=128))),
    "floors": (HEAD, with_change(combined_loss={"floors": (0.7, 0.1, 0.05)})),
    "default floors": (HEAD, other_default_floors),
    "broken dimensions": (HEAD, broken_dimensions),
    "images for thresholds": (HEAD, lambda patch: patch.setattr(features, "THRESHOLD_IMAGES", 10)),
    "normalisation": (HEAD, lambda patch: patch.setattr(experiments, "MEAN", (0.5, 0.5, 0.5))),
    "precision": (HEAD, other_precision),
    "precision of all layers": (ALL, other_precision),
    "processes": (ALL, lambda patch: patch.setattr(training, "batch_norm_shares", lambda accelerator: 2)),
    "an option that is a default": (HEAD, with_option(HEAD, weight_decay=0.5)),
    "option": (ALL, with_option(ALL, max_norm=1.0)),
    "coarse epochs": (ALL, with_option(ALL, coarse_share=0.5)),
    "moved images": (ALL, with_shift),
    "steps of the stem": (ALL, with_change(layout=models.Layout(stem_stride=1))),
    "pretext": (ALL, other_pretext),
    "frozen": (ALL, with_change(frozen=True)),
    "backbone": (ALL, with_change(layout=models.Layout(blocks=(3, 4, 23, 3)))),
    "version of the backbone": (HEAD, lambda patch: patch.setattr(models, "BACKBONE_VERSION", 99)),
    "version of the training": (HEAD, lambda patch: patch.setattr(training, "VERSION", 99)),
}


def recipes(data_hash="d", weights_hash="w", profile=PROFILE, seed=0):
    """Return the recipe of every experiment."""
    accelerator = profile.accelerator()
    return {
        name: experiments.recipe(name, seed, profile, data_hash, weights_hash, accelerator)
        for name in catalogue.EXPERIMENTS
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
    name = "resnet50_rotation_frozen"  # whose own preset is another one
    before = recipes()[name]
    other_pretext(monkeypatch, name)
    after = recipes()[name]
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
    "pretext: measure": lambda patch, backbone, cifake: other_mean(patch),
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
    found += [fingerprint.recipe_hash(statistic.recipe()) for statistic in models.STATISTICS.values()]
    return [*found, rotation.kept_at(recipes()[ALL]["pretext"]).name, data.source_folder(PROFILE).name, NONE.hash]


def test_recipes_tell_tensors_apart():
    one = torch.arange(6, dtype=torch.float32)
    others = [one.view(2, 3), one.double(), one + 1e-7, one.bfloat16(), one.flip(0), [0, 1, 2, 3, 4, 5]]
    assert len({fingerprint.recipe_hash({"x": x}) for x in (one, *others)}) == 7
    assert fingerprint.recipe_hash({"a": one, "b": 1}) == fingerprint.recipe_hash({"b": 1, "a": one.clone()})
    with pytest.raises(TypeError, match="JSON types and tensors"):
        fingerprint.recipe_hash({"x": object()})
