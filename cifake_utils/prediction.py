"""Ask a trained model about images from elsewhere: single images with a picture each, or a folder as a whole."""

import itertools
import os
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import cast

import matplotlib.pyplot as plt
import seaborn as sns
import torch
from captum.attr import LayerGradCam
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from cifake_utils import (
    CifakeError,
    data,
    data_sets,
    evaluation,
    experiments,
    fractal,
    images,
    models,
    profiles,
    records,
)
from cifake_utils.batches import normalise
from cifake_utils.data import FAKE, LABELS, REAL
from cifake_utils.support import filenames, progress
from cifake_utils.support.files import replacing

AT_ONCE = 32  # images that are read and scored together; with more of them the first row would take longer
PREPARED = (
    "Every image was turned upright, laid on white where transparent, cut to the square in its middle, scaled to "
    "32×32 RGB and compressed as CIFAKE's files are (JPEG, quality 75, 4:2:0), so that all have the same size and the "
    "same last compression. A JPEG that was like CIFAKE's already was left as it is; any other has been compressed "
    "twice, and traces of that, and of the scaling, may remain."
)


def grad_cam(model: models.Detector, image: torch.Tensor, mirror_average: bool = False) -> torch.Tensor:
    """Return which parts of an image speak for FAKE (above 0) and which for REAL (below 0), according to a detector.

    This is Grad-CAM, the gradient-weighted class activation map, of the log odds of FAKE (Selvaraju et al., *Grad-CAM:
    Visual Explanations from Deep Networks via Gradient-based Localization*, ICCV 2017). The final ReLU is left out, so
    that the map shows both sides. It is the map of layer1, which has 8×8 pixels for an image of 32×32. The last map,
    which Grad-CAM usually takes, has a single pixel. Much of the network comes after layer1, so take the map as a hint.

    Parameters
    ----------
    model : Detector
        In eval mode, on the CPU. Its backbone may be frozen.
    image : torch.Tensor
        uint8 (3, 32, 32).
    mirror_average : bool
        Whether to return the mean of the image's map and the map of its mirror image, mirrored back.

    Returns
    -------
    torch.Tensor
        float32 (8, 8).
    """
    cam = LayerGradCam(lambda inputs: model(inputs).diff(dim=1)[:, 0], model.backbone.layer1)
    sides = torch.stack([image, image.flip(2)]) if mirror_average else image[None]
    maps = cast(torch.Tensor, cam.attribute(normalise(sides)))[:, 0].detach()
    return (maps[0] + maps[1].flip(1)) / 2 if mirror_average else maps[0]


