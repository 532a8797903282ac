"""Damage every kind of file that the package reads back, repeat the run, and get the same result or a named error."""

import dataclasses
import gc
import pickle
import shutil

import numpy as np
import pytest
import torch

from cifake_utils import (
    CifakeError,
    data,
    experiments,
    features,
    models,
    profiles,
    records,
    rotation,
    sample,
    training,
    weights,
)
from cifake_utils.lessons import beyond, comparison, robustness
from cifake_utils.support import fingerprint, verified
from tests.small import Narrow, cifake

PROFILE = dataclasses.replace(profiles.PROFILES["sample"], epochs=5, epochs_full=2, epochs_pretext=2, batch_size=6)


def flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGE = {
    "flipped": flip,
    "truncated": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "text": lambda content: b"this is text, and nothing else",
    "overwritten": lambda content: content[:-64] + b"\xff" * 64,
    "zeros": lambda content: content[:-4096] + bytes(min(4096, len(content))),
}


@pytest.fixture
def small(runs, monkeypatch):
    """Data, weights and a backbone with which a run takes milliseconds."""
    few = cifake(24)
    monkeypatch.setattr(data, "load", lambda profile=None: few)
    monkeypatch.setattr(data, "load_hash", lambda profile=None: few.hash)
    monkeypatch.setattr(experiments, "starting_weights", lambda experiment, profile: weights.NONE)
    monkeypatch.setattr(models, "backbone", lambda start, layout: loaded(Narrow(), start))
    monkeypatch.setattr(gc, "collect", lambda *_: 0)  # most of the time of so small a run
    return runs


def loaded(backbone, start):
    if start.state:
        backbone.load_state_dict(start.state)
    return backbone


def result(name):
    """Return what there is to compare of a run: its answers, its scores, its weights."""
    model, record = experiments.train_or_load(name, profile=PROFILE)
    return record.probabilities["test"].tobytes(), record.metrics, model.state_dict()


def same(first, second):
    states = zip(first[2].values(), second[2].values(), strict=True)
    return first[:2] == second[:2] and all(torch.equal(one, other) for one, other in states)


def examine(files, run, equal, damages=DAMAGE):
    """Damage each file in every way: a run gives the same, or names the file, and the same once that is deleted."""
    assert files
    outcomes, contents = set(), {file: file.read_bytes() for file in files}
    expected = run()
    for file, whole in contents.items():
        for name, damage in damages.items():
            file.write_bytes(damage(whole))
            try:
                assert equal(run(), expected), f"{name} {file.name} gave another result"
                outcomes.add("same")
            except CifakeError as error:
                assert str(file) in str(error) and "Delete it" in str(error), f"{name} {file.name}: {error}"
                outcomes.add("named")
                file.unlink()
                assert equal(run(), expected), f"deleted {file.name} gave another result"
            file.write_bytes(whole)
    return outcomes


def test_features_and_thresholds_are_made_anew(small, capsys):
    result("resnet50_fractal_loss")
    folder = next(small.glob("cache/features-*"))
    files = [next(folder.glob(f"{name}-*")) for name in ("train-layer1_dimension", "test-pooled", "thresholds")]

    def run():  # trains the head anew on what is kept
        for path in PROFILE.runs.glob("resnet50_*"):
            path.unlink()
        return result("resnet50_fractal_loss")

    assert examine([*files, folder / features.CHECKSUMS], run, same) == {"same"}
    lines = capsys.readouterr().out.splitlines()
    assert any(str(files[0]) in line for line in lines) and any(str(files[2]) in line for line in lines)


@pytest.mark.parametrize("name", ["resnet50_fractal_loss", "resnet50_rotation"])
def test_trained_weights_and_records_are_named(small, name):
    result(name)
    files = [PROFILE.runs / f"{name}-seed0.{ending}" for ending in ("safetensors", "json", "npz")]
    assert examine(files, lambda: result(name), same) == {"named"}


def test_a_frozen_rotation_backbone_is_named_and_trained_anew(small):
    result("resnet50_rotation_frozen")
    (kept,) = small.glob("cache/rotation-*.safetensors")
    assert examine([kept], lambda: result("resnet50_rotation_frozen"), same) == {"named"}


def test_checkpoints_are_named(small, monkeypatch):
    expected, steps, once = result("resnet50_finetuned"), iter(range(100)), training._loss

    def stop(*arguments):
        if next(steps) == 9:  # in the third of four epochs
            raise KeyboardInterrupt
        return once(*arguments)

    for path in PROFILE.runs.glob("resnet50_*"):
        path.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(training, "_loss", stop)
        with pytest.raises(KeyboardInterrupt):
            result("resnet50_finetuned")
    (unfinished,) = PROFILE.runs.glob("unfinished/*.safetensors")

    def run():
        for path in PROFILE.runs.glob("resnet50_*"):
            path.unlink()
        return result("resnet50_finetuned")

    assert examine([unfinished], run, same) == {"named"} and same(run(), expected)


