"""A detector comes back from the files that a model hub keeps as it was written to them."""

import json

import pytest
import torch

from cifake_utils import CifakeError, experiments, features, hub, profiles


@pytest.mark.parametrize("name", ["resnet50_transfer", "resnet50_fractal_loss"])
def test_published_detector_gives_the_same_probabilities(few, runs, tmp_path, monkeypatch, name):
    model, record = experiments.train_or_load(name)
    published = hub.Published.of(model, record)
    folder = tmp_path / "published"
    published.save_pretrained(folder)
    assert {path.name for path in folder.iterdir()} == {"README.md", "config.json", "model.safetensors"}
    assert json.loads((folder / "config.json").read_text())["experiment"] == name
    assert "embedded sample alone" in (folder / "README.md").read_text()
    again = hub.Published.from_pretrained(folder)
    monkeypatch.setattr(features, "BATCH_SIZE", 7)
    p = published.probabilities(few.test.images)
    assert torch.equal(again.probabilities(few.test.images), p)
    raw = experiments.predict_images({name: (model, record)}, few.test.images, profiles.active().accelerator())[name]
    odds = torch.logit(torch.from_numpy(raw).double().clamp(2**-11, 1 - 2**-11))
    assert torch.allclose(torch.logit(p) * published.temperature, odds, atol=0.05)


def test_unknown_experiments_and_data_sets_are_named():
    with pytest.raises(CifakeError, match="no experiment 'other'"):
        hub.Published("other")
    with pytest.raises(CifakeError, match="no data set 'other'"):
        hub.Published("resnet50_transfer", trained_on="other")


def test_a_detector_of_a_data_set_that_is_not_declared_here_can_be_loaded(tmp_path):
    published = hub.Published("resnet50_transfer", trained_on="birds", learned_from="It learned from birds.")
    published.save_pretrained(tmp_path / "birds")
    assert "It learned from birds." in (tmp_path / "birds" / "README.md").read_text()
    assert hub.Published.from_pretrained(tmp_path / "birds").learned_from == "It learned from birds."


def test_a_control_is_not_published(few, runs):
    with pytest.raises(CifakeError, match="resnet50_shuffled is a control"):
        hub.Published.of(*experiments.train_or_load("resnet50_shuffled"))
