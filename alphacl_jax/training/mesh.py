"""The devices of a run, as the mesh that everything below is handed."""

from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh


def data_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Devices along one axis, "data", over which batches are spread.

    Those of a process lie side by side, so that each process has one piece of every batch.

    Args:
      devices: all of them where None.
    """
    devices = sorted(devices or jax.devices(), key=lambda device: (device.process_index, device.id))
    return Mesh(np.array(devices), ("data",), axis_types=(AxisType.Auto,))
