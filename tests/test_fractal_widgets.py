import ipywidgets
import numpy as np
import pytest
import torch

from cifake_utils import data, fractal, models
from cifake_utils.lessons import fractal_widgets, shapes


def controls(box):
    return {control.description: control for control in box.children[:-2]}


def buttons(box):
    return {button.description: button for button in box.children[1].children}


def text_of(figure):
    return [text.get_text() for axes in figure.axes for text in (axes.title, *axes.texts)]


@pytest.mark.parametrize("size", [1, 5, 8, 64])
def test_drawn_boxes_are_the_counted_ones(size):
    mask = shapes.draw("Koch").mask
    picture = fractal_widgets.boxes_drawn(mask, size)
    coloured = (picture != 255).any(-1)
    assert picture.shape == (*mask.shape, 3) and coloured[mask].all()
    tops, lefts = (range(0, side, size) for side in mask.shape)
    drawn = sum(coloured[top : top + size, left : left + size].any() for top in tops for left in lefts)
    assert drawn == fractal.box_counts(mask, [size])[0]


def test_explorer_says_and_draws_what_it_counts():
    figure, sentence = fractal_widgets.render_boxes("Koch", threshold=0.5, size=27)
    mask = shapes.draw("Koch").mask
    assert sentence.startswith(f"{fractal.box_counts(mask, [27])[0]} boxes of 27×27 pixels")
    assert f"{fractal.box_counting_dimension(mask):.3f}" in sentence and "1.262" in sentence
    counted, fitted, shown = figure.axes[1].lines
    assert shown.get_xdata() == -np.log(27)
    assert len(counted.get_xdata()) == len(fitted.get_xdata()) == 7


def test_one_box_is_not_boxes():
    _, sentence = fractal_widgets.render_boxes("point", threshold=0.5, size=8)
    assert sentence.startswith("1 box of 8×8 pixels.")


def test_controls_stand_beside_the_picture():
    box = fractal_widgets.box_counting_explorer()
    *fields, picture, message = box.children
    assert box.layout.display == "grid" and [field.layout.grid_area for field in fields] == ["1 / 1", "2 / 1", "3 / 1"]
    assert picture.layout.grid_area == "1 / 2 / 5 / 3" and message.layout.grid_area == "5 / 1 / 6 / 3"


def test_threshold_decides_on_photographs_and_may_empty_them():
    _, low = fractal_widgets.render_boxes("astronaut", threshold=0.2, size=1)
    _, high = fractal_widgets.render_boxes("astronaut", threshold=0.8, size=1)
    assert low != high
    figure, sentence = fractal_widgets.render_boxes("astronaut", threshold=1.0, size=1)
    assert "empty" in sentence and not figure.axes[1].lines


def test_explorer_follows_its_sliders():
    box = fractal_widgets.box_counting_explorer()
    *_, picture, message = box.children
    before = bytes(picture.value), message.value
    assert controls(box)["box size"].value == 32
    controls(box)["box size"].value = 8
    assert bytes(picture.value) != before[0] and message.value != before[1]
    assert bytes(picture.value).startswith(b"\x89PNG") and "8×8" in message.value


def test_contour_line_of_a_smooth_slope_is_a_line():
    slope = np.add.outer(np.arange(128.0), np.zeros(128))
    assert fractal_widgets.contour_dimension(slope) == pytest.approx(2, abs=0.01)


def test_roughness_shows_three_estimates_beside_the_truth():
    figure, sentence = fractal_widgets.render_roughness(hurst=0.3)
    surface = fractal_widgets.brownian(0.3, 0)
    for name, estimator in fractal_widgets.SURFACE_ESTIMATORS.items():
        assert f"{name} {estimator(surface):.2f}" in sentence and name in text_of(figure)
    *estimates, truth = figure.axes[2].lines
    assert len(estimates) == 3 and truth.get_xdata()[0] == pytest.approx(2.7)


def test_rougher_surfaces_measure_higher():
    for estimator in fractal_widgets.SURFACE_ESTIMATORS.values():
        assert estimator(fractal_widgets.brownian(0.2, 0)) > estimator(fractal_widgets.brownian(0.8, 0)) + 0.2


def test_pairs_are_neither_too_easy_nor_too_hard():
    pairs = [fractal_widgets.draw_pair(seed) for seed in range(50)]
    assert len(set(pairs)) > 30
    assert all(0.09 < abs(first - second) < 0.31 for first, second in pairs)


def test_a_pair_hides_its_numbers_until_it_is_answered():
    figure, question = fractal_widgets.render_pair((0.3, 0.5), seed=0)
    assert text_of(figure) == ["A", "B"] and question == "Which one is rougher?"
    figure, verdict = fractal_widgets.render_pair((0.3, 0.5), seed=0, answer="A")
    assert text_of(figure)[0] == "A: H = 0.30, dimension 2.70" and verdict.startswith("Right: A has the smaller H")
    assert fractal_widgets.render_pair((0.3, 0.5), seed=0, answer="B")[1].startswith("No: A has the smaller H")


def test_the_game_reveals_and_counts():
    box = fractal_widgets.which_is_rougher(seed=0)
    first, second = fractal_widgets.draw_pair(0)
    rougher = "A" if first < second else "B"
    asked = bytes(box.children[0].value)
    buttons(box)[f"{rougher} is rougher"].click()
    assert "1 of 1 right" in box.children[-1].value and bytes(box.children[0].value) != asked
    assert buttons(box)["A is rougher"].disabled and buttons(box)["B is rougher"].disabled
    buttons(box)["new pair"].click()
    assert box.children[-1].value == "Which one is rougher? 1 of 1 right so far."
    assert not buttons(box)["A is rougher"].disabled


def test_map_view_measures_the_set_it_shows():
    images = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    maps = torch.zeros(2, 8, 8)
    maps[0, :, :4] = 1
    figure, sentence = fractal_widgets.render_map(images, maps, threshold=0.5)
    assert sentence == "REAL: boxes 32, 8, 2, dimension 2.00; FAKE: boxes 0, 0, 0, dimension 0.00."
    assert {"REAL image", "FAKE image", "above: dimension 2.00", "above: dimension 0.00"} <= set(text_of(figure))


def test_map_widget_offers_the_channels_of_its_stage():
    torch.manual_seed(0)
    layers = {"stem": fractal.FractalDimension(64, hard=True), "layer1": fractal.FractalDimension(256, hard=True)}
    box = fractal_widgets.inside_the_network(models.Backbone().eval(), layers, data.load())
    assert isinstance(box, ipywidgets.VBox)
    panel = controls(box)
    before = bytes(box.children[-2].value)
    panel["threshold"].value = -1.5
    assert bytes(box.children[-2].value) != before
    assert panel["channel"].max == 63
    panel["stage"].value = "layer1"
    panel["channel"].value = 255
    panel["stage"].value = "stem"
    assert panel["channel"].value == 63