def predict(
    paths: Sequence[Path | str],
    name: str | None = None,
    folder: Path | str | None = None,
    write: Callable[[str], object] = print,
) -> list[str]:
    """Score image files with the reader's best finished run and draw a picture of each.

    Parameters
    ----------
    paths : sequence of Path or str
    name : str, optional
        The experiment whose run is used; default: the best of all, as `experiments.trained` chooses it.
    folder : Path or str, optional
        The folder for the pictures; default: ``predictions`` among the runs of the active profile.
    write : callable
        Gets the lines of the report, each as soon as it is known: the model, a table, and what the numbers do not say.
        A row of the table gives P(FAKE) after scaling by the temperature that fits the validation images, P(FAKE) from
        the model itself, the label, and the path of the picture. If no file can be read, there is no report.

    Returns
    -------
    list of str
        What is wrong with each file that could not be read.

    Raises
    ------
    CifakeError
        ``folder`` is a file, or there is no suitable run.
    """
    profile = profiles.active()
    files = list(dict.fromkeys(map(Path, paths)))
    folder = Path(folder or profile.runs / "predictions")
    if folder.exists() and not folder.is_dir():
        raise CifakeError(
            f"{filenames.escaped(folder)} is a file. Expected the name of a folder, old or new, to write pictures into."
        )
    # A picture may replace an older picture, but none of the images to score.
    there = os.path.realpath(folder)
    taken = {filenames.same(path.name) for path in files if os.path.realpath(path.parent) == there}
    width = max(len("image"), *(len(filenames.shown(path)) for path in files))
    problems: list[str] = []
    batches = _readable(files, problems)
    first = next(batches, None)
    if first is None:
        return problems
    model, record = experiments.trained(name, profile)
    temperature = evaluation.fit_temperature(record.probabilities["val"], record.labels["val"])
    for line in (_about(record, temperature), "", f"{'image':<{width}}  P(FAKE)  unscaled  called  picture"):
        write(line)
    with progress.bar(desc="predicting", total=len(files), shown=len(files) > 1) as bar:
        for found in itertools.chain([first], batches):
            bar.total = len(files) - len(problems)
            pixels = torch.stack(list(found.values()))
            raw = experiments.predict_images({record.name: (model, record)}, pixels, profile.accelerator())[record.name]
            scaled = evaluation.with_temperature(raw, temperature)
            for path, image, p, p_raw in zip(found, pixels, scaled, raw, strict=True):
                picture = folder / filenames.picture(path.name, taken)
                _draw(picture, model, record, image, f"{filenames.shown(path.name, 60)}: P(FAKE) = {p:.3f}")
                called = LABELS[FAKE if p_raw > 0.5 else REAL]
                row = f"{filenames.shown(path):<{width}}  {p:>7.3f}  {p_raw:>8.3f}  {called:<6}  "
                with bar.external_write_mode():  # hides the bar in a terminal meanwhile
                    write(row + filenames.escaped(picture))
                bar.update()
    write("")
    write(_filled(data_sets.get(record.data).limits))
    return problems


def _readable(paths: Sequence[Path], problems: list[str]) -> Iterator[dict[Path, torch.Tensor]]:
    """Yield images, some at a time. Add to ``problems`` what is wrong with those that can't be read."""
    for start in range(0, len(paths), AT_ONCE):
        part = paths[start : start + AT_ONCE]
        results = dict(zip(part, images.read_all(part), strict=True))
        problems += [result for result in results.values() if isinstance(result, str)]
        found = {path: result for path, result in results.items() if not isinstance(result, str)}
        if found:
            yield found


def _draw(path: Path, model: models.Detector, record: records.Record, image: torch.Tensor, title: str) -> None:
    """Write the picture of one image, uint8 (3, 32, 32)."""
    evidence = grad_cam(model, image, record.hyperparameters.get("mirror_average", False))
    dimensions = fractal.local_dimensions(image.float().mean(0))
    figure = picture(image, evidence, dimensions, f"{title}, {record.name}")
    with replacing(path) as partial, warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", UserWarning
        )  # about letters that matplotlib's font lacks, which are drawn as boxes
        figure.savefig(partial, dpi=120)
    plt.close(figure)


