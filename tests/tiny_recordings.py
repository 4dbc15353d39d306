"""Tiny recordings and runs on them, for the tests of commands and of runs."""

from pathlib import Path

import jax
import numpy as np

from alphacl_jax.data.sequences import Recordings, recordings_from_arrays
from alphacl_jax.runs.folder import read_settings
from alphacl_jax.runs.recording_encoder import load_recording_encoder
from alphacl_jax.runs.recording_settings import CPCRunSettings
from tests.tiny_runs import make_settings, make_values

# Small enough that a run is a few seconds, most of them compilation.
TINY_CPC = (
    "--method=cpc",
    "--encoder_width=8",
    "--context_width=8",
    "--encoder_layers=1",
    "--window=8",
    "--prediction_steps=2",
    "--batch_size=8",
    "--warmup_epochs=0",
    "--epochs=2",
)
TINY_CEBRA = (
    "--method=cebra",
    "--encoder_width=8",
    "--output_dim=3",
    "--receptive_field=5",
    "--batch_size=32",
    "--warmup_epochs=0",
    "--epochs=1",
)


def turning(count: int = 20, time: int = 24, seed: int = 0) -> Recordings:
    """Points that go round a circle at one of two speeds, and noise beside them.

    The label is the speed; of each moment the half of the circle; the context the angle's cosine
    and sine.
    """
    rng = np.random.default_rng(seed)
    angles = [
        rng.uniform(0, 6) + (0.4 + 0.6 * (i % 2)) * np.arange(time + i % 3) for i in range(count)
    ]
    points = [np.stack([np.cos(a), np.sin(a)], axis=1) for a in angles]
    return recordings_from_arrays(
        [np.hstack([p + 1, 0.1 * rng.standard_normal((len(p), 1))]) for p in points],
        names=[f"turn {i}" for i in range(count)],
        labels=[("slow", "fast")[i % 2] for i in range(count)],
        moment_labels=[np.where(np.sin(a) > 0, "upper", "lower") for a in angles],
        context=points,
        rate=50.0,
    )


def tiny_cpc(*arguments: str):
    """The flags of a tiny run of CPC."""
    return make_values(*TINY_CPC, *arguments)


def tiny_cebra(*arguments: str):
    """The flags of a tiny run of CEBRA."""
    return make_values(*TINY_CEBRA, *arguments)


def cpc_settings(*arguments: str) -> CPCRunSettings:
    return make_settings(*TINY_CPC, *arguments)


def cebra_settings(*arguments: str):
    return make_settings(*TINY_CEBRA, *arguments)


def assert_same_recording_end(one: Path, other: Path) -> None:
    """The newest encoders of two runs are the same bit by bit, and of the same step."""
    assert read_settings(one) == read_settings(other)
    encoders = [load_recording_encoder(workdir) for workdir in (one, other)]
    assert encoders[0].step == encoders[1].step
    parts = [(encoder.params, encoder.state) for encoder in encoders]
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(parts[0]), jax.tree.leaves(parts[1]), strict=True
    ):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes(), jax.tree_util.keystr(path)
