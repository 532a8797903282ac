"""Checks of the exercises of lesson 06."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from cifake_utils import evaluation, records
from cifake_utils.lessons import checks, comparison
from cifake_utils.lessons.checks import Verdict

WRITTEN = "resnet50_fractal_loss_as_written"
SIGNS = ("resnet50_fractal_loss", "resnet50_loss_as_printed")


def missing_label(share: float | None) -> Verdict:
    """Check which share of random batches of 8 images lacks one of two equally frequent labels."""
    expected = 2 * 0.5**8
    mistakes = [
        (0.5**8, "This is the share without REAL images. A batch may also lack the FAKE ones."),
        (
            0.5**7 * 8,
            "This multiplies by the number of images. The batch lacks a label only if all 8 have the other one.",
        ),
        (100 * expected, "This is in per cent. The question asks for a share, between 0 and 1."),
        (1 - expected, "This is the share of the batches that have both labels."),
        (0.5**16, "This is the probability of two such batches in a row, one of each kind. Either of them is enough."),
        (0.25, "This is the share for batches of three images. A batch has 8."),
    ]
    verdict = checks.value(share, expected, mistakes, tolerance=1e-4)
    if verdict.right:
        return checks.right("One batch in 128. With 64 images a batch it would practically never happen.")
    return verdict


def ratio_for(ratio: float | None) -> Verdict:
    """Check the ratio α/γ at which the loss asks for a probability of 0.9."""
    expected = 0.9 * math.log(9)
    mistakes = [
        (math.log(9), "These are the log odds of 0.9. The formula of the lesson multiplies them by something."),
        (1 / expected, "This is γ/α. The question asks for α/γ."),
        (-expected, "The sign is wrong: above ½ the log odds are positive."),
        (0.9 * math.log10(9), "This uses the logarithm to base 10. The lesson's is the natural one."),
        (-math.log(0.9), "This is the cross-entropy at 0.9. Set the derivative of the loss to zero instead."),
        (0.9, "This is q*. The ratio follows from it by the formula of the lesson."),
    ]
    verdict = checks.value(ratio, expected, mistakes, tolerance=2e-3)
    if verdict.right:
        return checks.right("So a γ of about half of α already asks for no more than 0.9.")
    return verdict


def priced(answer: Callable | None, best_u: Any) -> Verdict:
    """Check a loss whose weights have a price, from terms (K,) and free parameters (K,), and its best parameter.

    ``best_u`` is the parameter at which the loss is lowest for a single term of 0.25.
    """
    random = torch.Generator().manual_seed(6)
    cases = [(torch.rand(size, generator=random) + 0.1, torch.randn(size, generator=random)) for size in (1, 3, 5)]
    mistakes = [
        (
            lambda terms, u: (torch.exp(-u) * terms).sum(),
            "The price is missing: without it, every weight falls to zero.",
        ),
        (lambda terms, u: (torch.exp(u) * terms + u).sum(), "The exponent has the other sign."),
        (lambda terms, u: (torch.exp(-u) * terms - u).sum(), "The price has the other sign."),
        (
            lambda terms, u: (torch.exp(-u) * terms + u).mean(),
            "This is the mean over the terms. The loss is their sum.",
        ),
        (lambda terms, u: torch.exp(-u) * terms + u, "These are the parts for each term. Add them up."),
        (lambda terms, u: (u * terms + u).sum(), "The weight of a term is exp(−u), not u."),
        (lambda terms, u: (torch.exp(-u) * (terms + u)).sum(), "The price is not multiplied by the weight."),
    ]
    verdict = checks.function(answer, cases, lambda terms, u: (torch.exp(-u) * terms + u).sum(), mistakes)
    if verdict.right is False:
        return checks.wrong(f"About `priced`: {verdict.text}")
    if not verdict.right:
        return verdict
    if best_u is None:
        return Verdict(None, "The function is right. Now find the best u, and write it into `best_u`.")
    hints = [
        (4.0, "The function is right. This is the weight exp(−u). The question asks for u."),
        (0.25, "The function is right. This is the term, or exp(u). Take one more step to u."),
        (-math.log(0.25), "The function is right, but u has the other sign: put it in and look at the weight."),
        (0.0, "The function is right. At u = 0 the derivative is 1 − 0.25, which is not zero."),
    ]
    found = _with_prefix(checks.value(best_u, math.log(0.25), hints, tolerance=2e-3))
    return (
        checks.right("The weight comes to rest at 1 / ℓ. What would happen to a negative term?")
        if found.right
        else found
    )


def _with_prefix(verdict: Verdict) -> Verdict:
    if verdict.right is False and not verdict.text.startswith("The function is right"):
        return checks.wrong(f"The function is right, but not `best_u`. {verdict.text}")
    return verdict


def repaired(temperature: Any, ece: Any, change: Any) -> Verdict:
    """Check the temperature of the run as written, the ECE of its test images with it, and the change of accuracy."""
    if temperature is None or ece is None or change is None:
        return checks.missing()
    run = records.reference(WRITTEN)
    p, y = run.probabilities, run.labels
    expected = evaluation.fit_temperature(p["val"], y["val"])
    before, after = (
        evaluation.score(values, y["test"]) for values in (p["test"], evaluation.with_temperature(p["test"], expected))
    )
    verdict = checks.value(
        temperature,
        expected,
        [
            (1 / expected, "The temperature is upside down: these log odds must become larger, so T is below 1."),
            (1.0, "At T = 1 nothing changes."),
            (10.0, "This is the end of the range of candidates. Did you take the highest NLL instead of the lowest?"),
            (0.1, "This is the end of the range of candidates. Is it really the lowest NLL?"),
        ],
        tolerance=3e-3,
    )
    if not verdict.right:
        return checks.wrong(f"About the temperature: {verdict.text}")
    verdict = checks.value(
        ece,
        after["ece"],
        [
            (before["ece"], "T is right, but this is the ECE without it."),
            (before["ece"] - after["ece"], "T is right, but this is by how much the ECE has fallen."),
            (after["log_loss"], "T is right, but this is the log loss, not the ECE."),
            (after["brier"], "T is right, but this is the Brier score, not the ECE."),
            (
                evaluation.score(evaluation.with_temperature(p["val"], expected), y["val"])["ece"],
                "T is right, but this is the ECE of the validation images, on which T was chosen.",
            ),
        ],
        tolerance=1.5e-3,
    )
    if not verdict.right:
        return checks.wrong(f"About the ECE: {verdict.text}")
    verdict = checks.value(change, 0.0, tolerance=1e-6)
    if not verdict.right:
        return checks.wrong("About the accuracy: can dividing log odds by a positive number move an image across ½?")
    return checks.right("Most of the honesty is back. The accuracy that the early stop cost is not.")


def sign_matters(p_values: Sequence | None, conclusion: str | None) -> Verdict:
    """Check five p-values of McNemar's test, one for each seed, and which sign of equation 4 they favour, if any."""
    if p_values is None or conclusion is None:
        return checks.missing()
    expected = []
    for seed in range(5):
        right = {name: _right(name, seed) for name in SIGNS}
        expected.append(comparison.paired_tests(right)[0].p)
    verdict = checks.value(
        p_values,
        expected,
        [
            (min(expected), "This is one p-value. There are five seeds."),
            (expected[0], "This is one p-value. There are five seeds."),
            (1 - np.array(expected), "These are one minus the p-values."),
            (sorted(expected), "These are the right ones in another order. Keep them in the order of the seeds."),
            (5 * np.array(expected), "Keep the p-values as they are. Multiply only for the conclusion."),
            (np.minimum(1, 5 * np.array(expected)), "Keep the p-values as they are. Multiply only for the conclusion."),
        ],
        tolerance=6e-3,  # accepts two decimals
    )
    if not verdict.right:
        return checks.wrong(f"About the p-values: {verdict.text}")
    conclusions = ("penalty", "as printed", "cannot tell")
    if conclusion not in conclusions:
        return checks.wrong("Expected one of three conclusions: 'penalty', 'as printed' or 'cannot tell'.")
    if conclusion != "cannot tell":
        return checks.wrong("The p-values are right. Multiply the smallest by 5: is it below 0.05?")
    return checks.right("20,000 images can't tell the two apart. That is not the same as equal.")


def _right(name: str, seed: int) -> np.ndarray:
    record = records.reference(name, seed)
    return comparison.correct(record.probabilities["test"], record.labels["test"])
