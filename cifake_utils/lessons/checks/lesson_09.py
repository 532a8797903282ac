"""Checks of the exercises of lesson 09."""

from collections.abc import Callable
from functools import cache

import numpy as np
from scipy.special import expit, logit

from cifake_utils import records
from cifake_utils.evaluation import LOG_LOSS_MARGIN
from cifake_utils.lessons import checks, comparison, further
from cifake_utils.lessons.checks import Verdict

FIVE = ("scratch", "rotation", "finetuned", "embedded", "strong")


def shares(in_layer3: float | None, in_layer4: float | None) -> Verdict:
    """Check which share of the 3×3 weights of layer3 and of layer4 meets a pixel of an image of 16 pixels."""
    mistakes = [
        (4 / 9, "This is the first block of layer3 alone. The other five see a map of one pixel."),
        (1 / 9, "This holds for blocks that see a single pixel. The first block of layer3 sees two."),
        (5 / 6, "These are the weights that never meet a pixel."),
        (2 / 9, "This is layer4 from an image of 32 pixels. Layer3 has six blocks."),
        (1.0, "Count the weights that lie on a pixel at some place, and not those that there are."),
    ]
    verdict = checks.value(in_layer3, 1 / 6, mistakes)
    if not verdict.right:
        return verdict
    if in_layer4 is None:
        return Verdict(None, "The share of layer3 is right. Now that of layer4.")
    mistakes = [
        (2 / 9, "Layer3 is right. In layer4 you took its first block to see two pixels. How wide is layer3's map?"),
        (8 / 9, "Layer3 is right. In layer4 these are the weights that never meet a pixel."),
        (1 / 6, "Layer3 is right. In layer4 every block sees a single pixel."),
    ]
    verdict = checks.value(in_layer4, 1 / 9, mistakes)
    if verdict.right:
        return checks.right(
            "Coarse epochs at 32 pixels would leave most 3×3 weights of two stages nothing to learn from."
        )
    return verdict


def three_widths(found: float | None) -> Verdict:
    """Check the price of six epochs at a quarter of the width, three at half and three at all of it, of twelve."""
    mistakes = [
        ((6 / 4 + 3 / 2 + 3) / 12, "You took the price in proportion to the width. It goes with the square."),
        (6 / 16 + 3 / 4 + 3, "This is the price in epochs. Divide it by that of twelve epochs."),
        (1 - (6 / 16 + 3 / 4 + 3) / 12, "This is what is saved."),
        ((6 / 4 + 3 / 4 + 3) / 12, "A quarter of the width has not a quarter of the places, but fewer."),
        ((6 / 64 + 3 / 8 + 3) / 12, "A map has two directions, not three."),
    ]
    verdict = checks.value(found, (6 / 16 + 3 / 4 + 3) / 12, mistakes)
    if verdict.right:
        return checks.right("A third of the price. Whether the network learns as much from it must be measured.")
    return verdict


@cache
def _errors() -> tuple[np.ndarray, int]:
    """Return the error rates of the five models on test images, and the number of these images."""
    runs = [records.reference(f"resnet50_{name}") for name in FIVE]
    rates = [1 - comparison.correct(run.probabilities["test"], run.labels["test"]).mean() for run in runs]
    return np.array(rates), len(runs[0].labels["test"])


def _binomial(errors: np.ndarray) -> np.ndarray:
    return further.several_wrong([np.mean(errors)] * len(errors))  # pyright: ignore[reportArgumentType]


def several(answer: Callable | None, three_or_more: float | None) -> Verdict:
    """Check a function that returns how probable 0 to K wrong models are, and the images with three or more of five."""
    cases = [(np.array([0.5, 0.1]),), (np.array([0.2, 0.3, 0.9]),), (np.array([0.01, 0.4, 0.6, 0.05]),)]
    mistakes: list[tuple[Callable, str]] = [
        (lambda errors: further.several_wrong(errors)[::-1], "The order is turned round: 0 wrong models come first."),
        (lambda errors: further.several_wrong(errors)[1:], "The probability that none is wrong is missing."),
        (_binomial, "You gave all models their mean error rate. They have rates of their own."),
        (
            lambda errors: np.array([np.prod(1 - errors), *np.cumprod(errors)]),
            "You multiplied the error rates of the first k models. Any k of them may be the wrong ones.",
        ),
        (lambda errors: further.several_wrong(1 - errors), "You counted the models that are right."),
        (lambda errors: np.cumsum(further.several_wrong(errors)), "You added them up. Expected *exactly* k wrong."),
    ]
    verdict = checks.function(answer, cases, lambda errors: further.several_wrong(errors), mistakes)
    if not verdict.right:
        return verdict
    if three_or_more is None:
        return Verdict(None, "The function is right. Now the number of images.")
    (errors, count), chances = _errors(), further.several_wrong(_errors()[0])  # pyright: ignore[reportArgumentType]
    wrong = [
        (chances[3:].sum(), "The function is right, but this is a probability. How many of the images is that?"),
        (count * chances[3], "The function is right, but this is exactly three. Three or more are asked for."),
        (count * chances[4:].sum(), "The function is right, but this is more than three."),
        (count * chances[2:].sum(), "The function is right, but this is two or more."),
        (count * errors.prod(), "The function is right, but this is all five."),
        ((count * chances[3:].sum()).round(1), "The function is right. The number is rounded: give more digits."),
    ]
    verdict = checks.value(three_or_more, count * chances[3:].sum(), wrong, tolerance=2e-3)
    if verdict.right:
        return checks.right("Compare it with how many there are: the solution does.")
    return verdict


