"""The glossary: sorted, without repetition, and where the lessons' links lead."""

import re
from itertools import pairwise
from urllib.parse import unquote, urlsplit

import nbformat
import pytest

from cifake_utils.lessons import series

GLOSSARY = series.NOTEBOOKS.parent / "docs" / "glossary.md"
LESSONS = sorted(series.NOTEBOOKS.glob("*.ipynb"))
INLINE_LINK = re.compile(r"\]\(([^)\s]+)\)")
DEFINITION = re.compile(r"^\[([^\]]+)\]: (\S+)$", re.MULTILINE)


def slug(heading: str) -> str:
    """Return the anchor that GitHub gives a heading: lower case, no punctuation, hyphens for spaces."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.fixture(scope="module")
def text() -> str:
    return GLOSSARY.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def entries(text) -> dict[str, str]:
    """Return what stands below each term, by its anchor."""
    entries = {}
    for part in re.split(r"^### ", text, flags=re.MULTILINE)[1:]:
        term, body = part.split("\n", 1)
        assert slug(term) not in entries, f"{term!r} has two entries"
        entries[slug(term)] = re.split(r"^## ", body, flags=re.MULTILINE)[0]
    return entries


def links_of(lesson) -> list[str]:
    """Return the anchors in the glossary that the markdown cells of a lesson link to."""
    cells = nbformat.read(lesson, as_version=4).cells
    targets = [target for cell in cells if cell.cell_type == "markdown" for target in INLINE_LINK.findall(cell.source)]
    paths = [(urlsplit(target).path, unquote(urlsplit(target).fragment)) for target in targets]
    anchors = []
    for path, anchor in paths:
        if path.endswith("glossary.md"):
            assert (lesson.parent / path).resolve() == GLOSSARY.resolve(), path
            anchors.append(anchor)
    return anchors


def test_terms_are_sorted_below_their_letters(text):
    letter, terms = "", []
    for level, heading in re.findall(r"^(##|###) (.+)$", text, flags=re.MULTILINE):
        if level == "##":
            assert len(heading) == 1 and heading > letter, heading
            letter = heading
        else:
            assert heading[0].upper() == letter, f"{heading!r} stands below the letter {letter}"
            terms.append(heading.casefold())
    assert len(terms) > 100
    for first, second in pairwise(terms):
        assert first < second, f"{second!r} stands behind {first!r}"


def test_links_within_the_glossary_resolve(text, entries):
    letters = {slug(heading) for heading in re.findall(r"^## (.+)$", text, flags=re.MULTILINE)}
    anchors = [target[1:] for target in INLINE_LINK.findall(text) if target.startswith("#")]
    assert anchors
    assert set(anchors) <= letters | set(entries)


def test_every_entry_says_which_lessons_use_the_term(text, entries):
    defined = dict(DEFINITION.findall(text))
    assert {GLOSSARY.parent / path for path in defined.values()} == {
        GLOSSARY.parent / "../notebooks" / lesson.name for lesson in LESSONS
    }
    for anchor, body in entries.items():
        numbers = re.findall(r"\[(\d\d\w?)\]", body)
        assert set(numbers) <= set(defined), anchor
        assert numbers or "No lesson" in body, anchor


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_links_of_a_lesson_lead_to_terms_that_name_it(lesson, entries):
    anchors = links_of(lesson)
    assert anchors
    assert len(anchors) == len(set(anchors)), "a term is linked at its first use only"
    for anchor in anchors:
        assert anchor in entries, f"there is no entry {anchor!r}"
        assert f"[{lesson.stem.partition('_')[0]}]" in entries[anchor], f"{anchor!r} does not name this lesson"
