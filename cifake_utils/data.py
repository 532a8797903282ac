"""Data sets of photographs and rendered images: find, check and split them; every split ends as one uint8 tensor.

A data set is one `DataSet` in `DATA_SETS`: `CIFAKE`, the embedded `SAMPLE`, and whatever is declared beside them. A
profile names the one that it uses.

Sources of CIFAKE: Bird & Lotfi, *CIFAKE: Image Classification and Explainable Identification of AI-Generated Synthetic
Images*, IEEE Access 2024; its real half is CIFAR-10 (Krizhevsky 2009).
"""

import io
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image, UnidentifiedImageError
from sklearn.model_selection import train_test_split

from cifake_utils import CifakeError, profiles, sample
from cifake_utils.support import filenames, progress, verified
from cifake_utils.support.files import clear_leftovers, locked, writable
from cifake_utils.support.fingerprint import content_hash, recipe_hash

REAL, FAKE = 0, 1
LABELS = ("REAL", "FAKE")
SIZE = 32
PARTS = ("train", "test")  # of a source; validation images are cut from train where it has no ``val`` of its own
CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")  # CIFAR-10's
UNKNOWN_CLASS = -1
MOST_CLASSES = 10_000  # a class number in a file name has four digits at most
VALIDATION_SHARE = 0.2
SPLIT_SEED = 0
SPLIT_VERSION = 1  # raise it when the code below decodes or splits otherwise

HUGGING_FACE = "dragonintelligence/CIFAKE-image-dataset"
REVISION = "6eebd6090fe3c0d9d44f899a25f0a34e3c2dad31"  # the mirror's commit: what comes later is not fetched
KAGGLE = "birdy654/cifake-real-and-ai-generated-synthetic-images/versions/3"


class SourceError(CifakeError):
    """The folder of a data set does not hold what it should. `DataSet.advised` adds what the reader can do."""


@dataclass(frozen=True)
class ImageSet:
    """Images of one split, in the order of their names.

    Attributes
    ----------
    images : torch.Tensor
        uint8, shape (N, 3, 32, 32), RGB.
    labels : torch.Tensor
        int64, shape (N,); REAL = 0, FAKE = 1.
    classes : torch.Tensor
        int64, shape (N,); the number of the object class, from 0, or -1 where a file's name carries none.
    names : list of str
        ``"FAKE/0 (10).jpg"``: label folder and file name.
    """

    images: torch.Tensor
    labels: torch.Tensor
    classes: torch.Tensor
    names: list[str]

    def __len__(self) -> int:
        return len(self.names)

    def subset(self, rows: np.ndarray) -> "ImageSet":
        """Return the images at ``rows``, an integer array."""
        index = torch.from_numpy(rows)
        return ImageSet(self.images[index], self.labels[index], self.classes[index], [self.names[row] for row in rows])


@dataclass(frozen=True)
class Cifake:
    """The three splits, and what is needed to say which data this was.

    Attributes
    ----------
    train, val, test : ImageSet
    class_names : tuple of str
        Names of the object classes (of the ten photographs, for the sample).
    source : str
        Name of the `DataSet`, such as ``"CIFAKE"``.
    hash : str
        16 hexadecimal digits over names, labels and pixels of every split: equal hash, equal data.
    """

    train: ImageSet
    val: ImageSet
    test: ImageSet
    class_names: tuple[str, ...]
    source: str
    hash: str

    @property
    def splits(self) -> dict[str, ImageSet]:
        return {"train": self.train, "val": self.val, "test": self.test}


class Entry(NamedTuple):
    """One encoded image of a source: its name, what an error message calls it, and its bytes or its file."""

    name: str
    origin: str
    content: bytes | str


