"""120,000 JPEGs to one uint8 tensor: decoded the first time, from the cache afterwards, and by ImageFolder."""

import hashlib
import os
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import PILToTensor

from benchmarks.measuring import CORES, alone, memory
from benchmarks.sources import PROFILE, Counts, source, write_tree
from cifake_utils import data, data_sets


def digest(parts: dict[str, tuple[list[str], torch.Tensor]]) -> str:
    """Return a hash of the pixels of every part in the order of their names."""
    total = hashlib.sha256()
    for names, images in parts.values():
        total.update(images.numpy()[np.argsort(names)])
    return total.hexdigest()


def ours(folder: Path, runs: Path) -> dict:
    with source(folder, runs):
        start = time.perf_counter()
        cifake = data.load(PROFILE)
        result = {"seconds": time.perf_counter() - start, "peak": memory("VmHWM")}
    train = cifake.train.names + cifake.val.names, torch.cat([cifake.train.images, cifake.val.images])
    return result | {"digest": digest({"train": train, "test": (cifake.test.names, cifake.test.images)})}


def usual(folder: Path, workers: int) -> dict:
    """Go once through both parts; what every epoch of the usual pipeline does again, without its transforms."""
    start, parts = time.perf_counter(), {}
    for part in ("train", "test"):
        dataset = ImageFolder(folder / part, PILToTensor())
        names = ["/".join(path.split(os.sep)[-2:]) for path, _ in dataset.samples]
        images = torch.empty(len(dataset), 3, data.SIZE, data.SIZE, dtype=torch.uint8)
        filled = 0
        for batch, _ in DataLoader(dataset, 500, num_workers=workers):
            images[filled : filled + len(batch)] = batch
            filled += len(batch)
        parts[part] = names, images
    result = {"seconds": time.perf_counter() - start, "peak": memory("VmHWM")}
    return result | {"digest": digest(parts)}


def measure(counts: Counts | None = None, repeats: int = 3) -> dict:
    """Measure every way; all must end with the same pixels. Reading from the cache is repeated, decoding done once."""
    sources = {} if counts else {"as downloaded": data_sets.CIFAKE.folder()}
    counts = counts or data_sets.CIFAKE.totals
    ways = {}
    with tempfile.TemporaryDirectory() as box:
        tree = Path(box) / "tree"
        write_tree(tree, counts)
        for name, folder in {"Kaggle tree": tree, **sources}.items():
            runs = Path(box) / name
            ways[f"{name}, first time"] = alone(ours, folder, runs)
            again = [alone(ours, folder, runs) for _ in range(repeats)]
            middle = {key: median(run[key] for run in again) for key in ("seconds", "peak")}
            ways[f"{name}, from the cache"] = again[0] | middle
        ways["ImageFolder"] = alone(usual, tree, 0)
        ways[f"ImageFolder, {CORES} workers"] = alone(usual, tree, CORES)
    digests = {way.pop("digest") for way in ways.values()}
    assert len(digests) == 1, ways
    return {"images": sum(counts.values()), "ways": ways}
