"""The map of the course."""

import matplotlib.pyplot as plt
import pytest

from cifake_utils import CifakeError
from cifake_utils.lessons import course


def test_lessons_build_on_those_before_them():
    seen = {}
    for number, lesson in course.LESSONS.items():
        assert {*lesson.needs} <= seen.keys()
        assert lesson.place not in seen.values()
        assert all(seen[needed][0] < lesson.place[0] for needed in lesson.needs)
        assert not any(course.LESSONS[needed].optional for needed in lesson.needs)
        seen[number] = lesson.place


def test_the_map_shows_where_the_reader_is():
    for here in course.LESSONS:
        (axes,) = course.course_map(here).axes
        assert [text.get_text()[:2] for text in axes.texts if text.get_color() == "white"] == [here[:2]]
    assert len(axes.texts) == len(course.LESSONS)
    plt.close("all")
    with pytest.raises(CifakeError, match="Choose one of: 01, 02"):
        course.course_map("99")
