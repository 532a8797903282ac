import warnings

import numpy as np
import pytest
import torch

from cifake_utils import CifakeError, data, experiments, fractal
from cifake_utils.batches import normalise
from cifake_utils.lessons import shapes


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
    sizes = [size for size in (1, 2, 3, 4, 6, 7, 12, 5, 31) if size <= max(shape)]
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
            expected = fractal.box_counting_dimension(
                values[image, channel] > 0, [1, 2, 4] if side < 16 else [1, 2, 4, 8]
            )
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
    model = experiments.build("resnet50_transfer", "sample").eval()
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


def test_gradients_are_right():
    layer = fractal.FractalDimension(2, temperature=0.3).double()
    assert torch.autograd.gradcheck(layer, maps(2, 2, 8).double().requires_grad_())


def test_fit_standardises_by_training_statistics_alone():
    training, tested = 5 * maps(50) + 2, 5 * maps(8, seed=1) + 2
    layer = fractal.FractalDimension(6).fit(training.split(7))
    assert torch.allclose(layer.threshold, training.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(layer.scale, training.std((0, 2, 3), correction=0), atol=1e-4)
    together = layer.train()(tested)
    assert together.shape == (8, 6)
    alone = torch.cat([layer(tested[row : row + 1]) for row in range(8)])
    assert torch.allclose(together, alone, atol=1e-6)
    loaded = fractal.FractalDimension(6)
    loaded.load_state_dict(layer.state_dict())
    assert torch.equal(loaded(tested), together)
    assert not list(layer.parameters())


def test_layer_under_autocast_compile_channels_last_and_without_images():
    layer, values = fractal.FractalDimension(6), maps()
    expected = layer(values)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(values), expected)
    assert layer(values.bfloat16()).dtype == torch.float32
    assert torch.allclose(layer(values.to(memory_format=torch.channels_last)), expected, atol=1e-5)
    traced = torch.compile(layer, backend="aot_eager", fullgraph=True)  # all of compile but the compiler
    assert torch.allclose(traced(values), expected, atol=1e-5)
    assert layer(values[:0]).shape == (0, 6)


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
        (lambda: fractal.box_counting_dimension(np.ones((16, 16)), [1, 2, 2]), "3 or more of them, none twice"),
        (lambda: fractal.box_counting_dimension(np.ones((2, 16, 16))), r"\(2, 16, 16\)"),
        (lambda: fractal.box_counts(np.ones(5), [1]), r"\(…, H, W\)"),
        (lambda: fractal.box_counts(np.ones((5, 5)), [1], offsets=0), "number of grid offsets"),
        (lambda: fractal.variogram_dimension(np.ones((4, 64))), r"\(4, 64\)"),
        (lambda: fractal.variogram_dimension(np.ones((16, 16)), [1, 2, 16]), "lags .* from 1 to 15"),
        (lambda: fractal.differential_box_counting_dimension(np.ones((8, 8))), "at least 16; this one"),
        (
            lambda: fractal.differential_box_counting_dimension(np.ones((16, 16)), [1, 2, 4]),
            "block sizes .* from 2 to 16",
        ),
        (lambda: fractal.FractalDimension(3)(torch.ones(1, 3, 1, 1)), "take the maps of the stem"),
        (lambda: fractal.FractalDimension(3)(torch.ones(1, 4, 8, 8)), r"\(N, 3, H, W\)"),
        (lambda: fractal.FractalDimension(3, temperature=0), "number above 0"),
        (lambda: fractal.FractalDimension(3, temperature=np.nan), "number above 0"),
        (lambda: fractal.FractalDimension(3).fit([]), "no training map"),
        (lambda: fractal.FractalDimension(3).fit([torch.full((1, 3, 8, 8), np.nan)]), "not finite"),
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
    for window in (7, 33, 8.5, None):
        with pytest.raises(CifakeError, match=r"side of a window .* from 8 to 32"):
            fractal.local_dimensions(image, window)


# Everything public that takes an array, and what it takes as sizes.
OF_ARRAYS = {
    "counts": (lambda array, sizes: fractal.box_counts(array, sizes), [1, 2, 4]),
    "dimension": (fractal.box_counting_dimension, [1, 2, 4]),
    "differential": (fractal.differential_box_counting_dimension, [2, 4, 8]),
    "variogram": (fractal.variogram_dimension, [1, 2, 4]),
    "windows": (lambda array, sizes: fractal.local_dimensions(array, 8), [1, 2, 4]),
}


