import dataclasses

import pytest
import torch

from cifake_utils import batches, data, data_sets, profiles, rotation, training, weights

IMAGES = torch.randint(0, 256, (12, 3, 32, 32), dtype=torch.uint8)
SETTINGS = (6, training.Options(learning_rate=1e-3))
PROFILE = dataclasses.replace(profiles.PROFILES["sample"], epochs_pretext=1)


def test_turns_of_a_known_image():
    corner = torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8).expand(4, 3, 2, 2)
    turned = rotation.rotate(corner, torch.arange(4))
    assert turned.dtype == torch.uint8
    assert turned[:, 0].tolist() == [[[1, 2], [3, 4]], [[2, 4], [1, 3]], [[4, 3], [2, 1]], [[3, 1], [4, 2]]]


def test_in_order_every_image_has_its_own_fixed_turn():
    source = rotation.RotationBatches(IMAGES, 5)
    for _ in range(2):
        inputs, turns = (torch.cat(parts) for parts in zip(*source.in_order(), strict=True))
        assert torch.equal(turns, source.labels)
        for image, turned, turn in zip(IMAGES, inputs, turns.tolist(), strict=True):
            assert torch.equal(turned, batches.normalise(image[None].rot90(turn, (2, 3)))[0])


def test_shuffled_turns_are_right_drawn_anew_and_repeatable():
    numbered = torch.arange(12, dtype=torch.uint8).view(12, 1, 1, 1).expand(12, 3, 32, 32).clone()
    numbered[:, :, 0, :] = 255  # the top row is white, wherever a turn puts it; a mirror image keeps it there
    source = rotation.RotationBatches(numbered, 5)
    drawn = []
    for epoch in (0, 1, 0):
        inputs, turns = (torch.cat(parts) for parts in zip(*source.shuffled(3, epoch), strict=True))
        white = batches.normalise(torch.full((1, 3, 1, 1), 255, dtype=torch.uint8))[0, 0, 0, 0]
        sides = torch.stack([inputs[:, 0, 0], inputs[:, 0, :, 0], inputs[:, 0, -1], inputs[:, 0, :, -1]], 1)
        assert torch.equal((sides == white).all(2).float().argmax(1), turns)  # top, left, bottom, right
        middle = (inputs[:, 0, 16, 16] * batches.STD[0] + batches.MEAN[0]) * 255
        assert sorted(middle.round().int().tolist()) == list(range(12))
        drawn.append(turns.tolist())
    assert drawn[0] == drawn[2] != drawn[1]


def test_all_turns_come_equally_often():
    turns = torch.cat([turns for _, turns in rotation.RotationBatches(IMAGES.repeat(100, 1, 1, 1), 50).shuffled(0, 0)])
    assert (turns.bincount(minlength=4) > 240).all()


@pytest.fixture(scope="module")
def start():
    return weights.load_offline()


def few(labels):
    """Twelve images as every split, under given labels."""
    images = data.ImageSet(IMAGES, labels, torch.zeros(12, dtype=torch.long), [str(number) for number in range(12)])
    return data.Cifake(images, images, images, class_names=data_sets.CIFAKE.class_names, source="sample", hash="few")


def test_pretext_ignores_labels_is_kept_and_learns_everywhere(runs, start, monkeypatch):
    found, report = rotation.pretrained(start, few(torch.arange(12) % 2), PROFILE, 0, *SETTINGS)
    assert 0 <= report["accuracy"] <= 1 and len(report["curves"]["val_loss"]) == 1
    moved = [name for name, value in found.state.items() if not torch.equal(value, start.state[name])]
    assert len(moved) == len(start.state)
    assert not list(runs.rglob("*unfinished*"))

    monkeypatch.setenv("CIFAKE_RUNS", str(runs / "other"))  # nothing is kept here
    other, _ = rotation.pretrained(start, few(torch.full((12,), -7)), PROFILE, 0, *SETTINGS)
    assert other.hash == found.hash != start.hash

    monkeypatch.setattr(training, "fit", None)  # would fail if anything were trained
    again, kept = rotation.pretrained(start, few(torch.arange(12) % 2), PROFILE, 0, *SETTINGS)
    assert again.hash == found.hash and kept["accuracy"] == report["accuracy"]
    with pytest.raises(TypeError):  # another seed is another backbone
        rotation.pretrained(start, few(torch.arange(12) % 2), PROFILE, 1, *SETTINGS)
