"""Augmentation speed: views per second and core, beside torchvision's SimCLR pipeline.

    pip install -e '.[bench]'
    python -m experiments.benchmarks.augment

Both sides do the same on the same images, each kept to one core in a process of its own: random
resized crop, flip, colour jitter (strength 0.5, p = 0.8), greyscale (p = 0.2), above 64 pixels
Gaussian blur (p = 0.5), normalisation. torchvision runs in its v1 and v2 forms on PIL images and
on uint8 tensors, one image at a time as in a data loader, and the fastest form is the peer. Seconds
are CPU seconds of the process, over all its threads: they count per core even where a process
cannot be kept to one (macOS), and leave out the time that other programs took.
"""

import functools
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from absl import flags
from PIL import Image

from alphacl_jax.errors import RunError
from alphacl_jax.tables import align
from experiments.benchmarks import benchmarking, memory
from experiments.benchmarks.benchmarking import Aim, example_images

_PACKAGES = ("jax", "jaxlib", "torch", "torchvision", "pillow", "numpy")
_AIM = {32: 10.0}  # times torchvision's speed, by image side

MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)


Speed = tuple[float, int | None]  # views/s, peak memory of a call


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines this script's flags on `values`."""
    flags.DEFINE_list("sizes", ["32", "96"], "Image sides in pixels.", flag_values=values)
    flags.DEFINE_integer(
        "batch",
        0,
        "Images per call of ours, two views each; 0: 256 at 32 px, fewer at larger sizes.",
        0,
        flag_values=values,
    )
    flags.DEFINE_float("seconds", 3.0, "Timed per pipeline.", 0.001, flag_values=values)
    flags.DEFINE_list("peers", ["torchvision"], "torchvision, or empty.", flag_values=values)
    flags.DEFINE_string("json", "", "Write the results to this file.", flag_values=values)


