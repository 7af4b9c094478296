"""Settings of Sphinx; `./launch/local.sh docs` gathers the sources and calls it."""

import os
import sys
from pathlib import Path

ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / "pyproject.toml").exists())
sys.path.insert(0, str(ROOT))

import jax  # noqa: E402

import dlcore  # noqa: E402
from dlcore.parallel import backend  # noqa: E402
from docs.making import docstrings  # noqa: E402
from launch.runtime import compile_cache  # noqa: E402

backend.protect()
jax.config.update("jax_compilation_cache_dir", str(compile_cache()))
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(compile_cache())  # of the notebooks
os.environ["DLCORE_RUNS"] = str(ROOT / "build" / "docs" / "runs")  # those that the gallery opens

project = "dlcore"
release = dlcore.__version__
author = "the authors of dlcore"
language = "en"
smartquotes = False

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["gallery", "auto_gallery/*.ipynb", "auto_gallery/*.py", "sg_execution_times.rst"]
# Short names of types in annotations may mean the type of any room.
suppress_warnings = ["config.cache", "ref.python"]

html_theme = "furo"
html_title = "dlcore"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_show_sourcelink = False
html_copy_source = False
pygments_style = "friendly"
pygments_dark_style = "native"

add_module_names = False
autodoc_member_order = "bysource"
maximum_signature_line_length = 80
toc_object_entries = False

# The cache of executed notebooks lies beside the runs, and goes when the sources change.
nb_execution_mode = "cache"
nb_execution_cache_path = str(ROOT / "build" / "docs" / "runs" / "notebooks")
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_merge_streams = True

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "auto_gallery",
    "filename_pattern": "/plot_",
    "download_all_examples": False,
    "abort_on_example_error": True,
    "min_reported_time": 1e9,
    "image_scrapers": ("matplotlib",),
    "remove_config_comments": True,
}


def as_written(app, what, name, thing, options, signature, returns):
    """Annotations as they stand in the source, not as Python shows them."""
    return docstrings.signature(thing) if what in ("function", "class", "method", "exception") else None


def as_plain_text(app, what, name, thing, options, lines):
    """Docstrings are text with equations, not markup."""
    text = "\n".join(lines)
    lines[:] = [] if text.startswith("Alias for field number") else docstrings.rst(text)


def setup(app):
    """Connect both."""
    app.connect("autodoc-process-signature", as_written)
    app.connect("autodoc-process-docstring", as_plain_text)
