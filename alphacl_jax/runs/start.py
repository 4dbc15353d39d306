"""The state that a run starts from: drawn by its seed, or with another run's encoder in it."""

from typing import Any

import jax
import jax.numpy as jnp

from alphacl_jax.data.batches import raw_shapes
from alphacl_jax.errors import ArgumentError, RunError, differences
from alphacl_jax.runs.encoder import Encoder, load_encoder
from alphacl_jax.runs.networks import has_small_stem
from alphacl_jax.runs.run import Run, Training
from alphacl_jax.runs.settings import ModelSettings
from alphacl_jax.training.checkpoint import UnusableCheckpointsError
from alphacl_jax.training.state import TrainState


def check_start(run: Run) -> None:
    """Refuses what the run cannot start from, before there is a folder for it.

    Raises:
      ArgumentError: see `encoder_to_start_from`, and for views or networks that the method cannot
        be started with.
    """
    key, raw = jax.random.key(0), raw_shapes(run.dataset.image_shape, 2)
    batch = jax.eval_shape(run.make_batch, key, raw)
    jax.eval_shape(run.method.init, key, {**batch, "recorded": jax.ShapeDtypeStruct((), bool)})
    if run.settings.model.init_from is not None:
        encoder_to_start_from(run)


def start_state(run: Run, training: Training) -> TrainState:
    """The state before the first step, with the encoder of another run where settings name one."""
    state = training.init(run.settings.seed)
    if run.settings.model.init_from is None:
        return state
    return with_encoder(state, encoder_to_start_from(run))


def with_encoder(state: TrainState, other: Encoder) -> TrainState:
    """A state with the weights of another encoder, which stay that encoder's own too."""
    placed = jax.tree.map(
        # A copy, since the step gives up the memory of its state.
        lambda mine, its: jax.device_put(jnp.array(its, copy=True), mine.sharding),
        encoder_variables(state),
        other.variables,
    )
    return state._replace(
        params={**state.params, "encoder": placed["params"]},
        method_state={**state.method_state, "encoder": placed["batch_stats"]},
    )


def encoder_variables(state: TrainState) -> dict[str, Any]:
    """Those of the encoder in a state, as in `Encoder.variables`."""
    return {"params": state.params["encoder"], "batch_stats": state.method_state["encoder"]}


def encoder_to_start_from(run: Run) -> Encoder:
    """The encoder of the other run that the settings name.

    Raises:
      ArgumentError: where it cannot be loaded, or is not of the same architecture.
    """
    path = run.settings.model.init_from
    assert path is not None
    try:
        other = load_encoder(path)
    except (RunError, UnusableCheckpointsError) as error:
        raise ArgumentError("init_from", path, f"cannot be loaded: {error}") from error
    there, here = (
        _architecture(settings.model, shape)
        for settings, shape in (
            (other.settings, other.preprocessing.image_shape),
            (run.settings, run.dataset.image_shape),
        )
    )
    if there != here:
        listed = differences(
            {name: (there[name], here[name]) for name in there if there[name] != here[name]}
        )
        raise ArgumentError(
            "init_from", path, f"holds another encoder: {listed}. Give this run the same"
        )
    return other


def _architecture(model: ModelSettings, image_shape: tuple[int, int, int]) -> dict[str, object]:
    """What two encoders must share for one to have the other's weights."""
    return {
        "encoder": model.encoder,
        "widths": model.widths if model.encoder == "small" else None,
        "stem": "small" if has_small_stem(model, image_shape) else "large",
        "encoder_norm": model.encoder_norm,
        "channels": image_shape[2],
    }
