"""Find the image files of a data set in a tree of folders or in parquet shards, read their labels, and decode them."""

import io
import json
import os
import re
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, UnidentifiedImageError

from cifake_utils import CifakeError
from cifake_utils.support import filenames, progress

REAL, FAKE = 0, 1
LABELS = ("REAL", "FAKE")
SIZE = 32  # pixels a side
SHARD_FOLDERS = {"train": ("train",), "val": ("val", "validation"), "test": ("test",)}  # by part
PARTS = ("train", "test")  # every source has these; it may have ``val`` too
UNKNOWN_CLASS = -1
MOST_CLASSES = 10_000  # a class number in a file name has four digits at most


class SourceError(CifakeError):
    """The folder of a data set does not hold what is expected. `DataSet.advised` adds what the reader can do."""


class Entry(NamedTuple):
    """One encoded image of a source: its name, its origin as error messages show it, and its bytes or its path."""

    name: str
    origin: str
    content: bytes | str


def elsewhere(folder: Path) -> str:
    """Return a sentence that names a folder with images up to two levels above this one or one below it.

    The sentence is empty if there is none.
    """
    for place in (*folder.parents[:2], *sorted(folder.glob("*/"))):
        if is_tree(place) or all(any(place.glob(f"{part}*.parquet")) for part in PARTS):
            return f" There are images in {place}: use that folder."
    return ""


def entries(folder: Path) -> dict[str, list[Entry]]:
    """Return the images in a folder, by part (``train``, ``test``, and ``val`` if there is one), sorted by name.

    Raises
    ------
    SourceError
        The folder holds neither a Kaggle tree nor parquet shards; a label folder is empty; the download is incomplete;
        a shard can't be read or has other columns; it is not known whether a label is REAL or FAKE.
    """
    if is_tree(folder):
        parts = {part: _tree_entries(folder / part) for part in _tree_parts(folder)}
    else:
        parts = {part: _parquet_entries(shards) for part, shards in shards_of(folder).items()}
    return {part: sorted(found, key=lambda entry: entry.name) for part, found in parts.items()}


def is_tree(folder: Path) -> bool:
    return any((folder / part / label).is_dir() for part in PARTS for label in LABELS)


def _tree_parts(folder: Path) -> list[str]:
    return [part for part in SHARD_FOLDERS if part in PARTS or (folder / part).is_dir()]


def _tree_entries(folder: Path) -> list[Entry]:
    found = []
    for label in LABELS:
        files, odd = _listed(folder / label)
        if odd:
            raise SourceError(
                f"The folder {folder / label} holds {len(odd)} entries that can't be images, such as "
                f"{', '.join(odd[:3])}. Expected only image files there. Remove the others, or move them elsewhere."
            )
        if not files:
            state = "empty" if (folder / label).is_dir() else "missing"
            raise SourceError(
                f"The folder {folder / label} is {state}. Expected the {label} images of the {folder.name} part in it."
            )
        paths = [os.path.join(folder, label, name) for name in files]  # 120,000 pathlib joins would cost a second
        found += [Entry(f"{label}/{name}", path, path) for name, path in zip(files, paths, strict=True)]
    return found


def _listed(folder: Path) -> tuple[list[str], list[str]]:
    """Return the names of the files in a folder, and descriptions of other entries, except those that are ignored."""
    files, odd = [], []
    try:
        with os.scandir(folder) as there:
            for item in there:
                if filenames.is_ignored(item.name):
                    continue
                if not item.name.isprintable():
                    odd.append(f"{filenames.shown(item.name)} (characters that can't be printed)")
                elif item.is_file():
                    files.append(item.name)
                else:
                    what = "a link to nothing" if item.is_symlink() and not os.path.exists(item.path) else "no file"
                    odd.append(f"{filenames.shown(item.name)} ({what})")
    except (FileNotFoundError, NotADirectoryError):
        return [], []
    except OSError as error:
        raise CifakeError(f"The folder {folder} can't be read: {error.strerror}. Make it readable for you.") from None
    return files, sorted(odd)


