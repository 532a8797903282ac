import pytest
import torch

from cifake_utils import data, rotation, widgets


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


def test_turn_quiz_counts_and_ends(images):
    state = widgets.draw_turns(images, 4, seed=1)
    truth = state.images.labels.tolist()
    assert len(widgets.render_quiz(state).axes) == 1 and state.message() == "Image 1 of 4, 0 right so far."
    state.answers += [truth[0], (truth[1] + 1) % 4, truth[2], (truth[3] + 2) % 4]
    assert state.finished and state.score == 2
    assert state.message().startswith("2 of 4 right.") and state.message().endswith("guessing gives 25 %.")
    titles = [axes.get_title() for axes in widgets.render_quiz(state).axes if axes.get_title()]
    assert titles == [f"{widgets.SIDES[turn]} {'✗' if place % 2 else '✓'}" for place, turn in enumerate(truth)]


def test_turn_widget_answers_to_its_buttons(images):
    box = widgets.which_way_up(images, count=2, seed=3)
    picture, buttons, message = box.children
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
