import numpy as np
import pytest

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


@pytest.mark.parametrize(
    ("probabilities", "labels", "reason"),
    [
        ([0.1, 0.2], [0], "one length"),
        ([0.1, 1.2], [0, 1], "between 0 and 1"),
        ([0.1, float("nan")], [0, 1], "NaN"),
        ([0.1, 0.2], [0, 2], "found"),
        ([0.1, 0.2], [1, 1], "both present"),
    ],
)
def test_bad_input(probabilities, labels, reason):
    with pytest.raises(ValueError, match=reason):
        evaluation.score(np.array(probabilities), np.array(labels))


def test_wilson_interval_of_a_published_example():
    low, high = evaluation.accuracy_interval(0.9, 10)  # 9 of 10: 0.596 to 0.982
    assert low == pytest.approx(0.5958, abs=1e-4) and high == pytest.approx(0.9821, abs=1e-4)
