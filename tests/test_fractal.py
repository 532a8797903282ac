import numpy as np
import pytest
import torch

from cifake_utils import CifakeError, data, fractal, models, shapes
from cifake_utils.batches import normalise


def count_one_by_one(mask, size):
    """The definition, box by box."""
    height, width = mask.shape
    return sum(
        bool(mask[top : top + size, left : left + size].any())
        for top in range(0, height, size)
        for left in range(0, width, size)
    )


@pytest.mark.parametrize("shape", [(32, 32), (1, 7), (13, 8), (5, 31), (17, 17)])
def test_counts_follow_the_definition(shape):
    mask = np.random.default_rng(0).random(shape) < 0.1
    sizes = [1, 2, 3, 4, 6, 7, 12, 5, 40]
    assert fractal.box_counts(mask, sizes).tolist() == [count_one_by_one(mask, size) for size in sizes]


def test_batches_and_kinds():
    masks = np.random.default_rng(1).random((2, 3, 20, 12)) < 0.2
    counts = fractal.box_counts(masks, [4, 1, 2])
    assert isinstance(counts, np.ndarray) and counts.shape == (2, 3, 3) and counts.dtype == np.int64
    assert counts[1, 2].tolist() == [count_one_by_one(masks[1, 2], size) for size in (4, 1, 2)]
    tensor = fractal.box_counts(torch.from_numpy(masks).float(), [4, 1, 2])
    assert isinstance(tensor, torch.Tensor) and np.array_equal(tensor.numpy(), counts)
    assert fractal.box_counts(np.zeros((0, 8, 8)), [1, 2]).shape == (0, 2)


@pytest.mark.parametrize("name", shapes.PATTERNS)
def test_self_similar_sets_have_their_exact_dimension(name):
    shape = shapes.self_similar(name, levels=6 if len(shapes.PATTERNS[name]) == 2 else 5)
    fit = fractal.box_counting_dimension(shape.mask, shape.sizes, return_fit=True)
    assert fit.dimension == pytest.approx(shape.dimension, abs=1e-6)
    assert fit.r_squared == pytest.approx(1)
    assert fractal.box_counting_dimension(shape.mask, shape.sizes) == fit.dimension


@pytest.mark.parametrize("name", shapes.SHAPES)
def test_at_512_pixels_every_set_comes_near_its_dimension(name):
    shape = shapes.draw(name)
    assert max(shape.mask.shape) >= 512
    assert fractal.box_counting_dimension(shape.mask, shape.sizes) == pytest.approx(shape.dimension, abs=0.05)
    assert fractal.box_counting_dimension(shape.mask) == pytest.approx(shape.dimension, abs=0.15)


def test_percolation_comes_near_whatever_the_seed():
    for seed in range(10):
        shape = shapes.percolation(6, seed=seed)
        assert fractal.box_counting_dimension(shape.mask, shape.sizes) == pytest.approx(shape.dimension, abs=0.05)


def test_the_best_of_several_grids_cuts_no_box_in_two():
    mask = np.zeros((16, 16), bool)
    mask[3:7, 3:7] = True  # fits in one box of 4, but not in one of the grid that starts in the corner
    assert fractal.box_counts(mask, [1, 4]).tolist() == [16, 4]
    assert fractal.box_counts(mask, [1, 4], offsets=4).tolist() == [16, 1]
    masks = torch.rand(5, 13, 21, generator=torch.Generator().manual_seed(0)) < 0.1
    best = fractal.box_counts(masks, [1, 2, 3, 6], offsets=6)
    padded = torch.nn.functional.pad(masks, (6, 0, 6, 0))
    for row in range(5):
        for column, size in enumerate([1, 2, 3, 6]):
            starts = range(7 - size, 7)
            grids = [padded[row, top:, left:].numpy() for top in starts for left in starts]
            assert best[row, column] == min(count_one_by_one(grid, size) for grid in grids)


# What the estimators make of fractional Brownian surfaces of 256 pixels: mean error over five of them.
BIAS = {0.2: (0.001, -0.33), 0.4: (0.001, -0.292), 0.6: (0.0, -0.233), 0.8: (-0.011, -0.173)}