# --- data sets -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DataSet:
    """All that the package knows about one data set: declare it, put it into `DATA_SETS`, and name it in a profile.

    The images lie in a folder, either as a tree (``train/REAL``, ``train/FAKE``, ``test/REAL``, ``test/FAKE``, and
    ``val`` where there is one) or as parquet shards (``train*.parquet``, ``test*.parquet``). Each is a 32×32 RGB image.
    A file's name may carry its object class, as in CIFAKE: ``0000.jpg`` is of class 1, ``0000 (2).jpg`` of class 2.

    Attributes
    ----------
    name : str
        What profiles and records call it.
    title : str
        What figures and tables call it.
    class_names : tuple of str
        Names of the object classes, in the order of their numbers.
    locate : callable
        Returns the folder with the images, such as ``lambda: folder_of("BIRDS_DATA")``. It may make the images first.
    limits : str
        What the probabilities of a model that was trained on it can't say. `prediction` shows it.
    advice : str
        What a reader can do whose folder is missing or incomplete. It ends errors about the folder.
    counts : dict of str to int, optional
        Images of each label and object class in ``train`` and in ``test``. None: whatever is there is taken.
    manifest_hash : str, optional
        `manifest_hash` of the splits that reference results were measured on. None: there are no such results.
    """

    name: str
    title: str
    class_names: tuple[str, ...]
    locate: Callable[[], Path]
    limits: str
    advice: str
    counts: dict[str, int] | None = None
    manifest_hash: str | None = None

    @property
    def totals(self) -> dict[str, int]:
        """All images by part; empty where `counts` is None."""
        kinds = len(LABELS) * len(self.class_names)
        return {part: count * kinds for part, count in (self.counts or {}).items()}

    def folder(self) -> Path:
        """Return the folder with the images; a `CifakeError` where there is none."""
        with self.advised():
            return self.locate()

    @contextmanager
    def advised(self) -> Iterator[None]:
        """Add `advice` to an error about the folder."""
        try:
            yield
        except SourceError as error:
            raise CifakeError(f"{error} {self.advice}") from None


def folder_of(variable: str, default: Path | None = None) -> Path:
    """Return the folder that an environment variable names, ``default`` where it names none.

    Raises `SourceError` where there is no such folder.
    """
    folder = profiles.folder_from(variable) or default
    if folder is None:
        raise SourceError(f"{variable} is not set. Expected the folder that holds the images.")
    if not folder.is_dir():
        what = "that is a file, and a folder is expected" if folder.exists() else "no such folder"
        raise SourceError(f"There are no images at {folder}: {what}.{_meant(folder)}")
    return folder


def download_folder() -> Path:
    """Return the folder that `fetch` fills."""
    return profiles.runs_folder() / "cifake"


CIFAKE = DataSet(
    name="CIFAKE",
    title="CIFAKE",
    class_names=CLASS_NAMES,
    locate=lambda: folder_of("CIFAKE_DATA", default=download_folder()),
    limits=(
        "The number is a probability for images like CIFAKE's, half of them FAKE: 32×32 pixels, CIFAR-10 photographs "
        "or Stable Diffusion 1.4. Of other sources, subjects or generators it is a score that proves nothing."
    ),
    advice=(
        "Download CIFAKE with `python -m cifake_utils data fetch`, or set CIFAKE_DATA to a folder that holds the "
        "Kaggle tree (train/REAL, train/FAKE, test/REAL, test/FAKE) or parquet shards (train*.parquet, "
        "test*.parquet), or use the embedded data with CIFAKE_PROFILE=sample."
    ),
    counts={"train": 5_000, "test": 1_000},
    manifest_hash="60799d205ba03c76",
)
SAMPLE = DataSet(
    name="sample",
    title="Embedded sample, NOT CIFAKE",
    class_names=sample.PHOTOGRAPHS,
    locate=sample.build,
    limits=(
        "This model knows the embedded sample alone, ten photographs and an autoencoder's copies of them, not CIFAKE: "
        "of any other image its number says nothing."
    ),
    advice="The sample is made by this package. Delete that folder, and the next run makes it again.",
)
DATA_SETS = {data_set.name: data_set for data_set in (CIFAKE, SAMPLE)}


