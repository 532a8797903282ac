import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import strong
from cifake_utils import profiles, training
from cifake_utils.batches import ImageBatches
from tests import small


class Small(nn.Module):
    """Stands for a ResNet50."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 8)), nn.Linear(8, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone(images))


def followed() -> strong.Followed:
    torch.manual_seed(0)
    return strong.Followed(Small(), decay=0.5)


def fit(checkpoint=None) -> dict[str, torch.Tensor]:
    images = small.cifake(16).train
    batches = ImageBatches(images.images, images.labels, 8)
    options = training.Options(learning_rate=0.01, patience=None)
    accelerator, learner = profiles.PROFILES["sample"].accelerator(), followed()
    training.fit(learner, batches, batches, epochs=3, accelerator=accelerator, options=options, checkpoint=checkpoint)
    return learner.state_dict()


def test_a_moving_average_of_the_weights_is_judged_in_their_place():
    learner, images, weights = followed(), torch.rand(2, 3, 32, 32), []
    for _ in range(3):
        weights.append(learner.network.head.weight.detach().clone())
        learner(images)
        with torch.no_grad():
            learner.network.head.weight.add_(1)
    # It starts at the first weights, and each step takes half of the way to the next.
    assert torch.allclose(learner.average.module.head.weight, weights[0] / 4 + weights[1] / 4 + weights[2] / 2)
    assert torch.equal(learner.eval()(images), learner.average(images))
    assert not torch.allclose(learner(images), learner.network(images))


def test_a_trial_is_made_again_if_its_settings_have_changed(tmp_path, monkeypatch, capsys):
    made = []

    def measure(trial, seed, *_):
        made.append(trial.epochs)
        result = {"trial": strong.settings(trial), "val": {}, "curves": {"seconds": 1.0}}
        return result, {"alone": np.zeros(2, np.float16)}

    monkeypatch.setattr(strong, "measure", measure)
    monkeypatch.setattr(strong, "FOLDER", tmp_path / "trials")
    assert strong.main(["base"]) == strong.main(["base"]) == 0
    assert "base is there already" in capsys.readouterr().out
    monkeypatch.setitem(strong.TRIALS, "base", dataclasses.replace(strong.BASE, epochs=4))
    assert strong.main(["base"]) == 0
    assert made == [3, 4]


def test_a_training_with_a_moving_average_goes_on_after_a_stop(tmp_path, monkeypatch):
    whole, validate, validated = fit(), training._validate, []

    def stop_once(*arguments):
        validated.append(validate(*arguments))
        if len(validated) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "_validate", stop_once)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "c.safetensors")
    resumed = fit(tmp_path / "c.safetensors")
    assert len(validated) == 2 + 2  # the first epoch was kept
    assert resumed.keys() == whole.keys() and all(torch.equal(resumed[name], whole[name]) for name in whole)
