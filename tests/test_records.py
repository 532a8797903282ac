import numpy as np
import pytest
import torch

from cifake_utils import CifakeError, catalogue, evaluation, profiles, records
from cifake_utils.support import verified


def record(**changes):
    probabilities = {split: np.array([0.25, 0.75], np.float16) for split in ("val", "test")}
    labels = {split: np.array([0, 1], np.uint8) for split in probabilities}
    values = {
        "experiment": "m",
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
    assert verified.load_json(path)["model"] == "m"  # readers' records have this key
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
    with pytest.raises(CifakeError, match="resnet50_transfer-seed0"):
        records.reference("m")
    path = records.save(record(), profiles.active().runs)
    assert records.read(path).seed == 3
    path.write_text("{")
    with pytest.raises(CifakeError, match=r"m-seed3.json can.t be used: Expecting property name"):
        records.read(path)


def test_a_record_names_the_hardware_of_its_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device.index}")
    assert "CPU threads" in records.hardware() == records.hardware(torch.device("cpu"))
    assert records.hardware(torch.device("cuda", 1)) == "GPU 1"
    assert records.hardware(torch.device("mps")).startswith("Apple GPU")


def test_all_seeds_of_a_reference(tmp_path, monkeypatch):
    assert [run.seed for run in records.references("resnet50_transfer")] == [0, 1, 2, 3, 4]
    monkeypatch.setattr(records, "REFERENCE", tmp_path)
    for seed in (10, 2):
        records.save(record(seed=seed), tmp_path)
    records.save(record(experiment="m-seedless"), tmp_path)
    assert [run.seed for run in records.references("m")] == [2, 10]
    assert records.references("other") == []


@pytest.mark.parametrize("path", sorted(records.REFERENCE.glob("*-seed*.json")), ids=lambda path: path.stem)
def test_reference_metrics_follow_from_reference_probabilities(path):
    reference = records.read(path)
    assert reference.data == "CIFAKE" and reference.profile == "full"
    for split, metrics in reference.metrics.items():
        labels = reference.labels[split]
        assert len(labels) == 20_000 and labels.sum() == 10_000
        measured = evaluation.score(reference.probabilities[split], labels)
        assert {name: measured[name] for name in metrics} == pytest.approx(metrics, abs=1e-9)


def test_reference_runs_start_from_the_same_weights_and_learn_from_the_same_images():
    runs = [run for name in catalogue.EXPERIMENTS for run in records.references(name)]
    starts = {(catalogue.get(run.experiment).start.replace("rotation", "pretrained"), run.weights_hash) for run in runs}
    assert len(starts) == len({start for start, _ in starts}) == 3  # pretrained, embedded, random
    assert len({run.data_hash for run in runs}) == 1


@pytest.mark.parametrize("seed", range(5))
def test_reference_transfer_beats_the_paper(seed):
    assert records.reference("resnet50_transfer", seed).metrics["test"]["accuracy"] >= 0.880
