"""Compute the features of a frozen backbone once for every image and its mirror image, and keep them on disk.

A frozen backbone in eval mode gives an image the same features in every epoch. So a head can train on cached features
of the image or its mirror image. This is exactly the training that it would get behind the backbone with random flips.
"""

import copy
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import torch
import xxhash
from accelerate import Accelerator
from torch import nn

from cifake_utils import CifakeError, profiles
from cifake_utils.batches import MEAN, STD, normalise
from cifake_utils.data import Cifake, ImageSet
from cifake_utils.models import BACKBONE_VERSION, STATISTICS, Backbone, Maps, by_name, taps
from cifake_utils.support import memory, progress, verified
from cifake_utils.support.files import agreed, clear_leftovers, locked, replacing
from cifake_utils.support.fingerprint import recipe_hash, state_hash

BATCH_SIZE = 125  # larger maps don't stay in a CPU's cache: batches of 500 take a tenth more time
HEADER = 4096  # bytes; the headers of the NumPy files written here are shorter
CHECKSUMS = "checksums.json"  # the checksums of the features in a folder, by file name
THRESHOLD_IMAGES = 2_000  # thresholds are taken from at most so many training images, 64 or more values each


def cache_folder(backbone: Backbone, cifake: Cifake, accelerator: Accelerator) -> Path:
    """Return the folder for the features that a backbone gives for a data set.

    Its name is a fingerprint of everything that the maps depend on.
    """
    recipe = {
        "backbone": state_hash(backbone.state_dict()),
        "backbone_version": BACKBONE_VERSION,
        "data": cifake.hash,
        "normalisation": [MEAN, STD],
        "precision": accelerator.mixed_precision,
    }
    recipe |= backbone.layout.sizes  # the weights have the same shapes, the maps have not
    return profiles.runs_folder() / "cache" / f"features-{recipe_hash(recipe)}"


def shuffled(values: torch.Tensor, seed: int) -> torch.Tensor:
    """Return the same rows (N, …) in random order: they keep their distribution, but say nothing about their image."""
    return values[torch.randperm(len(values), generator=torch.Generator().manual_seed(seed))]


def noise(values: torch.Tensor, seed: int) -> torch.Tensor:
    """Return standard Gaussian noise of the same shape and type."""
    return torch.randn(values.shape, generator=torch.Generator().manual_seed(seed)).to(values.dtype)


# For controls: ways to make a feature say nothing about its image.
BREAKS = {"shuffled": shuffled, "noise": noise}


def break_some(values: dict[str, torch.Tensor], names: Sequence[str], way: str, seed: int) -> dict[str, torch.Tensor]:
    """Return statistics (N, …, D) by name, of which the named ones are broken.

    They are broken together. If they are shuffled, they all get the same order.

    Parameters
    ----------
    values : dict of str to torch.Tensor
    names : sequence of str
        Keys of ``values`` to break.
    way : str
        A key of `BREAKS`.
    seed : int
    """
    broken = BREAKS[way](torch.cat([values[name] for name in names], -1), seed)
    parts = broken.split([values[name].shape[-1] for name in names], -1)
    return values | dict(zip(names, parts, strict=True))


def fitted_statistics(backbone: Backbone, cifake: Cifake, accelerator: Accelerator) -> nn.ModuleDict:
    """Return the modules that compute `models.STATISTICS`, with thresholds from training images.

    The thresholds are taken from at most `THRESHOLD_IMAGES` images, evenly spaced through the training split, and kept
    on disk. If that file is damaged, they are computed again. Raises `CifakeError` for a backbone in training mode.
    """
    return _fitted(backbone, cifake, accelerator, cache_folder(backbone, cifake, accelerator))


def _fitted(backbone: Backbone, cifake: Cifake, accelerator: Accelerator, folder: Path) -> nn.ModuleDict:
    if backbone.training:
        raise CifakeError("The backbone is in training mode. Expected a frozen one in eval mode: call backbone.eval().")
    statistics = taps(STATISTICS, backbone.channels).requires_grad_(False)
    measures = {name: tap.statistic.recipe() for name, tap in by_name(statistics).items()}
    recipe = recipe_hash({"folder": folder.name, "images": THRESHOLD_IMAGES, "measures": measures})
    path = folder / f"thresholds-{recipe}.safetensors"
    if not agreed(lambda: verified.is_whole(path, recipe), accelerator):
        with locked(folder / "lock", accelerator):  # a second job waits here and then finds the file
            say = "The thresholds are computed again."
            if accelerator.is_main_process and not verified.is_whole(path, recipe, say):
                clear_leftovers(folder)
                _fit(statistics, backbone, cifake.train, accelerator)
                verified.save_tensors(path, statistics.state_dict(), recipe=recipe)
    statistics.load_state_dict(verified.load_tensors(path, recipe)[0])
    return statistics


