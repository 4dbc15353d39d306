"""The state that a run starts from: drawn by its seed, or with another run's encoder in it."""

from typing import Any

import jax
import jax.numpy as jnp

from alphacl_jax.errors import ArgumentError, RunError, differences
from alphacl_jax.runs.encoder import Encoder, load_encoder
from alphacl_jax.runs.networks import has_small_stem
from alphacl_jax.runs.settings import ModelSettings, RunSettings
from alphacl_jax.training.checkpoint import UnusableCheckpointsError
from alphacl_jax.training.state import TrainState


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


def encoder_to_start_from(
    settings: RunSettings, image_shape: tuple[int, int, int]
) -> Encoder | None:
    """The encoder of the other run that the settings name; None where they name none.

    Args:
      settings: of the run that is to start from it.
      image_shape: (height, width, channels) of that run's images.

    Raises:
      ArgumentError: where it cannot be loaded, or is not of the same architecture.
    """
    path = settings.model.init_from
    if path is None:
        return None
    try:
        other = load_encoder(path)
    except (RunError, UnusableCheckpointsError) as error:
        raise ArgumentError("init_from", path, f"cannot be loaded: {error}") from error
    there, here = (
        _architecture(of.model, shape)
        for of, shape in (
            (other.settings, other.preprocessing.image_shape),
            (settings, image_shape),
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
