"""Explore images without a network: colour, spectrum, compression, duplicates."""

from collections import Counter

import numpy as np
import torch
from PIL import JpegImagePlugin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.nn import functional

from cifake_utils import sample
from cifake_utils.data import FAKE, REAL, Cifake, ImageSet
from cifake_utils.sources import LABELS, Entry, label_of, open_image

Z95 = 1.96  # half-width of a 95 % interval of a mean, in standard errors
CHUNK = 2000  # images that are transformed at once
EXACT = 250  # images whose squared pixels add up without rounding in float32, which is much faster than float64


def mean_difference(images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean REAL image minus the mean FAKE image, and the noise of this difference.

    The noise is the standard error ``(s²/n of REAL + s²/n of FAKE) ** 0.5`` of each pixel: how large a difference
    chance makes if both labels are drawn from the same images.

    Parameters
    ----------
    images : torch.Tensor
        uint8, shape (N, 3, H, W).
    labels : torch.Tensor
        int64, shape (N,), with at least two of each label.

    Returns
    -------
    difference, noise : torch.Tensor
        float64, shape (3, H, W), on the scale of the pixels.
    """
    means, variances = [], []
    for label in (REAL, FAKE):
        chosen = images[labels == label]
        total, squares = torch.zeros(2, *images.shape[1:], dtype=torch.float64)
        for part in chosen.split(EXACT):
            pixels = part.float()
            total += pixels.sum(0)
            squares += pixels.square().sum(0)
        count = len(chosen)
        means.append(total / count)
        variances.append((squares - total.square() / count) / (count - 1) / count)
    return means[REAL] - means[FAKE], (variances[REAL] + variances[FAKE]).sqrt()


def root_mean_square(values: torch.Tensor) -> float:
    """Return the root of the mean of the squares of all values: the size of a typical one, whatever its sign."""
    return float(values.square().mean().sqrt())


def shuffled_labels(images: ImageSet, seed: int) -> torch.Tensor:
    """Return the labels in a random order, int64 (N,). Every object class keeps as many of each label as it had."""
    rng = np.random.default_rng(seed)
    labels = images.labels.numpy().copy()
    for klass in np.unique(images.classes):
        rows = np.flatnonzero(images.classes.numpy() == klass)
        labels[rows] = rng.permutation(labels[rows])
    return torch.from_numpy(labels)


def shuffled_sizes(images: ImageSet, count: int) -> list[float]:
    """Return the `root_mean_square` of the difference of mean images for the first ``count`` shuffles of the labels.

    It is that of `mean_difference` with `shuffled_labels` of the seeds 0, 1, …, for all seeds at once.
    """
    real = torch.stack([shuffled_labels(images, seed) == REAL for seed in range(count)])
    totals = torch.zeros(2, count, *images.images.shape[1:], dtype=torch.float64)
    for part, chosen in zip(images.images.split(CHUNK), real.split(CHUNK, dim=1), strict=True):
        pixels = part.float().flatten(1)  # a chunk's pixels add up without rounding
        sums = torch.stack([chosen.float() @ pixels, (~chosen).float() @ pixels])
        totals += sums.view(totals.shape)
    means = totals / torch.stack([real.sum(1), (~real).sum(1)])[:, :, None, None, None]
    return [root_mean_square(difference) for difference in means[REAL] - means[FAKE]]


def mean_colours(images: torch.Tensor) -> torch.Tensor:
    """Return the mean red, green and blue of each uint8 image (N, 3, H, W): float32, (N, 3), 0 to 255."""
    return images.float().mean((2, 3))


def radial_power_spectrum(images: torch.Tensor) -> torch.Tensor:
    """Return the power of each image at each spatial frequency.

    The grey image is the mean of the channels, from 0 to 1. Its mean is removed, a Hann window is applied, and it is
    Fourier transformed. ``|F|²`` is averaged over rings around the frequency zero.

    Parameters
    ----------
    images : torch.Tensor
        uint8, shape (N, 3, S, S).

    Returns
    -------
    torch.Tensor
        float32, shape (N, S // 2): log10 of the mean power at 1 … S // 2 cycles per image.
    """
    return torch.cat([_radial_power_spectrum(part) for part in images.split(CHUNK)])


def _radial_power_spectrum(images: torch.Tensor) -> torch.Tensor:
    size = images.shape[-1]
    grey = images.float().mean(1) / 255
    window = torch.hann_window(size, periodic=False)
    grey = (grey - grey.mean((1, 2), keepdim=True)) * window[:, None] * window
    power = torch.fft.fft2(grey).abs().square().flatten(1)
    frequency = torch.fft.fftfreq(size, 1 / size)
    ring = torch.hypot(frequency[:, None], frequency).round().long().flatten()
    rings = torch.stack([power[:, ring == radius].mean(1) for radius in range(1, size // 2 + 1)], 1)
    return (rings + 1e-12).log10()


def blurred(images: torch.Tensor) -> torch.Tensor:
    """Return uint8 images (N, 3, H, W) that were halved in size and enlarged again, so that fine detail is lost."""
    parts = [functional.avg_pool2d(part.float(), 2) for part in images.split(CHUNK)]
    large = [functional.interpolate(part, scale_factor=2, mode="bilinear").round() for part in parts]
    return torch.cat([part.to(torch.uint8) for part in large])


def reduced_photographs(antialias: bool, count: int = 20, side: int = 256, seed: int = 0) -> torch.Tensor:
    """Return pieces of the sample's photographs, cut at ``side`` × ``side`` pixels and reduced to 32×32.

    Parameters
    ----------
    antialias : bool
        Whether the filter takes a weighted mean over all pixels that become one and over some around them. Without
        that, each new pixel comes from the two by two pixels around one point.
    count : int
        Number of pieces of each photograph.
    side : int
        At most 300 pixels, the height of the smallest photograph.
    seed : int
        Equal seeds cut equal pieces.

    Returns
    -------
    torch.Tensor
        uint8, shape (10 · count, 3, 32, 32): photograph after photograph.
    """
    rng, reduced = np.random.default_rng(seed), []
    for name in sample.PHOTOGRAPHS:
        pixels = torch.from_numpy(np.array(sample.photograph(name))).permute(2, 0, 1)
        height, width = pixels.shape[1:]
        pieces = []
        for _ in range(count):
            top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
            pieces.append(pixels[:, top : top + side, left : left + side])
        small = functional.interpolate(torch.stack(pieces).float(), size=32, mode="bilinear", antialias=antialias)
        reduced.append(small.round().clamp(0, 255).to(torch.uint8))
    return torch.cat(reduced)


def mean_and_interval(values: torch.Tensor) -> tuple[list[float], list[float]]:
    """Return the mean over the first axis of (N, D) values and the half-width of its 95 % interval."""
    error = values.std(0) / len(values) ** 0.5
    return values.mean(0).tolist(), (Z95 * error).tolist()


def exact_duplicates(found_in: list[ImageSet], images: ImageSet) -> np.ndarray:
    """Return which of ``images`` have the same pixels as an image of one of the sets ``found_in``: bool (N,)."""
    known = {pixels.tobytes() for part in found_in for pixels in part.images.numpy()}
    return np.array([pixels.tobytes() in known for pixels in images.images.numpy()])


def repeated(images: torch.Tensor) -> int:
    """Return how many images (N, 3, H, W) have the same pixels as an earlier one."""
    return len(images) - len({pixels.tobytes() for pixels in images.numpy()})


def jpeg_settings(entries: list[Entry]) -> dict[str, Counter]:
    """Count, for each label, the JPEG settings of encoded images: chroma subsampling and first table entries."""
    counts = {label: Counter() for label in LABELS}
    for entry in entries:
        with open_image(entry.content) as image:
            if not isinstance(image, JpegImagePlugin.JpegImageFile) or image.format != "JPEG":
                setting = image.format
            else:
                subsampling = {0: "4:4:4", 1: "4:2:2", 2: "4:2:0"}.get(JpegImagePlugin.get_sampling(image), "other")
                tables = "; ".join(" ".join(map(str, table[:4])) for table in image.quantization.values())
                setting = f"{subsampling}, tables start {tables}"
        counts[LABELS[label_of(entry.name)]][setting] += 1
    return counts


def probe(features: torch.Tensor, labels: torch.Tensor) -> Pipeline:
    """Return a logistic regression on a few numbers of each image, standardised: (N, D) and labels (N,)."""
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(features.numpy(), labels.numpy())


def probe_accuracy(train: torch.Tensor, val: torch.Tensor, cifake: Cifake) -> float:
    """Return the validation accuracy of `probe` on a few numbers of each image: (N, D) for each split."""
    return float(probe(train, cifake.train.labels).score(val.numpy(), cifake.val.labels.numpy()))


def called_fake(fitted: Pipeline, features: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """Return the share of the images of each label that a `probe` calls FAKE: numbers (N, D) and labels (N,)."""
    calls = fitted.predict(features.numpy()) == FAKE
    return {name: float(calls[labels.numpy() == label].mean()) for label, name in enumerate(LABELS)}


def facts(cifake: Cifake, entries: dict[str, list[Entry]]) -> dict:
    """Return everything that lesson 01 measures, as JSON types, for the sample or for CIFAKE."""
    splits = {"train": cifake.train, "val": cifake.val}
    colours = {split: mean_colours(images.images) for split, images in splits.items()}
    spectra = {split: radial_power_spectrum(images.images) for split, images in splits.items()}
    measured = {
        "data": cifake.source,
        "data_hash": cifake.hash,
        "images": len(cifake.train) + len(cifake.val),
        "split_sizes": {split: len(images) for split, images in cifake.splits.items()},
    }
    difference, noise = mean_difference(cifake.train.images, cifake.train.labels)
    shuffled, _ = mean_difference(cifake.train.images, shuffled_labels(cifake.train, seed=0))
    measured["mean_image"] = {
        "difference": root_mean_square(difference),
        "noise": root_mean_square(noise),
        "difference_shuffled": root_mean_square(shuffled),
        "brightness": {
            split: float(mean_difference(images.images, images.labels)[0].mean()) for split, images in splits.items()
        },
    }
    for name, values in (("colour", colours), ("spectrum", spectra)):
        measured[name] = {}
        for label, label_name in enumerate(LABELS):
            chosen = values["train"][cifake.train.labels == label]
            mean, half_width = mean_and_interval(chosen)
            measured[name][label_name] = {
                "mean": mean,
                "half_width": half_width,
                "deviation": chosen.std(0).tolist(),
            }
        measured[name]["probe_accuracy"] = probe_accuracy(values["train"], values["val"], cifake)
    fitted = probe(spectra["train"], cifake.train.labels)
    unsharp = radial_power_spectrum(blurred(cifake.val.images))
    measured["called_fake"] = {
        "unchanged": called_fake(fitted, spectra["val"], cifake.val.labels),
        "blurred": called_fake(fitted, unsharp, cifake.val.labels),
    }
    measured["duplicates"] = {}
    for split, others in (("val", [cifake.train]), ("test", [cifake.train, cifake.val])):
        images = cifake.splits[split]
        twice = exact_duplicates(others, images)
        measured["duplicates"][split] = {
            label_name: int(twice[images.labels.numpy() == label].sum()) for label, label_name in enumerate(LABELS)
        }
    measured["repeated"] = {
        label_name: repeated(cifake.train.images[cifake.train.labels == label])
        for label, label_name in enumerate(LABELS)
    }
    settings = {label: Counter() for label in LABELS}
    for items in entries.values():
        for label, counted in jpeg_settings(items).items():
            settings[label] += counted
    measured["jpeg"] = {label: dict(counted) for label, counted in settings.items()}
    return measured
