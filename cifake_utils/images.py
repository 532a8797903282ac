"""Images of a reader's own, of any format and size, brought to what the models know: 32×32 RGB out of CIFAKE's JPEG
encoder.

An image is turned as its EXIF data says, laid on white where it is transparent, cut to the square in its middle and
scaled so that each of 32×32 pixels is the mean of what it covers (Pillow's BOX filter: no overshoot at edges; images
smaller than that are enlarged in blocks). 16-bit grey is divided by 257; of an animation the first frame counts;
colour profiles are not applied. Then it is compressed as all of CIFAKE is, so that the last compression is one and
the same; of an earlier one, in a JPEG file, traces may remain. A file that already is a 32×32 RGB JPEG with these
settings is taken as it is.
"""

import io
import os
import struct
import warnings
from collections.abc import Sequence
from functools import cache
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, JpegImagePlugin, UnidentifiedImageError

from cifake_utils import CifakeError, data, progress

# How Pillow writes CIFAKE's files. Lesson 01 finds one pair of quantisation tables and 4:2:0 in all 120,000 of them; of
# all qualities and subsamplings only this one gives the same. Decoded CIFAKE images, encoded anew with it, have the
# same tables.
ENCODER = {"format": "JPEG", "quality": 75, "subsampling": "4:2:0"}
EXPECTED = "Expected an image file such as PNG, JPEG, WebP, GIF or TIFF."


def read(path: Path | str) -> torch.Tensor:
    """Return an image file as uint8 (3, 32, 32), RGB; the module says how it is brought to that.

    Raises
    ------
    CifakeError
        No such file, a folder, not an image, damaged, too many pixels (more than 2 × `PIL.Image.MAX_IMAGE_PIXELS`,
        179 million, could be a decompression bomb), or floating-point or 32-bit pixels, whose range nobody knows.
    """
    (result,) = _read_all([Path(path)])
    if isinstance(result, str):
        raise CifakeError(result)
    return torch.from_numpy(result).permute(2, 0, 1).contiguous()


def read_folder(folder: Path | str) -> tuple[torch.Tensor, list[str], list[str]]:
    """Return all images in a folder and its subfolders. Files whose names begin with a dot are left out.

    Returns
    -------
    images : torch.Tensor
        uint8 (N, 3, 32, 32), RGB, in the order of the names.
    names : list of str
        N paths relative to the folder.
    problems : list of str
        What is wrong with each file that could not be read, as `read` would say it.

    Raises
    ------
    CifakeError
        No such folder, a file, an empty folder, or not one image that can be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "does not exist"
        raise CifakeError(f"{folder} {found}. Expected a folder of images.")
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    if not paths:
        raise CifakeError(f"The folder {folder} holds no files. Expected images in it or in its subfolders.")
    results = _read_all(paths)
    problems = [result for result in results if isinstance(result, str)]
    good = [(path, result) for path, result in zip(paths, results, strict=True) if not isinstance(result, str)]
    if not good:
        raise CifakeError(f"None of the {len(paths)} files in {folder} could be read. The first: {problems[0]}")
    images = torch.from_numpy(np.stack([pixels for _, pixels in good])).permute(0, 3, 1, 2).contiguous()
    return images, [path.relative_to(folder).as_posix() for path, _ in good], problems


def _read_all(paths: Sequence[Path]) -> list[np.ndarray | str]:
    """Return, for each path, uint8 (32, 32, 3) or what is wrong with it."""
    with warnings.catch_warnings(), ThreadPool(min(len(paths), os.cpu_count() or 1)) as pool:
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # below the limit: a large photograph
        results = pool.imap(_attempt, paths)
        return list(progress.bar(results, "reading", len(paths)) if len(paths) > 1 else results)


def _attempt(path: Path) -> np.ndarray | str:
    if path.is_dir():
        return f"{path} is a folder. {EXPECTED} For a folder: `python -m cifake_utils evaluate --fake {path}`."
    if not path.exists():
        return f"There is no file {path}. {EXPECTED} Check the spelling, and the folder you are in."
    try:
        if not path.stat().st_size:
            return f"{path} is empty (0 bytes). {EXPECTED} Save or download it again."
        with Image.open(path) as image:
            return _pixels(image)
    except UnidentifiedImageError:
        return f"{path} is not an image that Pillow can read. {EXPECTED} Convert it to one of these."
    except Image.DecompressionBombError:
        return (
            f"{path} says that it has more than {2 * Image.MAX_IMAGE_PIXELS // 10**6} million pixels, which could be a "
            "decompression bomb. Expected fewer. If you trust it, make it smaller with another program."
        )
    except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:  # each format has its own ways to fail
        return f"{path} can't be read: {error}. Expected a sound image file. Save or download it again."


def _pixels(image: Image.Image) -> np.ndarray:
    """Return an opened image as uint8 (32, 32, 3)."""
    upright = image.getexif().get(ExifTags.Base.Orientation, 1) == 1
    if upright and image.size == (data.SIZE, data.SIZE) and image.mode == "RGB" and _settings(image) == _encoder():
        return np.array(image)
    whole = _rgb(ImageOps.exif_transpose(image), image.format)
    return data.decode(encode(ImageOps.fit(whole, (data.SIZE, data.SIZE), Image.Resampling.BOX)))


def _rgb(image: Image.Image, file_format: str) -> Image.Image:
    """Return an image of any mode, from a file of this format, as 8-bit RGB."""
    if image.mode.startswith("I;16") or (image.mode == "I" and file_format == "PPM"):  # converting would clip at 255
        image = Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(f"its pixels are of mode {image.mode}, whose range is not known; convert them to 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def encode(image: Image.Image) -> bytes:
    """Return a Pillow image as a JPEG file with the settings of CIFAKE's."""
    buffer = io.BytesIO()
    image.save(buffer, **ENCODER)
    return buffer.getvalue()


def _settings(image: Image.Image) -> tuple | None:
    """Return quantisation tables and subsampling of an opened JPEG file, None for another format."""
    return (image.quantization, JpegImagePlugin.get_sampling(image)) if image.format == "JPEG" else None


@cache
def _encoder() -> tuple:
    """Return the `_settings` of what `encode` writes."""
    return _settings(Image.open(io.BytesIO(encode(Image.new("RGB", (data.SIZE, data.SIZE))))))
