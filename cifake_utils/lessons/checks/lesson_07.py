"""Checks of the exercises of lesson 07."""

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock

from cifake_utils import evaluation, models, rotation, weights
from cifake_utils.lessons import checks, robustness
from cifake_utils.lessons.checks import Verdict

SMALL = models.Layout(BasicBlock, (1, 1, 1, 1))  # a backbone that answers in milliseconds
TILES = 400  # of exercise 5
SHARE_TWICE, TOLERANCE = 0.8, 0.08  # what exercise 5 measures; libraries and encoders of other versions differ a little


def eight_answers(guessing: float | None) -> Verdict:
    """Check the cross-entropy of guessing, where each of four turns comes mirrored or not."""
    mistakes = [
        (math.log(4), "This is the loss of guessing for the four turns alone."),
        (math.log(2), "This is the loss of guessing for the mirror alone."),
        (math.log(4) * math.log(2), "The two losses are not multiplied. How many answers are there in all?"),
        (math.log(6), "Four turns and two mirrors are not six answers: each turn comes with each mirror."),
        (3.0, "You took the logarithm to the base 2. Here it is the natural one."),
        (math.log10(8), "You took the logarithm to the base 10. Here it is the natural one."),
        (1 / 8, "This is the probability of each answer. The loss is minus its logarithm."),
        (-math.log(8), "A cross-entropy is never negative."),
    ]
    verdict = checks.value(guessing, math.log(8), mistakes)
    return checks.right("It is log 4 + log 2: the losses of two questions add up.") if verdict.right else verdict


def trace_alone(share: float | None) -> Verdict:
    """Check which share of four turns is told where 80 % of the axes are told and the direction is guessed."""
    mistakes = [
        (0.8, "This is the share of the axes. Of each axis there are two turns."),
        (0.5, "That would be so if the axis were right in all images."),
        (0.25, "This is guessing among four. The network knows a little more."),
        (0.2, "You guessed among four where the axis is right. There are only two turns of an axis."),
        (0.8 * 0.5 + 0.2 * 0.5, "Where the axis is wrong, the turn can't be right."),
        (0.8 * 0.5 + 0.2 * 0.25, "Where the axis is wrong, the turn can't be right."),
        (40, "Give a share from 0 to 1, not a percentage."),
    ]
    verdict = checks.value(share, 0.4, mistakes)
    if verdict.right:
        return checks.right("That is far above guessing, and without a look at what the images show.")
    return verdict


def upside_down(answer: Callable | None) -> Verdict:
    """Check a function that mirrors uint8 images (N, 3, H, H) top to bottom."""
    random = torch.Generator().manual_seed(7)
    cases = [
        (torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=random),)
        for count, size in ((3, 8), (1, 32), (5, 5))
    ]
    mistakes = [
        (lambda images: images, "The images are as they were. Some of what you did undid the rest."),
        (lambda images: images.flip(3), "This mirrors left to right. What has to be added?"),
        (lambda images: images.rot90(2, (2, 3)), "This is a half turn. Left and right are exchanged as well."),
        (lambda images: images.rot90(1, (2, 3)), "This is a quarter turn, and nothing is mirrored."),
        (lambda images: images.rot90(3, (2, 3)), "These are three quarter turns, and nothing is mirrored."),
        (lambda images: images.flip(3).rot90(1, (2, 3)), "Mirrored and turned, but not by a half turn."),
        (lambda images: images.flip(3).rot90(3, (2, 3)), "Mirrored and turned, but not by a half turn."),
    ]
    verdict = checks.function(answer, cases, lambda images: images.flip(2), mistakes)
    if verdict.right:
        return checks.right("So the label 0° would be given to what is, but for a mirror, a half turn.")
    return verdict


