"""The numbers that lesson 10 shows: those in its text stand in its outputs, and these are computed once more here."""

import re

import nbformat
import numpy as np
import pytest
from scipy.stats import gmean
from sklearn.metrics import roc_auc_score

from cifake_utils.lessons import beyond, exercises, series, unseen
from tests import cells

LESSON = series.NOTEBOOKS / "10_leave_cifake.ipynb"
# Numbers that are no result: of data sets, of formulas and examples, a version, an address or a year.
GIVEN = {
    *("10,000", "5,000", "3,000", "7,000", "100,000", "600"),
    *("0.98", "0.99", "0.01", "1.4", "499", "9.98", "4:2:0", "0.02", "500", "0.1", "2.7"),
    *("1992", "1995", "2000", "2017", "2019", "2020", "2021", "2023", "2024", "2025", "102"),
}


@pytest.fixture(scope="module")
def lesson():
    return nbformat.read(LESSON, as_version=4)


def shown(lesson, start):
    """Return the stored output of the cell whose source holds ``start``."""
    (cell,) = [cell for cell in lesson.cells if cell.cell_type == "code" and start in cell.source]
    return cells.stored(cell)


def row_of(text, name):
    """Return the numbers in the row of a table that begins with a name."""
    (line,) = [line for line in text.splitlines() if re.match(rf"{re.escape(name)}\s+\d", line)]
    return [float(number.replace(",", "")) for number in re.findall(r"\d[\d,]*(?:\.\d+)?", line[len(name) :])]


def auroc(real, fake):
    return roc_auc_score(np.repeat([0, 1], [len(real), len(fake)]), np.concatenate([real, fake]))


def names():
    return {beyond.RENDERED: unseen.CIFAKE} | {title: kind for kind, title in beyond.GENERATORS.items()}


def test_our_detector_away_from_home(lesson):
    text, kept = shown(lesson, "The detector that comes with the package,"), unseen.scores()[unseen.ALONE]
    for title, kind in names().items():
        found = kept["resnet50_embedded"][kind]
        value, low, high, called, count = row_of(text, title)
        assert value == pytest.approx(auroc(kept["resnet50_embedded"][unseen.PHOTOGRAPHS], found), abs=5e-4)
        assert low < value < high or value == high
        assert (called, count) == ((found > 0.5).sum(), len(found))
    alone = unseen.alone().set_index(["detector", "kind"])
    text = shown(lesson, 'strong = unseen.scores()[unseen.ALONE]["resnet50_strong"]')
    for title, kind in names().items():
        assert row_of(text, title)[0] == pytest.approx(alone.loc[("resnet50_strong", kind), "auroc"], abs=5e-4)


def test_fine_detail(lesson):
    measured, text = beyond.read(), shown(lesson, "Power at 14 to 16 cycles, in units")
    photographs = gmean(10.0 ** measured.spectra[beyond.PHOTOGRAPHS][:, 13:].astype(float), axis=None)
    for title, kind in names().items():
        powers = measured.spectra[title] if kind == unseen.CIFAKE else beyond.spectra(beyond.images(kind))
        ratio = gmean(10.0 ** powers[:, 13:].astype(float), axis=None) / photographs
        assert row_of(text, title)[0] == pytest.approx(ratio, abs=6e-4)


def test_distances(lesson):
    distances, text = beyond.read().distances, shown(lesson, "The farther from the centre, the more FAKE")
    for title, kind in names().items():
        found = distances[title if kind == unseen.CIFAKE else kind]
        assert row_of(text, title)[1] == pytest.approx(auroc(distances[beyond.PHOTOGRAPHS], found), abs=5e-4)


def test_kinds_that_were_left_out(lesson):
    text, matrix = shown(lesson, "AUROC of a simple head on frozen maps"), unseen.matrix()
    columns = [unseen.CIFAKE, *beyond.GENERATORS]
    for title, kind in (names() | {"re-renderings": unseen.RENDERINGS, "all other generators": unseen.OTHERS}).items():
        assert row_of(text, title) == pytest.approx(list(matrix.loc[kind, columns]), abs=5.1e-3)
    text = shown(lesson, "AUROC on the seven generators, each never trained on")
    for _, way in unseen.ways().iterrows():
        (line,) = [line for line in text.splitlines() if line.startswith(f"{way['way']}  ")]
        numbers = [float(number) for number in re.findall(r"\d\.\d{3}", line)]
        expected = [way[key] for key in ("mean", "low", "high", "lowest", "gan", "vae", "cifake", "again")]
        assert numbers == pytest.approx(expected, abs=5.1e-4)


@pytest.mark.parametrize("path", [LESSON, exercises.solutions_of(LESSON)], ids=["lesson", "solutions"])
def test_every_number_in_the_text_stands_in_an_output(path):
    """Outputs are compared with the records. A number of the text may be a rounded one of theirs."""
    found = cells.numbers_of(path)
    assert len(found) >= 5
    assert cells.in_no_output(path, [number for number in found if number not in GIVEN]) == []


def test_the_five_generators_of_which_the_text_speaks():
    kept = unseen.scores()[unseen.ALONE]["resnet50_embedded"]
    values = {kind: auroc(kept[unseen.PHOTOGRAPHS], kept[kind]) for kind in unseen.KINDS}
    low = [kind for kind, value in values.items() if value < 0.3]
    assert len(low) == 5 and all((kept[kind] <= 0.5).all() and len(kept[kind]) == 1000 for kind in low)
    distances = beyond.read().distances
    nearer = [kind for kind in unseen.KINDS if auroc(distances[beyond.PHOTOGRAPHS], distances[kind]) < 0.5]
    assert len(nearer) == 6 and "vae" not in nearer


def test_seconds_of_training_are_one_to_three_minutes():
    assert all(60 < beyond.about(kind)["seconds"] < 180 for kind in beyond.GENERATORS)
