"""Figures of lesson 05."""

import matplotlib.pyplot as plt
import numpy as np
import torch

from cifake_utils.lessons import fractal_layer


def test_sets_show_what_is_above_the_threshold():
    maps = torch.tensor([[[0.0, 1.0], [2.0, 3.0]], [[5.0, 5.0], [0.0, 0.0]]])
    figure = fractal_layer.sets(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), maps, 1.5)
    shown = [axes.images[0].get_array() for axes in figure.axes]
    assert shown[4].tolist() == [[False, False], [True, True]] and shown[5].tolist() == [[True, True], [False, False]]
    assert [axes.get_title() for axes in figure.axes[:2]] == ["A", "B"]
    plt.close(figure)


def test_lines_have_the_slope_of_their_points():
    figure = fractal_layer.lines({"filled": [256, 64, 16, 4], "row": [16, 8, 4, 2]}, [1, 2, 4, 8])
    assert [axes.get_title() for axes in figure.axes] == ["filled: slope 2.00", "row: slope 1.00"]
    filled, fitted, counted = figure.axes[0].lines
    np.testing.assert_allclose(filled.get_ydata(), counted.get_ydata())
    np.testing.assert_allclose(fitted.get_ydata(), [8, 6, 4, 2])
    plt.close(figure)


def test_lines_of_following_bound_what_eight_pixels_allow():
    figure = fractal_layer.following(np.array([0.5]), np.array([1.5]))
    upper, lower, points = figure.axes[0].lines
    np.testing.assert_allclose((upper.get_ydata()[-1], lower.get_ydata()[-1]), (3, 2))
    assert points.get_ydata().tolist() == [1.5]
    plt.close(figure)
