import numpy as np
import pytest
import torch

from cifake_utils import CifakeError, fractal, shapes


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


@pytest.mark.parametrize("name", shapes.PATTERNS)
def test_default_sizes_come_near_at_512_pixels(name):
    shape = shapes.self_similar(name, levels=9 if len(shapes.PATTERNS[name]) == 2 else 6)
    assert min(shape.mask.shape) >= 512
    assert fractal.box_counting_dimension(shape.mask) == pytest.approx(shape.dimension, abs=0.15)


def test_intercept_is_the_log_of_the_count_at_one_pixel():
    shape = shapes.self_similar("Sierpinski carpet", 4)
    fit = fractal.box_counting_dimension(shape.mask, shape.sizes, return_fit=True)
    assert fit.counts == [8**4, 8**3, 8**2, 8] and fit.intercept == pytest.approx(np.log(8**4))


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
    ],
)
def test_bad_input(call, reason):
    with pytest.raises(CifakeError, match=reason):
        call()
