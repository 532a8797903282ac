import json
import sys
import types

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from cifake_utils import CifakeError, __main__, data, profiles
from tests.conftest import jpeg

FULL = profiles.PROFILES["full"]


def write_shard(path, tree, part, *, names=("FAKE", "REAL"), paths=True):
    """Write one part of a tree as a parquet shard the way the public mirror does: label 0 is the first of ``names``."""
    rows, labels = [], []
    for file in sorted((tree / part).glob("*/*.jpg")):
        label = file.parent.name
        rows.append({"bytes": file.read_bytes(), "path": f"{label}/{file.name}" if paths else None})
        labels.append((names or ("FAKE", "REAL")).index(label))
    table = pa.table({"image": rows, "label": pa.array(labels, pa.int64())})
    if names:
        features = {"info": {"features": {"label": {"names": list(names), "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def shards(tree, folder, **options):
    for part in ("train", "test"):
        write_shard(folder / f"{part}.parquet", tree, part, **options)
    return folder


def test_tree_becomes_stratified_tensors(tree):
    cifake = data.load(FULL)
    assert [len(images) for images in cifake.splits.values()] == [320, 80, 80]
    for images in cifake.splits.values():
        assert images.images.dtype == torch.uint8 and images.images.shape[1:] == (3, 32, 32)
        counts = torch.bincount(images.labels * 10 + images.classes, minlength=20)
        assert (counts == len(images) // 20).all()
        assert images.names == sorted(images.names)
        assert images.labels.tolist() == [int(name.startswith("FAKE/")) for name in images.names]
    assert not set(cifake.train.names) & set(cifake.val.names)


def test_pixels_are_those_of_the_named_file(tree):
    cifake = data.load(FULL)
    for row in (0, 41, 79):
        expected = data.decode(str(tree / "test" / cifake.test.names[row]))
        assert torch.equal(cifake.test.images[row], torch.from_numpy(expected).permute(2, 0, 1))


def test_names_carry_label_and_class():
    assert [data.class_of(f"REAL/{name}") for name in ("0000.jpg", "0000 (2).jpg", "12 (10).jpg")] == [0, 1, 9]
    assert [data.class_of(f"FAKE/{name}") for name in ("cat.jpg", "7 (11).jpg", "row 000001")] == [-1, -1, -1]
    assert data.label_of("REAL/0.jpg") == 0 and data.label_of("FAKE/0.jpg") == 1


@pytest.mark.parametrize("options", [{}, {"names": ("REAL", "FAKE")}, {"names": None}])
def test_parquet_gives_the_same_data_whatever_its_label_order(tree, tmp_path, monkeypatch, options):
    expected = data.load(FULL)
    monkeypatch.setenv("CIFAKE_DATA", str(shards(tree, tmp_path / "shards", **options)))
    assert data.load(FULL).hash == expected.hash


@pytest.mark.parametrize("pattern", ["data/train-0000{}-of-00002-abc.parquet", "default/train/000{}.parquet"])
def test_parquet_in_several_shards(tree, tmp_path, monkeypatch, pattern):
    expected = data.load(FULL)
    folder = shards(tree, tmp_path / "shards")
    whole = pq.read_table(folder / "train.parquet")
    for number, rows in enumerate((whole.slice(0, 150), whole.slice(150))):
        path = folder / pattern.format(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(rows, path)
    (folder / "train.parquet").unlink()
    monkeypatch.setenv("CIFAKE_DATA", str(folder))
    assert data.load(FULL).hash == expected.hash


def test_parquet_without_names_has_labels_but_no_classes(tree, tmp_path, monkeypatch):
    monkeypatch.setenv("CIFAKE_DATA", str(shards(tree, tmp_path / "shards", paths=False)))
    cifake = data.load(FULL)
    assert cifake.test.labels.sum() == 40
    assert (cifake.test.classes == data.UNKNOWN_CLASS).all()
    assert len(set(cifake.test.names)) == 80


def test_second_load_reads_the_cache_and_a_changed_source_does_not(tree, monkeypatch):
    first = data.load(FULL)
    with monkeypatch.context() as patch:
        patch.setattr(data, "_read", None)  # would fail if anything were decoded
        again = data.load(FULL)
    assert again.hash == first.hash and torch.equal(again.train.images, first.train.images)
    file = tree / "test" / "REAL" / "0000.jpg"
    file.write_bytes(jpeg(5) + b"longer")
    assert data.load(FULL).hash != first.hash


def test_smaller_profile_takes_stratified_subsets_of_the_same_splits(tree):
    full = data.load(FULL)
    lesson = data.load(profiles.Profile("lesson", "CIFAKE", (80, 40, 20), "imagenet", 1, True))
    for small, large in zip(lesson.splits.values(), full.splits.values(), strict=True):
        assert set(small.names) < set(large.names)
        assert (torch.bincount(small.labels * 10 + small.classes) == len(small) // 20).all()
    assert lesson.hash != full.hash


def message(call) -> str:
    with pytest.raises(CifakeError) as caught:
        call()
    return str(caught.value)


def test_missing_folder(tree, monkeypatch):
    monkeypatch.setenv("CIFAKE_DATA", str(tree / "nowhere"))
    text = message(lambda: data.load(FULL))
    assert "nowhere" in text and "data fetch" in text and "CIFAKE_PROFILE=sample" in text


def test_empty_label_folder(tree):
    for file in (tree / "test" / "FAKE").iterdir():
        file.unlink()
    text = message(lambda: data.load(FULL))
    assert str(tree / "test" / "FAKE") in text and "empty" in text and "data fetch" in text


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"this is text", "is not an image"),
        (jpeg(1)[:300], "is damaged"),
        (jpeg(1, mode="L"), "32×32 image of mode L; expected 32×32 RGB"),
        (jpeg(1, mode="RGBA"), "32×32 image of mode RGBA"),
        (jpeg(1, size=(64, 64)), "64×64 image of mode RGB"),
    ],
    ids=["text", "truncated", "grey", "RGBA", "64×64"],
)
def test_bad_image_is_named_and_nothing_is_left(tree, runs, content, reason):
    file = tree / "train" / "REAL" / "0003 (4).jpg"
    file.write_bytes(content)
    text = message(lambda: data.load(FULL))
    assert str(file) in text and reason in text and "data verify" in text
    assert not list(runs.rglob("*images-*"))
    (problem,) = data.verify(tree)
    assert str(file) in problem and reason in problem


def test_tree_leaves_out_what_file_managers_leave(tree):
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._0000.jpg"):
        (tree / "train" / "REAL" / name).touch()
    assert len(data.load(FULL).train) == 320


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right that few have there")
def test_what_is_no_file_in_a_tree_is_named(tree):
    folder = tree / "train" / "REAL"
    (folder / "lost.jpg").symlink_to("nowhere")
    (folder / "sub").mkdir()
    (folder / "a\nb.jpg").write_bytes(jpeg(1))
    text = message(lambda: data.load(FULL))
    assert str(folder) in text and "lost.jpg (a link to nothing)" in text and "sub (no file)" in text
    assert r"a\nb.jpg" in text


def test_label_folder_that_cannot_be_read(tree, monkeypatch):
    def closed(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(data.os, "scandir", closed)
    text = message(lambda: data.entries(tree))
    assert str(tree / "train" / "REAL") in text and "Permission denied" in text


def test_parquet_without_the_columns(tree, tmp_path, monkeypatch):
    folder = shards(tree, tmp_path / "shards")
    pq.write_table(pa.table({"picture": [b""], "label": [0]}), folder / "test.parquet")
    monkeypatch.setenv("CIFAKE_DATA", str(folder))
    text = message(lambda: data.load(FULL))
    assert "test.parquet" in text and "picture, label" in text and "Expected: image" in text


def test_labels_that_cannot_be_told(tree, tmp_path, monkeypatch):
    monkeypatch.setenv("CIFAKE_DATA", str(shards(tree, tmp_path / "shards", names=None, paths=False)))
    text = message(lambda: data.load(FULL))
    assert "row 0" in text and "can't be told" in text and "REAL" in text


def test_labels_that_contradict_their_folder(tree, tmp_path, monkeypatch):
    folder = shards(tree, tmp_path / "shards")
    table = pq.read_table(folder / "test.parquet")
    flipped = table.set_column(1, "label", pa.array([1 - label for label in table["label"].to_pylist()]))
    pq.write_table(flipped.replace_schema_metadata(table.schema.metadata), folder / "test.parquet")
    monkeypatch.setenv("CIFAKE_DATA", str(folder))
    assert "disagree" in message(lambda: data.load(FULL))


def test_half_finished_downloads(tree, tmp_path, monkeypatch):
    folder = shards(tree, tmp_path / "shards")
    monkeypatch.setenv("CIFAKE_DATA", str(folder))
    whole = (folder / "train.parquet").read_bytes()

    (folder / "train.parquet").write_bytes(whole[: len(whole) // 2])
    text = message(lambda: data.load(FULL))
    assert "train.parquet" in text and "half-downloaded" in text

    (folder / "train.parquet").rename(folder / "train-00000-of-00002.parquet")
    assert "1 of 2 parquet shards" in message(lambda: data.load(FULL))

    (folder / "abc.incomplete").touch()
    text = message(lambda: data.load(FULL))
    assert "abc.incomplete" in text and "data fetch" in text


def test_too_few_images(tree):
    (tree / "train" / "REAL" / "0000.jpg").unlink()
    text = message(lambda: data.load(FULL))
    assert "399" in text and "400" in text and "data verify" in text
    problems = data.verify(tree)
    assert problems == [
        "train: 199 REAL images, expected 200",
        "train: 19 REAL images of class airplane, expected 20",
    ]


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b[:-1] + bytes([b[-1] ^ 1]), lambda b: b""])
def test_corrupt_cache(tree, runs, damage, capsys):
    whole, images = data.load(FULL).hash, data.load(FULL).test.images.clone()  # not mapped from the file
    cache = next(runs.rglob("images-*.safetensors"))
    cache.write_bytes(damage(cache.read_bytes()))
    again = data.load(FULL)
    assert again.hash == whole and torch.equal(again.test.images, images)
    assert f"{cache} is damaged" in capsys.readouterr().out
    data.load(FULL)
    assert not capsys.readouterr().out


def test_fetch_says_what_happened_and_where_it_goes_on(runs, monkeypatch):
    import huggingface_hub

    def broken(*_args, **_kwargs):
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", broken)
    text = message(data.fetch)
    assert "ConnectionError: no route" in text and str(data.download_folder()) in text


def test_fetch_asks_the_hub_for_the_shards(runs, monkeypatch):
    import huggingface_hub

    asked = {}
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda repo, **options: asked.update(repo=repo, **options)
    )
    assert data.fetch() == runs / "cifake"
    assert asked["repo"] == "dragonintelligence/CIFAKE-image-dataset" and asked["repo_type"] == "dataset"
    assert asked["local_dir"] == runs / "cifake" and asked["allow_patterns"] == ["*.parquet"]


def test_kaggle_needs_its_package_and_fills_the_same_folder(runs, monkeypatch):
    monkeypatch.setitem(sys.modules, "kagglehub", None)  # as if it were not installed
    assert "pip install kagglehub" in message(lambda: data.fetch("kaggle"))
    asked = {}
    hub = types.SimpleNamespace(dataset_download=lambda name, **options: asked.update(name=name, **options))
    monkeypatch.setitem(sys.modules, "kagglehub", hub)
    assert data.fetch("kaggle") == runs / "cifake"
    assert asked == {
        "name": "birdy654/cifake-real-and-ai-generated-synthetic-images",
        "output_dir": str(runs / "cifake"),
    }


def test_command_line_prints_one_paragraph(tree, monkeypatch, capsys):
    monkeypatch.setenv("CIFAKE_DATA", str(tree / "nowhere"))
    assert __main__.main(["--profile", "full", "data", "info"]) == 1
    captured = capsys.readouterr()
    assert "nowhere" in captured.err and "Traceback" not in captured.err and not captured.out


def test_command_line_verify_and_info(tree, monkeypatch, capsys):
    for arguments in ("--profile full data info", "data --profile full info", "data info --profile full"):
        monkeypatch.setenv("CIFAKE_PROFILE", "sample")
        assert __main__.main(arguments.split()) == 0
        assert "automobile" in capsys.readouterr().out
    (tree / "test" / "REAL" / "0001.jpg").write_bytes(b"text")
    assert __main__.main(["--profile", "full", "data", "verify"]) == 1
    assert "0001.jpg is not an image" in capsys.readouterr().out
