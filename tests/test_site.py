"""The site, built as `.github/workflows/site.yml` builds it, read from disk by a headless Chromium."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest

from cifake_utils import profiles
from tools import write_address

for module in ("sphinx", "myst_nb", "pydata_sphinx_theme", "sphinx-mathjax-offline", "axe_playwright_python"):
    pytest.importorskip(module, reason="needs the extra `site`: pip install -e '.[site]'")

pytestmark = pytest.mark.browser

DESKTOP, TELEPHONE = ({"width": width, "height": 900} for width in (1280, 400))  # pixels
EVERY_RULE = {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}
# The pictures of the buttons for Colab and others: they alone come from a network, where the project has an address.
BUTTONS = set(
    re.findall(r"!\[[^]]*\]\((.*?)\)", write_address.buttons("https://github.com/OWNER/NAME", {"01_lesson": ""}))
)
WIDGET = "application/vnd.jupyter.widget-view+json"
PICTURE = '<svg xmlns="http://www.w3.org/2000/svg" width="100" height="20"/>'
CONTRAST = {"type": "rule", "values": ["color-contrast"]}
# Folders whose pages differ in words alone, and the pages whose colours and frames axe checks for all of them.
WRITTEN_ALIKE, EXAMPLES = {"api", "solutions"}, {"cifake_utils.models", "03_resnet50_from_scratch"}
GRAVE, ALWAYS = {"serious", "critical"}, {"heading-order"}
FORMULAS_ARE_SET = "[...document.querySelectorAll('.math')].every(formula => formula.querySelector('mjx-container'))"
UNLOADED = "[...document.images].filter(image => !image.naturalWidth).map(image => `not loaded: ${image.src}`)"
TOO_WIDE = """[...document.querySelectorAll("html, .bd-article-container")]
    .map(part => part.scrollWidth - part.clientWidth).filter(pixels => pixels > 0)
    .map(pixels => `${pixels} pixels wider than a telephone`)"""
# A lesson has thousands of coloured words of code, of some twenty kinds: one of each kind says all about contrast.
KEEP_ONE_OF_EACH_KIND = """() => {
    const kinds = new Set();
    for (const word of document.querySelectorAll(".highlight span, .sig span")) {
        const kind = `${word.className} ${word.closest(".cell_output") === null}`;
        if (kinds.has(kind)) word.replaceWith(...word.childNodes);
        kinds.add(kind);
    }
    document.normalize();
}"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site."""
    folder = tmp_path_factory.mktemp("site") / "html"
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "docs", str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    built = subprocess.run(command, cwd=profiles.PROJECT, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return folder


def html_files(site: Path) -> list[Path]:
    return [path for path in sorted(site.glob("**/*.html")) if "_static" not in path.parts]


class Page(HTMLParser):
    """What a page links to or loads (``addresses``), and where links to it can lead (``anchors``)."""

    def __init__(self, path: Path):
        super().__init__()
        self.addresses, self.anchors = [], {""}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.anchors.add(found.get("id"))
        self.addresses += [found[name] for name in ("href", "src") if name in found]


def test_links_inside_the_site_lead_somewhere(site):
    pages = {path: Page(path) for path in html_files(site)}
    assert site / "index.html" in pages
    broken = []
    for path, page in pages.items():
        for link in page.addresses:
            address = urlsplit(link)
            if address.scheme:
                continue
            target = (path.parent / unquote(address.path)).resolve() if address.path else path
            reached = unquote(address.fragment) in pages[target].anchors if target in pages else target.is_file()
            if not reached:
                broken.append(f"{path.relative_to(site)}: {link}")
    assert not broken


def test_every_lesson_and_module_has_a_page(site):
    lessons = {path.stem for path in (profiles.PROJECT / "notebooks").glob("*.ipynb")}
    assert lessons and lessons <= {path.stem for path in (site / "lessons").iterdir()}
    package = profiles.PROJECT / "cifake_utils"
    modules = {
        ".".join(path.relative_to(package.parent).with_suffix("").parts) for path in package.glob("**/[a-z]*.py")
    }
    missing = modules - {path.stem for path in (site / "api").iterdir()}
    assert modules and not missing, "docs/api.md lists all modules but these"


def test_a_page_says_of_every_widget_where_it_works(site):
    widgets = {}
    for path in sorted((profiles.PROJECT / "notebooks").glob("*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        outputs = [output for cell in cells for output in cell.get("outputs", [])]
        found = [output.data for output in outputs if WIDGET in output.get("data", {})]
        widgets[path.stem] = sum("text/html" not in data for data in found)  # questions are text on the site
        page = (site / "lessons" / f"{path.stem}.html").read_text(encoding="utf-8")
        assert page.count("You can play with it where the lesson runs") == widgets[path.stem], path.stem
    assert any(widgets.values())


def test_nothing_tells_where_it_was_built(site):
    for path in [*html_files(site), site / "searchindex.js"]:
        assert str(profiles.PROJECT) not in path.read_text(encoding="utf-8"), path


def violations(page, rules: dict, context: str | None = None, contrast: bool = True) -> list[str]:
    """Return what axe finds in a page, or in what a selector takes of it: the grave, and headings out of order.

    Without ``contrast`` it looks at no colours, which takes most of its time.
    """
    from axe_playwright_python.sync_playwright import Axe

    options = {"resultTypes": ["violations"], "runOnly": rules, "preload": False}  # nothing can be fetched on disk
    options["rules"] = {"color-contrast": {"enabled": contrast}}
    found = Axe().run(page, context=context, options=options).response["violations"]
    return [
        f"{violation['id']}: {node['html'][:200]}"
        for violation in found
        if violation["impact"] in GRAVE or violation["id"] in ALWAYS
        for node in violation["nodes"][:3]
    ]


def test_every_page_can_be_read(site, browser):
    """No error; nothing from a network; pictures and formulas are there; nothing grave for axe; a telephone will do."""
    problems = {}
    context = browser.new_context(color_scheme="light", reduced_motion="reduce", viewport=DESKTOP)
    found, requested = [], []
    context.on("console", lambda message: message.type == "error" and found.append(message.text))
    context.on("weberror", lambda error: found.append(str(error.error)))
    context.on("request", lambda sent: sent.url.startswith("http") and requested.append(sent.url))
    for address in BUTTONS:
        context.route(address, lambda route: route.fulfill(body=PICTURE, content_type="image/svg+xml"))
    for path in html_files(site):
        page = context.new_page()  # one page for all would keep the memory of all
        page.goto(path.as_uri())
        page.wait_for_function(FORMULAS_ARE_SET)
        found += page.evaluate(UNLOADED)
        page.set_viewport_size(TELEPHONE)
        found += page.evaluate(TOO_WIDE)
        page.set_viewport_size(DESKTOP)
        page.evaluate(KEEP_ONE_OF_EACH_KIND)
        alike = path.parent.name in WRITTEN_ALIKE and path.stem not in EXAMPLES
        found += violations(page, EVERY_RULE, "article" if alike else None, contrast=not alike)
        if not alike:
            page.evaluate("document.documentElement.dataset.theme = 'dark'")
            found += [f"dark: {violation}" for violation in violations(page, CONTRAST)]
        found += [f"from a network: {address}" for address in requested if address not in BUTTONS]
        page.close()
        problems[path.relative_to(site).as_posix()] = found.copy()
        found.clear()
        requested.clear()
    context.close()
    assert [f"{name}: {problem}" for name, found in problems.items() for problem in found] == []


def test_search_finds_a_lesson(site, browser):
    page = browser.new_page()
    page.goto((site / "index.html").as_uri())
    page.keyboard.press("Control+k")
    page.keyboard.type("variogram")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="02b Try other dimensions").first.click()
    page.get_by_role("heading", name="02b Try other dimensions").wait_for()
    page.close()
