"""The site is built without a warning, and has the API."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.documents import ROOT


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    for library in ("sphinx", "myst_parser", "sphinx_book_theme"):
        pytest.importorskip(library, reason="the site needs the extra [docs]")
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", "docs", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    losses = (tmp_path / "api" / "generated" / "alphacl_jax.losses.html").read_text()
    assert "alphacl_jax.losses.alpha_cl_loss" in losses
    assert "second views" in losses  # from its docstring
    assert (tmp_path / "api" / "generated" / "alphacl_jax.training.loop.html").is_file()


def test_every_file_and_folder_of_the_package_is_in_the_api() -> None:
    pages = "".join(p.read_text() for p in (ROOT / "docs" / "api").glob("*.md"))
    shown = set(re.findall(r"^   alphacl_jax\.(\w+)$", pages, flags=re.MULTILINE))
    there = {p.stem for p in (ROOT / "alphacl_jax").glob("*.py")} - {"__init__"}
    there |= {p.parent.name for p in (ROOT / "alphacl_jax").glob("*/__init__.py")} - {"cli"}
    assert shown == there
