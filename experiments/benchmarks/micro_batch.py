"""Time and memory of a training step with the batch embedded at once, and in chunks.

    python -m experiments.benchmarks.micro_batch --encoder=resnet18 --batch_sizes=256,8192 \\
        --micro_batches=64,256 --plain_up_to=256

A step is the trainer's: augmentation, network, loss, optimiser. The encoder has GroupNorm, so that
both compute the same. Peak memory is what a step needs above what is there before it: weights, the
optimiser's state and the images.
"""

import functools
import time
from typing import Any

from absl import flags

from alphacl_jax.errors import RunError
from alphacl_jax.runs.settings import (
    AugmentationSettings,
    ContrastiveSettings,
    EvaluationSettings,
    ModelSettings,
    OptimizerSettings,
    RunSettings,
)
from alphacl_jax.tables import align
from experiments.benchmarks import benchmarking
from experiments.benchmarks.benchmarking import Call

_ENCODERS = ("small", "resnet18", "resnet34", "resnet50")


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines this script's flags on `values`."""
    flags.DEFINE_enum("encoder", "small", _ENCODERS, "The network.", flag_values=values)
    flags.DEFINE_list("batch_sizes", ["256", "1024"], "Images per step.", flag_values=values)
    flags.DEFINE_list("micro_batches", ["64"], "Images of a chunk.", flag_values=values)
    flags.DEFINE_integer(
        "plain_up_to", 2**20, "The largest batch that is embedded at once too.", 0,
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_integer("image_size", 32, "Side of the images.", 4, flag_values=values)
    flags.DEFINE_integer("rounds", 5, "Turns of each step.", 1, flag_values=values)
    flags.DEFINE_float("seconds", 10.0, "Timed per step.", 0, flag_values=values)
    flags.DEFINE_string("json", "", "Write the results to this file.", flag_values=values)


def settings_of(encoder: str, batch_size: int, micro_batch: int | None) -> RunSettings:
    """Those of a run without BatchNorm."""
    return RunSettings(
        augmentation=AugmentationSettings(augmentation="simclr"),
        model=ModelSettings(encoder=encoder, encoder_norm="group", projector_norm="none"),
        method=ContrastiveSettings(loss="info_nce"),
        optimizer=OptimizerSettings(batch_size=batch_size, micro_batch=micro_batch),
        evaluation=EvaluationSettings(evaluate="none"),
    )


def _prepared(settings: RunSettings, image_size: int) -> tuple[Any, Any, Any]:
    """The compiled step, a state and a batch."""
    from alphacl_jax.data.arrays import dataset_from_arrays
    from alphacl_jax.runs.any_run import prepare_training
    from alphacl_jax.runs.run import open_run
    from alphacl_jax.training.mesh import data_mesh

    images = benchmarking.example_images(settings.optimizer.batch_size, image_size)
    training = prepare_training(open_run(settings, data_mesh(), dataset_from_arrays(images)))
    state, batch = training.init(settings.seed), next(training.batches)
    traced = training.step.lower(state, batch, False)  # type: ignore[attr-defined]
    return traced.compile(), state, batch


def make_step(settings: RunSettings, image_size: int) -> Call:
    """A training step on images of the benchmark."""
    import jax

    step, state, batch = _prepared(settings, image_size)
    held: list[Any] = [state]  # the step reuses the memory of its state

    def call() -> None:
        held[0], metrics = step(held[0], batch, False)
        jax.block_until_ready((held[0], metrics))

    return call


def seconds_to_compile(settings: RunSettings, image_size: int) -> float:
    """Of a training step, with its tracing and the state before it."""
    started = time.perf_counter()
    _prepared(settings, image_size)
    return time.perf_counter() - started


def run(values: flags.FlagValues) -> None:
    """Measures and shows every batch size.

    Raises:
      RunError: for a size that is no number.
    """
    given = {"batch_sizes": values.batch_sizes, "micro_batches": values.micro_batches}
    for name, texts in given.items():
        if not all(text.isdecimal() and int(text) for text in texts):
            raise RunError(f"--{name}={','.join(texts)} must be whole numbers >= 1")
    report = {"unit": "seconds", **benchmarking.describe(("jax", "jaxlib", "flax"))}
    print(benchmarking.heading(report), flush=True)
    results = []
    for batch_size in map(int, values.batch_sizes):
        results += _measured(values, batch_size)
    lines = [
        [
            str(result["batch_size"]),
            result["form"],
            f"{1e3 * result['seconds_per_image']:.2f}",
            benchmarking.megabytes(result["peak_bytes"]),
            f"{result['seconds_to_compile']:.1f}",
        ]
        for result in results
    ]
    print(align([["batch", "form", "ms per image", "peak, MB", "compile, s"], *lines]))
    if values.json:
        benchmarking.write_report(values.json, {**report, "results": results})


def _measured(values: flags.FlagValues, batch_size: int) -> list[dict[str, Any]]:
    """The forms of a step of one batch size."""
    side = values.image_size
    sizes = [int(text) for text in values.micro_batches if int(text) < batch_size]
    forms = {f"chunks of {size}": settings_of(values.encoder, batch_size, size) for size in sizes}
    if batch_size <= values.plain_up_to:
        forms = {"at once": settings_of(values.encoder, batch_size, None), **forms}
    compiling = {
        form: benchmarking.alone(seconds_to_compile, of, side) for form, of in forms.items()
    }
    makers = {form: functools.partial(make_step, of, side) for form, of in forms.items()}
    measured = benchmarking.measure_in_turn(makers, rounds=values.rounds, seconds=values.seconds)
    return [
        {
            "batch_size": batch_size,
            "form": form,
            "seconds_per_image": found.seconds / batch_size,
            "peak_bytes": found.peak_bytes,
            "seconds_to_compile": compiling[form],
        }
        for form, found in measured.items()
    ]


if __name__ == "__main__":
    from alphacl_jax.cli.start import run_main

    define_flags()
    run_main(lambda argv: run(flags.FLAGS), __doc__)
