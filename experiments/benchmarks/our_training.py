"""Our side of the training benchmark: a run's speed, the parts of its step, and its profile.

The functions run in processes of their own, with the flags of a training run as arguments.
"""

import contextlib
import os
import re
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from absl import flags
from jax import Array

import alphacl_jax as acl
from alphacl_jax.training.checkpoint import Checkpoints
from alphacl_jax.training.loop import Schedule, train
from alphacl_jax.training.progress import Progress
from alphacl_jax.training.records import Recorder, RunRecords, read_records
from experiments.benchmarks import benchmarking
from experiments.benchmarks.benchmarking import Call
from experiments.objectives import make_objective
from experiments.run_flags import define_run_flags
from experiments.runs import (
    Run,
    Training,
    make_encoder,
    make_projector,
    open_run,
    parse_block_size,
    prepare_training,
)


def parse(arguments: Sequence[str]) -> flags.FlagValues:
    """The flags of a run, as its command line would set them."""
    values = flags.FlagValues()
    define_run_flags(values)
    values(["run", *arguments])
    return values


def _open(arguments: Sequence[str]) -> tuple[Run, Training]:
    run = open_run(parse(arguments))
    return run, prepare_training(run)


def speed(arguments: Sequence[str], steps: int) -> dict[str, Any]:
    """Images/s of each stretch between two records of a run of `steps` steps; its peak memory.

    The run is the trainer's own, with its records and its last checkpoint. The first stretch, of
    which compilation is a part, is left out.
    """
    run, training = _open(arguments)
    state = training.init(run.flag("seed"))
    parameters = sum(p.size for p in jax.tree.leaves(state.params))
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere:
        progress = Progress(steps, run.method.unit, run.flag("batch_size"), stream=nowhere)
        with contextlib.closing(Checkpoints(Path(folder) / "checkpoints")) as checkpoints:
            train(
                state,
                training.step,
                training.batches,
                Schedule(steps, run.flag("log_every"), steps),
                checkpoints,
                RunRecords(Recorder(Path(folder)), progress),
                mesh=run.mesh,
            )
        rates = [r["images_per_second"] for r in read_records(Path(folder) / "metrics.jsonl")]
    return {
        "rates": rates[1:],
        "parameters": parameters,
        "peak_bytes": benchmarking.peak_resident_bytes(),
    }


def parts(arguments: Sequence[str], rounds: int) -> dict[str, float]:
    """Median milliseconds of the parts of a step, each compiled on its own, and of the whole.

    "model" is forward and backward of encoder and projector under a trivial loss; "data" gathers
    a batch.
    """
    run, training = _open(arguments)
    state = training.init(run.flag("seed"))
    batch = next(training.batches)
    make_views = jax.jit(run.views)
    views = make_views(jax.random.key(0), batch["images"])
    loss, z = _loss(run), _embeddings(run)
    value_and_gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))
    update = jax.jit(_update(training))
    model = jax.jit(jax.value_and_grad(_trivial_loss(run)))
    held = [training.init(run.flag("seed"))]  # the step reuses the memory of its state

    def step() -> None:
        held[0], metrics = training.step(held[0], batch, False)
        jax.block_until_ready((held[0], metrics))

    def done(function: Callable[..., Any], *inputs: Any) -> Call:
        return lambda: jax.block_until_ready(function(*inputs))

    calls = {
        "model": done(model, state.params, state.method_state, views),
        "augmentation": done(make_views, jax.random.key(0), batch["images"]),
        "loss": done(value_and_gradient, z),
        "optimiser": done(update, state.params, state.opt_state),
        "data": lambda: jax.block_until_ready(next(training.batches)),
        "step": step,
    }
    times = benchmarking.time_in_turn(calls, rounds)
    return {name: 1e3 * statistics.median(of_part) for name, of_part in times.items()}


def _trivial_loss(run: Run) -> Callable[[Any, Any, Array], Array]:
    """Mean square of the projector's output over both views: the model and next to nothing else."""
    modules = {
        "encoder": make_encoder(run.values, run.dataset.image_shape),
        "projector": make_projector(run.values),
    }

    def loss(params: Any, state: Any, views: Array) -> Array:
        x = views.reshape(-1, *views.shape[2:])
        for name, module in modules.items():
            variables = {"params": params[name], "batch_stats": state[name]}
            x, _ = module.apply(variables, x, train=True, mutable=["batch_stats"])
        return jnp.mean(jnp.square(x))

    return loss


def _embeddings(run: Run) -> Array:
    shape = (2, run.flag("batch_size"), run.flag("projector_dim"))
    return acl.l2_normalize(jax.random.normal(jax.random.key(1), shape))


def _loss(run: Run) -> Callable[[Array], tuple[Array, Any]]:
    """Loss and statistics as the trainer's method has them, of embeddings `[2, batch, dim]`."""
    objective = make_objective(run.values)
    function: Any = acl.alpha_cl_loss if isinstance(objective, acl.Rule) else acl.contrastive_loss
    block_size = parse_block_size(run.flag("block_size"))

    def loss(z: Array) -> tuple[Array, Any]:
        value = function(z[0], z[1], objective, block_size=block_size)
        return value, acl.statistics(z[0], z[1], objective, block_size=block_size)

    return loss


def _update(training: Training) -> Callable[[Any, Any], Any]:
    def update(params: Any, opt_state: Any) -> Any:
        updates, opt_state = training.optimizer.update(params, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    return update


def profile(arguments: Sequence[str], steps: int, top: int) -> list[tuple[str, float, float]]:
    """The operations of the compiled step that take the most time: what, ms per step, share.

    An operation is named by where in the program it comes from; those of the same origin (the
    parts of a convolution's weight gradient) are added up. Times are those of all threads.
    """
    run, training = _open(arguments)
    state, batch = training.init(run.flag("seed")), next(training.batches)
    step = training.step.lower(state, batch, False).compile()  # type: ignore[attr-defined]
    origins = _origins(step.as_text())
    state, _ = step(state, batch, False)
    jax.block_until_ready(state)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(steps):
                state, _ = step(state, batch, False)
            jax.block_until_ready(state)
        (path,) = Path(folder).rglob("*.xplane.pb")
        data = jax.profiler.ProfileData.from_file(str(path))
    spent: dict[str, float] = defaultdict(float)
    for plane in data.planes:
        for line in plane.lines:
            for event in line.events:
                if event.name in origins:
                    spent[origins[event.name]] += event.duration_ns / 1e6 / steps
    total = sum(spent.values())
    largest = sorted(spent, key=lambda name: -spent[name])[:top]
    return [(name, spent[name], spent[name] / total) for name in largest]


def _origins(program: str) -> dict[str, str]:
    """Instruction of a compiled program → the line of the model that it stems from, shortened."""
    found = {}
    for match in re.finditer(r'%?([\w.-]+) = .*?op_name="([^"]*)"', program):
        name = re.sub(r"jit\(\w+\)/|shard_map/|pjit/", "", match[2])
        found[match[1]] = name[-90:]
    return found
