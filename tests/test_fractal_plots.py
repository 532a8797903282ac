"""Figures of lessons 02 and 02b."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from cifake_utils.lessons import fractal_plots, plots, shapes


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def titles(figure):
    return [axes.get_title() for axes in figure.axes]


def test_covered_says_how_many_boxes_it_draws():
    mask = np.zeros((32, 64), bool)
    mask[:, :8] = True
    figure = fractal_plots.covered(mask, [8, 16])
    assert titles(figure) == [f"boxes of {size} pixels: {n} hold a part of the coast" for size, n in ((8, 4), (16, 2))]


def test_known_sets_are_named_with_their_dimension_and_can_be_seen():
    figure = fractal_plots.known_sets()
    assert len(figure.axes) == 8
    for axes in figure.axes:
        name, dimension = axes.get_title().split(": ")
        assert f"{shapes.draw(name).dimension:.3f}" == dimension
        assert axes.images[0].get_array().mean() > 0.005


def test_fewer_pixels_have_a_gradient_at_a_lower_temperature():
    values = torch.randn(16, 16, generator=torch.Generator().manual_seed(0))
    figure = fractal_plots.soft_counts(values, [0.5, 0.02])
    panels = [axes.images[0].get_array() for axes in figure.axes]  # row by row
    assert 0 <= panels[0].min() and panels[0].max() <= 1
    np.testing.assert_array_equal(panels[1] > 0.5, values.numpy() > 0)
    assert panels[2].mean() > 2 * panels[3].mean() > 0


def test_estimates_are_drawn_against_the_truth():
    (axes,) = fractal_plots.estimates([2.2, 2.8], {"good": [2.2, 2.8], "low": [2.1, 2.4]}).axes
    _, good, low = axes.lines
    assert [*good.get_xdata()] == [*good.get_ydata()] == [2.2, 2.8] and [*low.get_ydata()] == [2.1, 2.4]
    assert good.get_marker() != low.get_marker()


def test_map_effects_has_a_point_for_each_channel():
    stage = {"dimension": {"d": [0.5, -0.2, 0.1]}, "mean": {"d": [0.4, 0.3, -0.6]}}
    facts = {"data": "tiles", "map": {"stem": stage, "layer1": stage}}
    figure = plots.map_effects(facts, facts)
    assert titles(figure) == ["stem, tiles"] * 2 + ["layer1, tiles"] * 2
    points = figure.axes[0].lines[-1]
    assert list(points.get_xdata()) == [0.4, 0.3, -0.6] and list(points.get_ydata()) == [0.5, -0.2, 0.1]