@pytest.mark.parametrize("hurst", BIAS)
def test_bias_of_the_grey_estimators(hurst):
    surfaces = np.stack([shapes.fractional_brownian_surface(256, hurst, seed) for seed in range(5)])
    variogram = fractal.variogram_dimension(surfaces) - (3 - hurst)
    assert np.abs(variogram).max() < 0.1
    differential = fractal.differential_box_counting_dimension(surfaces) - (3 - hurst)
    assert (variogram.mean(), differential.mean()) == pytest.approx(BIAS[hurst], abs=0.005)


@pytest.mark.parametrize("estimate", [fractal.differential_box_counting_dimension, fractal.variogram_dimension])
def test_grey_estimators_ignore_brightness_and_contrast(estimate):
    surface = shapes.fractional_brownian_surface(64, 0.5)
    assert isinstance(estimate(surface), float)
    assert estimate(7 * surface + 3) == pytest.approx(estimate(surface), abs=1e-3)
    assert estimate(np.full((64, 64), 9.0)) == pytest.approx(2)
    pair = np.stack([surface, surface.T])
    assert estimate(pair).tolist() == pytest.approx([estimate(surface), estimate(surface.T)])
    assert isinstance(estimate(torch.from_numpy(pair)), torch.Tensor)
    assert estimate((surface * 10).astype(np.int16)) > 2


def test_white_noise_is_as_rough_as_can_be():
    noise = np.random.default_rng(0).random((256, 256))
    assert fractal.variogram_dimension(noise) == pytest.approx(3, abs=0.01)


def maps(count=20, channels=6, side=16, seed=0):
    return torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("side", [8, 13, 16])
def test_hard_layer_is_box_counting(side):
    values = maps(4, 3, side)
    found = fractal.FractalDimension(3, hard=True)(values)
    for image in range(4):
        for channel in range(3):
            expected = fractal.box_counting_dimension(values[image, channel] > 0)
            assert found[image, channel].item() == pytest.approx(expected, abs=1e-5)


def test_soft_layer_tends_to_hard_counting():
    values = maps(100)
    hard = fractal.FractalDimension(6, hard=True)(values)
    errors = [
        (fractal.FractalDimension(6, temperature=temperature)(values) - hard).abs().mean()
        for temperature in (0.2, 0.1, 0.02, 0.001)
    ]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 1e-3
    assert (fractal.FractalDimension(6)(values) - hard).abs().mean() < 0.02


def test_soft_layer_on_maps_of_a_network():
    images = data.load("sample").train.images[:300]
    model = models.build("resnet50_transfer", "sample").eval()
    with torch.no_grad():
        network_maps = model.backbone(normalise(images))
    for stage in ("stem", "layer1"):
        values = network_maps[stage]
        soft = fractal.FractalDimension(values.shape[1]).fit([values[:200]])
        hard = fractal.FractalDimension(values.shape[1], hard=True)
        hard.load_state_dict(soft.state_dict())
        tested = values[200:].clone().requires_grad_()
        dimensions = soft(tested)
        assert (dimensions - hard(tested)).abs().mean() < 0.02
        dimensions.sum().backward()
        alive = tested.grad.abs().mean((0, 2, 3)) > 0
        assert alive.float().mean() > 0.9


@pytest.mark.parametrize("variogram", [False, True])
def test_gradients_are_right(variogram):
    layer = fractal.FractalDimension(2, temperature=0.3, variogram=variogram).double()
    assert torch.autograd.gradcheck(layer, maps(2, 2, 8).double().requires_grad_())


def test_fit_standardises_by_training_statistics_alone():
    training, tested = 5 * maps(50) + 2, 5 * maps(8, seed=1) + 2
    layer = fractal.FractalDimension(6, variogram=True).fit(training.split(7))
    assert torch.allclose(layer.threshold, training.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(layer.scale, training.std((0, 2, 3), correction=0), atol=1e-4)
    together = layer.train()(tested)
    assert together.shape == (8, 12)
    alone = torch.cat([layer(tested[row : row + 1]) for row in range(8)])
    assert torch.allclose(together, alone, atol=1e-6)
    loaded = fractal.FractalDimension(6, variogram=True)
    loaded.load_state_dict(layer.state_dict())
    assert torch.equal(loaded(tested), together)
    assert not list(layer.parameters())
    assert torch.allclose(together[:, 6:].double(), fractal.variogram_dimension(tested.double()), atol=1e-4)


def test_layer_under_autocast_compile_channels_last_and_without_images():
    layer, values = fractal.FractalDimension(6, variogram=True), maps()
    expected = layer(values)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(values), expected)
    assert layer(values.bfloat16()).dtype == torch.float32
    assert torch.allclose(layer(values.to(memory_format=torch.channels_last)), expected, atol=1e-5)
    traced = torch.compile(layer, backend="aot_eager", fullgraph=True)  # all of compile but the compiler
    assert torch.allclose(traced(values), expected, atol=1e-5)
    assert layer(values[:0]).shape == (0, 12)


