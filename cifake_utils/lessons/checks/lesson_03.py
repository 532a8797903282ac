"""Checks of the exercises of lesson 03."""

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models.resnet import Bottleneck

from cifake_utils import profiles, training
from cifake_utils.batches import ImageBatches
from cifake_utils.lessons import checks

SIZES = [(32, 7, 2, 3), (32, 3, 1, 1), (16, 3, 2, 1), (2, 3, 2, 1), (9, 5, 3, 0), (9, 4, 2, 1)]
CURVES = [
    ([0.7, 0.6, 0.5, 0.55, 0.65, 0.4], 2),
    ([0.7, 0.6, 0.65, 0.5, 0.4], 1),
    ([0.9, 0.8, 0.7, 0.6], 2),
    ([0.5, 0.9, 0.8, 0.7, 0.6, 0.4], 3),
    ([0.8, 0.5, 0.7, 0.6, 0.45, 0.5, 0.6, 0.55, 0.3], 3),
]
SEEDS = (11, 12)


def sure_loss(answer: float | None) -> checks.Verdict:
    """Check exercise 1: the loss of a detector that says P(FAKE) = 0.99 for every image, half of which are FAKE."""
    right, wrong = -math.log(0.99), -math.log(0.01)
    mistakes = [
        (math.log(2), "That is the loss of a detector that says ½. This one says 0.99."),
        (right, "That is the loss of the FAKE images alone. Half of the images are REAL."),
        (wrong, "That is the loss of the REAL images alone. Half of the images are FAKE."),
        (right + wrong, "That is a sum. Cross-entropy is the mean over the images."),
        (-(right + wrong) / 2, "The sign is wrong: logarithms of probabilities are negative, and a loss is not."),
        ((right + wrong) / 2 / math.log(10), "That is with logarithms to base 10. Cross-entropy takes natural ones."),
        (0.5, "That is its accuracy. The loss also asks how sure the answers are."),
    ]
    verdict = checks.value(answer, (right + wrong) / 2, mistakes)
    return checks.right("A loss can be worse than guessing while the accuracy is not.") if verdict.right else verdict


