"""What the benchmark of an accelerator measures: losses, training steps, a short run on CIFAR-10.

Rows of losses and of training are made in processes of their own; a run is the command line's.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from alphacl_jax.errors import RunError
from alphacl_jax.runs.settings import RunSettings
from experiments.benchmarks import benchmarking, memory, train
from experiments.benchmarks.memory import Call
from experiments.benchmarks.timed_parts import NO_TIME, Found, Row

_PRESET = Path(__file__).parents[1] / "presets" / "cifar10_alpha_direct.flags"
_EPOCHS = 5
_FIGURES = ("epoch", "loss", "knn", "linear")


def kernel_rows(
    make: Callable[[int, int], Call], sizes: Sequence[int], dim: int, seconds: float
) -> Iterator[Row]:
    """Time and memory of one competitor at each size, the smallest first, and the loss's value."""
    for size in sizes:
        call = make(size, dim)
        peak = memory.peak_bytes(call)
        result = call()
        times = benchmarking.repeat(call, seconds)
        yield {
            "size": size,
            "seconds": statistics.median(times),
            "calls": len(times),
            "peak_bytes": peak,
            "value": None if result is None else float(result[0]),
        }


def training_rows(settings: RunSettings, steps: int, rounds: int) -> Iterator[Row]:
    """Images/s of a run, and then where the time of its step goes."""
    from experiments.benchmarks import our_training

    found = our_training.speed(settings, steps)
    yield {**found, "images_per_second": statistics.median(found["rates"])}
    milliseconds = our_training.parts(settings, rounds)
    yield {"milliseconds": milliseconds, "model_share": 1 - train.outside(milliseconds)}


def find_cifar(data_dir: str) -> list[str]:
    """The flags that name the images of CIFAR-10; none where they are not there.

    Args:
      data_dir: where TFDS has prepared cifar10, or a folder of images by class; "" for the place
        where TFDS keeps its sets by default.

    Raises:
      RunError: for a folder that is given and holds neither.
    """
    place = data_dir or os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
    root = Path(place).expanduser()
    if any((root / "cifar10").glob("*/dataset_info.json")):
        return ["--dataset=cifar10", f"--data_dir={root}"]
    if not data_dir:
        return []
    if (root / "train").is_dir():
        return ["--dataset=folder", f"--data_dir={root}"]
    raise RunError(
        f"--data_dir={data_dir} holds neither cifar10/VERSION, as TFDS prepares it, nor images in "
        "train/CLASS/*; without this flag TFDS's own folder is looked at"
    )


def run_cifar(data: Sequence[str], changes: Sequence[str], workdir: Path, until: float) -> Found:
    """A run of five epochs by the command line: the last record, and the median speed.

    Args:
      data: flags that name the images; none where they are not there.
      changes: flags beside those of the preset.
      workdir: the run folder.
      until: when its time is over, by `time.monotonic`.
    """
    if not data:
        return [], "left out: TFDS has no prepared cifar10 here; give --data_dir"
    command = [sys.executable, "-m", "experiments.pretrain", f"--flagfile={_PRESET}", *data]
    command += [f"--epochs={_EPOCHS}", f"--probe_every={_EPOCHS}", "--evaluate=none"]
    command += ["--warmup_epochs=1", "--log_every=50", f"--workdir={workdir}", *changes]
    started, problem = time.monotonic(), ""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=max(0.0, until - started)
        )
        if done.returncode:
            problem = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
    except subprocess.TimeoutExpired:
        problem = NO_TIME
    rows = _last_record(workdir)
    return [{**row, "seconds": time.monotonic() - started} for row in rows], problem


def _last_record(workdir: Path) -> list[Row]:
    from alphacl_jax.runs.folder import records_of
    from alphacl_jax.training.records import read_records

    records = read_records(records_of(workdir))
    rates = [r["images_per_second"] for r in records if "images_per_second" in r][1:]
    if not rates:
        return []
    row: Row = {name: records[-1].get(name) for name in _FIGURES}
    return [{**row, "images_per_second": statistics.median(rates)}]
