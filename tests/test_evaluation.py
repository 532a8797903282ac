import numpy as np
import pytest

from cifake_utils import CifakeError, evaluation, profiles, records


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


def record(**changes):
    probabilities = {split: np.array([0.25, 0.75], np.float16) for split in ("val", "test")}
    labels = {split: np.array([0, 1], np.uint8) for split in probabilities}
    values = {
        "model": "m",
        "profile": "sample",
        "seed": 3,
        "data": "sample",
        "data_hash": "d",
        "weights": "w",
        "weights_hash": "h",
        "hyperparameters": {"epochs": 1},
        "seconds": {"training": 1.0},
        "curves": {"val_loss": [0.5]},
        "metrics": {split: evaluation.score(probabilities[split], labels[split]) for split in labels},
        "probabilities": probabilities,
        "labels": labels,
    }
    return records.Record(**values | changes)


def test_record_round_trip(tmp_path):
    first = record()
    path = records.save(first, tmp_path)
    again = records.read(path)
    assert path.name == "m-seed3.json" and again.metrics == first.metrics and again.versions == first.versions
    for split in ("val", "test"):
        assert np.array_equal(again.probabilities[split], first.probabilities[split])
        assert again.probabilities[split].dtype == np.float16 and again.labels[split].dtype == np.uint8
    assert sorted(file.name for file in tmp_path.iterdir()) == ["m-seed3.json", "m-seed3.npz"]


def test_failed_write_keeps_the_old_record(tmp_path):
    path = records.save(record(), tmp_path)
    with pytest.raises(TypeError):
        records.save(record(hyperparameters={"epochs": object()}), tmp_path)
    assert records.read(path).hyperparameters == {"epochs": 1}
    assert len(list(tmp_path.iterdir())) == 2


def test_missing_and_broken_records(runs):
    with pytest.raises(CifakeError, match="python -m cifake_utils train m"):
        records.latest("m")
    with pytest.raises(CifakeError, match="resnet50_transfer-seed0"):
        records.reference("m")
    records.save(record(), profiles.active().runs)
    assert records.latest("m").seed == 3
    (profiles.active().runs / "m-seed3.json").write_text("{")
    with pytest.raises(CifakeError, match=r"m-seed3.json is not a readable record"):
        records.latest("m")


@pytest.mark.parametrize("path", sorted(records.REFERENCE.glob("*-seed*.json")), ids=lambda path: path.stem)
def test_reference_metrics_follow_from_reference_probabilities(path):
    reference = records.read(path)
    assert reference.data == "CIFAKE" and reference.profile == "full"
    for split, metrics in reference.metrics.items():
        labels = reference.labels[split]
        assert len(labels) == 20_000 and labels.sum() == 10_000
        assert evaluation.score(reference.probabilities[split], labels) == pytest.approx(metrics, abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_reference_transfer_beats_the_paper(seed):
    assert records.reference("resnet50_transfer", seed).metrics["test"]["accuracy"] >= 0.880
