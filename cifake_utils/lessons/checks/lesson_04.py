"""Checks of the exercises of lesson 04."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torchvision.models.resnet import BasicBlock

from cifake_utils import batches, evaluation, models, records
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
        (10, "This is the number of outputs. Each has parameters of its own."),
        ((FEATURES + 1) * 2, "These are the parameters of the head for two labels. The new one has ten outputs."),
        (BACKBONE + (FEATURES + 1) * 2, "This is the model as it was. What learns in it, and what has been replaced?"),
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
    if isinstance(share, int | float | np.number) and not 0 <= share <= 1:
        return checks.wrong("A share lies between 0 and 1.")
    if isinstance(share, int | float | np.number) and math.isclose(share, 0.1**10):
        return checks.wrong("A tenth is what each batch brings. Which share does it leave?")
    if verdict.right:
        return checks.right("So ten careless batches replace about two thirds of what pre-training has measured.")
    return verdict


def threshold_for(answer: Callable | None, caught: Any) -> Verdict:
    """Check a function of P(FAKE) (N,), labels (N,) and a share that returns a threshold, and what it is used for.

    At most that share of the photographs may lie above the threshold. One photograph less is accepted too. ``caught``
    is the share of the FAKE test images of the reference run above the threshold from its validation images.
    """
    rng = np.random.default_rng(0)
    cases = []
    for real, fake, share in ((200, 300, 0.05), (100, 150, 0.1), (400, 100, 0.02), (250, 200, 0.05)):
        labels = rng.permutation(np.repeat([0, 1], [real, fake]))
        cases.append((rng.beta(2 + 2 * labels, 4 - 2 * labels), labels, share))
    thresholds, counts = [], []

    def allowed(probabilities: np.ndarray, labels: np.ndarray, share: float) -> int:
        return int(share * (labels == REAL).sum() + 1e-9)

    def counted(probabilities: np.ndarray, labels: np.ndarray, share: float) -> Any:
        found = answer(probabilities, labels, share)  # pyright: ignore[reportOptionalCall]
        threshold = _number(found)
        if threshold is None:
            return found  # nothing yet, or a value that the comparison describes
        thresholds.append(threshold)
        counts.append(int((probabilities[labels == REAL] > threshold).sum()))
        most = allowed(probabilities, labels, share)
        return most if counts[-1] == most - 1 else counts[-1]

    verdict = checks.function(counted if callable(answer) else answer, cases, allowed)
    if verdict.right:
        return _caught(answer, caught)  # pyright: ignore[reportArgumentType]
    mistakes = [
        (lambda p, y, share: np.quantile(p[y == REAL], share), "This share lies below your threshold, not above it."),
        (lambda p, y, share: np.quantile(p, 1 - share), "You used REAL and FAKE images together."),
        (lambda p, y, share: np.quantile(p[y != REAL], 1 - share), "You took the FAKE images. Photographs are REAL."),
        (lambda p, y, share: np.quantile(p[y != REAL], share), "You took the FAKE images. Photographs are REAL."),
        (
            lambda p, y, share: np.quantile(p[y == REAL], 1 - share),
            "Where the share is no whole number of photographs, one too many lies above your threshold: it was taken "
            "between two of them.",
        ),
    ]
    if len(thresholds) == len(cases):
        for other, hint in mistakes:
            if np.allclose(thresholds, [other(*case) for case in cases], rtol=0, atol=1e-4):
                return checks.wrong(hint)
        if not any(counts):
            return checks.wrong("No photograph lies above your threshold. It is too high.")
    if verdict.text.startswith("Your number is too "):
        height, count = ("high", "few") if verdict.text.endswith("small.") else ("low", "many")
        return checks.wrong(f"Your threshold is too {height}: too {count} photographs lie above it.")
    return verdict


def _number(found: Any) -> float | None:
    """Return a number, or the one element of an array or tensor; None for anything else."""
    if hasattr(found, "item") and math.prod(found.shape) == 1:
        found = found.item()
    return float(found) if isinstance(found, int | float) else None


def _caught(answer: Callable, caught: Any) -> Verdict:
    """Check the share of FAKE test images that are caught at the threshold from the validation photographs.

    ``answer`` is the reader's function, which is right. Two right functions may differ by one photograph, and so the
    thresholds are taken from the reader's own.
    """
    if caught is None:
        return Verdict(None, "The function is right. Now use it, and write into `caught` what it catches.")
    run = records.reference("resnet50_transfer")
    threshold, other = (
        float(answer(run.probabilities[split].astype(float), run.labels[split], 0.01)) for split in ("val", "test")
    )
    test = run.probabilities["test"].astype(float)
    fake = run.labels["test"] != REAL
    expected = float((test[fake] > threshold).mean())
    from_test = float((test[fake] > other).mean())
    mistakes = [
        (
            from_test,
            "The function is right, but take the threshold from the validation images, not from the test images.",
        ),
        (
            float((test[fake] >= threshold).mean()),
            "The function is right, but count the images above the threshold, without those at it.",
        ),
        (threshold, "The function is right, but this is the threshold. `caught` is a share of the FAKE test images."),
        (100 * expected, "The function is right, but `caught` is a share, from 0 to 1."),
        (1 - expected, "The function is right, but `caught` is the share that gets away."),
        (float((test[~fake] > threshold).mean()), "The function is right, but `caught` is about the FAKE images."),
        (float((test[fake] > 0.5).mean()), "The function is right, but `caught` is still taken at the threshold ½."),
        (float((test > threshold).mean()), "The function is right, but `caught` is about the FAKE images alone."),
    ]
    found = _number(caught)
    verdict = checks.value(caught if found is None else found, expected, mistakes, tolerance=3e-4)
    if verdict.right:
        return checks.right("A threshold is a choice like any other: made on validation images, judged on test images.")
    if verdict.text.startswith("Your number is too "):
        size = verdict.text.removeprefix("Your number is too ")
        return checks.wrong(
            f"The function is right enough for our small examples, but `caught` is too {size} Was `share` 0.01?"
        )
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
def _features_of(
    backbone: models.Backbone,
    images: torch.Tensor,
    *,
    stages: Sequence[str] = ("layer3", "layer4"),
    prepare: Callable = batches.normalise,
    pool: Callable = lambda maps: maps.mean((2, 3)),
    training: bool = False,
) -> torch.Tensor:
    maps = backbone.train(training)(prepare(images))
    return torch.cat([pool(maps[stage]) for stage in stages], 1)


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
                raise _Careless(
                    "The features still carry a gradient. The backbone that your function gets may still be learning."
                )
        return found

    def against(**settings) -> Callable:
        return lambda pixels: _features_of(_small_backbone(), pixels, **settings)

    mistakes = [
        (against(stages=("layer4", "layer3")), "The stages are in the other order. Begin with layer3."),
        (against(stages=("layer4",)), "These are the features of layer4 alone."),
        (against(stages=("layer3",)), "These are the features of layer3 alone."),
        (against(prepare=torch.Tensor.float), "The network expects normalised images: use `batches.normalise`."),
        (against(prepare=lambda pixels: pixels / 255), "Scaled, but not normalised: use `batches.normalise`."),
        (against(pool=lambda maps: maps.amax((2, 3))), "This is the maximum over each map, not the mean."),
        (against(training=True), "The features were computed in training mode. Then they depend on their batch."),
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
    if backbone is None or conclusion is None or any(value is None for value in accuracy.values()):
        return checks.missing()
    if not isinstance(backbone, models.Backbone):
        return checks.wrong("The first argument is not a backbone. Make one with models.Backbone().")
    if backbone.training:
        return checks.wrong("The random backbone is in training mode. Then its features depend on their batch.")
    norm = backbone.bn1
    if bool(norm.num_batches_tracked) or bool(cast(torch.Tensor, norm.running_mean).any()):  # a file may lack the first
        return checks.wrong(
            "The backbone's running means are not those it was made with: it is a pre-trained one, or images went "
            "through it in training mode."
        )
    numbers = {name: _number(value) for name, value in accuracy.items()}
    found = {name: value for name, value in numbers.items() if value is not None and 0 <= value <= 1}
    if set(accuracy) != {"pre-trained", "random"} or len(found) < 2:
        return checks.wrong("Expected two accuracies from 0 to 1, under the names 'pre-trained' and 'random'.")
    intervals = {name: evaluation.accuracy_interval(value, count) for name, value in found.items()}
    worse, better = sorted(found, key=lambda name: found[name])
    apart = intervals[better][0] > intervals[worse][1]
    if conclusion not in (*found, "cannot tell"):
        return checks.wrong("Expected one of the three conclusions: 'pre-trained', 'random' or 'cannot tell'.")
    if conclusion != (better if apart else "cannot tell"):
        return checks.wrong(
            "Compute the Wilson interval of each accuracy. "
            + ("The two don't overlap, so chance alone would hardly do this." if apart else "The two overlap.")
        )
    meaning = {
        "pre-trained": "With these settings the pre-trained weights are better. Would another learning rate help the "
        "random ones?",
        "random": "By your numbers random weights are better, which would be a surprise. Are the two names swapped?",
        "cannot tell": "By your numbers the intervals overlap. A test on the same images might still decide.",
    }
    return checks.right(f"{meaning[conclusion]} (The check takes your two accuracies on trust.)")
