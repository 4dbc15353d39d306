"""Pretrains an encoder by α-CL, or another contrastive loss, and evaluates it.

    python -m experiments.pretrain

trains a small ResNet by α-CL-direct on the digits data set, which needs no download, and prints a
table of linear probes and nearest neighbours. The same command resumes a run that was interrupted.
With --num_seeds=3 it trains three such runs and prints the mean and standard deviation over them.
With --distributed one run spans several hosts: start the same command on each of them.
Presets: --flagfile=experiments/presets/NAME.flags
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import jax
from absl import flags

from alphacl_jax.cli.start import plain_errors, run_main
from alphacl_jax.data.preview import draw_preview
from alphacl_jax.errors import RunError
from alphacl_jax.training import hosts
from alphacl_jax.training.loop import InterruptedBySignal, NonFiniteLossError, train
from alphacl_jax.training.state import TrainState
from experiments import run_flags
from experiments.evaluate import evaluate_run
from experiments.run_flags import (
    claim_workdir,
    cluster_of,
    default_workdir,
    define_run_flags,
    locked,
)
from experiments.runs import Run, Training, open_run, prepare_training
from experiments.seeds import pretrain_seeds, seeds_of


def _preview(run: Run, path: str) -> None:
    draw_preview(path, run.dataset, run.policy, seed=run.flag("seed"))
    print(f"augmented pairs: {path}")


def _announce(run: Run, state: TrainState, training: Training, workdir: Path) -> None:
    if not hosts.is_writer():
        return
    on_hosts = f" of {jax.process_count()} processes" if jax.process_count() > 1 else ""
    parameters = sum(p.size for p in jax.tree.leaves(state.params))
    height, width, channels = run.dataset.image_shape
    print(
        f"{run.flag('loss')} on {run.dataset.name}: {len(run.dataset.pretrain.source):,} images of "
        f"{height}x{width}x{channels}, {parameters:,} parameters, "
        f"{training.schedule.total_steps:,} steps on {run.mesh.size} "
        f"{jax.devices()[0].platform} device(s){on_hosts}, run folder {workdir}",
        file=sys.stderr,
        flush=True,
    )


def pretrain(values: flags.FlagValues) -> str | None:
    """Trains and evaluates the run or runs that the flags describe; returns their table.

    Where several processes train, the first one evaluates, alone; the others return None.

    Raises:
      RunError: for whatever the person can put right.
      InterruptedBySignal: after SIGTERM or SIGINT, once the state is saved.
    """
    with plain_errors(values):
        run = open_run(values)
        if values.preview:
            if hosts.is_writer():
                _preview(run, values.preview)
            return None
        seeds = seeds_of(values)
        training = prepare_training(run)
        workdir = Path(values.workdir).expanduser() if values.workdir else default_workdir(values)
        with _run_folder(workdir, values):
            if len(seeds) > 1:
                return pretrain_seeds(run, training, workdir, _pretrain)
            return _pretrain(run, training, workdir)


@contextmanager
def _run_folder(workdir: Path, values: flags.FlagValues) -> Iterator[None]:
    """Makes and locks the run folder, which all processes share."""
    with ExitStack() as stack:
        if hosts.is_writer():
            claim_workdir(workdir, values)
            stack.enter_context(locked(workdir))
        hosts.all_agree(True)  # it is there
        if not (workdir / "flags.txt").exists():
            raise RunError(
                f"this host does not see the run folder {workdir} that process 0 made. Give a "
                "--workdir on storage that all hosts share"
            )
        yield


def _pretrain(run: Run, training: Training, workdir: Path) -> str | None:
    """Trains and evaluates one run in a folder that it has for itself."""
    state = training.init(run.flag("seed"))
    _announce(run, state, training, workdir)
    # Copied, because the memory of the first state is given up to those after it.
    untrained = hosts.own_copy(state._replace(opt_state=()))
    try:
        last = train(
            state,
            training.step,
            training.batches,
            training.schedule,
            workdir,
            batch_size=run.flag("batch_size"),
            learning_rate=training.learning_rate,
        )
    except (InterruptedBySignal, NonFiniteLossError):
        hosts.leave()  # these come to all processes alike
        raise
    last = hosts.own_copy(last)
    hosts.leave()
    return evaluate_run(run, last, untrained, workdir) if hosts.is_writer() else None


def main(argv: Sequence[str]) -> None:
    del argv
    try:
        with plain_errors(flags.FLAGS), hosts.joined(cluster_of(flags.FLAGS)):
            table = pretrain(flags.FLAGS)
    except InterruptedBySignal as error:
        print(error, file=sys.stderr)
        sys.exit(128 + error.number)
    if table is not None:
        print(table)


if __name__ == "__main__":
    define_run_flags()
    flags.adopt_module_key_flags(run_flags)  # so that --help lists them
    run_main(main, __doc__)
