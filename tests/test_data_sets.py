"""A third data set is one declaration: it is loaded, verified, described, learned from and named by what that says."""

import dataclasses
import io
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from cifake_utils import CifakeError, data, data_sets, experiments, prediction, profiles
from cifake_utils.__main__ import main
from cifake_utils.lessons import results

BIRDS = data_sets.DataSet(
    name="birds",
    title="Painted birds",
    class_names=("owl", "robin", "wren"),
    locate=lambda: data_sets.folder_of("BIRDS_DATA"),
    learned_from="This model knows painted birds alone.",
    advice="Set BIRDS_DATA to the folder with the birds.",
    counts={"train": 5, "test": 2},
)


def bird(number: int, label: str) -> bytes:
    """Return a JPEG of random pixels, brighter where the label is FAKE."""
    low = 100 if label == "FAKE" else 0
    pixels = np.random.default_rng(number).integers(low, low + 100, (32, 32, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=75)
    return buffer.getvalue()


@pytest.fixture
def birds(tmp_path, runs, monkeypatch):
    """The folder of the birds; their data set and a profile that uses it are declared and active."""
    root = tmp_path / "birds"
    for part, count in BIRDS.counts.items():
        for label in data.LABELS:
            (root / part / label).mkdir(parents=True)
            for klass in range(len(BIRDS.class_names)):
                for number in range(count):
                    suffix = f" ({klass + 1})" if klass else ""
                    (root / part / label / f"{number:04d}{suffix}.jpg").write_bytes(bird(10 * klass + number, label))
    monkeypatch.setitem(data_sets.DATA_SETS, "birds", BIRDS)
    monkeypatch.setitem(
        profiles.PROFILES, "birds", profiles.Profile("birds", "birds", None, "offline", epochs=3, cpu=True)
    )
    monkeypatch.setenv("CIFAKE_PROFILE", "birds")
    monkeypatch.setenv("BIRDS_DATA", str(root))
    return root


def test_it_is_loaded_and_described(birds, capsys):
    loaded = data.load()
    assert {split: len(images) for split, images in loaded.splits.items()} == {"train": 24, "val": 6, "test": 12}
    assert loaded.source == "birds" and loaded.class_names == ("owl", "robin", "wren")
    assert sorted(set(loaded.test.classes.tolist())) == [0, 1, 2] and data.load_hash() == loaded.hash
    assert main(["data", "info"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"robin +4 +4 +1 +1 +2 +2", printed) and f"birds, manifest hash {loaded.hash}" in printed


def test_it_is_verified(birds, capsys):
    assert main(["data", "verify"]) == 0
    assert capsys.readouterr().out.strip() == f"{birds}: all images can be read"
    (birds / "test" / "FAKE" / "0001 (2).jpg").rename(birds / "test" / "FAKE" / "0001 (4).jpg")
    assert main(["data", "verify"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "test: 1 FAKE images of object class number 4, which has no name",
        "test: 1 FAKE images of class robin, expected 2",
    ]
    (birds / "test" / "FAKE" / "0001 (4).jpg").unlink()
    assert main(["data", "info"]) == 1
    error = " ".join(capsys.readouterr().err.split())
    assert "has 11 images, that of birds has 12" in error and error.endswith(BIRDS.advice) and "CIFAKE" not in error


def test_an_object_class_without_a_name_is_refused(birds):
    (birds / "test" / "FAKE" / "0001 (2).jpg").rename(birds / "test" / "FAKE" / "0001 (4).jpg")
    with pytest.raises(CifakeError, match=r"FAKE/0001 \(4\).jpg of the test split is of object class number 4"):
        data.load()


def test_a_missing_folder_gets_its_own_advice(birds, monkeypatch):
    for value, found in ((str(birds / "nowhere"), "no such folder"), ("", "BIRDS_DATA is not set")):
        monkeypatch.setenv("BIRDS_DATA", value)
        with pytest.raises(CifakeError, match=rf"{found}.*Set BIRDS_DATA to the folder with the birds\.$"):
            data.load()


def test_counts_need_not_be_declared(birds, monkeypatch):
    (birds / "train" / "REAL" / "0001.jpg").unlink()
    monkeypatch.setitem(data_sets.DATA_SETS, "birds", dataclasses.replace(BIRDS, counts=None))
    assert len(data.load().train) + len(data.load().val) == 29
    assert main(["data", "verify"]) == 0


def test_a_model_learns_from_it_and_predicts(birds, tmp_path, capsys):
    record = experiments.train_or_load("resnet50_transfer")[1]
    assert record.data == "birds" and record.data_hash == data.load().hash
    assert results.title(record) == "Painted birds, 12 test images, profile birds"
    assert results.title(record) in str(results.own([record]))
    assert results.beside([record]) == ({}, {})  # the paper's numbers are about CIFAKE
    own = tmp_path / "own"
    own.mkdir()
    (own / "bird.jpg").write_bytes(bird(1, "FAKE"))
    model = "resnet50_transfer"
    assert main(["predict", str(own / "bird.jpg"), "--model", model]) == 0
    assert f"Asked: your run {model}-seed0. {BIRDS.learned_from}" in " ".join(capsys.readouterr().out.split())
    lines = []
    assert prediction.evaluate(own, name=model, write=lines.append) == []
    assert BIRDS.learned_from in " ".join(" ".join(lines).split())


def test_validation_images_of_its_own_are_taken(birds, monkeypatch):
    (birds / "test").rename(birds / "val")
    counts = {"train": 5, "val": 2, "test": 2}
    monkeypatch.setitem(data_sets.DATA_SETS, "birds", dataclasses.replace(BIRDS, counts=counts))
    shutil.copytree(birds / "val", birds / "test")
    assert main(["data", "verify"]) == 0
    assert {split: len(images) for split, images in data.load().splits.items()} == {"train": 30, "val": 12, "test": 12}
    shutil.rmtree(birds / "val")
    with pytest.raises(CifakeError, match=r"The val part in .* has 0 images, that of birds has 12"):
        data.load()


def test_an_unknown_data_set_is_named():
    with pytest.raises(CifakeError, match=r"no data set 'fish'. Expected one of: CIFAKE, sample"):
        data.load(profiles.Profile("fish", "fish", None, "offline", 1, cpu=True))
