import base64

import ipywidgets
import numpy as np
import pytest
import torch

from cifake_utils import CifakeError, data, evaluation, rotation
from cifake_utils.lessons import widgets


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch):
    """Clicks of a test follow each other at once, and all of them count."""
    monkeypatch.setattr(widgets, "PAUSE", 0)


@pytest.fixture(scope="module")
def images():
    return data.load("sample").test


def turned_back(state):
    return rotation.rotate(state.images.images, -state.images.labels % len(rotation.ANGLES))


def test_turns_are_drawn_evenly_and_named_by_where_the_top_went(images):
    state = widgets.draw_turns(images, 400, seed=0)
    assert (state.images.labels.bincount(minlength=4) > 70).all()
    originals = {name: image for name, image in zip(images.names, images.images, strict=True)}
    for name, image in zip(state.images.names, turned_back(state), strict=True):
        assert torch.equal(image, originals[name])

    white_top = torch.zeros(4, 3, 32, 32, dtype=torch.uint8)
    white_top[:, :, 0] = 255
    four = data.ImageSet(white_top, torch.zeros(4, dtype=torch.long), torch.zeros(4), list("abcd"))
    edges = {"top (0°)": (0, 16), "left (90°)": (16, 0), "bottom (180°)": (31, 16), "right (270°)": (16, 31)}
    for seed in range(5):
        state = widgets.draw_turns(four, 4, seed)
        for image, turn in zip(state.images.images, state.images.labels.tolist(), strict=True):
            row, column = edges[state.choices[turn]]
            assert image[0, row, column] == 255