@pytest.fixture
def few_tiles(runs, monkeypatch):
    monkeypatch.setattr(sample, "TILES", {"train": 3, "val": 2, "test": 2})
    monkeypatch.setattr(sample, "PHOTOGRAPHS", ("chelsea", "coffee"))
    return runs


def test_tiles_and_decoded_images_are_made_anew(few_tiles, capsys):
    expected = data.load("sample")
    folder = sample.build()

    def run():
        return data.load("sample").hash

    files = [
        next(few_tiles.glob("cache/images-*.safetensors")),
        folder / "train/FAKE/0001.jpg",
        folder / sample.MANIFEST,
    ]
    assert examine(files, run, str.__eq__) == {"same"}
    for gone in ("val", "test/REAL"):
        shutil.rmtree(folder / gone)
        again = data.load("sample")
        assert again.hash == expected.hash and len(again.val) == len(expected.val)
    assert f"The tiles in {folder} are not those that were written there" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("module", "name", "read"), [(weights, "OFFLINE", weights.load_offline), (sample, "ASSET", sample.build)]
)
def test_embedded_files_are_named(tmp_path, runs, monkeypatch, module, name, read):
    original = getattr(module, name)
    monkeypatch.setattr(module, name, tmp_path / original.name)
    check_damage_is_named(original, tmp_path, monkeypatch, read)


@pytest.mark.parametrize("name", robustness.GENERATORS)
def test_images_of_generators_are_named(tmp_path, monkeypatch, name):
    original = robustness.GENERATORS[name]
    copied = dataclasses.replace(original, file=tmp_path / original.file.name)
    check_damage_is_named(original.file, tmp_path, monkeypatch, copied.samples)


def check_damage_is_named(original, folder, monkeypatch, read):
    """Damage a copy in ``folder`` of a file that the package ships in every way: what reads it names it."""
    shutil.copy(original.parent / verified.SUMS, folder)
    monkeypatch.setattr(verified, "PACKAGE", folder)
    for damage in DAMAGE.values():
        (folder / original.name).write_bytes(damage(original.read_bytes()))
        with pytest.raises(CifakeError, match=rf"{original.name} can.t be used.*Install the package again"):
            read()


def test_reference_files_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(verified, "PACKAGE", tmp_path)
    run = "resnet50_transfer-seed0"
    readers = {
        f"{run}.json": lambda folder: records.read(folder / f"{run}.json"),
        f"{run}.npz": lambda folder: records.read(folder / f"{run}.json"),
        f"{run}-robustness.npz": lambda folder: robustness.read(folder / f"{run}-robustness.npz"),
        "beyond.npz": lambda folder: beyond.read(folder / "beyond.npz"),
        "test_images.npz": lambda folder: comparison.image_facts(folder / "test_images.npz"),
        "fractal_effects.json": lambda folder: verified.load_json(folder / "fractal_effects.json"),
    }
    for name in (*readers, verified.SUMS):
        shutil.copy(records.REFERENCE / name, tmp_path)
    for name, read in readers.items():
        whole = (tmp_path / name).read_bytes()
        for damage in DAMAGE.values():
            (tmp_path / name).write_bytes(damage(whole))
            with pytest.raises(CifakeError, match=rf"{name} can.t be used.*Install the package again"):
                read(tmp_path)
        (tmp_path / name).write_bytes(whole)
        read(tmp_path)


def test_weights_of_another_run_are_not_taken(small):
    """As after a kill between writing weights and record, or a copy of one without the other."""
    for seed in (0, 1):
        experiments.train_or_load("resnet50_fractal", seed, PROFILE)
    for ending in ("safetensors", "npz"):
        files = [PROFILE.runs / f"resnet50_fractal-seed{seed}.{ending}" for seed in (0, 1)]
        whole = files[0].read_bytes()
        shutil.copy(files[1], files[0])
        with pytest.raises(verified.DamagedFile, match=rf"seed0.{ending} can.t be used"):
            experiments.train_or_load("resnet50_fractal", profile=PROFILE)
        files[0].write_bytes(whole)


def test_contents_of_another_recipe_are_not_taken(small):
    """Whole files under the names of others: a pretext, thresholds, decoded images, a checkpoint."""
    for seed in (0, 1):
        experiments.train_or_load("resnet50_rotation", seed, PROFILE)
    first, second = (
        rotation.kept_at(experiments.train_or_load("resnet50_rotation", seed, PROFILE)[1].recipe["pretext"])
        for seed in (0, 1)
    )
    shutil.copy(second, first)
    recipe = experiments.train_or_load("resnet50_rotation", 0, PROFILE)[1].recipe["pretext"]
    with pytest.raises(verified.DamagedFile, match="made from something else than its name says"):
        rotation.load(recipe)
    tensors = {"x": torch.ones(2)}
    verified.save_tensors(first, tensors, recipe=fingerprint.recipe_hash(recipe))
    with pytest.raises(verified.DamagedFile, match="it is no checkpoint"):
        rotation.load(recipe)
    for path in small.glob("cache/features-*/thresholds-*"):
        verified.save_tensors(path, verified.load_tensors(path, path.stem.partition("-")[2])[0], recipe="other")
    result("resnet50_fractal")