def data_set(name: str) -> DataSet:
    """Return the data set called ``name``; an unknown name is a `CifakeError` that lists the known ones."""
    if name not in DATA_SETS:
        raise CifakeError(
            f"There is no data set {name!r}. Expected one of: {', '.join(DATA_SETS)}. Declare it as a `DataSet` in "
            "cifake_utils/data.py, or name another one."
        )
    return DATA_SETS[name]


# --- finding ---------------------------------------------------------------------------------------------


def _meant(folder: Path) -> str:
    """Return a sentence that names the folder with images up to two levels above this one or one below, if any."""
    for place in (*folder.parents[:2], *sorted(folder.glob("*/"))):
        if _is_tree(place) or all(any(place.glob(f"{part}*.parquet")) for part in PARTS):
            return f" There are images in {place}: use that folder."
    return ""


def entries(folder: Path) -> dict[str, list[Entry]]:
    """List what a folder holds, by part (``train``, ``test``, and ``val`` where there is one).

    Entries are sorted by name. Raises `SourceError` for a folder that is neither a Kaggle tree nor parquet
    shards, for an empty label folder, a half-finished download, shards that can't be read or hold other columns,
    and labels whose meaning can't be known.
    """
    if _is_tree(folder):
        parts = {part: _tree_entries(folder / part) for part in _tree_parts(folder)}
    else:
        parts = {part: _parquet_entries(shards) for part, shards in _shards(folder).items()}
    return {part: sorted(found, key=lambda entry: entry.name) for part, found in parts.items()}


def _is_tree(folder: Path) -> bool:
    return any((folder / part / label).is_dir() for part in PARTS for label in LABELS)


def _tree_parts(folder: Path) -> list[str]:
    return [part for part in ("train", "val", "test") if part != "val" or (folder / part).is_dir()]


def _tree_entries(folder: Path) -> list[Entry]:
    found = []
    for label in LABELS:
        files, odd = _listed(folder / label)
        if odd:
            raise SourceError(
                f"The folder {folder / label} holds {len(odd)} things that can't be images, such as "
                f"{', '.join(odd[:3])}. Expected nothing but image files there. Remove the rest or move it elsewhere."
            )
        if not files:
            state = "empty" if (folder / label).is_dir() else "missing"
            raise SourceError(
                f"The folder {folder / label} is {state}; it should hold the {label} images of the {folder.name} part."
            )
        paths = [os.path.join(folder, label, name) for name in files]  # 120,000 pathlib joins would cost a second
        found += [Entry(f"{label}/{name}", path, path) for name, path in zip(files, paths, strict=True)]
    return found


def _listed(folder: Path) -> tuple[list[str], list[str]]:
    """Return the names of the files in a folder, and what else is there that isn't to be ignored, in words."""
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


def _shards(folder: Path) -> dict[str, list[Path]]:
    """Return the parquet shards by part; the part is the beginning of a shard's name or of its folder's.

    Of numbered shards (``train-00000-of-00002.parquet``) each must be there. What an interrupted download left beside
    them is none of them and does not matter.
    """
    every = [path for path in sorted(folder.rglob("*.parquet")) if not path.name.startswith(".")]
    leftover = next((f" (there is {path.name})" for path in _leftovers(folder)), "")
    shards = {}
    for part in PARTS:
        found = [path for path in every if path.name.startswith(part) or path.parent.name == part]
        numbered = [match for path in found if (match := re.search(r"-(\d+)-of-(\d+)", path.name))]
        wanted = max((int(match[2]) for match in numbered), default=1)
        there = len({int(match[1]) for match in numbered}) if numbered else len(found)
        if there < wanted and (found or leftover):
            raise SourceError(
                f"{folder} holds {there} of {wanted} parquet shards of the {part} part: a half-finished "
                f"download{leftover}. When you download it again, shards that have arrived whole stay, and one that "
                "was cut off is started again."
            )
        if not found:
            raise SourceError(f"{folder} holds no images of the {part} part.{_meant(folder)}")
        shards[part] = found
    return shards


