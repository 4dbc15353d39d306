"""The README is short, says early what is not done, and its Python runs as printed."""

import re

import jax
import pytest

from tests.docs.documents import ROOT, text_of
from tests.docs.test_pages import run


def test_the_python_runs_as_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with jax.numpy_rank_promotion("allow"):
        run("README.md")
    assert re.search(r"α-CL -?\d.*NT-Xent.*gradient \(256, 128\)", capsys.readouterr().out)


def test_it_is_short_and_says_early_what_is_not_done() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 150
    assert lines.index("## What is not done") < 30


def test_it_maps_folders_that_exist() -> None:
    rows = re.findall(r"^\| (`\w+/.*?) \|", text_of("README.md"), flags=re.MULTILINE)
    assert len(rows) >= 5
    for row in rows:
        first, *others = re.findall(r"`([\w/]+)/`", row)
        assert (ROOT / first).is_dir(), first
        for name in others:  # beside the first, or at the top
            assert (ROOT / first).with_name(name).is_dir() or (ROOT / name).is_dir(), name
