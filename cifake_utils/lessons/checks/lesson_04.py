"""Checks of the exercises of lesson 04."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torchvision.models.resnet import BasicBlock

from cifake_utils import batches, evaluation, models
from cifake_utils.data import REAL
from cifake_utils.lessons import checks
from cifake_utils.lessons.checks import Verdict

FEATURES, BACKBONE = 2_048, 23_508_032  # of ResNet50
SMALL = models.Layout(BasicBlock, (1, 1, 1, 1))  # a backbone that answers in milliseconds


def ten_classes(parameters: float | None) -> Verdict:
    """Check how many parameters learn where the new last layer tells ten object classes apart."""
    expected = (FEATURES + 1) * 10
    mistakes = [
        (FEATURES * 10, "These are the weights. A linear layer learns one more number for each output."),
        ((FEATURES + 1) * 2, "These are the parameters of the head for two labels. The new one has ten outputs."),
        (BACKBONE + expected, "You counted the backbone too. It is frozen, so its parameters don't learn."),
    ]
    verdict = checks.value(parameters, expected, mistakes, tolerance=1e-6)
    return checks.right("A new task for a frozen backbone costs one small layer.") if verdict.right else verdict


def old_share(share: float | None) -> Verdict:
    """Check which share of a running mean is still the old one after ten batches with momentum 0.1."""
    left = 0.9**10
    mistakes = [
        (1 - left, "This is the share that the ten batches have. The question asks for what is left of the old value."),
        (0.9, "This is what is left after one batch."),
        (0.0, "Ten tenths would be all, but each batch takes a tenth of what is still there, not of the beginning."),
    ]
    verdict = checks.value(share, left, mistakes)
    if verdict.right:
        return checks.right("So ten careless batches replace about two thirds of what pre-training has measured.")
    return verdict


def _quantile_of_photographs(probabilities: np.ndarray, labels: np.ndarray, share: float) -> float:
    return float(np.quantile(probabilities[labels == REAL], 1 - share))


def threshold_for(answer: Callable | None) -> Verdict:
    """Check a function of P(FAKE) (N,), labels (N,) and a share that returns a threshold.

    At most that share of the photographs may lie above the threshold. One photograph less is accepted too.
    """
    rng = np.random.default_rng(0)
    cases = []
    for real, fake, share in ((200, 300, 0.05), (100, 150, 0.1), (400, 100, 0.02)):
        labels = rng.permutation(np.repeat([0, 1], [real, fake]))
        cases.append((rng.beta(2 + 2 * labels, 4 - 2 * labels), labels, share))

    def false_alarms(threshold_of: Callable) -> Callable:
        """Return a function that gives the number of photographs above the threshold; the accepted numbers are one."""

        def counted(probabilities: np.ndarray, labels: np.ndarray, share: float) -> Any:
            threshold = threshold_of(probabilities, labels, share)
            if not isinstance(threshold, int | float | np.number):
                return threshold  # nothing yet, or a value that the comparison describes
            photographs = probabilities[labels == REAL]
            count, most = int((photographs > threshold).sum()), round(share * len(photographs))
            return most if count == most - 1 else count

        return counted

    mistakes = [
        (lambda p, y, share: np.quantile(p[y == REAL], share), "This share lies below your threshold, not above it."),
        (lambda p, y, share: np.quantile(p, 1 - share), "You let all images in. The share is one of photographs."),
        (lambda p, y, share: np.quantile(p[y != REAL], 1 - share), "You took the FAKE images. Photographs are REAL."),
        (lambda p, y, share: np.quantile(p[y != REAL], share), "You took the FAKE images. Photographs are REAL."),
    ]
    verdict = checks.function(
        false_alarms(answer) if callable(answer) else answer,
        cases,
        false_alarms(_quantile_of_photographs),
        [(false_alarms(wrong), hint) for wrong, hint in mistakes],
    )
    if verdict.right:
        return checks.right("A threshold is a choice like any other: made on validation images, judged on test images.")
    if verdict.text.startswith("Your number is too "):
        height, count = ("high", "few") if verdict.text.endswith("small.") else ("low", "many")
        return checks.wrong(f"Your threshold is too {height}: too {count} photographs lie above it.")
    return verdict


def _small_backbone() -> models.Backbone:
    """Return a small backbone in training mode, whose running means are not those of the images."""
    with torch.random.fork_rng([]):
        torch.manual_seed(4)
        backbone = models.Backbone(SMALL)
    for name, buffer in backbone.named_buffers():
        if name.endswith("running_mean"):
            buffer.fill_(0.05)
    return backbone.train()


@torch.no_grad()
def _features_of(backbone: models.Backbone, images: torch.Tensor, stages=("layer3", "layer4")) -> torch.Tensor:
    maps = backbone.eval()(batches.normalise(images))
    return torch.cat([maps[stage].mean((2, 3)) for stage in stages], 1)


def two_stages(answer: Callable | None) -> Verdict:
    """Check a function of a backbone and uint8 images (N, 3, 32, 32) that returns features of two stages (N, D).

    The backbone comes in training mode, and must keep its running means and variances.
    """
    if not callable(answer):
        return checks.function(answer, [], _features_of)
    images = torch.randint(0, 256, (12, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    def asked(pixels: torch.Tensor) -> Any:
        backbone = _small_backbone()
        before = {name: buffer.clone() for name, buffer in backbone.named_buffers()}
        found = answer(backbone, pixels)
        if isinstance(found, torch.Tensor):
            if any(not torch.equal(before[name], buffer) for name, buffer in backbone.named_buffers()):
                raise _Careless("The backbone's running means have changed. Which mode was it in?")
            if found.requires_grad:
                raise _Careless("The features still carry a gradient. Nothing of a frozen backbone needs one.")
        return found

    def against(*, stages=("layer3", "layer4")) -> Callable:
        return lambda pixels: _features_of(_small_backbone(), pixels, stages)

    mistakes = [
        (against(stages=("layer4", "layer3")), "The stages are in the other order. Begin with layer3."),
        (against(stages=("layer4",)), "These are the features of layer4 alone."),
        (against(stages=("layer3",)), "These are the features of layer3 alone."),
        (_not_normalised, "The network expects normalised images."),
    ]
    try:
        asked(images)
    except _Careless as found:
        return checks.wrong(str(found))
    except Exception as error:  # whatever the reader's code raises belongs to the verdict
        return checks.wrong(f"Your function stopped with {type(error).__name__}: {error}")
    verdict = checks.function(asked, [(images,), (images[:5],)], against(), mistakes)
    if verdict.right:
        return checks.right("The function freezes whatever backbone it gets, so its features can be kept.")
    return verdict


class _Careless(Exception):
    """A reader's function that gives features, but does not freeze the backbone."""


