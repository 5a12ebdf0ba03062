"""Configuration of Sphinx: ``make docs`` builds the site into build/docs."""

import sys
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import _generated_pages  # noqa: E402

_generated_pages.write_all(HERE)

project = "mmestim"
author = "The mmestim developers"
project_copyright = "2026, The mmestim developers"
release = version = version("mmestim")

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "sphinx-mathjax-offline",
    "sphinx_gallery.gen_gallery",
]
default_role = "literal"  # as in the docstrings of scikit-learn
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(sklearn|torch)\..*"),  # no network: their sites are not looked up
    (r"py:obj", r"finds_edits_|shape|sample_shape"),  # numpydoc links properties, which the pages list as attributes
]
source_suffix = {".rst": "restructuredtext", ".md": "markdown"}
exclude_patterns = ["**/*.inc.md", "gallery/**/*.ipynb", "gallery/**/*.py", "gallery/**/*.json", "gallery/**/*.zip"]
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_typehints = "none"  # The docstrings have the types, with shapes.
numpydoc_show_class_members = False  # The pages list the members.
numpydoc_use_plots = False

sphinx_gallery_conf = {
    "examples_dirs": [str(HERE.parent / "examples")],
    "gallery_dirs": ["gallery"],
    "filename_pattern": r"plot_",
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "abort_on_example_error": True,
    "doc_module": ("mmestim",),
    "backreferences_dir": "gallery/backreferences",
    "inspect_global_variables": True,
}

html_theme = "pydata_sphinx_theme"
html_title = "mmestim"
html_static_path = ["_static"]
html_show_sourcelink = False
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "show_prev_next": False,
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
