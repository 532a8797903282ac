"""Sphinx extension: what lies in the repository outside ``docs/`` becomes a part of the site.

The lessons are copied into ``docs/lessons/``, which git ignores. Links that work on GitHub lead to pages of the site.
"""

import os
import re
from collections import Counter
from pathlib import Path

import nbformat
from sphinx.application import Sphinx
from sphinx.config import Config

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
NOTEBOOKS, LESSONS = ROOT / "notebooks", DOCS / "lessons"
PAGES = {  # which page of the site stands for a file
    ROOT / "README.md": DOCS / "index.md",
    ROOT / "CONTRIBUTING.md": DOCS / "contributing.md",
    ROOT / "CHANGELOG.md": DOCS / "changelog.md",
}
LINK = re.compile(  # [text](path#fragment) or [name]: path#fragment, but no address with a scheme
    r"\[(?P<text>[^][]*)\](?P<start>\(|: +)(?P<path>[^)\s#:]+)(?P<fragment>#[^)\s]*)?(?P<end>\)|$)", re.M
)
WIDGET = "application/vnd.jupyter.widget-view+json"
ALIVE = (
    "This is a picture of a widget. You can play with it where the lesson runs: in JupyterLab on your machine, or in "
    "Colab or Kaggle."
)
NO_PICTURE = ALIVE.replace("This is a picture of a widget", "Here the lesson has a widget")


def rewrite_links(text: str, written_in: Path, shown_in: Path) -> str:
    """Return Markdown whose links to files of the repository lead to the same things in the site.

    Parameters
    ----------
    text : str
        Markdown.
    written_in, shown_in : Path
        The folder that its links start from, and the folder in ``docs/`` of the page that shows it.
    """

    def rewrite(link: re.Match) -> str:
        target, fragment = (written_in / link["path"]).resolve(), link["fragment"] or ""
        if not target.exists():
            return link[0]  # Sphinx reports it
        if target.is_dir():
            return link["text"]  # a site has no page for a folder
        if target in PAGES:
            target, fragment = PAGES[target], ""  # the page has other headings
        elif target.is_relative_to(NOTEBOOKS) and target.suffix == ".ipynb":
            target = LESSONS / target.relative_to(NOTEBOOKS)
        path = Path(os.path.relpath(target, shown_in)).as_posix()
        return f"[{link['text']}]{link['start']}{path}{fragment}{link['end']}"

    return LINK.sub(rewrite, text)


def for_the_site(notebook: nbformat.NotebookNode, source: Path) -> nbformat.NotebookNode:
    """Return a lesson as the site shows it.

    Its title has its number; widgets are pictures, and questions are text; every figure has a text for those who can't
    see it, which is the cell's own (``mystnb`` → ``image`` → ``alt`` in its metadata) or names the section; solutions
    are folded.
    """
    folder = (LESSONS / source.relative_to(NOTEBOOKS)).parent
    number = source.stem.split("_")[0]
    notebook.metadata.pop("widgets", None)
    section, figures, cells = "", Counter(), []
    for cell in notebook.cells:
        cells.append(cell)
        if cell.cell_type == "markdown":
            cell.source = rewrite_links(cell.source, source.parent, folder)
            section = (re.findall(r"^#+ (.+)$", cell.source, re.M) or [section])[-1]
        if cell.cell_type != "code":
            continue
        if cell.metadata.get("jupyter", {}).get("source_hidden"):
            cell.metadata.setdefault("tags", []).append("hide-input")
        if any("image/png" in output.get("data", {}) for output in cell.outputs):
            figures[section] += 1
            alt = f"Figure {figures[section]} of the section “{section}”. The text after it says what it shows."
            cell.metadata.setdefault("mystnb", {}).setdefault("image", {}).setdefault("alt", alt)
        for output in cell.outputs:
            if WIDGET in output.get("data", {}):
                if question := output.data.get("text/html"):
                    output.data = {"text/html": question}
                    continue
                picture = output.data.get("image/png")
                output.data = {"image/png": picture} if picture else {"text/plain": ""}
                text = f":::{{note}}\n{ALIVE if picture else NO_PICTURE}\n:::"
                cells.append(nbformat.v4.new_markdown_cell(text, id=f"{cell.id}-note"))
        cell.outputs = [output for output in cell.outputs if output.get("data") != {"text/plain": ""}]
    notebook.cells = cells
    notebook.cells[0].source = notebook.cells[0].source.replace("# ", f"# {number} ", 1)
    return notebook


def copy_lessons(app: Sphinx, config: Config) -> None:
    """Bring ``docs/lessons/`` up to date; files that stay the same are left alone, and Sphinx reads them once."""
    wanted = set()
    for source in sorted(NOTEBOOKS.glob("**/[0-9]*.ipynb")):
        notebook = for_the_site(nbformat.read(source, as_version=4), source)
        text, target = nbformat.writes(notebook), LESSONS / source.relative_to(NOTEBOOKS)
        wanted.add(target)
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
    for target in set(LESSONS.glob("**/*.ipynb")) - wanted:
        target.unlink()


def drop_old_stubs(app: Sphinx, config: Config) -> None:
    """Delete the pages of modules that ``api.md`` lists no longer: Sphinx would still try to import them."""
    listed = (DOCS / "api.md").read_text(encoding="utf-8").split()
    for stub in (DOCS / "api").glob("*.rst"):
        if stub.stem not in listed:
            stub.unlink()


def rewrite_page(app: Sphinx, docname: str, content: list[str]) -> None:
    """Rewrite the links of a page of ``docs/``."""
    path = app.env.doc2path(docname)
    if path.suffix == ".md":
        content[0] = rewrite_links(content[0], path.parent, path.parent)


def rewrite_included(app: Sphinx, relative_path: Path, docname: str, content: list[str]) -> None:
    """Rewrite the links of a file of the repository that a page includes."""
    content[0] = rewrite_links(content[0], (DOCS / relative_path).resolve().parent, app.env.doc2path(docname).parent)


def setup(app: Sphinx) -> dict:
    """Register the steps with Sphinx."""
    app.connect("config-inited", copy_lessons)  # before Sphinx looks which pages there are
    app.connect("config-inited", drop_old_stubs)
    app.connect("source-read", rewrite_page)
    app.connect("include-read", rewrite_included)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
