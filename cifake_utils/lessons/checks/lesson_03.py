"""Checks of the exercises of lesson 03."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models.resnet import Bottleneck

from cifake_utils import profiles, training
from cifake_utils.batches import ImageBatches
from cifake_utils.lessons import checks

SIZES = [(32, 7, 2, 3), (32, 3, 1, 1), (16, 3, 2, 1), (2, 3, 2, 1), (9, 5, 3, 0), (9, 4, 2, 1), (20, 5, 1, 2)]
CURVES = [
    ([0.7, 0.6, 0.5, 0.55, 0.65, 0.4], 2),
    ([0.7, 0.6, 0.65, 0.5, 0.4], 1),
    ([0.9, 0.8, 0.7, 0.6], 2),
    ([0.5, 0.9, 0.8, 0.7, 0.6, 0.4], 3),
    ([0.8, 0.5, 0.7, 0.6, 0.45, 0.5, 0.6, 0.55, 0.3], 3),
    ([0.7, 0.5, 0.5, 0.6, 0.7, 0.4], 2),
]
SEEDS = (11, 12)


def sure_loss(answer: float | None) -> checks.Verdict:
    """Check exercise 1: the loss of a detector that says P(FAKE) = 0.99 for every image, half of which are FAKE."""
    right, wrong = -math.log(0.99), -math.log(0.01)
    mean = (right + wrong) / 2
    mistakes = [
        (math.log(2), "That is the loss of a detector that says ½. Take the logarithms first, and then their mean."),
        (right, "That is the loss of the FAKE images alone. Half of the images are REAL."),
        (wrong, "That is the loss of the REAL images alone. Half of the images are FAKE."),
        (right + wrong, "That is a sum. Cross-entropy is the mean over the images."),
        (-mean, "The sign is wrong: logarithms of probabilities are negative, and a loss is not."),
        (mean / math.log(10), "That is with logarithms to base 10. Cross-entropy takes natural ones."),
        (mean / math.log(2), "That is with logarithms to base 2. Cross-entropy takes natural ones."),
        (0.99 * right + 0.01 * wrong, "You weighted the labels by 0.99 and 0.01. Half of the images have each label."),
        (round(mean, 1), "Give three digits after the point."),
        (round(mean, 2), "Give three digits after the point."),
        (0.5, "That is its accuracy. The loss also asks how sure the answers are."),
    ]
    verdict = checks.value(answer, mean, mistakes, tolerance=3e-4)  # 2.307 or 2.308
    return checks.right("A loss can be worse than guessing while the accuracy is not.") if verdict.right else verdict


def map_width(answer: Callable) -> checks.Verdict:
    """Check exercise 2: the width of a map from the width before, kernel, stride and padding."""

    def rule(width, kernel, stride, padding):
        return (width + 2 * padding - kernel) // stride + 1

    mistakes = [
        (lambda w, k, s, p: w // s, "Kernel and padding are missing."),
        (lambda w, k, s, p: (w + 2 * p - k) // s, "A filter that can't move still has one place: you lack a + 1."),
        (lambda w, k, s, p: (w + p - k) // s + 1, "The padding is on both sides."),
        (lambda w, k, s, p: (w - k) // s + 1, "The padding makes the map wider before the filter moves."),
        (lambda w, k, s, p: (w + 2 * p - k) / s + 1, "A width is a whole number. The filter must not step outside."),
        (lambda w, k, s, p: -(-(w + 2 * p - k) // s) + 1, "You rounded up. The filter must not step outside."),
        (lambda w, k, s, p: w + 2 * p - k + 1, "With a larger stride there are fewer places."),
    ]
    verdict = checks.function(answer, SIZES, rule, mistakes)
    return checks.right("It holds for max-pooling as well.") if verdict.right else verdict


class _WholeBlockError(Exception):
    """The reader's function calls the block that it should build."""