def shards_of(folder: Path) -> dict[str, list[Path]]:
    """Return the parquet shards by part. The name of a shard begins with its part, or its folder is named after it.

    The part ``val`` may be missing. Its shards may also be called ``validation``.

    If shards are numbered (``train-00000-of-00002.parquet``), all of them must exist. Files that an interrupted
    download left beside them don't count. Raises `SourceError` if a part has no shards, or not all of them.
    """
    every = [path for path in sorted(folder.rglob("*.parquet")) if not path.name.startswith(".")]
    leftover = next((f" (there is {path.name})" for path in leftovers(folder)), "")
    shards = {}
    for part in SHARD_FOLDERS:
        found = [path for path in every if path.name.startswith(part) or path.parent.name in SHARD_FOLDERS[part]]
        numbered = [match for path in found if (match := re.search(r"-(\d+)-of-(\d+)", path.name))]
        wanted = max((int(match[2]) for match in numbered), default=1)
        there = len({int(match[1]) for match in numbered}) if numbered else len(found)
        if there < wanted and (found or (leftover and part in PARTS)):
            raise SourceError(
                f"{folder} holds {there} of {wanted} parquet shards of the {part} part: a half-finished "
                f"download{leftover}. When you download it again, shards that have arrived whole stay, and one that "
                "was cut off is started again."
            )
        if found:
            shards[part] = found
        elif part in PARTS:
            raise SourceError(f"{folder} holds no images of the {part} part.{elsewhere(folder)}")
    return shards


def leftovers(folder: Path) -> list[Path]:
    """Return the partial files of an interrupted download. huggingface_hub never goes on with such a file."""
    return sorted(folder.rglob("*.incomplete"))


def _parquet_entries(shards: list[Path]) -> list[Entry]:
    found = sorted(entry for shard in shards for entry in _shard_entries(shard))
    for one, other in pairwise(found):
        if one.name == other.name:
            raise SourceError(
                f"Two images are called {one.name}: {one.origin}, and {other.origin}. Expected every image only once. "
                "Remove the duplicate shard."
            )
    return found


def _shard_entries(shard: Path) -> list[Entry]:
    try:
        with pq.ParquetFile(shard) as file:
            _check_columns(shard, file.schema_arrow)
            table = file.read(columns=["image", "label"])
        images, labels = table["image"].combine_chunks(), table["label"].to_pylist()
        contents, paths = images.field("bytes").to_pylist(), images.field("path").to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise SourceError(
            f"The parquet file {shard} can't be read ({error}). It may be half-downloaded: delete it and download it "
            "again."
        ) from None
    if not labels:
        raise SourceError(f"The parquet file {shard} has no rows. Expected images. Delete it and download it again.")
    label_names = _label_names(table.schema)
    found = []
    for row, (content, path, label) in enumerate(zip(contents, paths, labels, strict=True)):
        path = path or ""
        if not path.isprintable():
            raise SourceError(
                f"The image in row {row} of {shard} has a name with characters that can't be printed: {path!r}. "
                "Expected a path like REAL/0000.jpg."
            )
        origin = f"{shard}, row {row}" + (f" ({path})" if path else "")
        claims = {label_names[label]} if label_names and label in range(len(label_names)) else set()
        folder, _, file = path.replace("\\", "/").rpartition("/")
        claims |= {folder.rpartition("/")[2].upper()} & set(LABELS)
        if len(claims) != 1:
            what = (
                "its class name and its folder disagree"
                if claims
                else "neither a class name nor a folder says REAL or FAKE"
            )
            raise SourceError(
                f"{origin} has the label {label}, but it is not known whether this is REAL or FAKE: {what}. "
                "Expected class names REAL and FAKE in its `huggingface` metadata, or image paths "
                "like REAL/0000.jpg."
            )
        found.append(Entry(f"{claims.pop()}/{file or f'{shard.stem} row {row:06d}'}", origin, content or b""))
    return found


