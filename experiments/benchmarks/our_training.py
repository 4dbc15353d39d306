"""Our side of the training benchmark: a run's speed, the parts of its step, and its profile.

The functions run in processes of their own.
"""

import contextlib
import os
import re
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

import alphacl_jax as acl
from alphacl_jax.runs.any_run import Training, count_parameters, prepare_training
from alphacl_jax.runs.folder import checkpoints_of, records_of
from alphacl_jax.runs.networks import make_encoder, make_projector
from alphacl_jax.runs.objectives import make_objective
from alphacl_jax.runs.records import open_records
from alphacl_jax.runs.run import Run, open_run
from alphacl_jax.runs.settings import ContrastiveSettings, RunSettings
from alphacl_jax.training.checkpoint import Checkpoints
from alphacl_jax.training.loop import Schedule, train
from alphacl_jax.training.mesh import data_mesh
from alphacl_jax.training.records import read_records
from experiments.benchmarks import benchmarking, memory
from experiments.benchmarks.benchmarking import Call


def _open(settings: RunSettings) -> tuple[Run, Training]:
    run = open_run(settings, data_mesh())
    return run, prepare_training(run)


def speed(settings: RunSettings, steps: int) -> dict[str, Any]:
    """Images/s of each stretch between two records of a run of `steps` steps; its peak memory.

    The run is the trainer's own, with its records and its last checkpoint. The first stretch, of
    which compilation is a part, is left out.
    """
    run, training = _open(settings)
    state = training.init(settings.seed)
    parameters = count_parameters(state)
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere:
        workdir = Path(folder)
        checkpoints = Checkpoints(checkpoints_of(workdir))
        with contextlib.redirect_stderr(nowhere):  # the progress
            train(
                state,
                training.step,
                training.batches,
                Schedule(steps, settings.evaluation.log_every, steps),
                checkpoints,
                open_records(run, training, [workdir]),
                mesh=run.mesh,
            )
        checkpoints.close()
        rates = [r["images_per_second"] for r in read_records(records_of(workdir))]
    return {
        "rates": rates[1:],
        "parameters": parameters,
        "peak_bytes": memory.peak_bytes_of_jax(),
    }


def parts(settings: RunSettings, rounds: int) -> dict[str, float]:
    """Median milliseconds of the parts of a step, each compiled on its own, and of the whole.

    "model" is forward and backward of encoder and projector under a trivial loss; "data" gathers
    a batch.
    """
    run, training = _open(settings)
    state = training.init(settings.seed)
    batch = next(training.batches)
    make_batch = jax.jit(run.make_batch)
    views = make_batch(jax.random.key(0), batch)["views"]
    loss, z = _loss(run), _embeddings(run)
    value_and_gradient = jax.jit(jax.value_and_grad(loss))
    update = jax.jit(_update(training))
    model = jax.jit(jax.value_and_grad(_trivial_loss(run)))
    held = [training.init(settings.seed)]  # the step reuses the memory of its state

    def step() -> None:
        held[0], metrics = training.step(held[0], batch, False)
        jax.block_until_ready((held[0], metrics))

    def done(function: Callable[..., Any], *inputs: Any) -> Call:
        return lambda: jax.block_until_ready(function(*inputs))

    calls = {
        "model": done(model, state.params, state.method_state, views),
        "augmentation": done(make_batch, jax.random.key(0), batch),
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
        "encoder": make_encoder(run.settings.model, run.dataset.image_shape),
        "projector": make_projector(run.settings.model),
    }

    def loss(params: Any, state: Any, views: Array) -> Array:
        x = views.reshape(-1, *views.shape[2:])
        for name, module in modules.items():
            variables = {"params": params[name], "batch_stats": state[name]}
            x, _ = module.apply(variables, x, train=True, mutable=["batch_stats"])
        return jnp.mean(jnp.square(x))

    return loss


def _embeddings(run: Run) -> Array:
    shape = (2, run.settings.optimizer.batch_size, run.settings.model.projector_dim)
    return acl.l2_normalize(jax.random.normal(jax.random.key(1), shape))


def _loss(run: Run) -> Callable[[Array], Array]:
    """The loss as the trainer's method has it on most steps, of embeddings `[2, batch, dim]`."""
    own = run.settings.method
    assert isinstance(own, ContrastiveSettings)
    objective = make_objective(own)
    function: Any = acl.alpha_cl_loss if isinstance(objective, acl.Rule) else acl.contrastive_loss

    def loss(z: Array) -> Array:
        value: Array = function(z[0], z[1], objective, block_size="auto")
        return value

    return loss


def _update(training: Training) -> Callable[[Any, Any], Any]:
    def update(params: Any, opt_state: Any) -> Any:
        updates, opt_state = training.optimizer.update(params, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    return update


def profile(settings: RunSettings, steps: int, top: int) -> list[tuple[str, float, float]]:
    """The operations of the compiled step that take the most time: what, ms per step, share.

    An operation is named by where in the program it comes from; those of the same origin (the
    parts of a convolution's weight gradient) are added up. Times are those of all threads.
    """
    _, training = _open(settings)
    state, batch = training.init(settings.seed), next(training.batches)
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