def picture(image: torch.Tensor, evidence: torch.Tensor, dimensions: torch.Tensor, title: str) -> Figure:
    """Show an image, which of its parts speak for FAKE and for REAL, and how rough each part is.

    Parameters
    ----------
    image : torch.Tensor
        uint8 (3, 32, 32).
    evidence : torch.Tensor
        What `grad_cam` returns: (H, W), above 0 for FAKE, below 0 for REAL. It is enlarged over the whole image.
    dimensions : torch.Tensor
        What `fractal.local_dimensions` returns: (h, w), the dimensions of the windows that fit into the image.
    title : str
        Shown as it is. A ``$`` does not start a formula.
    """
    figure, (plain, overlay, rough) = plt.subplots(1, 3, figsize=(9.5, 3.4), layout="constrained")
    size, inner = image.shape[-1], dimensions.shape[-1]
    extent, margin = (-0.5, size - 0.5, size - 0.5, -0.5), (size - inner) / 2 - 0.5
    plain.imshow(image.permute(1, 2, 0).numpy())
    plain.set_title("what the model sees")
    overlay.imshow(image.float().mean(0).numpy(), cmap="gray", vmin=0, vmax=255)
    blue, orange = sns.color_palette("colorblind")[:2]  # the colours of REAL and FAKE in every figure of the lessons
    colours = LinearSegmentedColormap.from_list("evidence", [blue, (1, 1, 1), orange])
    most = max(float(evidence.abs().max()), 1e-12)
    shown = overlay.imshow(
        evidence.numpy(), cmap=colours, vmin=-most, vmax=most, alpha=0.6, extent=extent, interpolation="bilinear"
    )
    bar = figure.colorbar(shown, ax=overlay, ticks=[-most, 0, most], shrink=0.8)
    bar.ax.set_yticklabels(["REAL", "0", "FAKE"])
    overlay.set_title(f"Grad-CAM, {evidence.shape[-2]}×{evidence.shape[-1]} map")
    place = (margin, margin + inner, margin + inner, margin)
    shown = rough.imshow(dimensions.numpy(), cmap="viridis", vmin=2, vmax=3, extent=place)
    figure.colorbar(shown, ax=rough, ticks=[2, 2.5, 3], shrink=0.8)
    rough.set_title(f"dimension of {size - inner + 1}×{size - inner + 1} windows")
    for panel in (plain, overlay, rough):
        panel.set(xlim=extent[:2], ylim=extent[2:], xticks=[], yticks=[])
    figure.suptitle(title, parse_math=False)
    return figure


def evaluate(
    fake: Path | str,
    real: Path | str | None = None,
    name: str | None = None,
    write: Callable[[str], object] = print,
) -> list[str]:
    """Score a folder of FAKE images of any kind against REAL ones.

    Parameters
    ----------
    fake : Path or str
        Folder of images, all of which are FAKE.
    real : Path or str, optional
        Folder of REAL images; default: the REAL images of the active profile's test split.
    name : str, optional
        The experiment whose run is used; default: the best of all, as `experiments.trained` chooses it.
    write : callable
        Gets the lines of the report: the model, how the images were converted, and the numbers of
        `evaluation.against`.

    Returns
    -------
    list of str
        What is wrong with each file that could not be read.

    Raises
    ------
    CifakeError
        A folder has no image that can be read, or there is no suitable run.
    """
    profile = profiles.active()
    fake_images, _, problems = images.read_folder(fake)
    if real is None:
        test = data.load(profile).test
        real_images, real_from = test.images[test.labels == REAL], f"the REAL test images of {profile.name}"
    else:
        real_images, _, others = images.read_folder(real)
        real_from, problems = filenames.escaped(real), problems + others
    model, record = experiments.trained(name, profile)
    together = torch.cat([real_images, fake_images])
    p = experiments.predict_images({record.name: (model, record)}, together, profile.accelerator())[record.name]
    result = evaluation.against(p[: len(real_images)], p[len(real_images) :])
    rows = (
        (f"{result['fake_images']:,} FAKE images called FAKE", "detected", f"in {filenames.escaped(fake)}"),
        (f"{result['real_images']:,} REAL images called FAKE", "false_alarms", f"in {real_from}"),
        ("AUROC", "auroc", "of these FAKE against these REAL images"),
    )
    width = max(len(what) for what, *_ in rows)
    lines = [
        f"{what:<{width}}  {result[key]:.4f} ({result[f'{key}_low']:.4f} to {result[f'{key}_high']:.4f})  {where}"
        for what, key, where in rows
    ]
    note = "An image is called FAKE where P(FAKE) is above 0.5; in brackets 95 % intervals."
    for line in (_about(record), _filled(PREPARED), "", *lines, "", note, _filled(data_sets.get(record.data).limits)):
        write(line)
    return problems


def _about(record: records.Record, temperature: float | None = None) -> str:
    """Return a line that names the model, with its accuracy on the validation images."""
    scaled = f"; temperature {temperature:.2f}" if temperature else ""
    accuracy = record.metrics["val"]["accuracy"]
    return f"{record.name}, trained on {record.data} (validation accuracy {accuracy:.3f}{scaled})"


def _filled(text: str) -> str:
    return textwrap.fill(text, 100, break_on_hyphens=False)
