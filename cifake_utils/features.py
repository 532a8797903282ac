"""Features of a frozen backbone, computed once for every image and its mirror image, and kept on disk.

A frozen backbone in eval mode gives an image the same features in every epoch, so a head that trains on cached
features of the image or its mirror image trains exactly as behind the backbone with random flips.
"""

import copy
import hashlib
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import nn

from cifake_utils import CifakeError, profiles, progress
from cifake_utils.batches import MEAN, STD, normalise
from cifake_utils.data import Cifake, ImageSet
from cifake_utils.files import locked, replacing
from cifake_utils.fractal import FractalDimension
from cifake_utils.models import STATISTICS, Backbone, Maps
from cifake_utils.weights import state_hash

BATCH_SIZE = 125  # the maps of more don't stay in a CPU's cache: 500 take a tenth more time
THRESHOLD_IMAGES = 2_000  # training images that thresholds are taken from; each gives 64 or more values a channel


def cache_folder(backbone: Backbone, cifake: Cifake, accelerator: Accelerator) -> Path:
    """Return the folder of these features; its name depends on all they depend on."""
    recipe = (state_hash(backbone.state_dict()), cifake.hash, MEAN, STD, accelerator.mixed_precision)
    key = hashlib.sha256(repr(recipe).encode()).hexdigest()[:16]
    return profiles.runs_folder() / "cache" / f"features-{key}"


def shuffled(values: torch.Tensor, seed: int) -> torch.Tensor:
    """Return the same rows (N, …) in random order: their distribution stays, what they say of an image goes."""
    return values[torch.randperm(len(values), generator=torch.Generator().manual_seed(seed))]


def noise(values: torch.Tensor, seed: int) -> torch.Tensor:
    """Return standard Gaussian noise of the same shape and type."""
    return torch.randn(values.shape, generator=torch.Generator().manual_seed(seed)).to(values.dtype)


# Ways to take from a feature all that it says of its image, for controls.
BREAKS = {"shuffled": shuffled, "noise": noise}


def fitted_statistics(backbone: Backbone, cifake: Cifake, accelerator: Accelerator) -> nn.ModuleDict:
    """Return `models.STATISTICS`, the thresholds of the fractal layers taken from training images, kept on disk.

    At most `THRESHOLD_IMAGES` of them, evenly spaced through the training split.
    """
    with _locked(backbone, cifake, accelerator) as folder:
        return _fitted(backbone, cifake.train, accelerator, folder / "statistics.safetensors")


def cached(backbone: Backbone, cifake: Cifake, names: list[str], accelerator: Accelerator) -> dict[str, torch.Tensor]:
    """Return, for each split, the named statistics of the backbone's maps side by side.

    Parameters
    ----------
    backbone : Backbone
        Frozen, in eval mode.
    cifake : Cifake
    names : list of str
        Keys of `models.STATISTICS`. One pass through the backbone computes and keeps all of them, so that asking
        for another one later costs nothing.
    accelerator : accelerate.Accelerator
        Device, precision and processes: these share the images, and the main one writes what all computed.

    Returns
    -------
    dict of str to torch.Tensor
        float16, shape (N, 2, D): features of image and mirror image. Those of a single name stay in their file,
        mapped; those of several are copied into memory.
    """
    with _locked(backbone, cifake, accelerator) as folder:
        statistics = _fitted(backbone, cifake.train, accelerator, folder / "statistics.safetensors")
        for split, images in cifake.splits.items():
            missing = [name for name in statistics if not _file(folder, split, name).exists()]
            if missing:
                paths = {name: _file(folder, split, name) for name in missing}
                _compute(backbone, statistics, images, paths, accelerator, split)
    found = {split: [_read(_file(folder, split, name)) for name in names] for split in cifake.splits}
    return {split: torch.cat(values, 2) if len(values) > 1 else values[0] for split, values in found.items()}


@contextmanager
def _locked(backbone: Backbone, cifake: Cifake, accelerator: Accelerator) -> Iterator[Path]:
    """Yield the cache folder; a second job waits here and then finds the files."""
    if backbone.training:
        raise CifakeError("The backbone is in training mode; cached features are those of a frozen one (eval mode).")
    folder = cache_folder(backbone, cifake, accelerator)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "lock", accelerator):
        if accelerator.is_main_process:
            for leftover in folder.glob(".*"):  # of a process that was killed
                shutil.rmtree(leftover, ignore_errors=True)
        yield folder


def _maps(backbone: Backbone, images: torch.Tensor, accelerator: Accelerator, last: str = "layer4") -> Maps:
    with accelerator.autocast():
        return backbone(normalise(images.to(accelerator.device)), last)


