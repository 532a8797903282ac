"""Write and read the records of runs, and read the reference runs that ship with the project.

The record of a run is two files. ``NAME-seedK.json`` says how the model was trained and how it scored.
``NAME-seedK.npz`` holds P(FAKE) of every validation and test image, in the order of the sorted names. The JSON file
carries the checksums of the other one and of the trained weights beside it. A summary is one JSON file of measured
numbers.
"""

import platform
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from cifake_utils import CifakeError, profiles
from cifake_utils.support import verified

REFERENCE = Path(__file__).parent / "reference"
FILE_KEY = "model"  # the key of the experiment's name in files; existing files have it, and a checksum covers it


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on."""
    packages = ("torch", "torchvision", "numpy", "scikit-learn", "accelerate", "pillow")
    return {"python": platform.python_version(), **{package: version(package) for package in packages}}


def hardware(device: torch.device | None = None) -> str:
    """Return the hardware behind a device (default: the CPU), such as ``"2 CPU threads, x86_64"`` or a GPU's name."""
    if device and device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device and device.type == "mps":
        return f"Apple GPU, {platform.machine()}"
    return f"{torch.get_num_threads()} CPU threads, {platform.machine()}"


@dataclass
class Record:
    """One run of one experiment.

    Attributes
    ----------
    experiment, profile : str
    seed : int
    data, data_hash : str
        Name of the data set, and manifest hash of the images.
    weights, weights_hash : str
        Name and hash of the weights from which the training started.
    hyperparameters : dict
        `experiments.hyperparameters`.
    seconds : dict of str to float
        Wall time of each stage.
    curves : dict
        The fields of `training.History`.
    metrics : dict of str to dict
        `evaluation.score` for ``val`` and ``test``.
    probabilities, labels : dict of str to np.ndarray
        float16 P(FAKE) and uint8 labels for ``val`` and ``test``, rows in the order of the sorted names.
    recipe : dict
        `experiments.recipe`: everything that the run depends on, as JSON types. Empty for reference runs that are
        older than recipes.
    checksums : dict of str to str
        Checksums of ``npz``, of ``safetensors`` where trained weights were kept, and of the ``backbone``.
    details : dict
        Further facts, such as the precision and the training of the pretext.
    versions, hardware : dict, str
        What `versions` and `hardware` returned when the run was made.
    """

    experiment: str
    profile: str
    seed: int
    data: str
    data_hash: str
    weights: str
    weights_hash: str
    hyperparameters: dict
    seconds: dict[str, float]
    curves: dict
    metrics: dict[str, dict[str, float]]
    probabilities: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    recipe: dict = field(default_factory=dict)
    checksums: dict[str, str] = field(default_factory=dict)
    details: dict = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=versions)
    hardware: str = field(default_factory=hardware)

    @property
    def name(self) -> str:
        return f"{self.experiment}-seed{self.seed}"


def save(record: Record, folder: Path) -> Path:
    """Write a record into ``folder`` and return the path of its JSON file, which is written last."""
    path = folder / f"{record.name}.json"
    arrays = {}
    for split in record.probabilities:
        arrays[split] = record.probabilities[split].astype(np.float16)
        arrays[f"{split}_labels"] = record.labels[split].astype(np.uint8)
    verified.save_arrays(path.with_suffix(".npz"), **arrays)
    record.checksums["npz"] = verified.file_checksum(path.with_suffix(".npz"))
    document = {FILE_KEY: record.experiment} | asdict(record)
    del document["experiment"], document["probabilities"], document["labels"]
    verified.save_json(path, document)
    return path


def read(path: Path) -> Record:
    """Return the record whose JSON file is ``path``.

    Raises `verified.DamagedFile` if one of its two files is damaged, or if its NPZ file is missing.
    """
    document, beside = verified.load_json(path), path.with_suffix(".npz")
    try:
        arrays = verified.load_arrays(beside, expected=document["checksums"]["npz"])
        probabilities = {split: arrays[split] for split in document["metrics"]}
        labels = {split: arrays[f"{split}_labels"] for split in document["metrics"]}
        name = document.pop(FILE_KEY)
        return Record(experiment=name, **document, probabilities=probabilities, labels=labels)
    except FileNotFoundError:
        raise verified.DamagedFile(path, f"{beside.name}, which belongs to it, is missing") from None
    except (KeyError, TypeError) as error:
        raise verified.DamagedFile(path, f"it is not a record of this version ({error})") from None


def reference(name: str, seed: int = 0) -> Record:
    """Return the reference run of an experiment on all of CIFAKE; if there is none, a `CifakeError` lists all."""
    path = REFERENCE / f"{name}-seed{seed}.json"
    if not path.exists():
        known = ", ".join(sorted(found.stem for found in REFERENCE.glob("*-seed*.json")))
        raise CifakeError(f"There is no reference run {path.stem}. Choose one of: {known or 'none'}.")
    return read(path)


def references(name: str) -> list[Record]:
    """Return the reference runs of an experiment, sorted by seed; an empty list if it has not been measured yet."""
    paths = REFERENCE.glob(f"{name}-seed[0-9]*.json")
    return sorted((read(path) for path in paths), key=lambda record: record.seed)


def save_summary(name: str, values: dict) -> Path:
    """Write measured numbers (JSON types) to ``NAME.json`` among the runs of the active profile; return its path.

    If the file can't be written, the reason is printed.
    """
    path = profiles.active().runs / f"{name}.json"
    try:
        verified.save_json(path, values | {"versions": versions()})
    except CifakeError as error:  # the runs may belong to somebody else, and the lesson should go on
        print(f"These numbers are shown, but not kept. {error}")
    return path


def reference_summary(name: str) -> dict:
    """Return the numbers that `save_summary` wrote for all of CIFAKE. They ship with the project."""
    return verified.load_json(REFERENCE / f"{name}.json")