def cached(
    backbone: Backbone, cifake: Cifake, names: Sequence[str], accelerator: Accelerator
) -> dict[str, torch.Tensor]:
    """Return, for each split, the named statistics of the backbone's maps, concatenated.

    Parameters
    ----------
    backbone : Backbone
        Frozen, in eval mode.
    cifake : Cifake
    names : sequence of str
        Keys of `models.STATISTICS`. One pass through the backbone computes and keeps all of them, so that another
        one needs no further pass later.
    accelerator : accelerate.Accelerator
        Device, precision and processes. The processes share the images, and the main process writes the files.

    Returns
    -------
    dict of str to torch.Tensor
        float16, shape (N, 2, D): features of each image and its mirror image. With a single name they are
        memory-mapped from their file; with several names they are copied into memory. Every file is compared with the
        checksum that was taken when it was written. Damaged files are computed again.

    Raises
    ------
    CifakeError
        The backbone is in training mode, or a file changes while it is read (`verified.DamagedFile`).
    """
    folder = cache_folder(backbone, cifake, accelerator)
    statistics = _fitted(backbone, cifake, accelerator, folder)
    files = {
        (split, name): folder / f"{split}-{name}-{tap.fingerprint()}.npy"
        for split in cifake.splits
        for name, tap in by_name(statistics).items()
    }
    wanted = {(split, name): files[split, name] for split in cifake.splits for name in names}
    found = _whole(wanted)
    if not agreed(lambda: len(found) == len(wanted), accelerator):
        with locked(folder / "lock", accelerator):  # a second job waits here and then finds the files
            if accelerator.is_main_process:
                clear_leftovers(folder)
            there = agreed(lambda: list(_whole(files, say=True)), accelerator)
            for split, images in cifake.splits.items():
                paths = {name: files[split, name] for name in statistics if (split, name) not in there}
                if paths:
                    _compute(backbone, statistics, images, paths, accelerator, split)
        memory.trim()
        found = _whole(wanted)
    for key in wanted.keys() - found.keys():
        raise verified.DamagedFile(wanted[key], "it changed while it was read")
    values = {split: [found[split, name] for name in names] for split in cifake.splits}
    return {split: torch.cat(parts, 2) if len(parts) > 1 else parts[0] for split, parts in values.items()}


def _whole(files: dict[tuple[str, str], Path], say: bool = False) -> dict[tuple[str, str], torch.Tensor]:
    """Return, by their keys, the features whose files match their checksums.

    With ``say``, a line is printed about each file that does not.
    """
    checksums, found = _checksums(next(iter(files.values())).parent), {}
    for key, path in files.items():
        values = mapped(path, checksums.get(path.name))
        if values is not None:
            found[key] = values
        elif say and path.exists():
            print(f"{path} does not match its checksum in {CHECKSUMS}, or has none there. It is computed again.")
    return found


def mapped(path: Path, checksum: str | None) -> torch.Tensor | None:
    """Return the features in a file, memory-mapped; None if there is no such file or its checksum is another one.

    The checksum is computed over the mapped bytes that are returned, so that the file is read into memory only once.
    """
    if not path.exists() or not path.stat().st_size:
        return None
    content = np.memmap(path, np.uint8, "c")
    if xxhash.xxh3_128(content.data).hexdigest() != checksum:
        return None
    head = io.BytesIO(content[:HEADER].tobytes())
    np.lib.format.read_magic(head)
    shape, _, dtype = np.lib.format.read_array_header_1_0(head)
    return torch.from_numpy(content[head.tell() :].view(dtype).reshape(shape))


def _checksums(folder: Path) -> dict[str, str]:
    """Return the checksums of the features in a folder by file name; empty if the list is missing or damaged."""
    with suppress(FileNotFoundError, verified.DamagedFile):
        return verified.load_json(folder / CHECKSUMS)
    return {}


def _maps(backbone: Backbone, images: torch.Tensor, accelerator: Accelerator, **options) -> Maps:
    with accelerator.autocast():
        return backbone(normalise(images.to(accelerator.device)), **options)


