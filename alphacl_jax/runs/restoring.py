"""The newest state of a run, read from its folder."""

from collections.abc import Callable
from pathlib import Path

import jax
from jax import Array
from jax.sharding import SingleDeviceSharding

from alphacl_jax.errors import RunError
from alphacl_jax.runs.common_settings import AnyRunSettings
from alphacl_jax.runs.folder import checkpoints_of
from alphacl_jax.training.checkpoint import Checkpoints
from alphacl_jax.training.state import TrainState


def require_one_seed(folder: Path, settings: AnyRunSettings) -> None:
    """Refuses a folder of the runs of several seeds.

    Raises:
      RunError: naming the folder of one of them.
    """
    if settings.num_seeds > 1:
        raise RunError(
            f"{folder} holds {settings.num_seeds} runs, one per seed: give one of them, such as "
            f"{folder / f'seed-{settings.seed}'}"
        )


def newest_of(folder: Path, make_init: Callable[[], Callable[[Array], TrainState]]) -> TrainState:
    """The state in a run's newest good checkpoint, on the first device.

    Args:
      folder: of the run.
      make_init: makes the function `key -> state` of which the shapes are read; it is not run.

    Raises:
      RunError: where there is none yet.
      UnusableCheckpointsError: where there are checkpoints and all are damaged.
    """
    restored = None
    if checkpoints_of(folder).is_dir():
        checkpoints = Checkpoints(checkpoints_of(folder), read_only=True)
        try:
            if checkpoints.steps():
                restored = checkpoints.restore(_shapes(make_init()))
        finally:
            checkpoints.close()
    if restored is None:
        raise RunError(
            f"{folder} has no checkpoint yet: train it first, by the command that made it"
        )
    return restored[0]


def _shapes(init: Callable[[Array], TrainState]) -> TrainState:
    """The shapes, types and placement of a run's states, without making one."""
    placed = SingleDeviceSharding(jax.local_devices()[0])

    def shape(x: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=placed)

    shapes: TrainState = jax.tree.map(shape, jax.eval_shape(init, jax.random.key(0)))
    return shapes
