"""The training step, and the state that it starts from."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from alphacl_jax.methods.method import Batch, Method, Metrics
from alphacl_jax.models.conv import compiler_options
from alphacl_jax.training.state import TrainState, step_key

MakeViews = Callable[[Array, Array], Array]


def data_mesh() -> Mesh:
    """All devices along one axis, "data", over which batches are spread.

    Those of a process lie side by side, so that each process has one piece of every batch.
    """
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    return Mesh(np.array(devices), ("data",), axis_types=(AxisType.Auto,))


def make_init(
    method: Method,
    optimizer: optax.GradientTransformation,
    view_shape: tuple[int, ...],
    mesh: Mesh,
) -> Callable[[int], TrainState]:
    """Compiles `seed -> state before the first step`, the same on each device of the mesh.

    Args:
      method: what is trained.
      optimizer: whose state it holds.
      view_shape: the shape of one view of one sample, such as (height, width, channels).
      mesh: the devices.
    """

    def init(key: Array) -> TrainState:
        init_key, run_key = jax.random.split(key)
        # Shapes and random draws are all that initialising reads of a batch.
        batch = {"views": jnp.zeros((2, 2, *view_shape))}
        params, method_state = method.init(init_key, batch)
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            method_state=method_state,
            opt_state=optimizer.init(params),
            key=jax.random.key_data(run_key),
        )

    # Run once: on a CPU, optimising the random draws takes far longer than making them.
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    options = {"xla_backend_optimization_level": 0} if on_cpu else None
    compiled = jax.jit(init, out_shardings=NamedSharding(mesh, P()), compiler_options=options)
    return lambda seed: compiled(jax.random.key(seed))


def step_of(
    method: Method, optimizer: optax.GradientTransformation, make_views: MakeViews
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """The step `(state, batch) -> (state, metrics)`, not compiled.

    Args:
      method: what is trained.
      optimizer: from `make_optimizer`.
      make_views: `(key, images [batch, ...]) -> views [batch, 2, ...]`, run on the device.
    """

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        view_key, loss_key = jax.random.split(step_key(state))
        views = make_views(view_key, batch["images"])
        inputs = {"views": views, "labels": batch["labels"]}

        def loss_of(params: Any) -> tuple[Array, tuple[Any, Metrics]]:
            return method.loss(params, state.method_state, inputs, loss_key)

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
        }

    return train_step


def make_train_step(
    method: Method,
    optimizer: optax.GradientTransformation,
    make_views: MakeViews,
    mesh: Mesh,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """Compiles `(state, batch) -> (state, metrics)`; the state's memory is reused.

    Args:
      method, optimizer, make_views: as in `step_of`.
      mesh: the devices. The batch is spread over its "data" axis, the state is on each device;
        the step is written for the whole batch, and the compiler places it.
    """
    replicated, spread = NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))
    return jax.jit(
        step_of(method, optimizer, make_views),
        donate_argnums=0,
        in_shardings=(replicated, spread),
        out_shardings=(replicated, replicated),
        compiler_options=compiler_options(),
    )