def keep_to_one_core() -> None:
    """Keeps this process to one of its cores, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def rate(call: Callable[[int], Any], views_per_call: int, seconds: float) -> float:
    """Median views per CPU second of five stretches that take `seconds` together."""
    rates, step = [], 0
    for _ in range(5):
        start, calls = time.process_time(), 0
        while time.process_time() - start < seconds / 5 or calls == 0:
            call(step)
            step, calls = step + 1, calls + 1
        rates.append(calls * views_per_call / (time.process_time() - start))
    return float(np.median(rates))


def time_ours(size: int, batch: int, seconds: float) -> Speed:
    """Views/s of `views.make_views`; runs in a process of its own."""
    keep_to_one_core()
    import jax  # after the affinity is set: its thread pool counts the cores when it starts

    from alphacl_jax.data import policies
    from alphacl_jax.data.views import make_views

    jax.config.update("jax_platforms", "cpu")
    images = jax.numpy.asarray(example_images(batch, size))
    policy = policies.named_policy("simclr", (size, size, 3))
    views = jax.jit(lambda key: make_views(key, images, policy, MEAN, STD))
    key = jax.random.key(0)

    def call(step: int) -> None:
        views(jax.random.fold_in(key, step)).block_until_ready()

    call(0)
    peak = memory.peak_bytes(functools.partial(call, 0))
    return rate(call, 2 * batch, seconds), peak


def apply_in_turn(transform: Callable[[Any], Any], data: list[Any], step: int) -> Any:
    return transform(data[step % len(data)])


def time_torchvision(size: int, seconds: float) -> dict[str, Speed]:
    """Views/s of each form of torchvision's pipeline; runs in a process of its own."""
    keep_to_one_core()
    import torch
    from torchvision import transforms as v1
    from torchvision.transforms import v2

    torch.set_num_threads(1)
    blur = 2 * (size // 20) + 1

    def pipeline(kit: Any, to_float: list[Any]) -> Any:
        steps = [
            kit.RandomResizedCrop(size, antialias=True),
            kit.RandomHorizontalFlip(),
            kit.RandomApply([kit.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
            kit.RandomGrayscale(p=0.2),
        ]
        if size > 64:
            steps.append(kit.RandomApply([kit.GaussianBlur(blur, (0.1, 2.0))], p=0.5))
        return kit.Compose([*steps, *to_float, kit.Normalize(MEAN, STD)])

    arrays = example_images(256, size)
    pictures = [Image.fromarray(a) for a in arrays]
    tensors = [torch.from_numpy(a).permute(2, 0, 1).contiguous() for a in arrays]
    forms = {
        "v1, PIL": (pipeline(v1, [v1.ToTensor()]), pictures),
        "v2, PIL": (
            pipeline(v2, [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]),
            pictures,
        ),
        "v1, tensor": (pipeline(v1, [v1.ConvertImageDtype(torch.float32)]), tensors),
        "v2, tensor": (pipeline(v2, [v2.ToDtype(torch.float32, scale=True)]), tensors),
    }
    results = {}
    for name, (transform, data) in forms.items():
        for picture in data[:20]:
            transform(picture)
        call = functools.partial(apply_in_turn, transform, data)
        peak = memory.peak_bytes(functools.partial(call, 0))
        results[name] = rate(call, 1, seconds), peak
    return results


def run(values: flags.FlagValues) -> None:
    """Measures and shows every size.

    Raises:
      RunError: for flags or packages that cannot be used.
    """
    if not all(text.isdecimal() and int(text) >= 1 for text in values.sizes):
        raise RunError(f"--sizes={','.join(values.sizes)}: whole numbers >= 1 needed")
    if unknown := sorted(set(values.peers) - {"torchvision"}):
        raise RunError(f"--peers={unknown[0]} is unknown; use torchvision, or none")
    benchmarking.require_installed(["torch", "torchvision"] if values.peers else [])
    report = {"unit": "views per CPU second", **benchmarking.describe(_PACKAGES)}
    print(benchmarking.heading(report), flush=True)
    rows, aims = [], []
    for size in map(int, values.sizes):
        row = _measure_size(size, values)
        print(_table(row), flush=True)
        if "ratio" in row and size in _AIM:
            aim = Aim(f"{size} px: ours / torchvision", row["ratio"], _AIM[size], False)
            print(aim)
            aims.append(aim.as_json())
        rows.append(row)
    if values.json:
        benchmarking.write_report(values.json, {**report, "results": rows, "aims": aims})


def _measure_size(size: int, values: flags.FlagValues) -> dict[str, Any]:
    batch = values.batch or max(16, 256 * 32**2 // size**2)
    peers: dict[str, Speed] = {}
    if values.peers:
        peers = benchmarking.alone(time_torchvision, size, values.seconds)
    ours, peak = benchmarking.alone(time_ours, size, batch, values.seconds)
    row: dict[str, Any] = {"size": size, "batch": batch, "ours": ours, "peak_bytes": peak}
    if peers:
        row["torchvision"] = {name: speed for name, (speed, _) in peers.items()}
        row["torchvision_peak_bytes"] = {name: bytes_ for name, (_, bytes_) in peers.items()}
        row["peer"] = max(peers, key=lambda name: peers[name][0])
        row["ratio"] = ours / peers[row["peer"]][0]
    return row


def _table(row: dict[str, Any]) -> str:
    titles = [f"{row['size']} px", "views/s per core", "ours is faster by", "peak, MB"]
    ours = f"{row['ours']:,.0f}", "", benchmarking.megabytes(row["peak_bytes"])
    lines = [[f"ours, batch {row['batch']}", *ours]]
    for name, speed in row.get("torchvision", {}).items():
        mark = " (the peer)" if name == row["peer"] else ""
        peak = benchmarking.megabytes(row["torchvision_peak_bytes"][name])
        faster = f"{row['ours'] / speed:.1f}x"
        lines.append([f"torchvision {name}{mark}", f"{speed:,.0f}", faster, peak])
    return "\n" + align([titles, *lines])


if __name__ == "__main__":
    from alphacl_jax.cli.start import run_main

    define_flags()
    run_main(lambda argv: run(flags.FLAGS), __doc__)