@pytest.mark.parametrize("name", OF_ARRAYS)
def test_an_array_means_the_same_however_it_lies_in_memory(name):
    function, sizes = OF_ARRAYS[name]
    values = np.random.default_rng(0).integers(0, 3, (16, 16))
    expected = function(values.astype(float), sizes)
    read_only = values.astype(np.float32)
    read_only.flags.writeable = False
    rows = np.zeros((16, 16), [("skipped", "u1"), ("value", "f8")])
    rows["value"] = values
    kinds = [values.astype(kind) for kind in ("u1", "i2", "u2", "u4", "u8", "f2", ">f4", ">i8", ">u2", "<i4", "g")]
    layouts = [
        values[::-1, ::-1].copy()[::-1, ::-1],
        np.asfortranarray(values),
        read_only,
        rows["value"],
        values.tolist(),
    ]
    tensors = [torch.from_numpy(values).to(kind) for kind in (torch.uint16, torch.uint64, torch.half, torch.bfloat16)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for array in [*kinds, *layouts, *tensors]:
            assert np.allclose(function(array, sizes), expected, atol=1e-4)
        assert np.allclose(function(values > 1, sizes), function((values > 1).astype(float), sizes), atol=1e-4)


@pytest.mark.parametrize("name", ["differential", "variogram", "windows"])
@pytest.mark.parametrize(
    ("kind", "offset"), [(np.int64, 2**60), (np.int64, -(2**63)), (np.uint64, 2**63 - 4), (np.int32, 2**30)]
)
def test_integers_far_from_zero_keep_their_differences(name, kind, offset):
    function, sizes = OF_ARRAYS[name]
    values = np.random.default_rng(0).integers(0, 9, (16, 16))
    far = np.array([[int(value) + offset for value in row] for row in values], kind)
    assert np.allclose(function(far, sizes), function(values.astype(float), sizes), atol=1e-9)


def test_integers_over_the_whole_range_are_no_further_apart_than_they_are():
    black_and_white = np.random.default_rng(0).integers(0, 2, (16, 16))
    lowest, highest = np.iinfo(np.int64).min, np.iinfo(np.int64).max
    extreme = np.where(black_and_white, highest, lowest)
    assert fractal.variogram_dimension(extreme) == pytest.approx(fractal.variogram_dimension(black_and_white * 1.0))


@pytest.mark.parametrize("name", ["differential", "variogram"])
@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_surfaces_may_be_as_high_or_low_as_floats_go(name, factor):
    function, sizes = OF_ARRAYS[name]
    values = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(0))
    expected = function(values, sizes)
    mixed = values.clone()
    mixed[1] *= factor
    assert torch.allclose(function(mixed, sizes), expected, atol=1e-4)
    assert torch.equal(function(mixed, sizes)[[0, 2]], expected[[0, 2]])


@pytest.mark.parametrize("name", OF_ARRAYS)
def test_arrays_that_hold_no_numbers_are_refused_by_the_same_words(name):
    function, sizes = OF_ARRAYS[name]
    values = np.ones((16, 16))
    for value in (np.nan, np.inf, -np.inf):
        values[3, 4] = value
        for array in (values, values.tolist(), torch.from_numpy(values)):
            with pytest.raises(CifakeError, match="not finite"):
                function(array, sizes)
    for array in (values.astype(str), values.astype(object), [[1, 2], [3]], "mask", None, values + 1j):
        with pytest.raises(CifakeError, match="needs numbers"):
            function(array, sizes)
    with pytest.raises(CifakeError, match="real numbers"):
        function(torch.ones(16, 16) + 1j, sizes)
    with pytest.raises(CifakeError, match=r"H and W at least .*\(16,\)"):
        function(np.ones(16), sizes)


WRONG = [[], [1, 2, np.nan], [1, 2, np.inf], [1, 2.5, 4], [1, 2, 17], [1, 2, 2, 4], [0, 1, 2], [-1, 2, 4], [True, 2, 4]]
WRONG += [["1", "2", "4"], "124", 4, [1, None, 4], [[1, 2, 4]], np.array([True, False]), torch.tensor([0.5, 1, 2])]


@pytest.mark.parametrize("sizes", WRONG, ids=str)
@pytest.mark.parametrize("name", ["counts", "dimension", "differential", "variogram"])
def test_sizes_are_refused_by_the_same_words(name, sizes):
    with pytest.raises(CifakeError, match=r"Expected whole numbers from . to 1., . or more of them, none twice"):
        OF_ARRAYS[name][0](np.ones((16, 16)), sizes)


@pytest.mark.parametrize("sizes", [(2, 4, 8), np.array([2, 4, 8]), np.array([2.0, 4.0, 8.0]), torch.tensor([2, 4, 8])])
@pytest.mark.parametrize("name", ["counts", "dimension", "differential", "variogram"])
def test_sizes_come_in_any_sequence(name, sizes):
    array = np.random.default_rng(0).integers(0, 3, (16, 16))
    assert np.array_equal(OF_ARRAYS[name][0](array, sizes), OF_ARRAYS[name][0](array, [2, 4, 8]))


def test_an_empty_batch_has_an_empty_result():
    for kind in (np.float32, np.int64, np.uint64, bool):
        nothing = np.zeros((0, 16, 20), kind)
        assert fractal.box_counts(nothing, [1, 2, 4]).shape == (0, 3)
        assert fractal.box_counts(nothing, [1, 2, 4], offsets=2).shape == (0, 3)
        assert fractal.differential_box_counting_dimension(nothing).shape == (0,)
        assert fractal.variogram_dimension(nothing).shape == (0,)
        assert fractal.local_dimensions(nothing, 8).shape == (0, 9, 13)