def _leftovers(folder: Path) -> list[Path]:
    """Return what is left of shards that stopped arriving; huggingface_hub never takes such a file up again."""
    return sorted(folder.rglob("*.incomplete"))


def _parquet_entries(shards: list[Path]) -> list[Entry]:
    found = sorted(entry for shard in shards for entry in _shard_entries(shard))
    for one, other in pairwise(found):
        if one.name == other.name:
            raise SourceError(
                f"Two images are called {one.name}: {one.origin}, and {other.origin}. Expected: every image once. "
                "Remove the shard that is there twice."
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
        raise SourceError(f"The parquet file {shard} holds no images, not one row. Delete it and download it again.")
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
                f"{origin} has the label {label}, but whether that is REAL or FAKE is not known: {what}. "
                "A shard needs class names REAL and FAKE in its `huggingface` metadata, or image paths like "
                "REAL/0000.jpg."
            )
        found.append(Entry(f"{claims.pop()}/{file or f'{shard.stem} row {row:06d}'}", origin, content or b""))
    return found


def _check_columns(shard: Path, schema: pa.Schema) -> None:
    """Raise a `SourceError` unless a shard has one column of encoded images with their paths and one of labels."""
    if not all(schema.names.count(name) == 1 for name in ("image", "label")):
        found = f"has the columns {', '.join(schema.names)}"
    elif not (_holds_files(schema.field("image").type) and pa.types.is_integer(schema.field("label").type)):
        found = f"has an image of type {schema.field('image').type} and a label of type {schema.field('label').type}"
    else:
        return
    raise SourceError(
        f"The parquet file {shard} {found}. Expected: image, a struct of bytes (binary) and path (string), and label, "
        "an integer."
    )


def _holds_files(kind: pa.DataType) -> bool:
    if not pa.types.is_struct(kind) or min(kind.get_field_index(name) for name in ("bytes", "path")) < 0:
        return False
    content, path = kind.field("bytes").type, kind.field("path").type
    return content in (pa.binary(), pa.large_binary()) and path in (pa.string(), pa.large_string(), pa.null())


def _label_names(schema: pa.Schema) -> list[str] | None:
    """Return the class names that a shard's own metadata gives its labels, in label order; None where it gives none."""
    try:
        metadata = json.loads((schema.metadata or {})[b"huggingface"])
        names = [name.upper() for name in metadata["info"]["features"]["label"]["names"]]
    except (LookupError, TypeError, AttributeError, ValueError):  # no metadata, or nothing like Hugging Face's
        return None
    return names if sorted(names) == sorted(LABELS) else None


# --- decoding --------------------------------------------------------------------------------------------


def label_of(name: str) -> int:
    """Return 0 for ``REAL/…`` and 1 for ``FAKE/…``."""
    return LABELS.index(name.partition("/")[0])


def class_of(name: str) -> int:
    """Return the object class that a file's name carries: ``0000.jpg`` 0, ``0000 (2).jpg`` 1, … ``(10)`` 9."""
    match = re.fullmatch(r"\d+(?: \(([1-9]\d{0,3})\))?\.\w+", name.partition("/")[2])
    return int(match[1] or 1) - 1 if match else UNKNOWN_CLASS


def open_image(content: bytes | str) -> Image.Image:
    """Open an encoded image, given as its bytes or its path, without decoding its pixels."""
    return Image.open(io.BytesIO(content) if isinstance(content, bytes) else content)


def decode(content: bytes | str) -> np.ndarray:
    """Return an encoded image as uint8 (32, 32, 3); a ValueError says what is wrong with any other file."""
    try:
        with open_image(content) as image:
            size, mode = image.size, image.mode
            if size == (SIZE, SIZE):  # what is larger need not be decoded
                image.load()
                size, mode = image.size, image.mode
    except UnidentifiedImageError:
        raise ValueError("is not an image") from None
    except Image.DecompressionBombError:
        raise ValueError("says that it has far too many pixels; expected 32×32 RGB") from None
    except Exception as error:  # every format of Pillow has its own ways to fail
        raise ValueError(f"is damaged: {filenames.escaped(error) or type(error).__name__}") from None
    if size != (SIZE, SIZE) or mode != "RGB":
        raise ValueError(f"is a {size[0]}×{size[1]} image of mode {mode}; expected 32×32 RGB")
    return np.array(image)


