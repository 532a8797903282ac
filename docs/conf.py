"""The site: Sphinx reads the Markdown of this folder, the executed lessons and the package's docstrings."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "From Real to Rendered"
language = "en"
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",  # brings MathJax, so that formulas need no network
    "repository",
]
templates_path = ["_templates"]

# Lessons are shown with the outputs that are stored in them.
nb_execution_mode = "off"
nb_merge_streams = True
nb_code_prompt_show = "Show the code"
nb_code_prompt_hide = "Hide the code"
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 4
mathjax3_config = {"options": {"enableMenu": False}}

default_role = "py:obj"
add_module_names = False
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_preserve_defaults = True  # else a default that is a path would show where the site was built
autodoc_typehints = "none"  # the signature has no types, the docstring says more than they do
napoleon_google_docstring = False
napoleon_custom_sections = [("Attributes", "params_style")]  # else "a, b : int" would be one attribute
napoleon_use_rtype = False

html_theme = "pydata_sphinx_theme"
html_title = project
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_context = {"default_mode": "auto"}  # light or dark, as the reader's system has it
html_use_index = False  # the search finds more
html_domain_indices = False
html_show_copyright = False
html_show_sourcelink = False
html_copy_source = False
html_show_search_summary = False  # it would be fetched, which browsers refuse for pages on disk
html_sidebars = {  # only these two pages have others below them
    page.stem: [] for page in Path(__file__).parent.glob("*.md") if page.stem not in ("lessons", "api")
} | {"search": []}
html_theme_options = {
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": [],
    "footer_end": [],
    "search_bar_text": "Search",
    "show_toc_level": 2,
}


def skip_imported(app, what, name, member, skip, options):
    """Leave out what a module only imports. Sphinx does so too, but reads the signature first and fails on SciPy's."""
    module = getattr(member, "__module__", None) or "cifake_utils"
    return None if module.startswith("cifake_utils") else True


def setup(app):
    """Register the step with Sphinx."""
    app.connect("autodoc-skip-member", skip_imported)
