"""Tiny runs for the tests of the scripts: flags, images, processes, what a run ended with."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np
from absl import flags
from PIL import Image

from alphacl_jax.cli import pretrain
from alphacl_jax.cli.run_flags import settings_of
from alphacl_jax.cli.start import plain_errors
from alphacl_jax.runs.encoder import newest_state
from alphacl_jax.runs.folder import read_settings
from alphacl_jax.runs.settings import RunSettings
from alphacl_jax.training.state import TrainState
from experiments.benchmarks import benchmarking

ROOT = Path(__file__).parents[1]
# Small enough that a run is a few seconds, most of them compilation.
TINY = (
    "--widths=4",
    "--projector_hidden=8",
    "--projector_dim=4",
    "--batch_size=8",
    "--warmup_epochs=0",
    "--epochs=2",
)


def _parsed(define: Callable[[flags.FlagValues], None], arguments: Sequence[str]):
    values = flags.FlagValues()
    define(values)
    values(["script", *arguments])
    return values


def make_values(*arguments: str) -> flags.FlagValues:
    """The flags of a run, as its command line would set them."""
    return _parsed(pretrain.define_flags, arguments)


def script_values(script: ModuleType, *arguments: str) -> flags.FlagValues:
    """The flags that a script defines, as its command line would set them."""
    return _parsed(script.define_flags, arguments)


def run_script(script: ModuleType, workdir: Path, *arguments: str) -> dict[str, Any]:
    """Runs a theory script as its command would, and returns its results.json."""
    values = script_values(script, f"--workdir={workdir}", *arguments)
    with plain_errors(values):
        script.run(values)
    return json.loads((workdir / "results.json").read_text())


def tiny_values(*arguments: str) -> flags.FlagValues:
    return make_values(*TINY, *arguments)


def make_settings(*arguments: str) -> RunSettings:
    """The settings of a run, as its command line would set them."""
    return settings_of(make_values(*arguments))


def tiny_settings(*arguments: str) -> RunSettings:
    return make_settings(*TINY, *arguments)


def last_state(workdir: Path) -> TrainState:
    """The newest state of a run."""
    return newest_state(workdir, read_settings(workdir))


def start(script: str, *arguments: str, **options) -> subprocess.Popen:
    """Starts a script as a person would, from the root of the repository."""
    command = [sys.executable, "-m", f"experiments.{script}", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
    return subprocess.Popen(command, cwd=ROOT, **pipes)


def _images(count: int, seed: int) -> np.ndarray:
    """Bright and dark squares in turn, so that there is something to learn."""
    pixels = np.random.default_rng(seed).integers(0, 120, (count, 8, 8, 3))
    pixels[::2, 2:6, 2:6] += 130
    return pixels.astype(np.uint8)


TRAIN_IMAGES, TEST_IMAGES = _images(24, 0), _images(8, 1)


def assert_same_end(one: Path, other: Path) -> None:
    """The newest states of two runs are the same bit by bit, and so is the position in the data."""
    states = [jax.tree.map(np.asarray, last_state(workdir)) for workdir in (one, other)]
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(states[0]), jax.tree.leaves(states[1]), strict=True
    ):
        assert a.tobytes() == b.tobytes(), jax.tree_util.keystr(path)


def assert_picture(path: Path) -> None:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 100


def measure_here(makers, *, rounds, seconds, may_end=()):
    """Stands in for `benchmarking.measure_in_turn`, without its processes: each would compile."""
    del rounds, seconds, may_end
    calls = {name: make() for name, make in makers.items()}
    times = benchmarking.time_in_turn(calls, rounds=1)
    return {name: benchmarking.Measurement(tuple(of), 10**6) for name, of in times.items()}
