"""Training beside lightly's SimCLR: images per second, everything included.

    pip install -e '.[bench]'
    python -m experiments.benchmarks.train --json=train.json

Ours is the trainer of experiments.pretrain: images on the device, augmentation in the compiled
step, model, loss, optimiser, records. Both sides have glibc's own rule of memory, not a command's.
The peer is a common PyTorch loop: lightly's SimCLRTransform in a data loader over images in memory,
with the number of worker processes that is fastest, a channels-last network, NTXentLoss. Both have
the same network (the parameters are counted), batch, augmentation (SimCLR's without blur, jitter of
strength 0.5), loss (NT-Xent) and optimiser (SGD with momentum), and log alike. They run alternately
in fresh processes, never both at once; the median over all stretches between two records counts,
the first of each process (compilation, starting workers) left out.

Where the processor has instructions for bfloat16, both sides run in it as well: the peer under
PyTorch's autocast, ours with the model's computation in it. The aims are those of float32.

Then it shows where our step spends its time: the parts of the step compiled on their own, and with
--profile the operations that take longest.
"""

import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from PIL import Image

from alphacl_jax.errors import RunError
from alphacl_jax.tables import align
from experiments.benchmarks import benchmarking
from experiments.benchmarks.benchmarking import Aim
from experiments.benchmarks.train_sides import (
    CASES,
    Case,
    step_parts,
    step_profile,
    train_ours,
    train_peer,
)

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "torch", "torchvision", "lightly", "pillow")
_PEER_PACKAGES = ("torch", "torchvision", "lightly")
_OUTSIDE_AIM = 0.10


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines this script's flags on `values`."""
    flags.DEFINE_list("cases", list(CASES), f"Of {', '.join(CASES)}.", flag_values=values)
    flags.DEFINE_list("peers", ["lightly"], "lightly, or empty for none.", flag_values=values)
    flags.DEFINE_bool("bfloat16", True, "In it too, where it is fast.", flag_values=values)
    flags.DEFINE_list("workers", ["0", "1", "2"], "Loader processes tried.", flag_values=values)
    flags.DEFINE_integer("phases", 2, "Processes of each side, in turn.", 1, flag_values=values)
    flags.DEFINE_integer(
        "steps", 0, "Of each process; 0: 18, for resnet18 6.", 0, flag_values=values
    )
    flags.DEFINE_integer(
        "log_every", 0, "Steps between records; 0: a sixth.", 0, flag_values=values
    )
    flags.DEFINE_string(
        "data_dir", "", "A folder of images; synthetic 32x32 ones otherwise.", flag_values=values
    )
    flags.DEFINE_integer("images", 4096, "How many synthetic ones.", 2, flag_values=values)
    flags.DEFINE_bool("profile", False, "Show the longest operations too.", flag_values=values)
    flags.DEFINE_string("json", "", "Write the results to this file.", flag_values=values)