def test_a_damaged_file_is_named_in_another_process_too(tmp_path):
    error = verified.DamagedFile(tmp_path / "a.npz", "why")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) and again.found == error.found


def test_metadata_are_verified_alone(tmp_path):
    path = tmp_path / "a.safetensors"
    verified.save_tensors(path, {"x": torch.ones(1000)}, {"hash": "0123456789"})
    assert verified.load_metadata(path)["hash"] == "0123456789"
    path.write_bytes(path.read_bytes().replace(b"0123456789", b"0123456780"))
    assert verified.load_metadata(path) == {} == verified.load_metadata(tmp_path / "missing")


def test_arrays_say_which_they_are(tmp_path):
    path = tmp_path / "a.npz"
    verified.save_arrays(path, one=np.arange(3), other=np.ones((2, 2), np.float16))
    assert verified.load_arrays(path)["other"].dtype == np.float16
    with np.load(path) as arrays:
        kept = {name: arrays[name] for name in arrays.files if name != "one"}
    np.savez_compressed(path, **kept)
    with pytest.raises(verified.DamagedFile, match="don't have the checksum"):
        verified.load_arrays(path)
    np.save(tmp_path / "b.npy", np.ones(3))
    with pytest.raises(verified.DamagedFile):
        verified.load_arrays((tmp_path / "b.npy").rename(path))


def test_json_with_numbers_as_keys_comes_back(tmp_path):
    verified.save_json(tmp_path / "a.json", {"a": {2: 1, 10: [1.5, None]}})
    assert verified.load_json(tmp_path / "a.json") == {"a": {"2": 1, "10": [1.5, None]}}
    (tmp_path / "a.json").write_text("[" * 200_000)
    with pytest.raises(verified.DamagedFile):
        verified.load_json(tmp_path / "a.json")


def test_a_kill_between_weights_and_record_leaves_no_record(small, monkeypatch):
    expected = result("resnet50_fractal")
    short = dataclasses.replace(PROFILE, epochs=2)

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(records, "save", die)
        with pytest.raises(KeyboardInterrupt):
            experiments.train_or_load("resnet50_fractal", profile=short)
    assert not (PROFILE.runs / "resnet50_fractal-seed0.json").exists()
    assert same(result("resnet50_fractal"), expected)


def test_only_a_frozen_backbone_may_be_missing(small):
    for name in ("resnet50_transfer", "resnet50_finetuned"):
        model, record = experiments.train_or_load(name, profile=PROFILE)
        path = PROFILE.runs / f"{name}-seed0.json"
        state = model.learned_state()
        state.pop(sorted(state)[0])
        recipe = fingerprint.recipe_hash(record.recipe)
        record.checksums["safetensors"] = verified.save_tensors(path.with_suffix(".safetensors"), state, recipe=recipe)
        records.save(record, PROFILE.runs)
        with pytest.raises(verified.DamagedFile, match="its tensors are not those"):
            experiments.train_or_load(name, profile=PROFILE)


def test_leftovers_of_killed_processes_are_removed(small):
    result("resnet50_fractal")
    folder = next(small.glob("cache/features-*"))
    result("resnet50_rotation_frozen")
    (kept,) = small.glob("cache/rotation-*.safetensors")
    left = [
        PROFILE.runs / ".resnet50_fractal-seed0.safetensors.abc" / "half",
        folder / ".train-pooled-1234.npy.abc" / "half",
    ]
    for path in left:
        path.parent.mkdir()
        path.touch()
    key = fingerprint.recipe_hash(records.read(PROFILE.runs / "resnet50_fractal-seed0.json").recipe)
    finished = [
        PROFILE.runs / "unfinished" / f"resnet50_fractal-seed0-{key}.safetensors",
        kept.with_stem(f"{kept.stem}-unfinished"),
    ]
    of_other_settings = PROFILE.runs / "unfinished" / "resnet50_fractal-seed0-0123.safetensors"
    for path in (*finished, of_other_settings):
        path.touch()
    result("resnet50_fractal")
    (PROFILE.runs / "resnet50_rotation_frozen-seed0.json").unlink()
    result("resnet50_rotation_frozen")
    assert not any(path.exists() for path in finished) and of_other_settings.exists()
    next(folder.glob("train-pooled-*")).unlink()
    experiments.train_or_load("resnet50_fractal", profile=dataclasses.replace(PROFILE, epochs=10))
    assert not any(path.parent.exists() for path in left)


def test_leftovers_beside_images_and_tiles_are_removed(few_tiles):
    left = [few_tiles / "cache" / f".{name}.abc" for name in ("images-0123.safetensors", "sample-0123")]
    for path in left:
        path.mkdir(parents=True)
    data.load("sample")
    assert not any(path.exists() for path in left)
