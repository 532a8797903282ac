"""Checks of the exercises of lesson 10."""

from collections.abc import Callable, Collection
from functools import cache

import numpy as np
import torch
from scipy.stats import rankdata

from cifake_utils import data, evaluation
from cifake_utils.lessons import beyond, checks, exploration, robustness
from cifake_utils.lessons.checks import Verdict

QUALITIES = (95, 75, 50, 25)  # of an earlier compression, exercise 5


def alarms(found: float | None) -> Verdict:
    """Check the share of right alarms, where 1 image in 500 is FAKE, hits are 98 %, and false alarms 2 %."""
    right = beyond.right_alarms(1 / 500, 0.98, 0.02)
    mistakes = [
        (0.98, "This is the share of the FAKE images that raise an alarm. Which share of the alarms is meant?"),
        (0.02, "This is the share of the REAL images that raise an alarm. Which share of the alarms is meant?"),
        (1 / 500, "This is the share of FAKE images before anybody was asked. An alarm changes it."),
        (1 - right, "This is the share of alarms that are wrong."),
        (49 * (1 / 499), "These are odds o. A share is o / (1 + o)."),
        (beyond.right_alarms(1 / 5, 0.98, 0.02), "This is the share where 1 image in 5 is FAKE. Here it is 1 in 500."),
        (beyond.right_alarms(1 / 50, 0.98, 0.02), "This is the share where 1 in 50 is FAKE. Here it is 1 in 500."),
        (100 * right, "Write the share as a number from 0 to 1."),
    ]
    verdict = checks.value(found, right, mistakes)
    if verdict.right:
        return checks.right("The alarm multiplies the odds by 49, and they were 1 to 499.")
    return verdict


def geometric(found: float | None) -> Verdict:
    """Check the ratio of geometric means of the powers 10, 10, 0.1 and 10, 1, 0.1."""
    mistakes = [
        (20.1 / 11.1, "This is the ratio of the arithmetic means. Take the mean of the logarithms."),
        (1 / 3, "This is the difference of the mean logarithms. Which ratio belongs to it?"),
        (10 ** (-1 / 3), "This is the ratio the other way round."),
        (10.0, "This is the ratio of the medians, or of the products. The mean divides by three."),
        (np.exp(1 / 3), "The logarithms are to base 10, so the power of 10 undoes them."),
    ]
    verdict = checks.value(found, 10 ** (1 / 3), mistakes, tolerance=3e-3)  # 2.15 on paper
    if verdict.right:
        return checks.right("One image in three has ten times as much: the typical ratio is the third root of ten.")
    return verdict


def _break_even(hits: float, false_alarms: float, miss: float) -> float:
    return false_alarms / (false_alarms + miss * hits)


def break_even(answer: Callable | None, found: float | None) -> Verdict:
    """Check a function of hits, false alarms and the cost of a miss, and its value for 0.99, 0.01 and 100.

    It returns the share of FAKE above which following the detector costs less than calling everything REAL.
    """
    cases = [(0.99, 0.01, 1.0), (0.6, 0.05, 10.0), (0.2, 0.03, 50.0), (0.9, 0.3, 2.0), (0.01, 0.03, 5.0)]
    mistakes: list[tuple[Callable, str]] = [
        (lambda h, a, c: a / (a + h), "Your share does not depend on the cost of a miss."),
        (lambda h, a, c: a / (c * h), "These are odds o. A share is o / (1 + o)."),
        (lambda h, a, c: 1 - _break_even(h, a, c), "This is one minus the share."),
        (lambda h, a, c: a * c / (a * c + h), "You multiplied the false alarms by the cost. What costs c?"),
        (lambda h, a, c: a / (a + c * (1 - h)), "You took the misses. What do you save by following the detector?"),
        (lambda h, a, c: 1 / (1 + c), "Your share does not depend on the detector."),
        (
            lambda h, a, c: (1 - a) / ((1 - a) + c * (1 - h)),
            "This is where the detector costs as much as calling everything FAKE.",
        ),
    ]
    verdict = checks.function(answer, cases, _break_even, mistakes)
    if not verdict.right:
        return verdict
    if found is None:
        return Verdict(None, "The function is right. Now use it for the detector that is right on 99 % of each label.")
    wrong = [
        (_break_even(0.99, 0.01, 1), "The function is right, but here a miss costs 100 times as much."),
        (_break_even(0.01, 0.99, 100), "The function is right, but hits come first, then false alarms."),
        (_break_even(0.99, 0.01, 0.01), "The function is right, but it is the miss that costs more."),
        (100 * _break_even(0.99, 0.01, 100), "The function is right. Write the share as a number from 0 to 1."),
        (1e-4, "The function is right. Give one more digit of the share."),
    ]
    verdict = checks.value(found, _break_even(0.99, 0.01, 100), wrong, tolerance=5e-7)
    if verdict.right:
        return checks.right(
            "A little more than one FAKE image in ten thousand is enough. A person should look at the alarms, though."
        )
    return verdict