def _detector(outputs: int, seed: int) -> models.Detector:
    """Return a small detector whose running means are not those it was made with."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        made = models.Detector(models.Backbone(SMALL), ["pooled"], nn.Linear(512, outputs), weights.NONE)
    for name, buffer in made.named_buffers():
        if name.endswith("running_mean"):
            buffer.fill_(0.1 * (1 + seed))
    return made


def _same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def transferred(answer: Callable | None) -> Verdict:
    """Check a function of a detector that learned turns and a new one, which gives the new one the first's backbone."""
    if not callable(answer):
        return checks.function(answer, [], _same)
    pretext, detector = _detector(4, 1), _detector(2, 2)
    taught, new = copy.deepcopy(pretext.state_dict()), copy.deepcopy(detector.state_dict())
    head = {name.removeprefix("head."): value for name, value in new.items() if name.startswith("head.")}
    try:
        found = answer(pretext, detector)
    except Exception as error:  # whatever the reader's code raises belongs to the verdict
        return checks.wrong(f"Your function stopped with {type(error).__name__}: {error}")
    if found is None and not _same(detector.state_dict(), new):
        return checks.wrong("Your function changed the new network, but returns nothing. It must return the new one.")
    if found is None:
        return checks.missing()
    if found is pretext:
        return checks.wrong("You returned the first network. Expected the new one.")
    if not isinstance(found, models.Detector):
        return checks.wrong(f"The answer is of type {type(found).__name__}. Expected a Detector.")
    if not _same(pretext.state_dict(), taught):
        return checks.wrong("The network that has learned turns was changed.")
    if found.head.out_features != 2 or not _same(found.head.state_dict(), head):
        return checks.wrong("The head is not the one that the new network had.")
    expected = {name.removeprefix("backbone."): value for name, value in taught.items() if name.startswith("backbone.")}
    buffers = {name for name, _ in found.backbone.named_buffers()}
    wrong = {name for name, value in found.backbone.state_dict().items() if not torch.equal(value, expected[name])}
    if wrong and wrong <= buffers:
        return checks.wrong("The weights are carried over. The running means and variances of batch norm are not.")
    if wrong:
        return checks.wrong(f"{len(wrong)} of {len(expected)} tensors of the backbone are not those of the first one.")
    with torch.no_grad():
        for value in found.backbone.parameters():
            value.add_(1)
    if not _same(pretext.state_dict(), taught):
        return checks.wrong(
            "Both networks share the same backbone. When the new one learns, the first changes with it."
        )
    return checks.right("The backbone is copied with its running means, and the head is left alone.")


def encoded_twice(answer: Callable | None, share: Any, conclusion: str | None) -> Verdict:
    """Check a function that encodes, turns and encodes again, a share told after it, and what is concluded from it."""

    def encoded(images: torch.Tensor) -> torch.Tensor:
        return robustness.jpeg(images, 75)

    random = torch.Generator().manual_seed(7)
    noise = (128 + 20 * torch.randn((6, 3, 32, 32), generator=random)).round().clamp(0, 255).to(torch.uint8)
    mistakes = [
        (lambda images, turns: rotation.rotate(encoded(images), turns), "The encoding after the turn is missing."),
        (lambda images, turns: encoded(rotation.rotate(images, turns)), "The encoding before the turn is missing."),
        (lambda images, turns: encoded(images), "Nothing is turned."),
    ]
    verdict = checks.function(
        answer,
        [(noise, torch.tensor([0, 1, 0, 1, 1, 0]))],
        lambda images, turns: encoded(rotation.rotate(encoded(images), turns)),
        mistakes,
    )
    if not verdict.right:
        return verdict
    if share is None or conclusion is None:
        return checks.missing()
    if not isinstance(share, int | float | np.number) or not 0 <= share <= 1:
        return checks.wrong("Expected a share from 0 to 1.")
    if conclusion not in ("gone", "still there"):
        return checks.wrong("Expected one of the two conclusions: 'gone' or 'still there'.")
    low, high = evaluation.accuracy_interval(float(share), TILES)
    if (low <= 0.5 <= high) != (conclusion == "gone"):
        inside = "holds" if low <= 0.5 <= high else "does not hold"
        return checks.wrong(f"The interval of your share {inside} one half. What does this say?")
    if low <= 0.5 <= high:
        return checks.wrong("That is guessing. Did you call both your function and `told` with `drawn`?")
    if abs(share - SHARE_TWICE) > TOLERANCE:
        return checks.wrong("That is another share than ours. Which tiles and which turns did you take?")
    return checks.right("What was rounded to zero stays zero, so a second encoding does not hide the first.")
