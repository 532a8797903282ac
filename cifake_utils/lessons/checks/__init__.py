"""Checks of the exercises. Each says whether an answer is right, or which kind of mistake it looks like.

A module a lesson, a function an exercise. A check never shows the answer. It asks a reader's function about inputs that
the lesson does not show, so that an answer can't be right by chance.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

Mistake = tuple[Any, str]  # a wrong answer, and a sentence that helps whoever gives it


@dataclass(frozen=True)
class Verdict:
    """What a check says about an answer. A notebook shows it as one line of text.

    Attributes
    ----------
    right : bool or None
        None if there is no answer yet.
    text : str
        Whole sentences.
    """

    right: bool | None
    text: str

    def __repr__(self) -> str:
        start = {True: "✓ Right.", False: "✗ Not yet.", None: "○ No answer yet."}[self.right]
        return f"{start} {self.text}".strip()


def right(text: str = "") -> Verdict:
    """Return the verdict on a right answer. ``text`` says what it is good for."""
    return Verdict(True, text)


def wrong(text: str) -> Verdict:
    """Return the verdict on a wrong answer. ``text`` says what kind of mistake it looks like."""
    return Verdict(False, text)


def missing() -> Verdict:
    """Return the verdict where the place for the answer is still empty."""
    return Verdict(None, "Write it into the cell above, run that cell, then this one.")


def value(found: Any, expected: Any, mistakes: Sequence[Mistake] = (), tolerance: float = 1e-3) -> Verdict:
    """Compare an answer with the right one.

    Parameters
    ----------
    found : number, str, bool, array or tensor
        The reader's answer; None where there is none yet.
    expected : the same
        The right answer.
    mistakes : sequence of pairs
        Wrong answers that readers give, each with a sentence that helps. The first that equals `found` is used.
    tolerance : float
        Largest difference between equal numbers, relative to the larger of 1 and the expected number's size.
    """
    if found is None:
        return missing()
    if isinstance(expected, str | bool):
        if isinstance(found, np.bool_):
            found = bool(found)
        if not isinstance(found, type(expected)):
            kind = "True or False" if isinstance(expected, bool) else "a text in quotes"
            return wrong(f"The answer is {_described(found)}. Expected {kind}.")
        same = _same_text
    else:
        numbers = _numbers(found)
        if numbers is None:
            return wrong(f"The answer is {_described(found)}. Expected numbers.")
        if problem := _unlike(numbers, np.asarray(_numbers(expected))):
            hint = next((hint for other, hint in mistakes if _equal(found, other, tolerance)), "")
            return wrong(f"{problem} {hint}".strip())
        same = _equal
    if same(found, expected, tolerance):
        return right()
    for other, hint in mistakes:
        if same(found, other, tolerance):
            return wrong(hint)
    return wrong(_difference(found, expected, tolerance))


def function(
    answer: Callable | None, cases: Sequence[tuple], solution: Callable, mistakes: Sequence[tuple[Callable, str]] = ()
) -> Verdict:
    """Call a reader's function, and compare what it returns with what the right one returns.

    Parameters
    ----------
    answer : callable
        The reader's function. Where it returns None there is no answer yet.
    cases : sequence of tuples
        Arguments, for one call each.
    solution : callable
        The right function.
    mistakes : sequence of pairs
        Wrong functions, each with a sentence that helps. One is recognised if it agrees with `answer` in every case in
        which `answer` is wrong.
    """
    if not callable(answer):
        return missing() if answer is None else wrong(f"The answer is {_described(answer)}. Expected a function.")
    verdicts, failed = [], []
    for arguments in cases:
        try:
            found = answer(*map(_copied, arguments))
        except Exception as error:  # whatever the reader's code raises belongs to the verdict
            return wrong(f"Your function stopped with {type(error).__name__}: {error}")
        verdict = value(found, solution(*map(_copied, arguments)))
        if verdict.right is None:
            return verdict
        if not verdict.right:
            verdicts.append(verdict)
            failed.append((arguments, found))
    for other, hint in mistakes:
        if failed and all(value(found, other(*map(_copied, arguments))).right for arguments, found in failed):
            return wrong(hint)
    return verdicts[0] if verdicts else right()


def _copied(argument: Any) -> Any:
    """Return a copy of an argument, so that a function that changes it in place can't change the comparison."""
    if isinstance(argument, torch.Tensor):
        return argument.clone()
    return argument.copy() if isinstance(argument, np.ndarray) else argument


def _numbers(found: Any) -> np.ndarray | None:
    """Return an answer as an array of numbers, or None if it holds other things than numbers."""
    if isinstance(found, torch.Tensor):
        found = found.detach().cpu().double().numpy()
    if isinstance(found, str):  # NumPy would read a number in quotes
        return None
    try:
        return np.asarray(found, dtype=np.float64)
    except (TypeError, ValueError):
        return None


def _unlike(found: np.ndarray, expected: np.ndarray) -> str:
    """Return a sentence if two arrays differ in shape, or if the first is not finite; else an empty text."""
    if found.shape != expected.shape:
        return f"The answer has the shape {found.shape}. Expected {expected.shape}."
    if np.isfinite(expected).all() and not np.isfinite(found).all():
        return "The answer holds a number that is not finite. Look for a division by zero or a logarithm of zero."
    return ""


def _equal(found: Any, expected: Any, tolerance: float) -> bool:
    first, second = _numbers(found), _numbers(expected)
    if first is None or second is None or first.shape != second.shape:
        return False
    return bool(_close(first, second, tolerance).all())


def _close(first: np.ndarray, second: np.ndarray, tolerance: float) -> np.ndarray:
    within = np.isclose(first, second, rtol=0, atol=tolerance, equal_nan=True)
    return within | np.isclose(first, second, rtol=tolerance, atol=0)


def _same_text(found: Any, expected: Any, tolerance: float) -> bool:
    if isinstance(found, str) and isinstance(expected, str):
        return found.strip().lower() == expected.strip().lower()
    return found is expected


def _difference(found: Any, expected: Any, tolerance: float) -> str:
    """Return a sentence on a wrong answer that does not tell the right one."""
    first, second = _numbers(found), _numbers(expected)
    if first is None or second is None:
        return "That is another answer than ours."
    if first.ndim == 0:
        return f"Your number is too {'large' if first > second else 'small'}."
    share = np.mean(~_close(first, second, tolerance))
    return f"The shape is right, and {share:.0%} of the numbers are wrong."


def _described(found: Any) -> str:
    return f"of type {type(found).__name__}"
