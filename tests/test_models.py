import copy
from functools import partial

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock

from cifake_utils import CifakeError, catalogue, experiments, models, profiles, weights
from cifake_utils.fractal import FractalDimension
from cifake_utils.support import fingerprint

SAMPLE = profiles.PROFILES["sample"]


@pytest.fixture(scope="module")
def model():
    return experiments.build("resnet50_transfer", SAMPLE)


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
    for number, last in enumerate(shapes, 1):  # stages behind the one that is asked for are not computed
        assert list(model.backbone(torch.zeros(2, 3, 32, 32), last)) == list(shapes)[:number]


@pytest.mark.parametrize("side", [1, 2, 3, 4])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (1, 2), (3, 1), (3, 2), (7, 2)])
def test_convolution_of_small_maps_is_torchs_with_its_gradients(side, kernel, stride):
    usual = nn.Conv2d(5, 4, kernel, stride, padding=kernel // 2, bias=False).double()
    ours = models.SmallMapConv2d.like(copy.deepcopy(usual))
    maps = torch.randn(2, 5, side, side, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    results = []
    for convolution in (usual, ours):
        inputs = maps.clone().requires_grad_()
        outputs = convolution(inputs)
        (outputs * torch.arange(outputs.numel()).view_as(outputs)).sum().backward()
        results.append([outputs, inputs.grad, convolution.weight.grad])
    for expected, found in zip(*results, strict=True):
        assert expected.shape == found.shape
        assert torch.allclose(expected, found, rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize(
    ("layout", "name"), [(models.RESNET50, "resnet50"), (models.Layout(BasicBlock, (2, 2, 2, 2)), "resnet18")]
)
def test_backbone_gives_torchvisions_features(layout, name):
    network = torchvision.models.get_model(name).eval().double()
    network.fc = nn.Identity()
    backbone = models.Backbone(layout).eval().double()
    backbone.load_state_dict(network.state_dict())
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        maps, folded = backbone(images), backbone.folded()(images)
        assert torch.allclose(network(images), maps["layer4"].flatten(1), rtol=1e-10)
    assert {stage: values.shape[1] for stage, values in maps.items()} == backbone.channels
    assert all(torch.allclose(maps[stage], folded[stage], rtol=1e-8) for stage in maps)


def test_a_stem_with_single_steps_doubles_every_map_with_the_same_weights():
    network = torchvision.models.resnet50().eval()
    network.fc = nn.Identity()
    backbone = models.Backbone(models.Layout(stem_stride=1)).eval()
    backbone.load_state_dict(network.state_dict())
    network.conv1.stride = (1, 1)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        maps = backbone(images)
        assert torch.allclose(network(images), maps["layer4"].mean((2, 3)), rtol=1e-4, atol=1e-5)
    assert [values.shape[3] for values in maps.values()] == [32, 16, 8, 4, 2]
    layouts = (models.RESNET50, backbone.layout, models.Layout(blocks=(3, 4, 23, 3)))
    assert [layout.fits_resnet50 for layout in layouts] == [True, True, False]


def test_a_layout_without_pooling_and_one_that_enlarges_widen_the_maps_further():
    widths = {}
    for name, layout in {
        "no pooling": models.Layout(stem_stride=1, stem_pool=False),
        "enlarged": models.Layout(enlarge=4),
    }.items():
        backbone = models.Backbone(layout).eval()
        backbone.load_state_dict(torchvision.models.resnet50().state_dict(), strict=False)
        assert layout.fits_resnet50
        widths[name] = []
        for coarse in (False, True, False):
            backbone.set_coarse(coarse)
            maps = backbone(torch.randn(2, 3, 32, 32))
            widths[name].append([values.shape[3] for values in maps.values()])
        assert ("enlarge=4" in str(backbone)) == (name == "enlarged")  # which keeps checkpoints apart
    assert widths == {
        "no pooling": [[32, 32, 16, 8, 4], [16, 16, 8, 4, 2], [32, 32, 16, 8, 4]],
        "enlarged": [[64, 32, 16, 8, 4], [32, 16, 8, 4, 2], [64, 32, 16, 8, 4]],
    }
    recipes = [models.Layout(**sizes).recipe() for sizes in ({}, {"stem_stride": 1}, {"enlarge": 4})]
    assert recipes == [["Bottleneck", [3, 4, 6, 3], *more] for more in ([], [{"stem_stride": 1}], [{"enlarge": 4}])]


def test_a_deeper_backbone_knows_its_channels():
    with torch.device("meta"):
        backbone = models.Backbone(models.Layout(blocks=(3, 4, 23, 3)))
        maps = backbone(torch.zeros(2, 3, 32, 32))
    assert {stage: values.shape[1] for stage, values in maps.items()} == backbone.channels
    assert backbone.state_dict().keys() == set(torchvision.models.resnet101().state_dict()) - {"fc.weight", "fc.bias"}


def test_weights_of_another_backbone_are_refused():
    architecture = models.Architecture(layout=models.Layout(blocks=(1, 1, 1, 1)))
    with pytest.raises(CifakeError, match=r"offline backbone .* don't fit this backbone of 1 \+ 1 \+ 1 \+ 1 blocks"):
        architecture.build(weights.load_offline())


def test_statistics_that_are_not_there_are_named():
    with pytest.raises(CifakeError, match="no statistic 'stem_median'; choose from: pooled"):
        models.widths(["stem_median"], models.RESNET50.channels)
    with pytest.raises(CifakeError, match=r"'pooled' is of the stage 'layer4', .* one of its stages: stem"):
        models.taps(["pooled"], {"stem": 64})


def test_folded_backbone_gives_the_same_maps_without_batch_norm():
    backbone = models.Backbone().double()
    images = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        backbone(images)  # means and variances that are not 0 and 1
        folded = backbone.eval().folded()
        found, expected = folded(images), backbone(images)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    for stage, maps in expected.items():
        assert torch.allclose(maps, found[stage], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "learned"),
    [
        ("resnet50_transfer", {"head.weight", "head.bias"}),
        (
            "resnet50_fractal",
            {"head.0.running_mean", "head.0.running_var", "head.0.num_batches_tracked"}
            | {"head.1.weight", "head.1.bias"},
        ),
    ],
)
def test_only_the_head_learns_and_batch_norm_stands_still(name, learned):
    model = experiments.build(name, SAMPLE).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    loss = F.cross_entropy(model(torch.randn(4, 3, 32, 32)), torch.tensor([0, 1, 0, 1]))
    loss.backward()
    optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == learned
    assert learned <= set(model.learned_state())
    assert not any(name.startswith("backbone") for name in model.learned_state())


def test_fractal_model_sees_pooled_features_and_the_dimension_of_every_early_channel():
    model = experiments.build("resnet50_fractal", SAMPLE).eval()
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        seen, maps = model.features(images), model.backbone(images)
        pooled, stem, layer1 = seen.split([2048, 64, 256], 1)
        assert torch.equal(pooled, maps["layer4"].flatten(1))
        assert torch.equal(stem, FractalDimension(64)(maps["stem"]))
        assert torch.equal(layer1, FractalDimension(256)(maps["layer1"]))
        alone = torch.cat([model.features(image[None]) for image in images])
    assert torch.allclose(seen, alone, atol=1e-4)  # batch-mates play no part


@pytest.mark.parametrize("name", [name for name in models.STATISTICS if name != "pooled"])
def test_measures_are_those_of_float32_under_autocast(name):
    tap = models.taps([name], models.RESNET50.channels)[name]
    maps = {tap.statistic.stage: torch.rand(3, models.RESNET50.channels[tap.statistic.stage], 16, 16).bfloat16()}
    with torch.autocast("cpu", torch.bfloat16):
        found = tap(maps)
    expected = tap.measure(maps[tap.statistic.stage].float())
    assert found.dtype == torch.float32 and torch.equal(found, expected)


def test_pooled_features_of_one_pixel_need_no_float32():
    """Models of the last map alone are the same under bfloat16 autocast, in every bit, as with a mean in bfloat16."""
    maps = torch.rand(8, 2048, 1, 1).bfloat16()
    head, results = nn.Linear(2048, 2), []
    for measure in (
        lambda maps: models.channel_mean(maps["layer4"]),
        models.taps(["pooled"], models.RESNET50.channels)["pooled"],
    ):
        inputs = maps.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            features = torch.cat([measure({"layer4": inputs})], 1)
            logits = head(features)
        F.cross_entropy(logits.float(), torch.arange(8) % 2).backward()
        results.append([features.detach(), logits.detach(), inputs.grad, head.weight.grad, head.bias.grad])
        head.zero_grad()
    assert [values.dtype for values in (results[0][0], results[1][0])] == [torch.bfloat16, torch.float32]
    for before, now in zip(*results, strict=True):
        assert torch.equal(before.float(), now.float()) and before.any()


def test_models_do_not_share_thresholds():
    first, second = (experiments.build("resnet50_fractal", SAMPLE, start=weights.NONE) for _ in range(2))
    first.statistics["stem_dimension"].measure.threshold.fill_(1)
    assert not second.statistics["stem_dimension"].measure.threshold.any()


def test_standardising_layer_ends_with_the_mean_and_deviation_of_all_batches():
    values, layer = torch.randn(50, 8, 5) * 3 + 7, models.standardise(5)
    for batch in values:
        layer(batch)
    assert torch.allclose(layer.running_mean, values.mean((0, 1)), atol=1e-4)
    assert torch.allclose(layer.running_var, values.var(1).mean(0), atol=1e-4)
    assert not list(layer.parameters())


def test_unknown_names_list_the_known():
    with pytest.raises(CifakeError, match="resnet50_transfer"):
        experiments.build("resnet51")
    with pytest.raises(CifakeError, match="sample, lesson, full"):
        profiles.get("tiny")


@pytest.mark.parametrize("name", ["resnet50_transfer", "resnet50_fractal", "resnet50_fractal_loss"])
def test_same_seed_same_head(name):
    first, second, other = (experiments.build(name, SAMPLE, seed).head.state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_rotation_models_need_their_backbone():
    with pytest.raises(CifakeError, match=r"has to learn rotations first.*train_or_load\('resnet50_rotation'\)"):
        experiments.build("resnet50_rotation", SAMPLE)
    start = weights.load_offline()
    model = experiments.build("resnet50_rotation", SAMPLE, start=start)
    assert model.weights_hash == start.hash and not model.frozen


def test_scratch_starts_from_the_seed_alone(monkeypatch):
    monkeypatch.setattr(weights, "load", None)  # would fail if pre-trained weights were asked for
    first, second, other = (experiments.build("resnet50_scratch", SAMPLE, seed) for seed in (1, 1, 2))
    assert fingerprint.state_hash(first.state_dict()) == fingerprint.state_hash(second.state_dict())
    assert fingerprint.state_hash(first.state_dict()) != fingerprint.state_hash(other.state_dict())
    deviation = first.backbone.conv1.weight.std().item()
    assert deviation == pytest.approx((2 / (64 * 49)) ** 0.5, rel=0.03)  # He et al. 2015, fan out


@pytest.mark.parametrize("name", sorted(catalogue.EXPERIMENTS))
def test_gradient_reaches_what_should_learn_and_nothing_else(name):
    start = weights.NONE  # random values do, and are quick
    model = experiments.build(name, SAMPLE, start=start).train()
    F.cross_entropy(model(torch.randn(4, 3, 32, 32)), torch.tensor([0, 1, 0, 1])).backward()
    assert all(parameter.grad is not None for parameter in model.head.parameters())
    reached = {parameter.grad is not None for parameter in model.backbone.parameters()}
    assert reached == {not catalogue.get(name).frozen}
    modules = [module for module in model.backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    counted = {module.num_batches_tracked.item() for module in modules}
    assert counted == {0 if catalogue.get(name).frozen else 1}


# Where this fails, the arithmetic of a measure has changed: raise the version of its `models.Measure`, so that
# nothing made with the old one is loaded, and put the new values here.
VALUES = {
    "pooled": (1, (1.0, 0.45986, 0.00234, 0.70756)),
    "stem_mean": (1, (0.11765, 0.43789, 0.00223, 0.49452)),
    "layer1_mean": (1, (0.33606, 0.29879, 0.3183, 0.01523)),
    "stem_dimension": (1, (1.70942, 1.80868, 1.62359, 0.20789)),
    "layer1_dimension": (1, (1.7923, 1.77072, 1.78814, 0.00985)),
    "stem_variogram": (1, (2.04351, 2.05337, 2.05652, 0.00777)),
    "layer1_variogram": (1, (2.36277, 2.34083, 2.36232, 0.01612)),
    "stem_deviation": (1, (0.98500, 0.87409, 0.86637, 0.07852)),
    "layer1_deviation": (1, (0.39203, 0.38192, 0.38526, 0.00441)),
    "stem_maximum": (1, (1.99491, 1.99973, 1.72553, 0.37491)),
    "layer1_maximum": (1, (0.99981, 0.99966, 0.99931, 0.00069)),
    "stem_share": (1, (0.54826, 0.68716, 0.50086, 0.20049)),
    "layer1_share": (1, (0.74981, 0.72771, 0.74557, 0.01018)),
}


def test_a_function_is_called_with_its_options_and_needs_a_name():
    def channel_power(maps, exponent=1):
        return (maps**exponent).mean((2, 3))

    maps = {"stem": torch.full((1, 64, 2, 2), 3.0)}
    squares = models.Statistic("stem", models.Measure(channel_power, options={"exponent": 2}))
    assert models.Tap(squares, 64)(maps)[0, 0] == 9 and squares.recipe()["exponent"] == 2
    with pytest.raises(CifakeError, match="Expected a function or class with a name"):
        models.Measure(partial(channel_power, exponent=2))
    recipes = [str(statistic.recipe()) for statistic in models.STATISTICS.values()]
    assert len(set(recipes)) == len(recipes)  # caches and runs tell statistics apart by these


@pytest.mark.parametrize("name", models.STATISTICS)
def test_measures_compute_what_their_versions_did(name):
    stem, layer1, layer4 = (
        torch.arange(2 * channels * side**2, dtype=torch.float32).view(2, channels, side, side)
        for channels, side in ((64, 16), (256, 8), (2048, 1))
    )
    maps = {
        "stem": (stem * 0.37).sin() + (stem * 0.011).cos(),
        "layer1": (layer1 * 0.73).sin().relu(),
        "layer4": (layer4 * 0.1).cos(),
    }
    tap, (version, expected) = models.taps([name], models.RESNET50.channels)[name], VALUES[name]
    values = tap(maps)
    found = (values[0, 0].item(), values[1, -1].item(), values.mean().item(), values.std().item())
    assert tap.statistic.recipe()["version"] == version and found == pytest.approx(expected, abs=2e-5)


def test_a_linear_head_with_features_is_a_linear_head():
    torch.manual_seed(0)
    head, features = models.LinearWithFeatures(5), torch.randn(3, 5)
    logits, same = head(features, with_features=True)
    assert torch.equal(logits, nn.functional.linear(features, head.weight, head.bias)) and same is features
    assert torch.equal(head(features), logits)
