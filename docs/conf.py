"""How Sphinx builds these pages: `make docs` writes docs/_build/html, and any warning fails it."""

import sys
from pathlib import Path

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools import reference

project = "never-slower"
author = "the authors of never-slower"
extensions = ["myst_parser"]
myst_enable_extensions = ["attrs_inline"]
myst_heading_anchors = 3
smartquotes = False  # They would make one dash of the two that begin an option.
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "never-slower"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False


def _fill(app: Sphinx, name: str, source: list[str]) -> None:
    source[0] = reference.fill(source[0])


def setup(app: Sphinx) -> None:
    """Let pages hold what follows from the code."""
    app.connect("source-read", _fill)
