"""The picture shows the image, what speaks for the verdict, and the dimensions where the model uses them."""

import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from cifake_utils import batches, experiments, explanation
from cifake_utils.data import FAKE, REAL
from cifake_utils.lessons import plots


@pytest.mark.parametrize("name", ["resnet50_transfer", "resnet50_fractal_loss"])
def test_grad_cam_passes_a_frozen_backbone_and_shows_both_sides(name):
    model = experiments.build(name, "sample").eval()
    torch.manual_seed(0)
    image = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
    there = explanation.grad_cam(model, image)
    assert there.shape == (8, 8) and not there.requires_grad and there.min() < 0 < there.max()
    maps = {}
    hook = model.backbone.layer1.register_forward_hook(lambda _module, _inputs, output: maps.update(layer1=output))
    inputs = batches.normalise(image[None]).requires_grad_()
    odds = model(inputs).diff(dim=1).sum()
    (gradient,) = torch.autograd.grad(odds, maps["layer1"])
    hook.remove()
    expected = (gradient.mean((2, 3), keepdim=True) * maps["layer1"]).sum(1)[0]
    assert torch.allclose(there, expected, atol=1e-5)
    both = explanation.grad_cam(model, image, mirror_average=True)
    back = explanation.grad_cam(model, image.flip(2)).flip(1)
    assert torch.allclose(both, (there + back) / 2, atol=1e-5)


IMAGE = torch.zeros(3, 32, 32, dtype=torch.uint8)
EVIDENCE = torch.zeros(8, 8)
EVIDENCE[0, 0], EVIDENCE[7, 7] = 2, -1


@pytest.mark.parametrize(("called", "name", "place"), [(FAKE, "FAKE", (0, 0)), (REAL, "REAL", (7, 7))])
def test_only_what_speaks_for_the_verdict_is_marked_in_its_colour(called, name, place):
    figure = explanation.picture(IMAGE, r"$\frac{1$ and $x$", called, EVIDENCE)
    figure.savefig(io.BytesIO())  # would raise if the title were read as a formula
    plain, overlay = figure.axes
    assert plain.images[0].get_array().shape == (32, 32, 3)
    grey, shown = overlay.images
    assert shown.get_extent() == grey.get_extent()
    marked = np.asarray(shown.get_array())
    assert np.argwhere(marked > 0).tolist() == [list(place)] and marked[place] == 1
    assert shown.get_cmap()(1.0)[:3] == pytest.approx(plots.COLOURS[name], abs=0.01)
    assert f"marks what speaks for {name}" in figure.get_supxlabel().replace("\n", " ")
    plt.close(figure)


def test_flat_windows_have_no_dimension():
    image = IMAGE.clone()
    image[:, :16] = torch.randint(0, 256, (16, 32), dtype=torch.uint8)
    figure = explanation.picture(image, "title", REAL, EVIDENCE, torch.full((22, 22), 2.5))
    drawn = figure.axes[2].images[0]
    assert list(drawn.get_extent()) == [4.5, 26.5, 26.5, 4.5]
    mask = np.ma.getmaskarray(drawn.get_array())
    assert mask[16:].all() and not mask[:16].any()  # windows that begin in row 16 or later lie in the black half
    assert {panel.get_xlim() for panel in figure.axes[:3]} == {(-0.5, 31.5)}
    plt.close(figure)


def test_without_a_verdict_there_is_only_the_image():
    figure = explanation.picture(IMAGE, "title", None, EVIDENCE, torch.full((22, 22), 2.5))
    assert len(figure.axes) == 1 and "no verdict" in figure.get_supxlabel()
    plt.close(figure)