def shortcut(answer: Callable) -> checks.Verdict:
    """Check exercise 3: a residual block whose shortcut is a convolution with batch norm."""

    def refuse(x):
        raise _WholeBlockError

    def build(stride):
        down = nn.Sequential(nn.Conv2d(8, 16, 1, stride=stride, bias=False), nn.BatchNorm2d(16))
        block = Bottleneck(8, 4, stride=stride, downsample=down)
        block.forward = refuse
        return block

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        cases = [(torch.randn(4, 8, 6, 6), build(stride)) for stride in (2, 1)]

    def body(x, block, strides=None):
        first, second = strides or (1, block.conv2.stride[0])
        x = F.relu(block.bn1(F.conv2d(x, block.conv1.weight, stride=first)))
        x = F.relu(block.bn2(F.conv2d(x, block.conv2.weight, stride=second, padding=1)))
        return block.bn3(block.conv3(x))

    def early(x, block):
        return F.relu(body(x, block, (block.conv2.stride[0], 1)) + block.downsample(x))

    mistakes = [
        (lambda x, block: F.relu(body(x, block)), "The block's input does not reach your output."),
        (lambda x, block: body(x, block) + block.downsample(x), "The ReLU behind the sum is missing."),
        (
            lambda x, block: F.relu(body(x, block) + block.downsample[0](x)),
            "The shortcut has a batch norm behind its convolution.",
        ),
        (
            lambda x, block: F.relu(body(x, block)) + F.relu(block.downsample(x)),
            "The ReLU comes after the sum, not before it.",
        ),
        (lambda x, block: F.relu(body(x, block) + F.relu(block.downsample(x))), "The shortcut has no ReLU of its own."),
        (
            lambda x, block: F.relu(F.relu(body(x, block)) + block.downsample(x)),
            "Behind the last batch norm of F comes the sum, and only then the ReLU.",
        ),
        (early, "The stride belongs to the second convolution, with the 3×3 filter."),
        (lambda x, block: block.downsample(x), "That is the shortcut alone."),
    ]
    verdict = checks.function(answer, cases, lambda x, block: F.relu(body(x, block) + block.downsample(x)), mistakes)
    if verdict.text.startswith(f"Your function stopped with {_WholeBlockError.__name__}"):
        return checks.wrong("Build the block from its layers, without calling `block` itself.")
    if verdict.text.startswith("Your function stopped with RuntimeError"):
        return checks.wrong(f"{verdict.text.rstrip('.')}. Do the two maps of your sum have the same shape?")
    return (
        checks.right("Four blocks of ResNet50 are of this kind, the first of each layer.") if verdict.right else verdict
    )


def repaired(answer: Callable) -> checks.Verdict:
    """Check exercise 4: a backbone whose stem keeps the width of 32 pixels, and whose max-pooling does nothing."""
    if not callable(answer):
        return checks.function(answer, [], answer)
    probe = torch.linspace(-1, 1, 64 * 32 * 32).sin().reshape(1, 64, 32, 32)
    try:
        network = answer()
        if network is None:
            return checks.missing()
        with torch.no_grad():
            found = [maps.shape[-1] for maps in network.eval()(torch.zeros(1, 3, 32, 32)).values()]
            pooled = network.maxpool(probe)
    except Exception as error:  # whatever the reader's code raises belongs to the verdict
        return checks.wrong(f"Your function stopped with {type(error).__name__}: {error}")
    hints = {
        (16, 8, 4, 2, 1): "Nothing has changed.",
        (32, 16, 8, 4, 2): "The stem is repaired. What else halves the width?",
        (16, 16, 8, 4, 2): "The pooling is gone. What else halves the width?",
    }
    if found != [32, 32, 16, 8, 4]:
        *widths, last = map(str, found)
        hint = hints.get((*found,), "Stride *and* padding decide on the width behind the stem.")
        return checks.wrong(f"{hint} The widths from the stem to layer4 are {', '.join(widths)} and {last}.")
    if not torch.equal(pooled, probe):
        return checks.wrong("The widths are right, but the max-pooling still changes the maps.")
    return checks.right("The last map has 16 pixels instead of one.")