def _weighted(probabilities: np.ndarray, w: np.ndarray) -> np.ndarray:
    clipped = np.asarray(probabilities, float).clip(LOG_LOSS_MARGIN, 1 - LOG_LOSS_MARGIN)
    return expit(np.asarray(w, float) @ logit(clipped))


@cache
def _curve(split: str) -> np.ndarray:
    """Return the accuracy of strong and finetuned together for eleven weights of strong, from 0 to 1: (11,)."""
    runs = [records.reference(f"resnet50_{name}") for name in ("strong", "finetuned")]
    p = np.array([run.probabilities[split] for run in runs])
    weights = np.arange(11) / 10
    shares = (np.array([w, 1 - w]) for w in weights)
    return np.array([comparison.correct(_weighted(p, share), runs[0].labels[split]).mean() for share in shares])


def weighted(answer: Callable | None, chosen: float | None, accuracy: float | None) -> Verdict:
    """Check a weighted average of log odds, the weight chosen on validation images, and the test accuracy with it."""
    rng = np.random.default_rng(0)
    cases = [
        (rng.random((2, 30)), np.array([0.9, 0.1])),
        (rng.beta(0.3, 0.3, (3, 30)), np.array([0.2, 0.3, 0.5])),
        (np.array([[1.0, 0.0, 0.7], [0.2, 0.6, 0.0]]), np.array([0.6, 0.4])),
    ]
    mistakes: list[tuple[Callable, str]] = [
        (lambda p, w: w @ np.asarray(p, float), "You averaged the probabilities. Average their log odds."),
        (lambda p, w: _weighted(p, np.full(len(w), 1 / len(w))), "Your average does not use the weights."),
        (lambda p, w: logit(_weighted(p, w)), "These are log odds. Turn them back."),
        (lambda p, w: _weighted(p, w[::-1]), "The weights belong to the models in the order in which they come."),
        (lambda p, w: _weighted(p, w / len(w)), "The weights have the sum 1 already. You divided once more."),
    ]
    with np.errstate(all="ignore"):
        verdict = checks.function(answer, cases, _weighted, mistakes)
    if not verdict.right:
        return verdict
    if chosen is None or accuracy is None:
        return Verdict(None, "The function is right. Now choose the weight, then the accuracy on test images.")
    val, test = _curve("val"), _curve("test")
    best = 10 - int(val[::-1].argmax())
    wrong = [
        (1 - best / 10, "The function is right, but this is the weight of the other model."),
        (0.5, "The function is right, but these are equal weights. Try all eleven on validation images."),
        ((10 - int(test[::-1].argmax())) / 10, "The function is right, but test images are not there to choose with."),
        (1.0, "The function is right, but this is strong alone. Is there nothing better on validation images?"),
    ]
    wrong = [(number, hint) for number, hint in wrong if abs(number - best / 10) > 1e-6]
    verdict = checks.value(chosen, best / 10, wrong)
    if not verdict.right:
        return verdict
    wrong = [
        (val[best], "The weight is right, but this is the accuracy on validation images."),
        (1 - test[best], "The weight is right, but this is the share of errors."),
        (100 * test[best], "The weight is right. Write the accuracy as a number from 0 to 1."),
        (test[10], "The weight is right, but this is the accuracy of strong alone."),
        (test[best].round(4), "The weight is right. The accuracy is rounded: give all its digits."),
    ]
    wrong = [(number, hint) for number, hint in wrong if abs(number - test[best]) > 1e-6]
    verdict = checks.value(accuracy, test[best], wrong, tolerance=2e-5)
    if verdict.right:
        return checks.right("Is that a gain? The solution tests it.")
    return verdict


def views_or_pixels(difference: float | None, p_value: float | None, times: float | None) -> Verdict:
    """Check ten views of *stem stride 1* against one view of *enlarged twice*: difference, p-value and price."""
    if difference is None or p_value is None or times is None:
        return checks.missing()
    made = further.trials()
    views, pixels = made["stem stride 1"], made["enlarged twice"]

    def tested(ours: str, theirs: str) -> comparison.PairedTest:
        return comparison.paired_tests({"views": views.correct(ours), "pixels": pixels.correct(theirs)})[0]

    right, two = tested("mirror images and shifts", "alone"), tested("mirror images and shifts", "mirror images")
    wrong = [
        (-right.difference, "The sign is turned round: ten views minus one."),
        (two.difference, "This is against *enlarged twice* with its mirror image. Ask it once."),
        (tested("alone", "alone").difference, "This is *stem stride 1* asked once. Average ten views."),
        (100 * right.difference, "Write the difference of numbers from 0 to 1."),
        (views.correct("mirror images and shifts").mean(), "This is an accuracy. Subtract the other one."),
    ]
    verdict = checks.value(difference, right.difference, wrong, tolerance=6e-5)
    if not verdict.right:
        return verdict
    wrong = [
        (right.p / 2, "The difference is right, but this is one tail of the test."),
        (1 - right.p, "The difference is right, but this is one minus the p-value."),
    ]
    verdict = checks.value(p_value, right.p, wrong, tolerance=6e-3)
    if not verdict.right:
        return verdict
    price = 10 * further.multiply_adds(views.layout) / further.multiply_adds(pixels.layout)
    wrong = [
        (price / 10, "Difference and p-value are right. A single view costs that much. There are ten."),
        (1 / price, "Difference and p-value are right. Divide the other way round."),
        (price / 2, "Difference and p-value are right. *Enlarged twice* is asked once, without its mirror image."),
    ]
    verdict = checks.value(times, price, wrong)
    if verdict.right:
        return checks.right("Not told apart, at ten times the price. When would you still choose the views?")
    return verdict
