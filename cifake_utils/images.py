"""Convert a reader's own images, of any format and size, to what the models know: 32×32 RGB from CIFAKE's JPEG encoder.

An image is turned as its EXIF data says, laid on white where it is transparent, and cut to the square in its middle.
Then it is scaled so that each of the 32×32 pixels is the mean of the area that it covers. (This is Pillow's BOX filter,
which does not overshoot at edges. Smaller images are enlarged in blocks.) 16-bit grey is divided by 257. Of an
animation the first frame is taken. Colour profiles are not applied. At last the image is compressed with the settings
of CIFAKE's files, so that the last compression is the same for all images. Traces of an earlier compression may remain.
A file that already is a 32×32 RGB JPEG with these settings is taken as it is.

`PIXELS_AT_ONCE` bounds the memory. A larger image is decoded while no other one is, and converted separately for each
row of the result. A larger JPEG file is decoded at a half to an eighth of its size.
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
from PIL import ExifTags, Image, ImageOps, JpegImagePlugin, TiffImagePlugin, UnidentifiedImageError
from tqdm import tqdm

from cifake_utils import CifakeError, sources
from cifake_utils.support import filenames, memory, progress

# Pillow's settings for CIFAKE's files. Lesson 01 finds one pair of quantisation tables and 4:2:0 in all 120,000 files.
# Among all qualities and subsamplings, only this one gives these tables.
ENCODER = {"format": "JPEG", "quality": 75, "subsampling": "4:2:0"}
PIXELS_AT_ONCE = 32 * 10**6  # in all threads together; a pixel takes 4 bytes, in up to five copies
# The transposition that undoes each of EXIF's orientations.
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
BITS, PHOTOMETRIC = ExifTags.Base.BitsPerSample, ExifTags.Base.PhotometricInterpretation
EXPECTED = "Expected an image file such as PNG, JPEG, WebP, GIF or TIFF."


def read(path: Path | str) -> torch.Tensor:
    """Return an image file as uint8 (3, 32, 32), RGB. The docstring of this module says how it is converted.

    Raises
    ------
    CifakeError
        The file is missing, a folder, damaged or not an image; it has more than 2 × `PIL.Image.MAX_IMAGE_PIXELS` = 179
        million pixels and could be a decompression bomb; its pixels are floating-point or 32-bit numbers, whose range
        is not known.
    """
    (result,) = read_all([Path(path)])
    if isinstance(result, str):
        raise CifakeError(result)
    return result


def size(path: Path) -> tuple[int, int]:
    """Return width and height in pixels, of the upright image, of a file that `read_all` can read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as in `read_all`
        with Image.open(path) as image:
            return image.size if _orientation(image) <= 4 else (image.height, image.width)


