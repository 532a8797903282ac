import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from cifake_utils import CifakeError, data, sample
from cifake_utils.lessons import exploration, plots, widgets


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


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


def test_difference_of_mean_images_is_that_of_all_images_at_once():
    images = torch.randint(0, 256, (4500, 3, 2, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(4500) % 3 % 2
    difference, noise = exploration.mean_difference(images, labels)
    real, fake = (images[labels == label].double() for label in (0, 1))
    assert torch.allclose(difference, real.mean(0) - fake.mean(0))
    assert torch.allclose(noise, (real.var(0) / len(real) + fake.var(0) / len(fake)).sqrt())
    assert exploration.root_mean_square(torch.tensor([3.0, -4.0])) == pytest.approx(12.5**0.5)
    # labels that mean nothing make a difference of about the size of the noise
    assert 0.5 < exploration.root_mean_square(difference / noise) < 2


def test_shuffled_labels_stay_balanced_within_a_class(cifake):
    shuffled = exploration.shuffled_labels(cifake.val, seed=0)
    assert not torch.equal(shuffled, cifake.val.labels)
    for klass in range(10):
        assert shuffled[cifake.val.classes == klass].float().mean() == 0.5
    assert torch.equal(shuffled, exploration.shuffled_labels(cifake.val, seed=0))


def test_sizes_of_shuffles_are_those_of_one_shuffle_at_a_time(cifake, monkeypatch):
    monkeypatch.setattr(exploration, "CHUNK", 150)  # the last chunk is smaller
    orders = [exploration.shuffled_labels(cifake.val, seed) for seed in range(3)]
    expected = [exploration.mean_difference(cifake.val.images, labels)[0] for labels in orders]
    sizes = exploration.shuffled_sizes(cifake.val, 3)
    assert sizes == pytest.approx([exploration.root_mean_square(each) for each in expected])


def test_mean_images_are_enlarged_around_grey_and_not_cut_off(cifake):
    shown = [axes.images[0].get_array() for axes in plots.mean_images(cifake.train, gain=3).axes]
    difference, _ = exploration.mean_difference(cifake.train.images, cifake.train.labels)
    assert np.allclose(shown[2], 0.5 + 3 * difference.permute(1, 2, 0).numpy() / 255) and shown[2].min() > 0
    assert not np.allclose(shown[2], shown[3])
    panels = plots.mean_images(cifake.train).axes
    largest = np.stack([panel.images[0].get_array() for panel in panels[2:]])
    gain = int(panels[2].get_title().split()[0])
    assert 0 < largest.min() and largest.max() < 1
    assert abs(largest - 0.5).max() * (gain + 1) / gain > 0.5  # a larger gain would cut something off


def test_blur_takes_fine_detail_and_keeps_the_mean(cifake):
    images = cifake.val.images[:50]
    soft = exploration.blurred(images)
    assert soft.shape == images.shape and soft.dtype == torch.uint8
    assert (soft.float().mean((1, 2, 3)) - images.float().mean((1, 2, 3))).abs().max() < 1
    change = exploration.radial_power_spectrum(soft) - exploration.radial_power_spectrum(images)
    assert change[:, 0].abs().mean() < 0.1 and change[:, 15].mean() < -1


def test_reduced_photographs_differ_in_fine_detail_only_by_the_filter():
    soft, rough = (exploration.reduced_photographs(antialias, count=2) for antialias in (True, False))
    assert soft.shape == (2 * len(sample.PHOTOGRAPHS), 3, 32, 32) and soft.dtype == torch.uint8
    change = exploration.radial_power_spectrum(rough) - exploration.radial_power_spectrum(soft)
    assert change[:, 0].abs().mean() < 0.1 and change[:, 15].mean() > 0.5
    lines = plots.compared_spectra({"soft": torch.rand(5, 16), "rough": torch.rand(5, 16)}, "Two").axes[0].lines
    assert [line.get_label() for line in lines] == ["soft", "rough"]


def test_a_spectrum_is_shown_step_by_step(cifake):
    *_, last = plots.spectrum_steps(cifake.train.images[0]).axes
    expected = exploration.radial_power_spectrum(cifake.train.images[:1])[0]
    assert np.allclose(last.lines[0].get_ydata(), expected)


@pytest.mark.parametrize("across", [False, True])
def test_a_wave_is_drawn_at_its_frequencies(across):
    wave = (127 + 100 * torch.sin(2 * torch.pi * 5 * torch.arange(32) / 32)).to(torch.uint8)
    image = wave.expand(3, 32, 32) if across else wave[:, None].expand(3, 32, 32)
    picture = plots.spectrum_steps(image).axes[2].images[0]
    left, right, bottom, top = picture.get_extent()
    values = picture.get_array()
    row, column = np.unravel_index(values.argmax(), values.shape)
    v, u = left + (column + 0.5) * (right - left) / 32, top + (row + 0.5) * (bottom - top) / 32
    assert picture.origin == "upper" and [abs(u), abs(v)] == ([0, 5] if across else [5, 0])


def test_descent_begins_at_step_one_beside_log_two():
    train, val, start = plots.descent({"training": [0.7, 0.3], "validation": [0.7, 0.4]}).axes[0].lines
    assert train.get_xdata().tolist() == [1, 2] and list(val.get_ydata()) == [0.7, 0.4]
    assert start.get_ydata()[0] == pytest.approx(np.log(2))


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


def test_repeated_images_are_counted():
    images = torch.randint(0, 256, (4, 3, 2, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert exploration.repeated(images) == 0
    assert exploration.repeated(images[[0, 1, 0, 2, 0, 3, 3]]) == 3


def test_facts_hold_what_the_figures_need(cifake):
    facts = exploration.facts(cifake, data.entries(data.source_folder()))
    for label in data.LABELS:
        assert len(facts["colour"][label]["mean"]) == 3 and len(facts["spectrum"][label]["mean"]) == 16
        assert sum(facts["jpeg"][label].values()) == 1000
    assert 0.5 < facts["spectrum"]["probe_accuracy"] <= 1
    assert set(facts["mean_image"]) == {"difference", "noise", "difference_shuffled", "brightness"}
    assert facts["repeated"] == {"REAL": 0, "FAKE": 0}
    called = facts["called_fake"]["unchanged"]
    accuracy = (1 - called["REAL"] + called["FAKE"]) / 2
    assert accuracy == pytest.approx(facts["spectrum"]["probe_accuracy"])
    assert facts["called_fake"]["blurred"]["REAL"] > called["REAL"]  # in the sample, FAKE tiles are the softer ones
    line = plots.spectra(facts).axes[0].lines[1]
    assert line.get_label() == "FAKE" and list(line.get_ydata()) == facts["spectrum"]["FAKE"]["mean"]
    assert plots.colours(facts, facts).axes[1].get_title() == "Mean colour, sample (1,200 images)"


def test_confusion_counts():
    figure = plots.confusion(np.array([0.2, 0.7, 0.9, 0.5]), np.array([0, 0, 1, 1]))
    assert [text.get_text() for text in figure.axes[0].texts] == ["1", "1", "1", "1"]


def test_quiz_counts_answers_and_shows_mistakes_first(cifake):
    state = widgets.draw_quiz(cifake.test, 4, seed=0)
    truth = state.images.labels.tolist()
    assert state.message() == "Image 1 of 4, 0 right so far." and not state.finished
    for answer in (truth[0], 1 - truth[1], truth[2], truth[3]):
        assert len(widgets.render_quiz(state).axes) == 1
        state.answers.append(answer)
    assert state.finished and state.score == 3
    assert state.message().startswith("3 of 4 right. From so few images, your true accuracy lies between 30 % and 95 %")
    counts = {label: f"{int(label == truth[1])} of 2 {name}" for label, name in enumerate(data.LABELS)}
    assert state.message().endswith(f"Wrong: {counts[0]}, {counts[1]}.")
    titles = [axes.get_title() for axes in widgets.render_quiz(state).axes if axes.get_title()]
    wrong = f"{data.LABELS[truth[1]]} ✗\nyou: {data.LABELS[1 - truth[1]]}"
    assert titles == [wrong, *(f"{data.LABELS[truth[place]]} ✓" for place in (0, 2, 3))]


def test_quiz_has_one_image_of_each_class_and_half_of_each_label(cifake):
    orders = set()
    for seed in range(6):
        images = widgets.draw_quiz(cifake.test, 10, seed).images
        assert sorted(images.classes.tolist()) == list(range(10)) and images.labels.sum() == 5
        orders.add(tuple(images.labels.tolist()))
    assert len(orders) > 3  # the labels are shuffled
    images = widgets.draw_quiz(cifake.test, 20, seed=0).images
    assert images.classes.bincount().tolist() == [2] * 10 and len(set(images.names)) == 20
    assert len(widgets.draw_quiz(cifake.test, 400, seed=0).images) == 400
    with pytest.raises(CifakeError, match="needs 201 images with the label REAL, and there are 200"):
        widgets.draw_quiz(cifake.test, 402, seed=0)


def test_quiz_is_another_one_in_every_call(cifake):
    pictures = {bytes(widgets.real_or_rendered(cifake.test).children[0].value) for _ in range(3)}
    assert len(pictures) > 1
    first, second = (widgets.real_or_rendered(cifake.test, seed=5).children[0].value for _ in range(2))
    assert first == second


def test_quiz_widget_answers_to_its_buttons(cifake, monkeypatch):
    monkeypatch.setattr(widgets, "PAUSE", 0)
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