def _attempt(entry: Entry) -> np.ndarray | str:
    try:
        return decode(entry.content)
    except ValueError as error:
        return str(error)


def _decoded(found: list[Entry], what: str) -> Iterable[np.ndarray | str]:
    """Return, for each entry, its pixels or what is wrong with it.

    One after the other: two threads wait so much for each other at files this small that they take longer.
    """
    return progress.bar(map(_attempt, found), what, len(found))


def _read(found: list[Entry], part: str) -> ImageSet:
    pixels = np.empty((len(found), SIZE, SIZE, 3), np.uint8)
    for row, (entry, result) in enumerate(zip(found, _decoded(found, f"decoding {part}"), strict=True)):
        if isinstance(result, str):
            raise SourceError(
                f"{entry.origin} {result}. Nothing was loaded. Replace the file; `python -m cifake_utils data verify` "
                "lists all such files."
            )
        pixels[row] = result
    return _image_set(found, pixels)


def _image_set(found: list[Entry], pixels: np.ndarray) -> ImageSet:
    names = [entry.name for entry in found]
    return ImageSet(
        torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(),
        torch.tensor([label_of(name) for name in names]),
        torch.tensor([class_of(name) for name in names]),
        names,
    )


# --- splitting and caching -------------------------------------------------------------------------------


def _strata(images: ImageSet) -> np.ndarray:
    return (images.labels * (MOST_CLASSES + 1) + images.classes).numpy()


def _stratified(images: ImageSet, **size: int | float) -> list[np.ndarray]:
    """Return the rows of two parts, sorted, with the same shares of every label and object class in both."""
    strata = _strata(images)
    try:
        parts = train_test_split(np.arange(len(images)), stratify=strata, random_state=SPLIT_SEED, **size)
    except ValueError as error:
        kinds = Counter(strata.tolist())
        example = images.names[strata.tolist().index(min(kinds, key=kinds.get))] if kinds else "none at all"
        raise CifakeError(
            f"{len(images):,} images of {len(kinds)} kinds (label and object class) can't be divided so that both "
            f"parts have images of every kind ({error}). The rarest kind is that of {example}. Expected more images of "
            "each kind, with names like REAL/0000.jpg, REAL/0000 (2).jpg, …; "
            "`python -m cifake_utils data verify` lists what differs from the data set's own counts."
        ) from None
    return [np.sort(rows) for rows in parts]


def split(train: ImageSet) -> tuple[ImageSet, ImageSet]:
    """Cut validation images from the official train part (a fifth), stratified by label and object class.

    Raises `CifakeError` where a label and object class has too few images to be in both.
    """
    keep, held = _stratified(train, test_size=VALIDATION_SHARE)
    return train.subset(keep), train.subset(held)


def _smaller(images: ImageSet, size: int) -> ImageSet:
    return images if size == len(images) else images.subset(_stratified(images, train_size=size)[0])


def manifest_hash(splits: Iterable[ImageSet]) -> str:
    """Return 16 hexadecimal digits of SHA-256 over the names (and so labels) and pixels of the splits, in order."""
    return content_hash(
        piece for images in splits for piece in ("\n".join(images.names).encode(), images.images.numpy())
    )


def _cache_recipe(source: Path, sizes: tuple[int, int, int] | None) -> str:
    """Return the fingerprint of all that the decoded images of a source depend on.

    A tree is known by its files' names and sizes; shards, whose rows would have to be read for that, by their own
    names, sizes and times of change.
    """
    if _is_tree(source):
        parts = entries(source).items()
        state = [[part, entry.name, os.stat(entry.content).st_size] for part, items in parts for entry in items]
    else:
        shards = [shard for found in _shards(source).values() for shard in found]
        stats = [(shard.relative_to(source).as_posix(), shard.stat()) for shard in shards]
        state = [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]
    split = {"version": SPLIT_VERSION, "validation_share": VALIDATION_SHARE, "seed": SPLIT_SEED, "sizes": sizes}
    return recipe_hash({"source": state, "split": split})


