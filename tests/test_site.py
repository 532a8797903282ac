"""The site, built as `.github/workflows/site.yml` builds it, read from disk by a headless Chromium."""

import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from cifake_utils import profiles

for module in ("sphinx", "myst_nb", "pydata_sphinx_theme", "sphinx-mathjax-offline", "axe_playwright_python"):
    pytest.importorskip(module, reason="needs the extra `site`: pip install -e '.[site]'")

pytestmark = pytest.mark.browser

DOCS = profiles.PROJECT / "docs"
WIDTHS = {"desktop": 1280, "telephone": 400}
UNLOADED = "[...document.images].filter(image => !image.complete || !image.naturalWidth).map(image => image.src)"
PLAIN_FORMULAS = "[...document.querySelectorAll('.math')].filter(m => !m.querySelector('mjx-container')).length"
OVERFLOW = "document.documentElement.scrollWidth - window.innerWidth"
RULES = {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}
GRAVE, ALWAYS = {"serious", "critical"}, {"heading-order"}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site."""
    folder = tmp_path_factory.mktemp("site") / "html"
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", str(DOCS), str(folder)]
    built = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return folder


class Page(HTMLParser):
    """What a page links to (``links``, and ``files`` that it shows), and where links can lead (``anchors``)."""

    def __init__(self, path: Path):
        super().__init__()
        self.links, self.files, self.anchors = [], [], {"", "top"}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.anchors.add(found.get("id"))
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif "src" in found or tag == "link":
            self.files.append(found.get("src") or found["href"])


def test_links_inside_the_site_lead_somewhere(site):
    pages = {path: Page(path) for path in site.glob("**/*.html") if "_static" not in path.parts}
    assert site / "index.html" in pages
    broken = []
    for path, page in pages.items():
        for link in page.links + page.files:
            address = urlsplit(link)
            if address.scheme:
                continue
            target = (path.parent / unquote(address.path)).resolve() if address.path else path
            anchors = pages[target].anchors if target in pages else {""}
            if not target.is_file() or unquote(address.fragment) not in anchors:
                broken.append(f"{path.relative_to(site)}: {link}")
    assert not broken


def test_every_lesson_and_module_has_a_page(site):
    lessons = {path.stem for path in (profiles.PROJECT / "notebooks").glob("*.ipynb")}
    assert lessons and lessons <= {path.stem for path in (site / "lessons").iterdir()}
    package = profiles.PROJECT / "cifake_utils"
    modules = {path.relative_to(package.parent).with_suffix("") for path in package.glob("**/[a-z]*.py")}
    assert {".".join(module.parts) for module in modules} <= {path.stem for path in (site / "api").iterdir()}


def test_nothing_tells_where_it_was_built(site):
    for path in [*site.glob("**/*.html"), site / "searchindex.js"]:
        assert str(profiles.PROJECT) not in path.read_text(encoding="utf-8"), path


def findings(page, rules=RULES) -> list[str]:
    """Return what axe holds against a page: all that is serious or critical, and headings out of order."""
    from axe_playwright_python.sync_playwright import Axe

    violations = Axe().run(page, options={"resultTypes": ["violations"], "runOnly": rules}).response["violations"]
    return [
        f"{violation['id']}: {violation['nodes'][0]['html'][:200]} ({len(violation['nodes'])} in all)"
        for violation in violations
        if violation["impact"] in GRAVE or violation["id"] in ALWAYS
    ]


def test_every_page_can_be_read_by_everyone(site, browser):
    """No error, no picture missing, formulas set, nothing to scroll sideways on a telephone, nothing from a network."""
    problems = {}
    context = browser.new_context(color_scheme="light", viewport={"width": WIDTHS["desktop"], "height": 900})
    page = context.new_page()
    for path in sorted(site.glob("**/*.html")):
        if "_static" in path.parts:
            continue
        found = problems[path.relative_to(site).as_posix()] = []
        page.on("console", lambda message, found=found: message.type == "error" and found.append(message.text))
        page.on("pageerror", lambda error, found=found: found.append(str(error)))
        page.on("request", lambda sent, found=found: sent.url.startswith("http") and found.append(sent.url))
        page.goto(path.as_uri())
        page.wait_for_function(f"{PLAIN_FORMULAS} === 0")
        found += page.evaluate(UNLOADED)
        found += findings(page)
        page.evaluate("document.documentElement.dataset.theme = 'dark'")
        found += [f"dark: {finding}" for finding in findings(page, {"type": "rule", "values": ["color-contrast"]})]
        page.set_viewport_size({"width": WIDTHS["telephone"], "height": 900})
        found += [f"{pixels} pixels too wide" for pixels in [page.evaluate(OVERFLOW)] if pixels > 0]
        page.set_viewport_size({"width": WIDTHS["desktop"], "height": 900})
        for event in ("console", "pageerror", "request"):
            page.remove_all_listeners(event) if hasattr(page, "remove_all_listeners") else None
    context.close()
    assert {name: found for name, found in problems.items() if found} == {}


def test_search_finds_a_lesson(site, browser):
    page = browser.new_page()
    page.goto((site / "index.html").as_uri())
    page.keyboard.press("Control+k")
    page.keyboard.type("variogram")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="02 Count boxes").first.click()
    page.get_by_role("heading", name="02 Count boxes").wait_for()
    page.close()