def test_turns_are_drawn_where_the_light_comes_from_above():
    dark, light = torch.zeros(3, 16, 32, dtype=torch.uint8), torch.full((3, 16, 32), 200, dtype=torch.uint8)
    above = torch.cat([light, dark], 1)
    known = torch.stack([above, above.flip(1), above.transpose(1, 2), above // 2])
    assert widgets.light_from_above(known).tolist() == [200, -200, -200, 100]
    many = known[torch.tensor([0] + 3 * [3] + 36 * [1])]
    four = data.ImageSet(many, torch.zeros(40, dtype=torch.long), torch.zeros(40), [str(k) for k in range(40)])
    names = {name for seed in range(40) for name in widgets.draw_turns(four, 1, seed).images.names}
    assert names == {"0", "1", "2", "3"}


def test_too_few_images_for_a_quiz_of_turns(images):
    with pytest.raises(CifakeError, match="needs 5 images, and there are 4"):
        widgets.draw_turns(images.subset(np.arange(4)), 5, seed=0)


def test_turn_quiz_counts_and_ends(images):
    state = widgets.draw_turns(images, 4, seed=1)
    truth = state.images.labels.tolist()
    assert len(widgets.render_quiz(state).axes) == 1 and state.message() == "Image 1 of 4, 0 right so far."
    state.answers += [truth[0], (truth[1] + 1) % 4, truth[2], (truth[3] + 2) % 4]
    assert state.finished and state.score == 2
    assert state.message().startswith("2 of 4 right.") and "guessing gives 25 %." in state.message()
    titles = [axes.get_title() for axes in widgets.render_quiz(state).axes if axes.get_title()]
    sides, given = widgets.SIDES, state.answers
    wrong = [f"{sides[truth[place]]} ✗\nyou: {sides[given[place]]}" for place in (1, 3)]
    assert titles == wrong + [f"{sides[truth[place]]} ✓" for place in (0, 2)]


def test_turn_widget_answers_to_its_buttons(images):
    box = widgets.which_way_up(images, count=2, seed=3)
    picture, buttons, _, message = box.children
    *sides, again = buttons.children
    truth = widgets.draw_turns(images, 2, seed=3).images.labels.tolist()
    assert [button.description for button in sides] == list(widgets.SIDES)
    first = picture.value
    sides[truth[0]].click()
    assert picture.value != first and message.value == "Image 2 of 2, 1 right so far."
    sides[(truth[1] + 1) % 4].click()
    assert all(button.disabled for button in sides) and message.value.startswith("1 of 2 right.")
    again.click()
    assert not sides[0].disabled and message.value == "Image 1 of 2, 0 right so far."


def test_turn_widget_answers_to_keys(images):
    _, buttons, field, message = widgets.which_way_up(images, count=3, seed=3).children
    truth = widgets.draw_turns(images, 3, seed=3).images.labels.tolist()
    field.value = "7"  # no answer
    assert field.value == "" and message.value == "Image 1 of 3, 0 right so far."
    for turn in truth:
        field.value = str(turn + 1)
        assert field.value == ""
    assert message.value.startswith("3 of 3 right.") and all(button.disabled for button in buttons.children[:4])
    field.value = "1"
    assert message.value.startswith("3 of 3 right.")


def test_a_double_click_answers_once(images, monkeypatch):
    monkeypatch.setattr(widgets, "PAUSE", 3600)
    now = iter(range(0, 10**6, 3000))
    monkeypatch.setattr(widgets.time, "monotonic", lambda: next(now))  # an hour is over after two looks at the clock
    _, buttons, _, message = widgets.which_way_up(images, count=9).children
    buttons.children[0].click()
    assert message.value.startswith("Image 1 of 9")
    buttons.children[0].click()
    assert message.value.startswith("Image 2 of 9")
    buttons.children[0].click()
    assert message.value.startswith("Image 2 of 9")


LABELS = np.array([0] * 10 + [1] * 10)
PROBABILITIES = np.linspace(0.05, 0.95, 20)[np.r_[0:8, 10:12, 8:10, 12:20]]  # two REAL above, two FAKE below a half


def test_threshold_view_counts_places_and_prices_the_mistakes():
    figure, sentence = widgets.render_threshold(PROBABILITIES, LABELS, threshold=0.5, miss=10)
    numbers = [text.get_text() for text in figure.axes[0].texts]
    assert numbers == ["8", "2", "2", "8"]
    _, best, place = figure.axes[1].lines
    assert (place.get_xdata()[0], place.get_ydata()[0]) == pytest.approx((0.2, 0.8))
    decided = PROBABILITIES > 1 / 11
    assert (best.get_xdata()[0], best.get_ydata()[0]) == pytest.approx((decided[:10].mean(), decided[10:].mean()))
    assert figure.axes[1].get_xscale() == "log" and figure.axes[1].get_ylim()[0] == 0.75
    assert f"1 / (1 + cost) = 0.09 would cost {decided[:10].sum() / 20:.4f}" in sentence
    assert "80.0% of the FAKE images found, 20.0% of the REAL" in sentence
    assert "accuracy 0.8000" in sentence and f"cost {(2 + 10 * 2) / 20:.4f}" in sentence


def test_threshold_explorer_follows_its_controls():
    box = widgets.threshold_explorer({"one": (PROBABILITIES, LABELS), "other": (1 - PROBABILITIES, LABELS)})
    detector, threshold, miss, picture, message = box.children
    seen = {message.value}
    for control, value in ((threshold, 0.9), (miss, 5), (detector, "other")):
        before = bytes(picture.value)
        control.value = value
        assert message.value not in seen and (bytes(picture.value) != before or control is miss)
        seen.add(message.value)


def test_standing_has_the_reader_with_an_interval_above_the_models():
    state = widgets.draw_quiz(data.load().test, 20, seed=0)
    truth = state.images.labels.tolist()
    state.answers = truth[:14] + [1 - label for label in truth[14:]]
    figure = widgets.render_standing(state, {"a": np.array(truth) * 0.5 + 0.3, "b": 0.95})
    (axes,) = figure.axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["you", "a", "b"]
    you, same, more = axes.containers
    assert same.lines[0].get_xdata() == [1.0] and more.lines[0].get_xdata() == [0.95]
    intervals = [bars.lines[2][0].get_segments()[0][:, 0] for bars in (same, more)]
    assert intervals[0] == pytest.approx(evaluation.accuracy_interval(1.0, 20))
    assert intervals[1] == pytest.approx((0.95, 0.95))  # on other images
    assert you.lines[0].get_xdata()[0] == pytest.approx(0.7)
    (low, _), (high, _) = you.lines[2][0].get_segments()[0]
    assert low < 0.5 < 0.85 < high < 0.9


def test_result_reviews_the_mistakes_and_models_answer_the_same_images(images):
    state = widgets.draw_quiz(images, 4, seed=0)
    truth = state.images.labels.tolist()
    state.answers = [1 - truth[0], *truth[1:]]
    names = [axes.get_title() for axes in widgets.render_result(state, {"a": 0.9}).axes if axes.get_title()]
    assert names == [f"{data.LABELS[truth[0]]} ✗\nyou: {data.LABELS[1 - truth[0]]}"]
    state.answers = truth
    assert len(widgets.render_result(state, {}).axes) == 1

    probabilities = images.labels.numpy().astype(float)
    seen = []
    box = widgets.against_the_models(images, {"a": probabilities}, count=2, seed=1)
    original = widgets.render_standing

    def standing(state, models):
        seen.append((state.images.labels.tolist(), models["a"].tolist()))
        return original(state, models)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(widgets, "render_standing", standing)
        for label in widgets.draw_quiz(images, 2, seed=1).images.labels.tolist():
            box.children[1].children[label].click()
    assert seen and seen[0][0] == seen[0][1]


def test_game_ends_with_the_standing():
    box = widgets.against_the_models(data.load().test, {"a": 0.9}, count=2)
    picture, buttons, message = box.children
    first = bytes(picture.value)
    for _ in range(2):
        buttons.children[0].click()
    assert buttons.children[0].disabled and "of 2 right" in message.value
    assert bytes(picture.value) != first


def test_widgets_leave_their_picture_for_readers_without_a_kernel(images):
    for box in (
        widgets.real_or_rendered(images),
        widgets.which_way_up(images),
        widgets.against_the_models(images, {"a": 0.9}),
        widgets.threshold_explorer({"one": (PROBABILITIES, LABELS)}),
    ):
        (picture,) = (part for part in box.children if isinstance(part, ipywidgets.Image))
        bundle = box._repr_mimebundle_()
        assert base64.b64decode(bundle["image/png"]) == bytes(picture.value)
        assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == box.model_id
        assert bundle["text/plain"].endswith("run this cell to play with it.")
