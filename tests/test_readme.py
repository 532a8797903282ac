"""The pages that a reader meets first: their numbers are those of the records, and their links lead somewhere."""

import re
from itertools import pairwise

import nbformat
import numpy as np
import pytest

from cifake_utils import embedded, evaluation, prediction, profiles
from cifake_utils.lessons import further, results, unseen

README = profiles.PROJECT / "README.md"
LESSONS = sorted((profiles.PROJECT / "notebooks").glob("*.ipynb"))
PAGES = [README, profiles.PROJECT / "CONTRIBUTING.md", profiles.PROJECT / "CHANGELOG.md"]
PAGES += sorted((profiles.PROJECT / "docs").glob("*.md"))


def without_code(page) -> str:
    """Return a page's text without its blocks of code."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def anchors(page) -> set[str]:
    """Return the fragments that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", without_code(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_all_results_are_those_of_the_reference_runs():
    """Where this fails, put what `python -m cifake_utils results` prints in place of the tables of the two pages."""
    docs = profiles.PROJECT / "docs"
    page = (docs / "results.md").read_text(encoding="utf-8")
    assert results.table() in page and results.recipes().markdown() in page
    assert further.table().markdown() in page
    page = (docs / "detector.md").read_text(encoding="utf-8")
    assert all(table.markdown() in page for table in results.detector())


def test_the_card_of_the_detector_says_what_was_measured():
    page, facts = (profiles.PROJECT / "docs" / "detector.md").read_text(encoding="utf-8"), embedded.load().facts
    said = [facts["test"]["before_rounding"], facts["test"]["rounded"]["f1_fake"], facts["test"]["rounded"]["auroc"]]
    assert all(f"{value:.4f}" in page for value in [*said, facts["test"]["rounded"]["ece"]])
    record = embedded.load().record
    p = evaluation.with_temperature(record.probabilities["test"], facts["temperature"])
    sure = np.maximum(p, 1 - p) >= prediction.SURE
    right = (p > 0.5) == record.labels["test"]
    assert f"{sure.mean():.1%} of the test images, and {right[sure].mean():.1%}".replace("%", " %") in page
    assert f"{facts['gan_called_fake']:.1%}".replace("%", " %") in page
    assert all(f"| {name} | {share:.1%} |".replace("%", " %") in page for name, share in facts["unlike"].items())
    answers = unseen.read(unseen.ALONE)["resnet50_embedded"]
    called = {kind: int((answers[kind] > 0.5).sum()) for kind in (*unseen.KINDS, unseen.PHOTOGRAPHS)}
    silent = [kind for kind in unseen.KINDS if not called[kind]]
    assert len(silent) == 5 and "it calls none FAKE of five kinds" in page
    assert f"{called['gan_hinge']} of the GAN with a hinge loss" in page
    assert f"{called['vae']} of the VAE; of 2,000 photographs {called[unseen.PHOTOGRAPHS]}." in page
    found = unseen.alone().query("detector == 'resnet50_embedded'").set_index("kind")["auroc"][silent]
    assert f"(AUROC {found.min():.3f} to {found.max():.3f})" in page


def minutes_for(lesson) -> tuple[float, float]:
    """Return the minutes to read a lesson and those for its exercises, by the rule below the README's table."""
    reading, exercises, in_exercises = 0, 0, False
    for cell in nbformat.read(lesson, as_version=4).cells:
        if cell.source.startswith(("## Exercises", "## Further reading")):
            in_exercises = cell.source.startswith("## Exercises")
        if in_exercises:
            exercises += 10 * len(re.findall("^### Exercise", cell.source, re.M))
        elif cell.cell_type == "markdown":
            reading += len(re.sub(r"<[^>]*>|\]\([^)]*\)", " ", cell.source).split()) / 200
        elif "# @title Install" not in cell.source:
            lines = [line for line in cell.source.splitlines() if line.strip() and not line.strip().startswith("#")]
            reading += len(lines) / 10 + 2 * sum("image/png" in output.get("data", {}) for output in cell.outputs)
    return reading, exercises


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_minutes_of_a_lesson_follow_from_its_length(lesson):
    """Where this fails, write the minutes that the rule gives into the lesson's first cell and the README's table."""
    first = nbformat.read(lesson, as_version=4).cells[0].source
    (said,) = re.findall(r"\*\*Time\*\*: about (\d+) minutes to read and try, and (\d+) for the exercises", first)
    reading, exercises = minutes_for(lesson)
    assert abs(int(said[0]) - reading) <= 5 and int(said[1]) == exercises, f"{reading:.0f} and {exercises} minutes"
    (shown,) = re.findall(rf"\(notebooks/{lesson.name}\) \|.*\| (\d+) \|$", README.read_text(encoding="utf-8"), re.M)
    assert int(shown) == sum(map(int, said))


def test_readme_shows_the_five_models_of_the_paper():
    """Where this fails, the numbers to write into the README's table are in the rows of `measured`."""
    number = r"(0\.\d{4})"
    rows = rf"^\| `.*?\| {number} \| {number} \({number} to {number}\) \|"
    measured = re.findall(rows, results.table(), re.M)
    rows = rf"^\| \d .*?\| {number} \| {number} \| {number} to {number} \|$"
    shown = re.findall(rows, README.read_text(encoding="utf-8"), re.M)
    assert shown == measured and len(shown) == 5


def test_readme_counts_the_other_models():
    (others,) = re.findall(r"has (\d+) more models", README.read_text(encoding="utf-8"))
    assert int(others) == len(results.table().splitlines()) - 2 - 5


def test_what_the_controls_say_stands_in_the_table():
    page = (profiles.PROJECT / "docs" / "results.md").read_text(encoding="utf-8")
    said = re.findall(r"0\.\d{4}", page.partition("## What the controls say")[2].partition("\n## ")[0])
    assert said and set(said) <= set(re.findall(r"(0\.\d{4}) \(", results.table()))


def test_readme_is_one_page():
    assert README.stat().st_size < 8_000


def test_readme_lists_every_lesson():
    listed = re.findall(r"^\| \[.*?\]\(notebooks/(.*?\.ipynb)\)", README.read_text(encoding="utf-8"), re.M)
    assert listed == sorted(path.name for path in profiles.notebooks().glob("*.ipynb"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page)):
        if "://" not in target:
            path, _, fragment = target.partition("#")
            there = (page.parent / path).resolve() if path else page
            assert there.exists(), target
            assert not fragment or fragment in anchors(there), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pictures_have_a_text(page):
    assert all(text.strip() for text in re.findall(r"!\[([^\]]*)\]\(", without_code(page)))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_headings_come_in_order(page):
    levels = [len(marks) for marks in re.findall(r"^(#+) ", without_code(page), re.M)]
    assert levels[:1] in ([], [1]) and levels.count(1) <= 1  # none where a page only includes another
    assert all(below <= above + 1 for above, below in pairwise(levels))
