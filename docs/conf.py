"""How Sphinx builds the site: `python -m sphinx -W -b html docs docs/_build/html`."""

import collections
import re
import shutil
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

project = "alphacl_jax"
author = "the alphacl_jax authors"
copyright = author
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_theme = "sphinx_book_theme"
html_title = "alphacl_jax"
html_theme_options = {"show_toc_level": 2, "use_download_button": False}

myst_heading_anchors = 4

# Single backticks in docstrings are code, as everywhere in this project.
default_role = "code"
autosummary_generate = True
# Pages of modules that have moved since the last build would be taken for ours.
shutil.rmtree(Path(__file__).parent / "api" / "generated", ignore_errors=True)
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say what is what, with shapes
autodoc_default_options = {"members": True}
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = [("Returned by name", "params_style"), ("Errors", "returns_style")]
add_module_names = False


_LITERAL_BLOCK = r"^ *::\n\n(?:(?: {4,}.*)?\n)+"
_MARKUP = re.compile(
    _LITERAL_BLOCK + r"|`[^`]*`|(?<!\*)(\*\*?)\w[\w ]*\1(?!\*)|([*|])", re.MULTILINE
)
_NAMED = re.compile(r"^Returns:\n(?=  \w+: (?:.|\n   )*\n  \w+: )", re.MULTILINE)


def _with_literal_equations(lines: list[str]) -> list[str]:
    """Google's sections are followed by their items at once; what is indented after an empty line
    is an equation or a command, to be shown as it stands."""
    done: list[str] = []
    margin = 0
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if done and not done[-1].strip() and indent >= margin + 4 and line.strip():
            done += [" " * margin + "::", ""]
        if line.strip():
            margin = indent
        done.append(line)
    return done


def _as_restructured_text(
    app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Docstrings are written to be read in an editor; this makes the markup explicit."""
    del app, what, name, obj, options
    text = "\n".join(_with_literal_equations(lines)) + "\n"
    # Stars and bars are mathematics or file patterns but for *emphasis*.
    text = _MARKUP.sub(lambda match: f"\\{match[2]}" if match[2] else match[0], text)
    # Several values by name are listed like arguments, not run together.
    text = _NAMED.sub("Returned by name:\n", text)
    # A sentence in place of a list of exceptions.
    lines[:] = re.sub(r"(?m)^Raises:\n(?=  As )", "Errors:\n", text).splitlines()


_FIELD = type(collections.namedtuple("_", "x").x)


def _skip_aliases(
    app: Any, what: str, name: str, obj: Any, skip: bool, options: Any
) -> bool | None:
    """Leaves out the fields of named tuples, which the class's own docstring describes, and what
    scikit-learn gives each estimator, whose text points to its own site."""
    del app, what, options, skip
    of_scikit_learn = re.fullmatch(r"set_\w+_request", name)
    return True if of_scikit_learn or isinstance(obj, _FIELD) else None


def setup(app: Any) -> None:
    # Before napoleon, which reads the sections.
    app.connect("autodoc-process-docstring", _as_restructured_text, priority=400)
    app.connect("autodoc-skip-member", _skip_aliases)
