"""Images are unlike the known ones where their features lie far from those that the density was fitted to."""

import numpy as np
import pytest
import torch

from cifake_utils import batches, familiarity, models


def drawn(count, seed, scale=1.0):
    """Features that vary much along one direction and little along the others."""
    generator = torch.Generator().manual_seed(seed)
    spread = torch.tensor([10.0, *[1.0] * 99])
    return 5 + scale * torch.randn(count, 100, generator=generator) * spread


@pytest.fixture(scope="module")
def known():
    return familiarity.fit(drawn(2_000, 0), drawn(2_000, 1))


def test_a_hundredth_of_new_known_images_counts_as_unlike(known):
    distances = known.distances(drawn(5_000, 2))
    assert np.mean(distances > known.threshold) == pytest.approx(0.01, abs=0.006)
    assert np.median(distances) == pytest.approx(1, abs=0.05)


def test_what_varies_more_is_unlike_and_directions_count_by_their_variance(known):
    assert (known.distances(drawn(100, 3, scale=2)) > known.threshold).all()
    far = torch.full((2, 100), 5.0)
    far[0, 0] += 20  # two standard deviations along the long direction
    far[1, 1] += 20  # twenty along a short one
    first, second = known.distances(far)
    assert first < known.threshold < second


def test_distance_is_mahalanobis_s(known):
    precision = known.components.T @ torch.diag(1 / known.variances) @ known.components
    precision += (torch.eye(100) - known.components.T @ known.components) / known.noise
    centred = (drawn(5, 4) - known.mean) / known.scale
    expected = ((centred @ precision) * centred).sum(1).div(100).sqrt()
    assert known.distances(drawn(5, 4)) == pytest.approx(expected.numpy(), rel=1e-3)


def test_features_are_means_and_deviations_of_the_first_maps():
    torch.manual_seed(0)
    backbone = models.Backbone(models.Layout(blocks=(1, 1, 1, 1))).eval()
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    features = familiarity.features_of(backbone, images)
    assert features.shape == (3, 2 * (64 + 256)) and features.isfinite().all()
    stem = backbone(batches.normalise(images))["stem"]
    assert torch.allclose(features[:, :64], stem.mean((2, 3)), atol=1e-5)
    assert torch.allclose(features[:, 320:384].exp(), stem.std((2, 3)) + 1e-3, atol=1e-5)
    flat = familiarity.features_of(backbone, torch.full((1, 3, 32, 32), 128, dtype=torch.uint8))
    assert flat.isfinite().all() and flat[0, 320:].mean() < features[:, 320:].mean()
    known = familiarity.of(backbone, images.repeat(4, 1, 1, 1), images)
    assert known.components.shape == (6, 640)
