"""Every preset parses, builds its objective, and says its command and what to expect."""

import re
from pathlib import Path

import jax
import pytest
from jax.sharding import AxisType

from alphacl_jax.data import policies
from alphacl_jax.runs.methods import check_batch_size, make_method
from tests.tiny_runs import ROOT, make_settings

MESH = jax.make_mesh((1,), ("data",), (AxisType.Auto,), devices=jax.devices()[:1])
PRESETS = sorted((ROOT / "experiments" / "presets").glob("*.flags"))


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset(path: Path):
    settings = make_settings(f"--flagfile={path}")
    make_method(settings, (96, 96, 3), MESH)
    check_batch_size(settings)
    own = settings.augmentation
    policy = policies.policy_for(
        "cifar10", (32, 32, 3), own.augmentation, own.augmentation_overrides
    )
    policies.of_views(policy, own.second_view_overrides)
    assert (settings.optimizer.warmup_epochs or 0) < settings.optimizer.epochs
    comment = "\n".join(line for line in path.read_text().splitlines() if line.startswith("#"))
    command = f"python -m experiments.pretrain --flagfile=experiments/presets/{path.name}"
    assert command in re.sub(r"\s*\\\n#\s*", " ", comment)
    assert re.search(r"Expected: [^%]*\d+(\.\d+)?(\+-\d+(\.\d+)?)? %", comment), comment


def test_there_are_presets_for_the_published_rows():
    rules = {"alpha_direct", "alpha_entropy", "alpha_inverse", "alpha_square"}
    rows = {*rules, "backprop", "info_nce", "quadratic"}
    names = {path.stem for path in PRESETS}
    assert {f"{data}_{row}" for data in ("cifar10", "stl10") for row in rows} <= names


def test_there_is_a_preset_for_every_method():
    found = {make_settings(f"--flagfile={path}").method.label for path in PRESETS}
    others = {"supcon_out", "byol", "simsiam", "directpred", "directcopy"}
    assert others | {"queue-info_nce", "directclr-info_nce"} <= found


def test_presets_differ():
    """So that none is a copy of another under a second name."""
    settings = [
        [line for line in path.read_text().splitlines() if not line.startswith("#")]
        for path in PRESETS
    ]
    assert len({tuple(lines) for lines in settings}) == len(PRESETS)
