"""The instructors' guide: its minutes add up, and its machine seconds are the measured ones."""

import json
import re

import pytest

from cifake_utils.lessons import series

ROOT = series.NOTEBOOKS.parent
GUIDE = (ROOT / "docs" / "instructors.md").read_text(encoding="utf-8")


def test_machine_seconds_are_those_of_the_benchmark():
    measured = json.loads((ROOT / "benchmarks" / "series.json").read_text(encoding="utf-8"))["profiles"]
    rows = {
        number: (int(sample), int(lesson))
        for number, sample, lesson in re.findall(
            r"^\| (\d\d\w?|all) .*?\| \d+ \| (\d+) \| (\d+) \|", GUIDE, flags=re.MULTILINE
        )
    }
    expected = {
        name.partition("_")[0]: (round(seconds), round(measured["lesson"][name]))
        for name, seconds in measured["sample"].items()
    }
    expected["all"] = tuple(round(sum(measured[profile].values())) for profile in ("sample", "lesson"))
    assert rows == expected


def test_teaching_minutes_agree():
    table = dict(re.findall(r"^\| (\d\d\w?|all) .*?\| (\d+) \| [^|]+ \| [^|]+ \|", GUIDE, flags=re.MULTILINE))
    sections = dict(re.findall(r"^## Lesson (\d\d\w?): .*\n\n(\d+) minutes \(estimate\)\.$", GUIDE, flags=re.MULTILINE))
    assert {number: minutes for number, minutes in table.items() if number != "all"} == sections
    assert int(table["all"]) == sum(map(int, sections.values()))


def test_every_plan_for_a_class_hour_fills_it():
    for section in re.split(r"\n## (?=Lesson )", GUIDE)[1:]:
        minutes = int(re.search(r"^(\d+) minutes \(estimate\)\.$", section, flags=re.MULTILINE)[1])
        plan = section.split("### Plan for the class hour\n")[1].split("\n### ")[0]
        assert sum(map(int, re.findall(r"^\| (\d+) \|", plan, flags=re.MULTILINE))) == minutes, section[:20]


@pytest.mark.parametrize("path", ["A 90-minute path", "A two-hour path", "A half-day path"])
def test_minutes_of_a_path_add_up(path):
    section = GUIDE.split(f"## {path}\n")[1].split("\n## ")[0]
    parts = re.findall(r"^\| (\d+) \|", section, flags=re.MULTILINE)
    (total,) = re.findall(r"^\| \*\*(\d+)\*\* \|", section, flags=re.MULTILINE)
    assert sum(map(int, parts)) == int(total)
