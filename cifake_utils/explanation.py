"""Show what a model sees of an image, and which parts of it speak for the model's verdict."""

import textwrap
from typing import cast

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
import torch
from captum.attr import LayerGradCam
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from torch.nn import functional as F

from cifake_utils import models
from cifake_utils.batches import normalise
from cifake_utils.data import FAKE, LABELS, REAL

COLOURS = {REAL: "Blue", FAKE: "Orange"}  # those of the two labels in every figure of the lessons
FLAT = 1.0  # grey levels; where the values of a window vary less (standard deviation), its dimension says nothing
NO_VERDICT = "There is no verdict, so nothing is marked."
MARKED = "{colour} marks what speaks for {label}, roughly (Grad-CAM of layer1)."
ROUGH = "Dimension: how rough the grey values of each {window}×{window} window are (2 smooth, 3 rough). Flat: white."


def grad_cam(model: models.Detector, image: torch.Tensor, mirror_average: bool = False) -> torch.Tensor:
    """Return which parts of an image speak for FAKE (above 0) and which for REAL (below 0), according to a detector.

    This is Grad-CAM, the gradient-weighted class activation map, of the log odds of FAKE (Selvaraju et al., *Grad-CAM:
    Visual Explanations from Deep Networks via Gradient-based Localization*, ICCV 2017). The final ReLU is left out, so
    that the map shows both sides. It is the map of layer1, which has 8×8 pixels for an image of 32×32, or 16×16 where
    the stem takes steps of one pixel. The last map, which Grad-CAM usually takes, has one pixel or four. Much of the
    network comes after layer1, so take the map as a hint.

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
        float32 (H, W), as large as the map of layer1.
    """
    cam = LayerGradCam(lambda inputs: model(inputs).diff(dim=1)[:, 0], model.backbone.layer1)
    sides = torch.stack([image, image.flip(2)]) if mirror_average else image[None]
    maps = cast(torch.Tensor, cam.attribute(normalise(sides)))[:, 0].detach()
    return (maps[0] + maps[1].flip(1)) / 2 if mirror_average else maps[0]


def picture(
    image: torch.Tensor,
    title: str,
    called: int | None = None,
    evidence: torch.Tensor | None = None,
    dimensions: torch.Tensor | None = None,
    limits: str = "",
) -> Figure:
    """Show an image, which of its parts speak for the verdict, and how rough each part is.

    Parameters
    ----------
    image : torch.Tensor
        uint8 (3, 32, 32).
    title : str
        Shown as it is. A ``$`` does not start a formula.
    called : int, optional
        The verdict, `REAL` or `FAKE`. Without one nothing but the image is shown.
    evidence : torch.Tensor, optional
        What `grad_cam` returns: (H, W), above 0 for FAKE, below 0 for REAL. What speaks for the verdict is shown in the
        verdict's colour, enlarged over the whole image.
    dimensions : torch.Tensor, optional
        What `fractal.local_dimensions` returns: (h, w), the dimensions of the windows that fit into the image. Where
        the model does not use dimensions, leave it out.
    limits : str, optional
        What the picture does not show. Stands below it.
    """
    shown = [panel for panel in (evidence, dimensions) if panel is not None] if called is not None else []
    size = image.shape[-1]
    count = 1 + len(shown)
    figure, panels = plt.subplots(1, count, figsize=(3.2 * count, 4.2), squeeze=False, layout="constrained")
    panels, captions = list(panels[0]), []
    panels[0].imshow(image.permute(1, 2, 0).numpy())
    panels[0].set_title("what the model sees")
    if called is None:
        captions.append(NO_VERDICT)
    elif evidence is not None:
        _overlay(panels[1], image, evidence, called)
        captions.append(MARKED.format(label=LABELS[called], colour=COLOURS[called]))
    if called is not None and dimensions is not None:
        _roughness(panels[-1], image, dimensions)
        captions.append(ROUGH.format(window=size - dimensions.shape[-1] + 1))
    captions += [limits] if limits else []
    for panel in panels:
        panel.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), xticks=[], yticks=[])
    letters = 42 * len(panels)
    figure.suptitle(textwrap.fill(title, letters), parse_math=False, fontsize=11)
    caption = "\n".join(textwrap.fill(line, letters + 8) for line in captions)
    figure.supxlabel(caption, fontsize=9)
    return figure


def _overlay(panel, image: torch.Tensor, evidence: torch.Tensor, called: int) -> None:
    """Draw what speaks for the verdict over the grey image."""
    size = image.shape[-1]
    colour = sns.color_palette("colorblind")[0 if called == REAL else 1]  # as in every figure of the lessons
    speaks = (evidence if called == FAKE else -evidence).clamp(min=0)
    colours = LinearSegmentedColormap.from_list("evidence", [(*colour, 0.0), (*colour, 0.85)])
    panel.imshow(image.float().mean(0).numpy(), cmap="gray", vmin=0, vmax=255)
    panel.imshow(
        (speaks / speaks.max().clamp(min=1e-12)).numpy(),
        cmap=colours,
        vmin=0,
        vmax=1,
        extent=(-0.5, size - 0.5, size - 0.5, -0.5),
        interpolation="bilinear",
    )
    panel.set_title(f"what speaks for {LABELS[called]}")


def _roughness(panel, image: torch.Tensor, dimensions: torch.Tensor) -> None:
    """Draw the dimensions of the windows. Windows that are flat stay white."""
    size, inner = image.shape[-1], dimensions.shape[-1]
    window, margin = size - inner + 1, (size - inner) / 2 - 0.5
    grey = image.float().mean(0)[None, None]
    mean = F.avg_pool2d(grey, window, 1)[0, 0]
    deviation = (F.avg_pool2d(grey.square(), window, 1)[0, 0] - mean.square()).clamp(min=0).sqrt()
    place = (margin, margin + inner, margin + inner, margin)
    values = np.ma.masked_array(dimensions.numpy(), (deviation < FLAT).numpy())
    drawn = panel.imshow(values, cmap="viridis", vmin=2, vmax=3, extent=place)
    panel.figure.colorbar(drawn, ax=panel, ticks=[2, 2.5, 3], shrink=0.8)
    panel.set_title("dimension")
