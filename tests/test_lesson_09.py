"""What lesson 09 says and shows. Its outputs are compared by nbval; the scores behind them, in test_records.py."""

import dataclasses
import re

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest

from cifake_utils import models, profiles, records
from cifake_utils.lessons import comparison, exercises, further, series
from cifake_utils.lessons.checks import lesson_09
from tests import cells

LESSON = series.NOTEBOOKS / "09_go_further.ipynb"
# Numbers that are no result: of ResNet50, of the data set, of a formula or its example, or a year.
GIVEN = {
    *("224", "128", "20,000", "80,000", "3.5", "0.998", "500", "95"),
    *("0.9787", "0.9877", "0.9930"),  # of the model cards
    *("100", "105", "200", "11", "0.1", "1/6", "0.05"),
    "1,875",  # steps of three epochs, 80,000 images in batches of 128
    *("2016", "2018", "2019", "2021"),
    "0.9774",  # of finetuned, compared below
}


def test_the_lesson_takes_further_trials(monkeypatch, runs):
    """A plain trial, and one of a network without its last stage, are shown and tested as soon as they are there."""
    made = further.trials()
    made["base"] = dataclasses.replace(made["stem stride 1"], name="base", layout=models.RESNET50)
    name = "without the last stage"
    made[name] = dataclasses.replace(made["enlarged twice"], name=name, last="layer3")
    monkeypatch.setattr(further, "trials", lambda: made)
    monkeypatch.setattr(plt, "show", lambda: None)
    lesson, names = nbformat.read(LESSON, as_version=4), {}
    (imports,) = [cell.source for cell in lesson.cells if cell.source.startswith("import matplotlib")]
    wanted = ("made = further.trials()", "further.bars(made)", "further.table(made)", "further.cost_explorer()")
    for source in (imports, *(cell.source for cell in lesson.cells if any(part in cell.source for part in wanted))):
        shown = cells.run(source, names)
        if source.startswith("further.table"):
            assert re.search(r"without the last stage .* base +\+0\.0025 .* better", shown)


@pytest.mark.parametrize("path", [LESSON, exercises.solutions_of(LESSON)], ids=["lesson", "solutions"])
def test_every_number_in_the_text_stands_in_an_output(path):
    """Outputs are compared with the records. A number of the text may be a rounded one of theirs."""
    found = cells.numbers_of(path)
    assert len(found) >= 2
    assert cells.in_no_output(path, [number for number in found if number not in GIVEN]) == []


def test_sentences_of_the_text_are_true():
    """What the text says without a number, or with a rounded one."""
    views, tests_of_ten = {}, []
    for name, trial in further.trials().items():
        one, two, ten = (trial.correct(average) for average in further.VIEWS)
        views[name] = two.mean() - one.mean(), ten.mean() - two.mean()
        tests_of_ten += comparison.paired_tests({name: ten, "two": two})
    assert all(first > second for first, second in views.values())
    first, second, *_ = sorted(views, key=lambda name: -views[name][1])
    assert (first, second) == ("mixup", "base")
    told_apart = [test.first for test in tests_of_ten if len(views) * test.p < 0.05]
    assert told_apart == ["mixup"]  # Holm's correction begins with all tests, and the next p is above 0.01
    assert sorted(test.p for test in tests_of_ten)[1] > 0.01
    alone = {name: trial.correct("alone").mean() for name, trial in further.trials().items()}
    weakest = [views[name][0] for name in views if alone[name] < 0.97]
    least = {f"{views[name][0]:.4f}" for name in views if "enlarged four times" in name}
    assert least == {"0.0010", "0.0011"} == {f"{first:.4f}" for first, _ in sorted(views.values())[:3]}
    text = " ".join(cell.source for cell in nbformat.read(LESSON, as_version=4).cells)
    gains = f"{min(weakest):.4f} to {max(weakest):.4f}"
    assert f"{gains} for those below 0.97 alone, and 0.0010 or 0.0011 for those enlarged four times" in text
    gain = {
        name: further.trials()[name].correct().mean() for name in ("base", "without the last stage", "enlarged twice")
    }
    gain = {name: accuracy - gain["base"] for name, accuracy in gain.items()}
    assert 0.3 < gain["without the last stage"] / gain["enlarged twice"] < 0.36
    sizes = {
        name: sum(weight.numel() for weight in part.parameters()) for name, part in models.Backbone().named_children()
    }
    assert 0.35 < 1 - sizes["layer4"] / sum(sizes.values()) < 0.37
    points = {(point.source, point.name): point for point in further.priced()}
    strong, public, large = (
        points["ours", "strong"],
        points["others", "ResNet50, 224 px"],
        points["others", "ViT-B/16, 224 px"],
    )
    transfer, finetuned = points["ours", "transfer"], points["ours", "finetuned"]
    assert strong.cost < public.cost and strong.accuracy > public.accuracy
    assert 6.5 < large.cost / strong.cost < 7 and 0.45 < (1 - large.accuracy) / (1 - strong.accuracy) < 0.6
    assert finetuned.cost == 2 * transfer.cost and 0.19 < (1 - finetuned.accuracy) / (1 - transfer.accuracy) < 0.21
    assert round(strong.cost / finetuned.cost) == 17
    seeds = [run.metrics["val"]["accuracy"] for run in records.references("resnet50_finetuned")]
    text = " ".join(cell.source for cell in nbformat.read(LESSON, as_version=4).cells)
    assert f"its three seeds have {min(seeds):.4f} to {max(seeds):.4f} on these images" in text and len(seeds) == 3


def test_the_page_of_results_says_what_the_records_say():
    page = (profiles.PROJECT / "docs" / "results.md").read_text(encoding="utf-8")
    section = " ".join(page.partition("## Further than the controls")[2].partition("\n## ")[0].split())
    strong, plain = records.reference("resnet50_strong"), records.reference("resnet50_finetuned")
    wrong = [round(20_000 * (1 - run.metrics["test"]["accuracy"])) for run in (strong, plain)]
    assert f"{wrong[0]} wrong test images where the first seed of `resnet50_finetuned` has {wrong[1]}" in section
    assert f"in {strong.seconds['training']:.0f} s" in section and strong.hardware.startswith("NVIDIA H200")
    text = section.partition("| trial |")[0]
    coarse = [records.reference(f"resnet50_strong_{name}") for name in ("progressive", "long")]
    p = np.array([run.probabilities["test"] for run in (strong, *coarse)])
    together = lesson_09._weighted(p, np.full(3, 1 / 3))
    said = [run.metrics["test"]["accuracy"] for run in (strong, *coarse)]
    said += [comparison.correct(together, strong.labels["test"]).mean()]
    said += [records.reference("resnet50_embedded").metrics["test"]["accuracy"]]
    base, *wider = (
        further.trials()[name].correct().astype(float) for name in ("base", "enlarged twice", "stem stride 1")
    )
    said += [correct.mean() for correct in wider] + [(correct - base).mean() for correct in wider]
    assert re.findall(r"0\.\d{4}", text) == [f"{value:.4f}" for value in said]
