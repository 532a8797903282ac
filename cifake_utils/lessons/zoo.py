"""Read and write the images of the generators in ``assets/zoo``: JPEG files of CIFAKE's encoder, many in one file.

``tools.make_generators`` makes them. Beside each NPZ file lies a JSON file that says how its images were made.
"""

import hashlib
import io
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from cifake_utils import data, images, sources
from cifake_utils.support import verified
from cifake_utils.support.files import replacing

FOLDER = Path(__file__).parent.parent / "assets" / "zoo"

# What a file holds: images that a generator drew, or photographs of a split that it made again.
SAMPLES, VALIDATION, TRAINING = "samples", "val", "train"
COUNT = 1_000  # images of each generator, and photographs of each split that are made again


def chosen(photographs: data.ImageSet, count: int = COUNT) -> torch.Tensor:
    """Return the rows of the REAL images of a split that are made again: a random choice, which is always the same."""
    real = (photographs.labels == data.REAL).nonzero()[:, 0]
    order = torch.randperm(len(real), generator=torch.Generator().manual_seed(0))
    return real[order[:count]].sort().values


def pack(drawn: torch.Tensor) -> dict[str, np.ndarray]:
    """Return uint8 images (N, 3, H, W) as JPEG files: their bytes one after the other, and N + 1 offsets."""
    files = [images.encode(Image.fromarray(image.permute(1, 2, 0).numpy())) for image in drawn.cpu()]
    return {
        "bytes": np.frombuffer(b"".join(files), np.uint8),
        "offsets": np.cumsum([0, *map(len, files)], dtype=np.int64),
    }


def unpack(content: np.ndarray, offsets: np.ndarray) -> torch.Tensor:
    """Return the images of `pack`, decoded: uint8 (N, 3, H, W), RGB."""
    whole = content.tobytes()
    files = [whole[start:end] for start, end in pairwise(offsets)]
    pixels = np.stack([sources.decode(file) for file in files])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def write(path: Path, made: dict[str, tuple[torch.Tensor, torch.Tensor | None]], about: dict[str, Any]) -> None:
    """Write images and, in a JSON file beside them, how they were made.

    Parameters
    ----------
    path : Path
        Ends with ``.npz``.
    made : dict of str to tuple
        For `SAMPLES`, `VALIDATION` or `TRAINING`, uint8 images (N, 3, 32, 32) and, for photographs that were made
        again, their rows in the split (N,).
    about : dict
        Of JSON types.
    """
    arrays = {}
    for part, (drawn, rows) in made.items():
        arrays |= {f"{part}_{key}": value for key, value in pack(drawn).items()}
        if rows is not None:
            arrays[f"{part}_rows"] = rows.cpu().numpy()
    verified.save_arrays(path, **arrays)
    write_about(path, about)


def write_about(path: Path, about: dict[str, Any]) -> None:
    """Write the JSON file beside ``path``."""
    with replacing(path.with_suffix(".json")) as partial:
        partial.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def read(path: Path) -> dict[str, tuple[torch.Tensor, np.ndarray | None]]:
    """Return what `write` took as ``made``, decoded."""
    arrays = verified.load_arrays(path)
    parts = [part for part in (SAMPLES, VALIDATION, TRAINING) if f"{part}_bytes" in arrays]
    return {
        part: (unpack(arrays[f"{part}_bytes"], arrays[f"{part}_offsets"]), arrays.get(f"{part}_rows")) for part in parts
    }


def read_about(path: Path) -> dict[str, Any]:
    """Return what `write` took as ``about``."""
    return json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))


def write_sums(folder: Path, *patterns: str) -> None:
    """List the SHA-256 of a folder's files in `verified.SUMS`: of those that fit a pattern, by default ``*.npz``."""
    paths = sorted(path for pattern in patterns or ("*.npz",) for path in folder.glob(pattern))
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in paths]
    with replacing(folder / verified.SUMS) as partial:
        partial.write_text("".join(lines), encoding="utf-8", newline="\n")


def sheet(drawn: torch.Tensor, side: int = 10) -> Image.Image:
    """Return the first images (N, 3, H, W) in a square of ``side`` by ``side``, enlarged twice."""
    shown = drawn[: side**2]
    shown = torch.cat([shown, shown.new_zeros(side**2 - len(shown), *shown.shape[1:])])
    rows = shown.unflatten(0, (side, side)).permute(0, 3, 1, 4, 2).flatten(0, 1).flatten(1, 2)
    return Image.fromarray(rows.numpy()).resize((2 * rows.shape[1], 2 * rows.shape[0]), Image.Resampling.NEAREST)


def to_file(image: Image.Image) -> bytes:
    """Return an image as a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
