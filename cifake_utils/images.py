"""Images of a reader's own, of any format and size, brought to what the models know: 32×32 RGB out of CIFAKE's JPEG
encoder.

An image is turned as its EXIF data says, laid on white where it is transparent, cut to the square in its middle and
scaled so that each of 32×32 pixels is the mean of what it covers (Pillow's BOX filter: no overshoot at edges; images
smaller than that are enlarged in blocks). 16-bit grey is divided by 257; of an animation the first frame counts;
colour profiles are not applied. Then it is compressed as all of CIFAKE is, so that the last compression is one and
the same; of an earlier one, in a JPEG file, traces may remain. A file that already is a 32×32 RGB JPEG with these
settings is taken as it is.

Memory is bounded by `PIXELS_AT_ONCE`: what is larger is decoded alone, a JPEG file at a half to an eighth of its size,
and converted row by row of the result.
"""

import io
import math
import os
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cache, partial
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, JpegImagePlugin, UnidentifiedImageError
from tqdm import tqdm

from cifake_utils import CifakeError, sources
from cifake_utils.support import filenames, memory, progress

# How Pillow writes CIFAKE's files. Lesson 01 finds one pair of quantisation tables and 4:2:0 in all 120,000 of them; of
# all qualities and subsamplings only this one gives the same. Decoded CIFAKE images, encoded anew with it, have the
# same tables.
ENCODER = {"format": "JPEG", "quality": 75, "subsampling": "4:2:0"}
PIXELS_AT_ONCE = 32 * 10**6  # of all threads together, 4 bytes each and up to five copies; a larger image goes alone
# How EXIF's orientations are undone.
TURNS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
EXPECTED = "Expected an image file such as PNG, JPEG, WebP, GIF or TIFF."


def read(path: Path | str) -> torch.Tensor:
    """Return an image file as uint8 (3, 32, 32), RGB; the module says how it is brought to that.

    Raises
    ------
    CifakeError
        No such file, a folder, not an image, damaged, too many pixels (more than 2 × `PIL.Image.MAX_IMAGE_PIXELS`,
        179 million, could be a decompression bomb), or floating-point or 32-bit pixels, whose range nobody knows.
    """
    (result,) = read_all([Path(path)])
    if isinstance(result, str):
        raise CifakeError(result)
    return result


