"""The embedded sample: a small stand-in for CIFAKE, made at first use from photographs that packages ship.

REAL tiles are cut from ten photographs. FAKE tiles are cut from the same photographs and rendered by a small
convolutional autoencoder: an encoder, a noisy latent with few dimensions, and a decoder that up-samples. The decoder is
the part of a latent diffusion model that leaves its fingerprint. The sample is for learning the tools. It is not
CIFAKE.
"""

import io
import shutil
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
import xxhash
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from cifake_utils import CifakeError, profiles
from cifake_utils.support import verified
from cifake_utils.support.files import clear_leftovers, locked, replacing
from cifake_utils.support.fingerprint import recipe_hash

ASSET = Path(__file__).parent / "assets" / "sample_renderer.safetensors"

SOURCES = {
    "astronaut": ("skimage", "data/astronaut.png"),
    "chelsea": ("skimage", "data/chelsea.png"),
    "coffee": ("skimage", "data/coffee.png"),
    "motorcycle": ("skimage", "data/motorcycle_left.png"),
    "rocket": ("skimage", "data/rocket.jpg"),
    "hubble": ("skimage", "data/hubble_deep_field.jpg"),
    "retina": ("skimage", "data/retina.jpg"),
    "china": ("sklearn", "datasets/images/china.jpg"),
    "flower": ("sklearn", "datasets/images/flower.jpg"),
    "hopper": ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
}
PHOTOGRAPHS = tuple(SOURCES)

VERSION = 1  # raise it when a change of the code below changes the tiles
MANIFEST = "checksums.json"
SIZE = 32
REGIONS = {"train": (0.0, 0.6), "val": (0.6, 0.8), "test": (0.8, 1.0)}  # from and to, as shares of the longer side
TILES = {"train": 60, "val": 20, "test": 20}  # tiles of each photograph and label
GAP = 8  # pixels between two regions, so that tiles of different parts don't touch
SIDES = (32, 48, 64)  # tiles are cut at these sizes and scaled to 32×32
# Standard deviation, on a scale to 255, of the colour channel that varies most. Tiles with less are too empty to show a
# difference between the labels.
LEAST_CONTRAST = 10
JPEG_QUALITY = 75  # CIFAKE's own quantisation table


class Renderer(nn.Module):
    """An autoencoder with an 8×8×6 latent from -1 to 1, to which Gaussian noise (σ = 0.1) is added.

    It maps images, float32 (N, 3, 32, 32) from 0 to 1, to images of the same shape. The output is not clamped.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(64, 6, 3, padding=1),
            nn.Tanh(),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(6, 64, 3, padding=1),
            nn.ReLU(),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.ReLU(),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(64, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 3, 3, padding=1),
        )

    def forward(self, images: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        latent = self.encoder(images)
        return self.decoder(latent + 0.1 * torch.randn(latent.shape, generator=generator))


def photograph(name: str) -> Image.Image:
    """Return one of `PHOTOGRAPHS` as an RGB image; raise a `CifakeError` if its package does not ship it."""
    package, path = SOURCES[name]
    file = files(package) / path
    if not file.is_file():
        raise CifakeError(
            f"The photograph {name} of the sample is not where {package} ships it ({file}). Install the versions "
            "that constraints.txt names: `pip install -r requirements.txt -c constraints.txt`."
        )
    return Image.open(io.BytesIO(file.read_bytes())).convert("RGB")


def region(size: tuple[int, int], part: str) -> tuple[int, int, int, int]:
    """Return the region of a photograph from which the tiles of ``part`` are cut: (left, top, right, bottom) in pixels.

    ``size`` is the width and height of the photograph. The regions are stripes that divide its longer side. Between two
    of them, `GAP` pixels belong to neither.
    """
    width, height = size
    longer = max(size)
    start, stop = (round(share * longer) for share in REGIONS[part])
    start += GAP if start else 0
    return (start, 0, stop, height) if width >= height else (0, start, width, stop)


def cut_tiles(photo: Image.Image, part: str, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return ``count`` tiles from the region of ``part``: uint8, shape (count, 32, 32, 3)."""
    left, top, right, bottom = region(photo.size, part)
    tiles = []
    while len(tiles) < count:
        side = int(rng.choice(SIDES))
        x, y = rng.integers(left, right - side + 1), rng.integers(top, bottom - side + 1)
        box = (int(x), int(y), int(x) + side, int(y) + side)
        tile = np.asarray(photo.resize((SIZE, SIZE), Image.Resampling.LANCZOS, box))
        if tile.std(axis=(0, 1)).max() >= LEAST_CONTRAST:
            tiles.append(tile)
    return np.stack(tiles)


