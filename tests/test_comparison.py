import numpy as np
import pytest
from scipy.stats import binomtest

from cifake_utils import data, records
from cifake_utils.lessons import comparison


def answers(generator, share, count=500):
    return generator.random(count) < share


def test_exact_mcnemar_looks_at_disagreements_only():
    first = np.array([True] * 9 + [False] * 2 + [True] * 50)
    second = np.array([False] * 9 + [True] * 2 + [True] * 50)
    (test,) = comparison.paired_tests({"a": first, "b": second})
    assert (test.first, test.second, test.only_first, test.only_second) == ("a", "b", 9, 2)
    assert test.p == test.p_holm == pytest.approx(binomtest(9, 11).pvalue)
    assert test.difference == pytest.approx(7 / 61) and test.low < test.difference < test.high


def test_holm_corrects_for_all_pairs():
    generator = np.random.default_rng(0)
    tests = comparison.paired_tests({str(share): answers(generator, share) for share in (0.9, 0.8, 0.79)})
    by_p = sorted(tests, key=lambda test: test.p)
    assert len(tests) == 3
    assert by_p[0].p_holm == pytest.approx(min(1, 3 * by_p[0].p))
    assert by_p[1].p_holm == pytest.approx(max(by_p[0].p_holm, min(1, 2 * by_p[1].p)))


def test_interval_covers_a_true_difference():
    generator = np.random.default_rng(0)
    inside = []
    for _ in range(300):
        (test,) = comparison.paired_tests({"a": answers(generator, 0.9), "b": answers(generator, 0.85)})
        inside.append(test.low <= 0.05 <= test.high)
    assert 0.91 <= np.mean(inside) <= 0.99


def test_equal_detectors_do_not_differ():
    right = answers(np.random.default_rng(0), 0.9)
    (test,) = comparison.paired_tests({"a": right, "b": right})
    assert (test.difference, test.low, test.high, test.p) == (0, 0, 0, 1)


def test_correct_answers_at_a_threshold():
    probabilities, labels = np.array([0.2, 0.6, 0.9], np.float16), np.array([0, 0, 1])
    assert comparison.correct(probabilities, labels).tolist() == [True, False, True]
    assert comparison.correct(probabilities, labels, threshold=0.7).tolist() == [True, True, True]


def test_facts_about_the_test_images_of_cifake():
    facts = comparison.image_facts()
    assert len(facts.class_names) == 10 and (np.bincount(facts.classes) == 2000).all()
    recorded = records.reference_summary("explore_cifake")["duplicates"]["test"]
    assert facts.duplicate.sum() == recorded["REAL"] + recorded["FAKE"] == 378
    labels = records.reference("resnet50_transfer").labels["test"]
    assert (labels[facts.duplicate] == data.FAKE).all()
    assert (np.bincount(2 * facts.classes + labels) == 1000).all()


def test_facts_round_trip(tmp_path):
    cifake = data.load()
    comparison.save_image_facts(cifake, tmp_path / "facts.npz")
    facts = comparison.image_facts(tmp_path / "facts.npz")
    assert facts.class_names == list(cifake.class_names)
    assert (facts.classes == cifake.test.classes.numpy()).all() and facts.duplicate.shape == facts.classes.shape
