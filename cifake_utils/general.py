"""The general detector: a small head on the embedded backbone that learned from many kinds of generators.

It answers in a fresh clone, in every profile. `tools/make_general.py` makes its file from features that the frozen
backbone computes. It knows more kinds of rendered images than the detector of `embedded`, and CIFAKE's less well.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import nn

from cifake_utils import familiarity, models, records, weights
from cifake_utils.familiarity import Familiarity

NAME = "general"
FILE = Path(__file__).parent / "assets" / "general_head.safetensors"
RECORD = records.REFERENCE / "zoo" / f"{NAME}-seed0.json"
LAYOUT = models.Layout(enlarge=2)
LIMIT = 5.0  # standard deviations; features farther out count as if they lay there


class Head(nn.Module):
    """Standardised features, a hidden layer and a linear layer: (N, D) to logits (N, 2).

    Parameters
    ----------
    inputs, hidden : int
        D, and the width of the hidden layer.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("scale", torch.ones(inputs))
        self.hidden, self.classify = nn.Linear(inputs, hidden), nn.Linear(hidden, 2)

    def standardised(self, features: torch.Tensor) -> torch.Tensor:
        """Return features (N, D) with mean 0 and standard deviation 1, within `LIMIT`."""
        return ((features - self.mean) / self.scale).clamp(-LIMIT, LIMIT)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.classify(self.hidden(self.standardised(features)).relu())


def averaged(heads: Sequence[Head]) -> Head:
    """Return one head whose logits are the means of those of several heads, which share their standardisation."""
    first, count = heads[0], len(heads)
    made = Head(first.hidden.in_features, sum(head.hidden.out_features for head in heads))
    made.load_state_dict(
        {
            "mean": first.mean,
            "scale": first.scale,
            "hidden.weight": torch.cat([head.hidden.weight for head in heads]),
            "hidden.bias": torch.cat([head.hidden.bias for head in heads]),
            "classify.weight": torch.cat([head.classify.weight for head in heads], 1) / count,
            "classify.bias": torch.stack([head.classify.bias for head in heads]).mean(0),
        }
    )
    return made


class GeneralDetector(models.Detector):
    """The embedded backbone on images enlarged twice, means and spreads of its maps, and a head.

    Parameters
    ----------
    head : Head
    stages : sequence of str
        The stages of the maps, in the order of the backbone.
    """

    def __init__(self, head: Head, stages: Sequence[str]) -> None:
        start = weights.load_offline()
        super().__init__(models.backbone(start, LAYOUT), (), head, start)
        self.stages = tuple(stages)
        self.requires_grad_(False).eval()

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Return what the head sees of normalised images (N, 3, 32, 32): float32 (N, D)."""
        return familiarity.means_and_spreads(self.backbone(images, last=self.stages[-1]), self.stages)


@dataclass(frozen=True)
class General:
    """The general detector with everything that its answers need.

    Attributes
    ----------
    model : GeneralDetector
        On the CPU in eval mode.
    record : records.Record
        Of its training, with P(FAKE) of a part of CIFAKE's validation and test images.
    familiarity : Familiarity
        Of `familiarity.features_of` its backbone, for CIFAKE's images and those of the zoo.
    facts : dict
        What `tools/make_general.py` measured, as JSON types: what it was trained on, AUROC on kinds of generators by a
        head like it that never saw them, and its temperature.
    """

    model: GeneralDetector
    record: records.Record
    familiarity: Familiarity
    facts: dict


@cache
def load(path: Path = FILE) -> General:
    """Return the general detector.

    Raises `verified.DamagedFile` if its file is damaged.
    """
    state, known, facts = familiarity.load(path)
    head = Head(state["hidden.weight"].shape[1], state["hidden.weight"].shape[0])
    head.load_state_dict(state)
    return General(GeneralDetector(head, facts["stages"]), records.read(RECORD), known, facts)
