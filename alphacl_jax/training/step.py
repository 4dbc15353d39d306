"""The training step, and the state that it starts from."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from alphacl_jax.methods.method import Batch, Method, Metrics
from alphacl_jax.training.compiler import compiler_options
from alphacl_jax.training.state import TrainState, step_key

# Makes the method's batch, on the device, from a random key and what the data yields.
MakeBatch = Callable[[Array, Batch], Batch]


def init_of(
    method: Method,
    optimizer: optax.GradientTransformation,
    make_batch: MakeBatch,
    raw_shapes: Mapping[str, jax.ShapeDtypeStruct],
) -> Callable[[Array], TrainState]:
    """The function `key -> state before the first step`, not compiled.

    Args:
      method: what is trained.
      optimizer: whose state it holds.
      make_batch: as in `step_of`; its output's shapes and types are all that is asked of it here.
      raw_shapes: of what the data yields, by name; the leading axis, of samples, may have any
        length.
    """
    two = {
        name: jax.ShapeDtypeStruct((2, *raw.shape[1:]), raw.dtype)
        for name, raw in raw_shapes.items()
    }
    shapes = jax.eval_shape(make_batch, jax.random.key(0), two)

    def init(key: Array) -> TrainState:
        init_key, run_key = jax.random.split(key)
        batch = jax.tree.map(lambda of: jnp.zeros(of.shape, of.dtype), shapes)
        params, method_state = method.init(init_key, {**batch, "recorded": jnp.array(False)})
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            method_state=method_state,
            opt_state=optimizer.init(params),
            key=jax.random.key_data(run_key),
        )

    return init


def make_init(
    method: Method,
    optimizer: optax.GradientTransformation,
    make_batch: MakeBatch,
    raw_shapes: Mapping[str, jax.ShapeDtypeStruct],
    mesh: Mesh,
) -> Callable[[int], TrainState]:
    """Compiles `seed -> state before the first step`, the same on each device of the mesh.

    Args:
      method, optimizer, make_batch, raw_shapes: as in `init_of`.
      mesh: the devices.
    """
    init = init_of(method, optimizer, make_batch, raw_shapes)
    # Run once: on a CPU, optimising the random draws takes far longer than making them.
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    options = {"xla_backend_optimization_level": 0} if on_cpu else None
    compiled = jax.jit(init, out_shardings=NamedSharding(mesh, P()), compiler_options=options)
    return lambda seed: compiled(jax.random.key(seed))


def step_of(
    method: Method,
    optimizer: optax.GradientTransformation,
    make_batch: MakeBatch,
    learning_rate: optax.Schedule,
) -> Callable[[TrainState, Batch, Array], tuple[TrainState, Metrics]]:
    """The step `(state, raw batch, recorded) -> (state, metrics)`, not compiled.

    Its metrics are the method's, "loss", "gradient_norm", "parameter_norm" (after the step) and
    "learning_rate".

    Args:
      method: what is trained.
      optimizer: from `make_optimizer`.
      make_batch: `(key, raw batch) -> batch of the method`, run on the device.
      learning_rate: the one that the optimizer was made with; it is reported alone.
    """

    def train_step(state: TrainState, raw: Batch, recorded: Array) -> tuple[TrainState, Metrics]:
        view_key, loss_key = jax.random.split(step_key(state))
        batch = {**make_batch(view_key, raw), "recorded": recorded}

        def loss_of(params: Any) -> tuple[Array, tuple[Any, Metrics]]:
            return method.loss(params, state.method_state, batch, loss_key)

        (loss, (method_state, metrics)), gradients = jax.value_and_grad(loss_of, has_aux=True)(
            state.params
        )
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        new_state = TrainState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            method_state=method_state,
            opt_state=opt_state,
            key=state.key,
        )
        return new_state, {
            **metrics,
            "loss": loss,
            "gradient_norm": optax.tree.norm(gradients),
            "parameter_norm": optax.tree.norm(new_state.params),
            "learning_rate": jnp.asarray(learning_rate(state.step)),
        }

    return train_step


def make_train_step(
    method: Method,
    optimizer: optax.GradientTransformation,
    make_batch: MakeBatch,
    learning_rate: optax.Schedule,
    mesh: Mesh,
) -> Callable[[TrainState, Batch, bool], tuple[TrainState, Metrics]]:
    """Compiles `(state, raw batch, recorded) -> (state, metrics)`; the state's memory is reused.

    One program serves recorded steps and others.

    Args:
      method, optimizer, make_batch, learning_rate: as in `step_of`.
      mesh: the devices. The batch is spread over its "data" axis, the state is on each device;
        the step is written for the whole batch, and the compiler places it.
    """
    replicated, spread = NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))
    return jax.jit(
        step_of(method, optimizer, make_batch, learning_rate),
        donate_argnums=0,
        in_shardings=(replicated, spread, replicated),
        out_shardings=(replicated, replicated),
        compiler_options=compiler_options(),
    )
