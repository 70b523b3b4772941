"""How Sphinx builds these pages: `make docs`.

Sphinx, because the docstrings are its own: Google style, with equations and cross-references as reStructuredText roles.
MyST lets the pages be Markdown, which code hosts show as it is.
"""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

import comhe

project, author = "comhe", "the comhe developers"
release = version = comhe.__version__
copyright = f"2026, {author}"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "svgmath"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["README.md"]
nitpicky = True

html_theme = "furo"
html_title = "comhe"
html_show_sphinx = False
html_copy_source = False
html_static_path = ["style"]
html_css_files = ["comhe.css"]

myst_enable_extensions = ["amsmath", "dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
# Sphinx looks these up nowhere: the pages are built without a network.
INTERNAL = (
    "B P CloudLoader CloudSplit DistributedContext Fused GraphTransform ImageTransform Member PointTransform Row "
    "Selection Stated"
)
nitpick_ignore_regex = [
    (r"py:.*", r"(?!comhe\.).*"),
    (r"py:class", rf"comhe\..*\.({'|'.join(INTERNAL.split())})"),  # types in signatures that have no page
]
# Trainers that need not be installed for the pages of their callbacks.
autodoc_mock_imports = ["lightning", "transformers"]


def setup(app):
    app.connect("autodoc-process-docstring", emphasize)


def emphasize(app, what, name, obj, options, lines):
    """Set the one-line sections of our docstrings, `Shape: ...` and `Source: ...`, in bold."""
    lines[:] = [re.sub(r"^(Shape|Source): (?=\S)", r"**\1:** ", line) for line in lines]
