"""What the main job of the README spends its time on, from a cold start to its end.

    python -m experiments.benchmarks.main_job

Each run is a fresh `alphacl pretrain` with an empty cache of compiled programs. Two sides take
turns: the command as it is, which lets the process keep the memory that it frees, and the same with
glibc's own rule, which gives large buffers back. A run's stages end with what it shows: the line
that names the run, the first record, the last record, the table.

--quick trains as little as can be, to see that it runs.
"""

import dataclasses
import itertools
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from absl import flags

from alphacl_jax.errors import RunError
from alphacl_jax.tables import align
from experiments.benchmarks import benchmarking
from experiments.benchmarks.benchmarking import Aim
from experiments.benchmarks.startup import QUICK

_PACKAGES = ("jax", "jaxlib", "flax")
# The value that glibc has anyway; that it is named keeps the command from setting others.
_SIDES: dict[str, dict[str, str]] = {
    "memory kept": {},
    "memory given back": {"GLIBC_TUNABLES": "glibc.malloc.arena_test=8"},
}
_STAGES = ("start, data", "first steps, compiled", "training", "evaluation", "end")
_ENDS = (
    re.compile(r" steps on \d+ "),
    re.compile(r"step \d+/\d+,"),
    re.compile(r"step (\d+)/\1,"),
    re.compile(r"pictures and figures: "),
)
_QUICK = (*QUICK, "--epochs=2", "--warmup_epochs=0", "--log_every=1")
_WHOLE_SECONDS, _EVALUATION_SHARE = 60.0, 0.25


@dataclass(frozen=True)
class Job:
    """A run: the seconds of each of `_STAGES`, of processor time, and its linear probe's row."""

    stages: tuple[float, ...]
    user: float
    system: float
    table: tuple[str, ...]

    @property
    def whole(self) -> float:
        """From the start of the process to its end, s."""
        return sum(self.stages)


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines this script's flags on `values`."""
    flags.DEFINE_integer("rounds", 3, "Runs of each side.", 1, flag_values=values)
    flags.DEFINE_bool("quick", False, "As small as can be.", flag_values=values)
    flags.DEFINE_string("json", "", "Write the results to this file.", flag_values=values)


def stage_times(lines: list[tuple[float, str]], start: float, end: float) -> tuple[float, ...]:
    """The seconds of each stage.

    Args:
      lines: what a run showed, each with the time.
      start, end: of the process.

    Raises:
      RunError: where a stage shows no end.
    """
    times = [start]
    for stage, pattern in zip(_STAGES, _ENDS, strict=False):
        found = next((when for when, line in lines if pattern.search(line)), None)
        if found is None:
            shown = "".join(line for _, line in lines)
            raise RunError(f"a run showed no end of its stage '{stage}': {shown}")
        times.append(found)
    times.append(end)
    return tuple(b - a for a, b in itertools.pairwise(times))


def run_job(options: tuple[str, ...], environment: dict[str, str]) -> Job:
    """Runs the job with an empty cache.

    Raises:
      RunError: where it fails.
    """
    cleared = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "alphacl_jax.cli", "pretrain", *options]
        command += [f"--workdir={Path(folder, 'run')}"]
        command += [f"--compilation_cache={Path(folder, 'programs')}"]
        before, start = os.times(), time.monotonic()
        with subprocess.Popen(
            command,
            env=cleared | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            assert process.stdout is not None
            lines = [(time.monotonic(), line) for line in process.stdout]
        end, after = time.monotonic(), os.times()
    if process.returncode:
        raise RunError(f"{' '.join(command)} failed: {''.join(line for _, line in lines)}")
    return Job(
        stage_times(lines, start, end),
        after.children_user - before.children_user,
        after.children_system - before.children_system,
        tuple(line.rstrip() for _, line in lines if " ± " in line and ":" not in line),
    )


def run(values: flags.FlagValues) -> None:
    """Measures and shows all.

    Raises:
      RunError: where a run fails.
    """
    report: dict[str, Any] = {"unit": "s", **benchmarking.describe(_PACKAGES)}
    print(benchmarking.heading(report), flush=True)
    options = _QUICK if values.quick else ()
    jobs: dict[str, list[Job]] = {side: [] for side in _SIDES}
    for _ in range(values.rounds):
        for side, environment in _SIDES.items():
            jobs[side].append(run_job(options, environment))
    print(align(_rows(jobs)))
    print("\n".join(("", *jobs["memory kept"][0].table)))
    own = jobs["memory kept"]
    share = statistics.median(job.stages[3] / job.stages[2] for job in own)
    aims = [
        Aim("the whole job, s", statistics.median(job.whole for job in own), _WHOLE_SECONDS),
        Aim("evaluation / training", share, _EVALUATION_SHARE),
    ]
    for aim in aims:
        print(aim)
    if values.json:
        found = {side: [dataclasses.asdict(job) for job in each] for side, each in jobs.items()}
        benchmarking.write_report(
            values.json,
            {**report, "stages": _STAGES, "jobs": found, "aims": [aim.as_json() for aim in aims]},
        )


def _rows(jobs: Mapping[str, list[Job]]) -> list[list[str]]:
    """Of each side the medians over its runs, and the range of the whole."""
    rows = [["median, s", *_STAGES, "whole", "least, most", "user", "system"]]
    for side, each in jobs.items():
        stages = [statistics.median(times) for times in zip(*(j.stages for j in each), strict=True)]
        whole = [job.whole for job in each]
        rows.append(
            [
                side,
                *(f"{s:.1f}" for s in stages),
                f"{statistics.median(whole):.1f}",
                f"{min(whole):.1f}, {max(whole):.1f}",
                f"{statistics.median(job.user for job in each):.1f}",
                f"{statistics.median(job.system for job in each):.1f}",
            ]
        )
    return rows


if __name__ == "__main__":
    from alphacl_jax.cli.start import run_main

    define_flags()
    run_main(lambda argv: run(flags.FLAGS), __doc__)