def read_folder(folder: Path | str) -> tuple[torch.Tensor, list[str], list[str]]:
    """Return all images in a folder and its subfolders; what `filenames.is_ignored` names is left out.

    Returns
    -------
    images : torch.Tensor
        uint8 (N, 3, 32, 32), RGB, in the order of the names.
    names : list of str
        N paths relative to the folder.
    problems : list of str
        What is wrong with each file that could not be read, as `read` would say it, and with each subfolder.

    Raises
    ------
    CifakeError
        No such folder, a file, an empty folder, or not one image that can be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "does not exist"
        raise CifakeError(f"{filenames.escaped(folder)} {found}. Expected a folder of images.")
    paths, problems = _files(folder)
    if not paths:
        raise CifakeError(
            f"The folder {filenames.escaped(folder)} holds no files. Expected images in it or in its subfolders. "
            + " ".join(problems[:1])
        )
    with progress.bar(desc="reading", total=len(paths), shown=len(paths) > 1) as bar:
        results = read_all(paths, bar)
    problems += [result for result in results if isinstance(result, str)]
    good = [(path, result) for path, result in zip(paths, results, strict=True) if not isinstance(result, str)]
    if not good:
        raise CifakeError(
            f"None of the {len(paths)} files in {filenames.escaped(folder)} could be read. The first: {problems[0]}"
        )
    images = torch.stack([pixels for _, pixels in good])
    return images, [path.relative_to(folder).as_posix() for path, _ in good], problems


def _files(folder: Path) -> tuple[list[Path], list[str]]:
    """Return the files in a folder and its subfolders, sorted, and what is wrong with subfolders."""
    paths, problems = [], []

    def unreadable(error: OSError) -> None:
        problems.append(
            f"The folder {filenames.escaped(error.filename)} can't be read: {error.strerror}. Expected one that you "
            "may read. Change its permissions."
        )

    for place, subfolders, files in os.walk(folder, onerror=unreadable):
        subfolders[:] = [name for name in subfolders if not filenames.is_ignored(name)]
        paths += [Path(place, name) for name in files if not filenames.is_ignored(name)]
        problems += [
            f"{filenames.escaped(Path(place, name))} is a link to a folder and was skipped. "
            "Name the folder that it points to."
            for name in subfolders
            if os.path.islink(Path(place, name))
        ]
    return sorted(paths), problems


def read_all(paths: Sequence[Path], bar: tqdm | None = None) -> list[torch.Tensor | str]:
    """Return, for each path, uint8 (3, 32, 32) as `read` does, or what is wrong with it; tell a bar of each."""
    room = _Room(PIXELS_AT_ONCE)
    results = []
    with warnings.catch_warnings(), ThreadPool(max(1, min(len(paths), os.cpu_count() or 1))) as pool:
        warnings.simplefilter("ignore")  # of large images, odd palettes and EXIF: what matters is a result or an error
        for result in pool.imap(partial(_attempt, room=room), paths):
            results.append(result)
            if bar is not None:
                bar.update()
    return results


class _Room:
    """Room in memory: threads take it, and wait until there is as much as they need, or all of it."""

    def __init__(self, pixels: int):
        self.all = self.free = pixels
        self.changed = threading.Condition()

    @contextmanager
    def of(self, pixels: int) -> Iterator[None]:
        pixels = min(pixels, self.all)
        with self.changed:
            self.changed.wait_for(lambda: self.free >= pixels)
            self.free -= pixels
        try:
            yield
        finally:
            if pixels == self.all:  # else the C library keeps what was freed, for this thread alone
                memory.trim()
            with self.changed:
                self.free += pixels
                self.changed.notify_all()


def _attempt(path: Path, room: _Room) -> torch.Tensor | str:
    """Return what `read_all` does for one path. Whatever Pillow raises is a sentence about that file."""
    name = filenames.escaped(path)
    try:
        if path.is_dir():
            return f"{name} is a folder. {EXPECTED} Name the files in it."
        if path.is_symlink() and not path.exists():
            return f"{name} is a link to a file that is not there. {EXPECTED} Remove the link, or bring the file back."
        if not path.exists():
            return f"There is no file {name}. {EXPECTED} Check the spelling, and the folder you are in."
        if not path.is_file():
            return f"{name} is neither a file nor a folder. {EXPECTED}"
        if not path.stat().st_size:
            return f"{name} is empty (0 bytes). {EXPECTED} Save or download it again."
        with Image.open(path) as image, room.of(image.width * image.height), closing(image):  # which frees its pixels
            return torch.from_numpy(_pixels(image)).permute(2, 0, 1).contiguous()
    except UnidentifiedImageError:
        return f"{name} is not an image that Pillow can read. {EXPECTED} Convert it to one of these."
    except Image.DecompressionBombError:
        return (
            f"{name} says that it has more than {2 * Image.MAX_IMAGE_PIXELS // 10**6} million pixels, which could be a "
            "decompression bomb. Expected fewer. If you trust it, make it smaller with another program."
        )
    except MemoryError:
        return f"{name} needs more memory than there is. Expected a smaller image. Close other programs, or reduce it."
    except Exception as error:  # each format has its own ways to fail
        reason = filenames.escaped(error) or type(error).__name__
        return f"{name} can't be read: {reason}. Expected a sound image file. Save or download it again."


def _pixels(image: Image.Image) -> np.ndarray:
    """Return an opened image as uint8 (32, 32, 3)."""
    is_cifakes = image.size == (sources.SIZE, sources.SIZE) and image.mode == "RGB" and _settings(image) == _encoder()
    if is_cifakes and _orientation(image) == 1:
        image.load()
        return np.array(image)
    return sources.decode(encode(_square(image)))


def _square(image: Image.Image) -> Image.Image:
    """Return the square in the middle of an opened image, upright, as 32×32 RGB."""
    if isinstance(image, JpegImagePlugin.JpegImageFile) and _is_large(image):
        # The decoder averages blocks of pixels, and leaves at least as many as asked for.
        image.draft(None, (64 * sources.SIZE, 64 * sources.SIZE))
    image.load()
    turn = _orientation(image)  # of a TIFF file it is known to be upright now
    if _is_large(image):
        return _means(image, turn)
    upright = image if turn == 1 else image.transpose(TURNS[turn])
    return ImageOps.fit(_rgb(upright, image.format), (sources.SIZE, sources.SIZE), Image.Resampling.BOX)


def _is_large(image: Image.Image) -> bool:
    return image.width * image.height > PIXELS_AT_ONCE


def _means(image: Image.Image, turn: int) -> Image.Image:
    """Return what `_square` does, and turn, convert and scale what each row of it covers by itself.

    Pillow does all rows at once in a few times the memory, and rounds otherwise by 1 at most.
    """
    width, height = image.size if turn <= 4 else image.size[::-1]
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    means = Image.new("RGB", (sources.SIZE, sources.SIZE))
    for row in range(sources.SIZE):
        upper, lower = (top + side * edge / sources.SIZE for edge in (row, row + 1))
        x, y = math.floor(left), math.floor(upper)
        band = _rgb(_part(image, turn, (x, y, math.ceil(left + side), math.ceil(lower))), image.format)
        covered = (left - x, upper - y, left - x + side, lower - y)
        means.paste(band.resize((sources.SIZE, 1), Image.Resampling.BOX, covered), (0, row))
    return means


def _part(image: Image.Image, turn: int, box: tuple[int, int, int, int]) -> Image.Image:
    """Return a part of what an image is when turned, without turning the rest."""
    left, upper, right, lower = box
    width, height = image.size if turn <= 4 else image.size[::-1]
    if turn in (2, 3, 6, 7):
        left, right = width - right, width - left
    if turn in (3, 4, 7, 8):
        upper, lower = height - lower, height - upper
    part = image.crop((left, upper, right, lower) if turn <= 4 else (upper, left, lower, right))
    return part if turn == 1 else part.transpose(TURNS[turn])


def _orientation(image: Image.Image) -> int:
    """Return how an image is to be turned, by its EXIF data: 1, not at all, to 8. Malformed data turn nothing."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
        return int(found) if found in TURNS else 1
    except Exception:  # of a part of the file that does not matter: Pillow reads it in many ways, which fail in more
        return 1


def _rgb(image: Image.Image, file_format: str) -> Image.Image:
    """Return an image of any mode, from a file of this format, as 8-bit RGB."""
    if image.mode.startswith("I;16") or (image.mode == "I" and file_format == "PPM"):  # converting would clip at 255
        image = Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(f"its pixels are of mode {image.mode}, whose range is not known; convert them to 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == "RGB" else image.convert("RGB")


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
    return _settings(Image.open(io.BytesIO(encode(Image.new("RGB", (sources.SIZE, sources.SIZE))))))
