"""Explore images without a network: colour, spectrum, compression, duplicates."""

from collections import Counter

import numpy as np
import torch
from PIL import JpegImagePlugin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cifake_utils.data import Cifake, ImageSet
from cifake_utils.sources import LABELS, Entry, label_of, open_image

Z95 = 1.96  # half-width of a 95 % interval of a mean, in standard errors


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
    size = images.shape[-1]
    grey = images.float().mean(1) / 255
    window = torch.hann_window(size, periodic=False)
    grey = (grey - grey.mean((1, 2), keepdim=True)) * window[:, None] * window
    power = torch.fft.fft2(grey).abs().square().flatten(1)
    frequency = torch.fft.fftfreq(size, 1 / size)
    ring = torch.hypot(frequency[:, None], frequency).round().long().flatten()
    rings = torch.stack([power[:, ring == radius].mean(1) for radius in range(1, size // 2 + 1)], 1)
    return (rings + 1e-12).log10()


def mean_and_interval(values: torch.Tensor) -> tuple[list[float], list[float]]:
    """Return the mean over the first axis of (N, D) values and the half-width of its 95 % interval."""
    error = values.std(0) / len(values) ** 0.5
    return values.mean(0).tolist(), (Z95 * error).tolist()


def exact_duplicates(found_in: list[ImageSet], images: ImageSet) -> np.ndarray:
    """Return which of ``images`` have the same pixels as an image of one of the sets ``found_in``: bool (N,)."""
    known = {pixels.tobytes() for part in found_in for pixels in part.images.numpy()}
    return np.array([pixels.tobytes() in known for pixels in images.images.numpy()])


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


def probe_accuracy(train: torch.Tensor, val: torch.Tensor, cifake: Cifake) -> float:
    """Return the validation accuracy of a logistic regression on a few numbers of each image: (N, D) for each split."""
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return float(probe.fit(train.numpy(), cifake.train.labels.numpy()).score(val.numpy(), cifake.val.labels.numpy()))


def facts(cifake: Cifake, entries: dict[str, list[Entry]]) -> dict:
    """Return everything that lesson 01 measures, as JSON types, for the sample or for CIFAKE."""
    colours = {split: mean_colours(images.images) for split, images in cifake.splits.items()}
    spectra = {split: radial_power_spectrum(images.images) for split, images in cifake.splits.items()}
    measured = {"data": cifake.source, "data_hash": cifake.hash, "images": len(cifake.train) + len(cifake.val)}
    for name, values in (("colour", colours), ("spectrum", spectra)):
        measured[name] = {}
        for label, label_name in enumerate(LABELS):
            mean, half_width = mean_and_interval(values["train"][cifake.train.labels == label])
            measured[name][label_name] = {"mean": mean, "half_width": half_width}
        measured[name]["probe_accuracy"] = probe_accuracy(values["train"], values["val"], cifake)
    measured["duplicates"] = {}
    for split, others in (("val", [cifake.train]), ("test", [cifake.train, cifake.val])):
        images = cifake.splits[split]
        twice = exact_duplicates(others, images)
        measured["duplicates"][split] = {
            label_name: int(twice[images.labels.numpy() == label].sum()) for label, label_name in enumerate(LABELS)
        }
    settings = {label: Counter() for label in LABELS}
    for items in entries.values():
        for label, counted in jpeg_settings(items).items():
            settings[label] += counted
    measured["jpeg"] = {label: dict(counted) for label, counted in settings.items()}
    return measured
