import copy
from multiprocessing.pool import ThreadPool

import pytest
import torch

from cifake_utils import CifakeError, batches, data, experiments, features, models, profiles, training

SAMPLE = profiles.PROFILES["sample"]


@pytest.fixture(scope="module")
def model():
    return experiments.build("resnet50_transfer", SAMPLE)


@pytest.fixture
def few():
    """The sample with 12 images a split."""
    cifake = data.load("sample")
    small = {
        split: images.subset(torch.arange(0, len(images), len(images) // 12)[:12].numpy())
        for split, images in cifake.splits.items()
    }
    return data.Cifake(**small, class_names=cifake.class_names, source="sample", hash="few")


@pytest.mark.parametrize("name", ["resnet50_transfer", "resnet50_fractal"])
def test_cached_training_equals_training_through_the_backbone(name, few, runs):
    accelerator, model = SAMPLE.accelerator(), experiments.build(name, SAMPLE)
    model.statistics.load_state_dict(thresholds(features.fitted_statistics(model.backbone, few, accelerator), model))
    cached = features.cached(model.backbone, few, list(model.statistics), accelerator)
    width = 2048 if name == "resnet50_transfer" else 2048 + 64 + 256
    assert cached["train"].shape == (12, 2, width) and cached["train"].dtype == torch.float16
    curves, options = [], training.Options(learning_rate=1e-3)
    for batch_kind, inputs, trained in (
        (batches.ImageBatches, {split: images.images for split, images in few.splits.items()}, copy.deepcopy(model)),
        (batches.FeatureBatches, cached, copy.deepcopy(model.head)),
    ):
        train, val = (batch_kind(inputs[split], few.splits[split].labels, 4) for split in ("train", "val"))
        history = training.fit(trained, train, val, epochs=4, options=options, accelerator=accelerator)
        curves.append(torch.tensor([history.train_loss, history.val_loss]))
    assert torch.allclose(*curves, atol=5e-3)
    assert curves[0][0, -1] < curves[0][0, 0]


def thresholds(fitted, model):
    """Return the state that the model's statistics take from fitted ones."""
    return {name: value for name, value in fitted.state_dict().items() if name.split(".")[0] in model.statistics}


def test_thresholds_are_means_of_training_maps_and_kept_on_disk(model, few, runs, monkeypatch):
    accelerator = SAMPLE.accelerator()
    fitted = features.fitted_statistics(model.backbone, few, accelerator)
    with torch.no_grad():
        maps = model.backbone(batches.normalise(few.train.images))
    for stage in ("stem", "layer1"):
        layer = fitted[f"{stage}_dimension"].measure
        assert torch.allclose(layer.threshold, maps[stage].mean((0, 2, 3)), atol=1e-5)
        assert torch.allclose(layer.scale, maps[stage].std((0, 2, 3), correction=0), atol=1e-4)
    monkeypatch.setattr(features, "_maps", None)  # would fail if a map were computed again
    again = features.fitted_statistics(model.backbone, few, accelerator).state_dict()
    assert all(torch.equal(again[name], value) for name, value in fitted.state_dict().items())


def test_broken_features_keep_their_distribution_but_not_their_image():
    values = torch.randn(400, 2, 3).half() + torch.arange(400)[:, None, None] / 100
    other = features.shuffled(values, seed=0)
    assert torch.equal(other.unique(dim=0), values.unique(dim=0))  # whole rows, each once
    assert (other == values).all((1, 2)).float().mean() < 0.02
    noise = features.noise(values, seed=0)
    assert noise.shape == values.shape and noise.dtype == values.dtype
    assert noise.float().mean().abs() < 0.05 and abs(noise.float().std() - 1) < 0.05
    for broken in features.BREAKS.values():
        first, same, third = broken(values, 1), broken(values, 1), broken(values, 2)
        assert torch.equal(first, same) and not torch.equal(first, third)
        correlation = torch.corrcoef(torch.stack([first[:, 0, 0].float(), values[:, 0, 0].float()]))[0, 1]
        assert abs(correlation) < 0.15


def test_one_pass_keeps_every_statistic(model, few, runs, monkeypatch):
    accelerator = SAMPLE.accelerator()
    features.cached(model.backbone, few, ["pooled"], accelerator)
    monkeypatch.setattr(features, "_compute", None)  # would fail if another pass were made
    both = features.cached(model.backbone, few, ["stem_mean", "layer1_mean"], accelerator)
    assert both["test"].shape == (12, 2, 64 + 256)
    with torch.no_grad():
        maps = model.backbone(batches.normalise(few.test.images.flip(3)))
    expected = torch.cat([maps["stem"].mean((2, 3)), maps["layer1"].mean((2, 3))], 1)
    assert torch.allclose(both["test"][:, 1].float(), expected, atol=2e-3)


def test_a_measure_too_large_for_float16_is_named(model, few, runs, monkeypatch):
    monkeypatch.setitem(models.STATISTICS, "large", models.Statistic("stem", models.Measure(channel_sum_of_squares)))
    with pytest.raises(CifakeError, match=r"statistic large has values that are not finite.* at most 65,504"):
        features.cached(model.backbone, few, ["large"], SAMPLE.accelerator())


def channel_sum_of_squares(maps):
    return 1e6 * (maps**2).sum((2, 3))


def test_interrupted_pass_leaves_no_file_and_the_next_one_finishes(model, few, runs, monkeypatch):
    accelerator, calls = SAMPLE.accelerator(), iter(range(3))
    features.fitted_statistics(model.backbone, few, accelerator)

    def stop_in_the_second_split(images):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return batches.normalise(images)

    with monkeypatch.context() as patch:
        patch.setattr(features, "normalise", stop_in_the_second_split)
        with pytest.raises(KeyboardInterrupt):
            features.cached(model.backbone, few, ["pooled"], accelerator)
    left = {path.name for path in features.cache_folder(model.backbone, few, accelerator).iterdir()}
    made = {name.rpartition("-")[0] or name for name in left}
    assert made == {"lock", "checksums.json", "thresholds", *(f"train-{name}" for name in models.STATISTICS)}
    assert len(features.cached(model.backbone, few, ["pooled"], accelerator)) == 3


def test_two_at_a_time_make_one_pass(model, few, runs, monkeypatch):
    accelerator, passes, compute = SAMPLE.accelerator(), [], features._compute
    monkeypatch.setattr(features, "_compute", lambda *arguments: passes.append(arguments[-1]) or compute(*arguments))
    with ThreadPool(2) as pool:  # the lock is a file's: it keeps threads apart as it does processes
        first, second = pool.map(lambda _: features.cached(model.backbone, few, ["pooled"], accelerator), range(2))
    assert passes == ["train", "val", "test"]
    assert all(torch.equal(first[split], second[split]) for split in first)
