"""What checks of exercises are made of."""

import numpy as np
import pytest
import torch

from cifake_utils.lessons import checks


def halves(x):
    return x / 2


MISTAKES = [(lambda x: 2 * x, "You doubled it."), (lambda x: x - 2, "You subtracted.")]
CASES = [(torch.tensor([1.0, 2.0]),), (np.array([-4.0, 3.0]),)]


@pytest.mark.parametrize(
    ("found", "start"),
    [
        (None, "○ No answer yet."),
        (0.5, "✓ Right."),
        (np.float32(0.5), "✓ Right."),
        (torch.tensor(0.5), "✓ Right."),
        (2.0, "✗ Not yet. That is its inverse."),
        (0.7, "✗ Not yet. Your number is too large."),
        (-1, "✗ Not yet. Your number is too small."),
        ("half", "✗ Not yet. The answer is of type str. Expected numbers."),
        ("0.5", "✗ Not yet. The answer is of type str. Expected numbers."),
        ([0.5], "✗ Not yet. The answer has the shape (1,). Expected ()."),
        (float("nan"), "✗ Not yet. The answer holds a number that is not finite."),
    ],
)
def test_numbers(found, start):
    assert repr(checks.value(found, 0.5, [(2, "That is its inverse.")])).startswith(start)


def test_texts_and_truths():
    assert checks.value(" fake ", "FAKE").right and checks.value(True, True).right
    assert checks.value("REAL", "FAKE", [("real", "The other one.")]).text == "The other one."
    assert checks.value(np.bool_(True), True).right and not checks.value(np.bool_(False), True).right
    assert checks.value(1, True).text == "The answer is of type int. Expected True or False."
    assert checks.value("REAL", "FAKE").text == "That is another answer than ours."


def test_arrays():
    assert checks.value(torch.arange(4.0, requires_grad=True), np.arange(4)).right
    assert checks.value([0, 1, 2, 4], np.arange(4)).text == "The shape is right, and 25% of the numbers are wrong."
    assert (
        checks.value([0, 1.001], [0, 1], tolerance=1e-4).text == "The shape is right, and 50% of the numbers are wrong."
    )
    assert checks.value(torch.ones(2, dtype=torch.bfloat16), np.ones(2)).right
    hint = [(np.zeros((2, 2)), "Flatten it.")]
    assert checks.value(np.zeros((2, 2)), np.zeros(4), hint).text.endswith("Expected (4,). Flatten it.")


def test_tolerance_is_relative_to_the_larger_of_one_and_the_expected_number():
    assert checks.value(100.09, 100).right and not checks.value(100.11, 100).right
    assert checks.value(0.0109, 0.01).right and not checks.value(0.0111, 0.01).right
    assert checks.value(float("nan"), float("nan")).right and checks.value(float("inf"), float("inf")).right


def test_functions():
    assert checks.function(halves, CASES, halves, MISTAKES).right
    assert checks.function(lambda x: None, CASES, halves).right is None
    assert checks.function(None, CASES, halves).right is None
    assert checks.function(3, CASES, halves).text == "The answer is of type int. Expected a function."
    assert checks.function(lambda x: x * 2, CASES, halves, MISTAKES).text == "You doubled it."
    assert checks.function(lambda x: x - 2, CASES, halves, MISTAKES).text == "You subtracted."
    assert "100% of the numbers" in checks.function(lambda x: x / 3, CASES, halves, MISTAKES).text
    assert checks.function(lambda x: x[9], CASES, halves).text.startswith("Your function stopped with IndexError: ")


def test_a_function_that_changes_its_argument_is_compared_with_the_right_one_all_the_same():
    def in_place(x):
        x *= 2
        return x / 2

    assert not checks.function(in_place, CASES, halves).right
    assert CASES[0][0].tolist() == [1.0, 2.0]
