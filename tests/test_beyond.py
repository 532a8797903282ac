"""What lesson 10 measures, and its figures and widgets."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from cifake_utils import data, familiarity, models, records, weights
from cifake_utils.lessons import beyond, beyond_plots, exploration, robustness, unseen, zoo


@pytest.fixture(scope="module")
def measured():
    return beyond.read()


def test_every_file_of_the_zoo_has_a_name():
    assert {path.stem for path in zoo.FOLDER.glob("*.npz")} == set(beyond.TITLES)
    assert set(beyond.GENERATORS) == set(unseen.KINDS)
    for kind in ("vae", "noised_half"):
        found = beyond.images(kind)
        assert found.shape == (1000, 3, 32, 32) and found.dtype == torch.uint8
        assert beyond.about(kind)["steps"] > 0


def test_what_is_kept_of_cifake(measured):
    assert {name: found.shape for name, found in measured.spectra.items()} == {
        beyond.PHOTOGRAPHS: (10_000, 16),
        beyond.RENDERED: (10_000, 16),
    }
    assert set(measured.distances) == {beyond.PHOTOGRAPHS, beyond.RENDERED, *beyond.TITLES}
    assert all(found.shape == (1000,) for found in measured.distances.values())
    train = records.reference_summary("explore_cifake")["spectrum"]
    for name, label in ((beyond.PHOTOGRAPHS, "REAL"), (beyond.RENDERED, "FAKE")):
        mean = measured.spectra[name].astype(np.float64).mean(0)
        np.testing.assert_allclose(mean, train[label]["mean"], atol=0.03)  # another split of the same images


def test_distances_follow_from_the_images(measured):
    """The density itself is not kept. Two kinds must lie to each other as a density of any photographs says."""
    backbone = models.backbone(weights.load_offline()).eval()
    some = {kind: beyond.images(kind)[:40] for kind in ("vae", "ddpm", "flow_matching")}
    photographs = data.load("sample").train
    density = familiarity.of(backbone, photographs.images[photographs.labels == data.REAL], photographs.images[:50])
    again = {kind: np.median(density.distances(familiarity.features_of(backbone, x))) for kind, x in some.items()}
    kept = {kind: np.median(measured.distances[kind][:40]) for kind in some}
    assert max(again, key=again.get) == max(kept, key=kept.get) == "vae"


def test_measure_writes_what_read_returns(tmp_path, monkeypatch):
    cifake = data.load("sample")
    monkeypatch.setattr(beyond, "TITLES", {"ddpm": "DDPM"})
    monkeypatch.setattr(beyond, "images", lambda kind: cifake.test.images[:5])
    monkeypatch.setattr(zoo, "COUNT", 7)
    beyond.measure(cifake, tmp_path / "some.npz")
    found = beyond.read(tmp_path / "some.npz")
    real = cifake.val.images[cifake.val.labels == data.REAL]
    np.testing.assert_array_equal(found.spectra[beyond.PHOTOGRAPHS], beyond.spectra(real))
    assert {name: len(x) for name, x in found.distances.items()} == {
        beyond.PHOTOGRAPHS: 7,
        beyond.RENDERED: 7,
        "ddpm": 5,
    }


def test_a_ratio_of_powers_and_its_interval():
    rng = np.random.default_rng(0)
    group, photographs = rng.normal(0.3, 0.2, 400), rng.normal(0, 0.2, 900)
    value, low, high = beyond.power_ratio(group, photographs)
    assert value == pytest.approx(10 ** (group.mean() - photographs.mean()))
    half = 1.96 * 0.2 * np.sqrt(1 / 400 + 1 / 900)
    assert np.log10([low, high]) == pytest.approx(np.log10(value) + np.array([-half, half]), abs=0.004)
    powers = np.arange(32).reshape(2, 16)
    assert beyond.fine_detail(powers).tolist() == [14.0, 30.0]


def test_auroc_of_any_numbers():
    rng = np.random.default_rng(0)
    photographs, group = rng.normal(0, 3, 50).astype(np.float16), rng.normal(1, 3, 30).astype(np.float16)
    value, low, high = beyond.auroc(photographs, group)
    labels = np.repeat([0, 1], [50, 30])
    assert value == pytest.approx(roc_auc_score(labels, np.concatenate([photographs, group])))
    assert low < value < high
    assert beyond.auroc(np.arange(100.0, 200), np.arange(150.0, 250))[0] == pytest.approx(0.875)


def test_alarms_and_costs():
    assert beyond.right_alarms(1 / 1000, 0.99, 0.01) == pytest.approx(99 / 1098)
    assert beyond.right_alarms(0.5, 0.7, 0.7) == 0.5
    assert np.isnan(beyond.right_alarms(0.5, 0, 0))
    found = beyond.costs(0.1, 0.8, 0.05, 20)
    assert found == pytest.approx(
        {beyond.FOLLOW: 0.1 * 0.2 * 20 + 0.9 * 0.05, beyond.ALL_REAL: 2.0, beyond.ALL_FAKE: 0.9}
    )


def test_traces_see_a_jpeg_and_nothing_else():
    pieces = exploration.reduced_photographs(antialias=True, count=2)
    traces, compressed = beyond.jpeg_traces(pieces), beyond.jpeg_traces(robustness.jpeg(pieces, 75))
    assert traces.shape == (20, 64)
    assert (compressed[:, -20:].mean(1) < traces[:, -20:].mean(1)).all()
    np.testing.assert_allclose(compressed[:, 0], traces[:, 0], atol=0.05)  # the mean brightness is kept
    flat = torch.full((1, 3, 16, 16), 100, dtype=torch.uint8)
    np.testing.assert_allclose(beyond.jpeg_traces(flat)[0, :2], np.log([800.1, 0.1]), atol=1e-6)


def test_figures_have_a_row_for_each_group():
    groups = {"one": (0.4, 0.3, 0.5), "two": (1.2, 1.1, 1.4)}
    for ticks in (None, [0.3, 1]):
        figure = beyond_plots.intervals(groups, "power", 1, "photographs", ticks)
        assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["one", "two"]
    figure = beyond_plots.heat(unseen.matrix(), "AUROC")
    assert len(figure.axes[0].texts) == unseen.matrix().size
    figure = beyond_plots.growth({"head": unseen.curve()})
    assert figure.axes[0].lines[1].get_xdata().tolist() == [1, 2, 3, 4, 5, 6]
    figure = beyond_plots.waves({"one": np.zeros((3, 64)), "two": np.ones((3, 64))})
    assert [line.get_ydata()[0] for line in figure.axes[0].lines] == [0, 1]
    figure = beyond_plots.sheet({"one": torch.zeros(3, 3, 32, 32, dtype=torch.uint8)}, columns=2)
    assert np.shape(figure.axes[0].images[0].get_array()) == (34, 68, 3)
    plt.close("all")


def test_a_generator_is_shown_beside_photographs(measured):
    powers = {beyond.PHOTOGRAPHS: measured.spectra[beyond.PHOTOGRAPHS], "VAE": beyond.spectra(beyond.images("vae"))}
    p = {beyond.PHOTOGRAPHS: np.linspace(0, 0.6, 7), "VAE": np.linspace(0.4, 1, 7)}
    figure, text = beyond_plots.render_generator("VAE", tuple(powers.values()), tuple(p.values()))
    left = figure.axes[0]
    assert [line.get_label() for line in left.lines] == ["photographs", "VAE"]
    np.testing.assert_allclose(left.lines[1].get_ydata(), powers["VAE"].astype(float).mean(0))
    assert text.startswith("VAE: 0.0") and "71% of these images FAKE, and 14% of the photographs" in text
    widget = beyond_plots.generator_explorer(powers, p)
    assert widget.children[0].options == ("VAE",)


@pytest.mark.parametrize(
    ("arguments", "worth", "cheapest"),
    [
        ((1 / 1000, 0.99, 0.01, 1), "9.0% of the alarms", "call every image REAL"),
        ((1 / 1000, 0.99, 0.01, 100), "9.0% of the alarms", "follow the detector"),
        ((0.5, 0.2, 0.03, 100), "87.0% of the alarms", "call every image FAKE"),
        ((0.1, 0.0, 0.03, 1), "0.0% of the alarms", "call every image REAL"),
    ],
)
def test_what_alarms_are_worth(arguments, worth, cheapest):
    figure, text = beyond_plots.render_alarms(*arguments)
    assert worth in text and text.endswith(f"Cheapest: {cheapest}.")
    counts = [bar.get_height() for bar in figure.axes[0].patches]
    prior, hits, false_alarms, _ = arguments
    assert counts == pytest.approx([1e5 * prior * hits, 1e5 * (1 - prior) * false_alarms])


def test_the_alarm_widget_follows_its_controls():
    widget = beyond_plots.alarm_explorer({"good": (0.99, 0.01), "poor": (0.2, 0.03)})
    detector, rarity, miss, picture, message = widget.children
    before = picture.value
    rarity.value, detector.value, miss.value = 2, "poor", 50.0
    assert picture.value != before and "87.0% of the alarms" in message.value
