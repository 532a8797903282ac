"""The paper's loss: cross-entropy, feature similarity and confidence penalty, with learnable weights.

Sources: *From Real to Rendered*, equations 3 (feature similarity), 4 (confidence penalty) and 5 (their sum). The
confidence penalty is that of Pereyra et al., *Regularizing Neural Networks by Penalizing Confident Output
Distributions*, ICLR 2017 workshop.
"""

import torch
from torch import nn
from torch.nn import functional as F

from cifake_utils import CifakeError

SIGNS = {"penalise_confidence": 1, "as_printed": -1}
WEIGHTS = ("alpha", "beta", "gamma")
EXPONENT = 0x7F800000  # the bits of a float32 that hold the exponent; alone they are a power of two


def feature_similarity(features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the cosine similarity of the two classes' mean features (equation 3): a scalar from -1 to 1.

    The text of the paper calls it a cosine distance, but its equation is the similarity. Minimising it moves the
    classes apart. If a class is missing from the batch, or its mean is zero, the result is 0 without a gradient.

    Parameters
    ----------
    features : torch.Tensor
        Shape (N, D). Very large and very small values are fine.
    labels : torch.Tensor
        int64 (N,), REAL = 0 and FAKE = 1.

    Raises
    ------
    CifakeError
        A label is neither 0 nor 1.
    """
    require_two_classes(labels)
    return _similarity(features, labels)


def require_two_classes(labels: torch.Tensor) -> None:
    """Raise a `CifakeError` if a label is neither 0 nor 1. This makes the CPU wait for the device of the labels."""
    other = labels[(labels != 0) & (labels != 1)]
    if len(other):
        raise CifakeError(
            f"Found the label {other[0].item()}. Expected only 0 (REAL) and 1 (FAKE): the loss compares these two."
        )


def _similarity(features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return `feature_similarity`, without checking that labels are 0 or 1, which would make the CPU wait."""
    membership = (
        labels[:, None] == torch.arange(2, device=labels.device)
    ).float()  # one_hot would make the CPU wait too
    counts = membership.sum(0)
    centroids = membership.T @ features.float() / counts.clamp(min=1)[:, None]
    # Squares of very large or small numbers exceed the range of float32. Division by a power of two is exact.
    largest = centroids.detach().abs().amax(1, keepdim=True)
    power = (largest.view(torch.int32) & EXPONENT).view(torch.float32)
    centroids = centroids / torch.where(power > 0, power, torch.ones_like(power))
    similarity = F.cosine_similarity(centroids[0], centroids[1], dim=0)
    return torch.where((power > 0).all(), similarity, torch.zeros_like(similarity))


def confidence_penalty(logits: torch.Tensor, sign: str = "penalise_confidence") -> torch.Tensor:
    """Return the mean over the batch of Σ p log p, the negative entropy (equation 4): a scalar.

    It is -log C for a prediction that gives all C classes the same probability, and 0 for a certain one. So minimising
    it penalises confidence, as the text of the paper wants. The equation as printed is the entropy itself, -Σ p log p.
    Minimising that rewards confidence. ``sign="as_printed"`` gives it.

    Parameters
    ----------
    logits : torch.Tensor
        Shape (N, C). A logit of -∞, which is a probability of 0, adds nothing, since p log p tends to 0 with p.
    sign : str
        ``"penalise_confidence"`` or ``"as_printed"``.

    Raises
    ------
    CifakeError
        The sign is unknown.
    """
    _require_sign(sign)
    log_p = logits.float().log_softmax(1)
    finite = log_p.clamp_min(torch.finfo(log_p.dtype).min)  # 0 · -∞ would be NaN, here and in the gradient
    return SIGNS[sign] * (log_p.exp() * finite).sum(1).mean()


def _require_sign(sign: str) -> None:
    if sign not in SIGNS:
        raise CifakeError(f"The confidence penalty has no sign {sign!r}. Choose one of: {', '.join(SIGNS)}.")


class CombinedLoss(nn.Module):
    """α · cross-entropy + β · feature similarity + γ · confidence penalty (equation 5), with learnable α, β and γ.

    The paper does not say how α, β and γ are learned. As plain parameters they collapse: gradient descent lowers the
    weight of a positive term, in the end below zero, and raises the weight of a negative term without limit. Here they
    are a softmax of free parameters, and each has a floor. So they are positive, their sum is 1, and with the default
    floors cross-entropy always has the largest weight.

    Parameters
    ----------
    sign : str
        See `confidence_penalty`.
    floors : tuple of float
        Smallest α, β and γ: three numbers of at least 0 whose sum is at most 1, up to rounding. Gradient descent gives
        the rest of the weight to the smallest term. So the floors decide how large α stays, and not the learning. They
        were chosen on CIFAKE's validation images with model 4: 0.8 was the smallest floor of α, of those that were
        tried, without a visible loss of accuracy. Lesson 06 compares them, and shows what early stopping has to do
        with it.
    naive : bool
        Whether α, β and γ are plain parameters that start at 1, which shows the collapse. ``floors`` has no effect
        then.

    Raises
    ------
    CifakeError
        The sign is unknown, or the floors are not three such numbers.
    """

    floors: torch.Tensor

    def __init__(
        self,
        *,
        sign: str = "penalise_confidence",
        floors: tuple[float, float, float] = (0.8, 0.1, 0.05),
        naive: bool = False,
    ) -> None:
        super().__init__()
        _require_sign(sign)
        if not (len(floors) == len(WEIGHTS) and all(floor >= 0 for floor in floors) and sum(floors) <= 1 + 1e-6):
            raise CifakeError(
                f"The floors of α, β and γ are {floors}. Expected three numbers of at least 0 whose sum is at most 1."
            )
        self.sign, self.naive = sign, naive
        self.free = nn.Parameter(torch.ones(3) if naive else torch.zeros(3))
        self.register_buffer("floors", torch.tensor(floors))

    def options(self) -> dict:
        """Return all options of the loss, defaults included, as JSON types."""
        return {"sign": self.sign, "floors": [round(floor, 6) for floor in self.floors.tolist()], "naive": self.naive}

    def weights(self) -> torch.Tensor:
        """Return α, β and γ: float32 (3,)."""
        if self.naive:
            return self.free
        return self.floors + (1 - self.floors.sum()).clamp_min(0) * self.free.softmax(0)

    def forward(
        self, logits: torch.Tensor, labels: torch.Tensor, features: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the total, a scalar, and its terms and weights by name, which are scalars without a gradient.

        Parameters
        ----------
        logits : torch.Tensor
            Shape (N, 2).
        labels : torch.Tensor
            int64 (N,), REAL = 0 and FAKE = 1. They are not checked here, since this would make the CPU wait for the
            device at every step. `training.fit` checks them once, with `require_two_classes`.
        features : torch.Tensor
            Shape (N, D). They should have a gradient, because the similarity of frozen features trains nothing.
        """
        terms = {
            "cross_entropy": F.cross_entropy(logits, labels),
            "similarity": _similarity(features, labels),
            "penalty": confidence_penalty(logits, self.sign),
        }
        weights = self.weights()
        total = (weights * torch.stack(list(terms.values()))).sum()
        terms |= dict(zip(WEIGHTS, weights, strict=True))
        return total, {name: value.detach() for name, value in terms.items()}