@torch.inference_mode()
def _fit(statistics: nn.ModuleDict, backbone: Backbone, images: ImageSet, accelerator: Accelerator) -> None:
    """Set the thresholds of statistics, in place, from images."""
    backbone, every = backbone.folded().to(accelerator.device), -(-len(images) // THRESHOLD_IMAGES)
    for tap in by_name(statistics).values():
        if fit := getattr(tap.measure, "fit", None):  # one map after the other: all of them would fill memory
            batches = images.images[::every].split(BATCH_SIZE)
            stage = tap.statistic.stage
            fit(_maps(backbone, batch, accelerator, last=stage)[stage].cpu() for batch in batches)


@torch.inference_mode()
def computed(
    backbone: Backbone,
    statistics: Mapping[str, nn.Module],
    images: torch.Tensor,
    accelerator: Accelerator,
    mirrored: bool = True,
) -> Iterator[tuple[int, int, dict[str, torch.Tensor]]]:
    """Yield statistics of images and their mirror images, batch by batch, with one pass through the backbone.

    Parameters
    ----------
    backbone : Backbone
        What `Backbone.folded` returns, in eval mode, on the accelerator's device.
    statistics : mapping of str to nn.Module
        Modules from maps by name to (N, C), as `models.taps` makes them, on the accelerator's device.
    images : torch.Tensor
        uint8 (N, 3, 32, 32).
    accelerator : accelerate.Accelerator
        Device and precision.
    mirrored : bool
        Whether to compute the mirror images too.

    Yields
    ------
    start, side : int
        Row of the first image of the batch; 0 for the images, 1 for their mirror images.
    values : dict of str to torch.Tensor
        float16 (B, C) on the CPU, for each statistic.

    Raises
    ------
    CifakeError
        A value is not finite, or too large for float16.
    """
    for start in range(0, len(images), BATCH_SIZE):
        batch = images[start : start + BATCH_SIZE]
        for side, pixels in enumerate((batch, batch.flip(3)) if mirrored else (batch,)):
            maps = _maps(backbone, pixels, accelerator)
            values = {name: statistic(maps).half().cpu() for name, statistic in statistics.items()}
            for name, found in values.items():
                if not found.isfinite().all():
                    raise CifakeError(
                        f"The statistic {name} has values that are not finite in float16, in which features are kept. "
                        f"Expected numbers of at most {torch.finfo(torch.half).max:,.0f}. Scale the measure."
                    )
            yield start, side, values


def _compute(
    backbone: Backbone,
    statistics: nn.ModuleDict,
    images: ImageSet,
    paths: dict[str, Path],
    accelerator: Accelerator,
    split: str,
) -> None:
    """Write the statistics of all images and mirror images. A file appears only when it is complete.

    In each turn every process computes one batch, and the main process writes the batches of all.
    """
    backbone = backbone.folded().to(accelerator.device)
    wanted = {name: copy.deepcopy(statistics[name]).to(accelerator.device) for name in paths}
    writes, processes = accelerator.is_main_process, accelerator.num_processes
    starts = range(0, len(images), BATCH_SIZE)
    with ExitStack() as stack, progress.bar(total=len(images), desc=f"features {split}", shown=writes) as bar:
        files = {name: stack.enter_context(_opened(path)) for name, path in paths.items()} if writes else {}
        for turn in range(0, len(starts), processes):
            start = starts[
                min(turn + accelerator.process_index, len(starts) - 1)
            ]  # a process without a batch left computes the last one again
            batch = images.images[start : start + BATCH_SIZE]
            sides = [values for _, _, values in computed(backbone, wanted, batch, accelerator)]
            for name in paths:
                values = torch.stack([side[name] for side in sides], 1).to(accelerator.device)
                padded = accelerator.pad_across_processes(values)
                values = cast(torch.Tensor, accelerator.gather(padded)).chunk(processes)
                if writes and not turn:
                    shape = (len(images), *values[0].shape[1:])
                    header = {"descr": "<f2", "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_1_0(files[name], header)
                for first, part in zip(starts[turn:] if writes else (), values, strict=False):
                    files[name].write(part[: len(images) - first].cpu().contiguous().numpy().data)
            bar.update(min(processes * BATCH_SIZE, len(images) - turn * BATCH_SIZE))
    if writes:
        folder = next(iter(paths.values())).parent
        written = {path.name: verified.file_checksum(path) for path in paths.values()}
        verified.save_json(folder / CHECKSUMS, _checksums(folder) | written)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Yield a file to write to. It replaces ``path`` when it is complete."""
    with replacing(path) as partial, partial.open("wb") as file:
        yield file
