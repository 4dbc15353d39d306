"""Cells of the nonlinearity tables as training runs: cells of equal shape are one program."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax import Array

from alphacl_jax.errors import ArgumentError
from alphacl_jax.theory.tokens.network import Variant
from alphacl_jax.theory.tokens.sequences import (
    Patterns,
    TokenSetting,
    draw_patterns,
    token_embeddings,
    tokens_of_locations,
)
from alphacl_jax.theory.tokens.training import Recipe, Run, train_runs
from experiments.benchmarks import benchmarking
from experiments.theory.lab import progress
from experiments.theory.nonlinearity_tables import Cell

# Of the keys that are made of a seed.
_PATTERNS, _EMBEDDINGS, _TRAINING = range(3)

# What a run takes beside the time of its filters, in units of the time of one filter a location.
_FIXED_COST = 75


@dataclass(frozen=True)
class Condition:
    """What the tables differ in, and what T2's slides leave open.

    Attributes:
      linear: whether the activation is the identity, instead of ReLU.
      batch_norm: whether the hidden layer is normalised.
      variance_gradient: whether BatchNorm's variance carries gradient.
      scales: lengths of the token embeddings, one for each token; none for unit length.
      learning_rate: of SGD.
    """

    linear: bool = False
    batch_norm: bool = True
    variance_gradient: bool = False
    scales: tuple[float, ...] = ()
    learning_rate: float = 0.02


@dataclass(frozen=True)
class Job:
    """A cell under a condition."""

    cell: Cell
    condition: Condition


@dataclass(frozen=True)
class Result:
    """What came of a job.

    Attributes:
      steps: at which it was recorded, `[records]`; the last is the end.
      quality: χ̄₊, `[records, seeds]`.
      cosines: of the first seed, between filters and embeddings,
        `[records, locations, filters, tokens]`.
      relevant: of the first seed, which tokens occur in patterns, `[locations, tokens]`.
      seconds: the time of its program, shared equally by the program's runs, for one seed.
    """

    steps: tuple[int, ...]
    quality: np.ndarray
    cosines: np.ndarray
    relevant: np.ndarray
    seconds: float


def define_data_flags(values: flags.FlagValues) -> None:
    """Defines the flags of the data and the recipe on `values`."""

    def integer(name: str, default: int, text: str) -> None:
        flags.DEFINE_integer(name, default, text, flag_values=values)

    integer("num_seeds", 5, "Runs of each cell, of --seed and the seeds after it.")
    integer("steps", 5000, "Training steps.")
    integer("batch_size", 128, "Samples a step, two views each.")
    integer("locations", 10, "Length of a sequence.")
    integer("tokens", 20, "Size of the vocabulary.")
    integer("patterns", 40, "Number of patterns.")
    integer("fixed", 5, "Locations that a pattern fixes; the others are wildcards.")
    integer("redrawn", 5, "Wildcards that the second view redraws at most.")
    integer("dim", 0, "Of the token embeddings: one-hot where it is --tokens (or 0), else random.")


def token_setting(
    locations: int, tokens: int, patterns: int, fixed: int, redrawn: int
) -> TokenSetting:
    """Data with something to be found in it.

    Raises:
      ArgumentError: for sizes that do not fit, or patterns that fix no token.
    """
    if fixed < 1:
        raise ArgumentError("fixed", fixed, "leaves no token to be found; it must be at least 1")
    return TokenSetting(locations, tokens, patterns, fixed, redrawn)


def seeds_from(first: int, num_seeds: int) -> range:
    """The seeds of every cell.

    Raises:
      ArgumentError: for none.
    """
    if num_seeds < 1:
        raise ArgumentError("num_seeds", num_seeds, "trains nothing; it must be at least 1")
    return range(first, first + num_seeds)


def record_steps(steps: int) -> tuple[int, ...]:
    """When a training of so many steps is recorded: the start, early and later stages, the end.

    Raises:
      ArgumentError: steps < 1.
    """
    if steps < 1:
        raise ArgumentError("steps", steps, "trains nothing; it must be at least 1")
    return tuple(sorted({0, steps // 500, steps // 100, steps // 10, steps}))


def train_jobs(
    jobs: Sequence[Job],
    seeds: Sequence[int],
    setting: TokenSetting,
    recipe: Recipe,
    *,
    steps: int,
    dim: int = 0,
) -> dict[Job, Result]:
    """Trains every job with every seed; jobs with equally many filters train side by side.

    Runs of one seed and equal P share patterns and, with equally many filters, initial weights
    and batches: columns of a table are compared on the same draws.

    Raises:
      ValueError: for sizes that do not fit (see `TokenSetting`, `draw_patterns`), no step.
    """
    stages = record_steps(steps)
    keys = jax.vmap(jax.random.key)(np.asarray(seeds, np.uint32))
    patterns = {
        p: jax.vmap(lambda key, p=p: draw_patterns(jax.random.fold_in(key, _PATTERNS), setting, p))(
            keys
        )
        for p in sorted({job.cell.per_location for job in jobs})
    }
    embeddings = jax.vmap(
        lambda key: token_embeddings(
            jax.random.fold_in(key, _EMBEDDINGS), setting.tokens, dim or setting.tokens
        )
    )(keys)
    groups: dict[int, list[Job]] = {}
    for job in sorted(jobs, key=lambda job: job.cell.filters):
        groups.setdefault(job.cell.filters, []).append(job)

    def train_group(group: list[Job]) -> dict[Job, Result]:
        parts = [_runs(job, keys, patterns[job.cell.per_location], embeddings) for job in group]
        runs = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)
        return _train_group(group, runs, len(seeds), setting, recipe, stages)

    # A step of these small networks keeps one core busy: groups go through side by side, the
    # longest first.
    order = sorted(groups, key=lambda filters: -len(groups[filters]) * (_FIXED_COST + filters))
    results: dict[Job, Result] = {}
    with ThreadPoolExecutor(benchmarking.usable_cores()) as pool:
        done = as_completed([pool.submit(train_group, groups[filters]) for filters in order])
        try:
            for _ in progress(order, lambda _: "groups of networks of one size"):
                results |= next(done).result()
        finally:
            pool.shutdown(cancel_futures=True)
    return results


def _train_group(
    group: Sequence[Job],
    runs: Run,
    seeds: int,
    setting: TokenSetting,
    recipe: Recipe,
    stages: Sequence[int],
) -> dict[Job, Result]:
    """Jobs of equally many filters, as one program; `runs` holds the seeds of each in turn."""
    started = time.monotonic()
    records = [
        (record.step, np.asarray(record.quality), np.asarray(record.cosines))
        for record in train_runs(
            runs, setting, recipe, filters=group[0].cell.filters, record_at=stages
        )
    ]
    seconds = time.monotonic() - started
    relevant = jax.vmap(lambda p: tokens_of_locations(p, setting.tokens))(runs.patterns)
    results = {}
    for i, job in enumerate(group):
        first, end = i * seeds, (i + 1) * seeds
        results[job] = Result(
            steps=tuple(step for step, _, _ in records),
            quality=np.stack([quality[first:end] for _, quality, _ in records]),
            cosines=np.stack([cosines[first] for _, _, cosines in records]),
            relevant=np.asarray(relevant[first]),
            seconds=seconds / (len(group) * seeds),
        )
    return results


def _runs(job: Job, keys: Array, patterns: Patterns, embeddings: Array) -> Run:
    """A job's runs, one for each seed."""
    condition, seeds = job.condition, keys.shape[0]
    scales = np.asarray(condition.scales or np.ones(embeddings.shape[1]), np.float32)
    switches = (condition.linear, condition.batch_norm, condition.variance_gradient)
    return Run(
        key=jax.vmap(lambda key: jax.random.fold_in(key, _TRAINING))(keys),
        patterns=patterns,
        embeddings=embeddings * scales[None, :, None],
        variant=Variant(*(jnp.full(seeds, switch) for switch in switches)),
        learning_rate=jnp.full(seeds, condition.learning_rate),
    )