@cache
def parts() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Return spectra of photographs and of every generator of the zoo, one half to train on and one to test on."""
    spectra = {beyond.PHOTOGRAPHS: beyond.read().spectra[beyond.PHOTOGRAPHS]}
    spectra |= {name: beyond.spectra(beyond.images(kind)) for kind, name in beyond.GENERATORS.items()}
    tensors = {name: torch.from_numpy(found.astype(np.float32)) for name, found in spectra.items()}
    return {name: x[::2] for name, x in tensors.items()}, {name: x[1::2] for name, x in tensors.items()}


def left_out(numbers: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, float]:
    """Return the AUROC of detectors on each generator that they did not learn from; they learned from all others.

    ``numbers`` turns standardised spectra (N, 16) into what the logistic regression sees, (N, D).
    """
    train, test = parts()
    centre, scale = train[beyond.PHOTOGRAPHS].mean(0), train[beyond.PHOTOGRAPHS].std(0)

    def seen(spectra: torch.Tensor) -> torch.Tensor:
        return numbers((spectra - centre) / scale)

    found = {}
    for kind in beyond.GENERATORS.values():
        learned = [train[name] for name in train if name != kind]  # photographs come first
        labels = torch.cat([torch.full((len(x),), float(place > 0)) for place, x in enumerate(learned)])
        fitted = exploration.probe(seen(torch.cat(learned)), labels)
        real, fake = (fitted.decision_function(seen(test[name]).numpy()) for name in (beyond.PHOTOGRAPHS, kind))
        found[kind] = beyond.auroc(real, fake)[0]
    return found


def _both_signs(z: torch.Tensor) -> torch.Tensor:
    return torch.cat([z, z**2], 1)


@cache
def _signs() -> tuple[dict[str, float], dict[str, float]]:
    return left_out(lambda z: z), left_out(_both_signs)


def both_signs(answer: Callable | None, better: int | None, worst: str | None) -> Verdict:
    """Check a function that appends squares to standardised spectra, and what becomes of unknown generators.

    Parameters
    ----------
    answer : callable
        (N, D) to (N, 2 D).
    better : int
        For how many of the seven generators AUROC is higher with squares, each left out of the training.
    worst : str
        The generator that loses most.
    """
    generator = torch.Generator().manual_seed(0)
    cases = [(torch.randn(5, 16, generator=generator),), (torch.randn(3, 4, generator=generator),)]
    mistakes: list[tuple[Callable, str]] = [
        (lambda z: z**2, "These are the squares alone. Keep the numbers themselves, too."),
        (lambda z: torch.cat([z**2, z], 1), "The numbers come first, then their squares."),
        (lambda z: torch.cat([z, z**2]), "You put the squares below the numbers, as further images."),
        (lambda z: torch.cat([z, z.abs()], 1), "These are absolute values. Take squares."),
        (lambda z: torch.cat([z, 2 * z], 1), "You doubled the numbers. Take squares."),
        (lambda z: z + z**2, "You added the squares. Put them beside the numbers."),
    ]
    verdict = checks.function(answer, cases, _both_signs, mistakes)
    if not verdict.right:
        return verdict
    if better is None or worst is None:
        return Verdict(None, "The function is right. Now write into `better` and `worst` what it changes.")
    before, after = _signs()
    gains = {kind: after[kind] - before[kind] for kind in before}
    count = sum(gain > 0 for gain in gains.values())
    wrong = [(len(gains) - count, "The function is right, but these are the generators that lose.")]
    verdict = checks.value(better, count, wrong, tolerance=1e-6)
    if not verdict.right:
        return verdict
    names = [
        (min(before, key=before.__getitem__), "It has the lowest AUROC without squares. Which one loses most?"),
        (max(gains, key=gains.__getitem__), "The count is right, but this is the one that gains most."),
    ]
    verdict = checks.value(worst, min(gains, key=gains.__getitem__), names)
    if verdict.right:
        return checks.right(
            "AUROC is higher on most, and falls on the one whose images lie far outside of all that was learned."
        )
    return verdict


@cache
def compressed_before(quality: int, last: int = 75) -> tuple[float, int]:
    """Return the accuracy on test pieces whose FAKE half was compressed before, and the number of these pieces.

    Labels are drawn by lot, as in the lesson. The last encoder, of quality ``last``, is the same for all.
    """
    pieces = exploration.reduced_photographs(antialias=True, count=60)
    lot = np.random.default_rng(0).permutation(np.repeat([data.REAL, data.FAKE], len(pieces) // 2))
    fake = torch.from_numpy(lot == data.FAKE)[:, None, None, None]
    stored = robustness.jpeg(torch.where(fake, robustness.jpeg(pieces, quality), pieces), last)
    learning = torch.arange(10).repeat_interleave(60) < 6
    traces, labels = torch.from_numpy(beyond.jpeg_traces(stored)), torch.from_numpy(lot)
    fitted = exploration.probe(traces[learning], labels[learning])
    return float(fitted.score(traces[~learning].numpy(), labels[~learning].numpy())), int((~learning).sum())


def twice(found: Collection[int] | None, stronger: bool | None) -> Verdict:
    """Check which earlier qualities are seen after a last compression with quality 75, and whether stronger ones are.

    Parameters
    ----------
    found : collection of int
        Those of `QUALITIES` for which the 95 % Wilson interval of the test accuracy lies above ½.
    stronger : bool
        Whether an earlier compression that is stronger than the last one is seen better than one that is weaker.
    """
    if found is None or stronger is None:
        return checks.missing()
    if isinstance(found, str | int) or not all(quality in QUALITIES for quality in found):
        return checks.wrong(f"Expected a set of some of the qualities {', '.join(map(str, QUALITIES))}.")
    intervals = {quality: evaluation.accuracy_interval(*compressed_before(quality)) for quality in QUALITIES}
    right = {quality for quality, (low, _) in intervals.items() if low > 0.5}
    if set(found) != right:
        extra, missed = set(found) - right, right - set(found)
        if extra and not missed:
            return checks.wrong("Too many. An accuracy above ½ may be chance: does its interval lie above ½?")
        if missed and not extra:
            return checks.wrong("One or more are missing. Is the interval taken on the 240 test pieces?")
        return checks.wrong("Another set. Are the test pieces from other photographs than the training pieces?")
    hint = "The set is right. Sort the accuracies by the quality of the first compression."
    verdict = checks.value(stronger, True, [(False, hint)])
    if not verdict.right:
        return verdict
    return checks.right(
        "What a stronger encoder rounded away before does not come back. The others are not seen with 240 pieces."
    )


@cache
def teachers(last: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Return q of each generator (`beyond.power_ratio`), and what a detector that learned from it alone does on CIFAKE.

    That is the AUROC on CIFAKE's FAKE. The detectors see powers at 1 to ``last`` cycles an image.
    """
    train, test = parts()
    rendered = torch.from_numpy(beyond.read().spectra[beyond.RENDERED][::10].astype(np.float32))[1::2]
    fine = {name: beyond.fine_detail(torch.cat([train[name], test[name]]).numpy()) for name in train}
    ratios, scores = [], []
    for kind in beyond.GENERATORS.values():
        learned = [train[name][:, :last] for name in (beyond.PHOTOGRAPHS, kind)]
        labels = torch.cat([torch.full((len(x),), float(place)) for place, x in enumerate(learned)])
        fitted = exploration.probe(torch.cat(learned), labels)
        real, fake = (fitted.decision_function(x[:, :last].numpy()) for x in (test[beyond.PHOTOGRAPHS], rendered))
        ratios.append(10 ** (fine[kind].mean() - fine[beyond.PHOTOGRAPHS].mean()))
        scores.append(beyond.auroc(real, fake)[0])
    return np.array(ratios), np.array(scores)


