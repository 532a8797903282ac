"""Questions to the reader: predictions before a figure, and the questions at the end of a lesson.

A prediction is written in the lesson itself. The questions at the end, with the explanations of their answers, are in
``quizzes/NN.toml``, so that nobody reads an answer in the code before the question.
"""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from cifake_utils import CifakeError, needs

with needs("lessons"):
    import ipywidgets

QUIZZES = Path(__file__).parent / "quizzes"
SENTENCE = "A question: run this cell to answer it."


class Question(ipywidgets.VBox):
    """A question with a place for the answer, and a static version for viewers that can't run widgets.

    Attributes
    ----------
    answer : str, float or None
        The reader's answer; None as long as there is none.
    """

    def __init__(self, children: Sequence[ipywidgets.Widget], static: str) -> None:
        super().__init__(children)
        self.answer: str | float | None = None
        self._static = static

    def _repr_mimebundle_(self, **options) -> dict:
        return (super()._repr_mimebundle_(**options) or {}) | {"text/html": self._static, "text/plain": SENTENCE}


def predict(question: str, answers: Sequence[str] = ()) -> Question:
    """Ask for a prediction. The figure below it, and the text that can be unfolded there, answer it.

    Parameters
    ----------
    question : str
        One or two whole sentences.
    answers : sequence of str, optional
        What the reader can choose from. Without them the answer is a number.
    """
    note = ipywidgets.HTML("<i>There is no wrong answer here. Decide before you run the next cell.</i>")
    if answers:
        field = ipywidgets.RadioButtons(options=list(answers), value=None, layout={"width": "max-content"})
    else:
        field = ipywidgets.Text(placeholder="a number, such as 0.5", layout={"width": "180px"})
    asked = f"<p><b>Predict</b>: {escape(question)}</p>"
    box = Question(
        [ipywidgets.HTML(asked), field, note],
        asked + (f"<ul>{''.join(f'<li>{escape(answer)}</li>' for answer in answers)}</ul>" if answers else ""),
    )

    def keep(change: dict) -> None:
        try:
            box.answer = change["new"] if answers else float(change["new"].strip().removesuffix("%").replace(",", "."))
            note.value = f"You predict: <b>{escape(str(change['new']))}</b>. Now run on and compare."
        except ValueError:
            box.answer = None
            note.value = "That is not a number. Write it with digits, such as 0.5."

    field.observe(keep, "value")
    return box


@dataclass(frozen=True)
class Choice:
    """One answer of a question, and why it is right or wrong."""

    text: str
    why: str
    right: bool = False


@dataclass(frozen=True)
class MultipleChoice:
    """A question with its answers, exactly one of which is right."""

    text: str
    choices: tuple[Choice, ...]


def read(lesson: str) -> list[MultipleChoice]:
    """Return the questions of a lesson from ``quizzes/NN.toml``, where NN is ``lesson``.

    Raises `CifakeError` if there are none, or if a question has not exactly one right answer.
    """
    path = QUIZZES / f"{lesson}.toml"
    if not path.exists():
        known = ", ".join(sorted(found.stem for found in QUIZZES.glob("*.toml")))
        raise CifakeError(f"There are no questions for a lesson {lesson!r}. There are some for: {known or 'none'}.")
    found = [
        MultipleChoice(entry["text"], tuple(Choice(**choice) for choice in entry["choice"]))
        for entry in tomllib.loads(path.read_text(encoding="utf-8"))["question"]
    ]
    for question in found:
        if (count := sum(choice.right for choice in question.choices)) != 1:
            raise CifakeError(f"{path.name}: {count} answers of {question.text!r} are marked right. Expected one.")
    return found


def quiz(lesson: str) -> Question:
    """Return the questions at the end of a lesson. Every answer is explained as soon as it is chosen.

    Parameters
    ----------
    lesson : str
        Its number, such as ``"01"``.
    """
    questions = read(lesson)
    score, first = ipywidgets.HTML(), {}

    def asked(number: int, question: MultipleChoice) -> ipywidgets.VBox:
        options = [(choice.text, choice) for choice in question.choices]
        field = ipywidgets.RadioButtons(options=options, value=None, layout={"width": "max-content"})
        why = ipywidgets.HTML()

        def explain(change: dict) -> None:
            chosen: Choice = change["new"]
            first.setdefault(number, chosen.right)
            why.value = f"{'✓ <b>Right.</b>' if chosen.right else '✗ <b>No.</b>'} {escape(chosen.why)}"
            score.value = f"{sum(first.values())} of {len(first)} right at the first try."

        field.observe(explain, "value")
        return ipywidgets.VBox([ipywidgets.HTML(f"<b>{number}.</b> {escape(question.text)}"), field, why])

    parts = [asked(number, question) for number, question in enumerate(questions, 1)]
    return Question([*parts, score], f"<ol>{''.join(map(_static, questions))}</ol>")


def _static(question: MultipleChoice) -> str:
    """Return a question as HTML in which the right answer can be unfolded."""
    choices = "".join(f"<li>{escape(choice.text)}</li>" for choice in question.choices)
    answer = next(choice for choice in question.choices if choice.right)
    right = answer.text.removesuffix(".")  # a colon follows
    return (
        f'<li>{escape(question.text)}<ul style="list-style-type: circle">{choices}</ul>'
        f"<details><summary>Answer</summary>{escape(right)}: {escape(answer.why)}</details></li>"
    )
