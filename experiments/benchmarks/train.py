"""Training beside lightly's SimCLR: images per second, everything included.

    pip install -e '.[bench]'
    python -m experiments.benchmarks.train --json=train.json

Ours is the trainer of experiments.pretrain: images on the device, augmentation in the compiled
step, model, loss, optimiser, records. The peer is a common PyTorch loop: lightly's SimCLRTransform
in a data loader over images in memory, with the number of worker processes that is fastest, a
channels-last network, NTXentLoss. Both have the same network (the parameters are counted), batch,
augmentation (SimCLR's without blur, jitter of strength 0.5), loss (NT-Xent) and optimiser (SGD with
momentum), and log alike. They run alternately in fresh processes, never both at once; the median
over all stretches between two records counts, the first of each process (compilation, starting
workers) left out.

Then it shows where our step spends its time: the parts of the step compiled on their own, and with
--profile the operations that take longest.
"""

import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from absl import flags
from PIL import Image

from alphacl_jax.errors import RunError
from alphacl_jax.runs.settings import (
    AugmentationSettings,
    ContrastiveSettings,
    DataSettings,
    EvaluationSettings,
    ModelSettings,
    OptimizerSettings,
    RunSettings,
)
from alphacl_jax.tables import align
from experiments.benchmarks import benchmarking, memory
from experiments.benchmarks.benchmarking import Aim

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "torch", "torchvision", "lightly", "pillow")
_PEER_PACKAGES = ("torch", "torchvision", "lightly")
# What both sides train with; ours reads it as flags.
_HIDDEN, _DIM, _TEMPERATURE = 256, 128, 0.5
_LEARNING_RATE, _MOMENTUM, _WEIGHT_DECAY = 0.05, 0.9, 1e-4
_OUTSIDE_AIM = 0.10


@dataclass(frozen=True)
class Case:
    """A network and batch; ours should be `aim` times as fast as the peer."""

    encoder: str
    stage_sizes: tuple[int, ...]
    widths: tuple[int, ...]
    batch_size: int
    aim: float

    @property
    def name(self) -> str:
        network = "-".join(map(str, self.widths)) if self.encoder == "small" else self.encoder
        return f"{network}, batch {self.batch_size}"

    def settings(self, data_dir: str, log_every: int) -> RunSettings:
        """Of our run: the same network, loss and optimiser as the peer's."""
        widths = self.widths if self.encoder == "small" else ModelSettings().widths
        return run_settings(data_dir, log_every, self.batch_size, self.encoder, widths)


def run_settings(
    data_dir: str,
    log_every: int,
    batch_size: int,
    encoder: str,
    widths: tuple[int, ...] = ModelSettings().widths,
    dtype: str = "float32",
) -> RunSettings:
    """Of a run on the images of a folder, as both sides train."""
    return RunSettings(
        data=DataSettings(dataset="folder", data_dir=data_dir),
        augmentation=AugmentationSettings(augmentation="simclr"),
        model=ModelSettings(
            encoder=encoder,
            widths=widths,
            projector_hidden=_HIDDEN,
            projector_dim=_DIM,
            projector_norm="none",
            dtype=dtype,
        ),
        method=ContrastiveSettings(loss="info_nce", temperature=_TEMPERATURE),
        optimizer=OptimizerSettings(
            batch_size=batch_size,
            optimizer="sgd",
            learning_rate=_LEARNING_RATE,
            momentum=_MOMENTUM,
            weight_decay=_WEIGHT_DECAY,
            warmup_epochs=0,
        ),
        evaluation=EvaluationSettings(log_every=log_every),
    )


CASES = {
    "small16": Case("small", (1, 1, 1), (16, 32, 64), 256, 1.3),
    "small32": Case("small", (1, 1, 1), (32, 64, 128), 256, 0.8),
    "resnet18": Case("resnet18", (2, 2, 2, 2), (64, 128, 256, 512), 128, 0.9),
}


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines this script's flags on `values`."""
    flags.DEFINE_list("cases", list(CASES), f"Of {', '.join(CASES)}.", flag_values=values)
    flags.DEFINE_list("peers", ["lightly"], "lightly, or empty for none.", flag_values=values)
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


def train_peer(
    case: Case, data_dir: str, steps: int, log_every: int, workers: int
) -> dict[str, Any]:
    """Images/s of the peer's stretches, without the first; runs in a process of its own."""
    from alphacl_jax.data import sources
    from experiments.benchmarks import torch_simclr

    dataset = sources.load("folder", data_dir, None)
    images, _ = sources.to_arrays(dataset.pretrain, 2**31)
    network = torch_simclr.simclr_network(case.stage_sizes, case.widths, _HIDDEN, _DIM)
    rates = torch_simclr.train(
        images,
        dataset.mean,
        dataset.std,
        network,
        batch_size=case.batch_size,
        temperature=_TEMPERATURE,
        learning_rate=_LEARNING_RATE,
        momentum=_MOMENTUM,
        weight_decay=_WEIGHT_DECAY,
        steps=steps,
        log_every=log_every,
        workers=workers,
    )
    return {
        "rates": list(rates)[1:],
        "parameters": sum(p.numel() for p in network.parameters()),
        "peak_bytes": memory.peak_resident_bytes(),
    }