def read_folder(folder: Path | str) -> tuple[torch.Tensor, list[str], list[str]]:
    """Return all images in a folder and its subfolders, except files that `filenames.is_ignored` leaves out.

    Returns
    -------
    images : torch.Tensor
        uint8 (N, 3, 32, 32), RGB, in the order of the names.
    names : list of str
        N paths relative to the folder.
    problems : list of str
        What is wrong with each file that could not be read, in the words of `read`, and with each such subfolder.

    Raises
    ------
    CifakeError
        The folder is missing or is a file; it is empty; none of its files can be read as an image.
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
    """Return the files in a folder and its subfolders, sorted, and what is wrong with unusable subfolders."""
    paths, problems = [], []

    def unreadable(error: OSError) -> None:
        problems.append(
            f"The folder {filenames.escaped(error.filename)} can't be read: {error.strerror}. Expected a folder that "
            "you may read. Change its permissions."
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
    """Return, for each path, uint8 (3, 32, 32) as `read` does, or a text that says what is wrong. Advance the bar."""
    room = _Room(PIXELS_AT_ONCE)
    results = []
    with warnings.catch_warnings(), ThreadPool(max(1, min(len(paths), os.cpu_count() or 1))) as pool:
        warnings.simplefilter(
            "ignore"
        )  # warnings of large images, odd palettes and EXIF; the result or the error says enough
        for result in pool.imap(partial(_attempt, room=room), paths):
            results.append(result)
            if bar is not None:
                bar.update()
    return results


class _Room:
    """Room for pixels in memory. A thread waits until there is as much as it needs, or until all of it is free."""

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
            if pixels == self.all:  # else the C library keeps the freed memory for this thread
                memory.trim()
            with self.changed:
                self.free += pixels
                self.changed.notify_all()


def _attempt(path: Path, room: _Room) -> torch.Tensor | str:
    """Return what `read_all` returns for one path. Any error of Pillow becomes a text about this file."""
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
        with Image.open(path) as image, room.of(image.width * image.height), closing(image):  # closing frees its pixels
            return torch.from_numpy(_pixels(image)).permute(2, 0, 1).contiguous()
    except UnidentifiedImageError:
        return f"{name} is not an image that Pillow can read. {EXPECTED} Convert it to one of these."
    except Image.DecompressionBombError:
        return (
            f"{name} says that it has more than {_most_pixels() // 10**6} million pixels, which could be a "
            "decompression bomb. Expected fewer. If you trust it, make it smaller with another program."
        )
    except MemoryError:
        return f"{name} needs more memory than there is. Expected a smaller image. Close other programs, or reduce it."
    except PermissionError:
        return f"{name} can't be read: you have no right to. Expected a file that you may read. Change its permissions."
    except Exception as error:  # each format raises errors of its own
        reason = filenames.escaped(str(error)) or type(error).__name__
        return f"{name} can't be read: {reason}. Expected a sound image file. Save or download it again."


def _most_pixels() -> int:
    """Return from how many pixels on Pillow takes an image for a decompression bomb."""
    return 2 * (Image.MAX_IMAGE_PIXELS or 0)  # where it is None, nothing counts as one


def _pixels(image: Image.Image) -> np.ndarray:
    """Return an opened image as uint8 (32, 32, 3)."""
    _require_known_greys(image)
    is_cifakes = image.size == (sources.SIZE, sources.SIZE) and image.mode == "RGB" and _settings(image) == _encoder()
    if is_cifakes and _orientation(image) == 1:
        image.load()
        return np.array(image)
    return sources.decode(encode(_square(image)))


def _square(image: Image.Image) -> Image.Image:
    """Return the square in the middle of an opened image, upright, as 32×32 RGB."""
    if isinstance(image, JpegImagePlugin.JpegImageFile) and _is_large(image):
        # The decoder averages blocks of pixels. The result has at least this size.
        image.draft(None, (64 * sources.SIZE, 64 * sources.SIZE))
    image.load()
    turn = _orientation(image)  # read after loading, since Pillow turns a TIFF file upright when it loads it
    if _is_large(image):
        return _means(image, turn)
    upright = image if turn == 1 else image.transpose(TURNS[turn])
    return ImageOps.fit(_rgb(upright, image.format), (sources.SIZE, sources.SIZE), Image.Resampling.BOX)


def _is_large(image: Image.Image) -> bool:
    return image.width * image.height > PIXELS_AT_ONCE


def _means(image: Image.Image, turn: int) -> Image.Image:
    """Return what `_square` returns, but turn, convert and scale the area of each row separately.

    For all rows at once Pillow would need several times the memory. Its rounding would differ by at most 1.
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
    """Return a part of the turned image, without turning the rest. ``box`` is in pixels of the turned image."""
    left, upper, right, lower = box
    width, height = image.size if turn <= 4 else image.size[::-1]
    if turn in (2, 3, 6, 7):
        left, right = width - right, width - left
    if turn in (3, 4, 7, 8):
        upper, lower = height - lower, height - upper
    part = image.crop((left, upper, right, lower) if turn <= 4 else (upper, left, lower, right))
    return part if turn == 1 else part.transpose(TURNS[turn])


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of an image, from 1 (upright) to 8. Malformed data count as 1."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
        return int(found) if found in TURNS else 1
    except Exception:  # a damaged EXIF part is no reason to reject the image, and Pillow raises many kinds of errors
        return 1


def _require_known_greys(image: Image.Image) -> None:
    """Raise a `ValueError` for a 16-bit TIFF whose numbers Pillow hands on as they are, though 65,535 isn't white."""
    if isinstance(image, TiffImagePlugin.TiffImageFile) and image.mode.startswith("I;16"):
        bits, zero_is_white = image.tag_v2.get(BITS, (16,))[0], image.tag_v2.get(PHOTOMETRIC) == 0
        if bits != 16 or zero_is_white:
            kind = "with 0 for white" if zero_is_white else f"of {bits} bits"
            raise ValueError(f"its grey levels are numbers {kind}; save it with 8 or 16 bits, and 0 for black")


def _rgb(image: Image.Image, file_format: str | None) -> Image.Image:
    """Return an image of any mode as 8-bit RGB. ``file_format`` is the format of its file in Pillow's words."""
    if image.mode.startswith("I;16") or (image.mode == "I" and file_format == "PPM"):  # converting would clip at 255
        values, transparent = np.asarray(image), image.info.get("transparency")  # one level of a PNG file
        image = Image.fromarray((values / 257).round().astype(np.uint8))
        if isinstance(transparent, int):
            image.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
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
    """Return the quantisation tables and the subsampling of an opened JPEG file, None for another format."""
    if isinstance(image, JpegImagePlugin.JpegImageFile) and image.format == "JPEG":  # not MPO, a kind of JPEG
        return image.quantization, JpegImagePlugin.get_sampling(image)
    return None


@cache
def _encoder() -> tuple | None:
    """Return the `_settings` of a file that `encode` wrote."""
    return _settings(Image.open(io.BytesIO(encode(Image.new("RGB", (sources.SIZE, sources.SIZE))))))
