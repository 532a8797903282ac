"""CIFAKE: find it, download it, check it, split it; every split ends as one uint8 tensor.

Sources: Bird & Lotfi, *CIFAKE: Image Classification and Explainable Identification of AI-Generated Synthetic
Images*, IEEE Access 2024; its real half is CIFAR-10 (Krizhevsky 2009).
"""

import io
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
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
CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
UNKNOWN_CLASS = -1
OFFICIAL_COUNTS = {"train": 100_000, "test": 20_000}
VALIDATION_SHARE = 0.2
SPLIT_SEED = 0
SPLIT_VERSION = 1  # raise it when the code below decodes or splits otherwise
MANIFEST_HASH = "60799d205ba03c76"  # of the splits of all of CIFAKE that the reference results were measured on

HUGGING_FACE = "dragonintelligence/CIFAKE-image-dataset"
REVISION = "6eebd6090fe3c0d9d44f899a25f0a34e3c2dad31"  # the mirror's commit: what comes later is not fetched
KAGGLE = "birdy654/cifake-real-and-ai-generated-synthetic-images/versions/3"
WAYS_TO_CIFAKE = (
    "Download CIFAKE with `python -m cifake_utils data fetch`, or set CIFAKE_DATA to a folder that holds the "
    "Kaggle tree (train/REAL, train/FAKE, test/REAL, test/FAKE) or parquet shards (train*.parquet, test*.parquet), "
    "or use the embedded data with CIFAKE_PROFILE=sample."
)


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
        int64, shape (N,); object class 0-9, or -1 where the source has no names.
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
        Names of the ten object classes (of the ten photographs, for the sample).
    source : str
        ``"CIFAKE"`` or ``"sample"``.
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


# --- finding ---------------------------------------------------------------------------------------------


def download_folder() -> Path:
    """Return the folder that `fetch` fills."""
    return profiles.runs_folder() / "cifake"


def find() -> Path:
    """Return the folder that holds CIFAKE: ``CIFAKE_DATA``, else what `fetch` downloaded."""
    folder = profiles.folder_from("CIFAKE_DATA") or download_folder()
    if not folder.is_dir():
        what = "that is a file, and a folder is expected" if folder.exists() else "no such folder"
        raise CifakeError(f"There is no CIFAKE at {folder}: {what}.{_meant(folder)} {WAYS_TO_CIFAKE}")
    return folder


def _meant(folder: Path) -> str:
    """Return a sentence that names the folder with CIFAKE up to two levels above this one or one below, if any."""
    for place in (*folder.parents[:2], *sorted(folder.glob("*/"))):
        if _is_tree(place) or all(any(place.glob(f"{part}*.parquet")) for part in OFFICIAL_COUNTS):
            return f" CIFAKE is in {place}: set CIFAKE_DATA to that folder."
    return ""


def entries(folder: Path) -> dict[str, list[Entry]]:
    """List what a folder holds, by official part (``train``, ``test``, and ``val`` where there is one).

    Entries are sorted by name. Raises `CifakeError` for a folder that is neither a Kaggle tree nor parquet
    shards, for an empty label folder, a half-finished download, shards that can't be read or hold other columns,
    and labels whose meaning can't be known.
    """
    if _is_tree(folder):
        parts = {part: _tree_entries(folder / part) for part in _tree_parts(folder)}
    else:
        parts = {part: _parquet_entries(shards) for part, shards in _shards(folder).items()}
    return {part: sorted(found, key=lambda entry: entry.name) for part, found in parts.items()}


def _is_tree(folder: Path) -> bool:
    return any((folder / part / label).is_dir() for part in OFFICIAL_COUNTS for label in LABELS)


def _tree_parts(folder: Path) -> list[str]:
    return [part for part in ("train", "val", "test") if part != "val" or (folder / part).is_dir()]


