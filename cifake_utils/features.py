"""Features of a frozen backbone, computed once for every image and its mirror image, and kept on disk.

A frozen backbone in eval mode gives an image the same features in every epoch, so a head that trains on cached
features of the image or its mirror image trains exactly as behind the backbone with random flips.
"""

import hashlib
import shutil
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from filelock import FileLock

from cifake_utils import CifakeError, profiles, progress
from cifake_utils.batches import MEAN, STD, normalise
from cifake_utils.data import Cifake, ImageSet
from cifake_utils.files import replacing
from cifake_utils.models import STATISTICS, Backbone
from cifake_utils.weights import state_hash

BATCH_SIZE = 500


def cache_folder(backbone: Backbone, cifake: Cifake, accelerator: Accelerator) -> Path:
    """Return the folder of these features; its name depends on all they depend on."""
    recipe = (state_hash(backbone.state_dict()), cifake.hash, MEAN, STD, accelerator.mixed_precision)
    key = hashlib.sha256(repr(recipe).encode()).hexdigest()[:16]
    return profiles.runs_folder() / "cache" / f"features-{key}"


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
        Device and precision.

    Returns
    -------
    dict of str to torch.Tensor
        float16, shape (N, 2, D): features of image and mirror image.
    """
    if backbone.training:
        raise CifakeError("The backbone is in training mode; cached features are those of a frozen one (eval mode).")
    folder = cache_folder(backbone, cifake, accelerator)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):  # a second process waits here and then finds the files
        for leftover in folder.glob(".*"):  # of a process that was killed
            shutil.rmtree(leftover, ignore_errors=True)
        for split, images in cifake.splits.items():
            missing = [name for name in STATISTICS if not _file(folder, split, name).exists()]
            if missing:
                _compute(
                    backbone,
                    images,
                    {name: _file(folder, split, name) for name in missing},
                    accelerator,
                    split,
                )
    return {split: torch.cat([_read(_file(folder, split, name)) for name in names], 2) for split in cifake.splits}


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
def _compute(
    backbone: Backbone, images: ImageSet, paths: dict[str, Path], accelerator: Accelerator, split: str
) -> None:
    """Write statistics of all images and mirror images; files appear only when they are complete."""
    home = next(backbone.parameters()).device
    backbone.to(accelerator.device)
    with ExitStack() as files, progress.bar(total=len(images), desc=f"features {split}") as bar:
        partial_paths = {name: files.enter_context(replacing(path)) for name, path in paths.items()}
        arrays = {}
        for start in range(0, len(images), BATCH_SIZE):
            batch = images.images[start : start + BATCH_SIZE].to(accelerator.device)
            for side, pixels in enumerate((batch, batch.flip(3))):
                with accelerator.autocast():
                    maps = backbone(normalise(pixels))
                for name in paths:
                    values = STATISTICS[name](maps).half().cpu().numpy()
                    if name not in arrays:
                        shape = (len(images), 2, values.shape[1])
                        arrays[name] = np.lib.format.open_memmap(partial_paths[name], "w+", np.float16, shape)
                    arrays[name][start : start + len(batch), side] = values
            bar.update(len(batch))
        for array in arrays.values():
            array.flush()
    backbone.to(home)