def map_width(answer: Callable) -> checks.Verdict:
    """Check exercise 2: the width of a map from the width before, kernel, stride and padding."""

    def rule(width, kernel, stride, padding):
        return (width + 2 * padding - kernel) // stride + 1

    mistakes = [
        (lambda w, k, s, p: (w + 2 * p - k) // s, "A filter that can't move still has one place: you lack a + 1."),
        (lambda w, k, s, p: (w + p - k) // s + 1, "The padding is on both sides."),
        (lambda w, k, s, p: (w - k) // s + 1, "The padding makes the map wider before the filter moves."),
        (lambda w, k, s, p: (w + 2 * p - k) / s + 1, "A width is a whole number. The filter must not step outside."),
        (lambda w, k, s, p: -(-(w + 2 * p - k) // s) + 1, "You rounded up. The filter must not step outside."),
        (lambda w, k, s, p: w + 2 * p - k + 1, "With a larger stride there are fewer places."),
    ]
    verdict = checks.function(answer, SIZES, rule, mistakes)
    return checks.right("It holds for max-pooling as well.") if verdict.right else verdict


def shortcut(answer: Callable) -> checks.Verdict:
    """Check exercise 3: a residual block whose shortcut is a convolution with batch norm."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        down = nn.Sequential(nn.Conv2d(8, 16, 1, stride=2, bias=False), nn.BatchNorm2d(16))
        block = Bottleneck(8, 4, stride=2, downsample=down)
        maps = torch.randn(4, 8, 6, 6)
    convolve, norm = down

    def body(x, block):
        x = F.relu(block.bn1(block.conv1(x)))
        return block.bn3(block.conv3(F.relu(block.bn2(block.conv2(x)))))

    mistakes = [
        (lambda x, block: F.relu(body(x, block)), "The block's input does not reach your output."),
        (lambda x, block: body(x, block) + norm(convolve(x)), "The ReLU behind the sum is missing."),
        (
            lambda x, block: F.relu(body(x, block) + convolve(x)),
            "The shortcut has a batch norm behind its convolution.",
        ),
        (lambda x, block: F.relu(body(x, block)) + F.relu(norm(convolve(x))), "The ReLU comes after the sum."),
        (lambda x, block: norm(convolve(x)), "That is the shortcut alone."),
    ]
    verdict = checks.function(answer, [(maps, block), (maps - 1, block)], lambda x, block: block(x), mistakes)
    if verdict.text.startswith("Your function stopped with RuntimeError"):
        return checks.wrong(f"{verdict.text} Do the two maps of your sum have the same shape?")
    return (
        checks.right("Four blocks of ResNet50 are of this kind, the first of each layer.") if verdict.right else verdict
    )


def repaired(answer: Callable) -> checks.Verdict:
    """Check exercise 4: a backbone for small images, in which every place of every filter meets pixels."""
    maps = "the widths from the stem to layer4 are "

    def widths(make):
        network = make()
        if network is None:
            return None
        with torch.no_grad():
            return [value.shape[-1] for value in network.eval()(torch.zeros(1, 3, 32, 32)).values()]

    if not callable(answer):
        return checks.function(answer, [], widths)
    try:
        found = widths(answer)
    except Exception as error:  # whatever the reader's code raises belongs to the verdict
        return checks.wrong(f"Your function stopped with {type(error).__name__}: {error}")
    mistakes = [
        ([16, 8, 4, 2, 1], f"Nothing has changed: {maps}16, 8, 4, 2 and 1."),
        ([32, 16, 8, 4, 2], f"The stem is repaired, but {maps}32, 16, 8, 4 and 2. What else halves the width?"),
        ([16, 16, 8, 4, 2], f"The pooling is gone, but {maps}16, 16, 8, 4 and 2. What else halves the width?"),
    ]
    verdict = checks.value(found, [32, 32, 16, 8, 4], mistakes)
    return checks.right("The last map has 16 pixels instead of one.") if verdict.right else verdict


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

    mistakes = [
        (lambda *case: rule(*case, slack=1), "You wait one epoch too long."),
        (lambda *case: rule(*case, kept=lambda losses, epoch, best: epoch), "You keep the last epoch, not the best."),
        (lambda *case: rule(*case, kept=lambda losses, epoch, best: best + 1), "Count the kept epoch from 0."),
        (lambda *case: rule(*case, previous=True), "Compare with the lowest loss so far, not with the epoch before."),
        (
            lambda losses, patience: (len(losses), losses.index(min(losses))),
            "You look at the whole curve. A training can't know the losses of epochs that it does not reach.",
        ),
    ]
    verdict = checks.function(answer, CURVES, rule, mistakes)
    return checks.right("`training.fit` stops by the same rule.") if verdict.right else verdict


def last_losses(
    answer: Callable, make: Callable[[int], nn.Module], train: ImageBatches, val: ImageBatches
) -> checks.Verdict:
    """Check exercise 6: the last validation losses of ``make(seed)``, trained for ten epochs at a rate of 0.001.

    The expected losses are those of `training.fit`, for seeds that the lesson does not use.
    """
    if not callable(answer):
        return checks.function(answer, [], make)
    try:
        found = answer(make, SEEDS)
    except Exception as error:  # whatever the reader's code raises belongs to the verdict
        return checks.wrong(f"Your function stopped with {type(error).__name__}: {error}")
    if found is None:
        return checks.missing()
    accelerator = profiles.active().accelerator()
    options = training.Options(learning_rate=1e-3, patience=None)
    fitted = [
        training.fit(make(seed), train, val, epochs=10, accelerator=accelerator, options=options, seed=seed)
        for seed in SEEDS
    ]
    tolerance = 5e-3 if accelerator.mixed_precision == "no" else 0.1  # the reader's loop computes in 32 bits
    mistakes = [
        ([history.train_loss[-1] for history in fitted], "These are training losses."),
        ([min(history.val_loss) for history in fitted], "These are the lowest losses. Take those of the last epoch."),
        ([history.val_accuracy[-1] for history in fitted], "These are accuracies."),
        ([fitted[0].val_loss[-1]] * 2, "All runs have the same seed, so they can't show what chance does."),
    ]
    verdict = checks.value(found, [history.val_loss[-1] for history in fitted], mistakes, tolerance)
    return checks.right("Now compare the two networks, seed by seed.") if verdict.right else verdict