def stopping(answer: Callable) -> checks.Verdict:
    """Check exercise 5: after how many epochs training stops, and which epoch's weights are kept."""

    def rule(losses, patience, slack=0, kept=None, previous=False):
        best = 0
        for epoch, loss in enumerate(losses):
            if loss <= (losses[max(0, epoch - 1)] if previous else losses[best]):
                best = epoch
            if epoch - best >= patience + slack:
                break
        return epoch + 1, best if kept is None else kept(losses, epoch, best)

    def never_reset(losses, patience):
        best, worse = 0, 0
        for epoch, loss in enumerate(losses):
            if loss <= losses[best]:
                best = epoch
            else:
                worse += 1
            if worse >= patience:
                break
        return epoch + 1, best

    def first_of_equals(losses, patience):
        best = 0
        for epoch, loss in enumerate(losses):
            if loss < losses[best]:
                best = epoch
            if epoch - best >= patience:
                break
        return epoch + 1, best

    mistakes = [
        (lambda *case: rule(*case, slack=1), "You wait one epoch too long."),
        (lambda *case: rule(*case, slack=-1), "You stop one epoch too early."),
        (lambda *case: rule(*case, kept=lambda losses, epoch, best: epoch), "You keep the last epoch, not the best."),
        (lambda *case: rule(*case, kept=lambda losses, epoch, best: best + 1), "Count the kept epoch from 0."),
        (lambda *case: (rule(*case)[0] - 1, rule(*case)[1]), "Count the trained epochs from 1."),
        (lambda *case: rule(*case)[::-1], "First the number of trained epochs, then the kept one."),
        (never_reset, "Reset the count when there is a new lowest loss."),
        (first_of_equals, "Of equally low losses the last one counts."),
        (lambda *case: rule(*case, previous=True), "Compare with the lowest loss so far, not with the epoch before."),
        (
            lambda losses, patience: (len(losses), losses.index(min(losses))),
            "You look at the whole curve. A training can't know the losses of epochs that it does not reach.",
        ),
    ]
    if callable(answer) and _sometimes_nothing(answer):
        return checks.wrong("For some curves your function returns nothing. What if the rule never stops the training?")
    verdict = checks.function(answer, CURVES, rule, mistakes)
    return checks.right("`training.fit` stops by the same rule.") if verdict.right else verdict


def _sometimes_nothing(answer: Callable) -> bool:
    """Return whether a function returns None for some of `CURVES`, but not for all."""
    try:
        nothing = [answer([*losses], patience) is None for losses, patience in CURVES]
    except Exception:  # the check that follows reports it
        return False
    return any(nothing) and not all(nothing)


class _Surer(nn.Module):
    """A network that in eval mode says REAL with more certainty after each training step.

    So its validation loss rises, and its last one differs from its lowest. It rises slowly, so that what the seeds
    change is not small beside it.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("steps", torch.zeros((), device=next(network.parameters()).device))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = self.network(x)
        if self.training:
            self.steps += 1
            return logits
        root = self.steps.sqrt()  # pyright: ignore[reportAttributeAccessIssue]
        return logits + root / 2 * logits.new_tensor([1.0, 0.0])


def last_losses(
    answer: Callable, make: Callable[[int], nn.Module], train: ImageBatches, val: ImageBatches
) -> checks.Verdict:
    """Check exercise 6: the last validation losses of ``make(seed)``, trained for ten epochs at a rate of 0.001.

    The expected losses are those of `training.fit`, for seeds that the lesson does not use.
    """
    if not callable(answer):
        return checks.function(answer, [], make)

    def surer(seed):
        return _Surer(make(seed))

    try:
        found = answer(surer, SEEDS)
    except Exception as error:  # whatever the reader's code raises belongs to the verdict
        return checks.wrong(f"Your function stopped with {type(error).__name__}: {error}")
    if found is None:
        return checks.missing()
    accelerator = profiles.active().accelerator()

    def fit(start, order, patience=None):
        options = training.Options(learning_rate=1e-3, patience=patience)
        network = surer(start)
        return training.fit(network, train, val, epochs=10, accelerator=accelerator, options=options, seed=order)

    tolerance = 5e-3 if accelerator.mixed_precision == "no" else 0.1  # the reader's loop computes in 32 bits
    fitted = [fit(seed, seed) for seed in SEEDS]
    expected = [history.val_loss[-1] for history in fitted]
    verdict = checks.value(found, expected, tolerance=tolerance)
    if verdict.right:
        return checks.right("Now compare the two networks, seed by seed.")
    curves = [
        ([history.train_loss[-1] for history in fitted], "These are training losses."),
        ([min(history.val_loss) for history in fitted], "These are the lowest losses. Take those of the last epoch."),
        ([history.val_accuracy[-1] for history in fitted], "These are accuracies."),
        ([expected[0]] * 2, "All runs have the same seed, so they can't show what chance does."),
    ]
    seeds = "Give the seed to `learn` as well: it also sets the order of the images."
    trainings = [  # these take as long as the reader's own, so they wait until the others don't explain the answer
        (lambda seed: fit(seed, 0), seeds),
        (lambda seed: fit(0, seed), "Give the seed to `make` as well: it sets the random values at the start."),
        (lambda seed: fit(seed, seed, patience=5), "The training stopped early. Train without patience."),
    ]
    verdict = checks.value(found, expected, curves, tolerance)
    if np.shape(found) == np.shape(expected) and verdict.text not in [hint for _, hint in curves]:
        for training_of, hint in trainings:
            other = [training_of(seed).val_loss[-1] for seed in SEEDS]
            if checks.value(found, other, tolerance=tolerance).right:
                return checks.wrong(hint)
    return verdict
