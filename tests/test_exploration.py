import numpy as np
import pytest
import torch

from cifake_utils import data
from cifake_utils.lessons import exploration, plots, widgets


@pytest.fixture(scope="module")
def cifake():
    return data.load("sample")


def test_spectrum_of_a_wave_peaks_at_its_frequency():
    x = torch.arange(32) / 32
    for cycles in (3, 8, 12):
        wave = 127 + 100 * torch.sin(2 * torch.pi * cycles * x)
        images = wave.expand(1, 3, 32, 32).to(torch.uint8)
        assert exploration.radial_power_spectrum(images)[0].argmax() == cycles - 1


def test_spectrum_does_not_see_brightness_and_scales_with_contrast():
    images = torch.randint(0, 100, (2, 3, 32, 32), dtype=torch.uint8)
    base = exploration.radial_power_spectrum(images)
    assert base.shape == (2, 16)
    assert torch.allclose(exploration.radial_power_spectrum(images + 50), base, atol=1e-3)
    assert torch.allclose(exploration.radial_power_spectrum(images * 2), base + 2 * np.log10(2), atol=1e-3)


def test_intervals_shrink_with_the_number_of_images():
    values = torch.randn(400, 1, generator=torch.Generator().manual_seed(0))
    mean, half_width = exploration.mean_and_interval(values)
    assert abs(mean[0]) < 0.2 and half_width[0] == pytest.approx(1.96 / 20, rel=0.1)


def test_duplicates_are_found_pixel_by_pixel(cifake):
    images = cifake.test.images.clone()
    images[3], images[5] = cifake.train.images[7], cifake.val.images[1]
    images[8] = cifake.train.images[9]
    images[8, 0, 0, 0] ^= 1
    changed = data.ImageSet(images, cifake.test.labels, cifake.test.classes, cifake.test.names)
    found = exploration.exact_duplicates([cifake.train, cifake.val], changed)
    assert np.flatnonzero(found).tolist() == [3, 5]


def test_facts_hold_what_the_figures_need(cifake):
    facts = exploration.facts(cifake, data.entries(data.source_folder()))
    for label in data.LABELS:
        assert len(facts["colour"][label]["mean"]) == 3 and len(facts["spectrum"][label]["mean"]) == 16
        assert sum(facts["jpeg"][label].values()) == 1000
    assert 0.5 < facts["spectrum"]["probe_accuracy"] <= 1
    line = plots.spectra(facts).axes[0].lines[1]
    assert line.get_label() == "FAKE" and list(line.get_ydata()) == facts["spectrum"]["FAKE"]["mean"]
    assert plots.colours(facts, facts).axes[1].get_title() == "Mean colour, sample"


def test_confusion_counts():
    figure = plots.confusion(np.array([0.2, 0.7, 0.9, 0.5]), np.array([0, 0, 1, 1]))
    assert [text.get_text() for text in figure.axes[0].texts] == ["1", "1", "1", "1"]


def test_quiz_counts_answers_and_ends(cifake):
    state = widgets.draw_quiz(cifake.test, 4, seed=0)
    truth = state.images.labels.tolist()
    assert state.message() == "Image 1 of 4, 0 right so far." and not state.finished
    for answer in (truth[0], 1 - truth[1], truth[2], truth[3]):
        assert len(widgets.render_quiz(state).axes) == 1
        state.answers.append(answer)
    assert state.finished and state.score == 3
    assert state.message().startswith("3 of 4 right. From so few images, your true accuracy lies between 30 % and 95 %")
    titles = [axes.get_title() for axes in widgets.render_quiz(state).axes if axes.get_title()]
    assert titles == [f"{data.LABELS[label]} {'✗' if place == 1 else '✓'}" for place, label in enumerate(truth)]


def test_quiz_widget_answers_to_its_buttons(cifake):
    box = widgets.real_or_rendered(cifake.test, count=2)
    picture, buttons, message = box.children
    photograph, rendered, again = buttons.children
    first = picture.value
    photograph.click()
    assert picture.value != first and message.value.startswith("Image 2 of 2")
    rendered.click()
    assert photograph.disabled and "of 2 right" in message.value
    again.click()
    assert not photograph.disabled and message.value == "Image 1 of 2, 0 right so far."
