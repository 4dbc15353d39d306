"""The site is built without a warning, and has the API."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.documents import ROOT

for library in ("sphinx", "myst_parser", "sphinx_book_theme"):
    pytest.importorskip(library, reason="the site needs the extra [docs]")


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", "docs", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    losses = (tmp_path / "api" / "generated" / "alphacl_jax.losses.html").read_text()
    assert "alphacl_jax.losses.alpha_cl_loss" in losses
    assert "second views" in losses  # from its docstring
    assert (tmp_path / "api" / "generated" / "alphacl_jax.training.loop.html").is_file()