def _cache_file(recipe: str) -> Path:
    return profiles.runs_folder() / "cache" / f"images-{recipe}.safetensors"


def _save_cache(recipe: str, splits: dict[str, ImageSet]) -> None:
    tensors, metadata = {}, {"hash": manifest_hash(splits.values())}
    for name, images in splits.items():
        tensors |= {
            f"{name}.images": images.images,
            f"{name}.labels": images.labels,
            f"{name}.classes": images.classes,
        }
        metadata[name] = "\n".join(images.names)
    verified.save_tensors(_cache_file(recipe), tensors, metadata, recipe)


def _load_cache(recipe: str, say: bool = False) -> tuple[dict[str, ImageSet], str] | None:
    """Return splits and their hash; None where they are not kept, or damaged, which ``say`` reports."""
    try:
        tensors, metadata = verified.load_tensors(_cache_file(recipe), recipe)
    except FileNotFoundError:
        return None
    except verified.DamagedFile as error:
        if say:
            print(f"{error.found} The images are decoded again.")
        return None
    splits = {
        name: ImageSet(
            *(tensors[f"{name}.{what}"] for what in ("images", "labels", "classes")), metadata[name].split("\n")
        )
        for name in ("train", "val", "test")
    }
    return splits, metadata["hash"]


def _splits(source: Path, sizes: tuple[int, int, int] | None, declared: DataSet) -> tuple[dict[str, ImageSet], str]:
    """Return splits and their hash, of these sizes or whole; decode and keep them where they are not kept yet."""
    recipe = _cache_recipe(source, sizes)
    if (kept := _load_cache(recipe)) is None:
        whole = _splits(source, None, declared)[0] if sizes else None
        cache = _cache_file(recipe).parent
        with locked(cache / "images.lock"):  # a second process waits here and then finds them
            if (kept := _load_cache(recipe, say=True)) is None:
                clear_leftovers(cache, "images-*")
                if sizes:
                    made = {name: _smaller(whole[name], size) for name, size in zip(whole, sizes, strict=True)}
                else:
                    made = _decoded_splits(source, declared)
                _save_cache(recipe, made)
                kept = _load_cache(recipe)
    return kept


def _decoded_splits(source: Path, declared: DataSet) -> dict[str, ImageSet]:
    found = entries(source)
    for part, wanted in declared.totals.items():
        if len(found[part]) != wanted:
            raise SourceError(
                f"The {part} part in {source} has {len(found[part]):,} images, that of {declared.name} has {wanted:,}. "
                "Is the download half-finished? `python -m cifake_utils data verify` lists what is missing or too much."
            )
    return _three_splits({part: _read(items, part) for part, items in found.items()})


def _three_splits(parts: dict[str, ImageSet]) -> dict[str, ImageSet]:
    """Return train, validation and test images of the parts of a source."""
    train, val = (parts["train"], parts["val"]) if "val" in parts else split(parts["train"])
    return {"train": train, "val": val, "test": parts["test"]}


def source_folder(profile: str | profiles.Profile | None = None) -> Path:
    """Return the folder that holds the encoded images of a profile (default: active); builds the sample if need be."""
    return data_set(profiles.resolve(profile).data).folder()


_told: set[str] = set()  # hashes of what `load` has compared with the published one already


def load(profile: str | profiles.Profile | None = None) -> Cifake:
    """Return train, validation and test images of a profile (the active one where none is given).

    The first call decodes every image and keeps the tensors under ``CIFAKE_RUNS``; later calls read those. A whole
    data set that has a manifest hash is compared with it. Where it differs, a line says so, once in a process.

    Raises
    ------
    CifakeError
        Data missing, incomplete or damaged; the message names the file and the way out.
    """
    profile = profiles.resolve(profile)
    declared = data_set(profile.data)
    with declared.advised():
        splits, digest = _splits(declared.folder(), profile.sizes, declared)
        _check_classes(splits, declared)
    if not profile.sizes and digest not in _told:
        _told.add(digest)
        for line in _not_published(digest, declared):
            profile.accelerator().print(line)  # one process of several
    return Cifake(**splits, class_names=tuple(declared.class_names), source=declared.name, hash=digest)


