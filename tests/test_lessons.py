"""A lesson is one file: what the series and the tests must know of it follows from its name and its metadata."""

import subprocess
import sys
from types import SimpleNamespace

import nbformat
import pytest

from cifake_utils import profiles
from cifake_utils.lessons import navigation, series

ROOT = profiles.PROJECT


@pytest.fixture
def tests(pytestconfig):
    """The root's conftest.py, which orders and shares out the tests."""
    return pytestconfig.pluginmanager.getplugin(str(ROOT / "conftest.py"))


@pytest.fixture
def nine(tmp_path):
    """The heads of the stored lessons up to the eighth, and a ninth one, which takes much memory, in a folder."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for path in series.NOTEBOOKS.glob("0[1-8]*.ipynb"):
        stored = nbformat.read(path, as_version=4)
        texts = [cell for cell in stored.cells if cell.cell_type == "markdown"]
        lesson = nbformat.v4.new_notebook(cells=[texts[0], texts[-1]], metadata=stored.metadata)
        nbformat.write(lesson, folder / path.name)
    cells = [nbformat.v4.new_markdown_cell(text) for text in ("# Ask two models: better than one?", "The end.")]
    ninth = nbformat.v4.new_notebook(cells=cells, metadata={"cifake": {"memory": "large"}})
    nbformat.write(ninth, folder / "09_two_models.ipynb")
    return folder


def ends(path):
    cells = nbformat.read(path, as_version=4).cells
    return [cell.source.split("\n\n")[-1] for cell in (cells[0], cells[-1])]


def test_stored_lessons_link_their_neighbours():
    for path in series.NOTEBOOKS.glob("*.ipynb"):
        texts = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]
        for cell in (texts[0], texts[-1]):
            assert navigation.line(path) in " ".join(cell.source.split()), path.name


def test_a_ninth_lesson_is_linked(nine):
    eighth, seventh = nine / "08_comparison.ipynb", nine / "07_self_supervised_rotation.ipynb"
    before = ends(seventh)
    navigation.write(nine)
    new = "[09 Ask two models](09_two_models.ipynb)"
    assert ends(eighth) == [f"Previous: [07 Learn from rotations](07_self_supervised_rotation.ipynb) · Next: {new}"] * 2
    assert ends(nine / "09_two_models.ipynb") == ["Previous: [08 Compare the models](08_comparison.ipynb)"] * 2
    assert ends(seventh) == before
    (nine / "09_two_models.ipynb").unlink()
    navigation.write(nine)
    assert ends(eighth) == ["Previous: [07 Learn from rotations](07_self_supervised_rotation.ipynb)"] * 2


def test_a_ninth_lesson_that_takes_much_memory_runs_beside_no_other_such(nine, tests):
    items = [SimpleNamespace(path=path) for path in (*sorted(nine.glob("*.ipynb")), nine / "test_training.py")]
    tests.pytest_collection_modifyitems(items)
    numbers = [item.path.stem.partition("_")[0] for item in items]
    assert numbers == ["03", "04", "07", "09", "test", "01", "08", "02", "02b", "05", "06"]
    scheduler = object.__new__(tests.WholeFiles)
    scheduler.config = SimpleNamespace(rootpath=nine.parent)
    names = ("09_two_models", "03_resnet50_from_scratch", "05_fractal_layer")
    scopes = [scheduler._split_scope(f"notebooks/{name}.ipynb::ipynb::Cell 0") for name in names]
    assert scopes == ["large", "large", "notebooks/05_fractal_layer.ipynb"]


def test_memory_survives_a_run(nine):
    ninth = nbformat.read(nine / "09_two_models.ipynb", as_version=4)
    ninth.metadata.other = "of this machine"
    series.tidy(ninth)
    assert ninth.metadata.cifake == {"memory": "large"} and "other" not in ninth.metadata


def test_what_hands_out_tests_imports_little():
    code = "import sys, conftest; print({'torch', 'nbformat', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
