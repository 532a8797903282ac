"""The paper's loss: cross-entropy, similarity of the two classes' features, confidence penalty, learnable weights.

Sources: *From Real to Rendered*, equations 3 (feature similarity), 4 (confidence penalty) and 5 (their sum); the
penalty on confidence is that of Pereyra et al., *Regularizing Neural Networks by Penalizing Confident Output
Distributions*, ICLR 2017 workshop.
"""

import torch
from torch import nn
from torch.nn import functional as F

from cifake_utils import CifakeError

SIGNS = {"penalise_confidence": 1, "as_printed": -1}
WEIGHTS = ("alpha", "beta", "gamma")
EXPONENT = 0x7F800000  # the bits of a float32 that are left of a positive number rounded down to a power of two


def feature_similarity(features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the cosine similarity of the two classes' mean features (equation 3): a scalar from -1 to 1.

    The paper's text speaks of a cosine distance, its equation is the similarity; minimising it moves the classes
    apart. A batch that lacks a class gives 0 and no gradient, and so does a class whose mean is zero.

    Parameters
    ----------
    features : torch.Tensor
        Shape (N, D), however large or small.
    labels : torch.Tensor
        int64 (N,), REAL = 0 and FAKE = 1; another one is a `CifakeError`.
    """
    require_two_classes(labels)
    return _similarity(features, labels)


def require_two_classes(labels: torch.Tensor) -> None:
    """Raise a `CifakeError` where a label is neither 0 nor 1. The CPU waits for the device of the labels."""
    other = labels[(labels != 0) & (labels != 1)]
    if len(other):
        raise CifakeError(
            f"Found the label {other[0].item()}. Expected only 0 (REAL) and 1 (FAKE): the loss compares these two."
        )


def _similarity(features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return `feature_similarity` of labels that are known to be 0 and 1, without waiting for their device."""
    membership = (labels[:, None] == torch.arange(2, device=labels.device)).float()  # one_hot would look at values
    counts = membership.sum(0)
    centroids = membership.T @ features.float() / counts.clamp(min=1)[:, None]
    # Squares of very large or small numbers leave float32's range. Dividing by a power of two alters no other digit.
    largest = centroids.detach().abs().amax(1, keepdim=True)
    power = (largest.view(torch.int32) & EXPONENT).view(torch.float32)
    centroids = centroids / torch.where(power > 0, power, torch.ones_like(power))
    similarity = F.cosine_similarity(centroids[0], centroids[1], dim=0)
    return torch.where((power > 0).all(), similarity, torch.zeros_like(similarity))


def confidence_penalty(logits: torch.Tensor, sign: str = "penalise_confidence") -> torch.Tensor:
    """Return the mean over the batch of Σ p log p, the negative entropy (equation 4): a scalar.

    It is -log C for undecided predictions over C classes and 0 for certain ones, so that minimising it penalises
    confidence, as the paper's text wants. The equation as printed is the entropy itself, -Σ p log p, and rewards
    confidence: ``sign="as_printed"``.

    Parameters
    ----------
    logits : torch.Tensor
        Shape (N, C). One of -∞, a probability of 0, adds nothing: p log p tends to 0 with p.
    sign : str
        ``"penalise_confidence"`` or ``"as_printed"``; anything else is a `CifakeError`.
    """
    _require_sign(sign)
    log_p = logits.float().log_softmax(1)
    finite = log_p.clamp_min(torch.finfo(log_p.dtype).min)  # 0 · -∞ would be NaN, here and in the gradient
    return SIGNS[sign] * (log_p.exp() * finite).sum(1).mean()


def _require_sign(sign: str) -> None:
    if sign not in SIGNS:
        raise CifakeError(f"The confidence penalty has no sign {sign!r}; choose one of: {', '.join(SIGNS)}.")


class CombinedLoss(nn.Module):
    """α · cross-entropy + β · feature similarity + γ · confidence penalty (equation 5), α, β and γ learnable.

    The paper leaves open how α, β and γ are learned. Plain parameters collapse: gradient descent lowers the weight
    of whatever is positive, below zero in the end, and raises the weight of whatever is negative without limit.
    Here they are a softmax of free numbers, with a floor under each: positive, of sum 1, and cross-entropy always
    has the largest say.

    Parameters
    ----------
    sign : str
        See `confidence_penalty`.
    floors : tuple of float
        Least α, β and γ, not negative, of sum at most 1, but for rounding. Gradient descent still hands what is left
        over to the smallest term, so the floors, not the learning, decide how much α keeps. Chosen on CIFAKE's
        validation images with model 4: accuracy 0.945 with an α of at least 0.5, 0.962 with 0.8, 0.963 with 0.9 (0.962
        without the two other terms). The smallest α that costs nothing was taken.
    naive : bool
        Plain parameters, 1 at the start, kept to show the collapse. ``floors`` says nothing then.

    Raises
    ------
    CifakeError
        An unknown sign, or floors that are not three numbers as above.
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
        """Return what the loss depends on besides its free numbers, defaults included: JSON types."""
        return {"sign": self.sign, "floors": [round(floor, 6) for floor in self.floors.tolist()], "naive": self.naive}

    def weights(self) -> torch.Tensor:
        """Return α, β and γ: shape (3,)."""
        if self.naive:
            return self.free
        return self.floors + (1 - self.floors.sum()).clamp_min(0) * self.free.softmax(0)

    def forward(
        self, logits: torch.Tensor, labels: torch.Tensor, features: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the total, a scalar, and its parts by name, scalars that carry no gradient.

        Parameters
        ----------
        logits : torch.Tensor
            Shape (N, 2).
        labels : torch.Tensor
            int64 (N,), REAL = 0 and FAKE = 1. Not looked at, since that would make the CPU wait for the device at every
            step: `training.fit` does so once, with `require_two_classes`.
        features : torch.Tensor
            Shape (N, D), with a gradient: the similarity of frozen features teaches nothing.
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
