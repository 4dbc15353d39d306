"""Augmentation speed: views per second and core, beside torchvision's SimCLR pipeline.

    pip install -e '.[bench]'
    python -m experiments.benchmark_augment

Both sides do the same on the same images, each kept to one core in a process of its own: random
resized crop, flip, colour jitter (strength 0.5, p = 0.8), greyscale (p = 0.2), above 64 pixels
Gaussian blur (p = 0.5), normalisation. torchvision runs in its v1 and v2 forms on PIL images and
on uint8 tensors, one image at a time as in a data loader, and the fastest form is the peer. Seconds
are CPU seconds of the process, over all its threads: they count per core even where a process
cannot be kept to one (macOS), and leave out the time that other programs took.
"""

import concurrent.futures
import functools
import importlib.metadata
import json
import multiprocessing
import os
import pathlib
import platform
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from absl import app, flags
from PIL import Image

_SIZES = flags.DEFINE_list("sizes", ["32", "96"], "Image sides in pixels.")
_BATCH = flags.DEFINE_integer(
    "batch", 0, "Images per call of ours, two views each; 0: 256 at 32 px, fewer at larger sizes."
)
_SECONDS = flags.DEFINE_float("seconds", 3.0, "How long each pipeline is timed.", lower_bound=0.1)
_JSON = flags.DEFINE_string("json", "", "Also write the results to this file.")

MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)


def example_images(count: int, size: int) -> np.ndarray:
    """uint8 `[count, size, size, 3]`: smooth random colours, as the work depends on the values."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, 6, 6, 3), np.uint8)
    return np.stack([np.asarray(Image.fromarray(c).resize((size, size))) for c in coarse])


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


def time_ours(size: int, batch: int, seconds: float) -> dict[str, float]:
    """Views/s of `policies.two_views`; runs in a process of its own."""
    keep_to_one_core()
    import jax  # after the affinity is set: its thread pool counts the cores when it starts

    from alphacl_jax.data import policies

    jax.config.update("jax_platforms", "cpu")
    images = jax.numpy.asarray(example_images(batch, size))
    policy = policies.named_policy("simclr", (size, size, 3))
    views = jax.jit(lambda key: policies.two_views(key, images, policy, MEAN, STD))
    key = jax.random.key(0)

    def call(step: int) -> None:
        views(jax.random.fold_in(key, step)).block_until_ready()

    call(0)
    return {"ours": rate(call, 2 * batch, seconds)}


def apply_in_turn(transform: Callable[[Any], Any], data: list[Any], step: int) -> Any:
    return transform(data[step % len(data)])


def time_torchvision(size: int, seconds: float) -> dict[str, float]:
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
        results[name] = rate(functools.partial(apply_in_turn, transform, data), 1, seconds)
    return results


def alone(function: Callable[..., dict[str, float]], *arguments: Any) -> dict[str, float]:
    """Runs `function` in a fresh process: its core and threads are its own."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def cpu_model() -> str:
    listing = pathlib.Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError as error:
        raise app.UsageError(
            f"{package} is not installed, and this benchmark compares with torchvision: "
            "pip install -e '.[bench]'"
        ) from error


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}: settings are flags, see --help")
    try:
        sizes = [int(size) for size in _SIZES.value]
    except ValueError as error:
        raise app.UsageError(f"--sizes={','.join(_SIZES.value)}: whole numbers needed") from error
    versions = {name: version(name) for name in ("torchvision", "torch", "jax", "pillow")}
    machine = {"cpu": cpu_model(), "cores": os.cpu_count(), "python": platform.python_version()}
    print(f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}, ", end="")
    print(", ".join(f"{name} {number}" for name, number in versions.items()))
    print(f"\n{'pixels':>6}  {'pipeline':<24}{'views/s per core':>18}{'ours is faster by':>20}")
    rows = []
    for size in sizes:
        batch = _BATCH.value or max(16, 256 * 32**2 // size**2)
        speeds = alone(time_torchvision, size, _SECONDS.value)
        ours = alone(time_ours, size, batch, _SECONDS.value)["ours"]
        fastest = max(speeds, key=lambda name: speeds[name])
        print(f"{size:>6}  {f'ours, batch {batch}':<24}{ours:>18,.0f}")
        for name, speed in speeds.items():
            mark = " (peer)" if name == fastest else ""
            print(
                f"{size:>6}  {'torchvision ' + name:<24}{speed:>18,.0f}{ours / speed:>19.1f}x{mark}"
            )
        rows.append(
            {
                "size": size,
                "batch": batch,
                "ours": ours,
                "torchvision": speeds,
                "peer": fastest,
                "ratio": ours / speeds[fastest],
            }
        )
    if _JSON.value:
        report = {"unit": "views per CPU second", "machine": machine, "versions": versions}
        pathlib.Path(_JSON.value).write_text(json.dumps({**report, "results": rows}, indent=2))


if __name__ == "__main__":
    app.run(main)
