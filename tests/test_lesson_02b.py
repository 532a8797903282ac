"""The numbers in the text of lesson 02b: its cells print them, its records hold them, or they follow from these."""

from math import sqrt
from statistics import NormalDist

import nbformat
import numpy as np

from cifake_utils import records
from cifake_utils.lessons import series
from tests import cells

LESSON = nbformat.read(series.NOTEBOOKS / "02b_other_dimensions.ipynb", as_version=4)
TEXT = " ".join(" ".join(cell.source.split()) for cell in LESSON.cells if cell.cell_type == "markdown")
REFERENCE = records.reference_summary("fractal_effects")


def printed(cell_id):
    (cell,) = [cell for cell in LESSON.cells if cell.id == cell_id]
    return cells.stored(cell)


def test_an_effect_size_as_a_share_of_pairs():
    for d in (0.2, 0.8):
        share = NormalDist().cdf(d / sqrt(2))
        assert f"{share:.0%}".replace("%", " %") in TEXT[TEXT.index(f"$d = {d}$") :]


def test_both_box_countings_are_too_low():
    rows = [[float(number) for number in line.split()] for line in printed("bias-table").splitlines()[2:]]
    _H, truth, of_variogram, of_contour, of_boxes = np.array(rows).T
    assert np.abs(of_variogram - truth).max() < 0.02
    assert ((0.04 < truth - of_contour) & (truth - of_contour < 0.1)).all()
    assert (np.diff(truth - of_boxes) < 0).all() and (truth - of_boxes > 0.1).all()  # the rough ones come first


def test_effects_of_whole_images():
    d = {name: effect["d"] for name, effect in REFERENCE["image"]["estimators"].items()}
    intervals = [(effect["low"], effect["high"]) for effect in REFERENCE["image"]["estimators"].values()]
    assert d["variogram"] > 0.5 and abs(d["box counting, brighter half"]) < 0.1
    assert -0.005 < intervals[1][1] < 0  # differential box counting leaves out zero only just


def test_effects_of_maps():
    d = {stage: {name: np.abs(effect["d"]) for name, effect in of.items()} for stage, of in REFERENCE["map"].items()}
    never = {stage: int(((of["dimension"] == 0) & (of["mean"] == 0)).sum()) for stage, of in d.items()}
    assert never == {"stem": 3, "layer1": 1} and "Three channels of the stem and one of layer1 never vary" in TEXT
    shares = [f"{(of['dimension'] > of['mean']).mean():.0%}".replace("%", " %") for of in d.values()]
    assert " and ".join(shares) in TEXT
    for of in d.values():
        assert np.median(of["dimension"]) < np.median(of["mean"])
        assert (of["dimension"] > of["mean"]).sum() < (of["mean"] > of["dimension"]).sum()
    assert d["stem"]["mean"].max() > d["stem"]["dimension"].max()
    assert d["layer1"]["dimension"].max() > d["layer1"]["mean"].max()
