"""Several seeds of one run: a run folder for each, together or in turn, and their summary."""

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from absl import flags

from alphacl_jax.errors import RunError
from alphacl_jax.evaluation.report import format_table, over_seeds
from alphacl_jax.files import write_json_atomically
from alphacl_jax.runs.settings import LARGEST_SEED
from alphacl_jax.training.checkpoint import Checkpoints
from alphacl_jax.training.loop import NonFiniteLossError, train
from alphacl_jax.training.progress import Progress
from alphacl_jax.training.records import RunRecords
from alphacl_jax.training.seeds import (
    SeedsBatches,
    SeedsCheckpoints,
    SeedsRecorder,
    make_seeds_step,
    stack_states,
)
from experiments.run_flags import claim_workdir, locked, with_flags
from experiments.runs import Run, Training


def seeds_of(values: flags.FlagValues) -> range:
    """The seeds of the runs that the flags ask for.

    Raises:
      ValueError: for a seed that is too large, or a --seeds_as that would have no effect.
    """
    first, count = values.seed, values.num_seeds
    if count == 1 and values["seeds_as"].value != values["seeds_as"].default:
        raise ValueError("--seeds_as is set, and only --num_seeds=2 or more reads it")
    if first + count - 1 > LARGEST_SEED:
        raise ValueError(
            f"--seed={first} with --num_seeds={count} goes beyond the largest seed, {LARGEST_SEED}"
        )
    return range(first, first + count)


def pretrain_seeds(
    run: Run,
    training: Training,
    workdir: Path,
    pretrain_one: Callable[[Run, Training, Path], str | None],
) -> str:
    """Trains and evaluates a run for each seed, and returns the table over them.

    A run that has its evaluation is left alone; the others go on from their checkpoints.

    Args:
      run: of the first seed; what it holds but for its flags is that of every seed.
      training: of the first seed.
      workdir: gets a run folder seed-K for each seed, and seeds.json.
      pretrain_one: trains and evaluates one run in a folder of its own, or evaluates it where
        there is nothing left to train.

    Raises:
      RunError: where a run folder is in use, or holds a run with other flags.
      NonFiniteLossError: naming the seed.
    """
    seeds = seeds_of(run.values)
    folders = {seed: workdir / f"seed-{seed}" for seed in seeds}
    members = {
        seed: replace(run, values=with_flags(run.values, seed=seed, num_seeds=1, workdir=None))
        for seed in seeds
    }
    total = training.schedule.total_steps
    with ExitStack() as locks:
        for seed, folder in folders.items():
            claim_workdir(folder, members[seed].values)
            locks.enter_context(locked(folder))
        left = {seed: folder for seed, folder in folders.items() if not _evaluated(folder, total)}
        if done := [str(seed) for seed in seeds if seed not in left]:
            print(f"trained and evaluated already: seed {', '.join(done)}", file=sys.stderr)
        if _as_one_program(run):
            _train_together(
                run, training, {s: f for s, f in left.items() if not _trained(f, total)}
            )
        for seed, folder in left.items():
            own = replace(training, batches=training.batches.with_seed(seed))
            try:
                pretrain_one(members[seed], own, folder)
            except NonFiniteLossError as error:
                raise RunError(f"seed {seed}: {error}") from error
        return _summary(workdir, folders)


def _as_one_program(run: Run) -> bool:
    how = run.flag("seeds_as")
    on_cpu = run.mesh.devices.flat[0].platform == "cpu"
    return how == "vmap" or (how == "auto" and not on_cpu)


def _train_together(run: Run, training: Training, folders: dict[int, Path]) -> None:
    if len(folders) < 2:
        return  # what is left is an ordinary run
    print(
        f"seeds {', '.join(map(str, folders))} train together, as one program of "
        f"{training.schedule.total_steps:,} steps",
        file=sys.stderr,
        flush=True,
    )
    workdirs, seeds = list(folders.values()), list(folders)
    records = RunRecords(
        SeedsRecorder(workdirs),
        Progress(
            training.schedule.total_steps,
            run.method.unit,
            run.flag("batch_size") * len(folders),
            run.method.shown,
        ),
    )
    step = make_seeds_step(
        run.method, training.optimizer, run.make_batch, training.learning_rate, run.mesh
    )
    with closing(SeedsCheckpoints(workdirs)) as checkpoints:
        try:
            train(
                stack_states([training.init(seed) for seed in folders]),
                step,
                SeedsBatches([training.batches.with_seed(seed) for seed in folders]),
                training.schedule,
                checkpoints,
                records,
                mesh=run.mesh,
            )
        except NonFiniteLossError as error:
            raise RunError(f"seed {seeds[error.member or 0]}: {error}") from error


def _trained(folder: Path, total_steps: int) -> bool:
    if not (folder / "checkpoints").is_dir():
        return False
    checkpoints = Checkpoints(folder / "checkpoints", read_only=True)
    try:
        return total_steps in checkpoints.steps()
    finally:
        checkpoints.close()


def _evaluated(folder: Path, total_steps: int) -> bool:
    path = folder / "evaluation.json"
    return path.exists() and json.loads(path.read_text())["step"] == total_steps


def _summary(workdir: Path, folders: dict[int, Path]) -> str:
    """Writes seeds.json, and returns its table."""
    runs = {seed: json.loads((f / "evaluation.json").read_text()) for seed, f in folders.items()}
    figures = _figures_over(list(runs.values()))
    write_json_atomically(workdir / "seeds.json", {"over_seeds": figures, "runs": runs})
    ranks = figures["effective_rank"]
    names = [name for name in ranks if not name.endswith("_std")]
    text = ", ".join(f"{name} {ranks[name]:.1f} ± {ranks[f'{name}_std']:.1f}" for name in names)
    lines = [
        f"pictures and figures: {workdir}/seed-K; together: {workdir / 'seeds.json'}",
        f"mean ± standard deviation over {len(runs)} seeds, {min(runs)} to {max(runs)}",
        f"effective rank: {text}",
    ]
    if "accuracy" in figures:
        lines.append(format_table(figures["accuracy"]))
    return "\n".join(lines)


def _figures_over(evaluations: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation of every figure, however deep it lies, but for the step."""
    first = {name: value for name, value in evaluations[0].items() if name != "step"}
    nested = [name for name, value in first.items() if isinstance(value, dict)]
    figures: dict[str, Any] = over_seeds(
        [{name: e[name] for name in first if name not in nested} for e in evaluations]
    )
    return figures | {name: _figures_over([e[name] for e in evaluations]) for name in nested}
