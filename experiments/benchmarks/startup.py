"""How long it takes until a command works: imports, --help, the first step, the first features.

    python -m experiments.benchmarks.startup

Every time is that of a fresh process, from its start on; the processes take turns. What is compared
is told apart by one thing alone: programs that are compiled against programs that an earlier
process kept (the first step of a second `alphacl pretrain`, the first features of an encoder that
is loaded from Python), and JAX alone against the package. A last table says of one whole
`alphacl pretrain` which of its programs are worth keeping.

--quick trains as little as can be, to see that it runs. Needs .[train].
"""

import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from alphacl_jax.errors import RunError
from alphacl_jax.tables import align
from experiments.benchmarks import benchmarking

_PACKAGES = ("jax", "jaxlib", "flax")
_ALPHACL = ("-m", "alphacl_jax.cli", "pretrain")
_OPTIONS = ("--warmup_epochs=0", "--epochs=1", "--log_every=1")
QUICK = (
    "--widths=4", "--projector_hidden=8", "--projector_dim=4", "--batch_size=512",
    "--evaluate=quick",
)  # fmt: skip
_FEATURES = """
import sys
import numpy as np
from alphacl_jax.runs import load_encoder
encoder = load_encoder(sys.argv[1])
encoder(np.zeros((1, *encoder.preprocessing.image_shape), np.uint8))
"""
# Prints, after the command's own output, a line with the seconds of each compilation.
_COMPILATIONS = """
import atexit, json, sys
import jax
seconds = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, duration, **_: seconds.append(duration)
    if event == "/jax/core/compile/backend_compile_duration" else None
)
atexit.register(lambda: print("\\n" + json.dumps(seconds)))
from alphacl_jax.cli.command import run
run("pretrain", sys.argv)
"""
_THRESHOLDS = (1.0, 0.1, 0.01, 0.0)
_POLL_SECONDS = 0.005


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines this script's flags on `values`."""
    flags.DEFINE_integer("rounds", 5, "How often each is timed.", 1, flag_values=values)
    flags.DEFINE_bool("quick", False, "As small as can be.", flag_values=values)
    flags.DEFINE_string("json", "", "Write the results to this file.", flag_values=values)


def _python(*arguments: str, cache: Path | None = None) -> None:
    """Runs a Python process to its end.

    Raises:
      RunError: where it fails.
    """
    done = subprocess.run(
        [sys.executable, *arguments], env=_environment(cache), capture_output=True, text=True
    )
    if done.returncode:
        raise RunError(f"{' '.join(arguments[:4])} failed: {done.stderr.strip()}")


def _environment(cache: Path | None) -> Mapping[str, str]:
    """That of a process which keeps its programs in a folder, or none."""
    return os.environ | {
        "JAX_COMPILATION_CACHE_DIR": "" if cache is None else str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


def _first_step(options: Sequence[str], cache: str) -> None:
    """Pretrains until the first step is recorded, and ends that process.

    Raises:
      RunError: where it ends before.
    """
    with tempfile.TemporaryDirectory() as folder:
        workdir = Path(folder, "run")
        command = [sys.executable, *_ALPHACL, *options, f"--workdir={workdir}"]
        command.append(f"--compilation_cache={cache}")
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            records = workdir / "metrics.jsonl"
            while not (records.exists() and records.stat().st_size):
                if process.poll() is not None:
                    raise RunError(f"{' '.join(command)} ended before its first step")
                time.sleep(_POLL_SECONDS)
            process.kill()


def _compilations(options: Sequence[str], workdir: Path) -> list[float]:
    """The seconds of each compilation of a whole `alphacl pretrain`, whose run folder stays.

    Raises:
      RunError: where it fails.
    """
    command = [sys.executable, "-c", _COMPILATIONS, *options, f"--workdir={workdir}"]
    command.append("--compilation_cache=none")
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RunError(f"alphacl pretrain failed: {done.stderr.strip()}")
    found: list[float] = json.loads(done.stdout.splitlines()[-1])
    return found


def worth_keeping(seconds: Sequence[float]) -> list[dict[str, float]]:
    """Of thresholds of compile time: how many programs reach it, and their share of all time."""
    total = sum(seconds)
    rows = []
    for least in _THRESHOLDS:
        kept = [s for s in seconds if s >= least]
        rows.append({"seconds": least, "programs": len(kept), "share": sum(kept) / total})
    return rows


def run(values: flags.FlagValues) -> None:
    """Measures and shows all.

    Raises:
      RunError: where a process fails.
    """
    report: dict[str, Any] = {"unit": "s", **benchmarking.describe(_PACKAGES)}
    print(benchmarking.heading(report), flush=True)
    options = [*_OPTIONS, *(QUICK if values.quick else ())]
    with tempfile.TemporaryDirectory() as folder:
        workdir, programs = Path(folder, "run"), Path(folder, "programs")
        kept = worth_keeping(_compilations(options, workdir))
        features = functools.partial(_python, "-c", _FEATURES, str(workdir))
        calls: dict[str, Callable[[], Any]] = {
            "Python alone": functools.partial(_python, "-c", ""),
            "import jax": functools.partial(_python, "-c", "import jax"),
            "import alphacl_jax": functools.partial(_python, "-c", "import alphacl_jax"),
            "alphacl pretrain --help": functools.partial(_python, *_ALPHACL, "--help"),
            "first step, compiled": functools.partial(_first_step, options, "none"),
            "first step, programs kept": functools.partial(_first_step, options, str(programs)),
            "first features, compiled": features,
            "first features, programs kept": functools.partial(features, cache=programs),
        }
        # The first of each is not counted: it is what keeps the programs.
        times = benchmarking.time_in_turn(calls, values.rounds)
    rows = [["from the start of a process, s", "median", "least", "most"]]
    rows += [
        [name, *(f"{of(t):.2f}" for of in (statistics.median, min, max))]
        for name, t in times.items()
    ]
    print(align(rows))
    table = [["programs that compile for at least, s", "number", "share of compile time, %"]]
    table += [[f"{k['seconds']:g}", f"{k['programs']}", f"{100 * k['share']:.1f}"] for k in kept]
    print("\n" + align(table))
    if values.json:
        benchmarking.write_report(values.json, {**report, "times": times, "worth_keeping": kept})


if __name__ == "__main__":
    from alphacl_jax.cli.start import run_main

    define_flags()
    run_main(lambda argv: run(flags.FLAGS), __doc__)