def _fitted(backbone: Backbone, images: ImageSet, accelerator: Accelerator, path: Path) -> nn.ModuleDict:
    """Return statistics whose thresholds are those in the file; the main process writes it where it isn't there."""
    statistics = copy.deepcopy(nn.ModuleDict(STATISTICS)).requires_grad_(False)
    if accelerator.is_main_process and not path.exists():
        _fit(statistics, backbone, images, accelerator)
        with replacing(path) as partial:
            save_file(statistics.state_dict(), partial)
    accelerator.wait_for_everyone()
    statistics.load_state_dict(load_file(path))
    return statistics


@torch.inference_mode()
def _fit(statistics: nn.ModuleDict, backbone: Backbone, images: ImageSet, accelerator: Accelerator) -> None:
    """Take the thresholds of statistics, in place, from images."""
    backbone, every = backbone.folded().to(accelerator.device), -(-len(images) // THRESHOLD_IMAGES)
    for tap in statistics.values():
        if isinstance(tap.measure, FractalDimension):  # one map after the other: all of them would fill memory
            batches = images.images[::every].split(BATCH_SIZE)
            tap.measure.fit(_maps(backbone, batch, accelerator, tap.stage)[tap.stage].cpu() for batch in batches)


def _file(folder: Path, split: str, name: str) -> Path:
    return folder / f"{split}-{name}.npy"


def _read(path: Path) -> torch.Tensor:
    try:
        return torch.from_numpy(np.load(path, mmap_mode="c"))
    except (ValueError, EOFError) as error:
        raise CifakeError(
            f"The cached features {path} are damaged ({error}). Delete that file; the next run computes them again."
        ) from None


@torch.inference_mode()
def measured(
    backbone: Backbone,
    statistics: Mapping[str, nn.Module],
    images: torch.Tensor,
    accelerator: Accelerator,
    mirrored: bool = True,
) -> Iterator[tuple[int, int, dict[str, torch.Tensor]]]:
    """Yield statistics of images and mirror images, batch by batch; one pass through the backbone for all of them.

    Parameters
    ----------
    backbone : Backbone
        `Backbone.folded`, in eval mode, on the accelerator's device.
    statistics : mapping of str to nn.Module
        Maps by name to (N, C), as in `models.STATISTICS`; on the accelerator's device.
    images : torch.Tensor
        uint8 (N, 3, 32, 32).
    accelerator : accelerate.Accelerator
        Device and precision.
    mirrored : bool
        The mirror images too.

    Yields
    ------
    start, side : int
        Row of the batch's first image; 0 for the images, 1 for their mirror images.
    values : dict of str to torch.Tensor
        float16 (B, C) on the CPU, for each statistic.
    """
    for start in range(0, len(images), BATCH_SIZE):
        batch = images[start : start + BATCH_SIZE]
        for side, pixels in enumerate((batch, batch.flip(3)) if mirrored else (batch,)):
            maps = _maps(backbone, pixels, accelerator)
            yield start, side, {name: statistic(maps).half().cpu() for name, statistic in statistics.items()}


def _compute(
    backbone: Backbone,
    statistics: nn.ModuleDict,
    images: ImageSet,
    paths: dict[str, Path],
    accelerator: Accelerator,
    split: str,
) -> None:
    """Write statistics of all images and mirror images; files appear only when they are complete.

    Processes take turns: each computes one batch, then the main one writes them all.
    """
    backbone = backbone.folded().to(accelerator.device)
    wanted = {name: copy.deepcopy(statistics[name]).to(accelerator.device) for name in paths}
    writes, processes = accelerator.is_main_process, accelerator.num_processes
    starts = range(0, len(images), BATCH_SIZE)
    with ExitStack() as files, progress.bar(total=len(images), desc=f"features {split}", shown=writes) as bar:
        partial_paths = {name: files.enter_context(replacing(path)) for name, path in paths.items()} if writes else {}
        arrays = {}
        for turn in range(0, len(starts), processes):
            start = starts[min(turn + accelerator.process_index, len(starts) - 1)]  # too many: the last batch again
            batch = images.images[start : start + BATCH_SIZE]
            sides = [values for _, _, values in measured(backbone, wanted, batch, accelerator)]
            for name in paths:
                values = torch.stack([side[name] for side in sides], 1).to(accelerator.device)
                values = accelerator.gather(accelerator.pad_across_processes(values)).chunk(processes)
                if writes and name not in arrays:
                    shape = (len(images), *values[0].shape[1:])
                    arrays[name] = np.lib.format.open_memmap(partial_paths[name], "w+", np.float16, shape)
                for first, computed in zip(starts[turn:] if writes else (), values, strict=False):
                    rows = arrays[name][first : first + BATCH_SIZE]
                    rows[:] = computed[: len(rows)].cpu().numpy()
            bar.update(min(processes * BATCH_SIZE, len(images) - turn * BATCH_SIZE))
        for array in arrays.values():
            array.flush()
