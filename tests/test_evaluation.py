import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from cifake_utils import evaluation


def test_scores_of_a_small_example_by_hand():
    labels = np.array([0, 0, 0, 1, 1, 1])
    probabilities = np.array([0.1, 0.2, 0.6, 0.4, 0.8, 0.9])
    scores = evaluation.score(probabilities, labels)
    assert scores["accuracy"] == pytest.approx(4 / 6)
    assert scores["f1_fake"] == scores["f1_real"] == scores["f1_macro"] == pytest.approx(2 / 3)
    assert scores["auroc"] == pytest.approx(8 / 9)
    right = np.where(labels == 1, probabilities, 1 - probabilities)
    assert scores["log_loss"] == pytest.approx(-np.log(right).mean())
    assert scores["brier"] == pytest.approx(((1 - right) ** 2).mean())
    assert scores["ap"] == pytest.approx((1 + 1 + 3 / 4) / 3)


def test_fake_is_the_positive_class():
    labels = np.array([0] * 9 + [1])
    scores = evaluation.score(np.zeros(10), labels)
    assert scores["f1_fake"] == 0 and scores["f1_real"] > 0.9


def test_calibration_error_of_a_known_gap():
    labels = np.array([0, 1] * 50)
    assert evaluation.score(np.full(100, 0.9), labels)["ece"] == pytest.approx(0.4, abs=1e-6)


def test_log_loss_of_certain_mistakes_is_finite_and_the_same_after_float16():
    labels = np.array([0, 1])
    exact = evaluation.score(np.array([1.0, 0.0]), labels)["log_loss"]
    assert exact == pytest.approx(np.log(2**11))
    assert evaluation.score(np.array([0.99999, 1e-5], np.float16), labels)["log_loss"] == exact


def accuracy(labels, probabilities):
    return float(((probabilities > 0.5) == labels).mean())


@pytest.mark.parametrize(
    ("probabilities", "labels", "reason"),
    [
        ([0.1, 0.2], [0], "one length"),
        ([[0.1, 0.2]], [[0, 1]], "two vectors"),
        ([], [], "there must be at least one"),
        ([0.1, 1.2], [0, 1], "between 0 and 1"),
        ([-0.1, 0.2], [0, 1], "between 0 and 1"),
        ([0.1, float("nan")], [0, 1], "NaN"),
        ([0.1, 0.2], [0, 2], "found"),
        ([0.1, 0.2, 0.3], [0, 1, 0.5], "found"),
        ([0.1, 0.2, 0.3], [0, 1, float("nan")], "found"),
        ([0.1, 0.2], [1, 1], "both present"),
    ],
)
@pytest.mark.parametrize(
    "function",
    [
        evaluation.score,
        evaluation.best_threshold,
        evaluation.fit_temperature,
        lambda probabilities, labels: evaluation.bootstrap_interval(accuracy, probabilities, labels),
    ],
)
def test_bad_input(function, probabilities, labels, reason):
    with pytest.raises(ValueError, match=reason):
        function(np.array(probabilities), np.array(labels))


@pytest.mark.parametrize("temperature", [0, -1, float("nan"), float("inf")])
def test_temperatures_are_positive(temperature):
    with pytest.raises(ValueError, match="above 0"):
        evaluation.with_temperature(np.array([0.2]), temperature)


def test_other_numbers_that_are_none():
    for probabilities in ([1.2], [np.nan], []):
        with pytest.raises(ValueError, match="between 0 and 1"):
            evaluation.with_temperature(np.array(probabilities), 2)
    for nonsense in ((np.nan, 10), (1.1, 10), (-0.1, 10), (0.5, 0)):
        with pytest.raises(ValueError, match="at least one image"):
            evaluation.accuracy_interval(*nonsense)
    with pytest.raises(ValueError, match="threshold is NaN"):
        evaluation.score(np.array([0.2, 0.7]), np.array([0, 1]), np.nan)
    with pytest.raises(ValueError, match="threshold is NaN"):
        evaluation.against(np.array([0.2]), np.array([0.7]), np.nan)


def test_wilson_interval_of_a_published_example():
    low, high = evaluation.accuracy_interval(0.9, 10)  # 9 of 10: 0.596 to 0.982
    assert low == pytest.approx(0.5958, abs=1e-4) and high == pytest.approx(0.9821, abs=1e-4)


def test_threshold_moves_decisions_and_nothing_else():
    labels, probabilities = np.array([0, 0, 1, 1]), np.array([0.1, 0.6, 0.7, 0.9])
    half, high = evaluation.score(probabilities, labels), evaluation.score(probabilities, labels, threshold=0.65)
    assert half["accuracy"] == 0.75 and high["accuracy"] == 1
    assert {name for name in half if half[name] != high[name]} == {"accuracy", "f1_fake", "f1_real", "f1_macro"}
    assert evaluation.best_threshold(probabilities, labels) == pytest.approx(0.65)


