"""The comparisons of lesson 03 see what they compare, and its words about numbers hold."""

import nbformat
import numpy as np
import pytest

from cifake_utils import records
from cifake_utils.lessons import series
from tests import cells

LESSON = nbformat.read(series.NOTEBOOKS / "03_resnet50_from_scratch.ipynb", as_version=4)
CELLS = {cell.id: cell for cell in LESSON.cells}
IMPORTS, STAGES, IDLE, CONVOLUTION, BATCH_NORM, BLOCK, STEP = (
    "4a304632",
    "daeaf86e",
    "3558bdba",
    "l03-b2",
    "l03-b4",
    "l03-b6",
    "l03-o2",
)


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """What the cells of the lesson define, down to the convolution."""
    names = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIFAKE_RUNS", str(tmp_path_factory.mktemp("runs")))
        patch.setenv("CIFAKE_PROFILE", "sample")
        for cell in (IMPORTS, STAGES, IDLE, CONVOLUTION):
            cells.run(CELLS[cell].source, names)
    return names


def changed(cell: str, old: str, new: str) -> str:
    source = CELLS[cell].source
    assert source.count(old) == 1, old
    return source.replace(old, new)


def test_the_comparisons_by_hand_see_a_missing_part(names):
    mistakes = {
        BATCH_NORM: [("gamma * ", ""), (" + beta", ""), ("correction=0", "correction=1")],
        BLOCK: [("x + y", "y"), ("batch_norm(y, block.bn3)", "y"), ("y, block.bn1).relu()", "y, block.bn1)")],
        STEP: [(" - eta * decay * w", ""), ("m / (1 - beta1**t)", "m"), ("v / (1 - beta2**t)", "v")],
    }
    for cell, parts in mistakes.items():
        shown = cells.run(CELLS[cell].source, names)
        assert "True" in shown and "False" not in shown
        for part in parts:
            assert "False" in cells.run(changed(cell, *part), dict(names)), part


def test_words_about_parameters(names):
    by_stage = {row["stage"]: row["parameters"] for row in names["stage_rows"]}
    assert 0.60 < by_stage["layer4"] / names["total"] < 2 / 3
    assert "Almost two thirds" in CELLS["l03-f1"].source
    assert 0.22 < names["idle"] / names["total"] < 0.25
    assert "nearly a quarter" in CELLS["d625cd75"].source


def test_words_about_the_reference():
    curves = records.reference("resnet50_scratch").curves
    train, val, accuracy = (np.array(curves[name]) for name in ("train_loss", "val_loss", "val_accuracy"))
    assert curves["best_epoch"] == len(val) - 1, "the kept epoch is the last"
    assert (val < train)[:2].all() and (val > train)[-2:].all()
    assert 0 < val[-1] - val.min() < 0.02
    assert abs(accuracy[-1] - accuracy[val.argmin()]) < 0.002
    assert len(records.references("resnet50_scratch")) == 3
    assert "the reference is the mean of three" in CELLS["l03-n1"].source