def _tree_entries(folder: Path) -> list[Entry]:
    found = []
    for label in LABELS:
        files, odd = _listed(folder / label)
        if odd:
            raise CifakeError(
                f"The folder {folder / label} holds {len(odd)} things that can't be images of CIFAKE, such as "
                f"{', '.join(odd[:3])}. Expected nothing but image files there. Remove the rest or move it elsewhere."
            )
        if not files:
            state = "empty" if (folder / label).is_dir() else "missing"
            raise CifakeError(
                f"The folder {folder / label} is {state}; it should hold the {label} images of the {folder.name} "
                f"part. {WAYS_TO_CIFAKE}"
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
    for part in OFFICIAL_COUNTS:
        found = [path for path in every if path.name.startswith(part) or path.parent.name == part]
        numbered = [match for path in found if (match := re.search(r"-(\d+)-of-(\d+)", path.name))]
        wanted = max((int(match[2]) for match in numbered), default=1)
        there = len({int(match[1]) for match in numbered}) if numbered else len(found)
        if there < wanted and (found or leftover):
            raise CifakeError(
                f"{folder} holds {there} of {wanted} parquet shards of the {part} part: a half-finished "
                f"download{leftover}. Run `python -m cifake_utils data fetch`, which fills {download_folder()}: shards "
                "that have arrived whole stay, one that was cut off is started again."
            )
        if not found:
            raise CifakeError(f"{folder} holds no images of the {part} part.{_meant(folder)} {WAYS_TO_CIFAKE}")
        shards[part] = found
    return shards


def _leftovers(folder: Path) -> list[Path]:
    """Return what is left of shards that stopped arriving; huggingface_hub never takes such a file up again."""
    return sorted(folder.rglob("*.incomplete"))


def _parquet_entries(shards: list[Path]) -> list[Entry]:
    found = sorted(entry for shard in shards for entry in _shard_entries(shard))
    for one, other in pairwise(found):
        if one.name == other.name:
            raise CifakeError(
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
        raise CifakeError(
            f"The parquet file {shard} can't be read ({error}). It may be half-downloaded: delete it and run "
            "`python -m cifake_utils data fetch` again."
        ) from None
    if not labels:
        raise CifakeError(
            f"The parquet file {shard} holds no images, not one row. Delete it and run "
            "`python -m cifake_utils data fetch` again."
        )
    label_names = _label_names(table.schema)
    found = []
    for row, (content, path, label) in enumerate(zip(contents, paths, labels, strict=True)):
        path = path or ""
        if not path.isprintable():
            raise CifakeError(
                f"The image in row {row} of {shard} has a name with characters that can't be printed: {path!r}. "
                f"Expected a path like REAL/0000.jpg. {WAYS_TO_CIFAKE}"
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
            raise CifakeError(
                f"{origin} has the label {label}, but whether that is REAL or FAKE is not known: {what}. "
                "A shard needs class names REAL and FAKE in its `huggingface` metadata, or image paths like "
                f"REAL/0000.jpg. {WAYS_TO_CIFAKE}"
            )
        found.append(Entry(f"{claims.pop()}/{file or f'{shard.stem} row {row:06d}'}", origin, content or b""))
    return found


def _check_columns(shard: Path, schema: pa.Schema) -> None:
    """Raise a `CifakeError` unless a shard has one column of encoded images with their paths and one of labels."""
    if not all(schema.names.count(name) == 1 for name in ("image", "label")):
        found = f"has the columns {', '.join(schema.names)}"
    elif not (_holds_files(schema.field("image").type) and pa.types.is_integer(schema.field("label").type)):
        found = f"has an image of type {schema.field('image').type} and a label of type {schema.field('label').type}"
    else:
        return
    raise CifakeError(
        f"The parquet file {shard} {found}. Expected: image, a struct of bytes (binary) and path (string), and label, "
        f"an integer. {WAYS_TO_CIFAKE}"
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
    """Return the object class that a CIFAKE file name carries: ``0000.jpg`` 0, ``0000 (2).jpg`` 1, … ``(10)`` 9."""
    match = re.fullmatch(r"\d+(?: \((\d+)\))?\.\w+", name.partition("/")[2])
    if not match:
        return UNKNOWN_CLASS
    number = int(match[1] or 1) - 1
    return number if number in range(len(CLASS_NAMES)) else UNKNOWN_CLASS


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
            raise CifakeError(
                f"{entry.origin} {result}. Nothing was loaded. Replace the file (`python -m cifake_utils data "
                "fetch` downloads CIFAKE), and see all such files with `python -m cifake_utils data verify`."
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
    return (images.labels * 100 + images.classes).numpy()


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
            "each kind, with names like REAL/0000.jpg, REAL/0000 (2).jpg, … (10); "
            "`python -m cifake_utils data verify` lists what differs from CIFAKE."
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


def _splits(source: Path, sizes: tuple[int, int, int] | None, official: bool) -> tuple[dict[str, ImageSet], str]:
    """Return splits and their hash, of these sizes or whole; decode and keep them where they are not kept yet."""
    recipe = _cache_recipe(source, sizes)
    if (kept := _load_cache(recipe)) is None:
        whole = _splits(source, None, official)[0] if sizes else None
        cache = _cache_file(recipe).parent
        with locked(cache / "images.lock"):  # a second process waits here and then finds them
            if (kept := _load_cache(recipe, say=True)) is None:
                clear_leftovers(cache, "images-*")
                if sizes:
                    made = {name: _smaller(whole[name], size) for name, size in zip(whole, sizes, strict=True)}
                else:
                    made = _decoded_splits(source, official)
                _save_cache(recipe, made)
                kept = _load_cache(recipe)
    return kept


def _decoded_splits(source: Path, official: bool) -> dict[str, ImageSet]:
    found = entries(source)
    for part, wanted in (OFFICIAL_COUNTS if official else {}).items():
        if len(found[part]) != wanted:
            raise CifakeError(
                f"The {part} part in {source} has {len(found[part]):,} images, CIFAKE's has {wanted:,}. "
                "A half-finished download? `python -m cifake_utils data verify` lists what is missing or too much, "
                "`python -m cifake_utils data fetch` downloads CIFAKE."
            )
    parts = {part: _read(items, part) for part, items in found.items()}
    train, val = (parts["train"], parts["val"]) if "val" in parts else split(parts["train"])
    return {"train": train, "val": val, "test": parts["test"]}


def source_folder(profile: str | profiles.Profile | None = None) -> Path:
    """Return the folder that holds the encoded images of a profile (default: active); builds the sample if need be."""
    return sample.build() if profiles.resolve(profile).data == "sample" else find()


_told: set[str] = set()  # hashes of what `load` has compared with the published one already


def load(profile: str | profiles.Profile | None = None) -> Cifake:
    """Return train, validation and test images of a profile (the active one where none is given).

    The first call decodes every image and keeps the tensors under ``CIFAKE_RUNS``; later calls read those. All of
    CIFAKE is compared with the published manifest hash; a line says so, once in a process, where it is another.

    Raises
    ------
    CifakeError
        Data missing, incomplete or damaged; the message names the file and the way out.
    """
    profile = profiles.resolve(profile)
    splits, digest = _splits(source_folder(profile), profile.sizes, official=profile.data != "sample")
    if profile.data != "sample" and not profile.sizes and digest not in _told:
        _told.add(digest)
        for line in _not_published(digest):
            profile.accelerator().print(line)  # one process of several
    class_names = sample.PHOTOGRAPHS if profile.data == "sample" else CLASS_NAMES
    return Cifake(**splits, class_names=tuple(class_names), source=profile.data, hash=digest)


def load_hash(profile: str | profiles.Profile | None = None) -> str:
    """Return the hash of what `load` returns, without reading the images where they are kept already."""
    profile = profiles.resolve(profile)
    path = _cache_file(_cache_recipe(source_folder(profile), profile.sizes))
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
            f"{WAYS_TO_CIFAKE}"
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
    for name in (*OFFICIAL_COUNTS, ".complete"):  # Kaggle's tree, whole or not, would be read in place of the shards
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


def verify(folder: Path) -> list[str]:
    """Return what is wrong with CIFAKE in ``folder``, a line a finding; an empty list: all is well.

    Findings are files that are no 32×32 RGB image, counts per part, label and object class that differ from the
    published ones, and, where there is none of these, images that are not those of the reference results.
    """
    problems, parts = [], {}
    for part, items in entries(folder).items():
        pixels = np.zeros((len(items), SIZE, SIZE, 3), np.uint8)
        for row, (entry, result) in enumerate(zip(items, _decoded(items, f"checking {part}"), strict=True)):
            if isinstance(result, str):
                problems.append(f"{entry.origin} {result}")
            else:
                pixels[row] = result
        parts[part] = _image_set(items, pixels)
        problems += _wrong_counts(part, parts[part])
    return problems or _not_published(manifest_hash([*split(parts["train"]), parts["test"]]))


def _wrong_counts(part: str, images: ImageSet) -> list[str]:
    problems = []
    share = OFFICIAL_COUNTS.get(part, 0) // 20
    counts = Counter(zip(images.labels.tolist(), images.classes.tolist(), strict=True))
    named = sum(count for (_, klass), count in counts.items() if klass != UNKNOWN_CLASS)
    for label, label_name in enumerate(LABELS):
        total = sum(count for (of, _), count in counts.items() if of == label)
        if total != share * 10:
            problems.append(f"{part}: {total:,} {label_name} images, expected {share * 10:,}")
        for klass, class_name in enumerate(CLASS_NAMES if named else ()):
            if counts[label, klass] != share:
                problems.append(
                    f"{part}: {counts[label, klass]:,} {label_name} images of class {class_name}, expected {share:,}"
                )
    return problems


def _not_published(digest: str) -> list[str]:
    """Return a line that says so where a hash of all of CIFAKE is not that of the reference results."""
    if digest == MANIFEST_HASH:
        return []
    return [
        f"This CIFAKE is not the one that the reference results were measured on: its manifest hash is {digest}, "
        f"theirs {MANIFEST_HASH}. Its file names or its pixels differ, so scores on it "
        "can't be compared exactly with those results."
    ]


def info(cifake: Cifake) -> pd.DataFrame:
    """Return the number of images by object class (rows, the last is all of them), split and label (columns)."""
    counts = {}
    for klass, class_name in [*enumerate(cifake.class_names), (UNKNOWN_CLASS, "unknown")]:
        counts[class_name] = {
            f"{split} {label_name}": int(((images.classes == klass) & (images.labels == label)).sum())
            for split, images in cifake.splits.items()
            for label, label_name in enumerate(LABELS)
        }
    if not any(counts["unknown"].values()):
        del counts["unknown"]
    frame = pd.DataFrame.from_dict(counts, orient="index")
    frame.loc["all"] = frame.sum()
    return frame.rename_axis("object class").reset_index()
