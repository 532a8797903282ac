"""Features of a frozen backbone, computed once for every image and its mirror image, and kept on disk.

A frozen backbone in eval mode gives an image the same features in every epoch, so a head that trains on cached
features of the image or its mirror image trains exactly as behind the backbone with random flips.
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
from cifake_utils.support import progress, verified
from cifake_utils.support.files import agreed, clear_leftovers, locked, replacing
from cifake_utils.support.fingerprint import recipe_hash, state_hash

BATCH_SIZE = 125  # the maps of more don't stay in a CPU's cache: 500 take a tenth more time
HEADER = 4096  # more bytes than the header of a NumPy file has here
CHECKSUMS = "checksums.json"  # of the features in a folder, by file name
THRESHOLD_IMAGES = 2_000  # training images that thresholds are taken from; each gives 64 or more values a channel


def cache_folder(backbone: Backbone, cifake: Cifake, accelerator: Accelerator) -> Path:
    """Return the folder of what one backbone makes of some images; its name depends on all that the maps depend on."""
    recipe = {
        "backbone": state_hash(backbone.state_dict()),
        "backbone_version": BACKBONE_VERSION,
        "data": cifake.hash,
        "normalisation": [MEAN, STD],
        "precision": accelerator.mixed_precision,
    }
    return profiles.runs_folder() / "cache" / f"features-{recipe_hash(recipe)}"


def shuffled(values: torch.Tensor, seed: int) -> torch.Tensor:
    """Return the same rows (N, …) in random order: their distribution stays, what they say of an image goes."""
    return values[torch.randperm(len(values), generator=torch.Generator().manual_seed(seed))]


def noise(values: torch.Tensor, seed: int) -> torch.Tensor:
    """Return standard Gaussian noise of the same shape and type."""
    return torch.randn(values.shape, generator=torch.Generator().manual_seed(seed)).to(values.dtype)


# Ways to take from a feature all that it says of its image, for controls.
BREAKS = {"shuffled": shuffled, "noise": noise}


def break_some(values: dict[str, torch.Tensor], names: Sequence[str], way: str, seed: int) -> dict[str, torch.Tensor]:
    """Return statistics (N, …, D) by name, the named ones broken: side by side, so that they get the same order.

    Parameters
    ----------
    values : dict of str to torch.Tensor
    names : sequence of str
        Keys of ``values``.
    way : str
        A key of `BREAKS`.
    seed : int
    """
    broken = BREAKS[way](torch.cat([values[name] for name in names], -1), seed)
    parts = broken.split([values[name].shape[-1] for name in names], -1)
    return values | dict(zip(names, parts, strict=True))


def fitted_statistics(backbone: Backbone, cifake: Cifake, accelerator: Accelerator) -> nn.ModuleDict:
    """Return what computes `models.STATISTICS`, thresholds taken from training images, kept on disk.

    At most `THRESHOLD_IMAGES` of them, evenly spaced through the training split. Damaged thresholds are taken anew.
    """
    return _fitted(backbone, cifake, accelerator, cache_folder(backbone, cifake, accelerator))


def _fitted(backbone: Backbone, cifake: Cifake, accelerator: Accelerator, folder: Path) -> nn.ModuleDict:
    if backbone.training:
        raise CifakeError("The backbone is in training mode; cached features are those of a frozen one (eval mode).")
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
    """Return, for each split, the named statistics of the backbone's maps side by side.

    Parameters
    ----------
    backbone : Backbone
        Frozen, in eval mode.
    cifake : Cifake
    names : sequence of str
        Keys of `models.STATISTICS`. One pass through the backbone computes and keeps all of them, so that asking
        for another one later costs nothing.
    accelerator : accelerate.Accelerator
        Device, precision and processes: these share the images, and the main one writes what all computed.

    Returns
    -------
    dict of str to torch.Tensor
        float16, shape (N, 2, D): features of image and mirror image. Those of a single name stay in their file,
        mapped; those of several are copied into memory. Every file was compared with the checksum that was taken
        when it was written; a damaged one is computed anew.
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
        found = _whole(wanted)
    for key in wanted.keys() - found.keys():
        raise verified.DamagedFile(wanted[key], "it changed while it was read")
    values = {split: [found[split, name] for name in names] for split in cifake.splits}
    return {split: torch.cat(parts, 2) if len(parts) > 1 else parts[0] for split, parts in values.items()}


def _whole(files: dict[tuple[str, str], Path], say: bool = False) -> dict[tuple[str, str], torch.Tensor]:
    """Return, by their keys, the features whose files are what was written; ``say`` a line of each that is not."""
    checksums, found = _checksums(next(iter(files.values())).parent), {}
    for key, path in files.items():
        values = mapped(path, checksums.get(path.name))
        if values is not None:
            found[key] = values
        elif say and path.exists():
            print(f"{path} does not match its checksum in {CHECKSUMS}, or has none there. It is computed again.")
    return found


def mapped(path: Path, checksum: str | None) -> torch.Tensor | None:
    """Return the features in a file, mapped; None where there is no such file or its checksum is another one.

    The bytes are looked at where they are used later, so that they are brought into memory once.
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
    """Return the checksums of the features in a folder; none where their file is missing or damaged."""
    with suppress(FileNotFoundError, verified.DamagedFile):
        return verified.load_json(folder / CHECKSUMS)
    return {}


def _maps(backbone: Backbone, images: torch.Tensor, accelerator: Accelerator, **options) -> Maps:
    with accelerator.autocast():
        return backbone(normalise(images.to(accelerator.device)), **options)


@torch.inference_mode()
def _fit(statistics: nn.ModuleDict, backbone: Backbone, images: ImageSet, accelerator: Accelerator) -> None:
    """Take the thresholds of statistics, in place, from images."""
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
    """Yield statistics of images and mirror images, batch by batch; one pass through the backbone for all of them.

    Parameters
    ----------
    backbone : Backbone
        `Backbone.folded`, in eval mode, on the accelerator's device.
    statistics : mapping of str to nn.Module
        Maps by name to (N, C), as `models.taps` makes them; on the accelerator's device.
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
    with ExitStack() as stack, progress.bar(total=len(images), desc=f"features {split}", shown=writes) as bar:
        files = {name: stack.enter_context(_opened(path)) for name, path in paths.items()} if writes else {}
        for turn in range(0, len(starts), processes):
            start = starts[min(turn + accelerator.process_index, len(starts) - 1)]  # too many: the last batch again
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
    """Yield a file to write to that takes the place of ``path`` when it is complete."""
    with replacing(path) as partial, partial.open("wb") as file:
        yield file
