"""Presets of recordings parse, build their method, and say their command and what to expect."""

import re

import pytest

from alphacl_jax.runs.flag_file import of_recordings
from alphacl_jax.runs.recording_encoder import on_one_device
from alphacl_jax.runs.recording_methods import make_recording_method
from tests.tiny_runs import ROOT, make_settings

PRESETS = sorted((ROOT / "experiments" / "presets" / "recordings").glob("*.flags"))


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset(path):
    settings = of_recordings(make_settings(f"--flagfile={path}"))
    make_recording_method(settings.method, 12, None, on_one_device())
    comment = "\n".join(line for line in path.read_text().splitlines() if line.startswith("#"))
    command = (
        f"python -m experiments.pretrain --flagfile=experiments/presets/recordings/{path.name}"
    )
    assert command in re.sub(r"\s*\\\n#\s*", " ", comment)
    assert re.search(r"Expected: [^%]*\d+(\.\d+)?(\+-\d+(\.\d+)?)? %", comment), comment


def test_there_is_one():
    assert PRESETS
