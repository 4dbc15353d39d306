"""Several seeds of one run: a run folder for each, together or in turn, and their summary."""

import json
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from alphacl_jax.evaluation.report import format_table, verdicts
from alphacl_jax.files import write_json_atomically
from alphacl_jax.runs.any_run import AnyRun, Training
from alphacl_jax.runs.description import AnyDescription
from alphacl_jax.runs.evaluation import figures_over
from alphacl_jax.runs.folder import checkpoints_of, claim_workdir, locked, saved_steps
from alphacl_jax.runs.probes import hook_of_seeds
from alphacl_jax.runs.records import open_records
from alphacl_jax.runs.train_run import described
from alphacl_jax.training import hosts
from alphacl_jax.training.loop import Hook, NonFiniteLossError, train
from alphacl_jax.training.seeds import (
    SeedsBatches,
    SeedsCheckpoints,
    make_seeds_step,
    stack_states,
)
from alphacl_jax.training.state import TrainState


def pretrain_seeds(
    run: AnyRun,
    training: Training,
    workdir: Path,
    seeds_as: str,
    pretrain_one: Callable[[Any, Training, Path], str | None],
    lines_of: Callable[[dict[str, Any]], list[str]] | None = None,
) -> str:
    """Trains and evaluates a run for each seed, and returns the table over them.

    A run that has its evaluation is left alone; the others go on from their checkpoints.

    Args:
      run: of the first seed; what it holds but for its settings is that of every seed.
      training: of the first seed.
      workdir: gets a run folder seed-K for each seed, and seeds.json.
      seeds_as: "vmap" (as one program), "sequential", or "auto": vmap but on a CPU.
      pretrain_one: trains and evaluates one run in a folder of its own, or evaluates it where
        there is nothing left to train.
      lines_of: what shows the figures over the runs, `figures_over` their evaluations; None for
        those of images.

    Raises:
      RunError: where a run folder is in use, or holds a run with other settings.
      NonFiniteLossError: naming the seed.
    """
    seeds = run.settings.seeds
    folders = {seed: workdir / f"seed-{seed}" for seed in seeds}
    members = {
        seed: run.with_settings(replace(run.settings, seed=seed, num_seeds=1)) for seed in seeds
    }
    total, data = training.schedule.total_steps, run.describe(training.batches)
    with ExitStack() as locks:
        for seed, folder in folders.items():
            claim_workdir(folder, members[seed].settings, data)
            locks.enter_context(locked(folder))
        left = {seed: folder for seed, folder in folders.items() if not _evaluated(folder, total)}
        if done := [str(seed) for seed in seeds if seed not in left]:
            print(f"trained and evaluated already: seed {', '.join(done)}", file=sys.stderr)
        if _as_one_program(run, seeds_as):
            _train_together(
                members, training, {s: f for s, f in left.items() if total not in saved_steps(f)}
            )
        for seed, folder in left.items():
            own = replace(training, batches=training.batches.with_seed(seed))
            try:
                pretrain_one(members[seed], own, folder)
            except NonFiniteLossError as error:
                _name(error, seed)
                raise
        return _summary(workdir, folders, lines_of or _lines_of)


def _name(error: NonFiniteLossError, seed: int) -> None:
    """Has the error name the seed."""
    error.args = (f"seed {seed}: {error}",)


def _as_one_program(run: AnyRun, seeds_as: str) -> bool:
    on_cpu = run.mesh.devices.flat[0].platform == "cpu"
    return seeds_as == "vmap" or (seeds_as == "auto" and not on_cpu)


def _train_together(
    members: dict[int, AnyRun], training: Training, folders: dict[int, Path]
) -> None:
    if len(folders) < 2:
        return  # what is left is an ordinary run
    print(
        f"seeds {', '.join(map(str, folders))} train together, as one program of "
        f"{training.schedule.total_steps:,} steps",
        file=sys.stderr,
        flush=True,
    )
    seeds = list(folders)
    run = members[seeds[0]]
    descriptions = {seed: described(run, training, f) for seed, f in folders.items()}
    checkpoints = SeedsCheckpoints([checkpoints_of(folder) for folder in folders.values()])
    step = make_seeds_step(
        run.method, training.optimizer, run.make_batch, training.learning_rate, run.mesh
    )
    states = {seed: members[seed].start(training.init) for seed in seeds}
    hooks = _probes(members, training, descriptions, states)
    stacked = stack_states(list(states.values()))
    del states  # or their memory would be held to the end
    try:
        train(
            stacked,
            step,
            SeedsBatches([training.batches.with_seed(seed) for seed in seeds]),
            training.schedule,
            checkpoints,
            open_records(run, training, list(folders.values())),
            hooks,
            mesh=run.mesh,
            data_changed=any(own.data_changes for own in descriptions.values()),
        )
    except NonFiniteLossError as error:
        _name(error, seeds[error.member or 0])
        raise
    finally:
        checkpoints.close()


def _probes(
    members: Mapping[int, AnyRun],
    training: Training,
    descriptions: Mapping[int, AnyDescription],
    states: Mapping[int, TrainState],
) -> list[Hook]:
    """What looks at the features of all members at once, where the settings ask for it."""
    first = next(iter(members.values()))
    if not first.settings.evaluation.probe_every:
        return []  # and no encoder of the first states is kept
    untrained = {
        f"seed {seed}: ": members[seed].encoder(
            descriptions[seed], hosts.own_copy(state._replace(opt_state=()))
        )
        for seed, state in states.items()
    }
    return [hook_of_seeds(first.hooks(training, untrained))]


def _evaluated(folder: Path, total_steps: int) -> bool:
    figures = _figures(folder)
    return figures is not None and figures["step"] == total_steps


def _figures(folder: Path) -> dict[str, Any] | None:
    """What the evaluation of a run found; None where there is none, or it cannot be read."""
    try:
        figures = json.loads((folder / "evaluation.json").read_text())
    except (OSError, ValueError, RecursionError):
        return None
    return figures if isinstance(figures, dict) and "step" in figures else None


def _summary(
    workdir: Path, folders: dict[int, Path], lines_of: Callable[[dict[str, Any]], list[str]]
) -> str:
    """Writes seeds.json, and returns its table."""
    found = {seed: _figures(folder) for seed, folder in folders.items()}
    runs = {seed: figures for seed, figures in found.items() if figures is not None}
    if not runs:
        return f"not evaluated; the runs are in {workdir}/seed-K"
    figures = figures_over(list(runs.values()))
    write_json_atomically(workdir / "seeds.json", {"over_seeds": figures, "runs": runs})
    lines = [
        f"pictures and figures: {workdir}/seed-K; together: {workdir / 'seeds.json'}",
        f"mean ± standard deviation over {len(runs)} seeds, {min(runs)} to {max(runs)}",
        *lines_of(figures),
    ]
    return "\n".join(lines)


def _lines_of(figures: dict[str, Any]) -> list[str]:
    """What is shown of the figures of several runs on images."""
    ranks = figures["effective_rank"]
    names = [name for name in ranks if not name.endswith("_std")]
    text = ", ".join(f"{name} {ranks[name]:.1f} ± {ranks[f'{name}_std']:.1f}" for name in names)
    lines = [f"effective rank: {text}"]
    if "accuracy" in figures:
        lines += [format_table(figures["accuracy"]), *verdicts(figures["accuracy"])]
    return lines
