"""A run on images from its start to its table."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from jax.sharding import Mesh
from numpy.typing import ArrayLike

from alphacl_jax.data.arrays import dataset_from_arrays
from alphacl_jax.evaluation.pictures import warned_of
from alphacl_jax.runs import evaluation as looks
from alphacl_jax.runs.baselines import supervised_row, untrained_name
from alphacl_jax.runs.encoder import Encoder
from alphacl_jax.runs.in_memory import of_arrays, require_one, train_in_memory
from alphacl_jax.runs.records import show_in_tensorboard
from alphacl_jax.runs.run import Run, open_run
from alphacl_jax.runs.settings import RunSettings
from alphacl_jax.training.mesh import data_mesh


def pretrain(
    images: ArrayLike,
    settings: RunSettings = RunSettings(),  # noqa: B008 - frozen
    *,
    labels: ArrayLike | None = None,
    workdir: str | Path | None = None,
    mesh: Mesh | None = None,
    allow_changed_data: bool = False,
) -> Encoder:
    """Trains an encoder on images in memory.

    Args:
      images: uint8 `[n, height, width, channels]`, or `[n, height, width]` for one channel.
      settings: of the run, with the default data settings but for the limit of memory.
      labels: int `[n]`, -1 where unknown, which methods with labels and probes while training read.
      workdir: a run folder, from which the run can be resumed and loaded; None keeps nothing.
      mesh: the devices, with an axis "data"; by default all of them.
      allow_changed_data: whether the run in `workdir` goes on where it began on other images.

    Returns:
      The trained encoder.

    Raises:
      ArgumentError: for images, labels or settings that cannot be used; the message says why.
      RunError: for a run folder of another run, or of a run on other images.
      NonFiniteLossError: where training diverges; a note says which settings were given.
    """
    dataset = dataset_from_arrays(images, labels)
    data = of_arrays(settings.data, "memory_limit_mb", "images")
    require_one(settings)
    settings = dataclasses.replace(settings, data=data)
    encoder: Encoder = train_in_memory(
        lambda: open_run(settings, mesh or data_mesh(), dataset),
        workdir,
        allow_changed_data=allow_changed_data,
    )
    return encoder


def evaluate_run(
    run: Run,
    encoder: Encoder,
    untrained: Encoder,
    workdir: Path,
    show: Callable[[str], None] = lambda table: None,
) -> str:
    """Evaluates a trained run as its settings say, and keeps what is found in its folder.

    Args:
      run, encoder, untrained, workdir: of `train_run`.
      show: given the table, once its figures are written and before any picture is drawn.

    Returns:
      The table.

    Raises:
      UnwrittenError: see `publish`.
    """
    level, seed = run.settings.evaluation.evaluate, run.settings.seed
    if level == "none":
        table = f"not evaluated; the run is in {workdir}"
        show(table)
        return table
    baselines = {untrained_name(run.settings): untrained}
    if run.settings.evaluation.supervised:
        looks.to_terminal("training a supervised encoder")
        baselines |= supervised_row(run, untrained)
    found = looks.evaluate_encoder(
        encoder,
        run.dataset,
        baselines=baselines,
        level=level,
        memory_limit_bytes=run.memory_limit_bytes,
        report=looks.to_terminal,
    )

    def draw() -> None:
        looks.draw_evaluation(
            found, workdir, workdir, level=level, seed=seed, report=looks.to_terminal
        )
        with warned_of("what TensorBoard shows of the end"):
            show_in_tensorboard(run, workdir, encoder.step, found.figures)

    heading = f"pictures and figures: {workdir}"
    return looks.publish(found, workdir / "evaluation.json", heading, show, draw)