def measure_case(case: Case, data_dir: str, values: flags.FlagValues) -> dict[str, Any]:
    """All sides in turn, then the parts of our step.

    Raises:
      RunError: where the networks of the sides differ.
    """
    steps = values.steps or (18 if case.encoder == "small" else 6)
    log_every = values.log_every or max(1, steps // 6)
    if steps < 2 * log_every:
        raise RunError(f"--steps={steps} must be twice --log_every={log_every}, or more")
    found = measure_sides(case, data_dir, steps, log_every, values)
    milliseconds = benchmarking.alone(step_parts, case, data_dir, max(3, steps // 3))
    ours = found["sides"]["ours, float32"]["images_per_second"]
    milliseconds["loop"] = 1e3 * case.batch_size / ours
    found["milliseconds"] = milliseconds
    found["outside"] = outside(milliseconds)
    if values.profile:
        found["profile"] = benchmarking.alone(step_profile, case, data_dir)
    return found


def measure_sides(
    case: Case, data_dir: str, steps: int, log_every: int, values: flags.FlagValues
) -> dict[str, Any]:
    """Images/s of both sides, in each type of number, in turn."""
    sides: dict[str, tuple[Any, ...]] = {}
    tried: dict[str, dict[int, float]] = {}
    for dtype in benchmarking.dtypes(values.bfloat16):
        sides[f"ours, {dtype}"] = (train_ours, case, data_dir, steps, log_every, dtype)
        if values.peers:
            name, trial = f"lightly, {dtype}", (case, data_dir, 2 * log_every, log_every, dtype)
            tried[name] = {
                workers: statistics.median(_phase(name, train_peer, *trial, workers)["rates"])
                for workers in map(int, values.workers)
            }
            best = max(tried[name], key=lambda workers: tried[name][workers])
            sides[name] = (train_peer, case, data_dir, steps, log_every, dtype, best)
    phases: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    for _ in range(values.phases):
        for name, side in sides.items():
            phases[name].append(_phase(name, *side))
    parameters = {name: of[0]["parameters"] for name, of in phases.items()}
    if len(set(parameters.values())) > 1:
        raise RunError(f"the networks differ in their numbers of parameters: {parameters}")
    summaries = {name: _summary(of) for name, of in phases.items()}
    for name, speeds in tried.items():
        summaries[name] |= {"workers": sides[name][-1], "by_workers": speeds}
    return {"case": case.name, "parameters": parameters["ours, float32"], "sides": summaries}


def outside(milliseconds: dict[str, float]) -> float:
    """Share of the step outside the model: what is left without it, or the sum of its other parts.

    The larger counts: parts compiled alone may be slower or faster than within the step.
    """
    others = sum(milliseconds[part] for part in ("augmentation", "loss", "optimiser", "data"))
    return max(milliseconds["step"] - milliseconds["model"], others) / milliseconds["step"]


def _phase(
    name: str, side: Callable[..., dict[str, Any]], case: Case, *arguments: Any
) -> dict[str, Any]:
    """A process of one side; a line on stderr tells that it is done."""
    result = benchmarking.alone(side, case, *arguments)
    rate = statistics.median(result["rates"])
    print(f"{case.name}, {name}: {rate:,.0f} images/s", file=sys.stderr, flush=True)
    return result


def _summary(phases: Sequence[dict[str, Any]]) -> dict[str, Any]:
    rates = [rate for phase in phases for rate in phase["rates"]]
    return {
        "images_per_second": statistics.median(rates),
        "rates": rates,
        "peak_bytes": phases[0]["peak_bytes"],
    }


def show(found: dict[str, Any]) -> None:
    """Prints one case: all sides, each beside every form of the peer; our step's parts."""
    sides = found["sides"]
    peers = [name for name in sides if name.startswith("lightly")]
    titles = [f"{found['case']} ({found['parameters']:,} parameters)", "images/s", "peak, MB"]
    lines = [[*titles, *(f"/ {peer}" for peer in peers)]]
    for name, side in sides.items():
        workers = f", {side['workers']} workers" if "workers" in side else ""
        figures = [f"{side['images_per_second']:,.0f}", benchmarking.megabytes(side["peak_bytes"])]
        ratios = [f"{_ratio(sides, name, peer):.2f}" for peer in peers]
        lines.append([name + workers, *figures, *ratios])
    print("\n" + align(lines))
    parts = found["milliseconds"]
    print("\n  of our step, ms: " + ", ".join(f"{k} {v:.1f}" for k, v in parts.items()))
    for name, milliseconds, share in found.get("profile", []):
        print(f"  {milliseconds:9.2f} ms {100 * share:5.1f} %  {name}")


def _ratio(sides: dict[str, Any], name: str, peer: str) -> float:
    ratio: float = sides[name]["images_per_second"] / sides[peer]["images_per_second"]
    return ratio


def aims(case: Case, found: dict[str, Any]) -> list[Aim]:
    """What the library aims at for a case."""
    result = []
    if "lightly, float32" in found["sides"]:
        ratio = _ratio(found["sides"], "ours, float32", "lightly, float32")
        result.append(Aim(f"{case.name}: ours / lightly, float32", ratio, case.aim, at_most=False))
    if case.encoder == "small":
        result.append(
            Aim(f"{case.name}: share of the step outside the model", found["outside"], _OUTSIDE_AIM)
        )
    return result


def run(values: flags.FlagValues) -> None:
    """Measures and shows all cases.

    Raises:
      RunError: for flags, data or packages that cannot be used.
    """
    for name, given, known in (
        ("cases", values.cases, CASES),
        ("peers", values.peers, ("lightly",)),
    ):
        if unknown := sorted(set(given) - set(known)):
            raise RunError(f"--{name}={unknown[0]} is unknown; use some of {', '.join(known)}")
    if not values.workers or not all(text.isdecimal() for text in values.workers):
        raise RunError(f"--workers={','.join(values.workers)}: give whole numbers >= 0")
    if values.peers:
        benchmarking.require_installed(_PEER_PACKAGES)
    cases = [CASES[name] for name in values.cases]
    if not values.data_dir and (too_large := [c for c in cases if c.batch_size > values.images]):
        raise RunError(
            f"--images={values.images} are fewer than a batch of {too_large[0].batch_size}"
        )
    report = {"unit": "images per second", **benchmarking.describe(_PACKAGES)}
    print(benchmarking.heading(report), flush=True)
    results, judged = [], []
    with tempfile.TemporaryDirectory() as folder:
        # Programs compiled by one process serve the next; the peer has none to compile.
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path(folder) / "compiled")
        data_dir = values.data_dir or synthetic_images(Path(folder) / "images", values.images)
        for case in cases:
            found = measure_case(case, data_dir, values)
            show(found)
            for aim in aims(case, found):
                print(f"  {aim}", flush=True)
                judged.append(aim.as_json())
            results.append(found)
    if values.json:
        benchmarking.write_report(values.json, {**report, "results": results, "aims": judged})


def synthetic_images(folder: Path, count: int) -> str:
    """Makes a folder of that many images of 32x32, and returns its path."""
    folder.mkdir()
    for i, pixels in enumerate(benchmarking.example_images(count, 32)):
        Image.fromarray(pixels).save(folder / f"{i:06}.png")
    return str(folder)


if __name__ == "__main__":
    from alphacl_jax.cli.start import (
        run_main,  # here, as its imports would slow each process measured
    )

    define_flags()
    run_main(lambda argv: run(flags.FLAGS), __doc__)
