"""Pretrains an encoder by α-CL, or another contrastive loss, and evaluates it.

    python -m experiments.pretrain

trains a small ResNet by α-CL-direct on the digits data set, which needs no download, and prints a
table of linear probes and nearest neighbours. The same command resumes a run that was interrupted.
Presets: --flagfile=experiments/presets/NAME.flags
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
from absl import flags

from alphacl_jax.data.preview import save_preview
from alphacl_jax.data.sources import in_order
from alphacl_jax.training.loop import InterruptedBySignal, train
from alphacl_jax.training.state import TrainState
from experiments import run_flags
from experiments.evaluate import evaluate_run
from experiments.main import plain_errors, run_main
from experiments.run_flags import claim_workdir, default_workdir, define_run_flags, locked
from experiments.runs import Run, Training, open_run, prepare_training

_PREVIEW_IMAGES = 8


def _preview(run: Run, path: str) -> None:
    images, _ = next(iter(in_order(run.dataset.pretrain, _PREVIEW_IMAGES, max_bytes=0)))
    views = jax.jit(run.views)(jax.random.key(run.flag("seed")), images)
    save_preview(path, images, views, run.dataset.mean, run.dataset.std)
    print(f"augmented pairs: {path}")


def _announce(run: Run, training: Training, workdir: Path) -> None:
    parameters = sum(p.size for p in jax.tree.leaves(training.state.params))
    height, width, channels = run.dataset.image_shape
    print(
        f"{run.flag('loss')} on {run.dataset.name}: {len(run.dataset.pretrain.source):,} images of "
        f"{height}x{width}x{channels}, {parameters:,} parameters, "
        f"{training.schedule.total_steps:,} steps on {run.mesh.size} "
        f"{jax.devices()[0].platform} device(s), run folder {workdir}",
        file=sys.stderr,
        flush=True,
    )


def pretrain(values: flags.FlagValues) -> str | None:
    """Trains and evaluates the run that the flags describe; returns its table.

    Raises:
      RunError: for whatever the person can put right.
    """
    with plain_errors(values):
        run = open_run(values)
        if values.preview:
            _preview(run, values.preview)
            return None
        training = prepare_training(run)
        workdir = Path(values.workdir).expanduser() if values.workdir else default_workdir(values)
        claim_workdir(workdir, values)
        with locked(workdir):
            _announce(run, training, workdir)
            # Copied, because the memory of the first state is given up to those after it.
            untrained = jax.tree.map(jnp.copy, training.state._replace(opt_state=()))
            return evaluate_run(run, _train(run, training, workdir), untrained, workdir)


def _train(run: Run, training: Training, workdir: Path) -> TrainState:
    try:
        return train(
            training.state,
            training.step,
            training.batches,
            training.schedule,
            workdir,
            batch_size=run.flag("batch_size"),
            learning_rate=training.learning_rate,
        )
    except InterruptedBySignal as error:
        print(error, file=sys.stderr)
        sys.exit(128 + error.number)


def main(argv: Sequence[str]) -> None:
    del argv
    table = pretrain(flags.FLAGS)
    if table is not None:
        print(table)


if __name__ == "__main__":
    define_run_flags()
    flags.adopt_module_key_flags(run_flags)  # so that --help lists them
    run_main(main, __doc__)
