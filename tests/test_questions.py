"""Questions to the reader."""

import pytest

from cifake_utils import CifakeError
from cifake_utils.lessons import questions

NUMBERS = sorted(path.stem for path in questions.QUIZZES.glob("*.toml"))
QUIZ = """
[[question]]
text = "Is 1 < 2?"
choice = [{ text = "yes", why = "It is.", right = true }, { text = "no", why = "Count again." }]
"""


def test_a_prediction_is_one_of_the_answers():
    box = questions.predict("How wide is the <last> map?", ["1 pixel", "4 pixels"])
    _, field, note = box.children
    assert box.answer is None and field.value is None
    field.value = "4 pixels"
    assert box.answer == "4 pixels" and "4 pixels" in note.value
    field.value = "1 pixel"  # readers may change their minds
    assert box.answer == "1 pixel"


def test_a_prediction_is_a_number():
    box = questions.predict("What is the accuracy?")
    _, field, note = box.children
    for text, number in (("0.7", 0.7), ("0,7", 0.7), (" 70 %", 70.0), ("many", None)):
        field.value = text
        assert box.answer == number
    assert "not a number" in note.value


def test_a_question_can_be_read_where_no_widget_runs():
    shown = questions.predict("Is a < b?", ["yes"])._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in shown
    assert shown["text/html"] == "<p><b>Predict</b>: Is a &lt; b?</p><ul><li>yes</li></ul>"
    assert shown["text/plain"] == questions.SENTENCE


def test_a_quiz_explains_and_counts_first_tries(tmp_path, monkeypatch):
    monkeypatch.setattr(questions, "QUIZZES", tmp_path)
    (tmp_path / "01.toml").write_text(QUIZ)
    box = questions.quiz("01")
    asked, score = box.children
    _, field, why = asked.children
    wrong, right = (choice for _, choice in reversed(field.options))
    field.value = wrong
    assert "Count again." in why.value and "0 of 1" in score.value
    field.value = right
    assert "It is." in why.value and "0 of 1" in score.value
    assert "<summary>Answer</summary>yes: It is." in box._repr_mimebundle_()["text/html"]
    with pytest.raises(CifakeError, match="There are some for: 01"):
        questions.quiz("02")
    (tmp_path / "01.toml").write_text(QUIZ.replace(", right = true", ""))
    with pytest.raises(CifakeError, match="0 answers of 'Is 1 < 2\\?' are marked right"):
        questions.quiz("01")


@pytest.mark.parametrize("number", NUMBERS)
def test_stored_questions(number):
    found = questions.read(number)
    assert 3 <= len(found) <= 5
    for question in found:
        texts = [choice.text for choice in question.choices]
        assert question.text and len({*texts}) == len(texts) >= 3
        assert all(choice.why.endswith((".", "?", "!")) for choice in question.choices)
    places = [[choice.right for choice in question.choices].index(True) for question in found]
    assert len({*places}) > 1, "the right answer always has the same place"
    longest = [max(question.choices, key=lambda choice: len(choice.text)).right for question in found]
    assert not all(longest), "the right answer is always the longest"
