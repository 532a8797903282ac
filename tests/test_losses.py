import math

import pytest
import torch
from torch.nn import functional as F

from cifake_utils import CifakeError, experiments, losses

LABELS = torch.tensor([0, 1, 0, 1])


def features(real, fake):
    return torch.tensor([real, fake, real, fake], requires_grad=True)


@pytest.mark.parametrize(
    ("real", "fake", "expected"),
    [([1.0, 2.0], [2.0, 4.0], 1), ([1.0, 0.0], [0.0, 3.0], 0), ([1.0, 2.0], [-1.0, -2.0], -1)],
)
def test_similarity_of_identical_orthogonal_and_opposite_centroids(real, fake, expected):
    assert losses.feature_similarity(features(real, fake), LABELS).item() == pytest.approx(expected, abs=1e-6)


def test_similarity_is_of_the_class_means():
    values = torch.randn(6, 5)
    labels = torch.tensor([1, 0, 0, 1, 1, 1])
    expected = F.cosine_similarity(values[labels == 0].mean(0), values[labels == 1].mean(0), dim=0)
    assert torch.allclose(losses.feature_similarity(values, labels), expected, atol=1e-6)


def test_minimising_the_similarity_moves_the_classes_apart():
    values = features([1.0, 0.5], [0.5, 1.0])
    before = losses.feature_similarity(values, LABELS)
    before.backward()
    after = losses.feature_similarity(values - 0.1 * values.grad, LABELS)
    assert after < before


@pytest.mark.parametrize("label", [0, 1])
def test_a_missing_class_gives_zero_and_no_gradient(label):
    values = features([1.0, 2.0], [2.0, 1.0])
    similarity = losses.feature_similarity(values, torch.full((4,), label))
    similarity.backward()
    assert similarity.item() == 0 and torch.equal(values.grad, torch.zeros(4, 2))


def test_penalty_is_least_for_undecided_and_zero_for_certain_predictions():
    undecided, leaning, certain = torch.zeros(3, 2), torch.tensor([[2.0, 0.0]]), torch.tensor([[1e4, 0.0]])
    assert losses.confidence_penalty(undecided).item() == pytest.approx(-math.log(2))
    assert losses.confidence_penalty(undecided) < losses.confidence_penalty(leaning) < 0
    assert losses.confidence_penalty(certain).item() == 0
    assert losses.confidence_penalty(torch.zeros(3, 4)).item() == pytest.approx(-math.log(4))


def test_the_printed_sign_rewards_confidence():
    logits = torch.tensor([[2.0, 0.0]], requires_grad=True)
    (ours,) = torch.autograd.grad(losses.confidence_penalty(logits), logits)
    (printed,) = torch.autograd.grad(losses.confidence_penalty(logits, "as_printed"), logits)
    assert torch.equal(ours, -printed)
    assert ours[0, 0] > 0 > printed[0, 0]  # a step against the gradient makes ours less certain, the printed one more
    with pytest.raises(CifakeError, match="penalise_confidence, as_printed"):
        losses.confidence_penalty(logits, "minus")


def test_total_is_the_weighted_sum_of_the_named_terms():
    loss, logits = losses.CombinedLoss(), torch.randn(4, 2, requires_grad=True)
    total, terms = loss(logits, LABELS, features([1.0, 2.0], [2.0, 1.0]))
    assert list(terms) == ["cross_entropy", "similarity", "penalty", "alpha", "beta", "gamma"]
    expected = (
        terms["alpha"] * terms["cross_entropy"]
        + terms["beta"] * terms["similarity"]
        + terms["gamma"] * terms["penalty"]
    )
    assert torch.allclose(total, expected)
    assert total.requires_grad and not any(term.requires_grad for term in terms.values())
    assert terms["alpha"] + terms["beta"] + terms["gamma"] == pytest.approx(1)


def weights_after(loss, steps=1000):
    """Return α, β and γ after many large steps on one batch, whose terms are positive, negative and negative."""
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.05)
    logits, values = torch.tensor([[1.0, 0.0], [0.0, 1.0]] * 2), torch.tensor([[1.0, 0.0], [-1.0, 0.1]] * 2)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(logits, LABELS, values)[0].backward()
        optimizer.step()
    return loss.weights().tolist()


def test_weights_stay_above_their_floors_while_naive_ones_collapse():
    floors = (0.5, 0.1, 0.05)
    kept = weights_after(losses.CombinedLoss(floors=floors))
    assert all(weight >= floor - 1e-6 for weight, floor in zip(kept, floors, strict=True))
    assert sum(kept) == pytest.approx(1)
    alpha, beta, gamma = weights_after(losses.CombinedLoss(naive=True))
    assert alpha < 0 and beta > 10 and gamma > 10