def test_a_map_that_is_nowhere_above_its_threshold_counts_as_a_point():
    for hard in (False, True):
        assert fractal.FractalDimension(6, hard=hard)(torch.full((1, 6, 16, 16), -5.0)).abs().max() == 0


def test_intercept_is_the_log_of_the_count_at_one_pixel():
    shape = shapes.self_similar("Sierpinski carpet", 4)
    fit = fractal.box_counting_dimension(shape.mask, shape.sizes, return_fit=True)
    assert fit.counts == [8**4, 8**3, 8**2, 8] and fit.intercept == pytest.approx(np.log(8**4))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("estimate", [fractal.variogram_dimension, fractal.differential_box_counting_dimension])
def test_a_single_value_that_is_not_finite_is_found(estimate, value):
    surfaces = np.random.default_rng(0).random((2, 3, 16, 16))
    surfaces[1, 2, 5, 7] = value
    with pytest.raises(CifakeError, match="not finite"):
        estimate(surfaces)
    assert estimate(surfaces[:0]).shape == (0, 3)


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: fractal.box_counting_dimension(np.zeros((16, 16))), "empty"),
        (lambda: fractal.box_counting_dimension(np.ones((4, 64))), "at least 8 pixels"),
        (lambda: fractal.box_counting_dimension(np.ones((1, 1))), "has 0 box sizes"),
        (lambda: fractal.box_counting_dimension(np.ones((16, 16)), [1, 2, 2]), "at least 3 different"),
        (lambda: fractal.box_counting_dimension(np.ones((2, 16, 16))), r"\(2, 16, 16\)"),
        (lambda: fractal.box_counts(np.ones(5), [1]), r"\(…, H, W\)"),
        (lambda: fractal.box_counts(np.ones((5, 5)), [1, 0]), "box size of 0"),
        (lambda: fractal.box_counts(np.ones((5, 5)), [1.5]), "box size of 1.5"),
        (lambda: fractal.box_counts(np.ones((5, 5)), [1], offsets=0), "0 grid offsets"),
        (lambda: fractal.variogram_dimension(np.ones((4, 64))), r"\(4, 64\)"),
        (lambda: fractal.variogram_dimension(np.ones((16, 16)), [1, 2, 16]), "less than the shorter side"),
        (lambda: fractal.differential_box_counting_dimension(np.ones((8, 8))), "at least 16 pixels"),
        (lambda: fractal.differential_box_counting_dimension(np.ones((16, 16)), [1, 2, 4]), "from 2 up"),
        (lambda: fractal.FractalDimension(3)(torch.ones(1, 3, 1, 1)), "take the maps of the stem"),
        (lambda: fractal.FractalDimension(3)(torch.ones(1, 4, 8, 8)), r"\(N, 3, H, W\)"),
        (lambda: fractal.FractalDimension(3, temperature=0), "must be above 0"),
        (lambda: fractal.FractalDimension(3).fit([]), "no training map"),
    ],
)
def test_bad_input(call, reason):
    with pytest.raises(CifakeError, match=reason):
        call()


def test_local_dimensions_show_where_an_image_is_rough():
    image = torch.zeros(32, 32)
    image[:, 16:] = torch.rand(32, 16, generator=torch.Generator().manual_seed(0))
    local = fractal.local_dimensions(image)
    assert local.shape == (22, 22)
    assert (local[:, :5] == 2).all() and local[:, 16:].mean() == pytest.approx(3, abs=0.05)
    expected = fractal.variogram_dimension(image[3:14, 20:31], [1, 2, 4])
    assert local[3, 20].item() == pytest.approx(expected, abs=1e-5)
    for window in (7, 33):
        with pytest.raises(CifakeError):
            fractal.local_dimensions(image, window)
