"""Write the repository's address from ``pyproject.toml`` into lessons and pages: ``python tools/write_address.py``.

Every lesson gets a cell after its title that installs the package where it is missing, on Colab and Kaggle for example.
README.md and docs/index.md get buttons that open a lesson on Colab, Kaggle and Binder, between the lines
``<!-- address:begin -->`` and ``<!-- address:end -->``. Where ``[project.urls]`` has no ``Repository``, cell and pages
say what to do by hand. The seconds in a cell are those in ``benchmarks/series.json``.
"""

import json
import re
import tomllib
from pathlib import Path
from string import Template

import nbformat

from cifake_utils import CifakeError
from cifake_utils.support.files import replacing

PROJECT = Path(__file__).resolve().parent.parent
BRANCH = "main"
CELL = "install"  # the id of the cell
METADATA = {"jupyter": {"source_hidden": True}, "cellView": "form"}  # hidden in JupyterLab, and on Colab
BEGIN, END = "<!-- address:begin -->", "<!-- address:end -->"

INSTALL = Template('''\
# @title Install the package, where it is missing
# On Colab, on Kaggle and in other kernels without the package cifake_utils, this cell
# installs it. Where the package can be imported, the cell does nothing.
import importlib.util
import subprocess
import sys

ADDRESS = "$address"  # of the repository, such as https://github.com/OWNER/NAME
OLDEST_PYTHON = (3, 11)


def install_package():
    if sys.version_info < OLDEST_PYTHON:
        raise RuntimeError(
            "The lessons need Python 3.11 or newer, and this kernel runs Python "
            + sys.version.split()[0]
            + ". Choose another kernel or make a new environment."
        )
    if not ADDRESS:
        raise RuntimeError(
            "The package cifake_utils is not installed. Write the address of the repository "
            "between the quotes after ADDRESS in this cell and run it again. Or clone the "
            "repository and follow its README."
        )
    print("Installing the package from", ADDRESS)
    package_and_needs = ["git+" + ADDRESS, "cifake-utils[lessons]"]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-color", *package_and_needs]
    run = subprocess.run(pip, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if run.returncode:
        raise RuntimeError(
            "pip could not install the package. Its last words:\\n"
            + run.stdout[-1500:]
            + "\\nThe installation needs the right ADDRESS, a network, pip and git. On Kaggle, "
            "switch on Settings > Turn on internet. Then run this cell again."
        )
    importlib.invalidate_caches()
    print("""\
The package is installed. If an import below fails all the same, restart the
kernel (Colab: Runtime > Restart session) and run all cells again.

$times

The profile "sample" runs on the CPU, and all it needs is installed. The profiles "lesson"
and "full" use a GPU where there is one:
  Colab: Runtime > Change runtime type > T4 GPU
  Kaggle: Settings > Accelerator > GPU, and Settings > Turn on internet
To choose "lesson", add a cell with these two lines after this one and run all cells again:
  %env CIFAKE_PROFILE=lesson
  !{sys.executable} -m cifake_utils data fetch""")


if importlib.util.find_spec("cifake_utils") is None:
    install_package()''')


def address() -> str:
    """Return the repository's address, empty where ``pyproject.toml`` has none; another form is a `CifakeError`."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = project.get("urls", {}).get("Repository", "")
    if found and not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", found):
        raise CifakeError(
            f"pyproject.toml has the address {found!r}. Expected https://github.com/OWNER/NAME, which Colab, Kaggle "
            "and Binder can open. Correct `Repository` in [project.urls], and run `python tools/write_address.py`."
        )
    return found


def install_cell(lesson: str, address: str) -> nbformat.NotebookNode:
    """Return the cell that installs the package where it is missing.

    Parameters
    ----------
    lesson : str
        The notebook's name without its ending.
    address : str
        Whatever `git clone` takes; empty where it is not known.
    """
    source = INSTALL.substitute(address=address, times=times(lesson))
    return nbformat.v4.new_code_cell(source, id=CELL, metadata=METADATA)


def times(lesson: str) -> str:
    """Return sentences that say how long a lesson took in each profile, as far as that has been measured."""
    profiles = json.loads((PROJECT / "benchmarks" / "series.json").read_text(encoding="utf-8"))["profiles"]
    took = {name: f"{seconds[lesson]:.0f} s" for name, seconds in profiles.items() if lesson in seconds}
    cores = {"sample": "one CPU core", "lesson": "two CPU cores"}
    lines = [
        f'In the profile "{name}" this lesson took {took[name]} on {cores[name]}, with whatever it trains.'
        if name in took
        else f'How long this lesson takes in the profile "{name}" has not been measured.'
        for name in cores
    ]
    lines.append('The profile "full" may take hours on CPU cores, where networks are trained.')
    lines.append("Times on a GPU have not been measured.")
    return "\n".join(lines)


def with_cell(notebook: nbformat.NotebookNode, cell: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return a notebook with the cell after its title, in place of an older one; the same one stays as it has run."""
    older = next((found for found in notebook.cells if found.get("id") == CELL), None)
    if older and (older.source, older.metadata) == (cell.source, cell.metadata):
        cell = older
    others = [found for found in notebook.cells if found.get("id") != CELL]
    return nbformat.NotebookNode({**notebook, "cells": [*others[:1], cell, *others[1:]]})


