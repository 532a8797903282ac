import copy
from multiprocessing.pool import ThreadPool

import pytest
import torch
from accelerate.state import AcceleratorState
from torch import nn
from torch.nn import functional as F

from cifake_utils import CifakeError, batches, data, experiments, features, models, profiles, records, training

SAMPLE = profiles.PROFILES["sample"]


@pytest.fixture(scope="module")
def model():
    return models.build("resnet50_transfer", SAMPLE)


@pytest.fixture
def few():
    """The sample with 12 images a split."""
    cifake = data.load("sample")
    small = {
        split: images.subset(torch.arange(0, len(images), len(images) // 12)[:12].numpy())
        for split, images in cifake.splits.items()
    }
    return data.Cifake(**small, class_names=cifake.class_names, source="sample", hash="few")


def test_unknown_names_list_the_known():
    with pytest.raises(CifakeError, match="resnet50_transfer"):
        models.build("resnet51")
    with pytest.raises(CifakeError, match="sample, lesson, full"):
        profiles.get("tiny")


def test_maps_at_32_pixels(model):
    with torch.no_grad():
        maps = model.backbone(torch.zeros(2, 3, 32, 32))
    shapes = {name: tuple(value.shape[1:]) for name, value in maps.items()}
    assert shapes == {
        "stem": (64, 16, 16),
        "layer1": (256, 8, 8),
        "layer2": (512, 4, 4),
        "layer3": (1024, 2, 2),
        "layer4": (2048, 1, 1),
    }


def test_only_the_head_learns_and_batch_norm_stands_still(model):
    model = copy.deepcopy(model).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    loss = F.cross_entropy(model(torch.randn(4, 3, 32, 32)), torch.tensor([0, 1, 0, 1]))
    loss.backward()
    optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"head.weight", "head.bias"}


def test_same_seed_same_head():
    first, second, other = (models.build("resnet50_transfer", SAMPLE, seed).head.weight for seed in (1, 1, 2))
    assert torch.equal(first, second) and not torch.equal(first, other)


def test_cached_training_equals_training_through_the_backbone(model, few, runs):
    accelerator = SAMPLE.accelerator()
    cached = features.cached(model.backbone, few, ["pooled"], accelerator)
    assert cached["train"].shape == (12, 2, 2048) and cached["train"].dtype == torch.float16
    curves = []
    for batch_kind, inputs, trained in (
        (batches.ImageBatches, {split: images.images for split, images in few.splits.items()}, copy.deepcopy(model)),
        (batches.FeatureBatches, cached, copy.deepcopy(model.head)),
    ):
        train, val = (batch_kind(inputs[split], few.splits[split].labels, 4) for split in ("train", "val"))
        history = training.fit(trained, train, val, epochs=4, learning_rate=1e-3, accelerator=accelerator)
        curves.append(torch.tensor([history.train_loss, history.val_loss]))
    assert torch.allclose(*curves, atol=1e-3)
    assert curves[0][0, -1] < curves[0][0, 0]


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


def test_interrupted_pass_leaves_no_file_and_the_next_one_finishes(model, few, runs, monkeypatch):
    accelerator, calls = SAMPLE.accelerator(), iter(range(3))

    def stop_in_the_second_split(images):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return batches.normalise(images)

    with monkeypatch.context() as patch:
        patch.setattr(features, "normalise", stop_in_the_second_split)
        with pytest.raises(KeyboardInterrupt):
            features.cached(model.backbone, few, ["pooled"], accelerator)
    left = {path.name for path in features.cache_folder(model.backbone, few, accelerator).iterdir()}
    assert left == {"lock", "train-pooled.npy", "train-stem_mean.npy", "train-layer1_mean.npy"}
    assert len(features.cached(model.backbone, few, ["pooled"], accelerator)) == 3


def test_two_at_a_time_make_one_pass(model, few, runs, monkeypatch):
    accelerator, passes, compute = SAMPLE.accelerator(), [], features._compute
    monkeypatch.setattr(features, "_compute", lambda *arguments: passes.append(arguments[-1]) or compute(*arguments))
    with ThreadPool(2) as pool:  # the lock is a file's: it keeps threads apart as it does processes
        first, second = pool.map(lambda _: features.cached(model.backbone, few, ["pooled"], accelerator), range(2))
    assert passes == ["train", "val", "test"]
    assert all(torch.equal(first[split], second[split]) for split in first)


def test_damaged_features_are_named(model, few, runs):
    accelerator = SAMPLE.accelerator()
    features.cached(model.backbone, few, ["pooled"], accelerator)
    file = features.cache_folder(model.backbone, few, accelerator) / "val-pooled.npy"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(CifakeError, match=r"val-pooled.npy are damaged.*Delete that file"):
        features.cached(model.backbone, few, ["pooled"], accelerator)


def test_bfloat16_autocast_on_the_cpu(model, few, runs, monkeypatch):
    plain = SAMPLE.accelerator()
    exact = features.cached(model.backbone, few, ["pooled"], plain)["val"].float()
    AcceleratorState._reset_state(reset_partial_state=True)  # accelerate keeps one precision a process
    try:
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
        accelerator = SAMPLE.accelerator()
        rounded = features.cached(model.backbone, few, ["pooled"], accelerator)["val"].float()
        difference = (rounded - exact).norm() / exact.norm()
        assert 0 < difference < 0.05
        batch = batches.ImageBatches(few.train.images, few.train.labels, 6)
        trained = copy.deepcopy(model)
        history = training.fit(trained, batch, batch, epochs=2, learning_rate=1e-3, accelerator=accelerator)
        assert history.train_loss[1] < history.train_loss[0]
        inputs = batches.normalise(few.test.images)
        assert torch.equal(trained(inputs), trained.head(trained.features(inputs)))  # autocast ended with the training
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


class Constant(nn.Module):
    """Logits that grow more confident by one parameter, right or wrong."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(()))

    def forward(self, inputs):
        return inputs * self.scale


def test_early_stopping_keeps_the_best_weights():
    # What is learned on the training labels is wrong on the validation labels: its loss only rises.
    inputs = torch.tensor([[-1.0, 1.0]] * 8).unsqueeze(1).expand(8, 2, 2)
    train = batches.FeatureBatches(inputs, torch.ones(8, dtype=torch.long), 4)
    val = batches.FeatureBatches(inputs, torch.zeros(8, dtype=torch.long), 4)
    module = Constant()
    history = training.fit(
        module, train, val, epochs=50, learning_rate=0.1, patience=3, accelerator=SAMPLE.accelerator()
    )
    assert len(history.val_loss) == 4 and history.best_epoch == 0
    assert history.train_loss == sorted(history.train_loss, reverse=True)
    assert module.scale.item() == pytest.approx(0.2, abs=0.01)  # two steps of Adam in the best epoch, undone after


def test_loop_never_waits_for_the_device(monkeypatch):
    inputs = torch.randn(64, 2, 3)
    splits = [batches.FeatureBatches(inputs, torch.arange(64) % 2, 8) for _ in range(2)]
    calls = []
    item = torch.Tensor.item
    monkeypatch.setattr(torch.Tensor, "item", lambda self: calls.append(1) or item(self))
    training.fit(nn.Linear(3, 2), *splits, epochs=2, accelerator=SAMPLE.accelerator())
    assert len(calls) <= 2 * 3  # three numbers an epoch, none a step


def test_trains_once_then_loads(runs, monkeypatch):
    monkeypatch.setitem(experiments.PAPER, "patience", 1)
    profile = profiles.Profile("sample", "sample", None, "offline", 2, True)
    model, record = experiments.train_or_load("resnet50_transfer", profile=profile)
    assert record.probabilities["test"].dtype.name == "float16" and len(record.curves["val_loss"]) == 2
    monkeypatch.setattr(training, "fit", None)  # would fail if anything were trained
    again, loaded = experiments.train_or_load("resnet50_transfer", profile=profile)
    assert torch.equal(again.head.weight, model.head.weight) and loaded.metrics == record.metrics
    assert records.latest("resnet50_transfer", profile).name == "resnet50_transfer-seed0"