def _check_classes(splits: dict[str, ImageSet], declared: DataSet) -> None:
    """Raise a `SourceError` where an image is of an object class that has no name."""
    for name, images in splits.items():
        last = int(images.classes.max())
        if last >= len(declared.class_names):
            example = images.names[images.classes.tolist().index(last)]
            raise SourceError(
                f"The file {example} of the {name} split is of object class number {last + 1}, by its name, and "
                f"{declared.name} has {len(declared.class_names)} object classes. Rename the file, or add the class "
                "to the data set's class names."
            )


def load_hash(profile: str | profiles.Profile | None = None) -> str:
    """Return the hash of what `load` returns, without reading the images where they are kept already."""
    profile = profiles.resolve(profile)
    declared = data_set(profile.data)
    with declared.advised():
        path = _cache_file(_cache_recipe(declared.folder(), profile.sizes))
    return verified.load_metadata(path).get("hash") or load(profile).hash


# --- what the command line calls --------------------------------------------------------------------------


def fetch(source: str = "huggingface") -> Path:
    """Download CIFAKE into `download_folder` from ``"huggingface"`` or ``"kaggle"``; return the folder.

    After an interruption, shards from Hugging Face that arrived whole stay, one that was cut off is started again; a
    download from Kaggle starts again from its beginning. A download that ends well removes what earlier ones left
    there, those from the other source too. Raises `CifakeError` for an unknown source and one that can't be reached.
    """
    if source not in DOWNLOADS:
        raise CifakeError(f"There is no source {source!r} of CIFAKE. Choose one of: {', '.join(DOWNLOADS)}.")
    folder = writable(download_folder())
    try:
        with CIFAKE.advised():
            DOWNLOADS[source](folder)
    except CifakeError:
        raise
    except Exception as error:  # each hub raises its own kinds; all mean that the download did not end well
        other = next(name for name in DOWNLOADS if name != source)
        kept = (
            f"Shards that arrived whole stay in {folder}." if source == "huggingface" else f"{folder} was not changed."
        )
        raise CifakeError(
            f"CIFAKE could not be downloaded from {source} ({type(error).__name__}: {error}). {kept} "
            f"Run the same command again, or `python -m cifake_utils data fetch --source {other}`. "
            f"{CIFAKE.advice}"
        ) from error
    return folder


def _from_hugging_face(folder: Path) -> None:
    import huggingface_hub
    from huggingface_hub.errors import RevisionNotFoundError

    options = {"repo_type": "dataset", "allow_patterns": ["*.parquet"], "local_dir": folder}
    try:
        huggingface_hub.snapshot_download(HUGGING_FACE, revision=REVISION, **options)
    except RevisionNotFoundError:
        print(f"The mirror has no revision {REVISION[:8]} any more: its newest one is downloaded.")
        huggingface_hub.snapshot_download(HUGGING_FACE, **options)
    _shards(folder)  # without a network, snapshot_download is content with whatever is there
    for name in (*PARTS, ".complete"):  # Kaggle's tree, whole or not, would be read in place of the shards
        shutil.rmtree(folder / name, ignore_errors=True)
    for leftover in _leftovers(folder):
        with suppress(OSError):
            leftover.unlink()