def buttons(address: str, titles: dict[str, str]) -> str:
    """Return Markdown that opens the lessons in a browser: a row a lesson, a button a service.

    Parameters
    ----------
    address : str
        ``https://github.com/OWNER/NAME``, or empty.
    titles : dict of str to str
        Of the lessons, by the notebook's name without its ending.
    """
    if not address:
        return (
            "Buttons for Colab, Kaggle and Binder will stand here when the address is known. Until then,\n"
            "upload a lesson to Colab or Kaggle, and write the address from which you cloned into its first code\n"
            "cell, which installs the package."
        )
    repository = address.removeprefix("https://github.com/")
    codespaces = (
        f"[![Open in Codespaces](https://github.com/codespaces/badge.svg)](https://codespaces.new/{repository})"
    )
    rows = [codespaces, "", "| lesson | Colab | Kaggle | Binder |", "|---|---|---|---|"]
    for lesson, title in titles.items():
        path, number = f"notebooks/{lesson}.ipynb", lesson.partition("_")[0]
        services = {
            "Colab": (
                "https://colab.research.google.com/assets/colab-badge.svg",
                f"https://colab.research.google.com/github/{repository}/blob/{BRANCH}/{path}",
            ),
            "Kaggle": (
                "https://kaggle.com/static/images/open-in-kaggle.svg",
                f"https://kaggle.com/kernels/welcome?src={address}/blob/{BRANCH}/{path}",
            ),
            "Binder": (
                "https://mybinder.org/badge_logo.svg",
                f"https://mybinder.org/v2/gh/{repository}/{BRANCH}?urlpath=lab/tree/{path}",
            ),
        }
        cells = [f"[![Open lesson {number} in {name}]({image})]({url})" for name, (image, url) in services.items()]
        rows.append(f"| {number} {title} | {' | '.join(cells)} |")
    return "\n".join(rows)


def filled(page: str, block: str) -> str:
    """Return a page with the block between its two markers, unchanged where it has no markers."""
    pattern = f"(?<={re.escape(BEGIN)}\n).*?(?={re.escape(END)})"
    return re.sub(pattern, lambda _: f"{block}\n", page, flags=re.DOTALL)


def title_of(notebook: nbformat.NotebookNode) -> str:
    """Return the heading of a notebook."""
    return notebook.cells[0].source.splitlines()[0].removeprefix("# ")


def contents() -> dict[Path, str]:
    """Return what every file with the address should hold."""
    found, titles = address(), {}
    files = {}
    for path in sorted((PROJECT / "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        titles[path.stem] = title_of(notebook)
        files[path] = nbformat.writes(with_cell(notebook, install_cell(path.stem, found))) + "\n"
    for page in (PROJECT / "README.md", PROJECT / "docs" / "index.md"):
        if page.exists():
            files[page] = filled(page.read_text(encoding="utf-8"), buttons(found, titles))
    return files


if __name__ == "__main__":
    for path, text in contents().items():
        if path.read_text(encoding="utf-8") != text:
            with replacing(path) as partial:
                partial.write_text(text, encoding="utf-8", newline="\n")
            print(f"written: {path.relative_to(PROJECT)}")