@torch.no_grad()
def _not_normalised(pixels: torch.Tensor) -> torch.Tensor:
    maps = _small_backbone().eval()(pixels.float())
    return torch.cat([maps["layer3"].mean((2, 3)), maps["layer4"].mean((2, 3))], 1)


def random_backbone(
    backbone: models.Backbone | None, accuracy: Mapping[str, Any], count: int, conclusion: str | None
) -> Verdict:
    """Check an experiment: pre-trained features against those of a backbone with random weights.

    Parameters
    ----------
    backbone : Backbone
        The random one, as it was used.
    accuracy : mapping of str to float
        ``"pre-trained"`` and ``"random"``: validation accuracies, each on ``count`` images.
    count : int
    conclusion : str
        Which of the two is better, or ``"cannot tell"``.
    """
    if backbone is None or conclusion is None or None in accuracy.values():
        return checks.missing()
    if not isinstance(backbone, models.Backbone):
        return checks.wrong("The first argument is not a backbone. Make one with models.Backbone().")
    if backbone.training:
        return checks.wrong("The random backbone is in training mode. Then its features depend on their batch.")
    if bool(backbone.bn1.num_batches_tracked):
        return checks.wrong(
            "The backbone's running means are not those it was made with: it is a pre-trained one, or images went "
            "through it in training mode."
        )
    if set(accuracy) != {"pre-trained", "random"} or not all(0 <= value <= 1 for value in accuracy.values()):
        return checks.wrong("Expected two accuracies from 0 to 1, under the names 'pre-trained' and 'random'.")
    intervals = {name: evaluation.accuracy_interval(value, count) for name, value in accuracy.items()}
    better = max(accuracy, key=lambda name: accuracy[name])
    worse = min(accuracy, key=lambda name: accuracy[name])
    apart = intervals[better][0] > intervals[worse][1]
    if conclusion not in (*accuracy, "cannot tell"):
        return checks.wrong("Expected one of the three conclusions: 'pre-trained', 'random' or 'cannot tell'.")
    if conclusion != (better if apart else "cannot tell"):
        return checks.wrong(
            "Compute the Wilson interval of each accuracy. "
            + ("The two don't overlap, so chance alone would hardly do this." if apart else "The two overlap.")
        )
    return checks.right(
        "The two networks differ only in their weights, so what they have learned makes the difference."
    )