def test_impossible_floors_are_refused():
    for floors in (
        (0.5, 0.5, 0.5),
        (-0.1, 0.1, 0.1),
        (math.nan, 0.1, 0.1),
        (0.1, 0.1, math.nan),
        (0.5, 0.1),
        (0.1,) * 4,
    ):
        with pytest.raises(CifakeError, match="floors"):
            losses.CombinedLoss(floors=floors)


@pytest.mark.parametrize("floors", [(0.7, 0.2, 0.1), (0.8, 0.15, 0.05), (0.3, 0.6, 0.1), (0.1, 0.3, 0.6)])
def test_floors_that_sum_to_one_but_for_rounding_are_the_weights(floors):
    loss = losses.CombinedLoss(floors=floors)
    assert loss.weights().tolist() == pytest.approx(floors)
    loss.free.data[0] = 100
    assert loss.weights().tolist() == pytest.approx(floors)


def test_an_unknown_sign_is_refused_before_any_training():
    with pytest.raises(CifakeError, match="penalise_confidence, as_printed"):
        losses.CombinedLoss(sign="minus")


def test_a_probability_of_zero_adds_nothing_to_the_penalty():
    logits = torch.tensor([[0.0, -math.inf, 1.0], [0.3, 0.1, 0.2]], requires_grad=True)
    without = torch.tensor([[0.0, 1.0]], requires_grad=True)
    for sign in losses.SIGNS:
        penalty = losses.confidence_penalty(logits, sign)
        alone = losses.confidence_penalty(without, sign)
        other = losses.confidence_penalty(logits[1:], sign)
        assert (2 * penalty - other).item() == pytest.approx(alone.item(), abs=1e-6)
        (gradient,) = torch.autograd.grad(penalty, logits)
        (expected,) = torch.autograd.grad(alone, without)
        assert gradient[0, 1] == 0 and gradient[1].isfinite().all()
        assert gradient[0, [0, 2]].tolist() == pytest.approx((expected[0] / 2).tolist(), abs=1e-6)


@pytest.mark.parametrize("factors", [(1e-30, 1e-30), (1e30, 1e30), (1e30, 1e-30), (1e-12, 1)])
def test_features_of_any_size_have_a_cosine_and_a_gradient(factors):
    values = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    scaled = (values * torch.tensor(factors).repeat(2)[:, None]).requires_grad_()
    similarity = losses.feature_similarity(scaled, LABELS)
    assert similarity.item() == pytest.approx(losses.feature_similarity(values, LABELS).item(), abs=1e-6)
    similarity.backward()
    assert scaled.grad.isfinite().all() and (scaled.grad != 0).any()


def test_powers_of_two_change_no_digit_of_the_similarity():
    for seed in range(20):
        values = torch.randn(6, 16, generator=torch.Generator().manual_seed(seed))
        labels = torch.tensor([0, 1, 1, 0, 1, 0])
        membership = torch.stack([labels == 0, labels == 1]).float()
        plain = F.cosine_similarity(*(membership @ values / 3), dim=0)
        for factor in (1.0, 2.0**50, 2.0**-50):
            assert losses.feature_similarity(factor * values, labels) == plain


@pytest.mark.parametrize("real", [[0.0, 0.0], [1.0, 2.0]])
def test_a_class_whose_mean_is_zero_gives_zero_and_no_gradient(real):
    values = features(real, [0.0, 0.0])
    similarity = losses.feature_similarity(values, LABELS)
    similarity.backward()
    assert similarity.item() == 0 and torch.equal(values.grad, torch.zeros(4, 2))


@pytest.mark.parametrize("label", [2, -1, -100])
def test_labels_other_than_real_and_fake_are_refused(label):
    with pytest.raises(CifakeError, match=f"label {label}. Expected only 0"):
        losses.feature_similarity(features([1.0, 2.0], [2.0, 1.0]), torch.tensor([0, 1, label, 1]))


def test_gradient_reaches_the_projection_and_the_weights_but_not_the_frozen_backbone():
    torch.manual_seed(0)
    model, loss = experiments.build("resnet50_projection", "sample"), losses.CombinedLoss()
    logits, projected = model(torch.randn(4, 3, 32, 32), with_features=True)
    assert torch.equal(model.head.classify(projected), logits)
    losses.feature_similarity(projected, LABELS).backward(retain_graph=True)
    assert model.head.project[1].weight.grad.abs().sum() > 0 and model.head.classify.weight.grad is None
    loss(logits, LABELS, projected)[0].backward()
    assert model.head.classify.weight.grad.abs().sum() > 0 and loss.free.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in model.backbone.parameters())