@cache
def _correlations() -> dict[str, float]:
    found = {}
    for last in (16, 13):
        ratios, scores = teachers(last)
        found[f"rank {last}"] = float(np.corrcoef(rankdata(ratios), rankdata(scores))[0, 1])
        found[f"plain {last}"] = float(np.corrcoef(ratios, scores)[0, 1])
    return found


def explained(with_them: float | None, without: float | None, needed: bool | None) -> Verdict:
    """Check the rank correlation of q with the AUROC on CIFAKE's FAKE, with all 16 frequencies and with the first 13.

    Parameters
    ----------
    with_them, without : float
        Spearman's rank correlation over the seven generators.
    needed : bool
        Whether the rank correlation needs the three highest frequencies, so that it is gone without them.
    """
    if with_them is None or without is None or needed is None:
        return checks.missing()
    found = _correlations()
    mistakes = [
        (found["rank 13"], "This is the correlation without the three highest frequencies."),
        (found["plain 16"], "This is the correlation of the numbers themselves. Take that of their ranks."),
        (-found["rank 16"], "The sign is turned round."),
    ]
    verdict = checks.value(with_them, found["rank 16"], mistakes, tolerance=6e-3)
    if not verdict.right:
        return verdict
    mistakes = [
        (found["rank 16"], "The first number is right. The second one needs detectors that see 13 frequencies."),
        (found["plain 13"], "The first number is right. Take the correlation of the ranks for the second one, too."),
    ]
    verdict = checks.value(without, found["rank 13"], mistakes, tolerance=6e-3)
    if not verdict.right:
        return verdict
    hint = "Both numbers are right. Did the rank correlation go away without these frequencies?"
    verdict = checks.value(needed, False, [(True, hint)])
    if not verdict.right:
        return verdict
    return checks.right("The rank correlation stays without these frequencies, so they are not needed for it.")
