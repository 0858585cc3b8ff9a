"""Sphinx: `sphinx-build -W --keep-going docs docs/_build` makes the documentation from the Markdown here and the docstrings."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import numbapool

project = "numbapool"
author = "The numbapool developers"
copyright = author  # noqa: A001 - Sphinx's name
release = version = numbapool.__version__

extensions = [
    "matplotlib.sphinxext.plot_directive",
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "examples/*.md"]
nitpicky = False

html_theme = "furo"
html_title = f"numbapool {release}"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b6bcb", "color-brand-content": "#0b6bcb"},
    "dark_css_variables": {"color-brand-primary": "#6cb2f5", "color-brand-content": "#6cb2f5"},
}
pygments_style = "friendly"
pygments_dark_style = "monokai"

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say it, with shapes and units
numpydoc_show_class_members = False
numpydoc_attributes_as_param_list = False

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# Pictures are drawn by the code above them. Sphinx keeps them until that changes.
plot_include_source = True
plot_html_show_source_link = False
plot_html_show_formats = False
plot_formats = [("png", 130)]
plot_rcparams = {"font.size": 9, "savefig.bbox": "tight", "figure.constrained_layout.use": True}
plot_apply_rcparams = True