def disc(side):
    rows, columns = np.mgrid[:side, :side] - (side - 1) / 2
    return rows**2 + columns**2 <= (side / 2) ** 2


def test_a_filled_map_has_dimension_two_whatever_its_size():
    for side in [*range(16, 130), 255, 257, 300, 511, 513, 1000]:
        assert fractal.box_counting_dimension(np.ones((side, side))) == pytest.approx(2, abs=0.05)
        assert fractal.differential_box_counting_dimension(np.ones((side, side))) == pytest.approx(2, abs=1e-5)
    for height, width in [(16, 300), (300, 16), (17, 300), (31, 33), (17, 19), (22, 26), (25, 29), (100, 250)]:
        assert fractal.box_counting_dimension(np.ones((height, width))) == pytest.approx(2, abs=0.14)
    for side in (16, 17, 18, 25, 31, 33, 47):
        assert fractal.box_counting_dimension(disc(side)) == pytest.approx(2, abs=0.18)
    for side in (64, 65, 92, 127, 129, 300):
        assert fractal.box_counting_dimension(disc(side)) == pytest.approx(2, abs=0.1)


def test_default_sizes_lie_near_powers_of_two_and_are_these_where_they_fit():
    for power in range(3, 12):
        expected = [2**k for k in range(power)]
        assert fractal.default_sizes(2**power, 2**power) == expected
        assert fractal.default_sizes(2**power, 3 * 2**power) == expected
    assert fractal.default_sizes(33, np.int64(33)) == [1, 2, 3, 11, 17]
    for side in (33.5, np.nan, None, True, "33", -33):
        with pytest.raises(CifakeError, match="Expected whole numbers from 1 up"):
            fractal.default_sizes(side, 33)
    assert fractal.default_sizes(729, 729) == [1, 2, 3, 9, 17, 27, 81, 146, 243]
    for side in range(8, 200):
        for power, size in enumerate(fractal.default_sizes(side, side + 5)):
            assert 4**power < 2 * size**2 < 4 * 4**power or size == 1


def checkerboard(period, side=32):
    rows, columns = np.indices((side, side)) // (period // 2)
    return (rows + columns) % 2 * 1.0


def test_a_variogram_without_increments_at_a_lag_is_not_that_of_a_smooth_surface():
    for side in (8, 16, 32):
        assert fractal.variogram_dimension(checkerboard(2, side)) == 3
        assert fractal.variogram_dimension(np.indices((side, side))[0] % 2) == 3  # stripes
    assert fractal.variogram_dimension(checkerboard(2), [2, 4, 8]) == 3
    assert fractal.variogram_dimension(checkerboard(4)) == 3  # lags 1 and 2 are left of 1, 2, 4 and 8
    texture = np.tile(np.random.default_rng(0).random((8, 8)), (4, 4))  # no increments at lag 8
    assert fractal.variogram_dimension(texture) == pytest.approx(fractal.variogram_dimension(texture, [1, 2, 4]))
    assert fractal.variogram_dimension(np.stack([texture, 0 * texture]))[1] == 2
    assert (fractal.local_dimensions(checkerboard(2)) == 3).all()


def test_maps_that_repeat_themselves_leave_outputs_and_gradients_finite():
    repeated = torch.from_numpy(np.stack([checkerboard(2, 8), checkerboard(4, 8), 0 * checkerboard(2, 8)])).float()
    values = torch.stack([maps(1, 3, 8)[0], repeated]).requires_grad_()
    found = torch.cat([fractal.FractalDimension(3)(values), fractal.variogram_dimension(values)], 1)
    found.sum().backward()
    assert found.isfinite().all() and values.grad.isfinite().all()
    assert found[1, 3:].tolist() == [3, 3, 2]


def test_occupied_share_counts_pixels_above_the_threshold_and_forgets_where_they_are():
    maps = torch.rand(3, 2, 16, 16, generator=torch.Generator().manual_seed(0))
    layer = fractal.OccupiedShare(2, hard=True).fit([maps])
    above = (maps > layer.threshold[:, None, None]).float().mean((2, 3))
    assert torch.equal(layer(maps), above) and 0.3 < above.min() and above.max() < 0.7
    order = torch.randperm(256, generator=torch.Generator().manual_seed(1))
    elsewhere = maps.flatten(2)[:, :, order].view_as(maps)
    assert torch.allclose(layer(elsewhere), above)
    sorted_maps = maps.flatten(2).sort(2).values.view_as(maps)  # the same pixels, gathered at one side
    dimension = fractal.FractalDimension(2, hard=True).fit([maps])
    assert not torch.allclose(dimension(sorted_maps), dimension(maps), atol=0.05)
