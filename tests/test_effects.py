from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from cifake_utils import data, records, weights
from cifake_utils.lessons import effects


def test_effect_size_of_known_groups_with_an_interval_that_covers_it():
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1], 500)
    inside = []
    for _ in range(200):
        values = generator.standard_normal((1000, 1)) * 3 + 1.5 * labels[:, None]
        result = effects.effect_sizes(values, labels)
        inside.append(result["low"][0] <= 0.5 <= result["high"][0])
    assert result["d"][0] == pytest.approx(0.5, abs=0.2)
    assert 0.9 <= np.mean(inside) <= 0.99


def test_direction_unit_and_dead_columns():
    labels = np.array([0, 0, 0, 1, 1, 1])
    values = np.array([[0, 7], [1, 7], [2, 7], [3, 7], [4, 7], [5, 7]], np.float32)
    result = effects.effect_sizes(values, labels)
    assert result["d"] == pytest.approx([3, 0])  # three units apart, standard deviation one
    assert result["low"][1] == result["high"][1] == 0
    assert effects.effect_sizes(100 * values + 5, labels)["d"] == pytest.approx(result["d"])


def test_brighter_half_ignores_brightness_and_contrast():
    surfaces = torch.rand(4, 32, 32, generator=torch.Generator().manual_seed(0))
    measured = effects.brighter_half_dimension(surfaces)
    assert measured.shape == (4,) and ((measured > 1) & (measured < 2)).all()
    torch.testing.assert_close(effects.brighter_half_dimension(0.3 * surfaces + 0.2), measured)


def test_facts_have_every_channel_of_every_stage(runs):
    cifake = data.load()
    parts = {split: images.subset(np.arange(0, len(images), 20)) for split, images in cifake.splits.items()}
    few = replace(cifake, **parts, hash="few")
    facts = effects.facts(few, weights.NONE, Accelerator(cpu=True))
    assert facts["images"] == len(few.train)
    assert set(facts["image"]["estimators"]) == set(effects.ESTIMATORS)
    for stage, channels in (("stem", 64), ("layer1", 256)):
        for statistic in ("dimension", "mean"):
            measured = facts["map"][stage][statistic]
            assert len(measured["d"]) == channels
            low, d, high = (np.array(measured[key]) for key in ("low", "d", "high"))
            assert ((low <= d) & (d <= high)).all()
    records.save_summary("fractal_effects", facts)  # JSON types throughout