def train_ours(case: Case, data_dir: str, steps: int, log_every: int) -> dict[str, Any]:
    """Images/s of our stretches, without the first; runs in a process of its own."""
    from experiments.benchmarks import our_training

    return our_training.speed(case.settings(data_dir, log_every), steps)


def step_parts(case: Case, data_dir: str, rounds: int) -> dict[str, float]:
    from experiments.benchmarks import our_training

    return our_training.parts(case.settings(data_dir, 1), rounds)


def step_profile(case: Case, data_dir: str) -> list[tuple[str, float, float]]:
    from experiments.benchmarks import our_training

    return our_training.profile(case.settings(data_dir, 1), steps=3, top=20)


def measure_case(case: Case, data_dir: str, values: flags.FlagValues) -> dict[str, Any]:
    """Both sides in turn, then the parts of our step.

    Raises:
      RunError: where the networks of the two sides differ.
    """
    steps = values.steps or (18 if case.encoder == "small" else 6)
    log_every = values.log_every or max(1, steps // 6)
    if steps < 2 * log_every:
        raise RunError(f"--steps={steps} must be twice --log_every={log_every}, or more")
    with_peer = bool(values.peers)
    speeds: dict[int, float] = {}
    if with_peer:
        for workers in map(int, values.workers):
            trial = _phase(train_peer, case, data_dir, 2 * log_every, log_every, workers)
            speeds[workers] = statistics.median(trial["rates"])
    best = max(speeds, key=lambda workers: speeds[workers]) if speeds else 0
    ours, peer = [], []
    for _ in range(values.phases):
        ours.append(_phase(train_ours, case, data_dir, steps, log_every))
        if with_peer:
            peer.append(_phase(train_peer, case, data_dir, steps, log_every, best))
    if peer and ours[0]["parameters"] != peer[0]["parameters"]:
        raise RunError(
            f"the networks differ: ours has {ours[0]['parameters']:,} parameters, "
            f"the peer's {peer[0]['parameters']:,}"
        )
    found: dict[str, Any] = {"case": case.name, "parameters": ours[0]["parameters"]}
    found["ours"] = _summary(ours)
    if peer:
        found["peer"] = {**_summary(peer), "workers": best, "by_workers": speeds}
        found["ratio"] = found["ours"]["images_per_second"] / found["peer"]["images_per_second"]
    milliseconds = benchmarking.alone(step_parts, case, data_dir, max(3, steps // 3))
    milliseconds["loop"] = 1e3 * case.batch_size / found["ours"]["images_per_second"]
    found["milliseconds"] = milliseconds
    found["outside"] = outside(milliseconds)
    if values.profile:
        found["profile"] = benchmarking.alone(step_profile, case, data_dir)
    return found


def outside(milliseconds: dict[str, float]) -> float:
    """Share of the step outside the model: what is left without it, or the sum of its other parts.

    The larger counts: parts compiled alone may be slower or faster than within the step.
    """
    others = sum(milliseconds[part] for part in ("augmentation", "loss", "optimiser", "data"))
    return max(milliseconds["step"] - milliseconds["model"], others) / milliseconds["step"]


def _phase(side: Callable[..., dict[str, Any]], case: Case, *arguments: Any) -> dict[str, Any]:
    """A process of one side; a line on stderr tells that it is done."""
    result = benchmarking.alone(side, case, *arguments)
    rate = statistics.median(result["rates"])
    print(f"{case.name}, {side.__name__}: {rate:,.0f} images/s", file=sys.stderr, flush=True)
    return result


def _summary(phases: Sequence[dict[str, Any]]) -> dict[str, Any]:
    rates = [rate for phase in phases for rate in phase["rates"]]
    return {
        "images_per_second": statistics.median(rates),
        "rates": rates,
        "peak_bytes": phases[0]["peak_bytes"],
    }


def show(found: dict[str, Any]) -> None:
    """Prints one case: both sides, then where our step's time goes."""
    lines = [_line("ours", found["ours"])]
    if "peer" in found:
        lines.append(_line(f"lightly, {found['peer']['workers']} workers", found["peer"]))
        lines[0].append(f"{found['ratio']:.2f}")
        lines[1].append("1.00")
    else:
        lines[0].append("")
    titles = [f"{found['case']} ({found['parameters']:,} parameters)", "images/s", "peak, MB"]
    print("\n" + align([[*titles, "ratio"], *lines]))
    parts = found["milliseconds"]
    print("\n  of our step, ms: " + ", ".join(f"{k} {v:.1f}" for k, v in parts.items()))
    for name, milliseconds, share in found.get("profile", []):
        print(f"  {milliseconds:9.2f} ms {100 * share:5.1f} %  {name}")


def _line(name: str, side: dict[str, Any]) -> list[str]:
    rate = side["images_per_second"]
    return [name, f"{rate:,.0f}", benchmarking.megabytes(side["peak_bytes"])]


def aims(case: Case, found: dict[str, Any]) -> list[Aim]:
    """What the library aims at for a case."""
    result = []
    if "ratio" in found:
        result.append(Aim(f"{case.name}: ours / lightly", found["ratio"], case.aim, False))
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
