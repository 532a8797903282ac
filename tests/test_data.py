import contextlib
import dataclasses
import json
import random
import sys
import types

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from cifake_utils import CifakeError, __main__, data, data_sets, profiles, records, sources
from tests.conftest import jpeg

SMALL = "small"  # what the fixture `tree` declares


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


def leave_half(folder):
    """Leave what a killed download leaves beside the shards; the name is huggingface_hub's."""
    half = folder / ".cache" / "huggingface" / "download" / "data" / "abc.0123.4567.incomplete"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half")


def write_rows(shard, paths, content=b"", **metadata):
    """Write a shard with an image of each path, labels 0."""
    image = [{"bytes": content, "path": path} for path in paths]
    table = pa.table({"image": image, "label": [0] * len(paths)}).replace_schema_metadata(metadata)
    shard.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, shard)
    return shard


def test_tree_becomes_stratified_tensors(tree):
    cifake = data.load(SMALL)
    assert [len(images) for images in cifake.splits.values()] == [320, 80, 80]
    for images in cifake.splits.values():
        assert images.images.dtype == torch.uint8 and images.images.shape[1:] == (3, 32, 32)
        counts = torch.bincount(images.labels * 10 + images.classes, minlength=20)
        assert (counts == len(images) // 20).all()
        assert images.names == sorted(images.names)
        assert images.labels.tolist() == [int(name.startswith("FAKE/")) for name in images.names]
    assert not set(cifake.train.names) & set(cifake.val.names)


def test_pixels_are_those_of_the_named_file(tree):
    cifake = data.load(SMALL)
    for row in (0, 41, 79):
        expected = sources.decode(str(tree / "test" / cifake.test.names[row]))
        assert torch.equal(cifake.test.images[row], torch.from_numpy(expected).permute(2, 0, 1))


def test_names_carry_label_and_class():
    assert [sources.class_of(f"REAL/{name}") for name in ("0000.jpg", "0000 (2).jpg", "12 (10).jpg")] == [0, 1, 9]
    assert [sources.class_of(f"FAKE/{name}") for name in ("cat.jpg", "7 (0).jpg", "7 (12345).jpg", "row 1")] == [-1] * 4
    assert sources.class_of("FAKE/7 (101).jpg") == 100
    assert sources.label_of("REAL/0.jpg") == 0 and sources.label_of("FAKE/0.jpg") == 1


@pytest.mark.parametrize("options", [{}, {"names": ("REAL", "FAKE")}, {"names": None}])
def test_parquet_gives_the_same_data_whatever_its_label_order(tree, tmp_path, monkeypatch, options):
    expected = data.load(SMALL)
    monkeypatch.setenv("CIFAKE_DATA", str(shards(tree, tmp_path / "shards", **options)))
    assert data.load(SMALL).hash == expected.hash


@pytest.mark.parametrize("pattern", ["data/train-0000{}-of-00002-abc.parquet", "default/train/000{}.parquet"])
def test_parquet_in_several_shards(tree, tmp_path, monkeypatch, pattern):
    expected = data.load(SMALL)
    folder = shards(tree, tmp_path / "shards")
    whole = pq.read_table(folder / "train.parquet")
    for number, rows in enumerate((whole.slice(0, 150), whole.slice(150))):
        path = folder / pattern.format(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(rows, path)
    (folder / "train.parquet").unlink()
    leave_half(folder)
    monkeypatch.setenv("CIFAKE_DATA", str(folder))
    assert data.load(SMALL).hash == expected.hash
    assert list(folder.rglob("*.incomplete"))  # a reader removes nothing


@pytest.mark.parametrize("name", ["val-00000-of-00001.parquet", "validation.parquet", "validation/0000.parquet"])
def test_validation_shards_are_the_validation_images(tree, tmp_path, monkeypatch, name):
    folder = shards(tree, tmp_path / "shards")
    (folder / name).parent.mkdir(exist_ok=True)
    write_shard(folder / name, tree, "test")
    assert [*sources.entries(folder)] == ["train", "val", "test"]
    monkeypatch.setenv("CIFAKE_DATA", str(folder))
    cifake = data.load(SMALL)
    assert [len(images) for images in cifake.splits.values()] == [400, 80, 80]
    assert torch.equal(cifake.val.images, cifake.test.images)


def test_parquet_without_names_has_labels_but_no_classes(tree, tmp_path, monkeypatch):
    monkeypatch.setenv("CIFAKE_DATA", str(shards(tree, tmp_path / "shards", paths=False)))
    cifake = data.load(SMALL)
    assert cifake.test.labels.sum() == 40
    assert (cifake.test.classes == sources.UNKNOWN_CLASS).all()
    assert len(set(cifake.test.names)) == 80


def test_second_load_reads_the_cache_and_a_changed_source_does_not(tree, monkeypatch):
    first = data.load(SMALL)
    with monkeypatch.context() as patch:
        patch.setattr(data, "_read", None)  # would fail if anything were decoded
        again = data.load(SMALL)
    assert again.hash == first.hash and torch.equal(again.train.images, first.train.images)
    file = tree / "test" / "REAL" / "0000.jpg"
    file.write_bytes(jpeg(5) + b"longer")
    second = data.load(SMALL)
    file.write_bytes(jpeg(6) + b"longer"[: len(jpeg(5)) + 6 - len(jpeg(6))])
    assert len({first.hash, second.hash, data.load(SMALL).hash}) == 3


def test_smaller_profile_takes_stratified_subsets_of_the_same_splits(tree):
    full = data.load(SMALL)
    lesson = data.load(profiles.Profile("lesson", SMALL, (80, 40, 20), "imagenet", 1, True))
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
    text = message(lambda: data.load(SMALL))
    assert "nowhere" in text and "data fetch" in text and "CIFAKE_PROFILE=sample" in text


def test_empty_label_folder(tree):
    for file in (tree / "test" / "FAKE").iterdir():
        file.unlink()
    text = message(lambda: data.load(SMALL))
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
    text = message(lambda: data.load(SMALL))
    assert str(file) in text and reason in text and "data verify" in text
    assert not list(runs.rglob("*images-*"))
    (problem,) = data.verify(tree, data_sets.get(SMALL))
    assert str(file) in problem and reason in problem


def test_tree_leaves_out_what_file_managers_leave(tree):
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._0000.jpg"):
        (tree / "train" / "REAL" / name).touch()
    assert len(data.load(SMALL).train) == 320


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right that few have there")
def test_what_is_no_file_in_a_tree_is_named(tree):
    folder = tree / "train" / "REAL"
    (folder / "lost.jpg").symlink_to("nowhere")
    (folder / "sub").mkdir()
    (folder / "a\nb.jpg").write_bytes(jpeg(1))
    text = message(lambda: data.load(SMALL))
    assert str(folder) in text and "lost.jpg (a link to nothing)" in text and "sub (no file)" in text
    assert r"a\nb.jpg" in text


def test_label_folder_that_cannot_be_read(tree, monkeypatch):
    def closed(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(sources.os, "scandir", closed)
    text = message(lambda: data.entries(tree))
    assert str(tree / "train" / "REAL") in text and "Permission denied" in text


def test_parquet_without_the_columns(tree, tmp_path, monkeypatch):
    folder = shards(tree, tmp_path / "shards")
    pq.write_table(pa.table({"picture": [b""], "label": [0]}), folder / "test.parquet")
    monkeypatch.setenv("CIFAKE_DATA", str(folder))
    text = message(lambda: data.load(SMALL))
    assert "test.parquet" in text and "picture, label" in text and "Expected the columns image" in text


IMAGE = {"bytes": b"", "path": "REAL/0000.jpg"}


@pytest.mark.parametrize(
    ("image", "label"),
    [
        (pa.array([b"jpeg"]), pa.array([0])),
        (pa.array([{"bytes": "text", "path": "REAL/0000.jpg"}]), pa.array([0])),
        (pa.array([{"bytes": b"", "path": 3}]), pa.array([0])),
        (pa.array([{"bytes": b""}]), pa.array([0])),
        (pa.array([[b""]]), pa.array([0])),
        *((pa.array([IMAGE]), pa.array([label])) for label in ("REAL", 0.0, True, None, [0])),
        (pa.array([IMAGE]), pa.array(["REAL"]).dictionary_encode()),
    ],
    ids=lambda column: str(column.type),
)
def test_parquet_with_other_types(tmp_path, image, label):
    shard = tmp_path / "train.parquet"
    pq.write_table(pa.table({"image": image, "label": label}), shard)
    image, label = (field.type for field in pq.read_schema(shard))
    text = message(lambda: sources._shard_entries(shard))
    assert f"{shard} has an image of type {image} and a label of type {label}. Expected the columns image (a" in text


def test_parquet_with_a_column_twice_or_without_rows(tmp_path):
    shard = tmp_path / "train.parquet"
    image, label = pa.array([IMAGE]), pa.array([0])
    pq.write_table(pa.table([image, label, label], ["image", "label", "label"]), shard)
    assert "has the columns image, label, label" in message(lambda: sources._shard_entries(shard))
    pq.write_table(pa.table({"image": image, "label": label}).slice(0, 0), shard)
    assert f"{shard} has no rows" in message(lambda: sources._shard_entries(shard))


def test_shards_whose_schemas_differ_are_read_each_by_its_own(tmp_path):
    shard = tmp_path / "train-1.parquet"
    names = json.dumps({"info": {"features": {"label": {"names": ["FAKE", "REAL"]}}}})
    write_rows(shard, ["a.jpg"], huggingface=names)
    image = pa.array(
        [{"path": "REAL/b.jpg", "bytes": b""}], pa.struct({"path": pa.large_string(), "bytes": pa.binary()})
    )
    other = tmp_path / "train-2.parquet"
    pq.write_table(pa.table({"extra": [1.5], "label": pa.array([0], pa.int8()), "image": image}), other)
    assert [entry.name for entry in sources._parquet_entries([shard, other])] == ["FAKE/a.jpg", "REAL/b.jpg"]


@pytest.mark.parametrize(
    "metadata",
    [b"{", b"\xff\xfe", b"[]", b"3", b'{"info": []}', b'{"info": {"features": {"label": {"names": [0, 1]}}}}'],
)
def test_broken_metadata_leave_it_to_the_paths(tmp_path, metadata):
    shard = write_rows(tmp_path / "train.parquet", ["REAL/0000.jpg"], huggingface=metadata)
    assert [entry.name for entry in sources._shard_entries(shard)] == ["REAL/0000.jpg"]
    write_rows(shard, [None], huggingface=metadata)
    assert "class names REAL and FAKE in its `huggingface` metadata" in message(lambda: sources._shard_entries(shard))


@pytest.mark.parametrize("name", ["a\nb.jpg", "a\x1b[31m.jpg", b"\xff.jpg"])
def test_parquet_with_an_unprintable_name(tmp_path, name):
    path = pa.array([b"REAL/" + (name.encode() if isinstance(name, str) else name)]).view(pa.string())
    image = pa.StructArray.from_arrays([pa.array([b""]), path], ["bytes", "path"])
    shard = tmp_path / "train.parquet"
    pq.write_table(pa.table({"image": image, "label": [0]}), shard)
    text = message(lambda: sources._shard_entries(shard))
    assert str(shard) in text and text.isprintable()


def test_the_same_name_twice(tmp_path):
    one = write_rows(tmp_path / "train-1.parquet", ["REAL/0001.jpg", "REAL/0000.jpg"])
    other = write_rows(tmp_path / "train-2.parquet", ["REAL/0000.jpg"])
    text = message(lambda: sources._parquet_entries([one, other]))
    assert f"REAL/0000.jpg: {one}, row 1 (REAL/0000.jpg), and {other}, row 0" in text


def test_any_damage_of_a_shard_is_named(tmp_path):
    """Whatever one byte of a shard becomes, there are entries or a named error."""
    shard = write_rows(tmp_path / "train.parquet", [f"REAL/{row:04d}.jpg" for row in range(20)], jpeg(0))
    whole, generator = shard.read_bytes(), random.Random(0)
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[generator.randrange(len(whole))] = generator.randrange(256)
        shard.write_bytes(damaged)
        with contextlib.suppress(CifakeError):
            assert len(sources._shard_entries(shard)) == 20


def test_a_renamed_file(tree):
    (tree / "train" / "REAL" / "0000.jpg").rename(tree / "train" / "REAL" / "0000 copy.jpg")
    text = message(lambda: data.load(SMALL))
    assert "REAL/0000 copy.jpg" in text and "data verify" in text


def few_images(count: int, klass: int = 0):
    names = [f"{sources.LABELS[row % 2]}/{row}.jpg" for row in range(count)]
    return data.ImageSet(
        torch.zeros(count, 3, 32, 32, dtype=torch.uint8), torch.arange(count) % 2, torch.full((count,), klass), names
    )


def test_too_few_images_to_divide():
    for count in (0, 1, 2, 3):
        assert f"{count} images of {min(count, 2)} kinds" in message(lambda count=count: data.split(few_images(count)))
    assert [len(part) for part in data.split(few_images(20, sources.UNKNOWN_CLASS))] == [16, 4]
    assert data._smaller(few_images(4), 4).names == few_images(4).names
    for size in (0, 3, 5):
        assert "4 images of 2 kinds" in message(lambda size=size: data._smaller(few_images(4), size))


@pytest.mark.parametrize("lost", ["train", "train/REAL", "tarin", "..", "archive.zip"])
@pytest.mark.parametrize("kind", ["tree", "shards"])
def test_a_folder_near_the_right_one(tmp_path, monkeypatch, lost, kind):
    right = tmp_path / "above" / "cifake"
    (right / "train" / "REAL").mkdir(parents=True)
    (right / "archive.zip").touch()
    if kind == "shards":
        (right / "train" / "REAL").rmdir()
        (right / "train.parquet").touch()
        (right / "test.parquet").touch()
    monkeypatch.setenv("CIFAKE_DATA", str((right / lost).resolve()))
    if (kind, lost) == ("shards", ".."):
        assert sources.shards_of(data_sets.CIFAKE.folder())  # shards are found at any depth
    else:
        text = message(lambda: sources.entries(data_sets.CIFAKE.folder()))
        assert f"There are images in {right}: use that folder." in text


@pytest.mark.parametrize("value", ["", " ", "\t"])
def test_an_empty_variable_is_an_unset_one(runs, monkeypatch, value):
    for variable in ("CIFAKE_DATA", "CIFAKE_WEIGHTS", "CIFAKE_PROFILE"):
        monkeypatch.setenv(variable, value)
    assert profiles.active().name == "sample" and profiles.folder_from("CIFAKE_WEIGHTS") is None
    assert str(runs / "cifake") in message(lambda: data.load("full"))


def test_surrounding_spaces_are_no_part_of_a_variable(monkeypatch, tmp_path):
    monkeypatch.setenv("CIFAKE_PROFILE", "full ")  # what `set CIFAKE_PROFILE=full && …` leaves on Windows
    monkeypatch.setenv("CIFAKE_DATA", f" {tmp_path} ")
    assert profiles.active().name == "full" and profiles.folder_from("CIFAKE_DATA") == tmp_path


def test_another_cifake_than_the_published_one_is_told(tree, monkeypatch, capsys):
    monkeypatch.setattr(data, "_told", set())
    digest = data.load(SMALL).hash
    (line,) = capsys.readouterr().out.splitlines()
    assert digest in line and data_sets.CIFAKE.manifest_hash in line
    data.load(SMALL)
    assert not capsys.readouterr().out
    assert data.verify(tree, data_sets.get(SMALL)) == [line]
    published = dataclasses.replace(data_sets.get(SMALL), manifest_hash=digest)
    monkeypatch.setitem(data_sets.DATA_SETS, SMALL, published)
    monkeypatch.setattr(data, "_told", set())
    data.load(SMALL)
    assert not capsys.readouterr().out
    assert data.verify(tree, data_sets.get(SMALL)) == []


def test_command_line_fetch_verifies_what_has_arrived(tree, monkeypatch, capsys):
    monkeypatch.setattr(data, "fetch", lambda source: tree)
    assert __main__.main(["data", "fetch"]) == 1
    assert "train: 200 REAL images, expected 50,000" in capsys.readouterr().out
    small = data_sets.get(SMALL)
    monkeypatch.setattr(data_sets, "CIFAKE", small)
    assert __main__.main(["data", "fetch"]) == 1
    assert small.manifest_hash in capsys.readouterr().out
    monkeypatch.setattr(data_sets, "CIFAKE", dataclasses.replace(small, manifest_hash=data.load(SMALL).hash))
    assert __main__.main(["data", "fetch"]) == 0
    assert f"{tree}: all images can be read, and they are those of the reference" in capsys.readouterr().out


def test_reference_results_are_of_the_published_cifake():
    hashes = {
        json.loads(path.read_text(encoding="utf-8"))["data_hash"] for path in records.REFERENCE.glob("*-seed*.json")
    }
    assert hashes == {data_sets.CIFAKE.manifest_hash}


def test_labels_that_cannot_be_told(tree, tmp_path, monkeypatch):
    monkeypatch.setenv("CIFAKE_DATA", str(shards(tree, tmp_path / "shards", names=None, paths=False)))
    text = message(lambda: data.load(SMALL))
    assert "row 0" in text and "is not known" in text and "REAL" in text


def test_labels_that_contradict_their_folder(tree, tmp_path, monkeypatch):
    folder = shards(tree, tmp_path / "shards")
    table = pq.read_table(folder / "test.parquet")
    flipped = table.set_column(1, "label", pa.array([1 - label for label in table["label"].to_pylist()]))
    pq.write_table(flipped.replace_schema_metadata(table.schema.metadata), folder / "test.parquet")
    monkeypatch.setenv("CIFAKE_DATA", str(folder))
    assert "disagree" in message(lambda: data.load(SMALL))


def test_half_finished_downloads(tree, tmp_path, monkeypatch):
    folder = shards(tree, tmp_path / "shards")
    monkeypatch.setenv("CIFAKE_DATA", str(folder))
    whole = (folder / "train.parquet").read_bytes()

    (folder / "train.parquet").write_bytes(whole[: len(whole) // 2])
    text = message(lambda: data.load(SMALL))
    assert "train.parquet" in text and "half-downloaded" in text

    (folder / "train.parquet").rename(folder / "train-00000-of-00002.parquet")
    assert "1 of 2 parquet shards" in message(lambda: data.load(SMALL))

    (folder / "abc.incomplete").touch()
    text = message(lambda: data.load(SMALL))
    assert "abc.incomplete" in text and "data fetch" in text

    (folder / "train-00000-of-00002.parquet").unlink()
    assert "0 of 1 parquet shards of the train part" in message(lambda: data.load(SMALL))


def test_too_few_images(tree):
    (tree / "train" / "REAL" / "0000.jpg").unlink()
    text = message(lambda: data.load(SMALL))
    assert "399" in text and "400" in text and "data verify" in text
    problems = data.verify(tree, data_sets.get(SMALL))
    assert problems == [
        "train: 199 REAL images, expected 200",
        "train: 19 REAL images of class airplane, expected 20",
    ]


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b[:-1] + bytes([b[-1] ^ 1]), lambda b: b""])
def test_corrupt_cache(tree, runs, damage, capsys):
    whole, images = data.load(SMALL).hash, data.load(SMALL).test.images.clone()  # not mapped from the file
    cache = next(runs.rglob("images-*.safetensors"))
    cache.write_bytes(damage(cache.read_bytes()))
    again = data.load(SMALL)
    assert again.hash == whole and torch.equal(again.test.images, images)
    assert f"{cache} can't be used" in capsys.readouterr().out
    data.load(SMALL)
    assert not capsys.readouterr().out


def test_fetch_says_what_happened_and_where_it_goes_on(runs, monkeypatch):
    import huggingface_hub

    def broken(*_args, **_kwargs):
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", broken)
    text = message(data.fetch)
    assert "ConnectionError: no route" in text and str(data.download_folder()) in text


def fake_hub(monkeypatch, arrives):
    """Let ``arrives(folder)`` fill the folder in place of a download; return what the hub was asked for."""
    import huggingface_hub

    asked = {}

    def download(repo, **options):
        asked.update(repo=repo, **options)
        arrives(options["local_dir"])

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return asked


def test_fetch_asks_the_hub_for_one_revision_and_clears_what_earlier_ones_left(runs, monkeypatch):
    def arrive(folder):
        for part in ("train", "test"):
            write_rows(folder / "data" / f"{part}-00000-of-00001.parquet", ["REAL/0000.jpg"])

    folder = runs / "cifake"
    asked = fake_hub(monkeypatch, arrive)
    leave_half(folder)
    (folder / "train" / "REAL").mkdir(parents=True)  # a tree of which the rest never arrived
    assert data.fetch() == folder
    assert asked["repo"] == "dragonintelligence/CIFAKE-image-dataset" and asked["repo_type"] == "dataset"
    assert asked["local_dir"] == folder and asked["allow_patterns"] == ["*.parquet"]
    assert asked["revision"] == data.REVISION
    assert not list(folder.rglob("*.incomplete"))
    assert [len(items) for items in data.entries(folder).values()] == [1, 1]


def test_fetch_takes_the_newest_revision_where_the_pinned_one_is_gone(runs, monkeypatch, capsys):
    import huggingface_hub
    from huggingface_hub.errors import RevisionNotFoundError

    asked = []

    def download(repo, **options):
        asked.append(options.get("revision"))
        if len(asked) == 1:
            raise RevisionNotFoundError.__new__(RevisionNotFoundError)  # its arguments vary from version to version
        for part in ("train", "test"):
            write_rows(options["local_dir"] / f"{part}.parquet", ["REAL/0000.jpg"])

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    data.fetch()
    assert asked == [data.REVISION, None] and "its newest one is downloaded" in capsys.readouterr().out


def test_fetch_that_brings_only_a_part_says_so_and_clears_nothing(runs, monkeypatch):
    fake_hub(monkeypatch, lambda folder: write_rows(folder / "test.parquet", ["REAL/0000.jpg"]))
    leave_half(runs / "cifake")
    assert "0 of 1 parquet shards of the train part" in message(data.fetch)
    assert list(runs.rglob("*.incomplete"))


def test_fetch_from_nowhere_known():
    assert message(lambda: data.fetch("x")) == "There is no source 'x' of CIFAKE. Choose one of: huggingface, kaggle."


def test_kaggle_needs_its_package_and_fills_the_same_folder(runs, monkeypatch):
    monkeypatch.setitem(sys.modules, "kagglehub", None)  # as if it were not installed
    assert "pip install kagglehub" in message(lambda: data.fetch("kaggle"))
    calls = []
    (runs / "cifake" / "kept").touch()

    def download(name, **options):
        calls.append((name, options))
        if len(calls) == 1:
            raise FileExistsError("output_dir is not empty")  # what kagglehub says after an interruption
        assert (runs / "cifake" / "kept").exists()
        (runs / "cifake-kaggle").mkdir()
        return options["output_dir"]

    monkeypatch.setitem(sys.modules, "kagglehub", types.SimpleNamespace(dataset_download=download))
    assert data.fetch("kaggle") == runs / "cifake"
    dataset, options = (
        "birdy654/cifake-real-and-ai-generated-synthetic-images/versions/3",
        {"output_dir": str(runs / "cifake-kaggle")},
    )
    assert calls == [(dataset, options), (dataset, options | {"force_download": True})]
    assert [path.name for path in runs.iterdir()] == ["cifake"] and not list((runs / "cifake").iterdir())


def test_kaggle_on_a_machine_that_has_it_elsewhere(runs, monkeypatch):
    hub = types.SimpleNamespace(dataset_download=lambda name, **options: "/kaggle/input/cifake")
    monkeypatch.setitem(sys.modules, "kagglehub", hub)
    text = message(lambda: data.fetch("kaggle"))
    assert "cifake" in text and "Set CIFAKE_DATA to that folder" in text


def test_command_line_prints_one_paragraph(tree, monkeypatch, capsys):
    monkeypatch.setenv("CIFAKE_DATA", str(tree / "nowhere"))
    assert __main__.main(["--profile", "small", "data", "info"]) == 1
    captured = capsys.readouterr()
    assert "nowhere" in captured.err and "Traceback" not in captured.err and not captured.out


def test_command_line_verify_and_info(tree, monkeypatch, capsys):
    for arguments in ("--profile small data info", "data --profile small info", "data info --profile small"):
        monkeypatch.setenv("CIFAKE_PROFILE", "sample")
        assert __main__.main(arguments.split()) == 0
        assert "automobile" in capsys.readouterr().out
    (tree / "test" / "REAL" / "0001.jpg").write_bytes(b"text")
    assert __main__.main(["--profile", "small", "data", "verify"]) == 1
    assert "0001.jpg is not an image" in capsys.readouterr().out
