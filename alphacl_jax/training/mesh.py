"""The devices of a run, as the mesh that everything below is handed."""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh


def data_mesh() -> Mesh:
    """All devices along one axis, "data", over which batches are spread.

    Those of a process lie side by side, so that each process has one piece of every batch.
    """
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    return Mesh(np.array(devices), ("data",), axis_types=(AxisType.Auto,))