@torch.inference_mode()
def render(tiles: np.ndarray, seed: int) -> np.ndarray:
    """Return tiles, uint8 (N, 32, 32, 3), as the autoencoder renders them, in the same shape and dtype."""
    renderer = Renderer()
    renderer.load_state_dict({name: value.float() for name, value in load_file(verified.shipped(ASSET)).items()})
    images = torch.from_numpy(tiles).permute(0, 3, 1, 2).float() / 255
    rendered = renderer(images, torch.Generator().manual_seed(seed)).clamp(0, 1)
    return (rendered * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def build() -> Path:
    """Return the folder of the sample: a tree like CIFAKE's on Kaggle, with a ``val`` part. Write it if it is missing.

    Object class k is photograph k of `PHOTOGRAPHS`. Every label, photograph and part has tiles of its own. Both labels
    have the same number of tiles, from the same JPEG encoder. If tiles were changed, all of them are made again.
    """
    recipe = {
        "version": VERSION,
        "renderer": verified.file_checksum(verified.shipped(ASSET)),
        "regions": REGIONS,
        "tiles": TILES,
        "cut": [SIZE, GAP, SIDES, LEAST_CONTRAST, JPEG_QUALITY],
        "photographs": SOURCES,
    }
    cache = profiles.runs_folder() / "cache"
    folder = cache / f"sample-{recipe_hash(recipe)}"
    if _is_whole(folder):
        return folder
    with locked(cache / "sample.lock"):  # a second process waits here and then finds the tiles
        if not _is_whole(folder):
            clear_leftovers(cache, "sample-*")
            if folder.exists():
                print(f"The tiles in {folder} are not those that were written there. They are made anew.")
                shutil.rmtree(folder)
            with replacing(folder) as partial:
                _write_all(partial)
                verified.save_json(partial / MANIFEST, {"tiles": _tiles_checksum(partial)})
    return folder


def _is_whole(folder: Path) -> bool:
    try:
        return verified.load_json(folder / MANIFEST) == {"tiles": _tiles_checksum(folder)}
    except (OSError, verified.DamagedFile):
        return False


def _tiles_checksum(folder: Path) -> str:
    """Return the checksum of the names and bytes of all tiles in a folder."""
    checksum = xxhash.xxh3_128()
    for path in sorted(folder.glob("*/*/*")):
        checksum.update(path.relative_to(folder).as_posix().encode())
        checksum.update(path.read_bytes())
    return checksum.hexdigest()


def _write_all(folder: Path) -> None:
    for klass, name in enumerate(PHOTOGRAPHS):
        photo = photograph(name)
        for seed, (part, count) in enumerate(TILES.items()):
            rng = np.random.default_rng([klass, seed])
            real, fake = np.split(cut_tiles(photo, part, 2 * count, rng), 2)
            for label, tiles in (("REAL", real), ("FAKE", render(fake, seed))):
                _write(folder / part / label, tiles, klass)


def _write(folder: Path, tiles: np.ndarray, klass: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    suffix = f" ({klass + 1})" if klass else ""
    for number, tile in enumerate(tiles):
        Image.fromarray(tile).save(folder / f"{number:04d}{suffix}.jpg", quality=JPEG_QUALITY)