def _from_kaggle(folder: Path) -> None:
    try:
        import kagglehub
    except ImportError:
        raise CifakeError(
            "Downloading from Kaggle needs the package kagglehub: `pip install kagglehub`, then try again."
        ) from None
    arriving = folder.with_name(f"{folder.name}-kaggle")  # what lies in the folder stays until all has arrived
    try:
        place = kagglehub.dataset_download(KAGGLE, output_dir=str(arriving))
    except FileExistsError:  # half of it is there: kagglehub can only start again
        place = kagglehub.dataset_download(KAGGLE, output_dir=str(arriving), force_download=True)
    if Path(place).resolve() != arriving.resolve():
        raise CifakeError(f"CIFAKE from Kaggle is in {place} on this machine. Set CIFAKE_DATA to that folder.")
    shutil.rmtree(folder)
    arriving.rename(folder)


DOWNLOADS = {"huggingface": _from_hugging_face, "kaggle": _from_kaggle}


def verify(folder: Path, declared: DataSet = CIFAKE) -> list[str]:
    """Return what is wrong with a data set in ``folder``, a line a finding; an empty list: all is well.

    Findings are files that are no 32×32 RGB image, counts per part, label and object class that differ from the
    declared ones, and, where there is none of these, images that are not those of the reference results.
    """
    problems, parts = [], {}
    with declared.advised():
        found = entries(folder)
    for part, items in found.items():
        pixels = np.zeros((len(items), SIZE, SIZE, 3), np.uint8)
        for row, (entry, result) in enumerate(zip(items, _decoded(items, f"checking {part}"), strict=True)):
            if isinstance(result, str):
                problems.append(f"{entry.origin} {result}")
            else:
                pixels[row] = result
        parts[part] = _image_set(items, pixels)
        problems += _wrong_counts(part, parts[part], declared)
    if problems or not declared.manifest_hash:
        return problems
    return _not_published(manifest_hash(_three_splits(parts).values()), declared)


def _wrong_counts(part: str, images: ImageSet, declared: DataSet) -> list[str]:
    counts = Counter(zip(images.labels.tolist(), images.classes.tolist(), strict=True))
    classes = {klass for _, klass in counts} - {UNKNOWN_CLASS}
    problems = [
        f"{part}: {counts[label, klass]:,} {label_name} images of object class number {klass + 1}, which has no name"
        for label, label_name in enumerate(LABELS)
        for klass in sorted(classes - set(range(len(declared.class_names))))
        if counts[label, klass]
    ]
    if declared.counts is None:
        return problems
    share = declared.counts.get(part, 0)
    wanted = share * len(declared.class_names)
    for label, label_name in enumerate(LABELS):
        total = sum(count for (of, _), count in counts.items() if of == label)
        if total != wanted:
            problems.append(f"{part}: {total:,} {label_name} images, expected {wanted:,}")
        for klass, class_name in enumerate(declared.class_names if classes else ()):
            if counts[label, klass] != share:
                problems.append(
                    f"{part}: {counts[label, klass]:,} {label_name} images of class {class_name}, expected {share:,}"
                )
    return problems


def _not_published(digest: str, declared: DataSet) -> list[str]:
    """Return a line that says so where a hash of a whole data set is not that of the reference results."""
    if declared.manifest_hash in (None, digest):
        return []
    return [
        f"This {declared.name} is not the one that the reference results were measured on: its manifest hash is "
        f"{digest}, theirs {declared.manifest_hash}. Its file names or its pixels differ, so scores on it can't be "
        "compared exactly with those results."
    ]


def info(cifake: Cifake) -> str:
    """Return a table of images per split, label and object class."""
    columns = [f"{split_name} {label}" for split_name in cifake.splits for label in LABELS]
    width = max(map(len, cifake.class_names)) + 2
    lines = [" " * width + "".join(f"{column:>12}" for column in columns)]
    rows = [*enumerate(cifake.class_names), (UNKNOWN_CLASS, "unknown"), (None, "all")]
    for klass, name in rows:
        counts = [
            int(((images.labels == label) & ((images.classes == klass) if klass is not None else True)).sum())
            for images in cifake.splits.values()
            for label in (REAL, FAKE)
        ]
        if klass != UNKNOWN_CLASS or any(counts):
            lines.append(f"{name:<{width}}" + "".join(f"{count:>12,}" for count in counts))
    return "\n".join(lines)
