"""What names the repository's address: a cell in every lesson, buttons in README.md and docs/index.md."""

import contextlib
import io
import re
import subprocess
import sys
from importlib import util

import nbformat
import pytest

from cifake_utils import CifakeError
from tools import write_address

GITHUB = "https://github.com/OWNER/NAME"
LESSON = "01_explore_cifake"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with one lesson, and no address."""
    (tmp_path / "notebooks").mkdir()
    cells = [nbformat.v4.new_markdown_cell("# Explore\n\nMore."), nbformat.v4.new_code_cell("6 * 7")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "notebooks" / f"{LESSON}.ipynb")
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n", encoding="utf-8")
    (tmp_path / "README.md").write_text(f"a\n{write_address.BEGIN}\nold\n{write_address.END}\nb\n", encoding="utf-8")
    (tmp_path / "benchmarks").mkdir()
    seconds = f'{{"profiles": {{"sample": {{"{LESSON}": 10.7}}, "lesson": {{}}}}}}'
    (tmp_path / "benchmarks" / "series.json").write_text(seconds, encoding="utf-8")
    monkeypatch.setattr(write_address, "PROJECT", tmp_path)
    return tmp_path


def cell_with(address: str) -> str:
    return write_address.install_cell(LESSON, address).source


def run(source: str) -> str:
    """Run a cell as where ``cifake_utils`` is missing; return what it prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(source, {})
    return printed.getvalue()


def test_what_is_committed_is_what_the_command_writes():
    written = write_address.contents()
    assert len(written) > 8 and write_address.BEGIN in written[write_address.PROJECT / "README.md"]
    for path, text in written.items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run `python tools/write_address.py`"


def test_an_address_gives_buttons_for_every_lesson(project):
    with (project / "pyproject.toml").open("a", encoding="utf-8") as file:
        file.write(f"[project.urls]\nRepository = '{GITHUB}'\n")
    written = write_address.contents()
    readme = written[project / "README.md"]
    assert readme.startswith(f"a\n{write_address.BEGIN}\n[![") and readme.endswith(f"|\n{write_address.END}\nb\n")
    lesson = f"notebooks/{LESSON}.ipynb"
    assert re.findall(r"\)\]\((http[^)]*)\)", readme) == [
        "https://codespaces.new/OWNER/NAME",
        f"https://colab.research.google.com/github/OWNER/NAME/blob/main/{lesson}",
        f"https://kaggle.com/kernels/welcome?src=https://github.com/OWNER/NAME/blob/main/{lesson}",
        f"https://mybinder.org/v2/gh/OWNER/NAME/main?urlpath=lab/tree/{lesson}",
    ]
    assert f'ADDRESS = "{GITHUB}"' in nbformat.reads(written[project / lesson], as_version=4).cells[1].source


def test_without_an_address_the_page_says_what_to_do(project):
    assert "upload a lesson to Colab or Kaggle" in write_address.contents()[project / "README.md"]


@pytest.mark.parametrize(
    "address", ["github.com/OWNER/NAME", "https://github.com/OWNER/NAME/", "https://other.org/a/b"]
)
def test_an_address_that_gives_no_links_is_refused(project, address):
    with (project / "pyproject.toml").open("a", encoding="utf-8") as file:
        file.write(f"[project.urls]\nRepository = '{address}'\n")
    with pytest.raises(CifakeError, match=f"'{address}'.*https://github.com/OWNER/NAME"):
        write_address.contents()


def test_the_cell_comes_after_the_title_once_and_keeps_its_run(project):
    path = project / "notebooks" / f"{LESSON}.ipynb"
    for count in (None, 1):
        path.write_text(write_address.contents()[path], encoding="utf-8")
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        assert [cell.id == write_address.CELL for cell in notebook.cells] == [False, True, False]
        assert notebook.cells[1].execution_count == count
        notebook.cells[1].execution_count = 1
        nbformat.write(notebook, path)
    notebook.cells[1].source = "old"
    nbformat.write(notebook, path)
    again = nbformat.reads(write_address.contents()[path], as_version=4)
    assert len(again.cells) == 3 and again.cells[1].source.startswith("# @title")


def test_the_cell_says_what_has_been_measured(project):
    source = cell_with("")
    assert 'In the profile "sample" this lesson took 11 s on one CPU core, with whatever it trains.' in source
    assert 'How long this lesson takes in the profile "lesson" has not been measured.' in source


def test_the_cell_does_nothing_where_the_package_is_there(monkeypatch):
    monkeypatch.setattr(subprocess, "run", None)
    assert run(cell_with(GITHUB)) == ""


def test_the_cell_installs_the_package_where_it_is_missing(monkeypatch):
    commands = []
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    monkeypatch.setattr(subprocess, "run", lambda *c, **o: commands.append(*c) or subprocess.CompletedProcess(c, 0))
    assert "T4 GPU" in run(cell_with(GITHUB))
    assert commands[0][-2:] == [f"git+{GITHUB}", "cifake-utils[lessons]"] and commands[0][0] == sys.executable


def test_the_cell_says_what_is_wrong(monkeypatch):
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match="Write the address"):
        run(cell_with(""))
    failed = subprocess.CompletedProcess([], 1, stdout="no such host")
    monkeypatch.setattr(subprocess, "run", lambda *command, **options: failed)
    with pytest.raises(RuntimeError, match="no such host\nThe installation needs the right ADDRESS, a network"):
        run(cell_with(GITHUB))
    monkeypatch.setattr(sys, "version_info", (3, 10))
    with pytest.raises(RuntimeError, match="need Python 3"):
        run(cell_with(GITHUB))
