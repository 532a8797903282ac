"""The data sets: CIFAKE, the embedded sample, and those that are added. A profile names the one that it uses.

CIFAKE: Bird & Lotfi, *CIFAKE: Image Classification and Explainable Identification of AI-Generated Synthetic Images*,
IEEE Access 2024. Its REAL half is CIFAR-10 (Krizhevsky 2009).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cifake_utils import CifakeError, profiles, sample, sources


@dataclass(frozen=True)
class DataSet:
    """Everything that the package knows about a data set. To add one, put it into `DATA_SETS` and name it in a profile.

    The images lie in a folder, either as a tree (``train/REAL``, ``train/FAKE``, ``test/REAL``, ``test/FAKE``, and
    ``val`` where there is one) or as parquet shards (``train*.parquet``, ``test*.parquet``). Each is a 32×32 RGB image.
    The name of a file may give its object class, as in CIFAKE: ``0000.jpg`` belongs to the first class, and
    ``0000 (2).jpg`` to the second.

    Attributes
    ----------
    name : str
        The name in profiles and records.
    title : str
        The name in figures and tables.
    class_names : tuple of str
        Names of the object classes, in the order of their numbers.
    locate : callable
        Returns the folder with the images, such as ``lambda: folder_of("BIRDS_DATA")``. It may create the images first.
    learned_from : str
        Sentences about a model that was trained on it: what it has learned from, and what its answers are about.
        `prediction` prints them.
    advice : str
        What a reader can do if the folder is missing or incomplete. Errors about the folder end with it.
    counts : dict of str to int, optional
        Number of images of each label and object class by part, such as ``{"train": 5_000, "test": 1_000}``. With None
        any number is accepted.
    manifest_hash : str, optional
        `data.manifest_hash` of the splits on which reference results were measured. None if there are no such results.
    """

    name: str
    title: str
    class_names: tuple[str, ...]
    locate: Callable[[], Path]
    learned_from: str
    advice: str
    counts: dict[str, int] | None = None
    manifest_hash: str | None = None

    @property
    def totals(self) -> dict[str, int]:
        """Number of images of all labels and object classes by part; empty if `counts` is None."""
        kinds = len(sources.LABELS) * len(self.class_names)
        return {part: count * kinds for part, count in (self.counts or {}).items()}

    def folder(self) -> Path:
        """Return the folder with the images; raise a `CifakeError` if there is none."""
        with self.advised():
            return self.locate()

    @contextmanager
    def advised(self) -> Iterator[None]:
        """Add `advice` to a `sources.SourceError`, and raise it as a `CifakeError`."""
        try:
            yield
        except sources.SourceError as error:
            raise CifakeError(f"{error} {self.advice}") from None


def folder_of(variable: str, default: Path | None = None) -> Path:
    """Return the folder that an environment variable names, or ``default`` if it is unset.

    Raises `sources.SourceError` if there is no such folder.
    """
    folder = profiles.folder_from(variable) or default
    if folder is None:
        raise sources.SourceError(f"{variable} is not set. Expected the folder that holds the images.")
    if not folder.is_dir():
        what = "that is a file, and a folder is expected" if folder.exists() else "no such folder"
        raise sources.SourceError(f"There are no images at {folder}: {what}.{sources.elsewhere(folder)}")
    return folder


def download_folder() -> Path:
    """Return the folder into which `data.fetch` downloads CIFAKE."""
    return profiles.runs_folder() / "cifake"


CIFAKE = DataSet(
    name="CIFAKE",
    title="CIFAKE",
    class_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    locate=lambda: folder_of("CIFAKE_DATA", default=download_folder()),
    learned_from=(
        "It learned from CIFAKE: small photographs (32×32 pixels) of airplanes, automobiles, birds, cats, deer, dogs, "
        "frogs, horses, ships and trucks, and images of such things that Stable Diffusion 1.4 made. Its answers are "
        "about images like these. An image that another program made can look REAL to it."
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
    learned_from=(
        "It learned from the embedded sample alone, ten photographs and an autoencoder's copies of them, and not from "
        "CIFAKE. About any other image its answer says nothing."
    ),
    advice="The sample is made by this package. Delete that folder, and the next run makes it again.",
)
DATA_SETS = {data_set.name: data_set for data_set in (CIFAKE, SAMPLE)}


def get(name: str) -> DataSet:
    """Return the data set called ``name``; for an unknown name, raise a `CifakeError` that lists the known ones."""
    if name not in DATA_SETS:
        raise CifakeError(
            f"There is no data set {name!r}. Expected one of: {', '.join(DATA_SETS)}. Choose one of these, or declare "
            "a new `DataSet` in cifake_utils/data_sets.py."
        )
    return DATA_SETS[name]
