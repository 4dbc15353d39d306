"""Losses and training on an accelerator, in one command of under eight minutes.

    pip install -e '.[bench]'   # and the JAX and the PyTorch of your device, as jax[cuda12]
    experiments/benchmarks/accelerator.sh --json=accelerator.json

It measures, one after the other and each in a process of its own:

- value and gradient of InfoNCE and of alpha-CL-direct, dense and in blocks, beside lightly's
  NTXentLoss, NT-Xent by F.cross_entropy and alpha-CL-direct in PyTorch on the same card, and beside
  the three matrix products that a dense form cannot do without (float32);
- training of ResNet-18 and ResNet-50 on images of 32x32 in float32 and bfloat16: images per second,
  and the parts of the step;
- five epochs of ResNet-18 on CIFAR-10, where TFDS has prepared it or --data_dir names it.

Memory is what JAX or PyTorch has allocated at most, for a loss above what was there before; what
JAX took to compile is in it. Each part has its share of the time, and what one leaves goes to the
next. What fails, or has no time left, is named in the table and the others go on. --toy tries all
of it in a tiny size, on a CPU too; its figures mean nothing.
"""

import functools
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from absl import flags

from alphacl_jax.errors import RunError
from alphacl_jax.runs.settings import ModelSettings
from experiments.benchmarks import benchmarking, devices, train, train_sides
from experiments.benchmarks.accelerator_parts import (
    find_cifar,
    kernel_rows,
    run_cifar,
    training_rows,
)
from experiments.benchmarks.accelerator_table import tables
from experiments.benchmarks.kernel_entries import entries
from experiments.benchmarks.timed_parts import Part, collect, run_parts

_PACKAGES = ("jax", "jaxlib", "jax-cuda12-plugin", "jax-cuda13-plugin", "flax", "torch", "lightly")
_OBJECTIVES = ("info_nce", "alpha_direct")
_PEERS = ("lightly", "torch_nt_xent", "torch_alpha_direct")
_DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class Scale:
    """How large everything is.

    Attributes:
      sizes, block_sizes, dim: of the losses; sizes are anchors, 2n.
      kernel_seconds: timed of each loss and size.
      encoders: that are trained, with the seconds that each may take, compilation included.
      widths: of the encoder "small".
      images, batch_size, steps, log_every, rounds: of training.
      cifar: flags of the run beside those of its preset.
    """

    sizes: tuple[int, ...]
    block_sizes: tuple[str, ...]
    dim: int
    kernel_seconds: float
    encoders: dict[str, float]
    widths: tuple[int, ...]
    images: int
    batch_size: int
    steps: int
    log_every: int
    rounds: int
    cifar: tuple[str, ...]


FULL = Scale(
    sizes=(1024, 4096, 16384, 65536),
    block_sizes=("auto", "256"),
    dim=128,
    kernel_seconds=0.3,
    encoders={"resnet18": 35, "resnet50": 70},
    widths=ModelSettings().widths,
    images=4096,
    batch_size=256,
    steps=24,
    log_every=6,
    rounds=5,
    cifar=(),
)
TOY = Scale(
    sizes=(8, 16),
    block_sizes=("4",),
    dim=4,
    kernel_seconds=0.01,
    encoders={"small": 35},
    widths=(2,),
    images=16,
    batch_size=4,
    steps=4,
    log_every=2,
    rounds=1,
    cifar=(
        *("--encoder=small", "--widths=2", "--projector_hidden=4", "--projector_dim=2"),
        *("--batch_size=8", "--log_every=1"),
    ),
)
_KERNEL_PART_SECONDS, _CIFAR_SECONDS = 15.0, 90.0


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines this script's flags on `values`."""
    flags.DEFINE_string(
        "data_dir",
        "",
        "Where TFDS has prepared cifar10, or a folder with train/CLASS/* and test/CLASS/*; by "
        "default TFDS's own folder.",
        flag_values=values,
    )
    flags.DEFINE_float(
        "minutes", 7.5, "All is over by then; more for a slow device.", 0.1, flag_values=values
    )
    flags.DEFINE_bool("toy", False, "Everything in a tiny size, as a trial.", flag_values=values)
    flags.DEFINE_string(
        "json", "accelerator.json", "Write the results to this file.", flag_values=values
    )


def plan(scale: Scale, cifar: list[str], folder: Path, torch_device: str) -> list[Part]:
    """What is measured, in order.

    Args:
      scale: how large.
      cifar: flags that name the images of CIFAR-10; none where they are not there.
      folder: for files that are made.
      torch_device: of the peers, "cpu" or "cuda".
    """
    parts = []
    for entry in entries(_OBJECTIVES, scale.block_sizes, _PEERS, torch_device):
        rows = functools.partial(
            kernel_rows, entry.make, scale.sizes, scale.dim, scale.kernel_seconds
        )
        measure = functools.partial(collect, rows)
        parts.append(Part("kernel", entry.name, _KERNEL_PART_SECONDS, measure))
    data_dir = train.synthetic_images(folder / "images", scale.images)
    for encoder, seconds in scale.encoders.items():
        for dtype in _DTYPES:
            settings = train_sides.run_settings(
                data_dir, scale.log_every, scale.batch_size, encoder, scale.widths, dtype
            )
            rows = functools.partial(training_rows, settings, scale.steps, scale.rounds)
            name = f"{encoder}, {dtype}, batch {scale.batch_size}"
            parts.append(Part("training", name, seconds, functools.partial(collect, rows)))
    run = functools.partial(run_cifar, cifar, scale.cifar, folder / "cifar")
    return [*parts, Part("run", "CIFAR-10, 5 epochs", _CIFAR_SECONDS, run)]


def run(values: flags.FlagValues) -> None:
    """Measures all that there is time for, shows it and writes it down.

    Raises:
      RunError: where there is no accelerator, or for flags that cannot be used.
    """
    until = time.monotonic() + 60 * values.minutes
    cifar = find_cifar(values.data_dir)
    device = devices.describe()
    if not devices.is_accelerator(device) and not values.toy:
        raise RunError(
            "JAX sees no accelerator, only the processor, where this would take hours. Install the "
            "JAX of your device (for NVIDIA: pip install 'jax[cuda12]'), or try everything in a "
            "tiny size with --toy"
        )
    scale = TOY if values.toy else FULL
    report: dict[str, Any] = {"device": device, "toy": values.toy, "minutes": values.minutes}
    report |= {"sizes": scale.sizes, "parts": [], **benchmarking.describe(_PACKAGES)}
    benchmarking.write_report(values.json, report)  # that it can be is known before the work
    print(f"{benchmarking.heading(report)}\n{devices.line(device)}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # A program that one process compiled serves the next.
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder / "compiled")
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        torch_device = "cuda" if devices.is_accelerator(device) else "cpu"
        for part in run_parts(plan(scale, cifar, folder, torch_device), until):
            report["parts"].append(part)
            benchmarking.write_report(values.json, report)
    print(f"\n{tables(report['parts'], scale.sizes)}\n\nresults: {values.json}")


if __name__ == "__main__":
    from alphacl_jax.cli.start import (
        run_main,  # here, as its imports would slow each process measured
    )

    define_flags()
    run_main(lambda argv: run(flags.FLAGS), __doc__)