def _check_columns(shard: Path, schema: pa.Schema) -> None:
    """Raise a `SourceError` unless a shard has one column with encoded images and their paths, and one with labels."""
    if not all(schema.names.count(name) == 1 for name in ("image", "label")):
        found = f"has the columns {', '.join(schema.names)}"
    elif not (_holds_files(schema.field("image").type) and pa.types.is_integer(schema.field("label").type)):
        found = f"has an image of type {schema.field('image').type} and a label of type {schema.field('label').type}"
    else:
        return
    raise SourceError(
        f"The parquet file {shard} {found}. Expected the columns image (a struct of bytes, binary, and path, "
        "string) and label (an integer)."
    )


def _holds_files(kind: pa.DataType) -> bool:
    if not pa.types.is_struct(kind) or min(kind.get_field_index(name) for name in ("bytes", "path")) < 0:
        return False
    content, path = kind.field("bytes").type, kind.field("path").type
    return content in (pa.binary(), pa.large_binary()) and path in (pa.string(), pa.large_string(), pa.null())


def _label_names(schema: pa.Schema) -> list[str] | None:
    """Return the names of the labels in a shard's metadata, in label order; None if there are none."""
    try:
        metadata = json.loads((schema.metadata or {})[b"huggingface"])
        names = [name.upper() for name in metadata["info"]["features"]["label"]["names"]]
    except (LookupError, TypeError, AttributeError, ValueError):  # no metadata, or not in the format of Hugging Face
        return None
    return names if sorted(names) == sorted(LABELS) else None


def label_of(name: str) -> int:
    """Return 0 for ``REAL/…`` and 1 for ``FAKE/…``."""
    return LABELS.index(name.partition("/")[0])


def class_of(name: str) -> int:
    """Return the object class that a file name gives: 0 for ``0000.jpg``, 1 for ``0000 (2).jpg``, … 9 for ``(10)``.

    Any other name gives `UNKNOWN_CLASS`.
    """
    match = re.fullmatch(r"\d+(?: \((\d{1,4})\))?\.\w+", name.partition("/")[2])
    return int(match[1] or 1) - 1 if match else UNKNOWN_CLASS


def open_image(content: bytes | str) -> Image.Image:
    """Open an encoded image, given as its bytes or its path, without decoding its pixels."""
    return Image.open(io.BytesIO(content) if isinstance(content, bytes) else content)


def decode(content: bytes | str) -> np.ndarray:
    """Return an encoded image as uint8 (32, 32, 3). For any other file, raise a `ValueError` that says why."""
    try:
        with open_image(content) as image:
            size, mode = image.size, image.mode
            if size == (SIZE, SIZE):  # other sizes are an error anyway, and decoding a large image takes long
                image.load()
                size, mode = image.size, image.mode
    except UnidentifiedImageError:
        raise ValueError("is not an image") from None
    except Image.DecompressionBombError:
        raise ValueError("says that it has far too many pixels; expected 32×32 RGB") from None
    except Exception as error:  # every format of Pillow raises errors of its own
        raise ValueError(f"is damaged: {filenames.escaped(str(error)) or type(error).__name__}") from None
    if size != (SIZE, SIZE) or mode != "RGB":
        raise ValueError(f"is a {size[0]}×{size[1]} image of mode {mode}; expected 32×32 RGB")
    return np.array(image)


def _attempt(entry: Entry) -> np.ndarray | str:
    try:
        return decode(entry.content)
    except ValueError as error:
        return str(error)


def decoded(found: list[Entry], what: str) -> Iterable[np.ndarray | str]:
    """Return, for each entry, its pixels, uint8 (32, 32, 3), or a text that says what is wrong with it.

    The files are decoded one after the other. They are so small that two threads take longer, as they wait for each
    other.
    """
    return progress.bar(map(_attempt, found), what, len(found))
