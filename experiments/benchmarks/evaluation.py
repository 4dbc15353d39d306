"""Time of an evaluation: each probe on each set of features, the first time and the second.

    python -m experiments.benchmarks.evaluation

The features are synthetic, of the sizes of the digits' (pixels, an untrained and a trained
encoder) and of 28×28 pixels. A process of its own evaluates a case, set after set as a run does,
so that the first time of a set has what compilation the ones before left to it. Beside the probes
whose l2 is chosen stand the same with l2 = 1 given, which is what choosing costs.
"""

import dataclasses
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from absl import flags

from alphacl_jax.errors import RunError
from alphacl_jax.tables import align
from experiments.benchmarks import benchmarking

_PACKAGES = ("jax", "jaxlib", "numpy", "scipy", "scikit-learn", "matplotlib")
_CLASSES = 10


@dataclasses.dataclass(frozen=True)
class Case:
    """Sizes of training and test set, and the number of features of each set, by name."""

    train: int
    test: int
    dims: dict[str, int]


CASES = {
    "digits": Case(1297, 500, {"pixels": 64, "untrained": 128, "trained": 128}),
    "pixels": Case(6000, 2000, {"pixels": 784}),
    "tiny": Case(60, 30, {"pixels": 8, "trained": 16}),
}
Times = dict[str, list[float]]  # part → seconds of the first and of the second time


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines this script's flags on `values`."""
    flags.DEFINE_list("cases", ["digits", "pixels"], f"Of {', '.join(CASES)}.", flag_values=values)
    flags.DEFINE_bool("map", True, "Time the t-SNE map too.", flag_values=values)
    flags.DEFINE_string("json", "", "Write the results to this file.", flag_values=values)


def make_features(n: int, dim: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Classes around centres, with variances that fall as those of images and encoders do."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % _CLASSES
    spread = 1 / np.sqrt(1 + np.arange(dim))
    centres = np.random.default_rng(0).normal(size=(_CLASSES, dim))
    return ((centres[y] + 1.5 * rng.normal(size=(n, dim))) * spread).astype(np.float32), y


def time_case(case: Case, l2: float | None, with_map: bool) -> dict[str, Times]:
    """Seconds of each part, by set of features; runs in a process of its own."""
    import tempfile

    from alphacl_jax.evaluation.knn import knn_correct
    from alphacl_jax.evaluation.linear import fit_probe
    from alphacl_jax.evaluation.pictures import plot_map

    times: dict[str, Times] = {}
    for name, dim in case.dims.items():
        train, test = make_features(case.train, dim, 1), make_features(case.test, dim, 2)
        fit = partial(fit_probe, *train, *test, _CLASSES, l2=l2)
        parts: dict[str, Callable[[], Any]] = {
            "linear, 2 labels/class": partial(fit, labels_per_class=2),
            "linear, 10 labels/class": partial(fit, labels_per_class=min(10, case.train // 20)),
            "linear, all labels": fit,
            "kNN": partial(knn_correct, *train, *test, _CLASSES),
        }
        with tempfile.TemporaryDirectory() as folder:
            if with_map:
                names = [str(c) for c in range(_CLASSES)]
                parts["t-SNE map"] = partial(plot_map, f"{folder}/map.png", *test, names)
            times[name] = {part: [_seconds(call), _seconds(call)] for part, call in parts.items()}
    return times


def _seconds(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def run(values: flags.FlagValues) -> None:
    """Measures and shows every case.

    Raises:
      RunError: for a case that is unknown.
    """
    if unknown := sorted(set(values.cases) - set(CASES)):
        raise RunError(f"--cases={unknown[0]} is unknown; use some of {', '.join(CASES)}")
    report: dict[str, Any] = {"unit": "s", **benchmarking.describe(_PACKAGES)}
    print(benchmarking.heading(report), flush=True)
    report["results"] = {}
    for name in values.cases:
        case = CASES[name]
        fixed = benchmarking.alone(time_case, case, 1.0, False)
        chosen = benchmarking.alone(time_case, case, None, values.map)
        print(_table(name, case, fixed, chosen), flush=True)
        report["results"][name] = {"fixed": fixed, "chosen": chosen}
    if values.json:
        benchmarking.write_report(values.json, report)


def _table(name: str, case: Case, fixed: dict[str, Times], chosen: dict[str, Times]) -> str:
    titles = [f"{name}: {case.train} / {case.test}, s", "l2 = 1: first", "second"]
    titles += ["l2 chosen: first", "second"]
    rows, totals = [], np.zeros(4)
    for features, parts in chosen.items():
        for part, seconds in parts.items():
            cells = [*fixed[features].get(part, [np.nan, np.nan]), *seconds]
            totals += np.nan_to_num(cells)
            label = f"{features} ({case.dims[features]}), {part}"
            rows.append([label, *("" if np.isnan(cell) else f"{cell:.2f}" for cell in cells)])
    rows.append(["together", *(f"{total:.2f}" for total in totals)])
    return "\n" + align([titles, *rows])


if __name__ == "__main__":
    from alphacl_jax.cli.start import run_main

    define_flags()
    run_main(lambda argv: run(flags.FLAGS), __doc__)