def test_best_threshold_is_the_one_a_search_finds():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 300)
    probabilities = (0.3 * labels + 0.7 * generator.random(300)).astype(np.float16)
    found = evaluation.best_threshold(probabilities, labels)
    reached = max(((probabilities > t) == labels).mean() for t in np.linspace(0, 1, 2001))
    assert evaluation.score(probabilities, labels, found)["accuracy"] == pytest.approx(reached)


def test_equal_error_rate_by_hand():
    labels = np.array([0] * 4 + [1] * 4)
    probabilities = np.array([0.1, 0.2, 0.3, 0.8, 0.25, 0.7, 0.85, 0.9])
    assert evaluation.score(probabilities, labels)["eer"] == pytest.approx(0.25)  # at 0.5: one of four on either side


def test_equal_error_rate_within_a_run_of_images_of_one_label():
    labels = np.array([1] * 9 + [0] * 5 + [1] + [0] * 5)  # from the most FAKE image on
    probabilities = np.linspace(0.9, 0.1, 20)
    assert evaluation.score(probabilities, labels)["eer"] == pytest.approx(0.1)  # one of ten on either side


def test_temperature_undoes_overconfidence():
    generator = np.random.default_rng(0)
    honest = generator.uniform(0.02, 0.98, 20_000)
    labels = (generator.random(20_000) < honest).astype(int)
    boastful = evaluation.with_temperature(honest, 1 / 3)
    temperature = evaluation.fit_temperature(boastful, labels)
    assert temperature == pytest.approx(3, rel=0.1)
    cooled = evaluation.with_temperature(boastful, temperature)
    assert evaluation.score(cooled, labels)["ece"] < 0.02 < evaluation.score(boastful, labels)["ece"]
    assert (np.diff(cooled[np.argsort(boastful)]) >= 0).all()


def test_a_temperature_at_the_end_of_the_range_is_told():
    told_right, labels = np.array([0.4, 0.45, 0.6, 0.7]), np.array([0, 0, 1, 1])
    for probabilities, end in ((told_right, 0.05), (1 - told_right, 20)):
        with pytest.warns(UserWarning, match="one may lie outside"):
            assert evaluation.fit_temperature(probabilities, labels) == pytest.approx(end, rel=0.01)
        assert evaluation.usable_temperature(probabilities, labels) == 1
    told = told_right, np.array([0, 1, 0, 1])
    assert evaluation.usable_temperature(*told) == evaluation.fit_temperature(*told) != 1


def test_a_resample_with_one_label_is_drawn_again():
    probabilities, labels = np.array([0.1, 0.8, 0.4]), np.array([0, 1, 1])  # a third of the resamples lack a label
    seen = []

    def spread(y, p):
        seen.append(len(set(y)))
        return p.max() - p.min()

    low, high = evaluation.bootstrap_interval(spread, probabilities, labels)
    assert set(seen) == {2} and 0.29 < low <= high < 0.71
    assert evaluation.bootstrap_interval(spread, probabilities, labels) == (low, high)


def test_bootstrap_interval_is_near_wilsons_for_accuracy():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 400)
    probabilities = np.where(generator.random(400) < 0.8, labels, 1 - labels)
    measured = evaluation.score(probabilities, labels)["accuracy"]
    low, high = evaluation.bootstrap_interval(accuracy, probabilities, labels)
    assert (low, high) == pytest.approx(evaluation.accuracy_interval(measured, 400), abs=0.01)


def test_against_counts_and_orders_two_sets_of_any_sizes():
    real, fake = np.array([0.1, 0.2, 0.6]), np.array([0.2, 0.7, 0.8, 0.9, 0.4])
    result = evaluation.against(real, fake)
    assert (result["real_images"], result["fake_images"]) == (3, 5)
    assert result["detected"] == pytest.approx(0.6) and result["false_alarms"] == pytest.approx(1 / 3)
    assert (result["detected_low"], result["detected_high"]) == evaluation.accuracy_interval(0.6, 5)
    labels = np.repeat([0, 1], [3, 5])
    expected = evaluation.score(np.concatenate([real, fake]), labels)["auroc"]
    assert result["auroc"] == pytest.approx(expected)
    assert 0 <= result["auroc_low"] < expected < result["auroc_high"] <= 1


def test_interval_of_auroc_agrees_with_the_bootstrap():
    rng = np.random.default_rng(0)
    real, fake = rng.beta(2, 4, 400), rng.beta(4, 2, 300)
    result = evaluation.against(real, fake)
    p, labels = np.concatenate([real, fake]), np.repeat([0, 1], [400, 300])
    low, high = evaluation.bootstrap_interval(roc_auc_score, p, labels)
    assert (result["auroc_low"], result["auroc_high"]) == pytest.approx((low, high), abs=0.01)


def test_against_single_images_and_nonsense():
    assert evaluation.against(np.array([0.2]), np.array([0.9, 0.8]))["auroc_low"] == 0
    for bad in (np.array([]), np.array([1.5]), np.array([np.nan]), np.array([[0.5]])):
        with pytest.raises(ValueError):
            evaluation.against(bad, np.array([0.5]))
