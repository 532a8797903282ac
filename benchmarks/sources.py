"""Parts of CIFAKE, written out as a Kaggle tree, and read as people usually read one: ImageFolder and DataLoader."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from torchvision.datasets import ImageFolder

from cifake_utils import data, data_sets
from cifake_utils.batches import epoch_seed
from cifake_utils.profiles import Profile

PART = replace(data_sets.CIFAKE, name="part of CIFAKE", counts=None, manifest_hash=None)
data_sets.DATA_SETS[PART.name] = PART
PROFILE = Profile("benchmarks", PART.name, None, "imagenet", 10, cpu=True)
Counts = dict[str, int]


def write_tree(folder: Path, counts: Counts) -> None:
    """Write so many randomly chosen images of CIFAKE into ``folder`` (``train``, ``test``; ``val`` out of train)."""
    found, generator = data.entries(data_sets.CIFAKE.folder()), np.random.default_rng(0)
    places = {"train": ["train", "val"], "test": ["test"]}
    for part, targets in places.items():
        rows = generator.permutation(len(found[part]))
        for target in targets:
            chosen, rows = np.split(rows, [counts.get(target, 0)])
            for label in data.LABELS if len(chosen) else ():
                (folder / target / label).mkdir(parents=True, exist_ok=True)
            for row in chosen:
                entry = found[part][row]
                content = entry.content if isinstance(entry.content, bytes) else Path(entry.content).read_bytes()
                (folder / target / entry.name).write_bytes(content)


@contextmanager
def source(folder: Path, runs: Path) -> Iterator[None]:
    """Make ``data.load(PROFILE)`` read ``folder`` and keep its cache in ``runs``."""
    with patch.dict(os.environ, CIFAKE_DATA=str(folder), CIFAKE_RUNS=str(runs)):
        yield


def own_label(label: int) -> int:
    """Return 0 for REAL and 1 for FAKE; ImageFolder numbers folders by the alphabet."""
    return 1 - label


class MirroredFolder(ImageFolder):
    """ImageFolder whose images are mirrored where ``flips`` says so, so that a training can be repeated exactly."""

    flips: torch.Tensor

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        image, label = super().__getitem__(row)
        return (image.flip(2) if self.flips[row] else image), label


def drawn(count: int, seed: int, epoch: int) -> tuple[list[int], torch.Tensor]:
    """Return the order and, by row, the flips that `ImageBatches.shuffled` draws for an epoch."""
    generator = torch.Generator().manual_seed(epoch_seed(seed, epoch))
    order = torch.randperm(count, generator=generator)
    flips = torch.empty(count, dtype=torch.bool)
    flips[order] = torch.rand(count, generator=generator) < 0.5
    return order.tolist(), flips
