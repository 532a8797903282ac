"""Decode, split, cache and check the images of a data set. Every split is one uint8 tensor."""

import os
import shutil
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.model_selection import train_test_split

from cifake_utils import CifakeError, data_sets, profiles
from cifake_utils.data_sets import CIFAKE, DataSet, download_folder
from cifake_utils.sources import FAKE as FAKE  # of this module too, for whoever works with its images
from cifake_utils.sources import (
    LABELS,
    MOST_CLASSES,
    PARTS,
    SIZE,
    UNKNOWN_CLASS,
    Entry,
    SourceError,
    class_of,
    decoded,
    entries,
    is_tree,
    label_of,
    leftovers,
    shards_of,
)
from cifake_utils.sources import REAL as REAL
from cifake_utils.support import verified
from cifake_utils.support.files import clear_leftovers, locked, writable
from cifake_utils.support.fingerprint import content_hash, recipe_hash

VALIDATION_SHARE = 0.2
SPLIT_SEED = 0
SPLIT_VERSION = 1  # raise it when the code below decodes or splits in another way

HUGGING_FACE = "dragonintelligence/CIFAKE-image-dataset"
REVISION = "6eebd6090fe3c0d9d44f899a25f0a34e3c2dad31"  # the commit of the mirror that is downloaded
KAGGLE = "birdy654/cifake-real-and-ai-generated-synthetic-images/versions/3"


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
        int64, shape (N,); number of the object class, from 0, or -1 if the file name gives none.
    names : list of str
        Folder of the label and file name, such as ``"FAKE/0 (10).jpg"``.
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
    """The three splits of a data set, with its name and a hash that identifies it.

    Attributes
    ----------
    train, val, test : ImageSet
    class_names : tuple of str
        Names of the object classes; in the sample these are the ten photographs.
    source : str
        Name of the `DataSet`, such as ``"CIFAKE"``.
    hash : str
        16 hexadecimal digits over the names, labels and pixels of every split. Equal data have equal hashes.
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


def _read(found: list[Entry], part: str) -> ImageSet:
    pixels = np.empty((len(found), SIZE, SIZE, 3), np.uint8)
    for row, (entry, result) in enumerate(zip(found, decoded(found, f"decoding {part}"), strict=True)):
        if isinstance(result, str):
            raise SourceError(
                f"{entry.origin} {result}. Nothing was loaded. Replace the file. `python -m cifake_utils data verify` "
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


def _stratified(images: ImageSet, train_size: int | None = None, test_size: float | None = None) -> list[np.ndarray]:
    """Return the sorted rows of two parts, in which every label and object class has the same share."""
    strata = _strata(images)
    try:
        parts = train_test_split(
            np.arange(len(images)),
            stratify=strata,
            random_state=SPLIT_SEED,
            train_size=train_size,
            test_size=test_size,
        )
    except ValueError as error:
        kinds = Counter(strata.tolist())
        example = (
            images.names[strata.tolist().index(min(kinds, key=lambda kind: kinds[kind]))] if kinds else "none at all"
        )
        raise CifakeError(
            f"{len(images):,} images of {len(kinds)} kinds (label and object class) can't be divided so that both "
            f"parts have images of every kind ({error}). The rarest kind is that of {example}. Expected more images of "
            "each kind, with names like REAL/0000.jpg, REAL/0000 (2).jpg, …; "
            "`python -m cifake_utils data verify` lists what differs from the data set's own counts."
        ) from None
    return [np.sort(rows) for rows in parts]


def split(train: ImageSet) -> tuple[ImageSet, ImageSet]:
    """Return the training images and the validation images, which are a fifth of the official train part.

    The split is stratified by label and object class. Raises `CifakeError` if one of these combinations has too few
    images for both parts.
    """
    keep, held = _stratified(train, test_size=VALIDATION_SHARE)
    return train.subset(keep), train.subset(held)


def _smaller(images: ImageSet, size: int) -> ImageSet:
    return images if size == len(images) else images.subset(_stratified(images, train_size=size)[0])


def manifest_hash(splits: Iterable[ImageSet]) -> str:
    """Return 16 hexadecimal digits of SHA-256 over the names, which include the labels, and the pixels, in order."""
    return content_hash(
        piece for images in splits for piece in ("\n".join(images.names).encode(), images.images.numpy())
    )


def _cache_recipe(source: Path, sizes: tuple[int, int, int] | None) -> str:
    """Return the fingerprint of everything that the decoded images of a source depend on.

    This includes names, sizes and times of change of its files: those of the images of a tree, or of the shards.
    """
    if is_tree(source):
        parts = entries(source).items()
        named = [(f"{part}/{entry.name}", os.stat(entry.content)) for part, items in parts for entry in items]
    else:
        shards = [shard for found in shards_of(source).values() for shard in found]
        named = [(shard.relative_to(source).as_posix(), shard.stat()) for shard in shards]
    state = [[name, stat.st_size, stat.st_mtime_ns] for name, stat in named]
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


def _load_cache(recipe: str) -> tuple[dict[str, ImageSet], str]:
    """Return the splits that `_save_cache` wrote and their hash; errors as in `verified.load_tensors`."""
    tensors, metadata = verified.load_tensors(_cache_file(recipe), recipe)
    splits = {
        name: ImageSet(
            tensors[f"{name}.images"],
            tensors[f"{name}.labels"],
            tensors[f"{name}.classes"],
            metadata[name].split("\n"),
        )
        for name in ("train", "val", "test")
    }
    return splits, metadata["hash"]


def _kept(recipe: str, say: bool = False) -> tuple[dict[str, ImageSet], str] | None:
    """Return what `_load_cache` does, None where the file is missing or damaged; with ``say``, print the damage."""
    try:
        return _load_cache(recipe)
    except FileNotFoundError:
        return None
    except verified.DamagedFile as error:
        if say:
            print(f"{error.found} The images are decoded again.")
        return None


def _splits(source: Path, sizes: tuple[int, int, int] | None, declared: DataSet) -> tuple[dict[str, ImageSet], str]:
    """Return the splits, of these sizes or whole, and their hash. Images that the cache lacks are decoded and kept."""
    recipe = _cache_recipe(source, sizes)
    if (kept := _kept(recipe)) is None:
        whole = _splits(source, None, declared)[0] if sizes else {}
        cache = _cache_file(recipe).parent
        with locked(cache / "images.lock"):  # a second process waits here and then finds the file
            if (kept := _kept(recipe, say=True)) is None:
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
        there = len(found.get(part, []))
        if there != wanted:
            raise SourceError(
                f"The {part} part in {source} has {there:,} images, that of {declared.name} has {wanted:,}. "
                "Is the download half-finished? `python -m cifake_utils data verify` lists what is missing or too much."
            )
    return _three_splits({part: _read(items, part) for part, items in found.items()})


def _three_splits(parts: dict[str, ImageSet]) -> dict[str, ImageSet]:
    """Return the three splits of a source, whose train part is divided if it has no ``val``."""
    train, val = (parts["train"], parts["val"]) if "val" in parts else split(parts["train"])
    return {"train": train, "val": val, "test": parts["test"]}


def source_folder(profile: str | profiles.Profile | None = None) -> Path:
    """Return the folder with the encoded images of a profile (default: active). The sample is built if needed."""
    return data_sets.get(profiles.resolve(profile).data).folder()


_told: set[str] = set()  # hashes that `load` has compared with the published one in this process


def load(profile: str | profiles.Profile | None = None) -> Cifake:
    """Return the training, validation and test images of a profile (default: the active one).

    The first call decodes every image and keeps the tensors under ``CIFAKE_RUNS``. Later calls read these tensors. If
    a profile takes a whole data set that declares a manifest hash, the two hashes are compared. A difference is printed
    once in each process.

    Raises
    ------
    CifakeError
        The data are missing, incomplete or damaged. The message names the file and says what to do.
    """
    profile = profiles.resolve(profile)
    declared = data_sets.get(profile.data)
    with declared.advised():
        splits, digest = _splits(declared.folder(), profile.sizes, declared)
        _check_classes(splits, declared)
    if not profile.sizes and digest not in _told:
        _told.add(digest)
        for line in _not_published(digest, declared):
            profile.accelerator().print(line)  # one process of several
    return Cifake(**splits, class_names=tuple(declared.class_names), source=declared.name, hash=digest)


def _check_classes(splits: dict[str, ImageSet], declared: DataSet) -> None:
    """Raise a `SourceError` if an image has an object class without a name."""
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
    """Return the hash of what `load` returns. If the images are cached, they are not read for this."""
    profile = profiles.resolve(profile)
    declared = data_sets.get(profile.data)
    with declared.advised():
        path = _cache_file(_cache_recipe(declared.folder(), profile.sizes))
    return verified.load_metadata(path).get("hash") or load(profile).hash


# --- what the command line calls --------------------------------------------------------------------------


def fetch(source: str = "huggingface") -> Path:
    """Download CIFAKE from ``"huggingface"`` or ``"kaggle"`` into `download_folder`, and return that folder.

    After an interruption, complete shards from Hugging Face are kept, and an incomplete one is downloaded again. A
    download from Kaggle starts again from the beginning. A successful download removes what earlier downloads left
    there, from either source. Raises `CifakeError` if the source is unknown or can't be reached.
    """
    if source not in DOWNLOADS:
        raise CifakeError(f"There is no source {source!r} of CIFAKE. Choose one of: {', '.join(DOWNLOADS)}.")
    folder = writable(download_folder())
    try:
        with CIFAKE.advised():
            DOWNLOADS[source](folder)
    except CifakeError:
        raise
    except Exception as error:  # each hub raises errors of its own, all of which mean that the download failed
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
    shards_of(folder)  # without a network, snapshot_download accepts an incomplete folder
    for name in (*PARTS, ".complete"):  # a tree from Kaggle, complete or not, would be read instead of the shards
        shutil.rmtree(folder / name, ignore_errors=True)
    for leftover in leftovers(folder):
        with suppress(OSError):
            leftover.unlink()


def _from_kaggle(folder: Path) -> None:
    try:
        import kagglehub  # pyright: ignore[reportMissingImports]  # whoever needs it installs it
    except ImportError:
        raise CifakeError(
            "Downloading from Kaggle needs the package kagglehub: `pip install kagglehub`, then try again."
        ) from None
    arriving = folder.with_name(f"{folder.name}-kaggle")  # the old folder stays until the download is complete
    try:
        place = kagglehub.dataset_download(KAGGLE, output_dir=str(arriving))
    except FileExistsError:  # left by an interrupted download, with which kagglehub can't go on
        place = kagglehub.dataset_download(KAGGLE, output_dir=str(arriving), force_download=True)
    if Path(place).resolve() != arriving.resolve():
        raise CifakeError(f"CIFAKE from Kaggle is in {place} on this machine. Set CIFAKE_DATA to that folder.")
    shutil.rmtree(folder)
    arriving.rename(folder)


DOWNLOADS = {"huggingface": _from_hugging_face, "kaggle": _from_kaggle}


def verify(folder: Path, declared: DataSet = CIFAKE) -> list[str]:
    """Return what is wrong with a data set in ``folder``, one line for each problem. The list is empty if all is well.

    Problems are files that are no 32×32 RGB images, and counts by part, label and object class that differ from the
    declared ones. If there are none, the images are compared with those of the reference results.
    """
    problems, parts = [], {}
    with declared.advised():
        found = entries(folder)
    for part, items in found.items():
        pixels = np.zeros((len(items), SIZE, SIZE, 3), np.uint8)
        for row, (entry, result) in enumerate(zip(items, decoded(items, f"checking {part}"), strict=True)):
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
    """Return a line if the hash of a whole data set differs from that of the reference results, else no line."""
    if declared.manifest_hash in (None, digest):
        return []
    return [
        f"This {declared.name} is not the one that the reference results were measured on: its manifest hash is "
        f"{digest}, theirs {declared.manifest_hash}. Its file names or its pixels differ, so scores on it can't be "
        "compared exactly with those results."
    ]


def info(cifake: Cifake) -> pd.DataFrame:
    """Return the number of images by object class (rows; the last is their sum), and by split and label (columns)."""
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
